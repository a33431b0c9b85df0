"""Functional conformal prediction: a limit over time that only few curves like the calibrated ones ever exceed.

One-sided and varying in time (Diquigiovanni, Fontana and Vantini 2022, J. Multivariate Anal. 189:104879; as
2506.09937 uses it). If a new curve and the calibrated ones are exchangeable, it exceeds the limit anywhere with a
probability of at most alpha, over the draw of all of them, whatever makes the curves; not so for curves of another
policy, other tasks or another length of an episode.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from mindhand.core.errors import BadData

NARROWEST = 0.01  # of the largest width: where all curves are alike, one that differs by a rounding decides nothing


def held(curves: Sequence[np.ndarray], length: int) -> np.ndarray:
    """float64 (n,length) of curves (T,), each going on with its last value. BadData for an empty or a longer one."""
    out = np.empty((len(curves), length))
    for line, x in zip(out, curves):
        if not 0 < len(x) <= length:
            raise BadData(f"a curve of {len(x)} steps in {length}", "1 at least, and no more", "give a larger length")
        line[: len(x)], line[len(x) :] = x, x[-1]
    return out


def quantile(values: np.ndarray, alpha: float) -> float:
    """The ceil((n + 1)(1 - alpha))-th smallest of n values, +inf where there are not so many: one more value that is
    exchangeable with them is larger with a probability of at most alpha. The plain quantile is too small."""
    if not 0 < alpha < 1:
        raise BadData(f"alpha {alpha}", "a share of false alarms between 0 and 1", "0.2?")
    which = math.ceil((len(values) + 1) * (1 - alpha) - 1e-9)
    return float(np.sort(values)[which - 1]) if which <= len(values) else math.inf


def enough(alpha: float) -> int:
    """How many curves `upper` needs for a limit that is finite."""
    return max(2, 2 * math.ceil((1 - alpha) / alpha - 1e-9) - 1)


def upper(curves: np.ndarray, alpha: float) -> np.ndarray:
    """The limit (T,) of curves (n,T), in an order that is no matter of what they are: mu + q w.

    Of the first half mu is the mean and w the largest distance from it, of those curves alone whose own largest
    distance is within the (1 - alpha) quantile; q is that quantile of max_t (s - mu) / w over the second half."""
    if curves.ndim != 2 or len(curves) < 2 or not curves.size or not np.isfinite(curves).all():
        raise BadData(f"curves {curves.shape}", "two at least, (n,T), of finite numbers", "calibrate on more episodes")
    first, second = np.split(curves, [len(curves) // 2])
    mu = first.mean(0)
    off = np.abs(first - mu)
    inner = off[off.max(1) <= quantile(off.max(1), alpha)]
    w = inner.max(0)
    w = np.maximum(w, max(NARROWEST * float(w.max()), 1e-12))
    return mu + quantile(((second - mu) / w).max(1), alpha) * w
