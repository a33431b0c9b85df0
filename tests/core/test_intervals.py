"""Intervals against published and closed-form values, and by how often they hold the truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mindhand.core.errors import BadData
from mindhand.core.intervals import above_chance, bootstrap, hierarchical, mcnemar, quotient, wilson


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),  # Newcombe 1998, Statistics in Medicine 17:857, table I, method 3
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (500, 500, 0.9924, 1.0),
        (43, 52, 0.7027, 0.9062),
    ],
)
def test_wilson_published(hits, n, low, high):
    found = wilson(hits, n)
    assert found.value == hits / n
    assert found.low == pytest.approx(low, abs=5e-5)
    assert found.high == pytest.approx(high, abs=5e-5)
    assert found.n == n


@given(st.integers(1, 2000), st.floats(0, 1))
def test_wilson_solves_its_equation(n, share):
    """The bounds are the p where |p - hits/n| is 1.96 standard errors of p."""
    hits = round(share * n)
    found = wilson(hits, n)
    for bound in (found.low, found.high):
        if 0 < bound < 1:
            assert abs(bound - hits / n) / math.sqrt(bound * (1 - bound) / n) == pytest.approx(1.959964, abs=1e-5)
    other = wilson(n - hits, n)
    assert (other.low, other.high) == pytest.approx((1 - found.high, 1 - found.low))


def test_wilson_covers_exactly_as_often_as_it_says():
    n = 50
    p = np.linspace(0.01, 0.99, 197)
    covered = np.zeros(len(p))
    for hits in range(n + 1):
        found = wilson(hits, n)
        covered += ((found.low <= p) & (p <= found.high)) * math.comb(n, hits) * p**hits * (1 - p) ** (n - hits)
    assert covered.mean() == pytest.approx(0.95, abs=0.005)
    assert covered.min() > 0.83


def test_bootstrap_of_a_mean_is_near_the_normal_interval():
    x = np.random.default_rng(0).normal(3.0, 2.0, size=400)
    found = bootstrap(x)
    half = 1.96 * x.std() / 20
    assert found.value == x.mean()
    assert found.low == pytest.approx(x.mean() - half, abs=0.02)
    assert found.high == pytest.approx(x.mean() + half, abs=0.02)
    assert bootstrap(x) == found


def test_bootstrap_of_a_median_ignores_an_outlier():
    x = np.array([*np.linspace(1.9, 2.1, 30), 1000.0])
    found = bootstrap(x, "median")
    assert 1.9 < found.low < found.value < found.high < 2.1
    assert bootstrap(x).high > 50


def test_bootstrap_covers():
    rng = np.random.default_rng(1)
    covered = [a.low <= 1.0 <= a.high for a in (bootstrap(rng.exponential(size=60)) for _ in range(300))]
    assert 0.89 < np.mean(covered) < 0.99


def test_memory_stays_small_and_blocks_are_not_repeated():
    x = np.random.default_rng(2).normal(size=3000)  # more than one block of draws
    found = bootstrap(x)
    assert found.high - found.low == pytest.approx(2 * 1.96 / math.sqrt(3000), rel=0.1)


def trainings(rng, k, spread, items=60):
    """k trainings whose true means differ by `spread`, around 0.2."""
    return [0.2 + rng.normal(0, spread) + rng.choice([-0.5, 0.5], size=items) for _ in range(k)]


def test_trainings_that_differ_widen_the_interval():
    rng = np.random.default_rng(3)
    covered = {"hierarchical": 0, "pooled": 0}
    for _ in range(120):
        x = trainings(rng, 5, spread=0.2)
        for name, found in (("hierarchical", hierarchical(x)), ("pooled", bootstrap(np.concatenate(x)))):
            covered[name] += found.low <= 0.2 <= found.high
    assert covered["hierarchical"] > 0.84 * 120
    assert covered["pooled"] < 0.6 * 120  # what it would be if episodes of one training counted as independent


def test_trainings_that_agree_keep_the_interval():
    rng = np.random.default_rng(4)
    covered = [a.low <= 0.2 <= a.high for a in (hierarchical(trainings(rng, 3, 0.0)) for _ in range(120))]
    assert np.mean(covered) > 0.92
    x = trainings(rng, 3, 0.0, items=400)
    assert hierarchical(x).high - hierarchical(x).low < 2 * (bootstrap(np.concatenate(x)).high - np.mean(x)) * 2


def test_the_same_scenes_in_every_training_are_counted_once():
    rng = np.random.default_rng(6)
    covered = {True: 0, False: 0}
    for _ in range(150):
        scene = rng.random(60) < 0.3  # the method helps in three scenes of ten, whatever the training
        x = [scene + rng.normal(0, 0.1, size=60) for _ in range(4)]
        for same in covered:
            found = hierarchical(x, same_items=same)
            covered[same] += found.low <= 0.3 <= found.high
    assert covered[True] > 0.9 * 150
    assert covered[False] < 0.85 * 150


def test_hierarchical_by_hand():
    # Two trainings without any spread of their own: means 0 and 1, drawn (0,0), (0,1), (1,0), (1,1)
    found = hierarchical([np.zeros(5), np.ones(9)])
    assert found.value == 0.5  # trainings weigh alike, whatever their size
    assert found.n == 14
    assert (found.low, found.high) == pytest.approx((0.5 - math.sqrt(0.5), 0.5 + math.sqrt(0.5)))
    found = hierarchical([np.zeros(5), np.ones(5)], same_items=True)
    assert (found.low, found.high) == pytest.approx((0.5 - math.sqrt(0.5), 0.5 + math.sqrt(0.5)))
    one = np.random.default_rng(5).normal(size=20)
    assert hierarchical([one]) == bootstrap(one)


@pytest.mark.parametrize(
    ("a", "b", "p"), [(10, 2, 0.038574), (2, 10, 0.038574), (5, 5, 1.0), (0, 0, 1.0), (0, 6, 0.03125), (1, 0, 1.0)]
)
def test_mcnemar(a, b, p):
    assert mcnemar(a, b) == pytest.approx(p, abs=1e-6)


def test_mcnemar_of_many_pairs():
    # the normal approximation with continuity correction
    z = (abs(1300 - 1200) - 1) / math.sqrt(2500)
    assert mcnemar(1300, 1200) == pytest.approx(math.erfc(z / math.sqrt(2)), rel=0.01)


def test_above_chance():
    found = above_chance(wilson(43, 52), 0.25)
    assert found.value == pytest.approx((43 / 52 - 0.25) / 0.75)
    assert found.low == pytest.approx((wilson(43, 52).low - 0.25) / 0.75)
    assert above_chance(wilson(18, 52), 0.25).low < 0 < above_chance(wilson(22, 52), 0.25).low


@pytest.mark.parametrize(
    "make",
    [
        lambda: wilson(0, 0),
        lambda: wilson(3, 2),
        lambda: wilson(-1, 2),
        lambda: bootstrap([]),
        lambda: bootstrap([1.0, float("nan")]),
        lambda: bootstrap(np.zeros((2, 2))),
        lambda: bootstrap([1.0], "mode"),
        lambda: hierarchical([]),
        lambda: hierarchical([[1.0], []]),
        lambda: hierarchical([[1.0], [1.0, 2.0]], same_items=True),
        lambda: mcnemar(-1, 2),
        lambda: above_chance(wilson(1, 2), 1.0),
    ],
)
def test_what_has_no_interval_is_refused(make):
    with pytest.raises(BadData):
        make()


def test_a_quotient_covers_and_shared_luck_cancels():
    rng, inside = np.random.default_rng(3), 0
    for _ in range(100):
        hard = rng.random(150) < 0.7
        below = (rng.random((4, 150)) < 0.9) & hard
        above = (rng.random((4, 150)) < 0.8) & below
        found = quotient(above, below)
        inside += found.low <= 0.8 <= found.high
    assert inside >= 88
    same = quotient(below, below)
    assert same.value == pytest.approx(1.0) and same.low == pytest.approx(1.0) and same.high == pytest.approx(1.0)


def test_a_quotient_refuses_what_cannot_be_divided():
    with pytest.raises(BadData, match="pair them"):
        quotient(np.ones((2, 3)), np.ones((2, 4)))
    with pytest.raises(BadData, match="above 0"):
        quotient(np.ones((2, 3)), np.zeros((2, 3)))
