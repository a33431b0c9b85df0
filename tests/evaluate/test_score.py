"""Scores: the paper's weights by exact parse, chance counted out by trying every choice, why in words."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mindhand.core.errors import BadData
from mindhand.core.keys import Key
from mindhand.evaluate.score import choice_chance, named_tiles, score, score_text, success_chance, why
from mindhand.worlds.equations import Equation
from mindhand.worlds.scene import SPLITS, MathsScene, place_words, reasoning_text, sample_task

keys = st.builds(
    Key, st.just("test"), st.sampled_from([f"maths_matching/{s}" for s in SPLITS]), st.integers(0, 500), st.just(0)
)


def scene(digits: int, index: int = 0) -> MathsScene:
    return sample_task(Key("test", f"maths_matching/R/{digits}", index))


@given(keys)
def test_the_teacher_s_text_gets_every_point(key):
    s = sample_task(key)
    found = score_text(reasoning_text(s, 0), s)
    assert (found.ocr, found.maths) == (4, 2)


@given(keys, st.sampled_from("0123456789+-x=. eft"), st.integers(0, 200))
def test_any_changed_character_costs_a_point(key, char, at):
    s = sample_task(key)
    text = reasoning_text(s, 0)
    at %= len(text)
    changed = text[:at] + char + text[at + 1 :]
    found = score_text(changed, s)
    assert (found.ocr + found.maths == 6) == (changed == text)


def test_an_empty_text_has_nothing():
    assert score_text("", scene(1)).ocr == score_text("", scene(1)).maths == 0


def test_each_point_is_its_own():
    s = sample_task(Key("test", "maths_matching/R/1", 0))
    e, text = s.equation, reasoning_text(s, 0)
    wrong = e.answer + 1
    tiles = "tiles " + "".join(str(t.digit) for t in sorted(s.tiles, key=lambda t: t.x))
    assert tiles in text

    def points(changed: str) -> tuple[bool, ...]:
        assert changed != text
        f = score_text(changed, s)
        return f.expression, f.operator, f.tiles, f.result, f.tile

    other = "-" if e.op == "+" else "+"
    assert points(text.replace(e.text, Equation(e.a, other, e.b).text, 1)) == (True, False, True, True, True)
    assert points(text.replace(e.text, f"{e.a + 1}{e.op}{e.b}", 1)) == (False, True, True, True, True)
    assert points(text.replace(f"={e.answer}.", f"={wrong}.")) == (True, True, True, False, True)
    assert points(text.replace(tiles, tiles + "0")) == (True, True, False, True, True)
    assert points(text.replace(f"take {e.answer}", f"take {wrong % 10}")) == (True, True, True, True, False)
    assert points(text + " ") != points(text + "!")  # blanks at the ends are no thought, anything else is
    assert points(text + "!") == (False,) * 5
    assert points(text.replace("take", "grasp")) == (False,) * 5


def test_the_first_thought_may_not_speak_of_placed_tiles():
    s = scene(2)
    assert score_text(reasoning_text(s, 1), s).ocr == 0


@given(keys)
def test_chance_is_what_trying_every_choice_gives(key):
    s = sample_task(key)
    n, digits = len(s.tiles), s.equation.digits
    first = [s.tiles[i].digit == digits[0] for i in range(n)]
    assert choice_chance(s) == pytest.approx(sum(first) / n)
    orders = list(permutations(range(n), len(digits)))
    good = [all(s.tiles[i].digit == d for i, d in zip(order, digits)) for order in orders]
    assert success_chance(s) == pytest.approx(sum(good) / len(orders))
    assert 0 < success_chance(s) <= choice_chance(s) + 1e-12


def row(s: MathsScene, key: Key, taken: int, *, thoughts, success=False, chosen_at: int | None = 10, placed=0) -> dict:
    right = None if taken < 0 else s.tiles[taken].digit == s.equation.digits[0]
    return {
        "key": str(key), "protocol": key.protocol, "task": key.task, "index": key.index, "seed": key.seed,
        "success": success, "end": "success" if success else "time", "steps": 50, "thoughts": thoughts,
        "interventions": [], "chosen_at": chosen_at,
        "facts": {"choice": taken, "choice_right": right, "tiles": len(s.tiles), "placed": placed},
    }  # fmt: skip


KEY = Key("test", "maths_matching/R/1", 0)


def test_consistency_is_with_what_was_said_not_with_what_is_right():
    s = sample_task(KEY)
    right = s.order()[0]
    wrong = next(i for i, t in enumerate(s.tiles) if t.digit != s.tiles[right].digit)
    said = reasoning_text(s, 0)
    tile = s.tiles[wrong]
    lie = said[: said.index("take")] + f"take {tile.digit} {place_words(tile.x, tile.y)}."
    assert named_tiles(said, s) == (right,)
    assert score(row(s, KEY, right, thoughts=[[0, said]]))["rac"] is True
    assert score(row(s, KEY, wrong, thoughts=[[0, said]]))["rac"] is False
    assert score(row(s, KEY, wrong, thoughts=[[0, lie]]))["rac"] is True
    assert score(row(s, KEY, wrong, thoughts=[[0, lie]]))["choice"] is False
    # The thought in force when it took the tile counts; one at or after that step does not.
    assert score(row(s, KEY, wrong, thoughts=[[0, said], [8, lie]]))["rac"] is True
    assert score(row(s, KEY, wrong, thoughts=[[0, said], [10, lie]]))["rac"] is False
    assert score(row(s, KEY, right, thoughts=[[0, "mumble"]]))["rac"] is None
    assert score(row(s, KEY, right, thoughts=[]))["rac"] is None
    assert score(row(s, KEY, -1, thoughts=[[0, said]], chosen_at=None))["rac"] is None


def test_a_policy_that_does_not_think_has_no_text_scores():
    s = sample_task(KEY)
    found = score(row(s, KEY, 0, thoughts=[]))
    assert not {"ocr", "maths", "parsed"} & set(found)
    assert score(row(s, KEY, 0, thoughts=[[0, "mumble"]]))["parsed"] is False


def test_why_says_what_went_wrong():
    s = sample_task(KEY)
    right = s.order()[0]
    wrong = next(i for i, t in enumerate(s.tiles) if t.digit != s.tiles[right].digit)
    assert why(row(s, KEY, right, thoughts=[], success=True), s) == ""
    assert why(row(s, KEY, -1, thoughts=[]), s) == "took no tile"
    assert why(row(s, KEY, wrong, thoughts=[]), s) == f"took {s.tiles[wrong].digit}, wanted {s.equation.digits[0]}"
    assert why(row(s, KEY, right, thoughts=[]), s).startswith(f"took {s.tiles[right].digit}, which is right; placed 0")
    assert "another tile" in why(row(s, KEY, right, thoughts=[], placed=1), s)


def test_rows_of_other_scenes_are_refused():
    s = sample_task(KEY)
    bad = row(s, KEY, 0, thoughts=[])
    bad["facts"]["tiles"] += 1
    with pytest.raises(BadData, match="tiles"):
        score(bad)
    with pytest.raises(BadData):
        score({**bad, "task": "touch/R"})
