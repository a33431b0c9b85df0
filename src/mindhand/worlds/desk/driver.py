"""What scripted experts have in common: way-points joined by minimum-jerk segments, a clean command every control step.

Where each segment ends is measured when it begins, so noise that is added to the commands is corrected from segment to
segment. When somebody else moved the arm, an expert plans afresh from where it finds it: its commands are labels for
any state. Speed, heights, grasp offset, detours and pauses vary with the episode's key.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from mindhand.core.keys import Keys
from mindhand.worlds.draw import Draw

from .stage import Stage

PHASES = ("approach", "descend", "close", "lift", "carry", "lower", "open", "retreat")
RATE = 20.0
TURN_RATE = 1.2  # rad/s
ASTRAY = 0.06  # m between command and measurement: somebody else drives
SAFE_Z = 0.075  # the fingers clear every tile
DWELL = 12  # steps to wait for a disturbed hand to come where it should be
PRESS = 0.0015  # height above what a thing is put on at which it is let go
CLOSES, OPENS = 8, 5  # steps


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
    """How one attempt at one thing is done. Metres, radians, m/s."""

    speed: float
    above: float
    lift: float
    grasp_z: float
    along: float  # grasp offset along the thing, across the closing direction; as wide as a clone's own errors
    turn: float
    miss: tuple[float, float]  # place error
    bumps: tuple[tuple[float, float, float], tuple[float, float, float]]  # approach, carry
    pauses: tuple[int, ...]

    @staticmethod
    def of(keys: Keys) -> Manner:
        """Drawn from one row."""
        d = Draw(keys)

        def bump() -> tuple[float, float, float]:
            return d.normal(0.008, 0.03), d.normal(0.008, 0.03), abs(d.normal(0.008, 0.03))

        return Manner(
            speed=d.uniform(0.22, 0.34),
            above=d.uniform(0.065, 0.095),
            lift=d.uniform(0.06, 0.10),
            grasp_z=d.uniform(0.011, 0.015),
            along=d.normal(0.006, 0.013),
            turn=d.normal(0.05, 0.1),
            miss=(d.normal(0.001, 0.002), d.normal(0.001, 0.002)),
            bumps=(bump(), bump()),
            pauses=tuple(1 + d.index(6) if d.chance(0.15) else 0 for _ in PHASES),
        )


def smoothed(s: float) -> float:
    """How much of a segment is gone when `s` of its time is: with the least jerk."""
    s = min(s, 1.0)
    return s * s * s * (10 - 15 * s + 6 * s * s)


class Driver:
    """Drives one arm of a row; `plan` is all its state. Each family's expert says how to begin (`_start`), what follows
    a segment (`_next`), where one ends (`_go`), and when to hold still (`_would_hit`). Yaws are those of a tool in the
    frame of its arm's base; a gripper is as it was after half a turn, so a thing's yaw, nearest to 0, is one too."""

    def __init__(self, keys: Keys):
        self._keys = keys
        self._manners: dict[tuple[int, ...], Manner] = {}
        self.plan = Plan()

    def act(self, stage: Stage, judge: Any, step: int, idle: bool = False) -> np.ndarray:
        """The command for control step `step`: (10,) TCP x y z in the frame of the arm's base, rot6d, gripper. Asking
        twice in one step gives the same answer. idle: begin nothing, go home and stay there."""
        plan = self.plan
        if plan.stamp != step:
            astray = bool(plan.now) and math.dist(stage.tcp.tolist(), plan.now[:3]) > ASTRAY
            if plan.stamp != step - 1 or not plan.phase or astray:
                plan.begin = plan.now = [*stage.tcp.tolist(), stage.yaw, min(1.0, max(0.0, stage.gripper))]
                (self._leave if idle else self._start)(stage, judge)
            elif plan.t >= plan.steps:
                plan.begin = list(plan.now)
                (self._leave if idle else self._next)(stage, judge)
            if self._would_hit(stage, judge):
                plan.waited += 1
            else:
                plan.t += 1
                plan.now = self._at(plan.t / plan.steps)
            plan.stamp = step
        x, y, z, yaw, gripper = plan.now
        # The tool points down: the first two columns of `tool_down(yaw)`.
        axes = (0.0, 0.0, -1.0, -math.sin(yaw), math.cos(yaw), 0.0)
        return np.array([*stage.arms[0].mount.local(np.array([x, y, z])), *axes, gripper], np.float32)

    def _start(self, stage: Stage, judge: Any) -> None:
        """Plan from wherever the arm is, which is where the plan now begins."""
        raise NotImplementedError

    def _next(self, stage: Stage, judge: Any) -> None:
        """The segment is over, and the plan begins where it ended: wait, repeat, or go on."""
        raise NotImplementedError

    def _would_hit(self, stage: Stage, judge: Any) -> bool:
        """Whether a disturbed finger is about to come down on the thing instead of beside it."""
        raise NotImplementedError

    def _go(self, phase: str, stage: Stage, judge: Any) -> None:
        """Begin a segment: where it ends and how long it takes."""
        raise NotImplementedError

    def way(self, stage: Stage, judge: Any) -> tuple[np.ndarray, np.ndarray] | None:
        """Where the thing now wanted is gripped, and where it then goes: x, y, ... (m) of both, table frame; None when
        nothing is wanted."""
        wanted = judge.target(stage)
        return None if wanted is None else (wanted[1], wanted[1])

    def _leave(self, stage: Stage, judge: Any) -> None:
        """Up, home, and stay there."""
        self._go("retreat" if self._low(stage) and self.plan.phase != "retreat" else "home", stage, judge)

    def _low(self, stage: Stage) -> bool:
        """Whether the hand has to go up before it goes anywhere else."""
        return self.plan.now[2] < SAFE_Z and math.dist(self.plan.now[:3], stage.home) > 0.05

    def _at(self, s: float) -> list[float]:
        smooth = smoothed(s)
        out = [a + (b - a) * smooth for a, b in zip(self.plan.begin, self.plan.end)]
        swell = math.sin(math.pi * smooth) ** 2
        return [out[i] + self.plan.bump[i] * swell if i < 3 else out[i] for i in range(5)]

    def _manner(self, *which: int) -> Manner:
        if which not in self._manners:
            self._manners[which] = Manner.of(self._keys.fold(*which))
        return self._manners[which]

    def _phase(self, phase: str, manner: Manner) -> int:
        """Enter a phase, straight and unhurried; the steps that this manner pauses in it."""
        plan = self.plan
        plan.phase, plan.t, plan.waited, plan.bump = phase, 0, 0, [0.0, 0.0, 0.0]
        return manner.pauses[PHASES.index(phase)] if phase in PHASES else 0

    def _time(self, manner: Manner, wait: int) -> None:
        """How long the segment takes from its begin to its end."""
        plan = self.plan
        far = math.dist(plan.begin[:3], plan.end[:3])
        seconds = max(far / manner.speed, abs(plan.end[3] - plan.begin[3]) / TURN_RATE, 0.25)
        plan.steps = max(1, round(seconds * RATE)) + wait

    def _fingers(self, to: float, stage: Stage, wait: int) -> None:
        """Close, or open so far (0..1), where the hand is. Opening begins with how wide the fingers are, not with how
        hard they were told to press: on the way from there nothing moves, and who learns from what it sees would wait
        for ever in a state that looks alike while the command is rising (docs/log.md)."""
        plan = self.plan
        opens = to > plan.begin[4]
        if opens:
            plan.begin = [*plan.begin[:4], min(to, max(plan.begin[4], stage.gripper))]
        plan.end, plan.steps = [*plan.begin[:4], to], (OPENS if opens else CLOSES) + wait

    # ---- snapshots -------------------------------------------------------------------------------------

    def data(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self.plan)

    def load(self, data: dict[str, Any]) -> None:
        """The inverse of `data`."""
        self.plan = Plan(**data)
