"""The scripted expert among obstacles: placing's, that looks where a hand would go before it goes there.

Where placing's own way keeps `USUAL` from every obstacle it is taken as it is, so that in a scene that is clear both
experts do the very same. Else the shortest detour that keeps `course_ways.MARGIN`: a bow to the left or to the right,
or over the obstacle, for which the toy is lifted higher to begin with.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from mindhand.core.keys import Keys
from mindhand.worlds.course_hand import Box, Hand, gaps, opened
from mindhand.worlds.course_ways import CEILING, SAMPLES, Pose, Way, bows, detours, measured, poses
from mindhand.worlds.grips import PAD, TIP

from .course_judge import CourseJudge
from .course_stage import CourseStage
from .driver import PHASES, RATE, Manner, Plan, smoothed
from .placing_expert import CORRIDOR, OVER, PlacingExpert
from .placing_judge import gap

USUAL = 0.010  # m that placing's own way keeps from obstacles where it is taken
CLIMB = 1.0  # a metre up or down counts as so many
RISE = 0.002  # m: a way that begins higher by more has to be begun by going up
UPRIGHT = 0.985  # the cosine of the tilt (10 degrees) from which on an obstacle has fallen


@dataclass
class CoursePlan(Plan):
    """around: how far the middle of the segment lies aside of where it were without obstacles (m)."""

    around: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])


class CourseExpert(PlacingExpert):
    """Drives one row; `plan` is all its state."""

    plan: CoursePlan

    def __init__(self, keys: Keys):
        super().__init__(keys)
        self.plan = CoursePlan()

    def _at(self, s: float) -> list[float]:
        swell = math.sin(math.pi * smoothed(s))
        return [v + (self.plan.around[i] * swell if i < 3 else 0.0) for i, v in enumerate(super()._at(s))]

    def load(self, data: dict[str, Any]) -> None:
        """The inverse of `data`."""
        self.plan = CoursePlan(**data)

    # ---- where to go -----------------------------------------------------------------------------------

    def _go(self, phase: str, stage: CourseStage, judge: CourseJudge) -> None:
        self.plan.around = [0.0, 0.0, 0.0]
        super()._go(phase, stage, judge)
        plan, manner = self.plan, self._manner(self.plan.attempt)
        if phase == "lift":
            plan.end[2] = self._height(stage, judge, manner)
            self._time(manner, manner.pauses[PHASES.index(phase)])
        elif phase in ("approach", "carry", "home"):
            begin, end = tuple(plan.begin[:4]), tuple(plan.end[:4])
            hand = _held(stage, judge) if phase == "carry" else opened(gap(1.0))
            way = self._least(begin, end, plan.bump, hand, stage)
            if way is not None and way.begin[2] > begin[2] + RISE:
                self._phase("lift" if phase == "carry" else "retreat", manner)
                plan.end = [*begin[:2], way.begin[2], begin[3], plan.begin[4]]
                self._time(manner, 0)
            elif way is not None:
                if phase == "approach":  # over the toys that it now comes by
                    low = _highest(stage, judge, way) + OVER + TIP
                    way = replace(way, end=(*end[:2], max(way.end[2], low), end[3]))
                self._take(way, manner)

    def _height(self, stage: CourseStage, judge: CourseJudge, manner: Manner) -> float:
        """How high (m) to lift for what is to follow: over an obstacle, if that is the way, and the toys on it."""
        hand, goal, (x, y, z, yaw) = _held(stage, judge), self._over(stage, judge, manner), self.plan.end[:4]
        for _ in range(2):  # a way that begins higher may be another one
            way = self._least((x, y, z, yaw), (*goal[:2], z, goal[3]), manner.bumps[1], hand, stage)
            if way is not None:
                z = max(z, way.begin[2], min(CEILING, _highest(stage, judge, way) + OVER - hand.low))
        return z

    def _least(self, begin: Pose, end: Pose, bump: Sequence[float], hand: Hand, stage: CourseStage) -> Way | None:
        """The detour to take; None where the usual way does."""
        boxes = _boxes(stage)
        if gaps(_usual(begin, end, bump), hand, boxes).min(initial=math.inf) >= USUAL:
            return None
        some = [*detours(begin, end, hand, boxes).values()]
        if some:
            return min(some, key=lambda w: w.length + CLIMB * (w.begin[2] - begin[2] + w.end[2] - end[2]))
        return max(measured([Way(begin, end), *bows(begin, end)], hand, boxes), key=lambda w: w.gap)

    def _take(self, way: Way, manner: Manner) -> None:
        plan = self.plan
        plan.bump, plan.around, plan.end[2] = [0.0, 0.0, 0.0], list(way.bump), way.end[2]
        wait = manner.pauses[PHASES.index(plan.phase)] if plan.phase in PHASES else 0
        self._time(manner, 0)
        plan.steps = max(plan.steps, round(way.length / manner.speed * RATE)) + wait


def _usual(begin: Pose, end: Pose, bump: Sequence[float]) -> np.ndarray:
    """(n,4): placing's own way."""
    u = np.linspace(0.0, 1.0, SAMPLES)[:, None]
    return begin + u * np.subtract(end, begin) + np.sin(np.pi * u) ** 2 * np.array([*bump, 0.0])


def _boxes(stage: CourseStage) -> list[Box]:
    """The obstacles where they are now; one that has fallen as the upright box around it."""
    out: list[Box] = []
    for o, (x, y, z), turn in zip(stage.scene.obstacles, stage.obstacle_places.tolist(), stage.obstacle_turns):
        half = np.array([*o.half, o.height / 2])
        if turn[2, 2] > UPRIGHT:
            out.append((x, y, math.atan2(turn[1, 0], turn[0, 0]), half[0], half[1], o.height))
        else:
            wide, deep, tall = (np.abs(turn) @ half).tolist()
            out.append((x, y, 0.0, wide, deep, z + tall))
    return out


def _highest(stage: CourseStage, judge: CourseJudge, way: Way) -> float:
    """The height (m) of the highest toy that a way comes by, but for the target."""
    at, top = poses(way)[:, :2], 0.0
    for k, (x, y, z) in enumerate(stage.positions.tolist()):
        kind = judge.toys[k].kind
        if k != judge.scene.target and np.hypot(*(at - (x, y)).T).min() < kind.reach + CORRIDOR:
            top = max(top, z + kind.height)
    return top


def _held(stage: CourseStage, judge: CourseJudge) -> Hand:
    """The hand and what is in it, as it is there."""
    dx, dy, dz = (stage.positions[judge.scene.target] - stage.tcp).tolist()
    reach = judge.toys[judge.scene.target].kind.reach
    return Hand(gap(stage.gripper) / 2 + PAD, math.hypot(dx, dy) + reach, dz)
