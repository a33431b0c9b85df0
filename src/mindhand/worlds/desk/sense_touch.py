"""What the finger pads feel: the force on each, and where it presses.

A pad's frame: x along the finger to its tip, z into the pad, so that pressing is positive, y so that x, y, z is right-
handed; the origin in the middle of the inner face. Both pads are the same sensor, one turned half about x.
"""

from __future__ import annotations

import re
import weakref
from typing import NamedTuple

import mujoco
import numpy as np

from .arm import PAD
from .body import ARM
from .stage import STATE, Stage

TAXELS = (4, 4)  # along x, from the root to the tip, and along y
_AXES = {"left": np.array([(1, 0, 0), (0, 0, -1), (0, 1, 0)]), "right": np.array([(1, 0, 0), (0, 0, 1), (0, -1, 0)])}
_pads: weakref.WeakKeyDictionary[mujoco.MjModel, tuple[tuple[str, int, str], ...]] = weakref.WeakKeyDictionary()
_bench: weakref.WeakKeyDictionary[Stage, mujoco.MjData] = weakref.WeakKeyDictionary()


class Touch(NamedTuple):
    """force float64 (3,), N, on the pad in its frame; taxels float64 TAXELS, N, what presses on each part of the inner
    face: they add up to the normal part of the force."""

    force: np.ndarray
    taxels: np.ndarray


def _pads_of(model: mujoco.MjModel) -> tuple[tuple[str, int, str], ...]:
    """Name, geom and side of every pad: "left" and "right", and another arm's after its name, "arm_right/left"."""
    if model not in _pads:
        found = [re.fullmatch(r"(.+)/(left|right)_pad", model.geom(k).name) for k in range(model.ngeom)]
        _pads[model] = tuple(
            (f[2] if f[1] == ARM else f"{f[1]}/{f[2]}", k, f[2]) for k, f in enumerate(found) if f is not None
        )
    return _pads[model]


def bench(stage: Stage) -> mujoco.MjData:
    """Data of its own in the state that the stage is in, with the contacts and forces of this very moment. Those in
    `stage.data` are one substep old, and after a restored snapshot another episode's."""
    if stage not in _bench:
        _bench[stage] = mujoco.MjData(stage.model)
    data = _bench[stage]
    mujoco.mj_setState(stage.model, data, stage.get_state(), STATE)
    mujoco.mj_forward(stage.model, data)
    return data


def splat(x: float, y: float, amount: float) -> np.ndarray:
    """TAXELS: an amount at x, y (m) of the inner face, shared between the four nearest taxels by how near their middles
    are; beyond the outermost middles it is theirs."""
    out = np.zeros(TAXELS)
    i, down = _between(x, PAD[0], TAXELS[0])
    j, right = _between(y, PAD[2], TAXELS[1])
    for k, row in ((i, 1 - down), (i + 1, down)):
        out[k, j], out[k, j + 1] = amount * row * (1 - right), amount * row * right
    return out


def _between(at: float, half: float, count: int) -> tuple[int, float]:
    """Which of `count` equal cells from -half to half has its middle before `at`, and how far towards the next one's
    that is, 0 to 1."""
    g = min(max((at + half) / (2 * half) * count - 0.5, 0.0), count - 1.0)
    low = min(int(g), count - 2)
    return low, g - low


def touch(stage: Stage) -> dict[str, Touch]:
    """What each pad feels now, by its name: "left", "right", or an arm's name before that. A pure function of the
    stage's state. Sliding along the face is in the force only."""
    m, d = stage.model, bench(stage)
    geoms, places, frames = d.contact.geom, d.contact.pos, d.contact.frame.reshape(-1, 3, 3)
    wrench, out = np.empty(6), {}
    for name, pad, side in _pads_of(m):
        axes = d.geom_xmat[pad].reshape(3, 3) @ _AXES[side].T  # columns: those of the pad's frame
        face = d.geom_xpos[pad] - PAD[1] * axes[:, 2]
        force, taxels = np.zeros(3), np.zeros(TAXELS)
        for k in np.flatnonzero((geoms == pad).any(1)):
            mujoco.mj_contactForce(m, d, k, wrench)  # in the contact's frame, by its first geom on its second
            sign, turn = (1.0 if geoms[k, 1] == pad else -1.0), frames[k] @ axes
            force += sign * wrench[:3] @ turn
            press = float(sign * wrench[0] * turn[0, 2])
            if press > 0:
                x, y, _ = ((places[k] - face) @ axes).tolist()
                taxels += splat(x, y, press)
        out[name] = Touch(force, taxels)
    return out
