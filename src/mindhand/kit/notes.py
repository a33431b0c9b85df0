"""What wrappers round a policy note of a chunk: none of them silences another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def noted(extra: Mapping[str, Any], notes: Sequence[str]) -> list[str]:
    """What `extra` holds as "note" already, of whoever is inside, and then these, joined row by row."""
    inside = extra.get("note", [""] * len(notes))
    return ["; ".join(filter(None, both)) for both in zip(inside, notes, strict=True)]
