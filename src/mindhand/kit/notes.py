"""What wrappers round a policy note of a chunk, and the alarms that they raise: none of them silences another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from mindhand.core.nouns import ActionChunk


def noted(extra: Mapping[str, Any], notes: Sequence[str]) -> list[str]:
    """What `extra` holds as "note" already, of whoever is inside, and then these ("" for none), joined row by row."""
    inside = extra.get("note", [""] * len(notes))
    return ["; ".join(filter(None, both)) for both in zip(inside, notes, strict=True)]


def noting(chunk: ActionChunk, notes: Sequence[str]) -> ActionChunk:
    """A chunk with them."""
    return replace(chunk, extra={**chunk.extra, "note": noted(chunk.extra, notes)})


def alarmed(extra: Mapping[str, Any], alarm: np.ndarray) -> np.ndarray:
    """bool (B,): whether there is an alarm, or one in `extra`, of whoever is inside."""
    return alarm | extra.get("alarm", np.zeros_like(alarm))
