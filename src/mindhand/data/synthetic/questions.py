"""What is asked about a scene, in which words, and what is right.

Every maker takes a scene and draws; none looks at pixels, so that millions of questions can be checked without
rendering. A maker gives a *slot* (what the question is about), an answer, and the tile it speaks of, if one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

from mindhand.core.errors import BadData
from mindhand.worlds.draw import Draw
from mindhand.worlds.equations import Equation
from mindhand.worlds.scene import COLUMNS, FACES, ROWS, MathsScene, equations, place_words, reasoning_text

from .samples import QA, Pixel

# "{}" is the slot. The first phrasing of a kind is canonical. No phrasing belongs to two kinds, and none is an
# instruction of the scene, which asks for a hand and not for an answer.
PHRASES: dict[str, tuple[str, ...]] = {
    "read": ("what is on the board?", "read the board", "what does the board say?", "say what is on the board"),
    "solve": (
        "solve the board", "read and solve the board", "read the board and say its answer",
        "solve what is on the board",
    ),
    "answer": ("what is the answer?", "say the answer", "what is the answer to the board?", "answer the board"),
    "calc": ("what is {}?", "how much is {}?", "say the answer to {}", "{}=?"),
    "calc in full": ("calc {}", "solve {}", "read and solve {}"),
    "tiles": ("list the tiles", "read the tiles", "what tiles are there?", "say the tiles from left to right"),
    "where": ("where is the {}?", "where is tile {}?", "find the {}", "say where the {} is"),
    "which": ("which tile is {}?", "which digit is {}?", "what tile is at the {}?", "read the tile at the {}"),
    "next": (
        "what is to be done next?", "which tile comes next?", "find the tile that comes next",
        "solve the board and find its next tile",
    ),
    "next in hand": (
        "what is to be done with the tile in the hand?", "where does the tile in the hand go?",
        "solve the board and say where the tile in the hand goes",
    ),
    "count": ("how many {}tiles are there?", "count the {}tiles", "how many {}tiles?"),
    "exist": ("is there a tile {}?", "is tile {} there?", "do you see a tile {}?", "do the tiles have a {}?"),
    "colour": ("what colour is the {}?", "which colour is the {}?", "say the colour of the {}", "colour of the {}?"),
}  # fmt: skip
# What may stand before any of them, and before an instruction: who answers is not to mind how it is addressed.
ADDRESSES = (
    "",
    "please, ",
    "now ",
    "look: ",
    "robot, ",
    "here is a desk. ",
    "tell me: ",
    "next, ",
)
KINDS = ("read", "solve", "answer", "calc", "tiles", "where", "which", "next", "count", "exist", "colour")
JOINED = "joined"  # several in one; never in an exam
ABOUT_BOARD = ("read", "solve", "answer")  # examined with the answer's tiles removed
NONE = "none"
Pixels = Sequence[Pixel] | Mapping[int, Pixel]  # by index


@dataclass(frozen=True)
class Asked:
    """One question before it is worded: which phrasings, what fills them, what is right, which tile or which place of
    the tray it is about, and which tiles it lists."""

    phrases: str
    slot: str
    answer: str
    tile: int | None = None
    row: tuple[int, ...] = ()
    place: int | None = None


def counted(many: int) -> str:
    """A count, said aloud: "1 2 3". One look at each thing is learned long before a sum over all of them is."""
    return " ".join(str(n) for n in range(1, many + 1)) or "0"


def _leftmost(scene: MathsScene, digit: int) -> int:
    return min((t.x, i) for i, t in enumerate(scene.tiles) if t.digit == digit)[1]


def _read(scene: MathsScene, draw: Draw, known: Sequence[str]) -> Asked:
    return Asked("read", "", scene.equation.text)


def _solve(scene: MathsScene, draw: Draw, known: Sequence[str]) -> Asked:
    return Asked("solve", "", f"{scene.equation.text}={scene.equation.answer}")


def _answer(scene: MathsScene, draw: Draw, known: Sequence[str]) -> Asked:
    return Asked("answer", "", str(scene.equation.answer))


@cache
def pool(splits: tuple[str, ...]) -> tuple[Equation, ...]:
    """All equations of these classes."""
    return tuple(e for split in splits for e in equations(split))


def ask_fact(e: Equation, full: bool) -> Asked:
    """A fact in words alone: "what is 3+4?" -> "7", or in full "calc 3+4" -> "3+4=7"."""
    return Asked("calc in full", e.text, f"{e.text}={e.answer}") if full else Asked("calc", e.text, str(e.answer))


def _calc(scene: MathsScene, draw: Draw, known: Sequence[str]) -> Asked:
    return ask_fact(draw.pick(pool(tuple(known))), draw.chance(0.5))


def _row(scene: MathsScene, but: Sequence[int] = ()) -> tuple[int, ...]:
    """Tiles from left to right, without some."""
    tiles = scene.tiles
    return tuple(sorted(set(range(len(tiles))) - set(but), key=lambda k: (tiles[k].x, tiles[k].digit)))


def _tiles(scene: MathsScene, draw: Draw, known: Sequence[str]) -> Asked:
    row = _row(scene)
    return Asked("tiles", "", f"tiles {''.join(str(scene.tiles[k].digit) for k in row)}", row=row)


def _where(scene: MathsScene, draw: Draw, known: Sequence[str]) -> Asked:
    at = _leftmost(scene, draw.pick(sorted({t.digit for t in scene.tiles})))
    tile = scene.tiles[at]
    # The digit again, then its place, as a thought has it: from "7" to the tile 7 is one look, from the question two.
    return Asked("where", str(tile.digit), f"{tile.digit} {place_words(tile.x, tile.y)}", at)


def _which(scene: MathsScene, draw: Draw, known: Sequence[str]) -> Asked:
    there: dict[str, list[int]] = {f"{c} {r}": [] for c in COLUMNS for r in ROWS}
    for i, t in enumerate(scene.tiles):
        there[place_words(t.x, t.y)].append(i)
    single = [p for p, tiles in there.items() if len(tiles) == 1]
    empty = [p for p, tiles in there.items() if not tiles]  # never none of them: six tiles, nine places
    if not single or draw.chance(0.2):
        return Asked("which", draw.pick(empty), NONE)
    place = draw.pick(single)
    (at,) = there[place]
    return Asked("which", place, str(scene.tiles[at].digit), at)


def ask_next(scene: MathsScene, taken: Sequence[int] = (), held: bool = False) -> Asked:
    """What is to be done next when the tiles `taken` lie in the tray, in order, and the next is in a hand or not
    (`held`), in the words of a thought."""
    at, row, said = len(taken), _row(scene, taken), reasoning_text(scene, len(taken), taken, held)
    if at == len(scene.equation.digits) or scene.lacking:
        return Asked("next", "", said, row=row)
    if held:
        return Asked("next in hand", "", said, place=at)
    return Asked("next", "", said, scene.candidates(at, taken)[0], row)


def _next(scene: MathsScene, draw: Draw, known: Sequence[str]) -> Asked:
    return ask_next(scene)


def _count(scene: MathsScene, draw: Draw, known: Sequence[str]) -> Asked:
    if draw.chance(0.5):
        return Asked("count", "", counted(len(scene.tiles)), row=_row(scene))
    here = [t.face for t in scene.tiles]
    face = draw.pick(here if draw.chance(0.75) else list(FACES))
    row = tuple(k for k in _row(scene) if here[k] == face)
    return Asked("count", f"{face} ", counted(len(row)), row=row)


def _exist(scene: MathsScene, draw: Draw, known: Sequence[str]) -> Asked:
    here = {t.digit for t in scene.tiles}
    absent = [d for d in range(10) if d not in here]
    if draw.chance(0.5):
        return Asked("exist", str(draw.pick(sorted(here))), "yes")
    seen = [d for d in absent if str(d) in scene.board.text]  # on the board, and yet no tile
    return Asked("exist", str(draw.pick(seen if seen and draw.chance(0.5) else absent)), "no")


def _colour(scene: MathsScene, draw: Draw, known: Sequence[str]) -> Asked:
    digits = [t.digit for t in scene.tiles]
    single = [i for i, d in enumerate(digits) if digits.count(d) == 1]
    if not single or draw.chance(0.15):
        return Asked("colour", "board", scene.board.paper)
    at = draw.pick(single)
    return Asked("colour", str(digits[at]), scene.tiles[at].face, at)


_MAKERS: dict[str, Callable[[MathsScene, Draw, Sequence[str]], Asked]] = {
    "read": _read, "solve": _solve, "answer": _answer, "calc": _calc, "tiles": _tiles,
    "where": _where, "which": _which, "next": _next, "count": _count, "exist": _exist, "colour": _colour,
}  # fmt: skip


def ask(kind: str, scene: MathsScene, draw: Draw, known: Sequence[str]) -> Asked:
    """A question of this kind about the scene. `known`: the classes whose facts may be spoken of ("calc")."""
    if kind not in _MAKERS:
        raise BadData(f"questions of kind '{kind}'", f"one of {KINDS}", "correct the mix")
    return _MAKERS[kind](scene, draw, known)


def word(kind: str, asked: Asked, phrasing: int, tiles: Pixels | None = None, places: Sequence[Pixel] = ()) -> QA:
    """The question in words, in phrasing number `phrasing` (modulo their count). `tiles`: the pixels of the scene's
    tiles, and `places` those of the tray's, where they are known."""
    phrases = PHRASES[asked.phrases]
    point = None if tiles is None or asked.tile is None else tiles[asked.tile]
    if asked.place is not None and places:
        point = places[asked.place]
    row = () if tiles is None else tuple(tiles[k] for k in asked.row)
    return QA(kind, phrases[phrasing % len(phrases)].format(asked.slot), asked.answer, point, row)


def make(kind: str, scene: MathsScene, draw: Draw, known: Sequence[str], tiles: Sequence[Pixel] | None = None) -> QA:
    """A worded question of this kind; slot and phrasing are drawn."""
    asked = ask(kind, scene, draw, known)
    return word(kind, asked, draw.index(len(PHRASES[asked.phrases])), tiles)


def addressed(qa: QA, draw: Draw) -> QA:
    """The same, addressed in some way."""
    return replace(qa, question=draw.pick(ADDRESSES) + qa.question)


def joined_text(parts: Sequence[QA]) -> str:
    """The answer to several questions."""
    return ". ".join(p.answer for p in parts)


def joined(*parts: QA) -> QA:
    """Several questions as one: "solve the board and list the tiles"."""
    question = " and ".join(p.question.rstrip("?") for p in parts)
    return QA(JOINED, question, joined_text(parts), parts=parts)
