"""Two arms, one after the other: an expert of one arm each, of which only one is at work.

The arm on whose side a thing lies takes it, if it also reaches where the thing goes, else the other one. It begins when
the other is at home, where that stays. So arms cannot meet, and nothing has to look out for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from mindhand.core.keys import Keys
from mindhand.worlds.grips import HIGHEST

from .driver import ASTRAY, PHASES, Driver, Plan
from .spec import SHUT
from .stage import Stage

HELD = 0.025  # m between the pinch point and the middle of what is in the hand


class Pair:
    """Drives one row with two arms; whose turn it is and the two plans are all its state."""

    def __init__(self, expert: Callable[[Keys], Driver], keys: Keys):
        self.drivers = expert(keys), expert(keys)
        self.turn = 0  # the arm that is or was last at work
        self.stamp = -1  # the control step that `turn` was decided for

    @property
    def plan(self) -> Plan:
        """Of the arm whose turn it is."""
        return self.drivers[self.turn].plan

    def act(self, stage: Stage, judge: Any, step: int) -> np.ndarray:
        """The command for control step `step`: (20,) as `Driver.act` for each arm. Asking twice in one step gives the
        same answer."""
        sides, idle = (stage.by(0), stage.by(1)), [False, False]
        if self.stamp != step:
            self.stamp = step
            self.turn, begins = self._decide(sides, judge, step)
            idle = [arm != self.turn or not begins for arm in (0, 1)]
        return np.concatenate([d.act(s, judge, step, i) for d, s, i in zip(self.drivers, sides, idle)])

    def _decide(self, sides: tuple[Stage, Stage], judge: Any, step: int) -> tuple[int, bool]:
        """Whose turn it is, and whether that arm may go on; else it waits at home until the other one is there."""
        plan, side = self.plan, sides[self.turn]
        if plan.stamp == step - 1 and plan.phase in PHASES[:-1] and _near(side, plan.now, ASTRAY):
            return self.turn, True
        way = self.drivers[self.turn].way(side, judge)
        if way is None:
            return self.turn, True
        for arm, side in enumerate(sides):
            if side.gripper <= SHUT and _near(side, way[0], HELD):
                return arm, True
        arm = int(way[0][0] > 0)
        if not all(_reaches(sides[arm], *end[:2]) for end in way):
            arm = 1 - arm
        return arm, _near(sides[1 - arm], sides[1 - arm].home, ASTRAY)

    # ---- snapshots -------------------------------------------------------------------------------------

    def data(self) -> dict[str, Any]:
        """Plain values."""
        return {"turn": self.turn, "stamp": self.stamp, "plans": [d.data() for d in self.drivers]}

    def load(self, data: dict[str, Any]) -> None:
        """The inverse of `data`."""
        self.turn, self.stamp = data["turn"], data["stamp"]
        for driver, plan in zip(self.drivers, data["plans"]):
            driver.load(plan)


def _near(side: Stage, place: Any, far: float) -> bool:
    """Whether an arm's TCP is nearer than this (m) to a place x, y, z, ..."""
    return math.dist(side.tcp.tolist(), place[:3]) < far


def _reaches(side: Stage, x: float, y: float) -> bool:
    """Whether an arm gets there with a thing in its hand."""
    bx, by, _ = side.arms[0].mount.base
    return math.hypot(x - bx, y - by) <= HIGHEST
