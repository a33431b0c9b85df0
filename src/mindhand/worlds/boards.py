"""What else may be on the board: notices in words, and bar charts. No simulator here; in `declared.scene_hash`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .draw import Draw
from .scene import FONTS, PAPERS

NOTICE_WORDS = (
    "open", "closed", "stop", "exit", "quiet", "danger", "wet paint", "keep out", "no smoking", "welcome", "lunch",
    "meeting", "tuesday", "friday", "sunday", "today", "room", "floor", "push", "pull", "hot", "cold", "milk",
    "bread", "water", "coffee", "for sale", "sold", "lost", "found", "school", "garden", "office", "home", "north",
    "south", "east", "west", "please wait", "thank you",
)  # fmt: skip
BARS = {  # the colours of a chart's bars
    "red": (200, 50, 46), "green": (60, 150, 70), "blue": (54, 96, 200), "yellow": (240, 206, 60),
    "purple": (136, 72, 172), "orange": (238, 138, 40),
}  # fmt: skip
HEIGHTS = tuple(range(1, 10))
FEWEST, MOST = 3, 5  # bars of a chart


@dataclass(frozen=True)
class Notice:
    """One or two lines of print."""

    lines: tuple[str, ...]
    font: str
    paper: str
    ink: str


@dataclass(frozen=True)
class Chart:
    """Bars from left to right: colour and height (1 .. 9), no two alike in either; on a pale board."""

    bars: tuple[tuple[str, int], ...]
    paper: str


def sample_notice(draw: Draw, fonts: Sequence[str] = ("R", "K")) -> Notice:
    """One or two different lines in a font of these classes."""
    font = draw.pick([f for f in FONTS if f.known in fonts]).name
    paper = draw.pick(list(PAPERS))
    ink = draw.pick(PAPERS[paper][1])
    return Notice(tuple(draw.shuffled(NOTICE_WORDS)[: 1 + draw.index(2)]), font, paper, ink)


def sample_chart(draw: Draw) -> Chart:
    """Three to five bars."""
    count = FEWEST + draw.index(MOST - FEWEST + 1)
    colours, heights = draw.shuffled(list(BARS))[:count], draw.shuffled(HEIGHTS)[:count]
    return Chart(tuple(zip(colours, heights)), draw.pick(("white", "cream")))


def declared() -> dict[str, Any]:
    """What the hash of the declaration covers."""
    return {"notices": NOTICE_WORDS, "charts": [BARS, HEIGHTS, FEWEST, MOST]}
