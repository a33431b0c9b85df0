"""The statistics LeRobot keeps beside a dataset: per episode in the episodes table, over all in stats.json.

They serve other tools. What mindhand trains with is `data/statistics.py`, exact and kept in the checkpoint: over
several episodes LeRobot's quantiles are count-weighted means of the episodes' quantiles, not quantiles.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
NAMES = ("min", "max", "mean", "std", "count", *QUANTILES)
PICTURES = 32  # at most so many pictures of an episode are looked at

Stat = dict[str, Any]  # one feature's numbers by name, as nested lists


def of_vector(x: np.ndarray) -> Stat:
    """x (T,) or (T,n): lists of n numbers, population standard deviation, count [T]."""
    x = np.asarray(x, np.float64).reshape(len(x), -1)
    numbers = {"min": x.min(0), "max": x.max(0), "mean": x.mean(0), "std": x.std(0)}
    numbers |= {name: np.quantile(x, q, axis=0) for name, q in QUANTILES.items()}
    return {name: value.tolist() for name, value in numbers.items()} | {"count": [len(x)]}


def of_pictures(x: np.ndarray) -> Stat:
    """x uint8 (T,h,w,3): nested lists (3,1,1) in [0,1] over up to 32 evenly spaced pictures, count the pictures."""
    picked = x[np.unique(np.linspace(0, len(x) - 1, PICTURES).astype(int))]
    out: dict[str, list[float]] = {name: [] for name in NAMES if name != "count"}
    levels = np.arange(256) / 255.0
    for channel in range(3):
        histogram = np.bincount(picked[..., channel].reshape(-1), minlength=256)
        total, seen = histogram.sum(), np.flatnonzero(histogram)
        mean = float((levels * histogram).sum() / total)
        numbers = {
            "min": levels[seen[0]],
            "max": levels[seen[-1]],
            "mean": mean,
            "std": float(np.sqrt(((levels - mean) ** 2 * histogram).sum() / total)),
        }
        cumulative = histogram.cumsum()
        numbers |= {name: levels[np.searchsorted(cumulative, q * total)] for name, q in QUANTILES.items()}
        for name, value in numbers.items():
            out[name].append(float(value))
    return {name: [[[v]] for v in values] for name, values in out.items()} | {"count": [len(picked)]}


def combine(stats: Sequence[Mapping[str, Any]]) -> Stat:
    """One feature's statistics over several episodes, in LeRobot's convention."""
    count = np.array([s["count"][0] for s in stats], np.float64)
    values = {name: np.array([s[name] for s in stats], np.float64) for name in NAMES if name != "count"}
    share = (count / count.sum()).reshape(-1, *[1] * (values["mean"].ndim - 1))
    mean = (share * values["mean"]).sum(0)
    variance = (share * (values["std"] ** 2 + (values["mean"] - mean) ** 2)).sum(0)
    out = {"min": values["min"].min(0), "max": values["max"].max(0), "mean": mean, "std": np.sqrt(variance)}
    out |= {name: (share * values[name]).sum(0) for name in QUANTILES}
    return {name: value.tolist() for name, value in out.items()} | {"count": [int(count.sum())]}
