"""Verdicts that hold whenever one stops: evidence that may be looked at after every pair, and how many pairs to plan.

A fixed-size test looked at again and again finds a difference sooner or later, whether there is one or not. Here
evidence is the wealth of a gambler whose bets are fair if the hypothesis is true; it ever reaches 1/level with
probability at most `level` (Ville 1939; Robbins 1970, Ann. Math. Stat. 41:1397; Ramdas et al. 2023, Stat. Sci. 38:576),
so one may stop at any look, go on after any look, and look as often as one likes.

Assumed: scenes are drawn independently (a protocol draws each from its own Key), and their order was fixed before
anything was seen. What is judged are two given policies; of another training of either it says nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal

import numpy as np

from .errors import BadData
from .intervals import Interval
from .keys import Keys

LEVEL = 0.05
Word = Literal["A", "B", "alike", "above", "below", "undecided"]
_WORDS: tuple[Word, ...] = ("undecided", "A", "B", "alike")

# Fractions of the wealth that are staked, uniform over 0..1. The bets are this finite mixture itself, so it is fair
# whatever a quadrature of 128 nodes leaves out.
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(128)
_STAKES, _SHARES = (1 + _NODES) / 2, np.log(_WEIGHTS / 4)  # half the wealth on either side


@dataclass(frozen=True)
class Verdict:
    """word: the first thing that became certain: "A", "B" (has the higher rate), "alike" (the rates differ by less
    than the margin), of one rate "above", "below" (the bar), or "undecided". decided: items seen by then, None while
    undecided. n: items seen in all. evidence: e-value now against equal rates (or a rate at the bar), 1 where nothing
    is known. p: anytime-valid p value, 1 / the largest evidence at any look. interval: of the difference A - B (or
    the rate) from all n, covering the truth at all looks together. A word that was certain at an earlier look stands,
    also where the interval has widened over it since."""

    word: Word
    decided: int | None
    n: int
    evidence: float
    p: float
    interval: Interval


def _flags(values: Any, name: str) -> np.ndarray:
    x = np.asarray(values)
    if x.ndim != 1 or not len(x) or not np.isin(x, (0, 1)).all():
        raise BadData(
            f"{name} of shape {x.shape} and type {x.dtype}",
            "one true or false an item, at least one",
            "give the column of successes in the protocol's order",
        )
    return x.astype(bool)


def _check(margin: float, level: float, every: int) -> None:
    if not (0 <= margin < 1 and 0 < level < 1 and every >= 1):
        raise BadData(
            f"margin {margin}, level {level}, a look every {every}",
            "0 <= margin < 1 (rates, not points), 0 < level < 1, a look every 1 or more",
            "correct it",
        )


def _looks(n: int, every: int) -> np.ndarray:
    """Items seen at each look; the last look sees all."""
    return np.unique(np.append(np.arange(every, n + 1, every), n))


def log_evidence(only_a: np.ndarray | int, only_b: np.ndarray | int) -> np.ndarray:
    """Natural log of the e-value against equal rates, from the discordant pairs: items only A and only B solved.

    If the rates are equal, each side wins a discordant pair with probability 1/2. The bets are those of a gambler who
    thinks the probability that A wins uniform over 0..1: 2^m a! b! / (m + 1)!, m = a + b. Uniform, because at
    differences of 10 to 30 points it needed at most 12 % more pairs than the best of the Beta(c, c) for c from 1/2 to
    16, at 20 points at most 8 %, and no other did as well; Jeffreys' 1/2 is for sides that win nearly all.
    """
    a, b = np.asarray(only_a), np.asarray(only_b)
    m = a + b
    factorial = np.append(0.0, np.cumsum(np.log(np.arange(1, int(m.max(initial=0)) + 2))))
    return m * math.log(2) + factorial[a] + factorial[b] - factorial[m + 1]


def log_wealth(difference: float, only_a: np.ndarray, only_b: np.ndarray, n: np.ndarray) -> np.ndarray:
    """Natural log of the e-value against rate A - rate B = `difference`, in -1..1 without its ends; `n` pairs seen.

    With x = 1, 0, -1 for a pair that only A, both or none, only B solved, a stake s on A turns the wealth by
    1 - s + s (1 + x) / (1 + difference), whose mean is 1 (Waudby-Smith and Ramdas 2024, JRSS B 86:1). At 0 it is
    `log_evidence`. The e-value is convex in `difference` and at most 1 at the difference seen, so what is not refuted
    is an interval; and where a value is refuted, so are all beyond it: a claim of a direction is as safe.
    """
    a, b, n = np.broadcast_arrays(only_a, only_b, n)
    counts = np.stack([a, n - a - b, b], -1).reshape(-1, 3).astype(float)
    s, out = _STAKES, np.empty(len(counts))
    up, down = 1 / (1 + difference), 1 / (1 - difference)
    on_a = np.log1p([-s + 2 * s * up, -s + s * up, -s])
    on_b = np.log1p([-s, -s + s * down, -s + 2 * s * down])
    turns, shares = np.concatenate([on_a, on_b], 1), np.concatenate([_SHARES, _SHARES])
    for begin in range(0, len(counts), 4096):  # so that memory stays small
        each = counts[begin : begin + 4096] @ turns + shares
        most = each.max(1)
        out[begin : begin + 4096] = most + np.log(np.exp(each - most[:, None]).sum(1))
    return out.reshape(n.shape)


def _crossing(surplus: Callable[[float], float], end: float, inside: float) -> float:
    """The bound of an interval between `end` of the scale and a value inside, approached from without; `end` itself
    where not even its neighbourhood is refuted. surplus: log evidence above the bar."""
    outside = end + 1e-12 * (inside - end)
    if surplus(outside) < 0:
        return end
    for _ in range(60):
        middle = (outside + inside) / 2
        outside, inside = (middle, inside) if surplus(middle) >= 0 else (outside, middle)
    return outside


def anytime_difference(only_a: int, only_b: int, n: int, level: float = LEVEL) -> Interval:
    """rate A - rate B from n pairs, `only_a` and `only_b` of them solved by one side alone: every difference that
    `log_wealth` does not refute, a confidence sequence (Howard et al. 2021, Ann. Stat. 49:1055). It holds the truth at
    all looks together with probability 1 - level; 0 is outside exactly where equal rates are refuted."""
    if min(only_a, only_b) < 0 or n < max(1, only_a + only_b):
        raise BadData(f"{only_a} and {only_b} discordant of {n} pairs", "counts, at least one pair", "count again")
    value, bar = (only_a - only_b) / n, -math.log(level)

    def surplus(difference: float) -> float:
        return float(log_wealth(difference, np.array(only_a), np.array(only_b), np.array(n))) - bar

    low = _crossing(surplus, -1.0, value) if value > -1 else -1.0
    high = _crossing(surplus, 1.0, value) if value < 1 else 1.0
    return Interval(value, low, high, n, f"any time, {1 - level:.3g}")


def _decide(a: np.ndarray, b: np.ndarray, n: np.ndarray, margin: float, level: float) -> np.ndarray:
    """The index in _WORDS of what is certain, an element each. Where the rates surely differ, but by less than the
    margin, that they differ goes first."""
    bar = -math.log(level)
    word = np.where(log_evidence(a, b) >= bar, np.where(a > b, 1, 2), 0)
    a, b, n = np.broadcast_arrays(a, b, n)
    inside = (word == 0) & (np.abs(a - b) < margin * n)
    if inside.any():
        # Many comparisons have the same counts: each is worked out once.
        kinds, which = np.unique(np.stack([a[inside], b[inside], n[inside]], -1), axis=0, return_inverse=True)
        sure = np.ones(len(kinds), bool)
        for end in (-margin, margin):
            sure[sure] = log_wealth(end, *kinds[sure].T) >= bar
        word[inside] = 3 * sure[which.reshape(-1)]
    return word


def _verdict(words: Sequence[Word], seen: np.ndarray, evidence: np.ndarray, interval: Interval) -> Verdict:
    """From what was certain at each look, and its log evidence."""
    at = next((i for i, word in enumerate(words) if word != "undecided"), None)
    return Verdict(
        "undecided" if at is None else words[at],
        None if at is None else int(seen[at]),
        int(seen[-1]),
        math.exp(min(float(evidence[-1]), 700.0)),
        math.exp(-max(0.0, float(evidence.max()))),
        interval,
    )


def paired(a: Any, b: Any, *, margin: float = 0.0, level: float = LEVEL, every: int = 1) -> Verdict:
    """The verdict on two policies from their pairs so far: `a[i]`, `b[i]` true where A, B solved scene i, in the
    protocol's order.

    Give all pairs so far, as often as wanted: what was decided stays decided, whatever follows. With probability
    1 - level nothing false is ever said, neither of a difference nor of being alike. margin: a difference of rates
    that does not matter; 0 never says "alike". every: pairs between two looks; fewer looks only lose time.
    """
    _check(margin, level, every)
    a, b = _flags(a, "A"), _flags(b, "B")
    if len(a) != len(b):
        raise BadData(f"{len(a)} items of A, {len(b)} of B", "the same scenes in the same order", "pair them by key")
    seen = _looks(len(a), every)
    only_a, only_b = (a & ~b).cumsum()[seen - 1], (b & ~a).cumsum()[seen - 1]
    words = [_WORDS[i] for i in _decide(only_a, only_b, seen, margin, level)]
    interval = anytime_difference(int(only_a[-1]), int(only_b[-1]), len(a), level)
    return _verdict(words, seen, log_evidence(only_a, only_b), interval)


def _log_rate(hits: np.ndarray, n: np.ndarray) -> np.ndarray:
    """Log of the Beta(1/2, 1/2) mixture of the likelihood: gamma(h + 1/2) gamma(n - h + 1/2) / (pi n!)."""
    steps = np.arange(int(np.max(n)) + 1)
    half = np.append(0.0, np.cumsum(np.log(steps + 0.5)))  # without gamma(1/2), twice the square root of pi
    whole = np.append(0.0, np.cumsum(np.log(steps[1:])))
    return half[hits] + half[n - hits] - whole[n]


def anytime_rate(hits: int, n: int, level: float = LEVEL) -> Interval:
    """A rate from n items that may be looked at after every one: all rates whose likelihood is more than `level` of
    the mixture's over Beta(1/2, 1/2) (Robbins 1970; the prior is Jeffreys', as rates near 0 and 1 are common)."""
    if not (0 <= hits <= n and n > 0):
        raise BadData(f"{hits} successes of {n}", "0 <= successes <= n and n > 0", "count the rows again")
    mixture = float(_log_rate(np.array(hits), np.array(n))) + math.log(level)

    def surplus(p: float) -> float:
        likelihood = (hits * math.log(p) if hits else 0.0) + ((n - hits) * math.log1p(-p) if hits < n else 0.0)
        return mixture - likelihood

    low = _crossing(surplus, 0.0, hits / n) if hits else 0.0
    high = _crossing(surplus, 1.0, hits / n) if hits < n else 1.0
    return Interval(hits / n, low, high, n, f"any time, {1 - level:.3g}")


def against(successes: Any, bar: float, *, level: float = LEVEL, every: int = 1) -> Verdict:
    """Is a rate "above" or "below" a bar: the verdict from the items so far, in order. As `paired`: look as often as
    wanted; with probability 1 - level nothing false is ever said."""
    _check(0.0, level, every)
    if not 0 < bar < 1:
        raise BadData(f"bar {bar}", "0 < bar < 1", "no number of items shows that a rate is 0 or 1")
    x = _flags(successes, "successes")
    n = _looks(len(x), every)
    hits = x.cumsum()[n - 1]
    evidence = _log_rate(hits, n) - hits * math.log(bar) - (n - hits) * math.log1p(-bar)
    sides: list[Word] = ["above" if above else "below" for above in hits > bar * n]
    words: list[Word] = [side if sure else "undecided" for side, sure in zip(sides, evidence >= -math.log(level))]
    return _verdict(words, n, evidence, anytime_rate(int(hits[-1]), len(x), level))


def discordance(a: float, b: float, correlation: float) -> float:
    """The share of scenes that one side alone solves, for true rates a and b whose successes on the same scene have
    that (Pearson) correlation. BadData where no two policies can be so: rates that differ cannot agree throughout."""
    both = a * b + correlation * math.sqrt(a * (1 - a) * b * (1 - b)) if 0 <= a <= 1 and 0 <= b <= 1 else -1.0
    if not max(0.0, a + b - 1) - 1e-12 <= both <= min(a, b) + 1e-12:
        raise BadData(f"rates {a} and {b} with correlation {correlation}", "a correlation such rates can have", "lower")
    return a + b - 2 * both


def required(
    a: float,
    b: float,
    *,
    correlation: float | None = None,
    discordant: float | None = None,
    power: float = 0.8,
    level: float = LEVEL,
) -> int:
    """Episodes of each policy after which a test made once finds the difference of the true rates a and b with
    probability `power`.

    Two policies on scenes of their own, unless either is given: z test of two proportions (Fleiss, Levin and Paik
    2003, chapter 4); 392 for .45 and .55. On the same scenes, given how successes correlate or the share of discordant
    pairs: exact McNemar (Connor 1987, Biometrics 43:207, with a continuity correction of 1 / difference). The exact
    test's power is then at most .03 below what was asked and, where nearly all discordant pairs point one way, up
    to .08 above. A difference that was seen, put in here, says how many to plan, not what was proven.
    """
    d = abs(a - b)
    if not (0 <= a <= 1 and 0 <= b <= 1 and d > 0 and 0 < power < 1 and 0 < level < 1):
        raise BadData(
            f"rates {a} and {b}, power {power}, level {level}",
            "two different rates, and 0 < power, level < 1",
            "equal rates are never told apart: state the difference that would matter",
        )
    z, more = NormalDist().inv_cdf(1 - level / 2), NormalDist().inv_cdf(power)
    if correlation is None and discordant is None:
        mean = (a + b) / 2
        spread = z * math.sqrt(2 * mean * (1 - mean)) + more * math.sqrt(a * (1 - a) + b * (1 - b))
        return max(2, math.ceil((spread / d) ** 2))
    if correlation is not None and discordant is not None:
        raise BadData("a correlation and a discordance", "one of them: each gives the other", "leave one out")
    share = discordance(a, b, correlation) if correlation is not None else float(discordant or 0)
    if not d - 1e-9 <= share <= min(a + b, 2 - a - b) + 1e-9:
        raise BadData(
            f"a share {share} of discordant pairs for rates {a} and {b}",
            f"{d:.3g} to {min(a + b, 2 - a - b):.3g}",
            "count the scenes that one side alone solved",
        )
    spread = z * math.sqrt(share) + more * math.sqrt(max(0.0, share - d * d))
    least = math.ceil(math.log2(2 / level))  # fewer discordant pairs never reject
    return max(least, math.ceil((spread / d) ** 2 + 1 / d - 1e-9))


def simulated_pairs(keys: Keys, a: float, b: float, correlation: float, pairs: int) -> tuple[np.ndarray, np.ndarray]:
    """(only A solved it, only B did), bool of shape (comparisons, pairs), one comparison a key, for true rates."""
    share = discordance(a, b, correlation)
    alone = (share + a - b) / 2
    u = keys.uniform(pairs)
    return u < alone, (u >= alone) & (u < share)


def simulate(
    comparisons: int,
    a: float,
    b: float,
    *,
    correlation: float = 0.0,
    pairs: int = 1000,
    every: int = 1,
    margin: float = 0.0,
    level: float = LEVEL,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Comparisons of two policies with true rates a and b, each stopped by `paired`'s rule or after `pairs` pairs.

    One row a comparison: "key", "verdict", "rejected" (a difference was claimed), "pairs" used. Comparison i is the
    same whatever `comparisons` is. 20,000 of 1,000 pairs with a look after each take about 3 seconds of one core.
    """
    _check(margin, level, every)
    if comparisons < 1 or pairs < 1:
        raise BadData(f"{comparisons} comparisons of {pairs} pairs", "at least one", "correct it")
    keys, seen, rows = Keys.seeded(comparisons, "sequential", seed), _looks(pairs, every), []
    block = max(1, 2**21 // pairs)
    for begin in range(0, comparisons, block):
        only_a, only_b = simulated_pairs(keys[begin : begin + block], a, b, correlation, pairs)
        counts = (x.cumsum(1, dtype=np.int32)[:, seen - 1] for x in (only_a, only_b))
        word = _decide(*counts, seen.astype(np.int32), margin, level)
        at, decided = (word > 0).argmax(1), (word > 0).any(1)
        for i, (look, done) in enumerate(zip(at, decided)):
            said, used = _WORDS[word[i, look]], int(seen[look]) if done else pairs
            rejected = said in ("A", "B")
            rows.append({"key": f"comparison {begin + i}", "verdict": said, "rejected": rejected, "pairs": used})
    return rows
