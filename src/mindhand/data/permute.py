"""Keyed permutations without memory: the i-th element of a shuffle, computed from i alone."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from mindhand.core.errors import BadData
from mindhand.core.keys import Keys

ROUNDS = 8


def mix64(x: np.ndarray) -> np.ndarray:
    """uint64 -> uint64, a bijection that avalanches (the finalizer of splitmix64; Steele et al., 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@lru_cache(maxsize=4096)
def _round_keys(words: tuple[str | int, ...]) -> np.ndarray:
    return np.array([np.frombuffer(row, np.uint64)[0] for row in Keys.seeded(ROUNDS, *words).rows])


def permute(index: np.ndarray, size: int, *words: str | int) -> np.ndarray:
    """Where a shuffle of 0..size-1, named by `words`, puts `index`: int64 in, int64 out, a bijection.

    A balanced Feistel network (Luby & Rackoff, 1988) on the next even power of two; results outside the domain
    walk on along their cycle, at most about four steps on average (at least six bits, so that a shuffle of
    three things is a fair one too).
    """
    index = np.asarray(index, np.int64)
    if size < 1 or ((index < 0) | (index >= size)).any():
        raise BadData(f"a shuffle of {size} asked for {index}", "indices in 0..size-1", "take them modulo the size")
    half = np.uint64(max(3, (int(size - 1).bit_length() + 1) // 2))
    mask = (np.uint64(1) << half) - np.uint64(1)
    keys = _round_keys(words)
    out = index.astype(np.uint64)
    todo = np.ones(out.shape, bool)
    while todo.any():
        x = out[todo]
        left, right = x >> half, x & mask
        for key in keys:
            left, right = right, left ^ (mix64(right ^ key) & mask)
        out[todo] = (left << half) | right
        todo &= out >= np.uint64(size)
    return out.astype(np.int64)
