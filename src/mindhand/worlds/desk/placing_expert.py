"""The scripted expert of placing: the way-points of `driver`, around toys of any height.

approach - descend - close - lift - carry - lower - open - retreat, then home. It lifts what it carries over what is in
its way, turns the tool to yaw 0 while it carries, and lets go over the rim of what it puts something into. Where each
segment ends is measured when it begins; a toy that was not lifted, or does not lie as asked, is taken again; and from
wherever somebody else left the arm it plans afresh.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from mindhand.core.keys import Keys
from mindhand.worlds.grips import GRIPS, HOLDERS, TIP

from .driver import DWELL, PHASES, PRESS, SAFE_Z, Driver, Manner
from .placing_judge import LIFTED, PlacingJudge, gap, opening
from .stage import Stage

OVER = 0.018  # m between what is carried, or the open fingers, and what they pass over
CORRIDOR = 0.055  # m on either side of a way: half of the open gripper, and some
RIM_OVER = 0.008  # m between the pads and the rim that they open over,
AJAR = 0.024  # and how much wider (m) than the toy
SLACK = 0.005  # m that a finger needs beside a toy to come down
USUAL = 0.013  # m: the middle of `Manner.grasp_z`
BESIDE = 0.003  # m: no closing with less between a finger and the toy
OFF, HIGH = 0.006, 0.005  # m along the fingers, and above the grip: a disturbed hand waits to come nearer than this


class PlacingExpert(Driver):
    """Drives one row; `plan` is all its state, its `tile` the target's index."""

    def __init__(self, keys: Keys):
        super().__init__(keys.fold("placing expert"))

    # ---- what to do next -------------------------------------------------------------------------------

    def _start(self, stage: Stage, judge: PlacingJudge) -> None:
        plan = self.plan
        if judge.success:
            self._go("home", stage, judge)
        elif self._in_hand(stage, judge):
            self._go("lift" if plan.now[2] < SAFE_Z else "carry", stage, judge)
        elif self._low(stage):
            self._go("retreat", stage, judge)
        else:
            self._go("approach", stage, judge)

    def _in_hand(self, stage: Stage, judge: PlacingJudge) -> bool:
        return judge.gripped(stage) and bool(stage.positions[judge.scene.target, 2] > LIFTED)

    def _next(self, stage: Stage, judge: PlacingJudge) -> None:
        plan = self.plan
        if plan.phase in ("retreat", "home", "rest"):
            if judge.holds and judge.lifted:
                self._go("rest" if plan.phase == "home" else "home", stage, judge)
            else:
                plan.attempt += 1
                self._go("approach", stage, judge)
        elif plan.phase == "descend" and plan.waited < DWELL and self._off(stage, judge):
            plan.waited += 1
            plan.begin, plan.t, plan.steps = plan.end, 0, 1
        elif (plan.phase == "descend" and self._room(stage, judge) < BESIDE) or (
            plan.phase in ("lift", "carry") and not self._in_hand(stage, judge)
        ):
            self._go("retreat", stage, judge)
        else:
            self._go(PHASES[PHASES.index(plan.phase) + 1], stage, judge)

    def _would_hit(self, stage: Stage, judge: PlacingJudge) -> bool:
        plan = self.plan
        if plan.phase != "descend" or plan.waited >= DWELL:
            return False
        top = stage.positions[judge.scene.target, 2] + judge.toys[judge.scene.target].kind.height
        return bool(stage.tcp[2] - TIP > top) and self._room(stage, judge) < SLACK

    def _off(self, stage: Stage, judge: PlacingJudge) -> bool:
        """Whether the open hand is not where it is to close."""
        (x, y, _), turn = (stage.tcp - self.plan.end[:3]).tolist(), stage.rotation
        along = abs(x * turn[0, 2] + y * turn[1, 2])
        return bool(along > OFF or stage.tcp[2] - self.plan.end[2] > HIGH) or self._room(stage, judge) < SLACK

    def _room(self, stage: Stage, judge: PlacingJudge) -> float:
        """What is left between the nearer finger and the toy (m)."""
        x, y, _ = judge.grip_at(stage, judge.scene.target)
        tx, ty, _ = stage.tcp.tolist()
        aside = abs((x - tx) * stage.rotation[0, 1] + (y - ty) * stage.rotation[1, 1])
        return (gap(stage.gripper) - GRIPS[judge.toys[judge.scene.target].thing].width) / 2 - float(aside)

    # ---- where to go -----------------------------------------------------------------------------------

    def _go(self, phase: str, stage: Stage, judge: PlacingJudge) -> None:
        """Begin a segment: where it ends and how long it takes."""
        plan = self.plan
        x, y, z, yaw, gripper = plan.begin
        manner = self._manner(plan.attempt)
        wait, plan.tile = self._phase(phase, manner), judge.scene.target
        if phase == "approach":
            tx, ty, tz, tyaw = self._grasp(stage, judge, manner)
            above = self._clear(stage, judge, (x, y), (tx, ty)) + TIP
            plan.end, plan.bump = [tx, ty, max(manner.above + tz - USUAL, above), tyaw, 1.0], list(manner.bumps[0])
        elif phase == "descend":
            tx, ty, tz, tyaw = self._grasp(stage, judge, manner)
            plan.end = [tx, ty, tz, tyaw, 1.0]
        elif phase in ("close", "open"):
            self._fingers(0.0 if phase == "close" else self._opening(judge), stage, wait)
            return
        elif phase == "lift":
            gx, gy, _ = self._goal(stage, judge)
            under = z - float(stage.positions[plan.tile, 2])
            plan.end = [x, y, max(z + manner.lift, under + self._clear(stage, judge, (x, y), (gx, gy))), yaw, gripper]
        elif phase in ("carry", "lower"):
            tx, ty, tz, tyaw = self._over(stage, judge, manner)
            plan.end = [tx, ty, max(z, SAFE_Z) if phase == "carry" else tz, tyaw, 0.0]
            if phase == "carry":
                plan.bump = list(manner.bumps[1])
        elif phase == "retreat":
            plan.end = [x, y, max(z, manner.above + z - USUAL), yaw, 1.0]
        else:
            plan.end = [*stage.home, 0.0, 1.0]
        self._time(manner, wait)

    def _grasp(self, stage: Stage, judge: PlacingJudge, manner: Manner) -> tuple[float, float, float, float]:
        """TCP x, y, z, yaw that grips the target where it lies now."""
        grip, (x, y, z) = GRIPS[judge.toys[self.plan.tile].thing], judge.grip_at(stage, self.plan.tile)
        yaw = grip.tool_yaw(stage.tile_yaw(self.plan.tile))
        x, y = x + manner.along * math.cos(yaw), y + manner.along * math.sin(yaw)
        return x, y, max(z + manner.grasp_z - USUAL, 0.0095), yaw + manner.turn

    def _opening(self, judge: PlacingJudge) -> float:
        """How far the gripper lets go, 0..1: within a container no further than it must."""
        wide = GRIPS[judge.toys[judge.scene.target].thing].width + AJAR
        return opening(wide) if judge.scene.relation == "in" else 1.0

    def _goal(self, stage: Stage, judge: PlacingJudge) -> tuple[float, float, float]:
        """Where the target is to be put, as the toys lie now."""
        return judge.scene.moved(judge.rest).goal()

    def way(self, stage: Stage, judge: PlacingJudge) -> tuple[np.ndarray, np.ndarray] | None:
        """As `Driver.way`."""
        wanted = judge.target(stage)
        return None if wanted is None else (wanted[1], np.array(self._goal(stage, judge)))

    def _over(self, stage: Stage, judge: PlacingJudge, manner: Manner) -> tuple[float, float, float, float]:
        """TCP x, y, z, yaw that puts the target, as it sits in the hand, where it is to go."""
        tcp, yaw, scene = stage.tcp, stage.yaw, judge.scene
        dx, dy, dz = (stage.positions[scene.target] - tcp).tolist()
        c, s = math.cos(manner.turn - yaw), math.sin(manner.turn - yaw)
        gx, gy, gz = self._goal(stage, judge)
        z = gz + PRESS - dz
        if scene.relation == "in":
            z = max(z, HOLDERS[judge.toys[scene.reference].thing].rim + TIP + RIM_OVER)
        return gx + manner.miss[0] - (c * dx - s * dy), gy + manner.miss[1] - (s * dx + c * dy), z, manner.turn

    def _clear(self, stage: Stage, judge: PlacingJudge, a: Sequence[float], b: Sequence[float]) -> float:
        """The height (m) from which on nothing is in the way from a to b (x, y), but for the target itself."""
        length = math.dist(a, b)
        highest = 0.0
        for k, toy in enumerate(judge.toys):
            if k == judge.scene.target:
                continue
            x, y, z = stage.positions[k].tolist()
            along = min(1.0, max(0.0, ((x - a[0]) * (b[0] - a[0]) + (y - a[1]) * (b[1] - a[1])) / max(length**2, 1e-9)))
            off = math.hypot(a[0] + along * (b[0] - a[0]) - x, a[1] + along * (b[1] - a[1]) - y)
            if off < toy.kind.reach + CORRIDOR:
                highest = max(highest, z + toy.kind.height)
        return highest + OVER
