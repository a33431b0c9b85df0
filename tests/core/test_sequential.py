"""Verdicts at any look: bets are fair exactly, errors hold however often one looks, planned episodes suffice."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mindhand.core.errors import BadData
from mindhand.core.intervals import mcnemar
from mindhand.core.keys import Keys
from mindhand.core.sequential import (
    LEVEL,
    _log_rate,
    against,
    anytime_difference,
    anytime_rate,
    discordance,
    log_evidence,
    log_wealth,
    paired,
    required,
    simulate,
    simulated_pairs,
)
from mindhand.recipes.bench_evaluate import publish_sequential, repeated_mcnemar

counts = st.integers(0, 150)
differences = st.floats(-0.95, 0.95)


def wealth(difference: float, a: int, b: int, n: int) -> float:
    return math.exp(float(log_wealth(difference, np.array(a), np.array(b), np.array(n))))


@pytest.mark.parametrize(
    ("a", "b", "value"), [(0, 0, 1), (1, 0, 1), (6, 0, 64 / 7), (5, 5, 1024 / 2772), (7, 3, 1024 / (11 * 120))]
)
def test_evidence_by_hand(a, b, value):
    assert math.exp(log_evidence(a, b)) == pytest.approx(value)
    assert math.exp(log_evidence(b, a)) == pytest.approx(value)


@given(counts, counts)
def test_a_fair_pair_changes_no_evidence_on_average(a, b):
    """The martingale itself: so the wealth reaches 1/level with probability `level` at most, at any time."""
    after = (np.exp(log_evidence(a + 1, b)) + np.exp(log_evidence(a, b + 1))) / 2
    assert after == pytest.approx(float(np.exp(log_evidence(a, b))), rel=1e-9)


@given(counts, counts, counts, differences, st.floats(0, 1))
def test_a_pair_with_that_difference_changes_no_wealth_on_average(a, b, same, difference, share):
    share = abs(difference) + share * (1 - abs(difference))
    n = a + b + same
    chances = {"a": (share + difference) / 2, "b": (share - difference) / 2, "same": 1 - share}
    after = (
        chances["a"] * wealth(difference, a + 1, b, n + 1)
        + chances["b"] * wealth(difference, a, b + 1, n + 1)
        + chances["same"] * wealth(difference, a, b, n + 1)
    )
    assert after == pytest.approx(wealth(difference, a, b, n), rel=1e-9)
    assert wealth(difference, 0, 0, 0) == pytest.approx(1)


@given(counts, counts, counts)
def test_at_no_difference_wealth_is_the_evidence(a, b, same):
    assert math.log(wealth(0.0, a, b, a + b + same)) == pytest.approx(float(log_evidence(a, b)), abs=1e-8)


@given(counts, counts, counts)
@settings(max_examples=40)
def test_the_interval_is_what_is_not_refuted(a, b, same):
    n = max(1, a + b + same)
    found = anytime_difference(a, b, n)
    assert -1 <= found.low <= found.value == (a - b) / n <= found.high <= 1
    for x in np.linspace(-0.99, 0.99, 23):
        if min(abs(x - found.low), abs(x - found.high)) > 1e-6:
            log = log_wealth(float(x), np.array(a), np.array(b), np.array(n))
            assert (found.low < x < found.high) == (log < -math.log(LEVEL))
    assert (found.low > 0 or found.high < 0) == (log_evidence(a, b) >= -math.log(LEVEL))
    other = anytime_difference(b, a, n)
    assert (-other.high, -other.low) == pytest.approx((found.low, found.high), abs=1e-9)


def test_looking_after_every_pair_errs_as_rarely_as_it_says():
    rows = simulate(20_000, 0.5, 0.5, pairs=1000)
    assert 0.02 < np.mean([r["rejected"] for r in rows]) <= LEVEL
    # and what is in common use does not: the same looks with a test made for one look
    assert np.mean([r["rejected"] for r in repeated_mcnemar(2000, 1000)]) > 5 * LEVEL


@pytest.mark.parametrize(("rate", "correlation"), [(0.9, 0.0), (0.5, 0.8), (0.5, -1.0), (0.02, 0.0)])
def test_it_errs_rarely_at_any_rate_and_correlation(rate, correlation):
    rows = simulate(4000, rate, rate, correlation=correlation, pairs=500)
    assert np.mean([r["rejected"] for r in rows]) <= LEVEL


@pytest.mark.parametrize(("a", "b", "correlation"), [(0.6, 0.5, 0.3), (0.95, 0.9, 0.5)])
def test_the_truth_stays_inside_at_all_looks_together(a, b, correlation):
    only_a, only_b = (
        x.cumsum(1)[:, 9::10] for x in simulated_pairs(Keys.seeded(1500, "cover"), a, b, correlation, 400)
    )
    seen = np.arange(10, 401, 10)
    ever_out = (log_wealth(a - b, only_a, only_b, seen) >= -math.log(LEVEL)).any(1)
    assert ever_out.mean() <= LEVEL
    # one look's interval of fixed size does not hold at all looks
    d = (only_a - only_b) / seen
    half = 1.96 * np.sqrt(np.maximum((only_a + only_b) / seen - d * d, 1e-9) / seen)
    assert (abs(d - (a - b)) > half).any(1).mean() > 3 * LEVEL


def test_alike_is_said_of_what_is_alike_alone():
    near = Counter(r["verdict"] for r in simulate(300, 0.8, 0.8, correlation=0.95, pairs=1000, every=20, margin=0.05))
    assert near["alike"] > 0.9 * 300
    edge = Counter(r["verdict"] for r in simulate(1000, 0.55, 0.45, correlation=0.6, every=20, margin=0.1))
    assert edge["alike"] + edge["B"] <= LEVEL * 1000
    assert not Counter(r["verdict"] for r in simulate(200, 0.5, 0.5, correlation=0.95, pairs=300))["alike"]


def test_a_real_difference_is_found_sooner_than_by_a_test_planned_for_a_smaller_one():
    rows = simulate(2000, 0.6, 0.4)
    used = np.array([r["pairs"] for r in rows])
    assert all(r["verdict"] in ("A", "B") for r in rows)
    assert np.mean([r["verdict"] == "A" for r in rows]) > 1 - LEVEL
    assert used.mean() < 0.75 * required(0.6, 0.4, correlation=0.0, power=0.95)
    assert used.mean() < 0.35 * required(0.55, 0.45, correlation=0.0)
    assert used.mean() > required(0.6, 0.4, correlation=0.0)  # a fixed test of power .8 is smaller than that mean


def test_simulated_pairs_have_the_rates_and_the_correlation():
    a, b = simulated_pairs(Keys.seeded(200, "rates"), 0.7, 0.5, 0.4, 500)
    assert not (a & b).any()
    assert (a.mean() - b.mean(), (a | b).mean()) == pytest.approx((0.2, discordance(0.7, 0.5, 0.4)), abs=0.01)


@pytest.mark.parametrize("every", [1, 7])
def test_the_verdict_of_a_run_is_the_simulation_s(every):
    rows = simulate(40, 0.6, 0.45, pairs=120, every=every, margin=0.35, seed=3)
    only_a, only_b = simulated_pairs(Keys.seeded(40, "sequential", 3), 0.6, 0.45, 0.0, 120)
    for row, a, b in zip(rows, only_a, only_b):
        found = paired(a, b, every=every, margin=0.35)
        assert found.word == row["verdict"]
        assert (found.decided or 120) == row["pairs"]
    assert len({r["verdict"] for r in rows}) > 2


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=120), st.integers(1, 9))
@settings(max_examples=20)
def test_what_was_decided_stays_and_sides_are_alike(pairs, every):
    a, b = np.array(pairs).T
    whole, swapped = paired(a, b, margin=0.2), paired(b, a, margin=0.2)
    assert swapped.word == {"A": "B", "B": "A"}.get(whole.word, whole.word)
    assert (whole.decided is None) == (whole.word == "undecided")
    if whole.decided:
        assert paired(a[: whole.decided], b[: whole.decided], margin=0.2).word == whole.word
        assert whole.decided == 1 or paired(a[: whole.decided - 1], b[: whole.decided - 1], margin=0.2).decided is None
    assert whole.p <= min(1, 1 / whole.evidence) + 1e-12
    assert paired(a, b, every=every).p >= paired(a, b).p


def test_order_matters_and_a_late_change_does_not_take_a_verdict_back():
    a = np.array([True] * 20 + [False] * 20)
    found = paired(a, ~a)
    assert (found.word, found.decided, found.p < 0.001, round(found.evidence, 3) < 1) == ("A", 8, True, True)
    assert found.interval.low < 0 < found.interval.high
    assert paired([True, False] * 20, [False, True] * 20).word == "undecided"


@given(st.integers(0, 200), st.integers(0, 200), st.floats(0.05, 0.95))
def test_a_rate_at_the_bar_changes_no_evidence_on_average(hits, misses, bar):
    def evidence(h: int, m: int) -> float:
        return float(_log_rate(np.array(h), np.array(h + m))) - h * math.log(bar) - m * math.log1p(-bar)

    after = bar * math.exp(evidence(hits + 1, misses)) + (1 - bar) * math.exp(evidence(hits, misses + 1))
    assert after == pytest.approx(math.exp(evidence(hits, misses)), rel=1e-9)
    if hits + misses:
        found = anytime_rate(hits, hits + misses)
        assert 0 <= found.low <= found.value <= found.high <= 1
        if min(abs(bar - found.low), abs(bar - found.high)) > 1e-9:
            assert (found.low < bar < found.high) == (math.exp(evidence(hits, misses)) < 1 / LEVEL)


def test_a_bar_is_passed_wrongly_as_rarely_as_it_says():
    draws = Keys.seeded(400, "bar").uniform(300)
    found = Counter(against(u < 0.7, 0.7).word for u in draws)
    assert found["above"] + found["below"] <= LEVEL * 400
    found = Counter(against(u < 0.7, 0.5).word for u in draws)
    assert found["above"] > 0.95 * 400
    assert against(draws[0] < 0.7, 0.9).word == "below"


def test_the_published_number_of_episodes():
    """392 an arm for 10 points around one half with 80 % power."""
    assert required(0.55, 0.45) == required(0.45, 0.55) == 392
    assert required(0.6, 0.4) == 97  # Fleiss, Levin and Paik's formula by hand: (1.3859 + .8416 * .6928)^2 / .04 = 96.9
    assert required(0.55, 0.45, power=0.95) > required(0.55, 0.45, power=0.9) > 392


def power(share: float, d: float, n: int) -> float:
    """Of McNemar's exact test on n pairs, by adding up all outcomes."""
    wins, out = (1 + d / share) / 2, 0.0
    for m in range(n + 1):
        chance = math.comb(n, m) * share**m * (1 - share) ** (n - m)
        if chance > 1e-9:
            most = next((k for k in range(m // 2, -1, -1) if mcnemar(k, m - k) <= LEVEL), -1)
            out += chance * sum(
                math.comb(m, k) * (wins ** (m - k) * (1 - wins) ** k + wins**k * (1 - wins) ** (m - k))
                for k in range(most + 1)
            )
    return out


@pytest.mark.parametrize(
    ("a", "b", "share"), [(0.6, 0.4, 0.52), (0.8, 0.6, 0.3), (0.95, 0.75, 0.2), (0.7, 0.4, 0.5), (0.75, 0.25, 1.0)]
)
def test_the_exact_test_on_that_many_pairs_has_the_power(a, b, share):
    n = required(a, b, discordant=share)
    assert 0.77 <= power(share, abs(a - b), n) <= 0.88
    assert power(share, abs(a - b), n // 2) < 0.65


def test_the_power_by_simulation():
    for correlation in (0.0, 0.5):
        n = required(0.6, 0.45, correlation=correlation)
        a, b = (x.sum(1) for x in simulated_pairs(Keys.seeded(2000, "power"), 0.6, 0.45, correlation, n))
        tests = {pair: mcnemar(*pair) for pair in set(zip(a.tolist(), b.tolist()))}
        found = np.mean([tests[pair] <= LEVEL for pair in zip(a.tolist(), b.tolist())])
        assert 0.76 < found < 0.85
    n = required(0.6, 0.45)
    x, y = ((Keys.seeded(4000, side).uniform(n) < rate).mean(1) for side, rate in (("a", 0.6), ("b", 0.45)))
    pooled = (x + y) / 2
    found = np.mean(abs(x - y) / np.sqrt(2 * pooled * (1 - pooled) / n) > 1.959964)
    assert 0.78 < found < 0.83


def test_agreement_saves_pairs_and_too_few_never_suffice():
    needed = [required(0.6, 0.5, correlation=c) for c in (-0.5, 0.0, 0.4, 0.8)]
    assert needed == sorted(needed, reverse=True)
    assert required(0.6, 0.5) == pytest.approx(required(0.6, 0.5, correlation=0.0), rel=0.05)
    assert required(1.0, 0.0, discordant=1.0) == 6
    assert mcnemar(6, 0) <= LEVEL < mcnemar(5, 0)


def test_the_bench_writes_records(tmp_path):
    records = {r.name: r for r in publish_sequential(tmp_path, comparisons=200, pairs=300)}
    assert records["evaluate/sequential_false_positive_rate/any_look"].high < 0.1
    assert records["evaluate/sequential_false_positive_rate/repeated_mcnemar"].low > 0.1
    pairs = records["evaluate/sequential_pairs/20_points"]
    assert (pairs.unit, pairs.kind) == ("pairs", "mean")
    assert 80 < pairs.value < 150


@pytest.mark.parametrize(
    "make",
    [
        lambda: paired([], []),
        lambda: paired([True], [True, False]),
        lambda: paired([0.5], [1]),
        lambda: paired([math.nan], [1]),
        lambda: paired([True], [False], margin=3),  # points, not a rate
        lambda: paired([True], [False], level=0),
        lambda: paired([True], [False], every=0),
        lambda: against([True], 1.0),
        lambda: against([[True]], 0.5),
        lambda: anytime_difference(3, 3, 5),
        lambda: anytime_difference(0, 0, 0),
        lambda: anytime_difference(-1, 0, 5),
        lambda: anytime_rate(3, 2),
        lambda: discordance(0.9, 0.1, 0.9),
        lambda: discordance(1.2, 0.1, 0.0),
        lambda: required(0.5, 0.5),
        lambda: required(0.5, 1.5),
        lambda: required(0.6, 0.4, power=1.0),
        lambda: required(0.6, 0.4, discordant=0.1),
        lambda: required(0.6, 0.4, discordant=0.5, correlation=0.0),
        lambda: simulate(0, 0.5, 0.5),
        lambda: simulate(5, 0.9, 0.1, correlation=1.0),
    ],
)
def test_what_cannot_be_judged_is_refused(make):
    with pytest.raises(BadData):
        make()
