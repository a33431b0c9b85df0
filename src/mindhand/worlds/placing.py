"""The second task family: "put the red ball left of the blue cup" (ChatVLA-2's toy placement, arXiv 2505.21906).

No simulator here. The desk, the arm and the cameras are those of maths matching; there is no tray and there are no
tiles, and what is on the board has nothing to do with it. Classes are those of `things`:

    R       target, reference, relation and all toys in view are of class R
    K-dev   a target or a reference of class K (about "object"), or a relation of class K (about "relation"), the rest
    K-test  of class R; which of both an item belongs to is told by a seeded hash of (target, reference, relation)
    X       a target of class X

A scene is drawn before its roles are: which toy is meant, and where it goes, is one of all that the scene allows, so
that a policy that is not told the instruction is left to guess.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any

from mindhand.core.errors import BadData
from mindhand.core.keys import Key, Keys

from .boards import Notice, sample_notice
from .draw import Draw
from .grips import GRIPS, HOLDERS, fits
from .placing_layout import BESIDE, TURN, Layout, beside, lay
from .scene import COLUMNS, FONTS, REFUSAL, ROWS, Board, Glyph, equations, place_words, write_board
from .things import BY_NAME, COLOURS, FIELD, GRID, RELATIONS, THINGS, Thing, Toy, ToyScene, things

VERSION = "placing-1"  # bump when the sampler changes what it draws: it is part of the hash
FAMILY = "spatial_placing"
SPLITS = ("R", "K-dev", "K-test", "X")
ABOUT = ("object", "relation")  # what is of class K
SALT, HELD_BACK = 3, 0.5  # of the hash that splits K; the share of its items that are K-test's
NOTICE = 0.5  # share of the boards that show a notice; the others show a sum
INSTRUCTIONS = (  # the first is canonical and what a world says; all mean the same
    "put the {} {} the {}",
    "place the {} {} the {}",
    "can you lay the {} {} the {}?",
    "now take the {} and put it {} the {}",
    "look at the {} and put it {} the {}",
)
Item = tuple[str, str, str]  # names of target and reference, relation
STEPS = ("take", "put", "done")
ROLES = ("target", "reference")
CHEATS = (("namesake", 0.35), ("alike", 0.35), ("", 0.30))  # another colour of the name, another thing of the colour
COUNT = (3, 6)  # fewest and most toys
CONTAINERS = ((0, 0.20), (1, 0.40), (2, 0.40))  # how many of them hold others
LUCK = ((0.5, 0.85), (1.0, 0.15))  # whoever mistakes the reference is to be right no more often than this; how often
TRIES = 30  # scenes drawn before one with another number of toys is


# ---- what is asked -------------------------------------------------------------------------------------


def item_class(target: str, reference: str, relation: str) -> str | None:
    """The class of an item, R, K-dev, K-test or X; None where it belongs to none: what is new is one thing at a time,
    and only a target is new to all."""
    known = BY_NAME[target].known, BY_NAME[reference].known
    if "X" in known:
        return "X" if known[1] == RELATIONS[relation] == "R" else None
    if RELATIONS[relation] == "K" and "K" in known:
        return None
    if RELATIONS[relation] == "R" and known == ("R", "R"):
        return "R"
    name = f"{SALT}/{target}/{reference}/{relation}"
    rank = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big") / 2**64
    return "K-test" if rank < HELD_BACK else "K-dev"


def possible(target: str, reference: str, relation: str) -> bool:
    """Whether this can be lifted and put there at all."""
    within = relation in ("in", "on")
    return target in GRIPS and (not within or (relation == BY_NAME[reference].way and fits(target, reference)))


@cache
def items(split: str, about: str = "") -> tuple[Item, ...]:
    """All (target, reference, relation) of a class, of K with `about` only those that are new in that: sorted."""
    if split not in SPLITS or about not in ("", *ABOUT) or (about and not split.startswith("K")):
        raise BadData(f"split '{split}' about '{about}'", f"one of {SPLITS}; of K about {ABOUT}", "correct the task")
    some = [r for r, known in RELATIONS.items() if not about or known == ("K" if about == "relation" else "R")]
    every = ((a, b, r) for a in GRIPS for b in BY_NAME for r in some if a != b and possible(a, b, r))
    return tuple(sorted(i for i in every if item_class(*i) == split))


@dataclass(frozen=True)
class Missing:
    """What is named and is not there: its role, "target" or "reference", and the words for it, "ball" or "red ball"."""

    role: str
    said: str


@dataclass(frozen=True)
class PlacingScene:
    """A fully sampled scene, as plain numbers: toys, which of them is to be put (`target`) how (`relation`) to which
    (`reference`), what is on the board, and the instruction. Where one of both is `missing`, the toy of its index lies
    in its stead, and nobody speaks of it."""

    toys: ToyScene
    target: int
    reference: int
    relation: str
    writing: Board | Notice
    instruction: str
    missing: Missing | None = None

    @property
    def split(self) -> str | None:
        """The item's class (`item_class`)."""
        return item_class(*(self.called(role).split()[-1] for role in ROLES), self.relation)

    def said(self, k: int) -> str:
        """The shortest words that only this toy answers to."""
        return self.toys.said(k)

    def called(self, role: str) -> str:
        """What an instruction calls the target, or the reference."""
        gone = self.missing is not None and self.missing.role == role
        return self.missing.said if gone else self.said(getattr(self, role))

    def worded(self, phrasing: int = 0) -> str:
        """The instruction in one of the phrasings."""
        return INSTRUCTIONS[phrasing].format(self.called(ROLES[0]), self.relation, self.called(ROLES[1]))

    def goal(self) -> tuple[float, float, float]:
        """Where the target's middle and its bottom go (m), as the toys lie now."""
        target, reference = (self.toys.toys[k] for k in (self.target, self.reference))
        if self.relation == reference.kind.way:
            return reference.x, reference.y, reference.kind.holds
        dx, dy = beside(target.kind, reference.kind, self.relation)
        return reference.x + dx, reference.y + dy, 0.0

    def layout(self) -> Layout:
        """Where the toys lie, by what they are."""
        toys = self.toys.toys
        return Layout(tuple(t.kind for t in toys), tuple((t.x, t.y, t.yaw) for t in toys))

    def choices(self) -> tuple[int, ...]:
        """The toys that a gripper can lift: what there is to choose from."""
        return tuple(k for k, t in enumerate(self.toys.toys) if not t.kind.holds)

    def moved(self, poses: Sequence[tuple[float, float, float]], held_by: int | None = None) -> PlacingScene:
        """The same scene with the toys at other (x, y, yaw). held_by: the container that now holds the target."""
        toys = [replace(t, x=x, y=y, yaw=w) for t, (x, y, w) in zip(self.toys.toys, poses, strict=True)]
        toys[self.target] = replace(toys[self.target], held_by=held_by)
        return replace(self, toys=ToyScene(tuple(toys)))

    def to_json(self) -> dict[str, Any]:
        """Plain lists and dictionaries."""
        kind = "notice" if isinstance(self.writing, Notice) else "board"
        return {
            "toys": self.toys.to_json(), "target": self.target, "reference": self.reference,
            "relation": self.relation, "writing": {kind: asdict(self.writing)}, "instruction": self.instruction,
            **({} if self.missing is None else {"missing": asdict(self.missing)}),
        }  # fmt: skip

    @staticmethod
    def from_json(d: dict[str, Any]) -> PlacingScene:
        """The inverse of `to_json`."""
        ((kind, w),) = d["writing"].items()
        if kind == "notice":
            writing: Board | Notice = Notice(**{**w, "lines": tuple(w["lines"])})
        else:
            writing = Board(**{**w, "glyphs": tuple(Glyph(**g) for g in w["glyphs"])})
        missing = Missing(**d["missing"]) if "missing" in d else None
        return PlacingScene(**{**d, "toys": ToyScene.from_json(d["toys"]), "writing": writing, "missing": missing})


# ---- words ---------------------------------------------------------------------------------------------

Box = tuple[float, float, float, float]  # left, top, right, bottom, in pixels


def whereabouts(x: float, y: float) -> str:
    """Where a point of the field lies, in two words of a 3x3 grid: "left back"."""
    return place_words(x, y, FIELD)


def _cells(box: Box, size: int) -> str:
    corners = (max(0, min(GRID - 1, int(c * GRID / size))) for c in box)
    return "<x{}><y{}><x{}><y{}>".format(*corners)


def placing_reasoning(scene: PlacingScene, step: str, boxes: tuple[Box, Box] | None = None, size: int = 128) -> str:
    """What there is to think (ChatVLA-2's annotation, compact): target and reference with their places, then the next
    motion.

    step "take", nothing in the hand: "red ball left back. blue cup right front. take red ball." "put", the target in
    the hand: "blue cup right front. put red ball left of blue cup." "done": "red ball left of blue cup. done." Toys
    are named by colour and thing throughout. boxes: the stated variant: where target and reference are seen in a front
    picture of `size` pixels a side, written as cells behind their places: "red ball left back <x3><y18><x6><y23>."
    What is missing has no place, and its name is the instruction's; then there is no next motion, whatever the step:
    "ball none. blue cup right front. none."
    """
    if step not in STEPS:
        raise BadData(f"step '{step}'", f"one of {STEPS}", "correct it")
    pair = [scene.toys.toys[k] for k in (scene.target, scene.reference)]
    target, reference = names = [t.full for t in pair]
    motion = f"{target} {scene.relation} {reference}"
    if step == "done" and scene.missing is None:
        return f"{motion}. done."
    seen = [f"{name} {whereabouts(t.x, t.y)}" for name, t in zip(names, pair)]
    if boxes is not None:
        seen = [f"{words} {_cells(box, size)}" for words, box in zip(seen, boxes)]
    if scene.missing is not None:
        seen[ROLES.index(scene.missing.role)] = f"{scene.missing.said} {REFUSAL}"
        return f"{seen[0]}. {seen[1]}. {REFUSAL}."
    if step == "take":
        return f"{seen[0]}. {seen[1]}. take {target}."
    return f"{seen[1]}. put {motion}."


_COLOUR, _THING = rf"(?:{'|'.join(COLOURS)})", rf"(?:{'|'.join(sorted(BY_NAME))})"
_TOY = rf"{_COLOUR} {_THING}"
_PLACE = rf"(?:{'|'.join(COLUMNS)}) (?:{'|'.join(ROWS)})"
_BOX = r"(?: <x(?P<{0}l>\d+)><y(?P<{0}t>\d+)><x(?P<{0}r>\d+)><y(?P<{0}b>\d+)>)?"
_SEEN = rf"(?P<{{0}}>{_TOY}) (?P<{{0}}at>{_PLACE}){_BOX}"
_NAMED = rf"(?:{_SEEN}|(?P<no{{0}}>(?:{_COLOUR} )?{_THING}) {REFUSAL})"
_HOW = rf"(?P<relation>{'|'.join(RELATIONS)})"
_THOUGHTS = {
    "take": re.compile(rf"{_SEEN.format('a')}\. {_SEEN.format('b')}\. take (?P<target>{_TOY})\."),
    "put": re.compile(rf"{_SEEN.format('b')}\. put (?P<target>{_TOY}) {_HOW} (?P<again>{_TOY})\."),
    "done": re.compile(rf"(?P<target>{_TOY}) {_HOW} (?P<b>{_TOY})\. done\."),
    REFUSAL: re.compile(rf"{_NAMED.format('a')}\. {_NAMED.format('b')}\. {REFUSAL}\."),
}


def read_placing(text: str) -> dict[str, Any] | None:
    """The fields of a thought, or None where it does not have the exact form or contradicts itself: step ("take",
    "put", "done" or "none"), target and reference ("red ball"), their places (None for what is missing), the relation,
    and their boxes (left, top, right, bottom in cells; None where none was given); what a step does not say is None."""
    for step, form in _THOUGHTS.items():
        if (m := form.fullmatch(text.strip())) is None:
            continue
        said = m.groupdict()
        if step == REFUSAL:
            if said["a"] and said["b"]:  # nothing is missing, and it is not done all the same
                return None
            said["target"] = said["a"] = said["a"] or said["noa"]
            said["b"] = said["b"] or said["nob"]
        if said.get("a", said["target"]) != said["target"] or said.get("again", said["b"]) != said["b"]:
            return None
        cells = {k: tuple(int(said[k + e]) for e in "ltrb") if said.get(k + "l") else None for k in "ab"}
        if any(c >= GRID for box in cells.values() if box for c in box):
            return None
        return {
            "step": step, "target": said["target"], "target_place": said.get("aat"), "reference": said["b"],
            "reference_place": said.get("bat"), "relation": said.get("relation"), "target_box": cells["a"],
            "reference_box": cells["b"],
        }  # fmt: skip
    return None


# ---- sampling ------------------------------------------------------------------------------------------


def pools(split: str, about: str) -> tuple[list[Thing], list[Thing]]:
    """The things that a scene is drawn from, each as often as it is named: those to be lifted, and containers."""
    known = ("R", "K") if split == "X" or about == "object" else ("R",)
    small, wide = list(things(known, False)), list(things(known, True))
    if split == "X":  # as many of these as of the others, or what is new would be what is meant
        new = [t for t in THINGS if t.known == "X"]
        small += new * (len(small) // len(new))
    return small, wide + [t for t in wide if t.name in HOLDERS]


def _furnish(draw: Draw, count: int, small: Sequence[Thing], wide: Sequence[Thing]) -> list[tuple[Thing, str]]:
    """Things and colours, no two alike in both, containers first. What catches a cheat: most have a namesake in another
    colour, or share their colour with another thing (`CHEATS`)."""
    most = min(draw.among(CONTAINERS), count - 2)
    out: list[tuple[Thing, str]] = []
    for k in range(count):
        pool, before = (wide, out) if k < most else (small, out[most:])
        how = draw.among(CHEATS) if before else ""
        thing, colour = draw.pick(pool), draw.pick(list(COLOURS))
        if how == "namesake":
            thing = draw.pick(before)[0]
        elif how == "alike":
            colour = draw.pick(before)[1]
        if (thing, colour) in out:
            colour = draw.pick([c for c in COLOURS if (thing, c) not in out])
        out.append((thing, colour))
    return out


def _offers(layout: Layout, wanted: frozenset[Item], relation: str, luck: float) -> list[tuple[int, int]]:
    """Which thing could be put so to which other one, in one of the wanted items, with no more `luck` than this."""
    names = [t.name for t in layout.things]
    pairs = [(a, b) for a, x in enumerate(names) for b, y in enumerate(names) if (x, y, relation) in wanted]
    return [p for p in pairs if layout.free(*p, relation) and layout.luck(*p, relation) <= luck]


def sample_placing(keys: Keys, split: str, *, about: str | None = None, count: tuple[int, int] = COUNT) -> PlacingScene:
    """One scene of a class: a relation, all that the class allows equally likely; 3 to 6 toys; and one of the toys
    that can be put so to one of the others.

    keys: one row. about: which of "object" and "relation" is of class K; both equally often without it. count: fewest
    and most toys.

    The relation does not hold already. The spot where the target goes is free, in reach and in the front picture, and
    whatever can be lifted has room for fingers around it.
    """
    draw = Draw(keys.fold("placing"))
    new = about or (draw.pick(ABOUT) if split.startswith("K") else "")
    wanted = frozenset(items(split, new))
    relation = draw.pick(sorted({r for *_, r in wanted}))
    many = count[0] + draw.index(count[1] - count[0] + 1)
    luck = draw.among(LUCK)
    small, wide = pools(split, new)
    while True:
        for _ in range(TRIES):
            made = _furnish(draw, many, small, wide)
            layout = lay(draw, [thing for thing, _ in made])
            if layout is None:
                continue
            offers = _offers(layout, wanted, relation, luck)
            if offers:
                return _scene(draw, made, layout, draw.pick(offers), relation)
        many = many - 1 if many > count[0] else count[1]  # three toys may be too few, six too many


def _scene(
    draw: Draw, made: Sequence[tuple[Thing, str]], layout: Layout, pair: tuple[int, int], relation: str
) -> PlacingScene:
    material = [("plain" if draw.chance(0.6) else draw.pick(("striped", "dotted"))) for _ in made]
    toys = [Toy(t.name, c, m, *pose) for (t, c), m, pose in zip(made, material, layout.poses)]
    order = draw.shuffled(range(len(toys)))
    target, reference = (order.index(k) for k in pair)
    writing = sample_writing(draw)
    scene = PlacingScene(ToyScene(tuple(toys[k] for k in order)), target, reference, relation, writing, "")
    return replace(scene, instruction=scene.worded())


def sample_writing(draw: Draw) -> Board | Notice:
    """What is on the board, of class R: a notice, or a sum."""
    if draw.chance(NOTICE):
        return sample_notice(draw, ("R",))
    return write_board(draw, draw.pick(equations("R")).text, [f for f in FONTS if f.known == "R"])


def sample_placing_task(key: Key) -> PlacingScene:
    """The scene an episode's key names. Tasks: "spatial_placing/R", "/K-dev", "/K-test" and "/X"; of K also
    "spatial_placing/K-dev/object" and "/relation"."""
    family, _, rest = key.task.partition("/")
    split, *about = rest.split("/")
    if family != FAMILY or split not in SPLITS or len(about) > 1 or set(about) - set(ABOUT):
        raise BadData(
            f"task '{key.task}'", f"'{FAMILY}/<split>' with split one of {SPLITS}, then optionally one of {ABOUT}",
            "correct Key.task",
        )  # fmt: skip
    return sample_placing(Keys.of([key]), split, about=about[0] if about else None)


def declared() -> dict[str, Any]:
    """Everything of this file that the hash of the declaration covers."""
    return {
        "version": VERSION,
        "items": [SPLITS, ABOUT, SALT, HELD_BACK],
        "words": [INSTRUCTIONS, STEPS, COLUMNS, ROWS],
        "scenes": [BESIDE, TURN, NOTICE, CHEATS, COUNT, CONTAINERS, LUCK],
    }
