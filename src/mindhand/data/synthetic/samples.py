"""The nouns of the synthetic corpus: a picture, what is asked about it, and where its characters are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mindhand.core.errors import BadData
from mindhand.worlds.things import BY_NAME, COLOURS, MATERIALS

# What the centre of a cell of the front picture shows. A board's 7 and a tile's 7 are different things.
BOARD_CHARS = "0123456789+-x=?"
NOTHING = 0
GLYPHS = 1 + len(BOARD_CHARS) + 10  # nothing, a character of the board, a digit of a tile
_TOYS = list(BY_NAME)
ALL = GLYPHS + len(_TOYS)  # and a toy, where toys are met at all
HUES = tuple(COLOURS)
TRAITS = {"hue": len(HUES), "pattern": len(MATERIALS), "size": 2}  # of a toy, by how many numbers a head says each

Pixel = tuple[float, float]  # (u to the right, v down), in pixels from the picture's top left corner


def board_class(char: str) -> int:
    """The class of a character of the board, as spoken: "x" for every sign of multiplication, "-" for every minus."""
    at = BOARD_CHARS.find(char)
    if at < 0 or len(char) != 1:
        raise BadData(f"'{char}' on the board", f"one of '{BOARD_CHARS}'", "take the characters of Board.text")
    return 1 + at


def tile_class(digit: int) -> int:
    """The class of a tile's digit."""
    if not 0 <= digit <= 9:
        raise BadData(f"a tile {digit}", "a digit", "take Tile.digit")
    return 1 + len(BOARD_CHARS) + digit


def toy_class(name: str) -> int:
    """The class of a toy."""
    return GLYPHS + _TOYS.index(name)


def class_name(glyph: int) -> str:
    """ "nothing", "board 7", "tile 7" or "ball"."""
    if glyph == NOTHING:
        return "nothing"
    if glyph >= GLYPHS:
        return _TOYS[glyph - GLYPHS]
    on_board = glyph <= len(BOARD_CHARS)
    return f"board {BOARD_CHARS[glyph - 1]}" if on_board else f"tile {glyph - 1 - len(BOARD_CHARS)}"


@dataclass(frozen=True)
class QA:
    """One question with its answer. `point`: the pixel that a grounded answer speaks of, None for the others. `row`:
    the pixels of the tiles that an answer lists, left to right. `parts`: the questions that a joined one is made of.
    `given`: the end of the answer that is not to be learned, only what follows from its being said."""

    kind: str
    question: str
    answer: str
    point: Pixel | None = None
    row: tuple[Pixel | None, ...] = ()
    parts: tuple[QA, ...] = ()
    given: str = ""


class Trait(NamedTuple):
    """How something looks whose middle is at (u, v): indices into `HUES` and `MATERIALS`, width and height in
    pixels."""

    u: float
    v: float
    hue: int
    pattern: int
    width: float
    height: float


@dataclass(frozen=True, eq=False)
class ImageText:
    """One picture uint8 (h,w,3), its questions, its glyphs: (class, u, v) of every character or toy seen in it, and
    the traits of its toys."""

    image: np.ndarray
    questions: tuple[QA, ...]
    glyphs: tuple[tuple[int, float, float], ...] = ()
    traits: tuple[Trait, ...] = ()

    def __post_init__(self) -> None:
        if self.image.dtype != np.uint8 or self.image.ndim != 3 or self.image.shape[2] != 3:
            raise BadData(
                f"a picture of {self.image.dtype} {self.image.shape}", "uint8 (height, width, 3)", "cast when rendering"
            )
        height, width = self.image.shape[:2]
        if outside := [g for g in self.glyphs if not (0 <= g[1] < width and 0 <= g[2] < height)]:
            raise BadData(
                f"{class_name(outside[0][0])} at {outside[0][1:]}",
                f"a pixel of the {width}x{height} picture",
                "positions are (u, v): to the right first, then down",
            )
