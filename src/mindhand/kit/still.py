"""What it means that a chunk goes nowhere, read off the spec: the command that stays, and how far another is from it.

A part that moves (position, joint, rotation) stays where it was measured if its commands are absolute, and otherwise
at no change. Where nothing of an absolute part is measured, nobody knows. A gripper stays as it was told last.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mindhand.core.rotation import from_matrix, to_matrix
from mindhand.core.spec import Part, Spec

MOVING = ("position", "joint", "rotation")
UNITS = {"m": 1.0, "cm": 0.01, "mm": 0.001, "rad": 1.0, "deg": np.pi / 180}


@dataclass(frozen=True)
class Near:
    """How little is nothing. metres, radians: of a part; grip: of a gripper, in its unit."""

    metres: float = 0.002
    radians: float = 0.01
    grip: float = 0.1


def measured(spec: Spec, p: Part) -> Part | None:
    """The part of the state that an action's part is a command for, None where there is none."""
    same = (p.name, p.kind, p.size, p.unit, p.rotation, p.frame)
    return next((q for q in spec.state if (q.name, q.kind, q.size, q.unit, q.rotation, q.frame) == same), None)


def known(spec: Spec) -> tuple[Part, ...]:
    """The parts that move, and of which staying is known."""
    return tuple(p for p in spec.action if p.kind in MOVING and (p.mode != "absolute" or measured(spec, p) is not None))


def unknown(spec: Spec) -> tuple[Part, ...]:
    """The parts but for grippers of which it is not."""
    return tuple(p for p in spec.action if p.kind != "gripper" and p not in known(spec))


def _nothing(p: Part) -> np.ndarray:
    return from_matrix(np.eye(3), p.rotation, p.unit) if p.kind == "rotation" else np.zeros(p.size)


def stay(spec: Spec, actions: np.ndarray, state: np.ndarray) -> np.ndarray:
    """The commands (B,H,A) that stay in measured states (B,S); grippers go on with the first of `actions`, and what is
    not known is as they say."""
    out = actions.copy()
    for p in spec.action:
        at, here = spec.part(p.name), measured(spec, p)
        if p.kind == "gripper":
            out[..., at] = actions[:, :1, at] if p.mode == "absolute" else 0.0
        elif p.kind in MOVING and p.mode != "absolute":
            out[..., at] = _nothing(p)
        elif p.kind in MOVING and here is not None:
            out[..., at] = state[:, None, spec.part(here.name, "state")]
    return out


def motion(spec: Spec, actions: np.ndarray, valid: np.ndarray, state: np.ndarray, near: Near) -> np.ndarray:
    """How far chunks (B,H,A) lead at most, (B,) in shares of `near`; steps (B,H) that are not valid lead nowhere, and
    small ones of a delta add up."""
    still = stay(spec, actions, state)
    actions = np.where(valid[..., None], actions, still).astype(np.float64)
    far = np.zeros(len(actions))
    for p in known(spec):
        at = spec.part(p.name)
        if p.kind == "rotation":
            told, here = (to_matrix(x[..., at], p.rotation, p.unit) for x in (actions, still))
            apart = np.linalg.norm(told - here, axis=(-2, -1)) / (2 * np.sqrt(2))  # sin of half the angle
            size = 2 * np.arcsin(apart.clip(0, 1)) / near.radians
        else:
            length = np.linalg.norm(actions[..., at] - still[..., at], axis=-1) * UNITS[p.unit]
            size = length / (near.radians if p.unit in ("rad", "deg") else near.metres)
        far = np.maximum(far, size.sum(1) if p.mode == "delta" else size.max(1))
    return far


def gripping(spec: Spec, actions: np.ndarray, valid: np.ndarray, last: np.ndarray, near: Near) -> np.ndarray:
    """How much grippers are told to change, (B,) in shares of `near`: against the last command (B,A), or against the
    chunk's first where that is NaN."""
    most = np.zeros(len(actions))
    for p in (p for p in spec.action if p.kind == "gripper"):
        at = spec.part(p.name)
        before = np.where(np.isnan(last[:, None, at]), actions[:, :1, at], last[:, None, at])
        change = np.abs(actions[..., at] - (before if p.mode == "absolute" else 0.0))
        most = np.maximum(most, np.where(valid[..., None], change, 0.0).max((1, 2)) / near.grip)
    return most


def frozen(
    spec: Spec, actions: np.ndarray, valid: np.ndarray, state: np.ndarray, last: np.ndarray, near: Near
) -> np.ndarray:
    """bool (B,): whether a chunk neither moves nor grips."""
    still = motion(spec, actions, valid, state, near) <= 1
    return still & (gripping(spec, actions, valid, last, near) <= 1)
