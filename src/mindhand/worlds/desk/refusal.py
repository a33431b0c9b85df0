"""Impossible requests (`worlds.absent`): what counts as a refusal, and an expert that refuses.

Success, and only when the time is up: no gripper was closed upon a thing and none was pushed or lifted by 1 cm, as the
family's own judge sees it, and the hand has been at home for half a second. At home, because an arm that was stopped
on its way to a thing has not declined, it was late; and home is where every expert goes when nothing is left to be
done. An arm that never moves is at home too, unless it was disturbed: what tells it from one that refuses is the
possible twin of every scene, in which it fails.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mindhand.core.keys import Keys

from .driver import Driver
from .judge import Judge
from .placing_judge import PlacingJudge
from .spec import HOME, REFUSAL_LIMIT, SHUT
from .stage import Stage

NEAR, STAYS = 0.06, 10  # m from HOME, where episodes begin within 0.035; control steps in a row


class Refusal:
    """The running account of one row, around that of the family's own judge. names: of the scene's things, for `why`.
    `data()` and `load()` carry it through snapshots."""

    def __init__(self, inner: Judge | PlacingJudge, names: Sequence[str]):
        self.inner, self.names = inner, names
        self.steps = self.stayed = 0
        self.success = False
        self.limit = REFUSAL_LIMIT

    @property
    def now(self) -> Any:
        """The scene as it is: things where they last lay."""
        return self.inner.now

    @property
    def rest(self) -> list[tuple[float, float, float]]:
        """Where each thing last lay: x, y (m), yaw (rad)."""
        return self.inner.rest

    @property
    def placed(self) -> int:
        """How many of its things are where they belong, if somebody put them there."""
        return self.inner.placed

    def update(self, stage: Any) -> None:
        """Look once, after a control step."""
        self.inner.update(stage)
        self.steps += 1
        self.stayed = self.stayed + 1 if math.dist(stage.tcp.tolist(), HOME) < NEAR else 0
        self.success = self.steps >= self.limit and not self.why()

    def why(self) -> str:
        """Why it would be no success if the time were up, in a phrase; "" if it would."""
        if self.inner.choice >= 0:
            return f"took {self.names[self.inner.choice]}, wanted none"
        return "" if self.stayed >= STAYS else "not at home"

    def facts(self) -> dict[str, Any]:
        """Those of the family's judge, but that no `choice` (-1) is the right one; `home`, for how many control steps
        the hand has been there; and `why` it would be no success, "" if it would. What the family's judge says of its
        target (placing: `lifted`, `holds`, ...) is of the toy that lies in its stead, where the target is missing."""
        return {
            **self.inner.facts(), "choice_right": self.inner.choice < 0, "home": self.stayed, "why": self.why()
        }  # fmt: skip

    def reasoning(self, stage: Any) -> str:
        """What was read, and that nothing is to be taken."""
        return self.inner.reasoning(stage)

    def target(self, stage: Any) -> tuple[int, np.ndarray] | None:
        """None: nothing is wanted."""
        return None

    def goal(self, stage: Any) -> np.ndarray | None:
        """None: the reasoning speaks of no place to go."""
        return None

    def geometry(self, stage: Any) -> Mapping[str, Any]:
        """The family's: of tiles, or of toys."""
        return self.inner.geometry(stage)

    def data(self) -> dict[str, Any]:
        """Plain values."""
        return {"steps": self.steps, "stayed": self.stayed, "success": self.success, "inner": self.inner.data()}

    def load(self, data: dict[str, Any]) -> None:
        """The inverse of `data`."""
        self.steps, self.stayed, self.success = data["steps"], data["stayed"], data["success"]
        self.inner.load(data["inner"])


class Refuser(Driver):
    """The expert of any family: open the hand, rise straight up, go home, stay."""

    def __init__(self, keys: Keys):
        super().__init__(keys.fold("refuser"))

    def _start(self, stage: Stage, judge: Refusal) -> None:
        x, y, z, _, gripper = self.plan.now
        away = z < HOME[2] and math.dist((x, y, z), HOME) > NEAR
        self._go("open" if gripper <= SHUT else "retreat" if away else "home")

    def _next(self, stage: Stage, judge: Refusal) -> None:
        self._go({"open": "retreat", "retreat": "home"}.get(self.plan.phase, "rest"))

    def _would_hit(self, stage: Stage, judge: Refusal) -> bool:
        return False

    def _go(self, phase: str) -> None:
        """Begin a segment: where it ends and how long it takes."""
        plan, manner = self.plan, self._manner(0)
        x, y, z, yaw, _ = plan.begin
        wait = self._phase(phase, manner)
        if phase == "open":
            plan.end, plan.steps = [x, y, z, yaw, 1.0], 8 + wait
            return
        # As high as home: no toy is, so none is in the way.
        plan.end = [x, y, max(z, HOME[2]), yaw, 1.0] if phase == "retreat" else [*HOME, 0.0, 1.0]
        self._time(manner, wait)
