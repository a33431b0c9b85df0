"""The answers of several queries, joined row by row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mindhand.core.errors import BuildError
from mindhand.core.nouns import ActionChunk, Reasoning

from .rows import put_rows

if TYPE_CHECKING:
    from mindhand.core.seams import State


def picked(told: Sequence[tuple[ActionChunk, State]], which: np.ndarray) -> tuple[ActionChunk, State]:
    """Of several answers to the same rows, each with the state after it, the `which[r]`-th in row r: actions, thought,
    errors, note and state; what else `want` asked for is the first's. BuildError for a state not told by row."""
    (first, state), rows, chunks = told[0], np.arange(len(which)), [chunk for chunk, _ in told]
    for v in sorted({int(v) for v in which} - {0}):
        joined = put_rows(state, told[v][1], np.flatnonzero(which == v).tolist(), len(which))
        if joined is None:
            raise BuildError("a policy whose state cannot be told by row", "arrays with rows first", "ask it once")
        state = joined
    actions, valid = (np.stack([getattr(c, f) for c in chunks])[which, rows] for f in ("actions", "valid"))
    extra, thought = dict(first.extra), first.reasoning
    if "errors" in extra:
        extra["errors"] = np.stack([c.extra["errors"] for c in chunks])[which, rows]
    if any("note" in c.extra for c in chunks):
        extra["note"] = [chunks[v].extra["note"][r] if "note" in chunks[v].extra else "" for r, v in enumerate(which)]
    if thought is not None:
        mine = [chunks[v].reasoning or thought for v in which]
        fields = {n: tuple(m.fields[n][r] for r, m in enumerate(mine)) for n in thought.fields}
        thought = Reasoning(tuple(m.texts[r] for r, m in enumerate(mine)), fields)
    return ActionChunk(actions, valid, thought, extra), state
