"""Forward and closed-form inverse kinematics of a Franka Emika Panda with its hand, in the arm's base frame.

Lengths and limits are the maker's (Franka Control Interface, "Robot and interface specifications"). Seven joints leave
one freedom: with the last joint given, the others follow in closed form (He and Liu 2021, "Analytical inverse
kinematics for Franka Emika Panda"). Here the last joint is the one that keeps the elbow upright above the line from
shoulder to wrist: at once where the tool points down, by a few secant steps where it leans to a side. So no branch has
to be chosen: the elbow below, or a shoulder that reaches over the back, would need the third joint near half a turn,
which it does not have. Joints are then a continuous function of the pose, but for one place: near the base and low,
where the forearm points along the fingers, a tool that leans by more than some 10 degrees has no upright elbow.

The tool frame is `kinematics`': x along the fingers, y the closing direction, z = x cross y; it is the hand's own frame
turned, (z, -y, x). Its origin (TCP) is the pinch point.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .kinematics import Solution

JOINTS = tuple(f"joint{k}" for k in range(1, 8))
LOW = np.array([-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973])
HIGH = np.array([2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973])
REST = np.array([0.0, -0.7854, 0.0, -2.3562, 0.0, 1.5708, 0.7854])  # the maker's "ready"

# Modified Denavit-Hartenberg parameters: a and alpha of the joint before, d.
D1, D3, D5, A4, A7, FLANGE = 0.333, 0.316, 0.384, 0.0825, 0.088, 0.107
PINCH = 0.1274  # flange to TCP: 0.1034 with the maker's fingers
DH = (
    (0.0, 0.0, D1), (0.0, -math.pi / 2, 0.0), (0.0, math.pi / 2, D3), (A4, math.pi / 2, 0.0),
    (-A4, -math.pi / 2, D5), (0.0, math.pi / 2, 0.0), (A7, math.pi / 2, 0.0),
)  # fmt: skip
HAND = -math.pi / 4  # the hand is turned against the flange

_LOW, _HIGH = LOW.tolist(), HIGH.tolist()
_UPPER, _LOWER = math.hypot(D3, A4), math.hypot(D5, A4)  # shoulder to elbow axis, elbow axis to wrist
_BEND_UPPER, _BEND_LOWER = math.atan2(D3, A4), math.atan2(D5, A4)
_TURN = _BEND_UPPER + _BEND_LOWER - 2 * math.pi  # the elbow's joint when both links lie upon each other
_FOLDED = _LOW[3] - _TURN  # the least angle between the links
_NEAREST = math.sqrt(_UPPER**2 + _LOWER**2 - 2 * _UPPER * _LOWER * math.cos(_FOLDED)) + 1e-9
_FARTHEST = _UPPER + _LOWER - 1e-6
# The elbow's axis may rise so far; how often the last joint is corrected for that, by how much at most (rad).
_UPRIGHT, _TRIES, _STRIDE, _NUDGE = 1e-12, 16, 0.3, 1e-5

Triple = tuple[float, float, float]


def _dot(a: Triple, b: Triple) -> float:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _mix(p: float, a: Triple, q: float, b: Triple) -> Triple:
    return p * a[0] + q * b[0], p * a[1] + q * b[1], p * a[2] + q * b[2]


def _cross(a: Triple, b: Triple) -> Triple:
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


def forward(joints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """TCP position (3,) in metres and tool rotation (3,3) of joints (7,) in radians."""
    at, turn = np.zeros(3), np.eye(3)
    for q, (a, alpha, d) in zip(joints.tolist(), DH):
        c, s, ca, sa = math.cos(q), math.sin(q), math.cos(alpha), math.sin(alpha)
        at = at + turn @ (a, -sa * d, ca * d)
        turn = turn @ np.array([(c, -s, 0.0), (s * ca, c * ca, -sa), (s * sa, c * sa, ca)])
    c, s = math.cos(HAND), math.sin(HAND)
    hand = turn @ np.array([(c, -s, 0.0), (s, c, 0.0), (0.0, 0.0, 1.0)])
    return at + (FLANGE + PINCH) * turn[:, 2], np.stack([hand[:, 2], -hand[:, 1], hand[:, 0]], 1)


class _Pose:
    """What is known before the last joint: where its axis begins, `at`, and the flange's axes."""

    def __init__(self, position: Sequence[float] | np.ndarray, rotation: np.ndarray):
        (r00, r01, r02), (r10, r11, r12), (r20, r21, r22) = rotation.tolist()
        px, py, pz = (float(p) for p in position)
        self.z: Triple = (r00, r10, r20)
        self.at: Triple = _mix(1.0, (px, py, pz - D1), -(FLANGE + PINCH), self.z)  # from the shoulder
        c, s = math.cos(HAND), math.sin(HAND)
        x, y = (r02, r12, r22), (-r01, -r11, -r21)  # the hand's
        self.x, self.y = _mix(c, x, -s, y), _mix(s, x, c, y)

    def flat(self) -> float | None:
        """The last joint with which the whole arm lies in one plane, where the wrist can always bend as it must; None
        where the tool points straight away from the shoulder."""
        away = _mix(1.0, self.at, -_dot(self.at, self.z), self.z)
        c, s = _dot(away, self.x), -_dot(away, self.y)
        return math.atan2(s, c) if math.hypot(c, s) > 1e-3 else None


class _Elbow:
    """The arm once the last joint is given: the wrist, from the shoulder, and the axes x4, z4 and z5 = y4 of the
    elbow's link; `rise`, how far z4 is from level, `bends`, whether the wrist can, `exact`, whether all lengths fit."""

    def __init__(self, pose: _Pose, q7: float):
        self.q7 = q7
        x6 = _mix(math.cos(q7), pose.x, -math.sin(q7), pose.y)
        wrist = _mix(1.0, pose.at, -A7, x6)
        span = math.sqrt(_dot(wrist, wrist))
        far = min(max(span, _NEAREST), _FARTHEST)
        wrist = self.wrist = _mix(far / span, wrist, 0.0, wrist) if span > 1e-9 else (far, 0.0, 0.0)
        fold = math.acos((_UPPER**2 + _LOWER**2 - far * far) / (2 * _UPPER * _LOWER))
        self.q4 = fold + _TURN
        lower = math.acos((_LOWER**2 + far * far - _UPPER**2) / (2 * _LOWER * far))
        tilt = math.pi / 2 - _BEND_LOWER + lower  # between the forearm and the line to the shoulder
        # The forearm z5 = sin(q6) x6 - cos(q6) z7 makes that angle with it.
        a, b, reach = -_dot(wrist, x6), -_dot(wrist, pose.z), far * math.cos(tilt)
        most = math.hypot(a, b)
        self.bends = abs(reach) <= most
        self.exact = abs(far - span) < 1e-9 and self.bends
        q6 = math.atan2(b, a) + math.asin(max(-1.0, min(1.0, -reach / max(most, 1e-12))))
        self.q6 = q6 + 2 * math.pi if q6 < -math.pi / 2 else q6
        c, s = math.cos(q6), math.sin(q6)
        self.z5 = _mix(s, x6, -c, pose.z)
        self.x5 = _mix(c, x6, s, pose.z)
        rest = _mix(-1.0, wrist, _dot(wrist, self.z5), self.z5)
        length = math.sqrt(_dot(rest, rest))
        self.x4 = _mix(1 / length, rest, 0.0, rest)
        self.z4 = _cross(self.x4, self.z5)
        self.rise = self.z4[2]

    def joints(self) -> list[float]:
        """All seven."""
        q5 = math.atan2(-_dot(self.x5, self.z4), _dot(self.x5, self.x4))
        c, s = math.cos(self.q4), math.sin(self.q4)
        x3, z3 = _mix(c, self.x4, -s, self.z5), _mix(s, self.x4, c, self.z5)
        azimuth = math.atan2(self.wrist[1], self.wrist[0])
        out, aside = (math.cos(azimuth), math.sin(azimuth), 0.0), (-math.sin(azimuth), math.cos(azimuth), 0.0)
        u, v = _dot(z3, out), _dot(z3, aside)
        # Upright, as the upper arm nearly always is: the waist looks to the wrist, also where it stands straight up.
        swing = 0.0 if abs(v) < 1e-9 else math.atan2(v, u) if u >= 0 else math.atan2(-v, -u)
        q1 = azimuth + swing
        q2 = math.atan2(u * math.cos(swing) + v * math.sin(swing), z3[2])
        level = (-math.sin(q1), math.cos(q1), 0.0)
        q3 = math.atan2(_dot(x3, level), -_dot(self.z4, level))
        return [math.remainder(q1, 2 * math.pi), q2, q3, self.q4, q5, self.q6, self.q7]


def inverse(position: Sequence[float] | np.ndarray, rotation: np.ndarray, seed: np.ndarray) -> Solution:
    """Joints (7,) for a TCP position (3,) and tool rotation (3,3), the elbow upright; where the last joint would be
    beyond its limits, it is at the one that is nearer to that of `seed` (7,).

    A pose out of reach keeps the direction of the wrist from the shoulder: the wrist is moved to the nearest distance
    that the two links can span, then joints are clipped to their limits; `exact` is then False.
    """
    pose, last = _Pose(position, rotation), float(seed[6])

    def within(q7: float) -> _Elbow:
        turned = math.remainder(q7, 2 * math.pi)
        return _Elbow(pose, turned if abs(turned) <= _HIGH[6] else math.copysign(_HIGH[6], last))

    flat = pose.flat()
    elbow = within(last if flat is None else flat)
    if abs(elbow.rise) > _UPRIGHT and elbow.bends:  # the tool leans to a side
        slope = (within(elbow.q7 + _NUDGE).rise - elbow.rise) / _NUDGE
        for _ in range(_TRIES):
            step = max(-_STRIDE, min(_STRIDE, -elbow.rise / slope)) if slope else 0.0
            then = within(elbow.q7 + step)
            while not then.bends and abs(step) > 1e-9:  # as upright as the wrist lets it be
                step /= 2
                then = within(elbow.q7 + step)
            if abs(step) <= 1e-9 or then.q7 == elbow.q7 or not then.bends:
                break
            slope, elbow = (then.rise - elbow.rise) / (then.q7 - elbow.q7), then
            if abs(elbow.rise) <= _UPRIGHT:
                break
    joints = elbow.joints()
    clipped = [q if low <= q <= high else low if q < low else high for q, low, high in zip(joints, _LOW, _HIGH)]
    return Solution(np.array(clipped), elbow.exact and clipped == joints)
