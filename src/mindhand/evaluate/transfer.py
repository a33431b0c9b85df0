"""Transfer efficiency: how much of what a mind knows and a hand can do becomes a deed.

    TE = S / (A T)
S: success. A: the share of the same scenes that the VLM, before any robot's data, gets right. T: success when the right
thought is given at every query. 1: all of what is known arrives; below: it is lost on the way; above: tuning added
knowledge, or the hand gets by without.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from mindhand.core.errors import BadData
from mindhand.core.intervals import DRAWS, Interval
from mindhand.core.keys import Keys

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
    k, n = s.shape
    keys = Keys.seeded(1, "transfer", k, n)
    scenes = np.stack([np.bincount(i, minlength=n) for i in keys.fold("scenes").integers(n, DRAWS, n)[0]]) / n
    trainings = np.stack([np.bincount(i, minlength=k) for i in keys.fold("trainings").integers(k, DRAWS, k)[0]]) / k
    wider = math.sqrt(k / (k - 1)) if k > 1 else 1.0  # as `intervals.hierarchical`

    def drawn(x: np.ndarray) -> np.ndarray:
        by_scene = scenes @ x.mean(0)
        return by_scene + wider * (trainings @ x.mean(1) - x.mean())

    below = np.maximum((scenes @ a) * drawn(t), LEAST**2)
    value = float(s.mean() / (a.mean() * t.mean()))
    low, high = np.quantile(np.maximum(drawn(s), 0.0) / below, (0.025, 0.975))
    return Interval(value, float(min(low, value)), float(max(high, value)), s.size, "bootstrap of a ratio")
