"""Ways around obstacles: straight, bowed to the left or to the right, or lifted over. No simulator here.

A way is what a driver of the desk does between two tool poses: a straight line, and a swell to one side that is largest
in its middle.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .course_hand import Box, Hand, gaps, highest
from .grips import TIP

STEP, BOWS = 0.015, 9  # m from one bow to the next that is tried, and how many: the widest swings out by 13.5 cm
CEILING = 0.19  # m: the tool goes no higher, so that all of the field is in its reach (0.25 beyond the lowest of tall)
MARGIN = 0.014  # m that a way keeps from obstacles
SAMPLES = 24  # poses of a way that are looked at
LEFTMOST = -0.31  # m: what the arm's base allows
SIDES = ("left", "right", "above")
Pose = tuple[float, float, float, float]  # x, y, z (m) of the tool point, yaw (rad)


@dataclass(frozen=True)
class Way:
    """From one pose to another. bump: how far (m) its middle lies off the straight line; gap: how near (m) it comes to
    an obstacle."""

    begin: Pose
    end: Pose
    bump: tuple[float, float, float] = (0.0, 0.0, 0.0)
    gap: float = math.inf

    @property
    def length(self) -> float:
        """Metres."""
        at = poses(self)[:, :3]
        return float(np.linalg.norm(np.diff(at, axis=0), axis=1).sum())


_U = np.linspace(0.0, 1.0, SAMPLES)
_SWELL = np.sin(np.pi * _U)


def poses(way: Way) -> np.ndarray:
    """(SAMPLES,4): x, y, z, yaw along a way, as `desk.driver` drives it."""
    begin, end = np.array(way.begin), np.array(way.end)
    out = begin + _U[:, None] * (end - begin)
    out[:, :3] += _SWELL[:, None] * way.bump
    return out


def measured(ways: Sequence[Way], hand: Hand, obstacles: Sequence[Box]) -> list[Way]:
    """The same ways with their gaps; -1 for one that leads out of reach."""
    if not ways:
        return []
    every = np.concatenate([poses(w) for w in ways])
    reached = every[:, 2] <= highest(every[:, 0], every[:, 1])
    reached &= every[:, 0] >= LEFTMOST
    near = gaps(every, hand, obstacles).min(1) if obstacles else np.full(len(every), math.inf)
    near = np.where(reached, near, -1.0).reshape(len(ways), SAMPLES).min(1)
    return [Way(w.begin, w.end, w.bump, float(g)) for w, g in zip(ways, near)]


def bows(begin: Pose, end: Pose) -> list[Way]:
    """Ways that swing out to the left (first) or to the right of the direction they go in, the narrowest first."""
    dx, dy = end[0] - begin[0], end[1] - begin[1]
    far = max(math.hypot(dx, dy), 1e-9)
    out = [STEP * k * sign for sign in (1, -1) for k in range(1, BOWS + 1)]
    return [Way(begin, end, (-dy / far * s, dx / far * s, 0.0)) for s in out]


def over(begin: Pose, end: Pose, hand: Hand, obstacles: Sequence[Box], margin: float = MARGIN) -> Way | None:
    """The straight way, as much higher as it has to be; None where that is above the ceiling. Neither end is lower
    than it was."""
    z, left = 0.0, sorted(obstacles, key=lambda b: b[5])
    while True:
        first, last = ((*p[:2], max(p[2], z), p[3]) for p in (begin, end))
        (way,) = measured([Way(first, last)], hand, obstacles)
        if way.gap >= margin:
            return way
        blocking = [b for b in left if gaps(poses(way), hand, [b]).min() < margin]
        if not blocking:
            return None  # out of reach
        left = [b for b in left if b[5] > blocking[0][5]]
        z = blocking[0][5] - min(hand.low, -TIP) + margin + 1e-6
        if z > CEILING:
            return None


def detours(begin: Pose, end: Pose, hand: Hand, obstacles: Sequence[Box], margin: float = MARGIN) -> dict[str, Way]:
    """The least detour to each side ("left", "right", "above") that keeps a margin; of "above" the straight way where
    that does. A side that has none is missing."""
    out, found = {}, measured(bows(begin, end), hand, obstacles)
    for side, some in (("left", found[:BOWS]), ("right", found[BOWS:])):
        good = [w for w in some if w.gap >= margin]
        if good:
            out[side] = good[0]
    above = over(begin, end, hand, obstacles, margin)
    return out if above is None else {**out, "above": above}
