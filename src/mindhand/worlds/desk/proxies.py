"""What a toy is to the simulator: a few boxes, instead of the shape that is seen.

Fingers close on flat faces as far apart as the toy is wide there (`grips`), so that what is seen is neither cut nor
missed by more than a few millimetres. What is round is an eight-sided prism: a cylinder would slip out of a hand that
holds it off its middle. A container is a floor and a ring of walls. Frame and unit of a toy: as in `toys`, written in
millimetres; what `proxy` gives is in metres.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np

from mindhand.worlds.things import BY_NAME

BOXES = 10  # at most, of a thing
MASS, HEAVY = 0.03, 0.6  # kg, of a toy and of a container, which is not to slide when something is put into it
LOW = 0.018  # m: what is tall has its weight at the bottom, and its centre of mass no higher than this
Box = tuple[float, ...]  # x, y, from z, to z, half length, half depth, and degrees about z where it is turned


def _prism(x: float, y: float, low: float, high: float, apothem: float) -> list[Box]:
    """Eight-sided."""
    side = apothem * math.tan(math.pi / 8)
    return [(x, y, low, high, apothem, side, turn) for turn in (0, 45, 90, 135)]


def _ring(inner: float, outer: float, top: float) -> list[Box]:
    """Eight walls."""
    middle, half = (inner + outer) / 2, (outer - inner) / 2
    wide, at = outer * math.tan(math.pi / 8), [math.radians(45 * k) for k in range(8)]
    return [(middle * math.cos(a), middle * math.sin(a), 1, top, half, wide, math.degrees(a)) for a in at]


_PARTS: dict[str, list[Box]] = {
    "ball": [(0, 0, 0, 46, 16, 16), *_prism(0, 0, 1, 48, 24)],
    "cube": [(0, 0, 0, 41, 20.5, 20.5)],
    "cup": [(-7, 0, 0, 45, 15, 15), (22, 0, 9, 41, 8, 3.5), *_prism(-7, 0, 1, 46, 22.5)],
    "banana": [(0, -9.5, 0, 19, 14, 10), (23, -2, 1, 17, 11, 6, 30), (-23, -2, 1, 17, 11, 6, -30)],
    "star": [(0, -7, 0, 12, 22, 9), (0, 17, 0, 12, 6, 16), (0, -22, 1, 12, 18, 6), (0, 11.5, 1, 12, 31, 2.5)],
    "car": [(0, 0, 0, 18, 32, 13.5), (-2, 0, 18, 30, 14, 11.5)],
    "hammer": [(-12, 0, 0, 15, 28, 6), (24, 0, 0, 20, 9, 21)],
    "ring": [(0, 0, 0, 15, 18, 18), *_prism(0, 0, 1, 16, 27)],
    "duck": [(-8, 0, 0, 32, 23, 17), (14, 0, 26, 52, 17, 12)],
    "tree": [(0, 0, 0, 88, 14, 14), *_prism(0, 0, 26, 60, 22.5)],
    "bottle": [(-12, 0, 0, 28, 25, 14), (25, 0, 6, 22, 13, 7)],
    "cone": [(0, 0, 0, 5, 20, 20), (0, 0, 4, 64, 4, 4), *_prism(0, 0, 5, 52, 13.5)],
    "key": [(-21, 0, 0, 10, 16, 16), (16, 0, 1, 10, 21, 3.5), (28, -10, 0, 10, 9, 6)],
    "spoon": [(22, 0, 0, 10, 16, 14), (-17, 0, 1, 10, 23, 4)],
    "heart": [(0, -11, 0, 12, 23, 9), (0, 17, 0, 12, 29, 9), (0, -22, 1, 12, 8, 5), (0, 3, 1, 12, 20, 6)],
    "house": [(0, 0, 0, 44, 23, 19), (12, 9, 40, 57, 4, 4)],
    "mushroom": [(0, 0, 0, 50, 14, 14), *_prism(0, 0, 33, 55, 26.5)],
    "fish": [(8, 3.5, 0, 18, 10, 19.5), (26, 0, 1, 16, 9, 10), (-20, 0, 1, 14, 14, 12)],
    "cross": [(0, 0, 0, 12, 32, 10), (0, 0, 1, 12, 10, 32), (0, 0, 1, 12, 9, 23, 45), (0, 0, 1, 12, 23, 9, 45)],
    "moon": [(-21, 0, 1, 12, 11, 10), (-13, 18, 0, 12, 8.5, 8), (-13, -18, 0, 12, 8.5, 8),
             (8, 25, 1, 12, 13, 4.5, -12), (8, -25, 1, 12, 13, 4.5, 12)],
    "arrow": [(-15, 0, 0, 12, 21, 7), (12, 0, 0, 12, 7, 19), (25, 0, 1, 12, 7, 8)],
    "boat": [(2, 0, 0, 21, 32, 16), (3, 0, 28, 66, 14, 3)],
    "dumbbell": [(-24, 0, 0, 30, 9, 15), (24, 0, 0, 30, 9, 15), (0, 0, 9, 21, 16, 6)],
    "snowman": [(0, 0, 0, 40, 15, 15), (0, 0, 40, 90, 11, 11), *_prism(0, 0, 1, 50, 21)],
    "chair": [(0, 0, 0, 30, 19, 19), (0, 16.5, 30, 64, 19, 2.5)],
    "train": [(-1, 0, 0, 14, 33, 16), (4, 0, 14, 36, 30, 12), (-20, 0, 14, 44, 14, 13), (20, 0, 36, 52, 6, 6)],
    "rocket": [(0, 0, 0, 27, 36, 12.5), (-22, 0, 9, 19, 11, 22), (-22, 0, 27, 38, 10, 2.5)],
    "glasses": [(0, -12, 0, 9, 33, 14.5), (28, 11, 1, 7, 3, 12), (-28, 11, 1, 7, 3, 12)],
    "bowl": [(0, 0, 0, 10, 31, 31), *_ring(38, 44, 30)],
    "plate": [(0, 0, 0, 8, 36, 36), *((0, 0, 1, 7.5, 36, 36, a) for a in (22.5, 45, 67.5))],
    "basket": [(0, 0, 0, 17, 30, 30), *_prism(0, 0, 1, 18, 42), (-41, 0, 18, 40, 3, 2.5), (41, 0, 18, 40, 3, 2.5),
               (0, 0, 40, 60, 32, 2.5)],
    "box": [(0, 0, 0, 5, 28, 28), (0, 29.5, 1, 25, 31.5, 2), (0, -29.5, 1, 25, 31.5, 2),
             (29.5, 0, 1, 25, 2, 28), (-29.5, 0, 1, 25, 2, 28)],
    "book": [(0, 0, 0, 14, 29, 37)],
    "pan": [(0, 0, 0, 7, 22, 22), *_ring(30, 34, 20), (46, 0, 11, 23, 12, 4.5)],
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Proxy:
    """Boxes in the toy's frame (m): middles (n,3), half sizes (n,3) and turns about z (n,) rad. Mass (kg), where its
    centre is (3,), and the moments of inertia (3,) about axes through that, along the frame's."""

    middles: np.ndarray
    halves: np.ndarray
    turns: np.ndarray
    mass: float
    centre: np.ndarray
    inertia: np.ndarray


@cache
def proxy(name: str) -> Proxy:
    """Of a declared thing."""
    rows = np.array([(*b, 0.0)[:7] for b in _PARTS[name]])
    x, y, low, high, wide, deep = rows[:, :6].T / 1e3
    middles, halves = np.stack([x, y, (low + high) / 2], 1), np.stack([wide, deep, (high - low) / 2], 1)
    turns = np.radians(rows[:, 6])
    c, s = abs(np.cos(turns)), abs(np.sin(turns))
    spans = np.stack([c * wide + s * deep, s * wide + c * deep, halves[:, 2]], 1)
    volumes = halves.prod(1)
    centre = volumes @ middles / volumes.sum()
    centre[2] = min(centre[2], LOW)
    mass = HEAVY if BY_NAME[name].holds else MASS
    long, across, tall = (middles + spans).max(0) - (middles - spans).min(0)
    inertia = mass / 12 * np.array([across**2 + tall**2, long**2 + tall**2, long**2 + across**2])
    return Proxy(middles, halves, turns, mass, centre, inertia)
