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
    errors, "hidden", note and state; what else `want` asked for is the first's. BuildError for a state not told by
    row."""
    (first, state), rows, chunks = told[0], np.arange(len(which)), [chunk for chunk, _ in told]
    names = first.extra.keys() & {"errors", "hidden"}
    own: State = {n: first.extra[n] for n in names}
    for v in sorted({int(v) for v in which} - {0}):
        other, at = {n: chunks[v].extra[n] for n in names}, np.flatnonzero(which == v).tolist()
        joined = put_rows({"after": state, "of": own}, {"after": told[v][1], "of": other}, at, len(which))
        if joined is None:
            raise BuildError("a policy whose state cannot be told by row", "arrays with rows first", "ask it once")
        state, own = joined["after"], joined["of"]
    actions, valid = (np.stack([getattr(c, f) for c in chunks])[which, rows] for f in ("actions", "valid"))
    extra, thought = {**first.extra, **own}, first.reasoning
    if any("note" in c.extra for c in chunks):
        extra["note"] = [chunks[v].extra["note"][r] if "note" in chunks[v].extra else "" for r, v in enumerate(which)]
    if thought is not None:
        mine = [chunks[v].reasoning or thought for v in which]
        fields = {n: tuple(m.fields[n][r] for r, m in enumerate(mine)) for n in thought.fields}
        thought = Reasoning(tuple(m.texts[r] for r, m in enumerate(mine)), fields)
    return ActionChunk(actions, valid, thought, extra), state
