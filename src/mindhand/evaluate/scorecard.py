"""The VLM scorecard: eight capabilities of a mind, fixed items, two ways to score them, and what is kept of a base.

The parts answer to public benchmarks (ChatVLA-2's tables; here synthetic, so that what a model has seen is known): OCR
(TextVQA, OCRBench), documents of several lines, charts, maths, space (RealWorldQA), existence (POPE, MME), counting,
and a mix as multiple choice (MMStar). Every item is scored by what the model writes, and by which of the item's
options it finds likeliest: a model that has the knowledge and lost the format still answers the second. Handwriting is
that of hands which no training shows, toys are of the class K, sums are the mind's alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from itertools import islice
from typing import Any, Protocol

import numpy as np
import torch

from mindhand.core.errors import BadData
from mindhand.core.keys import Key, Keys
from mindhand.data.synthetic.questions import PHRASES as DESK_PHRASES
from mindhand.data.synthetic.toy_corpus import pens
from mindhand.data.synthetic.toy_picture import tabletop
from mindhand.data.synthetic.toy_questions import CHART, Asker, Tabletop
from mindhand.model.vla import VLA
from mindhand.worlds.boards import sample_chart, sample_notice
from mindhand.worlds.draw import Draw
from mindhand.worlds.scene import equations, write_board
from mindhand.worlds.things import sample_toys
from mindhand.worlds.wide import wide_equations

VERSION = "scorecard-1"
DIGEST = "cb59721cdd07"  # `digest()`, held by a test: rows of other items are neither gone on with nor compared
PARTS: dict[str, tuple[str, ...]] = {  # and the kinds of question that each asks
    "ocr": ("board", "number"), "document": ("notice",), "chart": CHART, "maths": ("result", "calc"),
    "space": ("relation", "beside", "lies"), "existence": ("there",), "count": ("amount",), "mix": ("choice",),
}  # fmt: skip
OPTIONS = 4  # of an item, the right one among them; fewer where there are no more answers
_HELD_OUT = "HX"


class Mind(Protocol):
    """What can be scored: answers to questions about pictures, and how likely it finds given answers."""

    def answer(self, images: np.ndarray, questions: Sequence[Sequence[str]]) -> list[list[str]]:
        """uint8 (B,h,w,3) and Q questions about each -> Q answers each."""
        ...

    def likelihood(self, images: np.ndarray, questions: Sequence[str], options: Sequence[Sequence[str]]) -> np.ndarray:
        """One question a picture and O options each -> log-probabilities (B,O) of each option as the whole answer."""
        ...


class VLAMind:
    """A VLA's mind."""

    def __init__(self, vla: VLA):
        self.vla = vla

    def answer(self, images: np.ndarray, questions: Sequence[Sequence[str]]) -> list[list[str]]:
        """As `Mind`."""
        return self.vla.answer(images, questions, 40)

    @torch.no_grad()
    def likelihood(self, images: np.ndarray, questions: Sequence[str], options: Sequence[Sequence[str]]) -> np.ndarray:
        """As `Mind`: the end of the answer counts, so that "1" is no better than "12" for being shorter."""
        backbone, many = self.vla.backbone, len(options[0])
        trunk = self.vla.look(images)
        ask = backbone.words.questions(questions)
        trunk = trunk.extend([backbone.text("text", ask.ids, ask.valid, trunk.end)]).fork(many)
        said = backbone.words.answers([o for row in options for o in row])
        trunk = trunk.extend([backbone.text("reasoning", said.ids, said.valid, trunk.end)])
        scores = backbone.logits(trunk.hidden["reasoning"][:, :-1]).float().log_softmax(-1)
        each = scores.gather(-1, said.ids[:, 1:].unsqueeze(-1)).squeeze(-1) * said.supervised[:, 1:]
        return each.sum(1).view(len(images), many).cpu().numpy()


@dataclass(frozen=True)
class Item:
    """One question. `options`: the answer among others, in an order that tells nothing. table: what is shown."""

    key: Key
    part: str
    image: np.ndarray
    question: str
    answer: str
    options: tuple[str, ...]
    table: Tabletop


def _table(part: str, draw: Draw, keys: Keys) -> Tabletop:
    toys = sample_toys(keys, ("K",) if part in ("mix", "existence") else ("R", "K"), (2 if part == "space" else 1, 6))
    if part == "document":
        notice = sample_notice(draw)
        while len(notice.lines) < 2:
            notice = sample_notice(draw)
        return Tabletop(toys, notice)
    if part == "chart":
        return Tabletop(toys, sample_chart(draw))
    if part == "ocr" and draw.chance(0.5):
        return Tabletop(toys, write_board(draw, str(draw.index(1000)), pens(_HELD_OUT), ("{}",)))
    known = (equations("K-dev"), wide_equations("K-dev"))[draw.index(2)]
    e = draw.pick(known)
    return Tabletop(toys, write_board(draw, e.text, pens(_HELD_OUT if part == "ocr" else draw.pick(("R", "K")))), e)


def _asked(part: str, keys: Keys) -> tuple[Tabletop, np.ndarray, str, str, str]:
    """What is shown, its picture, kind of question, question, answer."""
    for attempt in range(1000):
        here = keys.fold(attempt)
        draw = Draw(here.fold("item"))
        table = _table(part, draw, here)
        sight, kind = tabletop(table), draw.pick(PARTS[part])
        if kind == "calc":
            e = draw.pick(wide_equations("K-dev"))
            return table, sight.image, kind, draw.pick(DESK_PHRASES["calc"]).format(e.text), str(e.answer)
        qa = Asker(table, sight, draw).ask(kind)
        if qa is not None:
            return table, sight.image, kind, qa.question, qa.answer
    raise BadData(f"no item for the part '{part}'", "one in a thousand scenes", "look at the samplers")


def _near(answer: str, draw: Draw) -> list[str]:
    """Wrong answers that look right: numbers near it, expressions with a digit changed."""
    places = [k for k, c in enumerate(answer) if c.isdigit()]
    out: list[str] = []
    while places and len(out) < OPTIONS - 1:
        at, digit = draw.pick(places), str(draw.index(10))
        other = answer[:at] + digit + answer[at + 1 :]
        if other != answer and other not in out:
            out.append(other)
    return out


@cache
def _answers(part: str) -> dict[str, list[str]]:
    """Answers to each kind of question of a part."""
    some = (_asked(part, Keys.seeded(1, VERSION, part, "answers", k)) for k in range(40 * len(PARTS[part])))
    found: dict[str, set[str]] = {}
    for *_, kind, _, answer in some:
        found.setdefault(kind, set()).add(answer)
    return {kind: sorted(answers) for kind, answers in found.items()}


def items(part: str, count: int, seed: int = 0) -> Iterator[Item]:
    """`count` items of a part; the first of more are the same. Other options are other items' answers, or near ones."""
    if part not in PARTS:
        raise BadData(f"part '{part}' of the scorecard", f"one of {tuple(PARTS)}", "correct it")
    for index in range(count):
        keys = Keys.seeded(1, VERSION, part, seed, index)
        table, image, kind, question, answer = _asked(part, keys)
        draw = Draw(keys.fold("options"))
        if answer in ("yes", "no"):
            wrong = ["no" if answer == "yes" else "yes"]
        elif answer in ("a", "b", "c"):
            wrong = [c for c in "abc" if c != answer]
        elif any(c.isdigit() for c in answer) and part != "count":
            wrong = _near(answer, draw)
        else:
            wrong = draw.shuffled([a for a in _answers(part)[kind] if a != answer])[: OPTIONS - 1]
        options = tuple(draw.shuffled([answer, *wrong]))
        yield Item(Key(VERSION, part, index, seed), part, image, question, answer, options, table)


def digest(count: int = 100) -> str:
    """12 hexadecimal digits over the first items of every part (as many as a grid's cell takes): question, answer,
    options and what is shown, places to a micrometre. Another sampler or wording makes another scorecard. Not over
    pixels, which a driver may draw otherwise."""
    seen = hashlib.blake2b(digest_size=6)
    for part in PARTS:
        for item in items(part, count):
            seen.update(repr((item.question, item.answer, item.options, _plain(asdict(item.table)))).encode())
    return seen.hexdigest()


def _plain(x: Any) -> Any:
    """A nested value with its numbers rounded, so that the last bit of a sine is no other scene."""
    if isinstance(x, Mapping):
        return {k: _plain(v) for k, v in sorted(x.items())}
    if isinstance(x, list | tuple):
        return [_plain(v) for v in x]
    return round(float(x), 6) if isinstance(x, float) else x


def take(mind: Mind, part: str, count: int, *, rows: int = 32, seed: int = 0) -> list[dict[str, Any]]:
    """One row an item, with the columns of core/record.py: "right" by generation, "likely" by the likeliest option,
    and the "chance" of that; "items" says of which scorecard (`DIGEST`)."""
    out, left = [], items(part, count, seed)
    while some := list(islice(left, rows)):
        images = np.stack([i.image for i in some])
        said = [a[0] for a in mind.answer(images, [[i.question] for i in some])]
        best: dict[int, int] = {}
        for many in sorted({len(i.options) for i in some}):
            at = [k for k, i in enumerate(some) if len(i.options) == many]
            scores = mind.likelihood(images[at], [some[k].question for k in at], [some[k].options for k in at])
            best |= dict(zip(at, scores.argmax(1).tolist()))
        out += [
            {
                "key": str(i.key), "part": part, "question": i.question, "expected": i.answer, "said": s.strip(),
                "right": s.strip() == i.answer, "likely": i.options[best[k]] == i.answer,
                "chance": 1 / len(i.options), "items": DIGEST,
            }
            for k, (i, s) in enumerate(zip(some, said, strict=True))
        ]  # fmt: skip
    return out


@dataclass(frozen=True)
class Score:
    """A scorecard. Shares right by part: written, and by likelihood with chance taken off (0 a guesser, 1 perfect)."""

    written: Mapping[str, float]
    neutral: Mapping[str, float]

    @property
    def worst(self) -> str:
        """The part that is known least, whatever the format."""
        return min(self.neutral, key=lambda p: self.neutral[p])

    def retention(self, base: Score) -> dict[str, float]:
        """How much of what a base knew is left, by part, whatever the format; parts that the base knew less than a
        tenth of are left out: there is nothing to keep."""
        return {p: max(0.0, self.neutral[p]) / b for p, b in base.neutral.items() if b >= 0.1}


def score(rows: Sequence[Mapping[str, Any]]) -> Score:
    """The scorecard of rows of `take`."""
    written, neutral = {}, {}
    for part in dict.fromkeys(r["part"] for r in rows):
        some = [r for r in rows if r["part"] == part]
        chance = float(np.mean([r["chance"] for r in some]))
        written[part] = float(np.mean([r["right"] for r in some]))
        neutral[part] = (float(np.mean([r["likely"] for r in some])) - chance) / (1 - chance)
    return Score(written, neutral)
