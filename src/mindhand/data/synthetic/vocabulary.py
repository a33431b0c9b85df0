"""The small VLM's tokenizer, trained on everything the corpus and the reasoner can say."""

from __future__ import annotations

import re
from collections.abc import Iterator

from mindhand.core.keys import Keys
from mindhand.model.words import Words
from mindhand.worlds.desk.spec import HAND
from mindhand.worlds.draw import Draw
from mindhand.worlds.scene import (
    CELLS,
    COLUMNS,
    FACES,
    INSTRUCTIONS,
    KNOWN,
    PAPERS,
    ROWS,
    reasoning_text,
    sample_maths,
)

from .questions import ADDRESSES, KINDS, NONE, PHRASES, make

SIZE = 384
COORDINATES = (*(f"<x{i}>" for i in range(CELLS)), *(f"<y{i}>" for i in range(CELLS)))


def texts(scenes: int = 100) -> Iterator[str]:
    """Every instruction, phrasing, colour and place, and the questions, answers and thoughts of `scenes` known
    scenes."""
    yield from (*INSTRUCTIONS, *ADDRESSES, *HAND, "read the board and solve it")
    places = tuple(f"{c} {r}" for c in COLUMNS for r in ROWS)
    slots = {"which": places, "count": ("", *(f"{face} " for face in FACES)), "colour": ("7", "board")}
    for kind, phrases in PHRASES.items():
        for slot in slots.get(kind, ("7",)):
            yield from (p.format(slot) for p in phrases)
    yield from (*FACES, *PAPERS, *places, "yes", "no", NONE)
    for i in range(scenes):
        keys = Keys.seeded(1, "vocabulary", i)
        draw = Draw(keys.fold("questions"))
        scene = sample_maths(keys, KNOWN[i % len(KNOWN)])
        for kind in KINDS:
            qa = make(kind, scene, draw, KNOWN)
            yield qa.question
            yield qa.answer
        for placed in range(len(scene.equation.digits) + 1):
            yield reasoning_text(scene, placed)
            yield reasoning_text(scene, placed, held=True)


def word_forms() -> tuple[str, ...]:
    """Every word as it is said: with the space before it, without one, or both."""
    return tuple(sorted({form for text in texts() for form in re.findall(r" ?[A-Za-z]+", text)}))


def train_words(size: int = SIZE) -> Words:
    """The tokenizer of at most `size` tokens: special words, coordinates, printable ASCII, and merges, which are
    learned from the word forms alone, each once: a rare word is to be one token too. The same bytes every time."""
    return Words.train(word_forms(), size, COORDINATES)
