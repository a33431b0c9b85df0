"""Limits: the last filter before a robot. On whenever a robot is attached (a World that has `limits`).

It holds each commanded dimension inside its box and below its speed, and says which one it held. It knows no task
and no model; a shield that plans is another Filter, before this one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mindhand.core.errors import BadData, BuildError
from mindhand.core.nouns import Filtered, Observation
from mindhand.core.spec import Spec

if TYPE_CHECKING:
    from mindhand.core.seams import State


@dataclass(frozen=True)
class Limit:
    """One dimension: low and high in its unit, speed in its unit per second."""

    low: float
    high: float
    speed: float

    def __post_init__(self) -> None:
        if not (self.low < self.high and self.speed > 0):
            raise BadData(f"limit {self}", "low < high and speed > 0", "correct the robot's limits")


class Limits:
    """Filter. `limits` {"part.dimension": Limit or {"low", "high", "speed"}} must name every dimension of the action.

    absolute parts: the command is clipped to the box, and to `speed / rate` from the previous command (at first:
    from the measured state). delta parts: the step is clipped to `speed / rate`, then so that the measured state
    plus the step stays in the box. Where a part's box does not hold the present position, it may only move back
    towards the box, at its speed. Relative parts are refused: they must be made absolute before they get here.

    Raises BuildError for a dimension without a limit, an unknown one, a relative part, or no measured state.
    """

    def __init__(self, spec: Spec, limits: Mapping[str, Limit | Mapping[str, float]]):
        names, measured = spec.action_names(), spec.state_names()
        if set(names) != set(limits):
            raise BuildError(
                f"limits of {spec.robot}: missing {sorted(set(names) - set(limits))}, "
                f"unknown {sorted(set(limits) - set(names))}",
                f"one limit for each of {names}",
                "give low, high and speed for every dimension; a wide limit is a decision, a missing one is not",
            )
        if relative := [p.name for p in spec.action if p.mode == "relative"]:
            raise BuildError(
                f"limits on relative parts {relative}",
                "absolute or delta commands",
                "let the policy's codec make them absolute",
            )
        if blind := [n for n in names if n not in measured]:
            raise BuildError(
                f"no measured state for {blind}",
                "a state dimension of the same name, so that the first step is bounded too",
                "add it to the spec's state",
            )
        each = [x if isinstance(x, Limit) else Limit(**x) for x in (limits[n] for n in names)]
        self.names = names
        self.low = np.array([x.low for x in each], np.float32)
        self.high = np.array([x.high for x in each], np.float32)
        self.step = np.array([x.speed / spec.rate for x in each], np.float32)
        self.delta = np.array([p.mode == "delta" for p in spec.action for _ in p.names])
        self.at = [measured.index(n) for n in names]

    def __call__(self, action: np.ndarray, now: Observation, state: State) -> tuple[Filtered, State]:
        """action (B,A) in robot units -> the same inside the limits; state holds the last command."""
        if not np.isfinite(action).all():
            row, name = (int(i) for i in np.argwhere(~np.isfinite(action))[0])
            raise BadData(f"command '{self.names[name]}' of row {row} is not finite", "a number", "stop the robot")
        here = now.state[:, -1, self.at]
        before = np.where(self.delta, here, state.get("last", here))
        wish = np.where(self.delta, here + action, action)
        boxed = np.clip(wish, self.low, self.high)
        held = np.clip(boxed, before - self.step, before + self.step)
        out = np.where(self.delta, held - here, held).astype(np.float32)
        # Rounding of (here + action) - here is no intervention: what was allowed passes bit by bit.
        inside, slow = boxed == wish, held == boxed
        out = np.where(inside & slow, action, out).astype(np.float32)
        why = tuple(
            ", ".join(f"{name} {'box' if not i else 'speed'}" for name, i, s in zip(self.names, *row) if not (i and s))
            for row in zip(inside, slow)
        )
        return Filtered(out, ~(inside & slow).all(1), why), {"last": held}


def limits_of(world: Any) -> list[Limits]:
    """What must stand between a policy and this world: Limits where it is a robot (it has `limits`), else nothing."""
    limits = getattr(world, "limits", None)
    return [Limits(world.spec, limits)] if limits else []
