"""Intervals: how much a measured number can be trusted. numpy only; every draw is a function of the data's size.

All intervals are two-sided 95 %. A rate gets Wilson's interval; a mean, a median or anything measured over
several trainings gets a percentile bootstrap. What varies most decides the interval: episodes of one training
say nothing about the next training, so trainings are resampled before their episodes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from .errors import BadData
from .keys import Keys

Z95 = 1.959963984540054  # the 97.5 % quantile of the standard normal
DRAWS = 2000


@dataclass(frozen=True)
class Interval:
    """value with its 95 % interval [low, high] from n items (rows, pairs); `method` says how."""

    value: float
    low: float
    high: float
    n: int
    method: str


def _vector(values: Sequence[float] | np.ndarray) -> np.ndarray:
    x = np.asarray(values, np.float64)
    if x.ndim != 1 or not len(x) or not np.isfinite(x).all():
        raise BadData(
            f"values of shape {x.shape}, {int((~np.isfinite(x)).sum())} of them not finite",
            "one finite number an item and at least one item",
            "find the item that was not measured; nothing is dropped in silence",
        )
    return x


def wilson(hits: int, n: int) -> Interval:
    """The score interval of a binomial proportion (Wilson 1927, JASA 22:209):
    centre (p + z^2/2n) / (1 + z^2/n), half width z sqrt(p(1-p)/n + z^2/4n^2) / (1 + z^2/n)."""
    if not (0 <= hits <= n and n > 0):
        raise BadData(f"{hits} successes of {n}", "0 <= successes <= n and n > 0", "count the rows again")
    p, z2 = hits / n, Z95**2
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    # At p = 0 and p = 1 the bound is exact; rounding would put it a bit inside.
    low = 0.0 if hits == 0 else max(0.0, centre - half)
    return Interval(p, low, 1.0 if hits == n else min(1.0, centre + half), n, "wilson")


def _resampled(x: np.ndarray, statistic: str, keys: Keys, count: int = DRAWS) -> np.ndarray:
    """`count` values of the statistic on resamples of `x`, in blocks so that memory stays small."""
    block = max(1, 2**20 // len(x))
    reduce = np.mean if statistic == "mean" else np.median
    out = [
        reduce(x[keys.fold("block", begin).integers(len(x), min(block, count - begin), len(x))[0]], axis=-1)
        for begin in range(0, count, block)
    ]
    return np.concatenate(out) if out else np.empty(0)


def _percentile(value: float, draws: np.ndarray, n: int, method: str) -> Interval:
    low, high = np.quantile(draws, (0.025, 0.975))
    return Interval(float(value), float(min(low, value)), float(max(high, value)), n, method)


def bootstrap(values: Sequence[float] | np.ndarray, statistic: str = "mean") -> Interval:
    """Percentile bootstrap (Efron 1979, Ann. Stat. 7:1) of the "mean" or the "median" of independent items."""
    x = _vector(values)
    if statistic not in ("mean", "median"):
        raise BadData(f"statistic '{statistic}'", "'mean' or 'median'", "choose one")
    draws = _resampled(x, statistic, Keys.seeded(1, "bootstrap", statistic, len(x)))
    value = x.mean() if statistic == "mean" else np.median(x)
    return _percentile(value, draws, len(x), "bootstrap")


def hierarchical(groups: Sequence[Sequence[float] | np.ndarray], *, same_items: bool = False) -> Interval:
    """The mean over trainings of each training's mean; `groups` holds one vector a training.

    Resamples trainings, then items (Davison and Hinkley 1997, section 3.8): the items of every training drawn,
    or, where all trainings were tested on the same items in the same order (`same_items`), the items' means over
    trainings. Counting one hard scene met by three trainings as three scenes would make the interval too narrow
    (Owen 2007, Ann. Appl. Stat. 1:386). Deviations between trainings are scaled by sqrt(k / (k - 1)): k resampled
    trainings vary too little by that factor.

    With few trainings that differ much the interval still covers less than it says. Measured, nominal 95 %, 200
    paired items, trainings that differ by a standard deviation of 0, 3, 6, 10 points: 98, 96, 91, 87 % with 3
    trainings, 99, 99, 96, 95 % with 10. One training gives a plain bootstrap.
    """
    x = [_vector(g) for g in groups]
    if not x or (same_items and len({len(g) for g in x}) > 1):
        raise BadData(
            f"trainings of {[len(g) for g in x]} items", "at least one; one length if the same items", "check"
        )
    if len(x) == 1:
        return bootstrap(x[0])
    k, total = len(x), sum(map(len, x))
    means = np.array([g.mean() for g in x])
    value = means.mean()
    keys = Keys.seeded(1, "hierarchical", k, total)
    pick = keys.fold("trainings").integers(k, DRAWS, k)[0]
    draws = value + math.sqrt(k / (k - 1)) * (means[pick].mean(1) - value)
    if same_items:
        draws += _resampled(np.mean(x, 0), "mean", keys.fold("items")) - value
    else:
        # Every training drawn brings items of its own: as many resampled means as it was drawn.
        for j, g in enumerate(x):
            drawn = (pick == j).sum(1)
            within = _resampled(g, "mean", keys.fold("items", j), int(drawn.sum())) - means[j]
            np.add.at(draws, np.repeat(np.arange(DRAWS), drawn), within / k)
    return _percentile(value, draws, total, "hierarchical")


def quotient(above: np.ndarray, *below: np.ndarray) -> Interval:
    """The mean of `above` over the product of the means of `below`, each (k,n): k trainings on the same n items.

    Items and trainings are resampled together, above and below alike, so that what both share cancels; trainings'
    deviations are scaled as in `hierarchical`. Where all of the product may be zero, so may the quotient be anything:
    BadData for a mean that is not positive, and what is drawn below is kept above a hundredth of its mean.
    """
    x = [np.asarray(m, np.float64) for m in (above, *below)]
    if len(x) < 2 or x[0].ndim != 2 or not x[0].size or len({m.shape for m in x}) > 1:
        raise BadData(f"matrices {[m.shape for m in x]}", "(trainings, items), at least two, all alike", "pair them")
    k, n = x[0].shape
    under = float(np.prod([m.mean() for m in x[1:]]))
    if not all(np.isfinite(m).all() for m in x) or min(float(m.mean()) for m in x[1:]) <= 0:
        raise BadData(f"a quotient over means {[float(m.mean()) for m in x[1:]]}", "above 0", "leave it out")
    keys = Keys.seeded(1, "quotient", k, n)
    items = np.stack([np.bincount(i, minlength=n) for i in keys.fold("items").integers(n, DRAWS, n)[0]]) / n
    trainings = np.stack([np.bincount(i, minlength=k) for i in keys.fold("trainings").integers(k, DRAWS, k)[0]]) / k
    wider = math.sqrt(k / (k - 1)) if k > 1 else 1.0

    def drawn(m: np.ndarray) -> np.ndarray:
        return items @ m.mean(0) + wider * (trainings @ m.mean(1) - m.mean())

    low = np.maximum(np.prod([drawn(m) for m in x[1:]], axis=0), under / 100)
    return _percentile(float(x[0].mean()) / under, drawn(x[0]) / low, x[0].size, "bootstrap of a quotient")


def mcnemar(only_a: int, only_b: int) -> float:
    """Exact two-sided p value of McNemar's test (1947, Psychometrika 12:153) from the discordant pairs: items
    that only A and only B solved. Binomial(a + b, 1/2), doubled tail. Within ONE training only: the pairs of
    several trainings are not independent."""
    if only_a < 0 or only_b < 0:
        raise BadData(f"{only_a} and {only_b} discordant pairs", "counts", "count the pairs again")
    n = only_a + only_b
    tail = sum(math.comb(n, i) for i in range(min(only_a, only_b) + 1))
    return min(1.0, 2 * tail / 2**n)


def above_chance(interval: Interval, chance: float) -> Interval:
    """The interval on the scale where chance is 0 and perfection 1: (p - c) / (1 - c), Abbott's correction
    (1925). It beats chance exactly where the returned `low` is above 0."""
    if not 0 <= chance < 1:
        raise BadData(f"chance {chance}", "0 <= chance < 1", "give the rate of a guesser, 1/k for k choices")

    def scale(p: float) -> float:
        return (p - chance) / (1 - chance)

    return replace(interval, value=scale(interval.value), low=scale(interval.low), high=scale(interval.high))
