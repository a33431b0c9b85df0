"""The scripted expert over a block: high over it, then down, and stay. It never comes near from beside."""

from __future__ import annotations

import math

from mindhand.core.keys import Keys
from mindhand.worlds.heights import AROUND, OVER

from .driver import Driver
from .heights_judge import HeightsJudge
from .heights_stage import HeightsStage

CLEAR = 0.015  # m over the top from which the hand may go sideways: its pads reach 8 mm below the tool point


class HeightsExpert(Driver):
    """Drives one row; `plan` is all its state."""

    def __init__(self, keys: Keys):
        super().__init__(keys.fold("heights expert"))

    def _top(self, judge: HeightsJudge) -> float:
        """How high the block is (m)."""
        return judge.scene.height

    def _start(self, stage: HeightsStage, judge: HeightsJudge) -> None:
        x, y, z = self.plan.now[:3]
        over = math.hypot(x - judge.scene.x, y - judge.scene.y) < AROUND
        self._go("descend" if over else "retreat" if z < self._top(judge) + CLEAR else "approach", stage, judge)

    def _next(self, stage: HeightsStage, judge: HeightsJudge) -> None:
        self._go({"retreat": "approach", "approach": "descend"}.get(self.plan.phase, "rest"), stage, judge)

    def _would_hit(self, stage: HeightsStage, judge: HeightsJudge) -> bool:
        return False

    def _go(self, phase: str, stage: HeightsStage, judge: HeightsJudge) -> None:
        plan, manner, top = self.plan, self._manner(0), self._top(judge)
        x, y, z, yaw, gripper = plan.begin
        wait = self._phase(phase, manner)
        if phase == "retreat":
            plan.end = [x, y, max(z, top + manner.above), yaw, gripper]
        elif phase == "home":
            plan.end = [*stage.home, 0.0, 1.0]
        else:
            high = manner.above if phase == "approach" else OVER
            plan.end = [judge.scene.x + manner.miss[0], judge.scene.y + manner.miss[1], top + high, manner.turn, 1.0]
            if phase == "approach":
                plan.bump = list(manner.bumps[0])
        self._time(manner, wait)
