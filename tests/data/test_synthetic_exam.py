"""Exams are fixed, cannot be passed by looking at the tiles, and a guesser gets what they say it gets."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from mindhand.core.errors import BadData
from mindhand.core.record import measure
from mindhand.data.synthetic import exam as x
from mindhand.data.synthetic.questions import ABOUT_BOARD, KINDS
from mindhand.worlds.scene import FONTS, SPLITS, equations, split_of

from .synthetic_picture import patches

PAPER = {split: x.exam(split, 30) for split in x.EXAM_SPLITS}


def oracle(items):
    """Answers from a list of what is right, looked up by the picture and the question: order must not matter."""
    right = {(patches(i.scene).image.tobytes(), i.qa.question): i.qa.answer for i in items}
    return lambda images, asked: [[right[m.tobytes(), q] for q in row] for m, row in zip(images, asked)]


def test_an_exam_is_fixed_and_grows_at_its_end():
    again = x.exam("K-dev", 30)
    assert again == PAPER["K-dev"]
    for kind in KINDS:
        few = [i for i in x.exam("K-dev", 10) if i.kind == kind]
        many = [i for i in PAPER["K-dev"] if i.kind == kind]
        assert few == many[:10]
        alone = x.exam("K-dev", 10, (kind,))
        assert [i.qa for i in alone] == [i.qa for i in few]
    assert [i.qa for i in x.exam("K-dev", 30, seed=1)] != [i.qa for i in again]


def test_an_exam_is_of_its_split_and_holds_every_equation_alike():
    for split, items in PAPER.items():
        assert {split_of(i.scene.equation) for i in items} == {split}
        times = Counter(i.scene.equation for i in x.exam(split, 2 * len(equations(split)), ("read",)))
        assert set(times.values()) == {2}
        assert set(times) == set(equations(split))
    assert len({str(i.key) for items in PAPER.values() for i in items}) == 4 * 30 * len(KINDS)


def test_fonts_can_be_held_out():
    known = {f.name: f.known for f in FONTS}
    for fonts in ("R", "K", "X"):
        items = x.exam("K-dev", 5, ("read", "tiles"), fonts=fonts)
        assert {known[i.scene.board.font] for i in items} | {known[i.scene.tile_font] for i in items} == {fonts}


def test_boards_are_examined_without_the_tiles_of_the_answer():
    for items in PAPER.values():
        for i in items:
            shown = {t.digit for t in i.scene.tiles} & set(i.scene.equation.digits)
            assert bool(shown) == (i.kind not in (*ABOUT_BOARD, "calc"))


def test_who_knows_everything_is_right_and_who_errs_is_wrong_where_he_errs():
    items = PAPER["K-dev"]
    rows = x.take_exam(oracle(items), items, picture=patches, rows=7)
    assert [r["key"] for r in rows] == [str(i.key) for i in items]
    assert all(r["right"] for r in rows)
    assert measure(rows, "right", "rate")[0].value == 1.0

    def errs(images, asked):
        return [
            ["7" if "answer" in q else a for q, a in zip(qs, row)]
            for qs, row in zip(asked, oracle(items)(images, asked))
        ]

    for r in x.take_exam(errs, items, picture=patches):
        assert r["right"] == ("answer" not in r["question"] or r["expected"] == "7")


def test_answers_of_the_wrong_number_are_refused():
    with pytest.raises(BadData, match="one answer a question"):
        x.take_exam(lambda images, asked: [row[:-1] for row in asked], PAPER["R"], picture=patches)


@pytest.mark.parametrize(
    ("said", "right"),
    [
        ("3+4=7", True),
        (" 3+4=7 ", True),
        ("3+4=7.", False),
        ("3+4=70", False),
        ("3+4", False),
        ("", False),
        ("7", False),
    ],
)
def test_grading_is_exact(said, right):
    assert x.grade("solve", "3+4=7", said) is right
    with pytest.raises(BadData):
        x.grade("sing", "a", "a")


def test_a_guesser_gets_about_the_stated_chance():
    """A guesser of our own, who learns the commonest answer to each question from one exam and sits another."""
    told: dict[str, Counter] = {}
    kinds = ("answer", "where", "exist", "count")
    for i in x.exam("K-dev", 400, kinds, seed=1):
        told.setdefault(i.qa.question, Counter())[i.qa.answer] += 1

    def guess(images, asked):
        return [[told.get(q, Counter("?")).most_common(1)[0][0] for q in row] for row in asked]

    rows = x.take_exam(guess, x.exam("K-dev", 400, kinds, seed=2), picture=patches)
    for kind in kinds:
        mine = [r for r in rows if r["kind"] == kind]
        assert abs(np.mean([r["right"] for r in mine]) - mine[0]["chance"]) < 0.09, kind


def test_chance_is_stated_for_every_kind():
    for split in ("R", "X"):
        table = {kind: x.chance(kind, split) for kind in KINDS}
        assert max(table[k] for k in ("read", "solve", "tiles")) < 0.06
        assert 0.05 < table["answer"] < 0.25
        assert 0.45 <= table["exist"] < 0.7
        assert all(0 <= c < 0.7 for c in table.values())


def test_what_is_no_exam_is_refused():
    for bad in (("Z", 3, KINDS), ("R", 3, ("sing",))):
        with pytest.raises(BadData):
            x.exam(*bad)
    assert set(x.EXAM_SPLITS) == set(SPLITS) - {"K-test"}
