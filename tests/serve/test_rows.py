"""Rows of a state: joined where they can be told apart, refused (None) where that would be a guess."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mindhand.core.keys import Keys
from mindhand.serve.rows import put_rows, take_rows

B = 4


def state(offset: int) -> dict:
    """Every kind of leaf that has rows; row r holds offset + r."""
    n = np.arange(B) + offset
    return {
        "keys": Keys.seeded(B, "test", offset),
        "array": np.stack([n, n], 1),
        "tensor": torch.from_numpy(n.astype(np.float32)),
        "texts": [str(i) for i in n],
        "deep": {"flags": tuple(bool(i % 2) for i in n)},
    }


def row(s: dict, r: int) -> tuple:
    return (s["keys"].rows[r], s["array"][r].tolist(), s["tensor"][r].item(), s["texts"][r], s["deep"]["flags"][r])


@given(st.sets(st.integers(0, B - 1)))
def test_put_rows_takes_these_and_leaves_those(index):
    old, new = state(0), state(100)
    before = [row(old, r) for r in range(B)]
    joined = put_rows(old, new, sorted(index), B)
    for r in range(B):
        assert row(joined, r) == row(new if r in index else old, r)
    assert [row(old, r) for r in range(B)] == before


def test_take_rows_repeats():
    taken = take_rows(state(0), [2, 2, 2, 0], B)
    assert [row(taken, r) for r in range(B)] == [row(state(0), r) for r in (2, 2, 2, 0)]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"count": 3}, {"count": 0}),
        ({"history": [np.zeros((B, 2))] * B}, {"history": [np.zeros((B, 2))] * B}),  # B arrays: time or rows?
        ({"memory": np.zeros((B, 3))}, {"memory": np.zeros((B, 0))}),
        ({"wide": np.zeros((2, B))}, {"wide": np.zeros((2, B))}),
        ({"a": np.zeros(B)}, {"b": np.zeros(B)}),
        ({"cache": object()}, {"cache": object()}),
        ({"kind": np.zeros(B)}, {"kind": torch.zeros(B)}),
    ],
)
def test_nothing_is_guessed(old, new):
    assert put_rows(old, new, [0], B) is None


def test_a_shared_counter_cannot_be_taken_by_row():
    assert take_rows({"count": 3}, [0], B) is None
