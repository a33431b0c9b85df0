"""Ellipsoids: the least round points or boxes, how far two are apart, and the plane that says so.

An ellipsoid is a centre (3,) and S (3,3), symmetric, its semi-axes: the points centre + S u of the unit ball. Metres.
Numpy in float64, and the same at every call.
"""

from __future__ import annotations

import numpy as np

THIN, VOXEL = 0.002, 0.015  # m: no ellipsoid is thinner; points in voxels that touch are of one thing
TOLERANCE = 1e-10  # of a constraint


def mvee(points: np.ndarray, tol: float = 1e-3) -> tuple[np.ndarray, np.ndarray]:
    """The ellipsoid of least volume round points (n,3): centre (3,), S (3,3). Khachiyan's ascent on the points' weights
    (Todd & Yildirim 2007); the rest of `tol` is made good by scaling, so that it holds every point. What is thinner
    than `THIN` is taken as so thick."""
    points = np.asarray(points, np.float64).reshape(-1, 3)
    _, along = np.linalg.eigh(np.cov(points.T, bias=True).reshape(3, 3))
    flat = along[:, np.ptp(points @ along, 0) < THIN].T
    points = np.concatenate([points, *(points.mean(0) + side * THIN / 2 * flat for side in (-1, 1))])
    lifted = np.column_stack([points, np.ones(len(points))])
    weights = np.full(len(points), 1 / len(points))
    for _ in range(100_000):
        far = ((lifted @ np.linalg.inv(lifted.T @ (lifted * weights[:, None]))) * lifted).sum(1)
        most, least = int(far.argmax()), int(np.where(weights > 0, far, np.inf).argmin())
        if far[most] <= 4 * (1 + tol) and far[least] >= 4 * (1 - tol):
            break
        out = far[most] - 4 >= 4 - far[least]  # towards the farthest, or else away from the nearest
        j, drop = (most, -1.0) if out else (least, -weights[least] / (1 - weights[least]))
        step = (far[j] - 4) / (4 * (far[j] - 1)) if far[j] > 1 else drop
        step = max(step, drop)
        weights *= 1 - step
        weights[j] = max(0.0, weights[j] + step)
    centre = weights @ points
    away = points - centre
    size, turn = np.linalg.eigh(3 * (away.T @ (away * weights[:, None])))
    worst = ((away @ turn) ** 2 / size).sum(1).max()
    return centre, (turn * np.sqrt(size * worst)) @ turn.T


def barrier(p_s: np.ndarray, away: np.ndarray, inverse: np.ndarray, s_o: np.ndarray) -> tuple[np.ndarray, ...]:
    """h (...,) m = (-|S_o n| + away.n - 1) / |n| with n = S_e^-1 p_s: how far an obstacle lies behind the plane that
    touches the gripper's ellipsoid at p_s (...,3), unit; away (...,3): from its centre to the obstacle's. And the
    gradients (...,3) of h: by p_s, along the sphere, and by the gripper's centre (arXiv 2512.11891)."""
    n = p_s @ inverse
    reach = (s_o @ n[..., None])[..., 0]
    length, radius = np.linalg.norm(n, axis=-1, keepdims=True), np.linalg.norm(reach, axis=-1, keepdims=True)
    top = (away * n).sum(-1, keepdims=True) - radius - 1
    slope = (away - (s_o @ reach[..., None])[..., 0] / radius) / length - top * n / length**3
    slope = slope @ inverse
    slope = slope - (slope * p_s).sum(-1, keepdims=True) * p_s
    return (top / length)[..., 0], slope, -n / length


def _spiral(count: int) -> np.ndarray:
    """(count,3) directions, evenly over the sphere (Fibonacci's lattice)."""
    k = np.arange(count) + 0.5
    z, angle = 1 - 2 * k / count, k * np.pi * (1 + 5**0.5)
    return np.column_stack([np.sqrt(1 - z * z) * np.cos(angle), np.sqrt(1 - z * z) * np.sin(angle), z])


_STARTS, _BEST, _ROUNDS = _spiral(64), 6, 20


def separate(away: np.ndarray, s_e: np.ndarray, s_o: np.ndarray) -> tuple[np.ndarray, float]:
    """The virtual state p_s (3,) with the largest h, and that h (m): the distance between ellipsoids, negative where
    they overlap. Newton's ascent over the plane's normal v, of h = v.away - |S_o v| - |S_e v|, from several starts;
    where they are apart, h has no other maximum above 0."""
    both = np.stack([s_o @ s_o, s_e @ s_e])

    def look(v: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        w = np.einsum("kij,nj->nki", both, v)
        r = np.sqrt(np.einsum("nki,ni->nk", w, v))[..., None]
        h = v @ away - r.sum((1, 2))
        return (
            h,
            away - (w / r).sum(1),
            (both / r[..., None] - w[..., None] * w[..., None, :] / r[..., None] ** 3).sum(1),
        )

    v = np.concatenate([_STARTS, away[None] / max(float(np.linalg.norm(away)), 1e-12)])
    v = v[np.argsort(-look(v)[0], kind="stable")[:_BEST]]
    h, g, curved = look(v)
    pace = np.ones(len(v))
    for _ in range(_ROUNDS):
        along = np.eye(3) - v[:, :, None] * v[:, None, :]
        g = np.einsum("nij,nj->ni", along, g)
        damp = np.maximum(h, 1e-3)[:, None, None] * along + v[:, :, None] * v[:, None, :]
        step = np.linalg.solve(along @ curved @ along + damp, g[..., None])[..., 0]
        to = v + pace[:, None] * step
        to /= np.linalg.norm(to, axis=1, keepdims=True)
        h2, g2, curved2 = look(to)
        if np.abs(h2 - h).max() < 1e-13:
            break
        up = h2 >= h
        v, h, g = np.where(up[:, None], to, v), np.where(up, h2, h), np.where(up[:, None], g2, g)
        curved, pace = np.where(up[:, None, None], curved2, curved), np.where(up, np.minimum(1, 2 * pace), pace / 4)
    best = int(h.argmax())
    p_s = s_e @ v[best]
    return p_s / np.linalg.norm(p_s), float(h[best])


def nearest(x: np.ndarray, g: np.ndarray, b: np.ndarray) -> np.ndarray | None:
    """The point nearest to x (d,) with g y >= b, g (m,d); x itself where it does; None where none was found. Of one
    constraint x + g max(0, b - g.x) / |g|^2; of several by an active set over their multipliers (Lawson & Hanson 1974,
    ch. 23)."""
    force, held, y = np.zeros(len(b)), np.zeros(len(b), bool), x
    for _ in range(10 * len(b)):
        slack = g @ y - b
        if slack.min(initial=0.0) >= -TOLERANCE:
            return y
        new = int(np.where(held, np.inf, slack).argmin())
        if held[new] or slack[new] >= -TOLERANCE:  # what is held cannot be met together
            return None
        held[new] = True
        while (some := np.flatnonzero(held)).size:
            want = np.linalg.lstsq(g[some] @ g[some].T, b[some] - g[some] @ x, rcond=1e-12)[0]
            if (want > 0).all():
                break
            down, had = want <= 0, force[some]
            parts = had[down] / np.maximum(had[down] - want[down], 1e-300)
            force[some] = had + parts.min() * (want - had)
            held[some[down][parts <= parts.min()]] = False
            force[~held] = 0.0
        if not some.size:
            return None
        force[some] = want
        y = x + g.T @ force
    return None


def boxes(middles: np.ndarray, halves: np.ndarray, turns: np.ndarray) -> np.ndarray:
    """(n,3,4), S beside the centre, of the least ellipsoids round boxes: middles and half sizes (n,3) m, turns (n,3,3).
    Their semi-axes are sqrt(3) times the half sizes."""
    s = turns * (3**0.5 * halves)[:, None] @ np.swapaxes(turns, 1, 2)
    return np.concatenate([s, middles[..., None]], 2)


def largest(points: np.ndarray, drop: float = 0.2) -> np.ndarray:
    """Of points (n,3) seen of a thing those that are surely its: without the share `drop` that is farthest from their
    mean, the most that hang together, by voxels that touch."""
    away = np.linalg.norm(points - points.mean(0), axis=1)
    points = points[np.argsort(away, kind="stable")[: max(1, round(len(points) * (1 - drop)))]]
    cells, of = np.unique(np.floor(points / VOXEL).astype(np.int64), axis=0, return_inverse=True)
    touch = np.abs(cells[:, None] - cells[None]).max(2) <= 1
    group = np.arange(len(cells))
    while ((least := np.where(touch, group[None], len(cells)).min(1)) != group).any():
        group = least
    mine = group[of.ravel()]
    return points[mine == np.bincount(mine).argmax()]
