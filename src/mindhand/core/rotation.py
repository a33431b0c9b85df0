"""Rotation conventions of `spec.ROTATION_SIZE`, all by way of matrices. Batched numpy, computed in float64.

    matrix       9, row by row
    rot6d        6, the first two columns of the matrix, one after the other (Zhou et al., 1812.07035)
    quat_wxyz    4, unit, canonical w >= 0 (Hamilton; rotates vectors as R v)
    quat_xyzw    4, the same, scalar last
    axis_angle   3, axis times angle, canonical angle in [0, pi]
    euler_xyz    3, roll a, pitch b, yaw c about the fixed x, y, z axes in that order: R = Rz(c) Ry(b) Rx(a)
    yaw          1, about z alone

Where two vectors name one rotation, the canonical one is returned: at half a turn the first component of the
axis that is not zero is positive; at a pitch of a quarter turn the roll is zero.
"""

from __future__ import annotations

import numpy as np

from .errors import BadData
from .spec import ROTATION_SIZE

_TINY = 1e-12


def _unit(v: np.ndarray, what: str) -> np.ndarray:
    length = np.linalg.norm(v, axis=-1, keepdims=True)
    if not (length > 1e-8).all():  # written so that NaN is refused
        raise BadData(f"{what} of length zero, or not finite", "a direction", "find what made it; it is no rotation")
    return v / length


def _from_quat(q: np.ndarray) -> np.ndarray:
    w, x, y, z = np.moveaxis(_unit(q, "a quaternion"), -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, -1) for row in rows], -2)


def _to_quat(m: np.ndarray) -> np.ndarray:
    """(...,4) wxyz. Of four equal expressions the best conditioned is taken (Shepperd 1978, JGCD 1:223)."""
    r = {f"{i}{j}": m[..., i, j] for i in range(3) for j in range(3)}
    outer = np.stack(  # row i is 4 q_i q
        [
            np.stack([1 + r["00"] + r["11"] + r["22"], r["21"] - r["12"], r["02"] - r["20"], r["10"] - r["01"]], -1),
            np.stack([r["21"] - r["12"], 1 + r["00"] - r["11"] - r["22"], r["10"] + r["01"], r["02"] + r["20"]], -1),
            np.stack([r["02"] - r["20"], r["10"] + r["01"], 1 - r["00"] + r["11"] - r["22"], r["21"] + r["12"]], -1),
            np.stack([r["10"] - r["01"], r["02"] + r["20"], r["21"] + r["12"], 1 - r["00"] - r["11"] + r["22"]], -1),
        ],
        -2,
    )
    best = np.argmax(np.diagonal(outer, axis1=-2, axis2=-1), -1)
    q = _unit(np.take_along_axis(outer, best[..., None, None], -2)[..., 0, :], "a quaternion")
    # Half a turn has w = 0 up to rounding, of either sign: the axis decides there.
    big = np.abs(q) > _TINY
    first = np.take_along_axis(q, np.argmax(big, -1)[..., None], -1)
    return np.where(first < 0, -q, q)


def _gram_schmidt(x: np.ndarray) -> np.ndarray:
    a = _unit(x[..., :3], "the first column of a rot6d")
    b = x[..., 3:] - (a * x[..., 3:]).sum(-1, keepdims=True) * a
    b = _unit(b, "the second column of a rot6d, less the first,")
    return np.stack([a, b, np.cross(a, b)], -1)


def _nearest(m: np.ndarray) -> np.ndarray:
    """The rotation nearest to a matrix in the Frobenius norm; a rotation stays as it is to the last bit."""
    if not np.isfinite(m).all():
        raise BadData("a rotation matrix holds NaN or infinity", "finite numbers", "find what made it")
    u, s, vt = np.linalg.svd(m)
    if (s[..., -1] < 1e-8).any():
        raise BadData("a rotation matrix is singular", "three independent rows", "find what made it; it is no rotation")
    sign = np.sign(np.linalg.det(u @ vt))
    u = np.concatenate([u[..., :2], u[..., 2:] * sign[..., None, None]], -1)
    off = np.abs(m @ np.swapaxes(m, -1, -2) - np.eye(3)).max((-1, -2)) + np.abs(np.linalg.det(m) - 1)
    return np.where((off < _TINY)[..., None, None], m, u @ vt)


def _about(axis: int, angle: np.ndarray) -> np.ndarray:
    v = np.zeros((*angle.shape, 3))
    v[..., axis] = angle
    return _from_axis_angle(v)


def _from_axis_angle(v: np.ndarray) -> np.ndarray:
    angle = np.linalg.norm(v, axis=-1, keepdims=True)
    return _from_quat(np.concatenate([np.cos(angle / 2), np.sinc(angle / (2 * np.pi)) / 2 * v], -1))


def _to_axis_angle(m: np.ndarray) -> np.ndarray:
    q = _to_quat(m)
    w, v = q[..., :1], q[..., 1:]
    length = np.linalg.norm(v, axis=-1, keepdims=True)
    # angle / |v|, which tends to 2 / w where the angle tends to 0
    scale = np.where(length > 1e-9, 2 * np.arctan2(length, w) / np.maximum(length, 1e-300), 2 / np.where(w == 0, 1, w))
    return scale * v


def _to_euler(m: np.ndarray) -> np.ndarray:
    level = np.hypot(m[..., 0, 0], m[..., 1, 0])
    pitch = np.arctan2(-m[..., 2, 0], level)
    locked = level < 1e-7
    roll = np.where(locked, 0.0, np.arctan2(m[..., 2, 1], m[..., 2, 2]))
    # With the roll set to zero, the second column of Rz(c) Ry(b) is (-sin c, cos c, 0) at any pitch.
    yaw = np.where(locked, np.arctan2(-m[..., 0, 1], m[..., 1, 1]), np.arctan2(m[..., 1, 0], m[..., 0, 0]))
    return np.stack([roll, pitch, yaw], -1)


def _to_yaw(m: np.ndarray) -> np.ndarray:
    tilt = np.abs(m[..., 2, 2] - 1) + np.hypot(m[..., 2, 0], m[..., 2, 1])
    if (tilt > 1e-5).any():
        raise BadData(
            f"a rotation that is tilted by about {float(np.degrees(tilt.max())):.3g} degrees, as a yaw",
            "a rotation about z alone",
            "choose a convention that holds the whole rotation",
        )
    return np.arctan2(m[..., 1, 0], m[..., 0, 0])[..., None]


def to_matrix(x: np.ndarray, rotation: str, unit: str = "rad") -> np.ndarray:
    """(...,n) in the named convention to matrices (...,3,3) float64. `unit` "rad" or "deg" counts for angles.

    Vectors that are no exact rotation (a network's) go to one: quaternions are normalised, rot6d orthogonalised
    from its first column, matrices replaced by the nearest rotation. BadData where that is not possible.
    """
    x = np.asarray(x, np.float64)
    size = ROTATION_SIZE.get(rotation)
    if size is None or x.shape[-1:] != (size,):
        raise BadData(f"array {x.shape} as rotation '{rotation}'", f"last axis of {ROTATION_SIZE}", "name it right")
    if not np.isfinite(x).all():
        raise BadData(f"a {rotation} holds NaN or infinity", "finite numbers", "find what made it")
    if unit == "deg":
        x = np.radians(x)
    if rotation == "matrix":
        return _nearest(x.reshape(*x.shape[:-1], 3, 3))
    if rotation == "rot6d":
        return _gram_schmidt(x)
    if rotation.startswith("quat"):
        return _from_quat(x if rotation == "quat_wxyz" else np.roll(x, 1, -1))
    if rotation == "axis_angle":
        return _from_axis_angle(x)
    if rotation == "yaw":
        return _about(2, x[..., 0])
    return _about(2, x[..., 2]) @ _about(1, x[..., 1]) @ _about(0, x[..., 0])


def from_matrix(m: np.ndarray, rotation: str, unit: str = "rad") -> np.ndarray:
    """Rotation matrices (...,3,3) to (...,n) float64, canonical, in the named convention."""
    m = np.asarray(m, np.float64)
    if rotation not in ROTATION_SIZE or m.shape[-2:] != (3, 3):
        raise BadData(
            f"array {m.shape} to rotation '{rotation}'", f"(...,3,3), one of {list(ROTATION_SIZE)}", "name it"
        )
    if rotation == "matrix":
        return m.reshape(*m.shape[:-2], 9)
    if rotation == "rot6d":
        return np.concatenate([m[..., :, 0], m[..., :, 1]], -1)
    if rotation.startswith("quat"):
        q = _to_quat(m)
        return q if rotation == "quat_wxyz" else np.roll(q, -1, -1)
    angles = {"axis_angle": _to_axis_angle, "euler_xyz": _to_euler, "yaw": _to_yaw}[rotation](m)
    return np.degrees(angles) if unit == "deg" else angles
