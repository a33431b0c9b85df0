"""Rows of a policy's state: taking some, and putting a fresh episode's into a running batch.

A state is a dictionary (of dictionaries) whose leaves hold something for every row: an array or tensor with rows
first, a list or tuple with one plain value a row, or `Keys`. Anything else (a counter common to all rows, a list
of arrays, a memory that grows) cannot be told apart by row; the functions here then return None, and the caller
waits until all rows are free. Nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mindhand.core.keys import Keys

if TYPE_CHECKING:
    from mindhand.core.seams import State

PLAIN = (str, int, float, bool, bytes, type(None))


class _NotByRow(Exception):
    pass


def _is_array(x: Any) -> bool:
    return hasattr(x, "shape") and hasattr(x, "dtype")  # numpy or torch, without importing torch


def _plain(x: Any, rows: int) -> bool:
    return isinstance(x, list | tuple) and len(x) == rows and all(isinstance(v, PLAIN) for v in x)


def _take(x: Any, index: Sequence[int], rows: int) -> Any:
    if isinstance(x, dict):
        return {k: _take(v, index, rows) for k, v in x.items()}
    if isinstance(x, Keys) and len(x) == rows:
        return x[index]
    if _is_array(x) and x.shape[:1] == (rows,):
        return x[list(index)]
    if _plain(x, rows):
        return type(x)([x[i] for i in index])
    raise _NotByRow


def _put(old: Any, new: Any, index: Sequence[int], rows: int) -> Any:
    if isinstance(old, dict) and isinstance(new, dict) and old.keys() == new.keys():
        return {k: _put(old[k], new[k], index, rows) for k in old}
    if isinstance(old, Keys) and isinstance(new, Keys) and len(old) == len(new) == rows:
        return Keys(tuple(new.rows[r] if r in index else old.rows[r] for r in range(rows)))
    if _is_array(old) and type(old) is type(new) and old.shape == new.shape and old.dtype == new.dtype:
        if old.shape[:1] != (rows,):
            raise _NotByRow
        out = old.copy() if isinstance(old, np.ndarray) else old.clone()
        out[list(index)] = new[list(index)]
        return out
    if _plain(old, rows) and _plain(new, rows) and type(old) is type(new):
        return type(old)([new[r] if r in index else old[r] for r in range(rows)])
    raise _NotByRow


def take_rows(state: State, index: Sequence[int], rows: int) -> State | None:
    """The state of the rows named, in the order named (repeats allowed); None where it cannot be told by row."""
    try:
        return _take(state, index, rows)
    except _NotByRow:
        return None


def put_rows(state: State, fresh: State, index: Sequence[int], rows: int) -> State | None:
    """`state` with the rows in `index` as in `fresh`; None where the two cannot be joined row by row.
    Neither argument is changed."""
    try:
        return _put(state, fresh, index, rows)
    except _NotByRow:
        return None
