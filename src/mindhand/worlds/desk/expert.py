"""The scripted expert of maths matching: the way-points of `driver`, once a digit.

approach - descend - close - lift - carry - lower - open - retreat, then home. Where each segment ends is measured when
it begins (the tile, and after the lift the tile in the hand). A tile that was not lifted or not placed is taken again.
"""

from __future__ import annotations

import math

import numpy as np

from mindhand.core.keys import Keys
from mindhand.worlds.scene import PLACES

from .build import PLATE, REST
from .driver import DWELL, PHASES, PRESS, SAFE_Z, Driver, Manner
from .judge import Judge, half_turn
from .spec import SHUT
from .stage import Stage

LIFTED = 0.015
CLEAR, CLEAR_Z = 0.006, 0.032  # of the 11 mm on either side of a tile; TCP height above which waiting still helps
WAITS = 0.010  # m off its place that a tile is waited for: a hand that learned to wait for less would wait for ever
BESIDE = 0.009  # no closing further off than this


class Expert(Driver):
    """Drives one row; `plan` is all its state."""

    def __init__(self, keys: Keys):
        super().__init__(keys.fold("expert"))

    # ---- what to do next -------------------------------------------------------------------------------

    def _start(self, stage: Stage, judge: Judge) -> None:
        plan = self.plan
        if judge.success:
            self._go("home", stage, judge)
            return
        held = self._held(stage)
        if judge.placed < len(judge.digits) and held in judge.scene.candidates(judge.placed, judge.taken):
            plan.tile = held
            self._go("carry", stage, judge)
        elif self._low(stage):
            self._go("retreat", stage, judge)
        else:
            self._choose(stage, judge)

    def _held(self, stage: Stage) -> int:
        gap = np.abs(stage.positions - stage.tcp).max(1)
        k = int(gap.argmin())
        lifted = stage.positions[k, 2] > REST + LIFTED
        return k if gap[k] < 0.02 and lifted and stage.gripper < SHUT else -1

    def _choose(self, stage: Stage, judge: Judge) -> None:
        """The next tile, or home when all is done."""
        plan, scene = self.plan, judge.scene
        if judge.placed == len(judge.digits):
            self._go("home", stage, judge)
            return
        fit = scene.candidates(judge.placed, judge.taken)
        if not fit:
            self._go("home", stage, judge)
            return
        if plan.tile in fit:
            plan.attempt += 1  # it was tried before and is still wanted
        else:
            plan.tile, plan.attempt = min(fit, key=lambda k: judge.rest[k][0]), 0
        self._go("approach", stage, judge)

    def _next(self, stage: Stage, judge: Judge) -> None:
        plan = self.plan
        if plan.phase == "lower" and plan.waited < DWELL and self._off_place(stage, judge) > WAITS:
            plan.waited += 1
            plan.begin, plan.end, plan.t, plan.steps = plan.end, plan.end, 0, 1
            return
        if plan.phase in ("retreat", "home", "rest"):
            if judge.placed == len(judge.digits):
                self._go("rest" if plan.phase == "home" else "home", stage, judge)
            else:
                self._choose(stage, judge)
        elif plan.phase == "descend" and self._aside(stage) > BESIDE:
            self._go("retreat", stage, judge)  # a finger stands on the tile: closing would turn it over
        elif plan.phase == "lift" and stage.positions[plan.tile, 2] < REST + LIFTED:
            self._go("retreat", stage, judge)
        else:
            self._go(PHASES[PHASES.index(plan.phase) + 1], stage, judge)

    def _would_hit(self, stage: Stage, judge: Judge) -> bool:
        plan = self.plan
        waits = plan.phase == "descend" and plan.waited < DWELL and stage.tcp[2] > CLEAR_Z
        return waits and self._aside(stage) > CLEAR

    def _aside(self, stage: Stage) -> float:
        """How far the tile's middle is from the middle between the fingers, along the closing direction."""
        return abs(float((stage.positions[self.plan.tile] - stage.tcp) @ stage.rotation[:, 1]))

    def _off_place(self, stage: Stage, judge: Judge) -> float:
        place = PLACES[min(judge.placed, len(PLACES) - 1)]
        return float(np.abs(stage.positions[self.plan.tile, :2] - place).max())

    def _go(self, phase: str, stage: Stage, judge: Judge) -> None:
        """Begin a segment: where it ends and how long it takes."""
        plan = self.plan
        x, y, z, yaw, gripper = plan.begin
        manner = self._manner(judge.placed, plan.attempt)
        wait = self._phase(phase, manner)
        if phase == "approach":
            tx, ty, tyaw = self._grasp(stage, manner)
            plan.end, plan.bump = [tx, ty, manner.above, tyaw, 1.0], list(manner.bumps[0])
        elif phase == "descend":
            tx, ty, tyaw = self._grasp(stage, manner)
            plan.end = [tx, ty, manner.grasp_z + float(stage.positions[plan.tile, 2]) - REST, tyaw, 1.0]
        elif phase in ("close", "open"):
            self._fingers(float(phase == "open"), stage, wait)
            return
        elif phase == "lift":
            plan.end = [x, y, z + manner.lift, yaw, gripper]
        elif phase in ("carry", "lower"):
            tx, ty, tz, tyaw = self._over(stage, judge, manner)
            plan.end = [tx, ty, max(z, SAFE_Z) if phase == "carry" else tz, tyaw, 0.0]
            if phase == "carry":
                plan.bump = list(manner.bumps[1])
        elif phase == "retreat":
            plan.end = [x, y, max(z, manner.above), yaw, 1.0]
        else:
            plan.end = [*stage.home, 0.0, 1.0]
        self._time(manner, wait)

    def _grasp(self, stage: Stage, manner: Manner) -> tuple[float, float, float]:
        """TCP x, y, yaw that grips the tile where it lies now."""
        x, y, _ = stage.positions[self.plan.tile].tolist()
        yaw = half_turn(stage.tile_yaw(self.plan.tile))
        return x + manner.along * math.cos(yaw), y + manner.along * math.sin(yaw), yaw + manner.turn

    def _over(self, stage: Stage, judge: Judge, manner: Manner) -> tuple[float, float, float, float]:
        """TCP x, y, z, yaw that puts the tile, as it sits in the hand, into its place."""
        tcp, yaw = stage.tcp, stage.yaw
        dx, dy, dz = (stage.positions[self.plan.tile] - tcp).tolist()
        turned = half_turn(stage.tile_yaw(self.plan.tile) - yaw)
        c, s = math.cos(-turned - yaw), math.sin(-turned - yaw)
        px, py = PLACES[min(judge.placed, len(PLACES) - 1)]
        x, y = px + manner.miss[0] - (c * dx - s * dy), py + manner.miss[1] - (s * dx + c * dy)
        return x, y, PLATE + REST + PRESS - dz, -turned
