"""What the front camera sees of obstacles, and what it does not see because of them. No simulator here."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .course_hand import Box
from .things import Circle

EYE, LOOK, FOVY = (0.0, -0.75, 0.86), (0.0, -0.088, 0.012), 21.0  # the desk's front camera (m, degrees)
SEEN_TO = 0.15  # m: of what is taller, at least this much is in the picture: more than a hand carries at
HIDDEN = 0.35  # of a toy, at most, is behind an obstacle
_RIM = [(0.0, 0.0), *((0.7 * math.cos(a), 0.7 * math.sin(a)) for a in np.arange(8) * math.pi / 4)]


def _axes() -> np.ndarray:
    ahead = np.subtract(LOOK, EYE) / np.linalg.norm(np.subtract(LOOK, EYE))
    right = np.cross(ahead, (0.0, 0.0, 1.0))
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(right, ahead), ahead], 1)


_AXES, _HALF = _axes(), math.tan(math.radians(FOVY) / 2)


def corners(box: Box, to: float = SEEN_TO) -> np.ndarray:
    """(8,3) m: those of an obstacle, or of all of it below the height `to` (m)."""
    top = min(to, box[5])
    x, y, yaw, hx, hy, _ = box
    c, s = math.cos(yaw), math.sin(yaw)
    flat = [(x + c * a * hx - s * b * hy, y + s * a * hx + c * b * hy) for a in (-1, 1) for b in (-1, 1)]
    return np.array([(*p, z) for p in flat for z in (0.0, top)])


def seen(box: Box, to: float = SEEN_TO) -> bool:
    """Whether all of an obstacle below the height `to` (m) is in the front picture."""
    at = (corners(box, to) - EYE) @ _AXES
    return bool((np.abs(at[:, :2]) <= at[:, 2:] * _HALF).all())


def hidden(toys: Sequence[Circle], boxes: Sequence[Box], eye: Sequence[float] = EYE) -> bool:
    """Whether obstacles stand between the front camera, which looks from `eye` (m), and too much of some toy."""
    points = np.array([(x + r * u, y + r * v, h / 2) for x, y, r, h in toys for u, v in _RIM])
    behind = np.zeros(len(points), bool)
    for x, y, yaw, hx, hy, top in boxes:
        c, s = math.cos(yaw), math.sin(yaw)
        turn = np.array([(c, -s, 0.0), (s, c, 0.0), (0.0, 0.0, 1.0)])
        start, ray = (np.array(eye) - (x, y, top / 2)) @ turn, (points - eye) @ turn
        # Where the ray crosses each pair of faces: it is within from the last entry to the first exit.
        half = np.array([hx, hy, top / 2])
        one, two = (-half - start) / ray, (half - start) / ray
        enter, leave = np.minimum(one, two).max(1), np.maximum(one, two).min(1)
        behind |= (enter < leave) & (leave > 0) & (enter < 1)
    return bool((behind.reshape(len(toys), -1).mean(1) > HIDDEN).any())
