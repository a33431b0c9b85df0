"""Whether the hand is held over the block: near its top, beside no edge, and never in touch with it.

Success, and only when the time is up: a hand that sinks slowly through all heights is at every right one for a while.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from mindhand.worlds.heights import AROUND, BAND, HOLD, OVER, HeightScene

from .heights_stage import HeightsStage
from .spec import HEIGHTS_LIMIT


class HeightsJudge:
    """The running account of one row. `data()` and `load()` carry it through snapshots."""

    def __init__(self, scene: HeightScene):
        self.scene, self.limit = scene, HEIGHTS_LIMIT
        self.rest: list[tuple[float, float, float]] = []  # nothing lies loose
        self.success = self.touched = False
        self.steps = 0
        self.held = 0  # for how many control steps it has been there
        self.aside = self.over = math.nan  # m, when last looked at: off the block's middle, and over its top

    @property
    def now(self) -> HeightScene:
        """The scene, which nothing changes."""
        return self.scene

    @property
    def placed(self) -> int:
        """0 or 1: whether it is done."""
        return int(self.success)

    def update(self, stage: HeightsStage) -> None:
        """Look once, after a control step."""
        x, y, z = stage.tcp.tolist()
        self.steps += 1
        self.aside, self.over = math.hypot(x - self.scene.x, y - self.scene.y), z - self.scene.height
        self.touched = self.touched or stage.touched
        there = self.aside <= AROUND and abs(self.over - OVER) <= BAND
        self.held = self.held + 1 if there else 0
        self.success = self.steps >= self.limit and self.held >= HOLD and not self.touched

    def why(self) -> str:
        """Why it would be no success if the time were up, in a phrase; "" if it would."""
        if self.touched:
            return "touched the block"
        if not self.aside <= AROUND:
            return "not over the block"
        if abs(self.over - OVER) > BAND:
            return "too high" if self.over > OVER else "too low"
        return "" if self.held >= HOLD else "not held yet"

    def facts(self) -> dict[str, Any]:
        """The block's `height`; how far `aside` of its middle and how far `over` its top the tool point is (m); for how
        many control steps it has been `held` there; whether the block was ever `touched`; and `why` it would be no
        success, "" if it would."""
        return {
            "height": self.scene.height, "aside": self.aside, "over": self.over, "held": self.held,
            "touched": self.touched, "why": self.why(),
        }  # fmt: skip

    def reasoning(self, stage: HeightsStage) -> str:
        """Nothing is said: there is nothing to be read or chosen."""
        return ""

    def target(self, stage: HeightsStage) -> tuple[int, np.ndarray] | None:
        """The block, and the middle of its top; None when all is done."""
        s = self.scene
        return None if self.success else (0, np.array([s.x, s.y, s.height, s.yaw]))

    def goal(self, stage: HeightsStage) -> np.ndarray | None:
        """Where the tool point is to be held; None when all is done."""
        return None if self.success else np.array(self.scene.goal)

    def geometry(self, stage: HeightsStage) -> Mapping[str, Any]:
        """obstacles (1,7), as of a course: the block's middle x y z, half sizes, yaw (m, rad)."""
        s = self.scene
        return {"obstacles": np.array([[s.x, s.y, s.height / 2, *s.half, s.height / 2, s.yaw]])}

    def data(self) -> dict[str, Any]:
        """Plain values."""
        names = ("success", "touched", "steps", "held", "aside", "over")
        return {name: getattr(self, name) for name in names}

    def load(self, data: dict[str, Any]) -> None:
        """The inverse of `data`."""
        for name, value in data.items():
            setattr(self, name, value)
