"""Nothing of class X is in nano's whole corpus: no sum, not as a part of another either, and no toy."""

from __future__ import annotations

import re
from collections.abc import Iterable

import pytest

from mindhand.core.keys import Keys
from mindhand.data.synthetic.samples import QA
from mindhand.data.synthetic.toy_corpus import sample_sum
from mindhand.data.synthetic.toy_questions import workable
from mindhand.recipes.nano import corpus_of
from mindhand.recipes.pretrain import WHOLE
from mindhand.worlds.draw import Draw
from mindhand.worlds.equations import Equation
from mindhand.worlds.scene import equations
from mindhand.worlds.things import things
from mindhand.worlds.wide import parts, wide_equations, written, written_three

HIDDEN = {*equations("X"), *wide_equations("X")}
TOYS = {t.name for t in things(("X",))}
CORPUS = corpus_of(WHOLE)


def leaks(asked: Iterable[QA]) -> set[str]:
    """What of class X is in questions or answers: sums of two numbers wherever they stand, and names of toys. Of
    1+2+3 it is 1+2 that is given away once a result follows, and 3 is carried."""
    out: set[str] = set()
    for qa in asked:
        text = f"{qa.question} | {qa.answer}"
        for sum_ in re.findall(r"(?<![\d+x-])\d+[-+x]\d+(?![\dx+-])|(?<![\d+x-])\d+[-+]\d+(?=[-+]1=)", text):
            out |= {sum_} if Equation.parse(sum_) in HIDDEN else set()
        out |= {name for name in TOYS if re.search(rf"\b{name}s?\b", text)}
    return out


def test_what_is_asked_of_pictures_holds_nothing_of_class_x():
    for step in (0, WHOLE.steps // 4, WHOLE.steps // 2, WHOLE.steps - 1, 7, 8, 9):
        for row in range(6):
            assert not leaks(CORPUS.sample(step, row).questions), (step, row)


def test_what_is_said_in_words_alone_holds_nothing_of_class_x():
    found = CORPUS.facts(5, range(20_000))
    assert not leaks(found)
    assert sum("." in qa.answer for qa in found) > 500  # and some are worked out in steps


def test_sums_on_boards_can_be_worked_out_unless_their_parts_are_held_out():
    draws = [sample_sum(Draw(Keys.seeded(1, "held out", i))) for i in range(4000)]
    three = [s for s in draws if not isinstance(s, Equation)]
    assert len(three) > 200 and all(workable(s) for s in three)
    two = [s for s in draws if isinstance(s, Equation)]
    assert not HIDDEN.intersection(two)
    assert 0.1 < sum(not workable(s) for s in two) / len(two) < 0.9


@pytest.mark.parametrize("hidden", [*equations("X")[:3], *wide_equations("X")[:3]], ids=lambda e: e.text)
def test_a_leak_is_found_wherever_it_hides(hidden):
    assert leaks([QA("calc", f"what is {hidden.text}?", str(hidden.answer))]) == {hidden.text}
    assert hidden.text in leaks([QA("steps", "work it out", f"9{hidden.a}: {hidden.text}={hidden.answer}. 4")])
    assert leaks([QA("name", "what is it?", sorted(TOYS)[0])])


def test_a_sum_whose_parts_are_held_out_is_one_that_would_leak():
    some = [e for e in wide_equations("K-dev") if parts(e)]
    for e in some[::17]:
        assert workable(e) == (not leaks([QA("steps", "", written(e))])), e
    three = [(a, b, c) for a in range(0, 40, 3) for b in range(0, 30, 4) for c in range(0, 20, 5)]
    for of in three:
        assert workable(of) == (not leaks([QA("steps", "", written_three(*of))])), of
