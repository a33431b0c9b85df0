"""The second half of the declaration: toys, their colours and how they lie to one another. No simulator here.

Classes are as in `scene`: R is met by robots, K in pretraining alone, X nowhere. A thing's class is its own, a
relation's too; what holds another thing is a container. `declared.scene_hash` covers all of it.

Same frame as there: metres and radians, x to the right, y away from the front camera.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from mindhand.core.errors import BadData
from mindhand.core.keys import Keys

from .draw import Draw

MATERIALS = ("plain", "striped", "dotted")
COLOURS = {  # of a thing's body; its details (wheels, handles, eyes) have colours of their own
    "red": (206, 48, 44), "orange": (240, 136, 30), "yellow": (246, 216, 60), "green": (62, 158, 74),
    "blue": (52, 96, 206), "purple": (136, 70, 176), "pink": (244, 142, 184), "white": (240, 240, 236),
    "black": (40, 40, 44),
}  # fmt: skip


@dataclass(frozen=True)
class Thing:
    """A toy. `reach`: the radius (m) of the circle that it stands in. `height`: its own (m). `holds`: how high (m)
    above the table another thing lies in or on it, and `way`, which of both; 0 for what holds nothing."""

    name: str
    known: str
    reach: float
    height: float
    holds: float = 0.0
    way: str = ""


THINGS = tuple(
    Thing(*row)
    for row in (
        ("ball", "R", 0.024, 0.048), ("cube", "R", 0.029, 0.041), ("cup", "R", 0.030, 0.046),
        ("banana", "R", 0.036, 0.019), ("star", "R", 0.035, 0.012), ("car", "R", 0.035, 0.030),
        ("hammer", "R", 0.041, 0.020), ("ring", "R", 0.030, 0.016), ("duck", "R", 0.035, 0.052),
        ("tree", "R", 0.023, 0.090),
        ("bottle", "K", 0.040, 0.028), ("cone", "K", 0.029, 0.066), ("key", "K", 0.041, 0.010),
        ("spoon", "K", 0.041, 0.010), ("heart", "K", 0.035, 0.012), ("house", "K", 0.032, 0.057),
        ("mushroom", "K", 0.027, 0.055), ("fish", "K", 0.038, 0.020), ("cross", "K", 0.034, 0.012),
        ("moon", "K", 0.032, 0.012), ("arrow", "K", 0.037, 0.012), ("boat", "K", 0.038, 0.074),
        ("dumbbell", "K", 0.037, 0.030), ("snowman", "K", 0.032, 0.093), ("chair", "K", 0.027, 0.064),
        ("train", "K", 0.038, 0.052),
        ("rocket", "X", 0.041, 0.038), ("glasses", "X", 0.039, 0.009),
        ("bowl", "R", 0.044, 0.030, 0.010, "in"), ("plate", "R", 0.048, 0.010, 0.008, "on"),
        ("basket", "R", 0.045, 0.060, 0.006, "in"), ("box", "K", 0.045, 0.025, 0.006, "in"),
        ("book", "K", 0.048, 0.015, 0.014, "on"), ("pan", "K", 0.059, 0.024, 0.008, "in"),
    )
)  # fmt: skip
BY_NAME = {t.name: t for t in THINGS}
RELATIONS = {  # how a thing lies to another, and in which class that is
    "left of": "R", "right of": "R", "in front of": "R", "in": "R", "behind": "K", "on": "K",
}  # fmt: skip
OPPOSITE = {"left of": "right of", "right of": "left of", "in front of": "behind", "behind": "in front of"}
FIELD = ((-0.150, 0.150), (-0.130, 0.105))  # where their middles may lie when no tray is there: x, y
HIDES = 0.5  # of a thing's height, that much of the table behind it counts as hidden
Circle = tuple[float, float, float, float]  # x, y, reach, height (m)
GAP = 0.008  # m between the circles of two of them
GRID = 32  # cells a side of the front picture, for coordinates in words
CLEAR = 0.045  # m along one axis from which on a thing is said to be to one side of another


@dataclass(frozen=True)
class Toy:
    """A thing that lies somewhere: (m, m, rad). `held_by`: the index of the container that it lies in or on."""

    thing: str
    colour: str
    material: str
    x: float
    y: float
    yaw: float
    held_by: int | None = None

    @property
    def kind(self) -> Thing:
        """What it is."""
        return BY_NAME[self.thing]

    @property
    def full(self) -> str:
        """ "red ball": no two of a scene are called so."""
        return f"{self.colour} {self.thing}"


@dataclass(frozen=True)
class ToyScene:
    """Toys on a table. No two are alike in name and colour."""

    toys: tuple[Toy, ...]

    def place(self, k: int) -> tuple[float, float, float]:
        """Where toy k stands (m): what a container holds is in its middle, as high as it holds it."""
        toy = self.toys[k]
        if toy.held_by is None:
            return toy.x, toy.y, 0.0
        holder = self.toys[toy.held_by]
        return holder.x, holder.y, holder.kind.holds

    def said(self, k: int) -> str:
        """The shortest words that only toy k answers to."""
        toy = self.toys[k]
        alone = sum(t.thing == toy.thing for t in self.toys) == 1
        return toy.thing if alone else toy.full

    def relation(self, a: int, b: int) -> tuple[str, ...]:
        """Every way in which toy a lies to toy b: one beside the other counts from `CLEAR` on, and only where that
        direction outweighs the other one."""
        p, q = self.toys[a], self.toys[b]
        if p.held_by == b:
            return (q.kind.way,)
        if q.held_by == a:
            return ()
        dx, dy = p.x - q.x, p.y - q.y
        if abs(dx) >= CLEAR and abs(dx) >= 1.5 * abs(dy):
            return ("right of" if dx > 0 else "left of",)
        if abs(dy) >= CLEAR and abs(dy) >= 1.5 * abs(dx):
            return ("behind" if dy > 0 else "in front of",)
        return ()

    def to_json(self) -> dict[str, Any]:
        """Plain lists and dictionaries."""
        return {"toys": [dict(vars(t)) for t in self.toys]}

    @staticmethod
    def from_json(d: dict[str, Any]) -> ToyScene:
        """The inverse of `to_json`."""
        return ToyScene(tuple(Toy(**t) for t in d["toys"]))


def things(known: Sequence[str], container: bool | None = None) -> tuple[Thing, ...]:
    """The things of these classes; with `container`, only such that hold others, or only such that do not."""
    return tuple(t for t in THINGS if t.known in known and container in (None, t.holds > 0))


def apart(a: Circle, b: Circle) -> bool:
    """Whether two things neither touch nor hide one another from a camera that looks down at 52 degrees."""
    near, far = sorted((a, b), key=lambda c: c[1])
    reach, dx, dy = near[2] + far[2], abs(near[0] - far[0]), far[1] - near[1]
    if math.hypot(dx, dy) < reach + GAP:
        return False
    return dx >= reach or dy >= far[2] + near[2] + HIDES * near[3]


def _free(draw: Draw, thing: Thing, taken: Sequence[Circle]) -> tuple[float, float] | None:
    (x0, x1), (y0, y1) = FIELD
    for _ in range(60):
        x, y = draw.uniform(x0, x1), draw.uniform(y0, y1)
        if all(apart((x, y, thing.reach, thing.height), c) for c in taken):
            return x, y
    return None


def sample_toys(
    keys: Keys, known: Sequence[str] = ("R", "K"), count: tuple[int, int] = (1, 6), holders: int | None = None
) -> ToyScene:
    """A table of `count` (fewest, most) toys of these classes, all of their middles in `FIELD`.

    Half of the scenes hold some thing several times, in different colours. `holders` of the toys are containers (one
    in every second scene, if it is None), the first of which mostly holds a thing. A full table takes fewer.
    """
    if not 1 <= count[0] <= count[1] or set(known) - {"R", "K", "X"}:
        raise BadData(f"{count} toys of the classes {tuple(known)}", "1 <= fewest <= most, classes R, K, X", "correct")
    draw = Draw(keys.fold("toys"))
    many = count[0] + draw.index(count[1] - count[0] + 1)
    small, wide = things(known, False), things(known, True)
    names = [draw.pick(small) for _ in range(many)]
    if many > 1 and draw.chance(0.5):  # several of a kind: counting needs them
        same = 2 + draw.index(min(4, many - 1))
        names[:same] = [names[0]] * same
    if holders is None:
        holders = int(many > 1 and draw.chance(0.5))
    held = [draw.pick(wide) for _ in range(min(holders, many - 1))]
    inside = bool(held) and draw.chance(0.8)
    names[many - len(held) :] = held
    toys: list[Toy] = []
    taken: list[Circle] = []
    used: set[tuple[str, str]] = set()
    for thing in sorted(names, key=lambda t: -t.holds):  # containers first: they need the room
        free = [c for c in COLOURS if (thing.name, c) not in used]
        colour, material = draw.pick(free), MATERIALS[0] if draw.chance(0.6) else draw.pick(MATERIALS[1:])
        yaw = draw.uniform(-math.pi, math.pi)
        if inside and toys and not thing.holds and not any(t.held_by == 0 for t in toys):
            at, held_by = (toys[0].x, toys[0].y), 0
        else:
            found, held_by = _free(draw, thing, taken), None
            if found is None:
                continue
            at = found
            taken.append((*at, thing.reach, thing.height))
        used.add((thing.name, colour))
        toys.append(Toy(thing.name, colour, material, *at, yaw, held_by))
    order = draw.shuffled(range(len(toys)))
    where = {old: new for new, old in enumerate(order)}
    shuffled = (toys[k] for k in order)
    return ToyScene(tuple(replace(t, held_by=None if t.held_by is None else where[t.held_by]) for t in shuffled))


def declared() -> dict[str, Any]:
    """Everything that the hash of a scene covers."""
    return {
        "things": [tuple(vars(t).values()) for t in THINGS],
        "looks": [MATERIALS, COLOURS],
        "relations": [RELATIONS, CLEAR, FIELD, GAP, GRID],
    }
