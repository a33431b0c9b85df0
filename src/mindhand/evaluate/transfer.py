"""Transfer efficiency: how much of what a mind knows and a hand can do becomes a deed.

    TE = S / (A T)
S: success. A: the share of the same scenes that the VLM, before any robot's data, gets right. T: success when the right
thought is given at every query. 1: all of what is known arrives; below: it is lost on the way; above: tuning added
knowledge, or the hand gets by without.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mindhand.core.errors import BadData
from mindhand.core.intervals import Interval, quotient

LEAST = 0.05  # of A and of T: what is hardly ever known, or hardly ever done, cannot be a yardstick


def transfer(success: Sequence[np.ndarray], told: Sequence[np.ndarray], known: np.ndarray) -> Interval | None:
    """TE with a 95 % interval; None where A or T is below `LEAST`. success, told: one vector (n,) a training, in the
    same order; known (n,): all of them on the same scenes. Trainings and scenes are resampled together, numerator and
    denominator alike."""
    s, t, a = (np.asarray(x, np.float64) for x in (success, told, known))
    if s.ndim != 2 or s.shape != t.shape or a.shape != s.shape[1:] or not s.size:
        raise BadData(
            f"success {s.shape}, told {t.shape}, known {a.shape}",
            "(trainings, scenes) twice, and (scenes,)",
            "pair them",
        )
    if min(a.mean(), t.mean()) < LEAST:
        return None
    return quotient(s, np.broadcast_to(a, s.shape), t)
