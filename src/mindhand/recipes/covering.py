"""Covering arrays: few rows in which every pair of levels that fits occurs (pairwise testing; greedy, as AETG, Cohen et
al. 1997, IEEE TSE 23(7)). No chance is involved: equal factors give equal rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations

Item = tuple[str, str]  # a factor, and one of its levels
Pair = tuple[Item, Item]  # of two factors, in the order of the factors
Row = dict[str, str]  # a level of every factor


def all_pairs(factors: Mapping[str, Sequence[str]]) -> list[Pair]:
    """Every pair of levels of two factors."""
    return [((f, a), (g, b)) for f, g in combinations(factors, 2) for a in factors[f] for b in factors[g]]


def pairs_of(row: Mapping[str, str]) -> list[Pair]:
    """The pairs that occur in a row."""
    return list(combinations(row.items(), 2))


def covering(factors: Mapping[str, Sequence[str]], fits: Callable[[Pair], bool]) -> tuple[list[Row], list[Pair]]:
    """Rows in which every pair occurs that can occur in a row without a pair that does not fit; and the pairs that
    cannot, those that do not fit and those that leave a factor without a level. `fits` is asked once a pair."""
    pairs = all_pairs(factors)
    bad = {pair for pair in pairs if not fits(pair)}
    order = list(factors)
    place = {name: i for i, name in enumerate(order)}

    def pair(a: Item, b: Item) -> Pair:
        return (a, b) if place[a[0]] < place[b[0]] else (b, a)

    left = dict.fromkeys(p for p in pairs if p not in bad)  # an ordered set

    def completed(chosen: Row) -> Row | None:
        """The row that this one can become with the most pairs that are left, one factor at a time."""
        open_ = [f for f in order if f not in chosen]
        if not open_:
            return chosen
        able = {f: [v for v in factors[f] if _all_fit(bad, pair, (f, v), chosen.items())] for f in open_}
        if not all(able.values()):
            return None

        def gain(item: Item) -> int:
            return sum(pair(item, other) in left for other in chosen.items())

        best = {f: sorted(able[f], key=lambda v, f=f: -gain((f, v))) for f in open_}  # stable: first come first
        forced = [f for f in open_ if len(best[f]) == 1]
        name = forced[0] if forced else max(open_, key=lambda f: gain((f, best[f][0])))
        for level in best[name]:
            found = completed({**chosen, name: level})
            if found is not None:
                return found
        return None

    rows: list[Row] = []
    never = sorted(bad, key=pairs.index)
    while left:
        first = next(iter(left))
        found = completed(dict(first))
        if found is None:
            del left[first]
            never.append(first)
            continue
        row = {f: found[f] for f in order}
        rows.append(row)
        for p in pairs_of(row):
            left.pop(p, None)
    return rows, never


def _all_fit(bad: set[Pair], pair: Callable[[Item, Item], Pair], item: Item, others: Iterable[Item]) -> bool:
    return all(pair(item, other) not in bad for other in others)
