"""Whose handwriting may be on the board: names and who may see them. Plain data, no pictures here.

"hand-<k>" is an invented writer, seeded by k, who writes every character. "scan" and "scan-unseen" are scanned
digits, unseen samples, writers shared: the scans' source names no writers, so a writer may be in both; their signs are
written by the invented writers of their class.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

VERSION = "hands-1"  # bump when a hand draws anything else
CHARS = "0123456789+-x=?"
ALIASES = {"\u2212": "-", "\u00d7": "x"}  # as fonts spell them
SCAN, SCAN_UNSEEN = "scan", "scan-unseen"
KNOWN_HANDS, HELD_OUT_HANDS = 24, 6


@dataclass(frozen=True)
class Hand:
    """A hand; `known` "H" (pretraining may show it) or "HX" (held out)."""

    name: str
    known: str


HANDS = (
    *(Hand(f"hand-{k}", "H" if k < KNOWN_HANDS else "HX") for k in range(KNOWN_HANDS + HELD_OUT_HANDS)),
    Hand(SCAN, "H"),
    Hand(SCAN_UNSEEN, "HX"),
)


def declared() -> dict[str, Any]:
    """What the hash of the declaration covers."""
    return {"version": VERSION, "hands": [(h.name, h.known) for h in HANDS]}
