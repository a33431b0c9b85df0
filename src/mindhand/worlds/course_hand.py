"""How near a hand that points down comes to obstacles: the arm as a few upright shapes. No simulator here.

What a planner may believe, and a sampler promise. Distances are to the shapes that the simulator feels, and too small
rather than too large (a test measures by how much). Metres and radians, the table's frame as in `things`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from .grips import BASE, GRIPS, PAD, PALM, PALM_UP, TIP, WIDE
from .things import BY_NAME

BODY = (0.018, 0.032, 0.095)  # m, the gripper's body: half across and along the closing direction, how far up
PALM_HALF = 0.012  # half of the palm across
WRIST = (0.020, 0.144)  # radius, how far up
FOREARM, FOREARM_AT = 0.030, (0.02, 0.07, 0.12, 0.17, 0.22, 0.27)  # radius of balls, and how far from the wrist
SHOULDER, UPPER, LOWER, TOOL = 0.12705, 0.30585, 0.3, 0.194744  # height of the shoulder; lengths; wrist to tool point
FAR, WIDEST = 0.08, 0.064  # m: nobody asks what is farther away; the palm's corner is no farther from the axis
ALONG = (-TIP, 0.03, 0.06, 0.09, 0.12, 0.15, 0.194744)  # m from the tool point to the wrist
SPARE = 0.010  # m that the arm is never stretched
Box = tuple[float, float, float, float, float, float]  # an upright box on the table: x, y, yaw, half sizes, height


@dataclass(frozen=True)
class Hand:
    """spread: from the middle to the outer side of a pad (m). radius, low: of the upright cylinder about the tool's
    axis that what it holds stays within, and how far above the tool point that begins; a radius of 0 for an empty
    hand."""

    spread: float
    radius: float = 0.0
    low: float = 0.0

    def __iter__(self) -> Iterator[float]:
        return iter((self.spread, self.radius, self.low))


def opened(gap: float) -> Hand:
    """An empty hand whose pads are so far apart (m)."""
    return Hand(gap / 2 + PAD)


def holding(thing: str) -> Hand:
    """A hand that holds a toy as `grips` has it."""
    grip, kind = GRIPS[thing], BY_NAME[thing]
    return Hand(grip.width / 2 + PAD, kind.reach + math.hypot(grip.x, grip.y), -grip.up)


def highest(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """How high the tool can go above these points (m) while it points down; NaN where it does not reach."""
    radius = np.hypot(x - BASE[0], y - BASE[1])
    with np.errstate(invalid="ignore"):
        return np.sqrt((UPPER + LOWER - SPARE) ** 2 - radius**2) + SHOULDER - TOOL


def _turned(x: np.ndarray, y: np.ndarray, yaw: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points as seen from a frame turned by `yaw`."""
    c, s = np.cos(yaw), np.sin(yaw)
    return c * x + s * y, c * y - s * x


def _to_point(u: np.ndarray, v: np.ndarray, half: Sequence) -> np.ndarray:
    """In the plane, from points to a box around 0 of these half sizes; 0 within."""
    return np.hypot(np.maximum(np.abs(u) - half[0], 0), np.maximum(np.abs(v) - half[1], 0))


_SIGNS = np.array([(1, 1), (1, -1), (-1, 1), (-1, -1)], float)


def _to_corners(u: np.ndarray, v: np.ndarray, turn: np.ndarray, half: Sequence, other: Sequence) -> np.ndarray:
    """From a rectangle of half sizes `half` around 0 to the corners of one around u, v, turned by `turn`, squared."""
    c, s, best = np.cos(turn), np.sin(turn), None
    for a, b in _SIGNS:
        x, y = u + c * (a * other[0]) - s * (b * other[1]), v + s * (a * other[0]) + c * (b * other[1])
        far = np.maximum(np.abs(x) - half[0], 0) ** 2 + np.maximum(np.abs(y) - half[1], 0) ** 2
        best = far if best is None else np.minimum(best, far)
    assert best is not None
    return best


def _to_box(here: Sequence, back: Sequence, turn: np.ndarray, half: Sequence, theirs: Sequence) -> np.ndarray:
    """In the plane, between rectangles of half sizes `half` and `theirs`, 0 where they overlap. here: where the middle
    of the second is for the first; back: the other way round; turn: of the second against the first."""
    far = np.sqrt(np.minimum(_to_corners(*here, turn, half, theirs), _to_corners(*back, -turn, theirs, half)))
    c, s = np.abs(np.cos(turn)), np.abs(np.sin(turn))
    apart = np.abs(here[0]) > half[0] + c * theirs[0] + s * theirs[1]
    apart |= np.abs(here[1]) > half[1] + s * theirs[0] + c * theirs[1]
    apart |= np.abs(back[0]) > theirs[0] + c * half[0] + s * half[1]
    apart |= np.abs(back[1]) > theirs[1] + s * half[0] + c * half[1]
    return np.where(apart, far, 0.0)


def forearm(poses: np.ndarray) -> np.ndarray:
    """(n,k,3): points of the forearm from the wrist on, for tool poses (n,>=3) that point down."""
    x, y = poses[:, 0] - BASE[0], poses[:, 1] - BASE[1]
    out, up = np.hypot(x, y), poses[:, 2] + TOOL - SHOULDER
    span = np.clip(np.hypot(out, up), abs(UPPER - LOWER) + 1e-6, UPPER + LOWER - 1e-6)
    bend = np.arccos(np.clip((UPPER**2 + span**2 - LOWER**2) / (2 * UPPER * span), -1, 1))
    angle = np.arctan2(up, out) + bend
    elbow = np.stack([UPPER * np.cos(angle) * x / out, UPPER * np.cos(angle) * y / out, UPPER * np.sin(angle)], 1)
    wrist = np.stack([x, y, up], 1)
    part = np.array(FOREARM_AT)[:, None] / LOWER
    return wrist[:, None] * (1 - part) + elbow[:, None] * part + (*BASE, SHOULDER)


def ball_gaps(points: np.ndarray, radius: float, obstacles: Sequence[Box]) -> np.ndarray:
    """(...,m): the distance (m) between balls around points (...,3) and each obstacle, or less."""
    box, points = np.array(obstacles).reshape(-1, 6), points[..., None, :]
    u, v = _turned(points[..., 0] - box[:, 0], points[..., 1] - box[:, 1], box[:, 2])
    plane = np.maximum(_to_point(u, v, box[:, 3:5].T) - radius, 0)
    return np.hypot(plane, np.maximum(points[..., 2] - radius - box[:, 5], 0))


def turned_gap(at: np.ndarray, along: np.ndarray, obstacles: Sequence[Box]) -> float:
    """The same of an arm with an empty hand that points anywhere, (3,) `along` its fingers, the tool point `at` (3,):
    taken as round."""
    tool = at - np.array(ALONG)[:, None] * along
    wrist = tool[-1] - (0.0, 0.0, TOOL)
    arm = ball_gaps(forearm(wrist[None])[0], FOREARM, obstacles)
    return float(np.concatenate([ball_gaps(tool, WIDEST, obstacles), arm]).min(initial=math.inf))


def gaps(poses: np.ndarray, hand: Hand | np.ndarray, obstacles: Sequence[Box]) -> np.ndarray:
    """(n,m): the distance (m) between the arm, in each tool pose (n,4) x y z yaw, and each obstacle; 0 where they
    touch, and no more than told from `FAR` on. hand: the same in all poses, or (n,3) the numbers of each."""
    every, box = np.broadcast_to(np.array([*hand]), (len(poses), 3)), np.array(obstacles).reshape(-1, 6)
    best = ball_gaps(forearm(poses), FOREARM, obstacles).min(1) ** 2
    away = np.hypot(poses[:, None, 0] - box[:, 0], poses[:, None, 1] - box[:, 1])
    away -= np.hypot(box[:, 3], box[:, 4]) + np.maximum(every[:, 1:2], WIDEST)
    best = np.minimum(best, np.maximum(away, FAR) ** 2)
    n, m = np.nonzero(away < FAR)
    x, y, z, yaw = poses[n].T
    (spread, radius, low), (bx, by, bend, *theirs, top) = every[n].T, box[m].T
    turn, here, back = bend - yaw, _turned(bx - x, by - y, yaw), _turned(x - bx, y - by, bend)
    middle = _to_point(*back, theirs)
    parts = (
        # The tool's x axis of the table at yaw 0 is across the closing direction.
        (_to_box(here, back, turn, (WIDE / 2, spread), theirs), -TIP),
        (_to_box(here, back, turn, (PALM_HALF, PALM), theirs), PALM_UP),
        (_to_box(here, back, turn, BODY[:2], theirs), BODY[2]),
        (np.maximum(middle - WRIST[0], 0), WRIST[1]),
        (np.maximum(middle - radius, 0), low),
    )
    near = [plane**2 + np.maximum(z + up - top, 0) ** 2 for plane, up in parts]
    best[n, m] = np.minimum(best[n, m], np.min(near, 0))
    return np.sqrt(best)
