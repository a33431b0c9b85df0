"""The declaration: classes are disjoint, closed and complete; scenes hold their answers and leak little."""

import json
from collections import Counter, defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mindhand.core.errors import BadData
from mindhand.core.keys import Key, Keys
from mindhand.evaluate.protocol import MATHS, keys
from mindhand.recipes.chatvla2 import ChatVLA2Plan
from mindhand.worlds import boards, things, wide
from mindhand.worlds import scene as s
from mindhand.worlds.declared import scene_hash

SCENES = {
    split: [s.sample_task(Key("test", f"maths_matching/{split}", i)) for i in range(300)] for split in ("R", "K-dev")
}


def test_classes_are_disjoint_complete_and_of_the_declared_sizes():
    parts = {split: s.equations(split) for split in s.SPLITS}
    assert {k: len(v) for k, v in parts.items()} == {"R": 60, "C": 30, "K-dev": 120, "K-test": 60, "X": 30}
    everything = [e for part in parts.values() for e in part]
    assert len(everything) == len(set(everything)) == 300
    assert set(everything) == {e for t in s.TABLES for e in t.items}
    assert all(s.split_of(e) == split for split, part in parts.items() for e in part)


def test_classes_are_closed_under_commutation():
    for split in s.SPLITS:
        for e in s.equations(split):
            if e.op != "-":
                assert s.split_of(s.Equation(e.b, e.op, e.a)) == split


def test_robot_equations_are_sums_of_both_lengths_with_equal_digits():
    robot = s.equations("R")
    assert {e.op for e in robot} == {"+"}
    assert Counter(len(e.digits) for e in robot)[2] in range(24, 34)
    assert any(e.digits == (1, 1) for e in robot)
    for split in ("C", "K-dev", "K-test", "X"):
        assert {e.op for e in s.equations(split)} == {"+", "-", "x"}, split
    assert all(any(e.digits == (1, 1) for e in s.equations(k)) for k in ("K-dev", "K-test"))


def test_an_equation_outside_the_universe_is_refused():
    with pytest.raises(BadData, match="12\\+30"):
        s.split_of(s.Equation(12, "+", 30))
    with pytest.raises(BadData):
        s.equations("K")


@given(st.integers(0, 99), st.sampled_from("+-x"), st.integers(0, 99))
def test_equation_text_round_trip(a, op, b):
    e = s.Equation(a, op, b)
    assert s.Equation.parse(e.text) == e


@given(st.integers(0, 10**6), st.sampled_from(s.SPLITS), st.booleans())
def test_sampled_scene_keeps_its_rules(seed, split, answer_tiles):
    scene = s.sample_maths(Keys.seeded(1, seed), split, answer_tiles=answer_tiles)
    assert s.split_of(scene.equation) == split == scene.split
    digits = Counter(t.digit for t in scene.tiles)
    assert s.TILES[0] <= len(scene.tiles) <= s.TILES[1]
    need = Counter(scene.equation.digits)
    assert all(digits[d] >= n for d, n in need.items()) if answer_tiles else not set(digits) & set(need)
    for i, t in enumerate(scene.tiles):
        assert s.AREA[0][0] <= t.x <= s.AREA[0][1]
        assert s.AREA[1][0] <= t.y <= s.AREA[1][1]
        assert abs(t.yaw) <= s.YAW
        for u in scene.tiles[:i]:
            assert abs(t.x - u.x) >= s.APART[0] or abs(t.y - u.y) >= s.APART[1]
    assert s.MathsScene.from_json(json.loads(json.dumps(scene.to_json()))) == scene


def test_a_scene_is_a_pure_function_of_its_key():
    keys = Keys.seeded(4, "pure")
    first = [s.sample_maths(keys[[i]], "K-dev") for i in range(4)]
    assert [s.sample_maths(keys[[i]], "K-dev") for i in (3, 2, 1, 0)] == first[::-1]
    assert len({str(x) for x in first}) == 4
    with pytest.raises(BadData, match="4 keys"):
        s.sample_maths(keys, "R")


def test_tasks_are_parsed_or_refused():
    for i in range(30):
        assert len(s.sample_task(Key("t", "maths_matching/K-dev/2", i)).equation.digits) == 2
        assert len(s.sample_task(Key("t", "maths_matching/R/1", i)).equation.digits) == 1
    hand = s.sample_task(Key("t", "maths_matching/R/font-X", 0))
    assert {hand.board.font, hand.tile_font} == {"humor"}
    for bad in ("maths", "maths_matching", "maths_matching/Z", "maths_matching/R/3", "toys/R"):
        with pytest.raises(BadData):
            s.sample_task(Key("t", bad, 0))


def test_a_given_equation_is_shown():
    e = s.Equation(7, "x", 8)
    scene = s.sample_maths(Keys.seeded(1, 5), "R", equation=e)
    assert scene.equation == e
    assert scene.split == s.split_of(e)
    assert scene.board.text.startswith("7x8")


def test_why_names_the_habit_that_would_take_the_tile():
    for scene in SCENES["K-dev"]:
        e, count = scene.equation, Counter(t.digit for t in scene.tiles)
        for t in scene.tiles:
            if t.why == "operand":
                assert str(t.digit) in f"{e.a}{e.b}"
            elif t.why == "near":
                assert str(t.digit) in f"{max(0, e.answer - 1)}{e.answer + 1}"
            elif t.why == "twin":
                assert count[t.digit] >= 2
            elif t.why == "answer":
                assert t.digit in e.digits
            else:
                assert t.digit not in e.digits


def _results(e, flip=()):
    """What one gets who reads the operands at `flip` backwards, by each operator: "+", "-", "x"."""
    a, b = (int(str(n)[::-1]) if k in flip else n for k, n in enumerate((e.a, e.b)))
    return {"+": a + b, "-": a - b, "x": a * b}


HABITS = {  # why a tile is there: numbers that who has the habit would answer with
    "operand": lambda e, split: {e.a, e.b},
    "near": lambda e, split: {e.answer - 1, e.answer + 1},
    "operator": lambda e, split: {n for op, n in _results(e).items() if op != e.op},
    "reversed": lambda e, split: {_results(e, flip)[e.op] for flip in ((0,), (1,))},
    "prior": lambda e, split: {int(str(x.answer)[0]) for x in s.equations(split)},
}


@pytest.mark.parametrize("split", ["R", "K-dev"])
def test_every_habit_has_its_tiles_and_occurs(split):
    met = Counter()
    for scene in SCENES[split]:
        for t in scene.tiles:
            met[t.why] += 1
            if t.why in HABITS:
                numbers = {n for n in HABITS[t.why](scene.equation, split) if n >= 0}
                assert str(t.digit) in "".join(map(str, numbers)), (scene.equation.text, t)
    # operands of R have one digit, which reads the same backwards
    want = {"answer", "twin", *HABITS} - ({"reversed"} if split == "R" else set())
    assert want <= set(met) <= want | {"other"} and min(met[why] for why in want) >= 5, met


def layouts(keys):
    """Where the tiles of these episodes lie, to the millimetre and half a degree, whichever digit is where."""
    tiles = (s.sample_task(k).tiles for k in keys)
    return {tuple(sorted((round(t.x, 3), round(t.y, 3), round(t.yaw, 2)) for t in some)) for some in tiles}


def test_no_layout_of_an_evaluation_was_demonstrated():
    """Whoever learned the demonstrations by heart knows no place of an evaluation, in no split."""
    shown = [Key("demonstrations", f"{s.FAMILY}/R", i) for i in range(ChatVLA2Plan().episodes)]
    asked = keys(MATHS.only(*(f"{s.FAMILY}/{split}" for split in ("R", "C", "K-dev", "K-test", "X")), episodes=200))
    known, met = layouts(shown), layouts(asked)
    assert len(known) == len(shown) == 340 and len(met) == len(asked) == 5 * 200
    assert not known & met
    leaked = [*shown[:-1], asked[0]]  # one demonstration under a key of the protocol
    assert len(layouts(leaked) & met) == 1


def _guess_without_board(fit, test) -> float:
    """How often the digit most typical of a first answer, given the tiles only, is the first answer."""
    score = defaultdict(lambda: [0, 1])
    for scene in fit:
        for digit in {t.digit for t in scene.tiles}:
            score[digit][0] += digit == scene.equation.digits[0]
            score[digit][1] += 1
    hits = 0
    for scene in test:
        best = max({t.digit for t in scene.tiles}, key=lambda d: score[d][0] / score[d][1])
        hits += best == scene.equation.digits[0]
    return hits / len(test)


def test_tiles_alone_do_not_give_the_answer_away():
    scenes = SCENES["K-dev"]
    chance = sum(1 / len(x.tiles) for x in scenes) / len(scenes)
    assert _guess_without_board(scenes[:150], scenes[150:]) < chance + 0.15


def test_place_and_order_do_not_give_the_answer_away():
    for scenes in SCENES.values():
        first = Counter(sc.order()[0] * 2 >= len(sc.tiles) for sc in scenes)
        assert 0.38 < first[True] / len(scenes) < 0.62
        leftmost = sum(min(range(len(x.tiles)), key=lambda i: x.tiles[i].x) == x.order()[0] for x in scenes)
        chance = sum(1 / len(x.tiles) for x in scenes)
        assert abs(leftmost - chance) < 0.12 * len(scenes)


@given(st.integers(0, 10**6))
def test_reasoning_agrees_with_geometry(seed):
    scene = s.sample_maths(Keys.seeded(1, seed), "K-dev", digits=2)
    taken = []
    for placed in range(2):
        read = s.read_reasoning(s.reasoning_text(scene, placed))
        target = scene.tiles[scene.order()[placed]]
        assert read["expression"] == scene.equation.text
        assert read["answer"] == scene.equation.answer
        left = sorted((t.x, t.digit) for i, t in enumerate(scene.tiles) if i not in taken)
        assert read["tiles"] == tuple(d for _, d in left)
        assert read["placed"] == scene.equation.digits[:placed]
        assert read["digit"] == target.digit == scene.equation.digits[placed]
        column, row = (s.COLUMNS.index(w) if k == 0 else s.ROWS.index(w) for k, w in enumerate(read["place"].split()))
        for value, span, third in ((target.x, s.AREA[0], column), (target.y, s.AREA[1], row)):
            low = span[0] + third * (span[1] - span[0]) / 3
            assert low - 1e-9 <= value <= low + (span[1] - span[0]) / 3 + 1e-9
        put = s.read_reasoning(s.reasoning_text(scene, placed, held=True))
        assert (put["step"], put["digit"], put["place"]) == ("put", target.digit, s.SIDES[placed])
        assert put["tiles"] is None and put["placed"] == read["placed"]
        taken.append(scene.order()[placed])
    assert s.read_reasoning(s.reasoning_text(scene, 2))["digit"] is None


def test_reasoning_follows_the_tile_that_was_really_taken():
    scene = next(x for x in SCENES["R"] if x.equation.digits == (1, 1))
    left, right = scene.candidates(0)[:2]
    other = s.read_reasoning(s.reasoning_text(scene, 1, taken=[right]))
    assert other["place"] == s.place_words(scene.tiles[left].x, scene.tiles[left].y)
    assert len(other["tiles"]) == len(scene.tiles) - 1


def test_cells_are_read_back_and_damaged_thoughts_are_not():
    scene = SCENES["R"][0]
    text = s.reasoning_cell_text(scene, 0, (63.9, 127.9))
    assert s.read_reasoning(text)["cell"] == (7, 15)
    assert s.read_reasoning(text.replace("take", "grab")) is None
    assert s.read_reasoning(text[:-1]) is None
    held = s.reasoning_text(scene, 0, held=True)
    assert s.read_reasoning(held)["step"] == "put"
    assert s.read_reasoning(held.replace(". put", ". tiles 12. put")) is None  # a full hand lists nothing
    assert s.read_reasoning(text.replace(text[text.index(" tiles") : text.index(" take")], "")) is None


def test_the_hash_covers_what_is_declared(monkeypatch):
    before = scene_hash()
    assert len(before) == 12
    assert scene_hash() == before
    some = (s, "FACES"), (things, "COLOURS"), (boards, "BARS"), (things, "RELATIONS")
    for module, name in some:
        with monkeypatch.context() as patch:
            patch.setattr(module, name, {**getattr(module, name), "white": (1, 2, 3)})
            assert scene_hash() != before
    with monkeypatch.context() as patch:
        patch.setattr(wide, "_classes", dict)
        assert scene_hash() != before
