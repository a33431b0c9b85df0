"""Forward and closed-form inverse kinematics of the arm (ViperX 300 S lengths), in the arm's base frame.

Joints: waist z, shoulder y, elbow y, forearm roll x, wrist angle y, wrist rotate x. The waist axis meets the
shoulder axis and the last three axes meet in the wrist centre, so the inverse is exact: waist by atan2, shoulder
and elbow as a planar two-link arm (elbow up), the wrist as x-y-x Euler angles, branch nearest to a seed.

The tool frame: x along the fingers, y the closing direction, z = x cross y. Its origin (TCP) is the pinch point.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

JOINTS = ("waist", "shoulder", "elbow", "forearm_roll", "wrist_angle", "wrist_rotate")
LOW = np.array([-3.14158, -1.85005, -1.76278, -3.14158, -1.8675, -3.14158])
HIGH = np.array([3.14158, 1.25664, 1.6057, 3.14158, 2.23402, 3.14158])

_LOW, _HIGH = LOW.tolist(), HIGH.tolist()
_WRIST_LOW, _WRIST_HIGH = _LOW[3:], _HIGH[3:]

SHOULDER_Z = 0.079 + 0.04805  # base to shoulder axis
ELBOW = (0.05955, 0.3)  # shoulder to elbow at zero: x, z
FOREARM = (0.2, 0.1)  # elbow to forearm roll, forearm roll to wrist
WRIST_TO_GRIPPER = 0.069744
PINCH = 0.125  # gripper link to TCP
TOOL = WRIST_TO_GRIPPER + PINCH

_A1 = math.hypot(*ELBOW)
_A2 = sum(FOREARM)
_BEND = math.atan2(ELBOW[1], ELBOW[0])


@dataclass(frozen=True)
class Solution:
    """Joints (6,) within limits, and whether they reach the pose asked for or only come near it."""

    joints: np.ndarray
    exact: bool


def _wrap(angle: float) -> float:
    return math.remainder(angle, 2 * math.pi)


def forward(joints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """TCP position (3,) in metres and tool rotation (3,3) of joints (6,) in radians."""
    q1, q2, q3, q4, q5, q6 = (float(q) for q in joints)
    c1, s1, c4, s4, c5, s5, c6, s6 = (f(q) for q in (q1, q4, q5, q6) for f in (math.cos, math.sin))
    c2, s2, c23, s23 = math.cos(q2), math.sin(q2), math.cos(q2 + q3), math.sin(q2 + q3)
    radius = ELBOW[0] * c2 + ELBOW[1] * s2 + _A2 * c23
    height = SHOULDER_Z - ELBOW[0] * s2 + ELBOW[1] * c2 - _A2 * s23
    base = np.array([[c1 * c23, -s1, c1 * s23], [s1 * c23, c1, s1 * s23], [-s23, 0.0, c23]])
    wrist = np.array(
        [
            [c5, s5 * s6, s5 * c6],
            [s4 * s5, c4 * c6 - s4 * c5 * s6, -c4 * s6 - s4 * c5 * c6],
            [-c4 * s5, s4 * c6 + c4 * c5 * s6, -s4 * s6 + c4 * c5 * c6],
        ]
    )
    rotation = base @ wrist
    return np.array([c1 * radius, s1 * radius, height]) + TOOL * rotation[:, 0], rotation


def _nearest(branches: list[tuple[float, ...]], seed: list[float]) -> tuple[float, ...]:
    """The wrist branch (three angles) within limits that is nearest to the seed."""

    def cost(angles: tuple[float, ...]) -> tuple[bool, float]:
        outside, far = False, 0.0
        for q, s, low, high in zip(angles, seed, _WRIST_LOW, _WRIST_HIGH):
            outside = outside or not low <= q <= high
            far += (q - s) ** 2
        return outside, far

    return min(branches, key=cost)


def inverse(position: Sequence[float] | np.ndarray, rotation: np.ndarray, seed: np.ndarray) -> Solution:
    """Joints for a TCP position (3,) and tool rotation (3,3), wrist branch nearest to `seed` (6,).

    A pose out of reach keeps its direction from the shoulder: the wrist centre is moved to the nearest radius
    the two links can span, then joints are clipped to their limits; `exact` is then False.
    """
    (r00, r01, r02), (r10, r11, r12), (r20, r21, r22) = rotation.tolist()
    px, py, pz = (float(p) for p in position)
    x, y, z = px - TOOL * r00, py - TOOL * r10, pz - TOOL * r20 - SHOULDER_Z
    radius = math.hypot(x, y)
    q1 = math.atan2(y, x) if radius > 1e-9 else float(seed[0])
    span = math.hypot(radius, z)
    near = min(max(span, _A1 - _A2 + 1e-6), _A1 + _A2 - 1e-6)
    exact = abs(near - span) < 1e-9
    bend = math.acos(max(-1.0, min(1.0, (near * near - _A1 * _A1 - _A2 * _A2) / (2 * _A1 * _A2))))
    upper = math.atan2(z, radius) + math.atan2(_A2 * math.sin(bend), _A1 + _A2 * math.cos(bend))
    q2 = _wrap(_BEND - upper)
    q3 = _wrap(bend - upper - q2)

    # The rotation left to the wrist: base(q1, q2 + q3) transposed times the wanted one.
    c1, s1, c, s = math.cos(q1), math.sin(q1), math.cos(q2 + q3), math.sin(q2 + q3)
    m00 = c1 * c * r00 + s1 * c * r10 - s * r20
    m01 = c1 * c * r01 + s1 * c * r11 - s * r21
    m02 = c1 * c * r02 + s1 * c * r12 - s * r22
    m10 = -s1 * r00 + c1 * r10
    m20 = c1 * s * r00 + s1 * s * r10 + c * r20
    swing = math.hypot(m01, m02)
    if swing > 1e-9:
        branches = [
            (math.atan2(m10, -m20), math.atan2(swing, m00), math.atan2(m01, m02)),
            (math.atan2(-m10, m20), math.atan2(-swing, m00), math.atan2(-m01, -m02)),
        ]
    else:
        # Straight wrist: only the sum of the two rolls counts; the first stays where it is.
        m11 = -s1 * r01 + c1 * r11
        m21 = c1 * s * r01 + s1 * s * r11 + c * r21
        roll = float(seed[3])
        branches = [(roll, 0.0 if m00 > 0 else math.pi, _wrap(math.atan2(m21, m11) - roll))]
    joints = [q1, q2, q3, *_nearest(branches, seed[3:].tolist())]
    clipped = [q if low <= q <= high else low if q < low else high for q, low, high in zip(joints, _LOW, _HIGH)]
    return Solution(np.array(clipped), exact and clipped == joints)


def tool_down(yaw: float) -> np.ndarray:
    """Rotation (3,3) of a tool that points straight down and is turned by `yaw` about the vertical."""
    c, s = math.cos(yaw), math.sin(yaw)
    return np.array([[0.0, -s, c], [0.0, c, s], [-1.0, 0.0, 0.0]])


def tool_yaw(rotation: np.ndarray) -> float:
    """The yaw of a tool that points down, from its closing direction."""
    return math.atan2(-rotation[0, 1], rotation[1, 1])


def to_rot6d(rotation: np.ndarray) -> np.ndarray:
    """(...,3,3) to (...,6): its first two columns, one after the other (Zhou et al., arXiv 1812.07035)."""
    return np.concatenate([rotation[..., 0], rotation[..., 1]], -1)


def from_rot6d(six: Sequence[float] | np.ndarray) -> np.ndarray | None:
    """(6,) to a rotation (3,3) by Gram-Schmidt; None where the two columns do not span a plane."""
    ax, ay, az, bx, by, bz = (float(x) for x in six)
    length = math.sqrt(ax * ax + ay * ay + az * az)
    if length < 1e-3:
        return None
    ax, ay, az = ax / length, ay / length, az / length
    along = ax * bx + ay * by + az * bz
    bx, by, bz = bx - along * ax, by - along * ay, bz - along * az
    length = math.sqrt(bx * bx + by * by + bz * bz)
    if length < 1e-3:
        return None
    bx, by, bz = bx / length, by / length, bz / length
    return np.array([[ax, bx, ay * bz - az * by], [ay, by, az * bx - ax * bz], [az, bz, ax * by - ay * bx]])
