"""What a mind must know before it may be given a hand: fixed items of the class K, each gate with its bar.

Pictures are none that a training has seen (their keys are another stream's); what is asked is in the corpus' own
phrasings. A gate's items are the same for everyone and named by their keys.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import chain, pairwise
from typing import Any

import numpy as np

from mindhand.core.errors import BadData
from mindhand.core.keys import Key, Keys
from mindhand.worlds.draw import Draw
from mindhand.worlds.equations import Equation
from mindhand.worlds.hands import SCAN_UNSEEN
from mindhand.worlds.scene import TILE, MathsScene, equations, sample_maths, write_board
from mindhand.worlds.things import GRID, RELATIONS, sample_toys
from mindhand.worlds.wide import parts, wide_equations

from .exam import AnswerFn, answered
from .picture import front
from .questions import PHRASES, ask, counted, word
from .toy_corpus import FACTS, PENS, TabletopPicture, pens, sample_three
from .toy_questions import PHRASES as TOY_PHRASES
from .toy_questions import Asker, Tabletop, expression, workable

BARS: dict[str, float | None] = {  # the least share of right answers; None: reported beside the others
    "equation_reading": 0.98, "scanned_digits": 0.92, "arithmetic_seen": 0.97, "arithmetic_unseen": None,
    "tile_listing": 0.97, "naming": 0.97, "colour": 0.97, "count": 0.95, "exist_positive": 0.97,
    "exist_negative": 0.97, "relation": 0.95, "pointing": 0.97, "box": 0.90, "desk_reading": 0.95,
    "planning": None, "written_steps": None, "three_numbers": None,
}  # fmt: skip
TOYS = {
    "naming": "name", "colour": "hue", "count": "amount", "exist_positive": "there", "exist_negative": "there",
    "relation": "relation", "pointing": "point", "box": "box", "planning": "plan",
}  # fmt: skip
CHANCE = {  # of a guesser who knows what may be answered
    "scanned_digits": 1 / 10,
    "naming": 1 / 20, "colour": 1 / 9, "count": 0.4, "exist_positive": 0.5, "exist_negative": 0.5,
    "relation": 1 / len(RELATIONS), "pointing": 9 / GRID**2,
}  # fmt: skip
MOST = 5  # toys of a count


@dataclass(frozen=True)
class GateItem:
    """One question about a picture uint8 (h,w,3); a sum in words is asked over a picture that does not matter."""

    key: Key
    gate: str
    question: str
    answer: str
    image: np.ndarray

    def right(self, said: str) -> bool:
        """Whether this will do: the same words; a point at most one cell off; a box that covers it by more than
        half (intersection over union)."""
        if self.gate not in ("pointing", "box"):
            return said.strip() == self.answer
        want, have = (np.array([int(n) for n in re.findall(r"<[xy](\d+)>", t)]) for t in (self.answer, said))
        if want.shape != have.shape:
            return False
        return bool(np.abs(want - have).max() <= 1) if self.gate == "pointing" else overlap(want, have) > 0.5


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two boxes of cells (left, top, right, bottom; both ends belong to them)."""
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:]) + 1
    both = np.prod(np.maximum(high - low, 0))
    one, other = (np.prod(np.maximum(x[2:] + 1 - x[:2], 0)) for x in (a, b))
    return float(both / max(one + other - both, 1))


Item = tuple[str, str, np.ndarray]  # question, answer, picture


def _digit(draw: Draw, keys: Keys, picture: TabletopPicture) -> Item:
    fonts = [p for p in PENS if p.name == SCAN_UNSEEN]
    digit = str(draw.index(10))
    table = Tabletop(sample_toys(keys), write_board(draw, digit, fonts, ("{}",)))
    return draw.pick(TOY_PHRASES["number"]), digit, picture(table, None).image


def _fact(gate: str, draw: Draw) -> tuple[str, str]:
    split = "K-dev" if gate == "arithmetic_seen" else "X"
    pool = (*equations(split), *wide_equations(split)) if split == "K-dev" else wide_equations(split)
    e: Equation = draw.pick(pool)
    return draw.pick(FACTS["calc"]).format(e.text), str(e.answer)


@cache
def _worked_out() -> tuple[Equation, ...]:
    return tuple(e for e in wide_equations("K-dev") if parts(e) and workable(e))


def _steps(gate: str, draw: Draw, keys: Keys, picture: TabletopPicture) -> Item:
    of = sample_three(draw) if gate == "three_numbers" else draw.pick(_worked_out())
    table = Tabletop(sample_toys(keys, ("K",)), write_board(draw, expression(of), pens("K")), of)
    sight = picture(table, None)
    qa = Asker(table, sight, draw).ask("steps")
    assert qa is not None
    return qa.question, qa.answer, sight.image


def _ordered(scene: MathsScene) -> bool:
    """Whether no two tiles lie behind one another: seen from the front, perspective turns the order of those round."""
    xs = sorted(t.x for t in scene.tiles)
    return min(b - a for a, b in pairwise(xs)) > TILE[0] / 3


def _maths(gate: str, draw: Draw, keys: Keys) -> Item:
    listed = gate == "tile_listing"
    scene: MathsScene = sample_maths(keys, "K-dev", answer_tiles=listed, fonts="K")
    if listed:
        many = (sample_maths(keys.fold(attempt), "K-dev", fonts="K") for attempt in range(10_000))
        count = len(scene.tiles)
        scene = next(s for s in chain([scene], many) if len(s.tiles) == count and _ordered(s))
    if gate == "equation_reading":
        e = draw.pick(wide_equations("K-dev")) if draw.chance(0.5) else scene.equation
        board = write_board(draw, e.text, pens("K"))
        scene = MathsScene(e, "K-dev", scene.tiles, scene.tile_font, board)
    kind = "tiles" if listed else "read"
    asked = ask(kind, scene, draw, ())
    qa = word(kind, asked, draw.index(len(PHRASES[asked.phrases])))
    return qa.question, qa.answer, front(scene, None, None).image


def _toys(gate: str, draw: Draw, keys: Keys, picture: TabletopPicture) -> Item:
    for attempt in range(1000):
        scene = sample_toys(keys.fold(attempt), ("K",), (2 if gate == "relation" else 1, 6))
        table = Tabletop(scene, write_board(draw, draw.pick(equations("K-dev")).text, pens("K")))
        sight = picture(table, None)
        qa = Asker(table, sight, draw).ask(TOYS[gate])
        wanted = {"exist_positive": "yes", "exist_negative": "no"}.get(gate)
        if qa is None or (wanted and qa.answer != wanted) or (gate == "count" and qa.answer == counted(MOST + 1)):
            continue
        return qa.question, qa.answer, sight.image
    raise BadData(f"no item for the gate '{gate}'", "one in a thousand scenes", "look at the sampler")


def gate_items(gate: str, count: int, picture: TabletopPicture, seed: int = 0) -> Iterator[GateItem]:
    """`count` items of a gate; the first of more are the same. picture: draws tabletops."""
    if gate not in BARS:
        raise BadData(f"gate '{gate}'", f"one of {tuple(BARS)}", "correct it")
    for index in range(count):
        keys = Keys.seeded(1, "gate", gate, seed, index)
        draw = Draw(keys.fold("item"))
        if gate in TOYS:
            item = _toys(gate, draw, keys, picture)
        elif gate in ("written_steps", "three_numbers"):
            item = _steps(gate, draw, keys, picture)
        elif gate == "scanned_digits":
            item = _digit(draw, keys, picture)
        elif gate.startswith("arithmetic"):
            item = (*_fact(gate, draw), front(sample_maths(keys, "K-dev", answer_tiles=False)).image)
        else:
            item = _maths(gate, draw, keys)
        yield GateItem(Key("gates", gate, index, seed), gate, *item)


def take_gate(
    answer_fn: AnswerFn, gate: str, count: int, picture: TabletopPicture, *, rows: int = 32, seed: int = 0
) -> list[dict[str, Any]]:
    """One row an item, with the columns of core/record.py."""
    return [
        {
            "key": str(i.key), "gate": gate, "question": i.question, "expected": i.answer, "said": said,
            "right": i.right(said), "chance": CHANCE.get(gate, 0.0),
        }
        for i, said in answered(
            lambda images, asked: answer_fn(np.stack(images), asked),
            gate_items(gate, count, picture, seed),
            about=lambda i: i.key,
            show=lambda i: i.image,
            ask=lambda i: i.question,
            rows=rows,
        )
    ]  # fmt: skip
