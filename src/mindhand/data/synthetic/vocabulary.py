"""The small VLM's tokenizer, trained on everything the corpus and the reasoner can say."""

from __future__ import annotations

import re
from collections.abc import Iterator

from mindhand.core.keys import Keys
from mindhand.model.words import Words
from mindhand.worlds.boards import BARS, NOTICE_WORDS
from mindhand.worlds.desk.spec import HAND
from mindhand.worlds.draw import Draw
from mindhand.worlds.placing import INSTRUCTIONS as PLACING
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
from mindhand.worlds.things import BY_NAME, COLOURS, GRID, MATERIALS, RELATIONS

from .questions import ADDRESSES, KINDS, NONE, PHRASES, make
from .toy_corpus import FACTS
from .toy_questions import PHRASES as TOY_PHRASES

SIZE, WHOLE = 384, 768


def coordinates(cells: int) -> tuple[str, ...]:
    """The words for a place in a picture of so many cells a side."""
    return (*(f"<x{i}>" for i in range(cells)), *(f"<y{i}>" for i in range(cells)))


def whole_texts() -> Iterator[str]:
    """What is said of toys, notices and charts."""
    for phrases in (*TOY_PHRASES.values(), *FACTS.values(), PLACING):
        yield from (p.replace("{}", " ") for p in phrases)
    yield from (f"{word} {word}" for word in (*BY_NAME, *COLOURS, *MATERIALS, *BARS, "toy", "toys"))
    yield from (*RELATIONS, *NOTICE_WORDS, *(f" {w}" for w in NOTICE_WORDS), "yes", "no", "a b c", " a b c")


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


def word_forms(whole: bool = False) -> tuple[str, ...]:
    """Every word as it is said: with the space before it, without one, or both. whole: of toys and notices too."""
    said = [*texts(), *(whole_texts() if whole else ())]
    return tuple(sorted({form for text in said for form in re.findall(r" ?[A-Za-z]+", text)}))


def train_words(whole: bool = False) -> Words:
    """The tokenizer of at most `SIZE` or `WHOLE` tokens: special words, coordinates, printable ASCII, and merges, which
    are learned from the word forms alone, each once: a rare word is to be one token too. The same bytes every time.

    whole: for a mind that is asked about toys, notices and charts too."""
    if whole:
        return Words.train(word_forms(True), WHOLE, coordinates(GRID))
    return Words.train(word_forms(), SIZE, coordinates(CELLS))
