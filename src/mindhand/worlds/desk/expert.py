"""The scripted expert: way-points joined by minimum-jerk segments, a clean command every control step.

approach - descend - close - lift - carry - lower - open - retreat, once a digit, then home. Where each segment ends
is measured when it begins (the tile, and after the lift the tile in the hand), so noise that is added to the
commands is corrected from segment to segment. A tile that was not lifted or not placed is taken again. When
somebody else moved the arm, the expert plans afresh from where it finds it: its commands are labels for any state.

Speed, heights, grasp offset, detours and pauses vary with the episode's key.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from mindhand.core.keys import Keys
from mindhand.worlds.draw import Draw
from mindhand.worlds.scene import PLACES

from .build import ARM_POS, PLATE, REST
from .judge import Judge
from .spec import HOME, SHUT
from .stage import Stage

PHASES = ("approach", "descend", "close", "lift", "carry", "lower", "open", "retreat")
RATE = 20.0
TURN_RATE = 1.2  # rad/s
ASTRAY = 0.06  # m between command and measurement: somebody else drives
SAFE_Z = 0.075  # the fingers clear every tile
LIFTED = 0.015
DWELL = 12  # steps to wait for a disturbed tile to come over its place, or for the fingers to come beside a tile
CLEAR, CLEAR_Z = 0.006, 0.032  # of the 11 mm on either side of a tile; TCP height above which waiting still helps
WAITS = 0.010  # m off its place that a tile is waited for: a hand that learned to wait for less would wait for ever
PRESS = 0.0015  # height above the plate at which a tile is let go
BESIDE = 0.009  # no closing further off than this


@dataclass
class Plan:
    """The segment being driven: poses are (x, y, z, yaw, gripper), table frame, times in steps."""

    phase: str = ""
    tile: int = -1
    attempt: int = 0
    begin: list[float] = field(default_factory=list)
    end: list[float] = field(default_factory=list)
    bump: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    t: int = 0
    steps: int = 1
    waited: int = 0
    now: list[float] = field(default_factory=list)  # the last command
    stamp: int = -1  # the control step it was for


@dataclass(frozen=True)
class Manner:
    """How one attempt at one tile is done. Metres, radians, m/s."""

    speed: float
    above: float
    lift: float
    grasp_z: float
    along: float  # grasp offset along the tile's x
    turn: float
    miss: tuple[float, float]  # place error
    bumps: tuple[tuple[float, float, float], tuple[float, float, float]]  # approach, carry
    pauses: tuple[int, ...]

    @staticmethod
    def of(keys: Keys) -> Manner:
        d = Draw(keys)

        def bump() -> tuple[float, float, float]:
            return d.normal(0.008, 0.03), d.normal(0.008, 0.03), abs(d.normal(0.008, 0.03))

        return Manner(
            speed=d.uniform(0.22, 0.34),
            above=d.uniform(0.065, 0.095),
            lift=d.uniform(0.06, 0.10),
            grasp_z=d.uniform(0.011, 0.015),
            along=d.normal(0.0025, 0.005),
            turn=d.normal(0.05, 0.1),
            miss=(d.normal(0.001, 0.002), d.normal(0.001, 0.002)),
            bumps=(bump(), bump()),
            pauses=tuple(1 + d.index(6) if d.chance(0.15) else 0 for _ in PHASES),
        )


def half_turn(angle: float) -> float:
    """The angle modulo pi nearest to zero: a tile can be gripped either way round."""
    return angle - math.pi * round(angle / math.pi)


class Expert:
    """Drives one row; `plan` is all its state."""

    def __init__(self, keys: Keys):
        self._keys = keys.fold("expert")
        self._manners: dict[tuple[int, int], Manner] = {}
        self.plan = Plan()

    def act(self, stage: Stage, judge: Judge, step: int) -> np.ndarray:
        """The command for control step `step`: (10,) TCP x y z in arm_base, rot6d, gripper. Asking twice in one
        step gives the same answer."""
        plan = self.plan
        if plan.stamp != step:
            astray = bool(plan.now) and math.dist(stage.tcp.tolist(), plan.now[:3]) > ASTRAY
            if plan.stamp != step - 1 or not plan.phase or astray:
                self._start(stage, judge)
            elif plan.t >= plan.steps:
                self._next(stage, judge)
            if self._would_hit(stage):
                plan.waited += 1
            else:
                plan.t += 1
                plan.now = self._at(plan.t / plan.steps)
            plan.stamp = step
        x, y, z, yaw, gripper = plan.now
        bx, by, bz = ARM_POS
        # The tool points down: the first two columns of `tool_down(yaw)`.
        axes = (0.0, 0.0, -1.0, -math.sin(yaw), math.cos(yaw), 0.0)
        return np.array([x - bx, y - by, z - bz, *axes, gripper], np.float32)

    def _at(self, s: float) -> list[float]:
        s = min(s, 1.0)
        smooth = s * s * s * (10 - 15 * s + 6 * s * s)
        out = [a + (b - a) * smooth for a, b in zip(self.plan.begin, self.plan.end)]
        swell = math.sin(math.pi * smooth) ** 2
        return [out[i] + self.plan.bump[i] * swell if i < 3 else out[i] for i in range(5)]

    def _manner(self, digit: int) -> Manner:
        which = (digit, self.plan.attempt)
        if which not in self._manners:
            self._manners[which] = Manner.of(self._keys.fold(*which))
        return self._manners[which]

    # ---- what to do next -------------------------------------------------------------------------------

    def _start(self, stage: Stage, judge: Judge) -> None:
        """Plan from wherever the arm is."""
        plan = self.plan
        plan.begin = plan.now = [*stage.tcp.tolist(), stage.yaw, min(1.0, max(0.0, stage.gripper))]
        if judge.success:
            self._go("home", stage, judge)
            return
        held = self._held(stage)
        if judge.placed < len(judge.digits) and held in judge.scene.candidates(judge.placed, judge.taken):
            plan.tile = held
            self._go("carry", stage, judge)
        elif plan.now[2] < SAFE_Z and math.dist(plan.now[:3], HOME) > 0.05:
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
        """The segment is over: wait, repeat, or go on."""
        plan = self.plan
        plan.begin = list(plan.now)
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

    def _would_hit(self, stage: Stage) -> bool:
        """Whether a disturbed finger is about to come down on the tile instead of beside it."""
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
        manner = self._manner(judge.placed)
        plan.phase, plan.t, plan.waited, plan.bump, wait = phase, 0, 0, [0.0, 0.0, 0.0], 0
        if phase in PHASES:
            wait = manner.pauses[PHASES.index(phase)]
        if phase == "approach":
            tx, ty, tyaw = self._grasp(stage, manner)
            plan.end, plan.bump = [tx, ty, manner.above, tyaw, 1.0], list(manner.bumps[0])
        elif phase == "descend":
            tx, ty, tyaw = self._grasp(stage, manner)
            plan.end = [tx, ty, manner.grasp_z + float(stage.positions[plan.tile, 2]) - REST, tyaw, 1.0]
        elif phase in ("close", "open"):
            plan.end, plan.steps = [x, y, z, yaw, float(phase == "open")], 8 + wait
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
            plan.end = [*HOME, 0.0, 1.0]
        far = math.dist(plan.begin[:3], plan.end[:3])
        seconds = max(far / manner.speed, abs(plan.end[3] - yaw) / TURN_RATE, 0.25)
        plan.steps = max(1, round(seconds * RATE)) + wait

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

    # ---- snapshots -------------------------------------------------------------------------------------

    def data(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self.plan)

    def load(self, data: dict[str, Any]) -> None:
        """The inverse of `data`."""
        self.plan = Plan(**data)
