"""The corpus of toys, notices, charts and sums beyond the robot's: samples are pure functions of (seed, step, row).

Only pretraining sees it. Sums are the known classes' of both universes (`worlds.scene`, `worlds.wide`), toys of the
classes R and K; X is in no corpus.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cache

from mindhand.core.errors import BadData
from mindhand.core.keys import Keys
from mindhand.worlds.boards import Chart, Notice, sample_chart, sample_notice
from mindhand.worlds.draw import Draw
from mindhand.worlds.equations import Equation
from mindhand.worlds.grips import GRIPS, in_reach
from mindhand.worlds.hands import HANDS as WRITERS
from mindhand.worlds.hands import SCAN
from mindhand.worlds.scene import FONTS, KNOWN, Board, Font, write_board
from mindhand.worlds.things import COLOURS, MATERIALS, Toy, ToyScene, sample_toys, things
from mindhand.worlds.wide import wide_equations, written

from .picture import TOOL
from .questions import PHRASES as DESK_PHRASES
from .questions import addressed, pool
from .samples import HUES, QA, ImageText, Pixel, Trait, board_class, toy_class
from .toy_questions import CHART, SUM, Asker, Sight, Sum, Tabletop, ToyHand, expression, workable

WRITINGS = (("sum", 0.50), ("number", 0.28), ("notice", 0.11), ("chart", 0.11))
SCANNED = 0.45  # share of the sums and numbers in scanned digits: as one hand among 74 they are never learned
THREE = 0.1  # share of the sums that have three numbers
TRIES = 4  # for each question of a sample to be another one than those before
ADDRESSED = 0.25  # share of the questions
CROWD = (4, 9)  # toys of a page for the eye alone: each is one more thing to name, at hardly any cost
HOLDERS = 2  # of them containers: six kinds among 32, of which a scene to be asked about has at most one
WRITTEN = 6  # one question of so many is about what is written
FORMS = (("calc", 0.75), ("calc in full", 0.15), ("calc in steps", 0.10))  # of sums in words alone
WIDE = 0.7  # share of the others that are beyond the robot's
UNEQUAL = 0.5  # of those in words alone, the share whose numbers have not as many digits each: 2+19 was 41
SHARES = (  # of the questions about toys
    ("name", 0.18), ("hue", 0.04), ("pattern", 0.02), ("amount", 0.30), ("there", 0.11), ("relation", 0.04),
    ("beside", 0.02), ("lies", 0.02), ("point", 0.03), ("box", 0.03), ("choice", 0.02), ("caption", 0.03),
    ("turn", 0.02), ("plan", 0.14),
)  # fmt: skip
HANDS, HOLDING, NEAR = 0.5, 0.4, 0.5  # shares: tables with a hand; of those, it holds a toy; of the rest, is at one
CARRIED, LOW = (0.09, 0.22), 0.06  # m: how high a tool is that holds a toy; how far above its grip one is at a toy
# Of two questions of these kinds the harder is asked, for nearly all there are would be easy: three toys and more are
# counted wrongly ten times as often as one; of 41 wrong names 18 were of black toys, and 26 of toys in others.
HARDER: dict[str, Callable[[QA, Tabletop, Sight], int]] = {
    "amount": lambda qa, table, sight: len(qa.answer),
    "name": lambda qa, table, sight: _hidden(table.scene.toys[sight.toys.index(qa.point)]) if qa.point else 0,
}
TabletopPicture = Callable[[Tabletop, Keys | None], Sight]  # with None the view that episodes have
PENS = (*FONTS, *(Font(h.name, "", h.known, "-", ("x",)) for h in WRITERS))  # all that may write on a board
SCANS = tuple(p for p in PENS if p.name == SCAN)


@cache
def pens(known: str) -> tuple[Font, ...]:
    """The fonts and hands of one class."""
    return tuple(p for p in PENS if p.known == known)


@cache
def known_sums() -> tuple[tuple[Equation, ...], tuple[Equation, ...]]:
    """The sums of the robot's universe and those beyond it that pretraining may hold."""
    return pool(KNOWN), (*wide_equations("K-dev"), *wide_equations("K-test"))


@cache
def _unequal() -> tuple[Equation, ...]:
    return tuple(e for e in known_sums()[1] if len(str(e.a)) != len(str(e.b)))


def sample_sum(draw: Draw) -> Sum:
    """A sum for the board: one of the known ones, or of three numbers up to 99, whose steps are known ones."""
    if draw.chance(THREE):
        return sample_three(draw)
    near, far = known_sums()
    return draw.pick(far if draw.chance(WIDE) else near)


def sample_three(draw: Draw) -> tuple[int, int, int]:
    """Three numbers up to 99 together, none of whose sums on the way is of class X."""
    while True:
        a, b = draw.index(40), draw.index(30)
        if workable(of := (a, b, draw.index(100 - a - b))):
            return of


def sample_writing(draw: Draw, kind: str, fonts: tuple[str, ...]) -> tuple[Board | Notice | Chart, Sum | None]:
    """What is on a board of this kind, and the sum that it is, if it is one."""
    if kind == "notice":
        return sample_notice(draw, fonts), None
    if kind == "chart":
        return sample_chart(draw), None
    scanned = "H" in fonts and draw.chance(SCANNED)
    hands = SCANS if scanned else pens(draw.pick(fonts))
    if kind == "number":
        return write_board(draw, str(draw.index(10 ** (1 + draw.index(3)))), hands, ("{}",)), None
    of = sample_sum(draw)
    return write_board(draw, expression(of), hands), of


def sample_hand(draw: Draw, scene: ToyScene, known: tuple[str, ...]) -> ToyHand | None:
    """A hand over half of the tables: it carries a toy that is like none there in name or colour, or is about to take
    one, or is anywhere."""
    if not draw.chance(HANDS):
        return None
    if draw.chance(HOLDING):
        there = {t.thing for t in scene.toys}
        names = [t.name for t in things(known) if t.name in GRIPS and t.name not in there]
        colours = [c for c in COLOURS if c not in {t.colour for t in scene.toys}]
        if names and colours:
            yaw = draw.uniform(-math.pi, math.pi)
            held = Toy(draw.pick(names), draw.pick(colours), draw.pick(list(MATERIALS)), 0.0, 0.0, yaw)
            spans = (TOOL[0], TOOL[1], CARRIED, TOOL[3])
            return ToyHand(tuple(tuple(draw.uniform(*span) for span in spans) for _ in range(TRIES)), held)
    toys = [t for t in scene.toys if t.thing in GRIPS and t.held_by is None and in_reach(t.x, t.y)]
    tools = []
    for _ in range(TRIES):
        x, y, z, yaw = (draw.uniform(*span) for span in TOOL)
        z = max(z, CARRIED[0])
        if toys and draw.chance(NEAR):
            toy = draw.pick(toys)
            by = GRIPS[toy.thing]
            (x, y), yaw, z = by.point(toy.x, toy.y, toy.yaw), by.tool_yaw(toy.yaw), by.up + draw.uniform(0.0, LOW)
        tools.append((x, y, z, yaw))
    return ToyHand(tuple(tools))


@dataclass(frozen=True)
class ToyCorpus:
    """Samples without end: `rows` pictures a step with `questions` each, most of them about toys.

    known: the classes of toys that are met. shares: of the kinds of question about them. written: whether what is on
    the board is asked about, too: that knows the sums of all classes.
    """

    seed: int
    picture: TabletopPicture
    rows: int = 32
    questions: int = 4
    fonts: tuple[str, ...] = ("R", "K", "H")
    known: tuple[str, ...] = ("R", "K")
    shares: tuple[tuple[str, float], ...] = SHARES
    written: bool = True

    def __post_init__(self) -> None:
        if self.rows < 1 or self.questions < 1:
            raise BadData(f"rows={self.rows}, questions={self.questions}", "at least 1 each", "correct it")

    def _keys(self, step: int, row: int) -> Keys:
        return Keys.seeded(1, "toy corpus", self.seed, step, row)

    def table(self, step: int, row: int) -> Tabletop:
        """The tabletop of one sample."""
        keys = self._keys(step, row)
        toys = sample_toys(keys, self.known)
        return replace(self._tabletop(keys, toys), hand=sample_hand(Draw(keys.fold("hand")), toys, self.known))

    def _tabletop(self, keys: Keys, toys: ToyScene) -> Tabletop:
        draw = Draw(keys.fold("writing"))
        return Tabletop(toys, *sample_writing(draw, draw.among(WRITINGS), self.fonts))

    def page(self, keys: Keys) -> ImageText:
        """A picture to learn toys and handwriting from, nothing asked: as many toys as fit well."""
        table = self._tabletop(keys, sample_toys(keys, self.known, CROWD, HOLDERS))
        sight = self.picture(table, keys.fold("picture"))
        return ImageText(sight.image, (), glyphs_of(table, sight), traits_of(table, sight))

    def sample(self, step: int, row: int) -> ImageText:
        """One sample."""
        keys, table = self._keys(step, row), self.table(step, row)
        sight = self.picture(table, keys.fold("picture"))
        return ImageText(sight.image, self.asked(keys, table, sight), glyphs_of(table, sight), traits_of(table, sight))

    def asked(self, keys: Keys, table: Tabletop, sight: Sight) -> tuple[QA, ...]:
        """The questions of one sample: the first about what is written, the others about toys. None twice, in other
        words or not, while there are others."""
        draw = Draw(keys.fold("questions"))
        asker, kinds = Asker(table, sight, draw, self.known), _about(table)
        out: list[QA] = []
        known: set[tuple[str, str, Pixel | None]] = set()

        def one(kind: str) -> QA | None:
            made = asker.ask(kind)
            other = asker.ask(kind) if made is not None and kind in HARDER else None
            return made if other is None else max(made, other, key=lambda qa: HARDER[kind](qa, table, sight))

        def ask(until: int, kind: Callable[[], str], twice: bool = False) -> None:
            for _ in range(TRIES * self.questions):
                if len(out) < until and (qa := one(kind())) is not None:
                    what = qa.kind, qa.answer, qa.point
                    out.extend([qa] if twice or what not in known else [])
                    known.add(what)

        if self.written:
            ask(max(1, self.questions // WRITTEN), lambda: draw.pick(kinds))
        ask(self.questions, lambda: draw.among(self.shares))
        while len(out) < self.questions:  # one toy alone on a table
            ask(self.questions, lambda: draw.among(self.shares), twice=True)
        return tuple(_addressed(qa, draw) for qa in out)

    def facts(self, step: int, rows: Iterable[int]) -> list[QA]:
        """Sums in words alone, without a picture (`WIDE`, `FORMS`)."""
        out = []
        for row in rows:
            draw = Draw(Keys.seeded(1, "toy facts", self.seed, step, row))
            near, far = known_sums()
            far = _unequal() if draw.chance(UNEQUAL) else far
            e, kind = draw.pick(far if draw.chance(WIDE) else near), draw.among(FORMS)
            kind = kind if workable(e) else "calc"
            answer = {"calc": str(e.answer), "calc in full": f"{e.text}={e.answer}", "calc in steps": written(e)}[kind]
            question = draw.pick(FACTS[kind]).format(e.text)
            out.append(_addressed(QA("calc", question, answer), draw))
        return out


def _hidden(toy: Toy) -> int:
    """Whether it shows little of its shape: in another, or too dark for shades."""
    return int(toy.held_by is not None or toy.colour == "black")


def _addressed(qa: QA, draw: Draw) -> QA:
    """Most questions as they are: an address costs as much as half a question."""
    return addressed(qa, draw) if draw.chance(ADDRESSED) else qa


FACTS = {
    "calc": DESK_PHRASES["calc"],
    "calc in full": DESK_PHRASES["calc in full"],
    "calc in steps": ("work out {}", "solve {} step by step"),
}


def _about(table: Tabletop) -> tuple[str, ...]:
    """The kinds of question that can be asked about what is written."""
    if isinstance(table.writing, Notice):
        return ("notice",)
    if isinstance(table.writing, Chart):
        return CHART
    return ("number",) if table.sum is None else SUM


def glyphs_of(table: Tabletop, sight: Sight) -> tuple[tuple[int, float, float], ...]:
    """(class, u, v) of every character on the board that has a class, and of every toy."""
    text = table.writing.text if isinstance(table.writing, Board) else ""
    board = [(board_class(c), *p) for c, p in zip(text, sight.written)]
    return (*board, *((toy_class(t.thing), *p) for t, p in zip(table.scene.toys, sight.toys, strict=True)))


def traits_of(table: Tabletop, sight: Sight) -> tuple[Trait, ...]:
    """How every toy looks."""
    out = []
    for t, p, (left, top, right, bottom) in zip(table.scene.toys, sight.toys, sight.boxes, strict=True):
        out.append(Trait(*p, HUES.index(t.colour), MATERIALS.index(t.material), right - left, bottom - top))
    return tuple(out)
