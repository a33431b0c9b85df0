"""The fourth task family: what is to be done next is in no picture, only in what was done before.

After the three tasks that MemoryVLA's experiments call for (arXiv 2508.19236). No simulator here.

    a_then_b   touch the pad of one colour, then that of another; a pad that was touched looks as before
    count      touch the one pad so many times, one to three, and no more
    back       a cube lies on one of three pads; once the hand is at the gate it is put aside: touch the pad it lay on
    seen       as a_then_b, of pads with a rim that turn white when they are touched: here the picture tells all

Then the hand goes home. Before the first touch, between two, and before it goes home, it must stay at the gate, a
point above the middle of the pads: whatever is decided is decided at one and the same place, and neither where the
hand is nor what it sees there tells how far it has come. Touching the wrong pad, or one time too many, is final.

A policy without memory can only guess at the gate, each time anew; `CHANCE` is what the best guesser gets.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mindhand.core.errors import BadData
from mindhand.core.keys import Key, Keys

from .draw import Draw
from .things import COLOURS

VERSION = "hidden-1"  # bump when the sampler changes what it draws: it is part of the hash
FAMILY = "hidden_state"
KINDS = ("a_then_b", "count", "back", "seen")
PALETTE = ("red", "yellow", "green", "blue")  # of pads that are told apart
PLAIN = "black"  # pads of `back`
MOST = 3  # touches that may be asked for, and pads
GATE = ((-0.05, 0.01), (-0.02, 0.02), 0.09)  # where it may be: x, y from and to, height (m)
AROUND = 0.025  # m from the gate that is still at it
STAY = 3  # control steps in a row at the gate that make a stay
RADIUS, LOW, CLEAR = 0.025, 0.035, 0.06  # a touch: within this of a pad's middle, this low (m); over when this high
APART = 0.08  # m from the gate's foot to the pads, where there are several
ASIDE = (0.0, -0.15)  # where the cube is put: from the gate's foot (x), on the table (y)
WHEN = (16, 44)  # control steps before which it is not put there: from, to
HOME = 0.07  # m from the hand's home that is still at it
INSTRUCTIONS = {  # the first is what the world says; all of a kind mean the same
    "a_then_b": ("touch the {a} pad, then the {b} pad", "first touch the {a} pad and after it the {b} one"),
    "count": ("touch the pad {n} times", "tap on the pad, {n} times in all"),
    "back": ("touch the pad where the cube lay at first", "touch the first place of the cube"),
    "seen": ("light the {a} button, then the {b} button", "first light the {a} button and after it the {b} one"),
}


def _guesser(kind: str) -> float:
    """The success of who guesses at every gate, as often right as can be."""
    if kind == "count":  # n times the pad and then home, where either is as likely as it is often right
        return sum((n / (n + 1)) ** n / (n + 1) for n in range(1, MOST + 1)) / MOST
    return {"a_then_b": 1 / 27, "back": 1 / 2 / (2 * MOST), "seen": 1.0}[kind]


CHANCE = {kind: _guesser(kind) for kind in KINDS}  # of a policy without memory
Point = Sequence[float]


@dataclass(frozen=True)
class Pad:
    """A flat square on the table: its middle (m) and colour."""

    x: float
    y: float
    colour: str


@dataclass(frozen=True)
class HiddenScene:
    """gate: x, y (m) of its foot. order: pads to touch, in turn. when: the control step from which the cube, which lies
    on the pad to touch, is put aside as soon as the hand is at the gate (`back`)."""

    kind: str
    pads: tuple[Pad, ...]
    gate: tuple[float, float]
    order: tuple[int, ...]
    when: int = 0

    def worded(self, form: int = 0) -> str:
        """The instruction, in one of its forms."""
        a, b = self.pads[self.order[0]].colour, self.pads[self.order[-1]].colour
        return INSTRUCTIONS[self.kind][form].format(a=a, b=b, n=len(self.order))

    @property
    def instruction(self) -> str:
        """What the world says."""
        return self.worded()

    @property
    def lights(self) -> bool:
        """Whether pads show that they were touched."""
        return self.kind == "seen"

    @property
    def cube(self) -> int | None:
        """The pad that a cube lies on at first."""
        return self.order[0] if self.kind == "back" else None

    @property
    def aside(self) -> tuple[float, float]:
        """Where the cube is put (m)."""
        return self.gate[0] + ASIDE[0], ASIDE[1]

    def at_gate(self, tcp: Point) -> bool:
        """Whether a hand whose tool point is here (x, y, z in m) is at the gate."""
        return math.dist(tcp, (*self.gate, GATE[2])) < AROUND

    def under(self, tcp: Point) -> int:
        """The pad that it touches, or -1."""
        near = (k for k, p in enumerate(self.pads) if math.dist(tcp[:2], (p.x, p.y)) < RADIUS)
        return next(near, -1) if tcp[2] < LOW else -1

    def to_json(self) -> dict[str, Any]:
        """Plain lists and dictionaries."""
        return asdict(self)

    @staticmethod
    def from_json(d: dict[str, Any]) -> HiddenScene:
        """The inverse of `to_json`."""
        pads = tuple(Pad(**p) for p in d["pads"])
        return HiddenScene(d["kind"], pads, tuple(d["gate"]), tuple(d["order"]), d["when"])


def sample_hidden_task(key: Key) -> HiddenScene:
    """The scene an episode's key names; refuses a kind that there is not."""
    _, _, kind = key.task.partition("/")
    if kind not in KINDS:
        raise BadData(f"task '{key.task}'", f"{FAMILY}/ and one of {KINDS}", "correct Key.task")
    draw, (xs, ys, _) = Draw(Keys.of([key]).fold(FAMILY)), GATE
    gate = x, y = draw.uniform(*xs), draw.uniform(*ys)
    colours, turn = draw.shuffled(PALETTE), draw.uniform(0.0, 2 * math.pi / MOST)
    if kind == "count":
        return HiddenScene(kind, (Pad(x, y, colours[0]),), gate, (0,) * (1 + draw.index(MOST)))
    angles = [turn + 2 * math.pi * k / MOST for k in range(MOST)]
    names = [PLAIN] * MOST if kind == "back" else colours
    pads = tuple(Pad(x + APART * math.cos(a), y + APART * math.sin(a), c) for a, c in zip(angles, names))
    order = tuple(draw.shuffled(range(MOST))[: 1 if kind == "back" else 2])
    return HiddenScene(kind, pads, gate, order, WHEN[0] + draw.index(WHEN[1] - WHEN[0]) if kind == "back" else 0)


def hidden_wordings(key: Key, scene: HiddenScene) -> dict[str, str]:
    """What else could be said: "swapped", another order of touches, or of `back`, which has none, another task; and
    "paraphrased", the same in other words."""
    draw = Draw(Keys.of([key]).fold("wordings"))
    order = (0,) * (1 + len(scene.order) % MOST) if scene.kind == "count" else scene.order[::-1]
    swapped = HiddenScene(scene.kind, scene.pads, scene.gate, order).worded()
    if scene.kind == "back":
        swapped = draw.pick(INSTRUCTIONS["count"]).format(n=draw.index(MOST) + 1)
    return {"swapped": swapped, "paraphrased": scene.worded(1)}


def declared() -> dict[str, Any]:
    """Everything of this file that a scene depends on."""
    return {
        "version": VERSION, "kinds": KINDS, "colours": [PALETTE, PLAIN, {c: COLOURS[c] for c in (*PALETTE, PLAIN)}],
        "gate": [GATE, AROUND, STAY], "touch": [RADIUS, LOW, CLEAR], "pads": [APART, MOST],
        "cube": [ASIDE, WHEN], "home": HOME, "words": INSTRUCTIONS,
    }  # fmt: skip
