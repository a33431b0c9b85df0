"""Fixed questions that a mind is examined with, before and after it learned to move a hand.

An exam of one class is a list of items, the same for everyone. What is asked about the board (read, solve, answer)
is asked over a table without any of the answer's digits, so that looking at the tiles does not help.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from typing import Any, TypeVar

import numpy as np

from mindhand.core.errors import BadData
from mindhand.core.keys import Key, Keys
from mindhand.worlds.draw import Draw
from mindhand.worlds.equations import Equation
from mindhand.worlds.scene import SPLITS, MathsScene, equations, sample_maths

from .picture import Picture, front
from .questions import ABOUT_BOARD, KINDS, PHRASES, Asked, ask, ask_fact, word
from .samples import QA

EXAM_SPLITS = ("R", "C", "K-dev", "X")  # K-test is examined through its ledger only, once a release
BARE = (*ABOUT_BOARD, "calc")  # kinds that are asked over a table without the answer's tiles
T = TypeVar("T")
REFERENCE = 600  # scenes that the guesser of `chance` has seen, and as many that it is tried on

# Pictures uint8 (n,h,w,3) and Q questions about each -> Q answers for each.
AnswerFn = Callable[[np.ndarray, list[list[str]]], list[list[str]]]


@dataclass(frozen=True)
class Item:
    """One question of an exam. `key` names it; items that share a scene follow each other."""

    key: Key
    kind: str
    split: str
    scene: MathsScene
    qa: QA
    chance: float


def _order(split: str, seed: int) -> list[Equation]:
    return Draw(Keys.seeded(1, "exam order", split, seed)).shuffled(equations(split))


def _scene(split: str, fonts: str, seed: int, index: int, bare: bool) -> MathsScene:
    # All equations in turn, in one shuffled order: an exam of n items holds each as often as any other.
    e = _order(split, seed)[index % len(equations(split))]
    keys = Keys.seeded(1, "exam", split, fonts, seed, index, "bare" if bare else "full")
    return sample_maths(keys, split, equation=e, answer_tiles=not bare, fonts=fonts)


def _ask(kind: str, scene: MathsScene, draw: Draw) -> Asked:
    if kind == "calc":  # the fact of this item's own equation, half of them in full
        return ask_fact(scene.equation, draw.chance(0.5))
    return ask(kind, scene, draw, ())


def exam(split: str, count: int, kinds: Sequence[str] = KINDS, *, fonts: str = "R", seed: int = 0) -> tuple[Item, ...]:
    """`count` items of every kind, on scenes of one class. fonts: the class of fonts on board and tiles.

    Scenes, questions and phrasings are pure functions of the arguments; an exam of more items begins with the
    items of one of fewer.
    """
    if split not in SPLITS or set(kinds) - set(KINDS):
        raise BadData(f"an exam of {tuple(kinds)} on '{split}'", f"kinds {KINDS}, splits {SPLITS}", "correct it")
    items = []
    for bare in (True, False):
        here = [k for k in KINDS if k in kinds and (k in BARE) == bare]
        for index in range(count if here else 0):
            scene = _scene(split, fonts, seed, index, bare)
            for kind in here:
                draw = Draw(Keys.seeded(1, "exam question", split, fonts, seed, index, kind))
                asked = _ask(kind, scene, draw)
                qa = word(kind, asked, draw.index(len(PHRASES[asked.phrases])))
                key = Key("exam", f"{kind}/{split}/{fonts}", index, seed)
                items.append(Item(key, kind, split, scene, qa, chance(kind, split)))
    return tuple(items)


@cache
def _reference(split: str, bare: bool) -> tuple[MathsScene, ...]:
    keys = (Keys.seeded(1, "exam chance", split, int(bare), i) for i in range(2 * REFERENCE))
    return tuple(sample_maths(k, split, answer_tiles=not bare) for k in keys)


@cache
def chance(kind: str, split: str) -> float:
    """What a guesser gets who knows the question and the class but sees no picture, and cannot calculate.

    It gives the commonest of the answers it was told for the same question; measured on other scenes. For facts in
    words, which hold their own answer, the commonest answer to any of them in that form.
    """
    told: defaultdict[str, Counter[str]] = defaultdict(Counter)
    hits = 0
    for index, scene in enumerate(_reference(split, kind in BARE)):
        asked = _ask(kind, scene, Draw(Keys.seeded(1, "exam chance question", kind, split, index)))
        about = told[asked.phrases if kind == "calc" else f"{asked.phrases} {asked.slot}"]
        if index < REFERENCE:
            about[asked.answer] += 1
        else:
            hits += bool(about) and about.most_common(1)[0][0] == asked.answer
    return hits / REFERENCE


def grade(kind: str, expected: str, said: str) -> bool:
    """Whether the answer is right: exactly the expected text, but for spaces around it."""
    if kind not in KINDS:
        raise BadData(f"an answer of kind '{kind}'", f"one of {KINDS}", "take Item.kind")
    return said.strip() == expected


def answered(
    answer_fn: Callable[[list[Any], list[list[str]]], Sequence[Sequence[str]]],
    items: Iterable[T],
    *,
    about: Callable[[T], Any],
    show: Callable[[T], Any],
    ask: Callable[[T], str],
    rows: int,
) -> Iterator[tuple[T, str]]:
    """Every item with what was said to it, in order. Neighbours that are `about` the same are asked over one picture,
    `rows` pictures at once, each with as many questions. BadData for fewer or more answers than questions."""
    sheet: list[list[T]] = []

    def said() -> Iterator[tuple[T, str]]:
        asked = [[ask(item) for item in same] for same in sheet]
        answers = answer_fn([show(same[0]) for same in sheet], asked)
        if [len(a) for a in answers] != [len(a) for a in asked]:
            raise BadData(
                f"{sum(map(len, answers))} answers for {len(sheet)} pictures of {len(asked[0])} questions",
                "one answer a question, in their order",
                "mend answer_fn",
            )
        return ((item, text) for same, texts in zip(sheet, answers) for item, text in zip(same, texts))

    for _, group in groupby(items, key=about):
        same = list(group)
        if sheet and (len(sheet) == rows or len(sheet[0]) != len(same)):
            yield from said()
            sheet = []
        sheet.append(same)
    if sheet:
        yield from said()


def take_exam(
    answer_fn: AnswerFn, items: Sequence[Item], *, picture: Picture = front, rows: int = 32
) -> list[dict[str, Any]]:
    """Ask every item and grade it: one row an item, with the columns of core/record.py ("key"; write the rate of
    "right" with chance="chance"). At most `rows` pictures are shown at once."""
    return [
        {
            "key": str(item.key),
            "kind": item.kind,
            "split": item.split,
            "equation": item.scene.equation.text,
            "question": item.qa.question,
            "expected": item.qa.answer,
            "said": said,
            "right": grade(item.kind, item.qa.answer, said),
            "chance": item.chance,
        }
        for item, said in answered(
            lambda images, asked: answer_fn(np.stack(images), asked),
            items,
            about=lambda item: item.scene,
            show=lambda item: picture(item.scene, None, None).image,
            ask=lambda item: item.qa.question,
            rows=rows,
        )
    ]
