"""How far boxes are apart, exactly. MuJoCo's own `mj_geomDistance` says 0 for one pair of separate boxes in thirty.

The shortest line between two boxes begins or ends in a corner, or joins two edges between their ends.
"""

from __future__ import annotations

import numpy as np

_CORNERS = np.array([(a, b, c) for a in (-1, 1) for b in (-1, 1) for c in (-1, 1)], float)
_EDGES = np.concatenate([_CORNERS[_CORNERS[:, k] > 0] * (np.arange(3) != k) for k in range(3)])  # their middles
_OF = np.repeat(np.arange(3), 4)  # and directions
Boxes = tuple[np.ndarray, np.ndarray, np.ndarray]


def box_gaps(a: Boxes, b: Boxes) -> np.ndarray:
    """(k,): between the boxes of k pairs, each side as middles (k,3), turns (k,3,3) with the axes as columns, and half
    sizes (k,3), which may be 0. Boxes that overlap get something small, not always 0."""
    (p, r, f), (q, s, g) = a, b
    turn = r.swapaxes(1, 2) @ s  # of the second in the first one's frame, where all of this is
    at = (q - p)[:, None] @ r
    back = turn.swapaxes(1, 2)
    f, g = f[:, None], g[:, None]
    theirs = at + (_CORNERS * g) @ back
    mine = (_CORNERS * f - at) @ turn
    near = [np.maximum(np.abs(x) - h, 0) for x, h in ((theirs, f), (mine, g))]
    best = (np.concatenate(near, 1) ** 2).sum(2).min(1)

    w = (_EDGES * f)[:, :, None] - (at + (_EDGES * g) @ back)[:, None]  # (k,12,12,3)
    both = turn[:, _OF[:, None], _OF]
    along = np.take_along_axis(w, _OF[None, :, None, None], 3)[..., 0]
    v = back[:, _OF][:, None]  # (k,1,12,3)
    across = (v * w).sum(3)
    slack = np.maximum(1 - both**2, 1e-12)
    m, n = (both * across - along) / slack, (across - both * along) / slack
    inside = (np.abs(m) <= f[:, 0][:, _OF, None]) & (np.abs(n) <= g[:, 0][:, None, _OF])
    # The part of w across both edges: what is left of it.
    far = (w * w).sum(3) + m * along - n * across
    return np.sqrt(np.maximum(np.minimum(best, np.where(inside, far, np.inf).min((1, 2))), 0))
