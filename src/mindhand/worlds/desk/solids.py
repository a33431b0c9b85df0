"""Solids as triangles (n,3,3), their corners counterclockwise seen from outside: what toys are put together from.

No simulator here. The unit of length is the caller's; outlines are (n,2) polygons, counterclockwise or not.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Points = Sequence[Sequence[float]]
CREASE = 0.64  # faces whose normals differ by less than 50 degrees (its cosine) are shaded as one


# ---- outlines ------------------------------------------------------------------------------------------


def arc(radius: float, start: float, end: float, count: int, at: tuple[float, float] = (0.0, 0.0)) -> np.ndarray:
    """(count,2) points of a circle around `at`, from one angle (degrees) to another, both included."""
    a = np.radians(np.linspace(start, end, count))
    return np.stack([at[0] + radius * np.cos(a), at[1] + radius * np.sin(a)], 1)


def circle(radius: float, sides: int = 12) -> np.ndarray:
    """(sides,2): a regular polygon."""
    return arc(radius, 0, 360, sides + 1)[:-1]


def rectangle(width: float, depth: float) -> np.ndarray:
    """(4,2), centred."""
    return np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * (width / 2, depth / 2)


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def triangulate(outline: np.ndarray) -> np.ndarray:
    """(n-2,3) indices of the triangles of a counterclockwise polygon, concave ones too: ears are cut off in turn."""
    left, out = list(range(len(outline))), []
    while len(left) > 3:
        for k in range(len(left)):
            ear = [left[k - 1], left[k], left[(k + 1) % len(left)]]
            corners = outline[ear]
            sides = np.roll(corners, -1, 0) - corners
            if _cross(sides[0], sides[1]) <= 0:
                continue
            others = outline[[i for i in left if i not in ear]]
            if not (_cross(sides, others[:, None] - corners) >= 0).all(1).any():
                break
        else:
            raise ValueError(f"an outline of {len(outline)} points that runs clockwise or crosses itself")
        out.append(ear)
        left.pop(k)
    return np.array([*out, left])


# ---- solids --------------------------------------------------------------------------------------------


def prism(outline: Points | np.ndarray, low: float, high: float, top: float = 1.0) -> np.ndarray:
    """An outline raised from z = low to high, where it is `top` times as large (about x = y = 0)."""
    p = np.asarray(outline, float)
    if _cross(p, np.roll(p, -1, 0)).sum() < 0:
        p = p[::-1]
    n, cap = len(p), triangulate(p)
    ends = [np.column_stack([p * s, np.full(n, z)]) for s, z in ((1.0, low), (top, high))]
    i = np.arange(n)
    j = (i + 1) % n
    sides = [np.stack([i, j, j + n], 1), np.stack([i, j + n, i + n], 1)]
    return _solid(np.concatenate(ends)[np.concatenate([cap[:, ::-1], cap + n, *sides])])


def box(size: Sequence[float], at: Sequence[float]) -> np.ndarray:
    """A box of these edges around a point."""
    return shift(prism(rectangle(size[0], size[1]), -size[2] / 2, size[2] / 2), at)


def lathe(profile: Points | np.ndarray, sides: int = 14, closed: bool = False) -> np.ndarray:
    """A profile of (radius, z) turned about the z axis. It begins and ends on the axis, or is `closed` in itself."""
    r, z = np.asarray([*profile, profile[0]] if closed else profile, float).T
    ring = circle(1.0, sides)
    return _skin(np.concatenate([r[:, None, None] * ring, np.broadcast_to(z[:, None, None], (len(r), sides, 1))], 2))


def ball(radii: Sequence[float], at: Sequence[float], sides: int = 12, rings: int = 6) -> np.ndarray:
    """An ellipsoid of these half axes around a point."""
    return shift(lathe(arc(1.0, -90, 90, rings + 1), sides) * np.asarray(radii), at)


def rod(path: Points | np.ndarray, radii: Sequence[float], sides: int = 8) -> np.ndarray:
    """A round bar along points (n,3) that lie in a plane, as thick as told at each, with flat ends."""
    path, r = np.asarray(path, float), np.asarray([0.0, *radii, 0.0])
    along = np.gradient(path, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    axis = np.eye(3)[np.abs(along).max(0).argmin()]  # never parallel to the path
    u = np.cross(axis, along)
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    frame = np.stack([u, np.cross(along, u)], 1)
    ring = np.einsum("sk,nkd->nsd", circle(1.0, sides), frame)
    ends = [0, *range(len(path)), len(path) - 1]
    return _skin(path[ends, None] + r[:, None, None] * ring[ends])


def _skin(rings: np.ndarray) -> np.ndarray:
    """The surface over rings (m,n,3) of as many points each."""
    a, b = rings[:-1], rings[1:]
    a1, b1 = np.roll(a, -1, 1), np.roll(b, -1, 1)
    found = np.concatenate([np.stack([a, a1, b1], 2), np.stack([a, b1, b], 2)]).reshape(-1, 3, 3)
    volume = np.linalg.det(found - found.mean((0, 1))).sum()
    return _solid(found if volume > 0 else found[:, ::-1])


def _solid(triangles: np.ndarray) -> np.ndarray:
    """Without what has no area."""
    area = np.linalg.norm(np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]), axis=1)
    return triangles[area > 1e-6 * area.max()]


# ---- placing -------------------------------------------------------------------------------------------


def shift(triangles: np.ndarray, by: Sequence[float]) -> np.ndarray:
    """Moved by (x, y, z)."""
    return triangles + np.asarray(by, float)


def along_x(triangles: np.ndarray) -> np.ndarray:
    """Turned so that x, y, z become y, z, x: a prism then reaches along x."""
    return triangles[..., [2, 0, 1]]


def along_y(triangles: np.ndarray) -> np.ndarray:
    """Turned so that x, y, z become z, x, y: a prism then reaches along y."""
    return triangles[..., [1, 2, 0]]


def tilt(triangles: np.ndarray, axis: int, degrees: float) -> np.ndarray:
    """Turned about axis 0, 1 or 2 (x, y, z) by the right hand's rule."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    i, j = (axis + 1) % 3, (axis + 2) % 3
    out = triangles.copy()
    out[..., i] = c * triangles[..., i] - s * triangles[..., j]
    out[..., j] = s * triangles[..., i] + c * triangles[..., j]
    return out


# ---- shading -------------------------------------------------------------------------------------------


def normals(triangles: np.ndarray) -> np.ndarray:
    """(n,3,3) unit normals at the corners of one solid: round where faces meet at a blunt angle (`CREASE`)."""
    face = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    unit = face / np.linalg.norm(face, axis=1, keepdims=True)
    _, place = np.unique(triangles.reshape(-1, 3).round(4), axis=0, return_inverse=True)
    out = np.empty((len(face) * 3, 3))
    order = np.argsort(place.ravel(), kind="stable")
    for same in np.split(order, np.flatnonzero(np.diff(place.ravel()[order])) + 1):
        faces = same // 3
        out[same] = (unit[faces] @ unit[faces].T > CREASE) @ face[faces]
    return (out / np.linalg.norm(out, axis=1, keepdims=True)).reshape(-1, 3, 3)
