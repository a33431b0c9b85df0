"""The scripted expert of hidden state, and one without memory.

wait - gate - stay - over - touch - rise - gate - stay ... home. Down and up, and to a pad and back, it goes the same
straight way at a like speed, with the tool turned alike and the gripper open: on its way nothing tells the phase
either. It waits at home for so long, each time anew, that a clock tells little; and it stays at the gate for longer
than a policy carries out a chunk, so that no chunk that is planned before the gate holds what is decided there.
"""

from __future__ import annotations

import math
from dataclasses import replace

from mindhand.core.keys import Keys
from mindhand.worlds.draw import Draw
from mindhand.worlds.hidden import GATE, RADIUS

from .driver import DWELL, Driver
from .hidden_judge import HiddenJudge
from .hidden_stage import HiddenStage

WAIT = 80  # control steps at home before it begins, at most: more than from one decision to the next
STAYS = (12, 20)  # control steps at the gate
BRISK = 1.4  # times as fast as a hand that carries something
BOTTOM = 0.018  # m above the table, where a pad is touched
OFF = (0.003, 0.006)  # m beside the gate, each time anew: spread, at most


class HiddenExpert(Driver):
    """Drives one row; `plan` is all its state. `plan.attempt` counts visits of the gate."""

    def __init__(self, keys: Keys):
        super().__init__(keys.fold("expert"))

    def wanted(self, stage: HiddenStage, judge: HiddenJudge) -> int | None:
        """The pad to touch next, or None to go home."""
        return judge.next

    def _start(self, stage: HiddenStage, judge: HiddenJudge) -> None:
        if not self.plan.phase:
            self._go("wait", stage, judge)
        elif self.plan.now[2] < GATE[2] - 0.02:
            self._go("rise", stage, judge)
        else:
            self._decide(stage, judge)

    def _next(self, stage: HiddenStage, judge: HiddenJudge) -> None:
        plan = self.plan
        if plan.phase == "touch" and judge.down < 0 and plan.waited < DWELL:
            plan.waited += 1
            plan.begin, plan.t, plan.steps = plan.end, 0, 1
        elif plan.phase in ("over", "touch", "rise", "gate"):
            after = {"over": "touch", "touch": "rise", "rise": "gate", "gate": "stay"}
            self._go(after[plan.phase], stage, judge)
        else:
            self._decide(stage, judge)

    def _decide(self, stage: HiddenStage, judge: HiddenJudge) -> None:
        if judge.success or self.plan.phase == "home":
            self._go("home", stage, judge)
        elif not judge.ready:
            self._go("stay" if judge.scene.at_gate(self.plan.now[:3]) else "gate", stage, judge)
        elif 0 < judge.stayed < STAYS[0]:
            self._go("stay", stage, judge)
        elif (pad := self.wanted(stage, judge)) is None:
            self._go("home", stage, judge)
        else:
            self.plan.tile = pad
            there = judge.scene.pads[pad]
            above = math.dist(self.plan.now[:2], (there.x, there.y)) < RADIUS / 2
            self._go("touch" if above else "over", stage, judge)

    def _would_hit(self, stage: HiddenStage, judge: HiddenJudge) -> bool:
        return False

    def _go(self, phase: str, stage: HiddenStage, judge: HiddenJudge) -> None:
        """Begin a segment: where it ends and how long it takes."""
        plan, scene = self.plan, judge.scene
        plan.attempt += phase in ("gate", "stay")
        manner, draw = self._manner(plan.attempt), Draw(self._keys.fold(phase, plan.attempt))
        x, y, z, yaw, _ = plan.begin
        self._phase(phase, manner)
        if phase in ("wait", "stay"):
            low, high = (1, WAIT) if phase == "wait" else STAYS
            plan.end, plan.steps = [x, y, z, yaw, 1.0], low + draw.index(high - low + 1)
            return
        if phase == "gate":
            plan.end = [scene.gate[0] + draw.normal(*OFF), scene.gate[1] + draw.normal(*OFF), GATE[2], 0.0, 1.0]
        elif phase == "over":
            pad = scene.pads[plan.tile]
            plan.end = [pad.x + draw.normal(*OFF), pad.y + draw.normal(*OFF), GATE[2], 0.0, 1.0]
        elif phase in ("touch", "rise"):
            plan.end = [x, y, BOTTOM if phase == "touch" else GATE[2], yaw, 1.0]
        else:
            plan.end = [*stage.home, 0.0, 1.0]
        self._time(replace(manner, speed=BRISK * manner.speed), 0)


class Forgetful(HiddenExpert):
    """One that sees what a camera sees and remembers nothing: at the gate it guesses among all that may be next, as
    often each as is best (`hidden.CHANCE`). Where the picture tells, it does not have to guess."""

    def wanted(self, stage: HiddenStage, judge: HiddenJudge) -> int | None:
        """What it takes for the next pad."""
        scene, draw = judge.scene, Draw(self._keys.fold("guess", self.plan.attempt))
        if scene.lights:
            return next((k for k in scene.order if not stage.lit[k]), None)
        if scene.cube is not None:
            return draw.pick([*range(len(scene.pads)), *[None] * len(scene.pads)])
        return draw.pick([*scene.order, None])
