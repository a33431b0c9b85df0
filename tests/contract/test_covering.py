"""Covering arrays against all rows there are, of factors and constraints that hypothesis makes up."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mindhand.recipes.covering import all_pairs, covering, pairs_of

factors = st.lists(st.integers(1, 4), min_size=2, max_size=5).map(
    lambda sizes: {f"f{i}": [f"v{k}" for k in range(n)] for i, n in enumerate(sizes)}
)


@given(factors, st.data())
def test_exactly_the_pairs_that_can_occur_are_covered(levels, data):
    everything = all_pairs(levels)
    bad = set(data.draw(st.lists(st.sampled_from(everything), max_size=len(everything) // 2)))
    rows, never = covering(levels, lambda pair: pair not in bad)
    whole = [dict(zip(levels, row)) for row in product(*levels.values())]
    fitting = [row for row in whole if not bad & set(pairs_of(row))]
    possible = {pair for row in fitting for pair in pairs_of(row)}
    assert {pair for row in rows for pair in pairs_of(row)} == possible
    assert set(never) == set(everything) - possible and len(never) == len(set(never))
    assert all(row in fitting and list(row) == list(levels) for row in rows)
    assert covering(levels, lambda pair: pair not in bad) == (rows, never)


def test_a_pair_that_leaves_no_level_for_a_third_factor_can_never_occur():
    levels = {"codec": ["numbers", "ids"], "sampler": ["ode"], "hand": ["flow", "tokens"]}
    bad = {
        (("codec", "numbers"), ("hand", "tokens")),
        (("codec", "ids"), ("hand", "flow")),
        (("sampler", "ode"), ("hand", "tokens")),
    }
    rows, never = covering(levels, lambda pair: pair not in bad)
    assert rows == [{"codec": "numbers", "sampler": "ode", "hand": "flow"}]
    assert (("codec", "ids"), ("sampler", "ode")) in never


@pytest.mark.parametrize(("sizes", "most"), [((2,) * 10, 12), ((3,) * 6, 18), ((12, 7, 4, 3, 2, 2), 90), ((6, 6), 36)])
def test_rows_are_few(sizes, most):
    levels = {f"f{i}": [str(k) for k in range(n)] for i, n in enumerate(sizes)}
    rows, never = covering(levels, lambda pair: True)
    assert not never and len(rows) <= most
