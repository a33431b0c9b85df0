"""Boards that are asked for: the same scene in scanned digits, and an equation of one's own."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mindhand.core.errors import BadData
from mindhand.core.keys import Key
from mindhand.worlds import scene
from mindhand.worlds.absent import sample_maths_task
from mindhand.worlds.asked import MOST, asked_equation, sample_task
from mindhand.worlds.desk.world import DeskWorld
from mindhand.worlds.hands import SCAN_UNSEEN

from .driving import drive


@given(st.integers(0, 30), st.sampled_from(["R", "K-dev", "K-test/2", "X"]))
@settings(max_examples=20)
def test_a_scanned_board_is_all_that_differs(index, task):
    key = Key("asked", f"maths_matching/{task}", index)
    twin = replace(key, task=f"{key.task}/scanned")
    plain, scanned = sample_task(key), sample_task(twin)
    assert plain == scene.sample_task(key) and scanned.board.font == SCAN_UNSEEN
    assert replace(scanned, board=plain.board) == plain != scanned
    assert scanned.equation in scene.equations(scanned.split) and scanned.board.text.startswith(scanned.equation.text)


@given(st.integers(0, 99), st.sampled_from("+-x"), st.integers(0, 99))
@settings(max_examples=60)
def test_an_equation_of_ones_own(a, op, b):
    text = f"{a}{op}{b}"
    answer = {"+": a + b, "-": a - b, "x": a * b}[op]
    if not 0 <= answer <= MOST:
        with pytest.raises(BadData, match="0 to 99"):
            asked_equation(text)
        return
    assert asked_equation(f" {a} {op.replace('x', '*')} {b} =?").text == text
    made = sample_maths_task(Key("asked", f"maths_matching/asked/{text}", 1))
    assert made.equation.text == text and not made.lacking
    assert [made.tiles[k].digit for k in made.order()] == [int(c) for c in str(answer)]


@pytest.mark.parametrize("task", ["asked", "asked/7", "asked/1+1/R", "scanned", "asked/2:1"])
def test_nonsense_is_refused(task):
    with pytest.raises(BadData):
        sample_maths_task(Key("asked", f"maths_matching/{task}", 0))


@pytest.mark.parametrize("task", ["asked/47+28", "K-dev/scanned"])
def test_the_expert_solves_it(task):
    key = Key("asked", f"maths_matching/{task}", 2)
    with DeskWorld(rows=1) as world:
        assert drive(world, 0, key)[0].success[0]
