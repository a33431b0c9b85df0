"""Questions about a table of toys and about what is written behind it, with their answers: generated, never stored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from mindhand.core.errors import BadData
from mindhand.worlds.boards import Chart, Notice
from mindhand.worlds.draw import Draw
from mindhand.worlds.equations import Equation
from mindhand.worlds.scene import Board, equations
from mindhand.worlds.things import COLOURS, GRID, MATERIALS, OPPOSITE, RELATIONS, Toy, ToyScene, things
from mindhand.worlds.wide import parts, wide_equations, written, written_three

from .questions import PHRASES as DESK_PHRASES
from .questions import counted
from .samples import QA, Pixel
from .toy_plans import EMPTY, FULL, WAYS, plan

Sum = Equation | tuple[int, int, int]  # of three numbers only a sum is asked
READ = ("read", "solve", "answer")  # the desk's questions about a sum, asked here in the same words
# "{}" are the slots. The first phrasing of a kind is canonical; no phrasing belongs to two kinds.
PHRASES: dict[str, tuple[str, ...]] = {
    "name": ("what is the {}?", "name the {}", "which toy is the {}?", "say what the {} is"),
    "hue": ("what colour has the {}?", "say which colour the {} has", "name the colour of the {}"),
    "pattern": ("what pattern has the {}?", "is the {} plain, striped or dotted?", "say the pattern of the {}"),
    "amount": ("how many {} are on the table?", "count the {}", "say how many {} you see", "number of {}?"),
    "there": ("is there a {} on the table?", "do you see a {}?", "is a {} there?", "can you find a {}?"),
    "relation": ("where is the {}, seen from the {}?", "how does the {} lie to the {}?", "say how the {} is to the {}"),
    "beside": ("what is {} the {}?", "which toy is {} the {}?", "name what is {} the {}"),
    "lies": ("is the {} {} the {}?", "does the {} lie {} the {}?", "true or not: the {} is {} the {}"),
    "point": ("point at the {}", "point to the {}", "show me the {}", "where exactly is the {}?"),
    "box": ("put a box around the {}", "box the {}", "frame the {}", "draw a box around the {}"),
    "choice": ("what is the {}? {}", "choose what the {} is: {}", "which of these is the {}? {}"),
    "caption": ("describe the table", "say what lies on the table", "list the toys from left to right"),
    "turn": ("what is the {}? {}. and what colour has it?", "name the {}. {}. which colour is it?"),
    "plan": ("what is next to have the {} {} the {}?", "how do you get the {} {} the {}?", "the {} goes {} the {}"),
    "number": ("which number is on the board?", "read the number", "what number do you see?"),
    "steps": ("solve the board step by step", "work the board out", "show how the board is solved"),
    "board": ("what is written behind the toys?", "read what stands behind the toys"),
    "result": ("what is the result of the sum?", "say the result of the sum", "what does the sum make?"),
    "notice": ("what does the notice say?", "read the notice", "say what the notice says"),
    "bars": ("list the bars of the chart", "name the bars from left to right", "which bars has the chart?"),
    "highest": ("which bar is the highest?", "name the highest bar", "what colour has the highest bar?"),
    "lowest": ("which bar is the lowest?", "name the lowest bar", "what colour has the lowest bar?"),
    "higher": ("is the {} bar higher than the {} bar?", "is {} higher than {}?"),
    **{kind: DESK_PHRASES[kind] for kind in READ},
}  # fmt: skip
ABOUT_TOYS = ("name", "hue", "pattern", "amount", "there", "relation", "beside", "lies", "point", "box", "choice",
              "caption", "turn", "plan")  # fmt: skip
SUM = ("board", "result", "steps", *READ)
CHART = ("bars", "highest", "lowest", "higher")
LISTS = ("caption", "notice", "bars")  # answers whose every word has a place of its own (`QA.row`)
LETTERS = "abc"
RIM = 0.12  # of a container's width, from its left: where it is pointed at when something is in it
LISTED = 4  # toys of a caption, at most


@dataclass(frozen=True)
class ToyHand:
    """A hand over the table: where its tool may be, x, y, z (m), yaw (rad) each, the first that hides little; and the
    toy that it holds, which is not on the table."""

    tools: tuple[tuple[float, ...], ...]
    held: Toy | None = None


@dataclass(frozen=True)
class Tabletop:
    """Toys on a table, what is on the board behind them, the sum that it is, if it is one, and perhaps a hand."""

    scene: ToyScene
    writing: Board | Notice | Chart
    sum: Sum | None = None
    hand: ToyHand | None = None


@dataclass(frozen=True, eq=False)
class Sight:
    """A picture uint8 (h,w,3) of a tabletop, and where things are in it, in pixels: of every toy where one points at it
    (`pointed`) and its box (left, top, right, bottom); the middles of what is written, by character, word or bar;
    where a point of the table's frame (x, y, z in m) is seen; and whether the tabletop's hand is seen."""

    image: np.ndarray
    toys: tuple[Pixel, ...]
    boxes: tuple[tuple[float, float, float, float], ...]
    written: tuple[Pixel, ...]
    at: Callable[[Sequence[float]], Pixel]
    armed: bool = False


def pointed(scene: ToyScene, middles: Sequence[Pixel], boxes: Sequence[Sequence[float]]) -> tuple[Pixel, ...]:
    """Where one points at every toy: at its middle; at what holds another beside that, on the left of its rim. Both
    would be at one place otherwise, and a cell of the picture can be one thing's only."""
    out = list(middles)
    for held_by in {t.held_by for t in scene.toys if t.held_by is not None}:
        left, top, right, bottom = boxes[held_by]
        out[held_by] = left + RIM * (right - left), (top + bottom) / 2
    return tuple(out)


def expression(of: Sum) -> str:
    """What the board says of a sum."""
    return of.text if isinstance(of, Equation) else "+".join(map(str, of))


@cache
def _held_out() -> frozenset[Equation]:
    return frozenset((*equations("X"), *wide_equations("X")))


def workable(of: Sum) -> bool:
    """Whether it can be worked out in steps without a word of a sum of class X."""
    return _held_out().isdisjoint(parts(of))


def _lone(scene: ToyScene, what: str) -> list[int]:
    """Toys whose name, or colour, no other has."""
    said = [getattr(t, what) for t in scene.toys]
    return [k for k, s in enumerate(said) if said.count(s) == 1]


def coordinates(*points: Pixel, size: int = 128) -> str:
    """Points in words: "<x4><y20>" each."""
    at = ((max(0, min(GRID - 1, int(c * GRID / size))) for c in p) for p in points)
    return "".join(f"<x{u}><y{v}>" for u, v in at)


class Asker:
    """Asks about one tabletop as seen. Kinds that it does not lend itself to give None."""

    def __init__(self, table: Tabletop, look: Sight, draw: Draw, known: Sequence[str] = ("R", "K")):
        self.table, self.scene, self.look, self.draw, self.known = table, table.scene, look, draw, known
        self.relations = [r for r, of in RELATIONS.items() if of in known]

    def ask(self, kind: str) -> QA | None:
        """A worded question of this kind, its slots and phrasing drawn."""
        if kind not in PHRASES:
            raise BadData(f"questions of kind '{kind}'", f"one of {tuple(PHRASES)}", "correct the mix")
        return _MAKERS[kind](self)

    def _qa(
        self, kind: str, slots: Sequence[str], answer: str, about: int | None = None, row: Sequence[Pixel] = ()
    ) -> QA:
        question = self.draw.pick(PHRASES[kind]).format(*slots)
        return QA(kind, question, answer, None if about is None else self.look.toys[about], tuple(row))

    def name(self) -> QA | None:
        """ "what is the red toy?" -> "ball"."""
        if not (lone := _lone(self.scene, "colour")):
            return None
        at = self.draw.pick(lone)
        return self._qa("name", [f"{self.scene.toys[at].colour} toy"], self.scene.toys[at].thing, at)

    def hue(self) -> QA | None:
        """ "what colour has the ball?" -> "red"."""
        if not (lone := _lone(self.scene, "thing")):
            return None
        at = self.draw.pick(lone)
        return self._qa("hue", [self.scene.toys[at].thing], self.scene.toys[at].colour, at)

    def pattern(self) -> QA | None:
        """ "what pattern has the ball?" -> "striped"."""
        odd = [k for k, t in enumerate(self.scene.toys) if t.material != MATERIALS[0]]
        at = self.draw.pick(odd if odd and self.draw.chance(0.6) else range(len(self.scene.toys)))
        return self._qa("pattern", [self.scene.said(at)], self.scene.toys[at].material, at)

    def amount(self) -> QA | None:
        """ "how many ball toys are on the table?" -> "1 2", from left to right; of a colour; of all."""
        toys, way = self.scene.toys, self.draw.uniform()
        said, alike = "toys", list(range(len(toys)))
        if way < 0.6:
            here = [t.thing for t in toys]
            many = [n for n in here if here.count(n) > 1]
            name = self.draw.pick(many if many and self.draw.chance(0.6) else here)
            said, alike = f"{name} toys", [k for k, n in enumerate(here) if n == name]
        elif way < 0.85:
            colour = self.draw.pick([t.colour for t in toys])
            said, alike = f"{colour} toys", [k for k, t in enumerate(toys) if t.colour == colour]
        row = [self.look.toys[k] for k in self._from_left(alike)]
        return self._qa("amount", [said], counted(len(row)), None, row)

    def _from_left(self, some: Sequence[int]) -> list[int]:
        """Toys from left to right in the picture (on the table perspective turns some pairs round, and who follows
        with the eyes misses one of them), what lies in another behind it."""
        return sorted(some, key=lambda k: (self.look.toys[k][0], self.scene.toys[k].held_by is not None))

    def there(self) -> QA | None:
        """ "is there a ball on the table?", "... a red ball ...": as often yes as no."""
        toys, with_colour = self.scene.toys, self.draw.chance(0.5)
        if self.draw.chance(0.5):
            at = self.draw.index(len(toys))
            said = toys[at].full if with_colour else toys[at].thing
            return self._qa("there", [said], "yes", at)
        if with_colour:  # a name that is there in a colour that it has not
            at = self.draw.index(len(toys))
            name = toys[at].thing
            free = [c for c in COLOURS if c not in {t.colour for t in toys if t.thing == name}]
            near = [c for c in free if c in {t.colour for t in toys}]
            return self._qa("there", [f"{self.draw.pick(near or free)} {name}"], "no", at)
        hand = self.table.hand
        here = {t.thing for t in (*toys, *([hand.held] if hand and hand.held else ()))}
        absent = [t.name for t in things(self.known) if t.name not in here]
        return self._qa("there", [self.draw.pick(absent)], "no")

    def _pairs(self) -> list[tuple[int, int, str]]:
        n = range(len(self.scene.toys))
        return [(a, b, r) for a in n for b in n if a != b for r in self.scene.relation(a, b) if r in self.relations]

    def _pair(self) -> tuple[int, int, str] | None:
        """Two toys and how one lies to the other, every relation that is there as likely."""
        pairs = self._pairs()
        if not pairs:
            return None
        want = self.draw.pick(sorted({r for *_, r in pairs}))
        return self.draw.pick([p for p in pairs if p[2] == want])

    def relation(self) -> QA | None:
        """ "where is the ball, seen from the cup?" -> "left of"."""
        if (pair := self._pair()) is None:
            return None
        a, b, how = pair
        return self._qa("relation", [self.scene.said(a), self.scene.said(b)], how, a)

    def beside(self) -> QA | None:
        """ "what is left of the cup?" -> "ball", where only one toy is."""
        pairs = self._pairs()
        lone = [p for p in pairs if sum(q[1:] == p[1:] for q in pairs) == 1]
        if not lone:
            return None
        a, b, how = self.draw.pick(lone)
        return self._qa("beside", [how, self.scene.said(b)], self.scene.toys[a].thing, a)

    def lies(self) -> QA | None:
        """ "is the ball left of the cup?" """
        if (pair := self._pair()) is None:
            return None
        a, b, how = pair
        if yes := self.draw.chance(0.5):
            said = how
        else:
            said = OPPOSITE.get(how) if self.draw.chance(0.5) else None
            said = said if said in self.relations else self.draw.pick([r for r in self.relations if r != how])
        return self._qa("lies", [self.scene.said(a), said, self.scene.said(b)], "yes" if yes else "no", a)

    def point(self) -> QA | None:
        """ "point at the ball" -> "<x4><y20>", its middle."""
        at = self.draw.index(len(self.scene.toys))
        return self._qa("point", [self.scene.said(at)], coordinates(self.look.toys[at]), at)

    def box(self) -> QA | None:
        """ "box the ball" -> its left, top, right and bottom: "<x3><y18><x6><y23>"."""
        at = self.draw.index(len(self.scene.toys))
        left, top, right, bottom = self.look.boxes[at]
        return self._qa("box", [self.scene.said(at)], coordinates((left, top), (right, bottom)), at)

    def choice(self) -> QA | None:
        """ "what is the red toy? a cup, b ball, c car" -> "b"."""
        if not (lone := _lone(self.scene, "colour")):
            return None
        at = self.draw.pick(lone)
        right, colour = self.scene.toys[at].thing, self.scene.toys[at].colour
        here = sorted({t.thing for t in self.scene.toys} - {right})
        rest = [t.name for t in things(self.known) if t.name != right and t.name not in here]
        wrong = [*self.draw.shuffled(here)[:1], *self.draw.shuffled(rest)][: len(LETTERS) - 1]
        options = self.draw.shuffled([right, *wrong])
        listed = ", ".join(f"{letter} {name}" for letter, name in zip(LETTERS, options))
        return self._qa("choice", [f"{colour} toy", listed], LETTERS[options.index(right)], at)

    def caption(self) -> QA | None:
        """ "describe the table" -> "red ball, blue cup", from left to right."""
        toys = self.scene.toys
        if len(toys) > LISTED:
            return None
        order = self._from_left(range(len(toys)))
        row = [self.look.toys[k] for k in order for _ in range(2)]
        return self._qa("caption", [], ", ".join(toys[k].full for k in order), None, row)

    def turn(self) -> QA | None:
        """A second turn that stands on the first: "what is the striped toy? ball. and what colour has it?" -> "red"."""
        lone = [k for k in _lone(self.scene, "material") if self.scene.toys[k].material != MATERIALS[0]]
        if not lone:
            return None
        at = self.draw.pick(lone)
        toy = self.scene.toys[at]
        return self._qa("turn", [f"{toy.material} toy", toy.thing], toy.colour, at)

    def plan(self) -> QA | None:
        """What a hand would do next to have one toy somewhere beside another (`toy_plans`)."""
        hand = self.table.hand if self.look.armed else None
        ways = WAYS if hand is None else FULL if hand.held else EMPTY
        seen, at = self.look.toys, self.look.at
        return plan(self.scene, seen, at, self.draw, PHRASES["plan"], self.known, ways, hand and hand.held)

    def number(self) -> QA | None:
        """The number on the board."""
        board = self.table.writing
        if self.table.sum is not None or not isinstance(board, Board) or not board.text:
            return None
        return self._qa("number", [], board.text, None, self.look.written)

    def _board(self, kind: str) -> QA | None:
        """What is written there, read aloud."""
        if self.table.sum is None:
            return None
        return self._qa(kind, [], expression(self.table.sum), None, self.look.written)

    def _result(self, kind: str) -> QA | None:
        """The answer alone, of two numbers."""
        of = self.table.sum
        return self._qa(kind, [], str(of.answer)) if isinstance(of, Equation) else None

    def solve(self) -> QA | None:
        """Read aloud, and the answer, of two numbers."""
        of = self.table.sum
        if not isinstance(of, Equation):
            return None
        return self._qa("solve", [], f"{of.text}={of.answer}", None, self.look.written)

    def steps(self) -> QA | None:
        """The sum worked out in steps; their reading comes first."""
        of = self.table.sum
        if of is None or not workable(of):
            return None
        answer = written(of) if isinstance(of, Equation) else written_three(*of)
        return self._qa("steps", [], answer, None, self.look.written)

    def notice(self) -> QA | None:
        """What the notice says, line by line."""
        if not isinstance(self.table.writing, Notice):
            return None
        return self._qa("notice", [], ", ".join(self.table.writing.lines), None, self.look.written)

    def bars(self) -> QA | None:
        """The colours of the chart's bars."""
        chart = self.table.writing
        if not isinstance(chart, Chart):
            return None
        return self._qa("bars", [], " ".join(c for c, _ in chart.bars), None, self.look.written)

    def _most(self, kind: str, best: Callable[..., int]) -> QA | None:
        chart = self.table.writing
        if not isinstance(chart, Chart):
            return None
        at = best(range(len(chart.bars)), key=lambda k: chart.bars[k][1])
        return replace(self._qa(kind, [], chart.bars[at][0]), point=self.look.written[at])

    def higher(self) -> QA | None:
        """Two bars compared."""
        chart = self.table.writing
        if not isinstance(chart, Chart):
            return None
        (a, m), (b, n) = self.draw.shuffled(chart.bars)[:2]
        return self._qa("higher", [a, b], "yes" if m > n else "no")


_SHARED: dict[str, Callable[[Asker], QA | None]] = {
    "highest": lambda a: a._most("highest", max),
    "lowest": lambda a: a._most("lowest", min),
    "board": lambda a: a._board("board"),
    "read": lambda a: a._board("read"),
    "result": lambda a: a._result("result"),
    "answer": lambda a: a._result("answer"),
}
_MAKERS = {kind: _SHARED.get(kind) or getattr(Asker, kind) for kind in PHRASES}
