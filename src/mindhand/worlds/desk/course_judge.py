"""What has happened to the obstacles of a course, beside what has happened to the toys.

Success is placing's, and no obstacle was moved by more than 1 cm. A touch counts however short it was; the rest is
looked at after every control step.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from mindhand.worlds.course import MOVED, CourseScene

from .course_stage import CourseStage
from .placing_judge import PlacingJudge
from .spec import COURSE_LIMIT

TILTED = 10.0  # degrees: what is tilted by more was hit
FAR = 0.1  # m: no clearance is told to be larger


class CourseJudge(PlacingJudge):
    """The running account of one row."""

    scene: CourseScene

    def __init__(self, scene: CourseScene):
        super().__init__(scene)
        self.limit = COURSE_LIMIT
        self.touched_by: list[str] = []  # "arm", "toy"
        self.displacement = self.tilt = 0.0  # the largest so far: m, degrees
        self.clearance = FAR  # the smallest so far
        self.put = False  # what placing asks for is done

    def update(self, stage: CourseStage) -> None:
        """Look once, after a control step."""
        super().update(stage)
        self._look(stage)
        self.put, self.success = self.success, self.success and self.displacement <= MOVED

    @property
    def hit(self) -> bool:
        """Whether an obstacle was touched, displaced or tilted."""
        return bool(self.touched_by) or self.displacement > MOVED or self.tilt > TILTED

    def _look(self, stage: CourseStage) -> None:
        upright = 1.0
        for o, at, body in zip(self.scene.obstacles, stage.obstacle_places.tolist(), stage.obstacle_bodies):
            self.displacement = max(self.displacement, math.dist(at, (o.x, o.y, o.height / 2)))
            upright = min(upright, float(stage.data.xmat[body, 8]))
        self.tilt = max(self.tilt, math.degrees(math.acos(max(-1.0, min(1.0, upright)))))
        self.touched_by = sorted({*self.touched_by, *stage.touches})
        self.clearance = 0.0 if self.touched_by else stage.nearer(self.clearance, not self.released)

    def geometry(self, stage: CourseStage) -> Mapping[str, Any]:
        """As of placing, and obstacles (n,7): the middle x y z, half sizes along their own axes, yaw (m, rad), of the
        upright box that a standing one is, or is within where it is round; obstacle_turns (n,3,3): how it is turned,
        for one that leans or lies."""
        places, turns = stage.obstacle_places, stage.obstacle_turns
        halves = np.array([(*o.half, o.height / 2) for o in self.scene.obstacles]).reshape(-1, 3)
        yaws = np.arctan2(turns[:, 1, 0], turns[:, 0, 0])
        return {
            **super().geometry(stage),
            "obstacles": np.column_stack([places, halves, yaws]),
            "obstacle_turns": turns.copy(),
        }

    def why(self) -> str:
        """Why it is no success yet, in a phrase; "" when it is one."""
        return "moved an obstacle" if self.put and not self.success else super().why()

    def facts(self) -> dict[str, Any]:
        """As of placing, and `obstacles`, how many there are; whether one was `hit`: `touched` (`touched_by` the "arm",
        the "toy" that is to be put), displaced or tilted; the largest `displacement` (m) and `tilt` (degrees) of one so
        far; and the smallest `clearance` (m, 0.1 at most) between one and the arm or the toy in the hand."""
        return {
            **super().facts(),
            "obstacles": len(self.scene.obstacles),
            "hit": self.hit,
            "touched": bool(self.touched_by),
            "touched_by": list(self.touched_by),
            "displacement": self.displacement,
            "tilt": self.tilt,
            "clearance": self.clearance,
        }
