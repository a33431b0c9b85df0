"""Gates: an oracle passes every one, a mute passes none, and nobody has met what is asked."""

from __future__ import annotations

import numpy as np
import pytest

from mindhand.data.synthetic.gates import BARS, CHANCE, TOYS, gate_items, overlap, take_gate
from mindhand.data.synthetic.toy_picture import tabletop
from mindhand.worlds.equations import Equation
from mindhand.worlds.scene import split_of
from mindhand.worlds.wide import wide_equations


@pytest.mark.parametrize("gate", BARS)
def test_an_oracle_passes_and_a_mute_does_not(gate):
    items = list(gate_items(gate, 6, tabletop))
    known = {i.question: i.answer for i in items}
    assert all(i.image.shape == (128, 128, 3) and i.image.std() > 5 for i in items)
    assert all(i.right(i.answer) and not i.right("") and not i.right("?") for i in items)
    answers = iter([i.answer for i in items])
    rows = take_gate(lambda images, asked: [[next(answers)] for _ in images], gate, 6, tabletop, rows=4)
    assert all(r["right"] for r in rows) and len({r["key"] for r in rows}) == 6
    again = list(gate_items(gate, 3, tabletop))
    assert [i.question for i in again] == [i.question for i in items[:3]]
    assert all(np.array_equal(a.image, b.image) for a, b in zip(again, items))
    assert known


def test_a_guesser_gets_what_the_rows_say():
    assert CHANCE["scanned_digits"] == 0.1 and set(CHANCE) < set(BARS)
    for gate in ("scanned_digits", "exist_negative", "box"):
        rows = take_gate(lambda _, asked: [["?"] for _ in asked], gate, 2, tabletop)
        assert {r["chance"] for r in rows} == {CHANCE.get(gate, 0.0)}


def test_existence_is_asked_both_ways():
    assert {i.answer for i in gate_items("exist_positive", 10, tabletop)} == {"yes"}
    assert {i.answer for i in gate_items("exist_negative", 10, tabletop)} == {"no"}
    assert all(int(i.answer[-1]) <= 5 for i in gate_items("count", 30, tabletop))
    assert set(TOYS) < set(BARS)


def test_sums_are_of_the_class_that_the_gate_names():
    for gate, held_out in (("arithmetic_seen", False), ("arithmetic_unseen", True)):
        for item in gate_items(gate, 20, tabletop):
            e = Equation.parse(item.question.strip("?=").split(" ")[-1])
            assert (e in wide_equations("X")) == held_out
            assert max(e.a, e.b) > 9 or split_of(e) == "K-dev"


def test_a_point_may_be_one_cell_off_and_a_box_must_cover_half():
    (item,) = gate_items("pointing", 1, tabletop)
    u, v = (int(n) for n in item.answer[2:-1].split("><y"))
    assert item.right(f"<x{u + 1}><y{v - 1}>") and not item.right(f"<x{u + 2}><y{v}>") and not item.right(f"<x{u}>")
    assert overlap(np.array([2, 2, 5, 5]), np.array([2, 2, 5, 5])) == 1.0
    assert overlap(np.array([2, 2, 5, 5]), np.array([6, 2, 9, 5])) == 0.0
    assert overlap(np.array([2, 2, 5, 5]), np.array([5, 5, 2, 2])) == 0.0  # inside out
    assert 0.5 < overlap(np.array([2, 2, 5, 5]), np.array([3, 2, 6, 5])) < 0.7
