"""The one declaration of what exists in the desk world and of what is held out from whom. No simulator here.

Knowledge classes of an equation (ChatVLA-2, arXiv 2505.21906, section on the open world, made exact):

    R       in VLM pretraining, in the co-training images and text, and in robot data (in-domain)
    C       in pretraining and in the co-training images and text, never in robot data
    K-dev   in pretraining only: the open world that everything is tuned on
    K-test  in pretraining only: the open world that is looked at once a release
    X       nowhere: true novelty, reported and never claimed

Equations are assigned by a seeded hash and closed under commutation: 3+4 and 4+3 share a class. A universe is a
list of `Table`s; adding a table extends it without moving any equation of the others.

Frame: metres and radians; table top z = 0, x to the right, y away from the front camera, which therefore sees
"left" at small x and "front" at small y.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any

from mindhand.core.errors import BadData
from mindhand.core.keys import Key, Keys

from .draw import Draw
from .equations import Equation, Table
from .sampling import Span, distractors, layout

VERSION = "maths-3"  # bump when the sampler changes what it draws: it is part of the hash
SPLITS = ("R", "C", "K-dev", "K-test", "X")
KNOWN = ("R", "C", "K-dev", "K-test")  # what VLM pretraining may hold
_D = range(10)
TABLES = (
    Table("sums", tuple(Equation(a, "+", b) for a in _D for b in _D),
          (("R", 60), ("C", 6), ("K-test", 12), ("X", 8)), 19),
    Table("products", tuple(Equation(a, "x", b) for a in _D for b in _D),
          (("C", 12), ("K-test", 24), ("X", 11)), 1),
    Table("differences", tuple(Equation(b + c, "-", b) for b in _D for c in _D),
          (("C", 12), ("K-test", 24), ("X", 11)), 0),
)  # fmt: skip


@cache
def _classes() -> dict[Equation, str]:
    return {e: split for table in TABLES for e, split in table.classes().items()}


def split_of(equation: Equation) -> str:
    """The class of an equation; refuses one outside the universe."""
    try:
        return _classes()[equation]
    except KeyError:
        raise BadData(f"equation {equation.text}", f"one of the {len(_classes())} declared", "add a Table") from None


@cache
def equations(split: str) -> tuple[Equation, ...]:
    """All equations of one class, sorted."""
    if split not in SPLITS:
        raise BadData(f"split '{split}'", f"one of {SPLITS}", "check the part of the task's name after the slash")
    return tuple(sorted(e for e, s in _classes().items() if s == split))


# ---- looks ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Font:
    """A packaged font; `known` "R" (robot data and pretraining), "K" (pretraining only) or "X" (nowhere)."""

    name: str
    file: str
    known: str
    minus: str = "\u2212"
    times: tuple[str, ...] = ("\u00d7", "x")


FONTS = (
    Font("sans", "DejaVuSans-Bold-subset.ttf", "R"),
    Font("mono", "DejaVuSansMono-Bold-subset.ttf", "R"),
    Font("serif", "DejaVuSerif-Bold-subset.ttf", "R"),
    Font("karla", "Karla-Bold.otf", "R"),
    Font("italic", "DejaVuSerif-BoldItalic-subset.ttf", "K"),
    Font("comic", "ComicNeue-Bold.otf", "K"),
    Font("dosis", "Dosis-ExtraBold.otf", "K"),
    Font("humor", "Humor-Sans.ttf", "X", minus="-", times=("x",)),
)
INKS = {
    "black": (22, 22, 26), "blue": (24, 48, 150), "red": (165, 24, 30),
    "green": (14, 96, 46), "chalk": (240, 240, 232),
}  # fmt: skip
PAPERS = {  # board: its colour, and the inks that are legible on it
    "white": ((244, 244, 240), ("black", "blue", "red", "green")),
    "cream": ((238, 226, 196), ("black", "blue", "red", "green")),
    "slate": ((46, 58, 60), ("chalk",)),
    "green": ((32, 78, 58), ("chalk",)),
}
FACES = {  # tile: its colour
    "white": (246, 246, 244), "yellow": (246, 222, 110), "blue": (158, 200, 240),
    "green": (166, 220, 152), "pink": (244, 176, 196), "orange": (246, 182, 108),
}  # fmt: skip
TILE_INKS = ("black", "blue", "red")
BOARD_FORMS = ("{}", "{}=", "{}=?")
GLYPH_TURNS = (-6, -3, 0, 3, 6)  # degrees
GLYPH_SCALES = (0.9, 1.0, 1.08)
INSTRUCTIONS = (  # the first is canonical and what a world says; all mean the same
    "answer the board with the tiles",
    "put the answer into the tray",
    "place the tiles that solve the board",
    "solve the board and lay the answer in the tray",
    "read the board, then put its result in the tray",
)

# ---- places --------------------------------------------------------------------------------------------

TILE = (0.044, 0.052, 0.020)  # x, y, z of a tile
AREA = ((-0.165, 0.13), (-0.035, 0.11))  # where tile centres may lie: x, y
YAW = 0.5236  # tiles are turned by at most this
APART = (0.068, 0.098)  # two tiles are this far apart in x, or that far in y
PLACES = ((-0.06, -0.115), (0.01, -0.115))  # the tray: where the first and the second digit go
TILES = (3, 6)  # fewest and most tiles of a scene
COLUMNS = ("left", "middle", "right")
ROWS = ("front", "middle", "back")
CELLS = 16  # cells a side of the front picture, for coordinates in words


def place_words(x: float, y: float, area: tuple[Span, Span] = AREA) -> str:
    """Where a point of an area lies, in two words of a 3x3 grid: "left back"."""

    def third(v: float, span: tuple[float, float], words: Sequence[str]) -> str:
        return words[max(0, min(2, int(3 * (v - span[0]) / (span[1] - span[0]))))]

    return f"{third(x, area[0], COLUMNS)} {third(y, area[1], ROWS)}"


@dataclass(frozen=True)
class Tile:
    """A tile: centre (m), yaw (rad), names of its face and ink. `why` it is there: "answer", or the cheat that it
    catches: "operand", "near" (answer +-1), "operator" (another operator's result), "reversed" (an operand read
    backwards), "twin" (a second copy of some tile), "prior" (drawn from the class's answers), "other"."""

    digit: int
    x: float
    y: float
    yaw: float
    face: str
    ink: str
    why: str


@dataclass(frozen=True)
class Glyph:
    """One character of the board: shift in glyph heights, turn in degrees, scale."""

    char: str
    dx: float
    dy: float
    turn: int
    scale: float


@dataclass(frozen=True)
class Board:
    """What is written: `text` as spoken ("3+4="), `glyphs` as drawn, and how."""

    text: str
    glyphs: tuple[Glyph, ...]
    font: str
    paper: str
    ink: str


@dataclass(frozen=True)
class MathsScene:
    """A fully sampled scene, as plain numbers. `split` is the equation's class."""

    equation: Equation
    split: str
    tiles: tuple[Tile, ...]
    tile_font: str
    board: Board
    instruction: str = INSTRUCTIONS[0]

    def candidates(self, placed: int, taken: Sequence[int] = ()) -> tuple[int, ...]:
        """Tiles that may serve as digit `placed` of the answer, from left to right, less those already taken."""
        digit = self.equation.digits[placed]
        fit = [i for i, t in enumerate(self.tiles) if t.digit == digit and i not in taken]
        return tuple(sorted(fit, key=lambda i: self.tiles[i].x))

    def order(self, taken: Sequence[int] = ()) -> tuple[int, ...]:
        """The tiles to take, first to last: those `taken`, then the leftmost that serves each further digit."""
        out = list(taken)
        for k in range(len(out), len(self.equation.digits)):
            if not (fit := self.candidates(k, out)):
                raise BadData(f"{self.equation.text} without a tile {self.equation.digits[k]}", "its answer's tiles",
                              "sample the scene with answer_tiles=True")  # fmt: skip
            out.append(fit[0])
        return tuple(out)

    @property
    def lacking(self) -> bool:
        """Whether a tile that the answer needs is not there."""
        return bool(Counter(self.equation.digits) - Counter(t.digit for t in self.tiles))

    def moved(self, poses: Sequence[tuple[float, float, float]]) -> MathsScene:
        """The same scene with the tiles at other (x, y, yaw)."""
        tiles = tuple(replace(t, x=x, y=y, yaw=w) for t, (x, y, w) in zip(self.tiles, poses, strict=True))
        return replace(self, tiles=tiles)

    def to_json(self) -> dict[str, Any]:
        """Plain lists and dictionaries."""
        return asdict(self)

    @staticmethod
    def from_json(d: dict[str, Any]) -> MathsScene:
        """The inverse of `to_json`."""
        board = Board(**{**d["board"], "glyphs": tuple(Glyph(**g) for g in d["board"]["glyphs"])})
        tiles = tuple(Tile(**t) for t in d["tiles"])
        return MathsScene(**{**d, "equation": Equation(**d["equation"]), "tiles": tiles, "board": board})


# ---- words ---------------------------------------------------------------------------------------------

SIDES = ("left", "right")  # of the tray, for the first and the second digit
REFUSAL = "none"  # the last word of a thought about what cannot be done: nothing is to be taken
WORDS = ("tiles", "placed", "take", "put", "done", REFUSAL, *COLUMNS, "front", "back")  # all that `reasoning_text` says


def reasoning_text(scene: MathsScene, placed: int, taken: Sequence[int] | None = None, held: bool = False) -> str:
    """What there is to think when `placed` digits of the answer lie in the tray (ChatVLA-2's annotation, compact).

    The expression read, its result, and what to do now. Before a tile is in the hand: the digits on the table from left
    to right, what is placed, and the tile to take by digit and place: "9+7=16. tiles 63. 1 placed. take 6 middle
    front." With it in the hand (`held`), where it goes: "9+7=16. 1 placed. put 6 right." No coordinates. Of a scene
    that is `lacking`, held or not: "9+7=16. tiles 634. none." `taken`: indices of the placed tiles, where they are not
    the ones `scene.order()` names.
    """
    digits, lacking = scene.equation.digits, scene.lacking
    order = tuple(taken or ()) if lacking else scene.order() if taken is None else scene.order(taken[:placed])
    parts = [f"{scene.equation.text}={scene.equation.answer}"]
    held = held and placed < len(digits) and not lacking
    if not held:
        table = sorted((t.x, t.digit) for i, t in enumerate(scene.tiles) if i not in order[:placed])
        parts.append(f"tiles {''.join(str(d) for _, d in table)}".strip())
    if placed:
        parts.append(" ".join([*(str(d) for d in digits[:placed]), "placed"]))
    if lacking:
        parts.append(REFUSAL)
    elif placed == len(digits):
        parts.append("done")
    elif held:
        parts.append(f"put {digits[placed]} {SIDES[placed]}")
    else:
        tile = scene.tiles[order[placed]]
        parts.append(f"take {tile.digit} {place_words(tile.x, tile.y)}")
    return ". ".join(parts) + "."


def cell_of(pixel: tuple[float, float], size: int = 128) -> tuple[int, int]:
    """The cell (column, row) of a pixel (u right, v down) in a square front picture of `size` pixels a side."""
    u, v = (max(0, min(CELLS - 1, int(p * CELLS / size))) for p in pixel)
    return u, v


def reasoning_cell_text(
    scene: MathsScene, placed: int, pixel: tuple[float, float], size: int = 128, taken: Sequence[int] | None = None
) -> str:
    """The stated variant: the same text with the target's cell in the front picture, "take 7 left back <x4><y7>."

    `pixel`: where the tile to be taken is seen, (u, v) in a picture of `size` pixels a side.
    """
    text, (column, row) = reasoning_text(scene, placed, taken), cell_of(pixel, size)
    return text if text.endswith(("done.", f"{REFUSAL}.")) else f"{text[:-1]} <x{column}><y{row}>."


_THOUGHT = re.compile(
    r"(?P<expression>\d+[+\-x]\d+)=(?P<answer>\d+)\.(?P<table> tiles(?P<tiles>( \d+)?)\.)?"
    r"( (?P<placed>\d( \d)*) placed\.)? ((?P<done>done)|(?P<none>none)|take (?P<take>\d) (?P<place>\w+ \w+)"
    r"( <x(?P<column>\d+)><y(?P<row>\d+)>)?|put (?P<put>\d) (?P<side>left|right))\."
)


def read_reasoning(text: str) -> dict[str, Any] | None:
    """The fields of a thought, or None where it does not have the exact form: expression, answer, tiles (None with a
    tile in the hand), placed, step ("take", "put", "done" or "none"), digit, place (where the tile to take lies, or the
    side of the tray that it goes to; None when done or none, like digit), cell (None where no coordinate was given)."""
    m = _THOUGHT.fullmatch(text.strip())
    if m is None or bool(m["table"]) == bool(m["put"]):
        return None
    step = next(s for s in ("take", "put", "done", REFUSAL) if m[s])
    return {
        "expression": m["expression"], "answer": int(m["answer"]),
        "tiles": tuple(int(d) for d in m["tiles"].strip()) if m["table"] else None,
        "placed": tuple(int(d) for d in (m["placed"] or "").split()),
        "step": step, "digit": int(m[step]) if m[step].isdigit() else None, "place": m["place"] or m["side"],
        "cell": (int(m["column"]), int(m["row"])) if m["column"] else None,
    }  # fmt: skip


# ---- sampling ------------------------------------------------------------------------------------------


def write_board(draw: Draw, expression: str, fonts: Sequence[Font], forms: Sequence[str] = BOARD_FORMS) -> Board:
    """A board with an expression ("12-5") in one of these fonts, inked and jittered."""
    font = draw.pick(fonts)
    text = draw.pick(forms).format(expression)
    paper = draw.pick(list(PAPERS))
    ink, times = draw.pick(PAPERS[paper][1]), draw.pick(font.times)
    drawn = text.replace("-", font.minus).replace("x", times)
    glyphs = tuple(
        Glyph(c, draw.uniform(-0.04, 0.04), draw.uniform(-0.06, 0.06), draw.pick(GLYPH_TURNS), draw.pick(GLYPH_SCALES))
        for c in drawn
    )
    return Board(text, glyphs, font.name, paper, ink)


@cache
def prior(split: str) -> tuple[int, ...]:
    """First digits: sums of two digits all begin with 1, and a 1 on the table must not tell how many tiles to take."""
    return tuple(e.digits[0] for e in equations(split))


def sample_maths(
    keys: Keys,
    split: str,
    *,
    digits: int | None = None,
    equation: Equation | None = None,
    answer_tiles: bool = True,
    fonts: str = "R",
) -> MathsScene:
    """One scene: an equation of `split` (uniform), 3 to 6 tiles placed freely, a board.

    keys: one row. digits: only answers of so many digits. equation: this one instead of a draw (`split` then only
    says whose answers the random distractors come from). answer_tiles False: tiles with none of the answer's
    digits, for questions that must not be answered by looking at the tiles. fonts: which class of `Font.known`.

    Every answer digit is on its own tile, equal digits on two equal tiles. In one scene of six some tile has a
    twin, so that two equal tiles do not betray an answer such as 11.
    """
    draw = Draw(keys.fold("maths"))
    pool = [e for e in equations(split) if digits is None or len(e.digits) == digits]
    styles = [f for f in FONTS if f.known == fonts]
    if not pool or not styles:
        what = f"split '{split}' with digits={digits}, fonts='{fonts}'"
        raise BadData(what, "digits 1 or 2, fonts R, K or X", "check")
    picked = draw.pick(pool)
    e = equation if equation is not None else picked
    count = TILES[0] + draw.index(TILES[1] - TILES[0] + 1)
    chosen = [(d, "answer") for d in e.digits] if answer_tiles else []
    chosen += distractors(draw, e, count - len(chosen), prior(split))
    if draw.chance(1 / 6):
        chosen[-1] = (draw.pick(chosen[:-1])[0], "twin")  # of the answer's, perhaps: then either of the two serves
    tile_font = draw.pick(styles).name
    tiles = tuple(
        Tile(d, x, y, yaw, draw.pick(list(FACES)), draw.pick(TILE_INKS), why)
        for (d, why), (x, y, yaw) in zip(draw.shuffled(chosen), layout(draw, count, AREA, APART, YAW))
    )
    return MathsScene(e, split_of(e) if e in _classes() else "X", tiles, tile_font, write_board(draw, e.text, styles))


# ---- tasks ---------------------------------------------------------------------------------------------

FAMILY = "maths_matching"


def sample_task(key: Key) -> MathsScene:
    """The scene an episode's key names. Tasks: "maths_matching/K-dev", one-digit answers only
    "maths_matching/K-dev/1" (or /2), and with another class of fonts "maths_matching/K-dev/font-K"."""
    family, _, rest = key.task.partition("/")
    split, *more = rest.split("/")
    digits, fonts = None, "R"
    for word in more:
        if word in ("1", "2"):
            digits = int(word)
        elif word in ("font-R", "font-K", "font-X"):
            fonts = word[-1]
        else:
            family = ""
    if family != FAMILY or split not in SPLITS:
        expected = f"'{FAMILY}/<split>' with split one of {SPLITS}, then optionally '/1', '/2', '/font-K', '/font-X'"
        raise BadData(f"task '{key.task}'", expected, "correct Key.task")
    return sample_maths(Keys.of([key]), split, digits=digits, fonts=fonts)


def declared() -> dict[str, Any]:
    """Everything of this file that the hash of the declaration covers."""
    return {
        "version": VERSION,
        "equations": sorted((e.text, s) for e, s in _classes().items()),
        "fonts": [asdict(f) for f in FONTS],
        "looks": [INKS, PAPERS, FACES, TILE_INKS, BOARD_FORMS, GLYPH_TURNS, GLYPH_SCALES],
        "words": [INSTRUCTIONS, WORDS, COLUMNS, ROWS, CELLS],
        "places": [TILE, AREA, YAW, APART, PLACES, TILES],
    }
