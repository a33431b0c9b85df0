"""Questions are right, worded without ambiguity, and never speak of what their reader must not know."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mindhand.core.errors import BadData
from mindhand.core.keys import Keys
from mindhand.data.synthetic import questions as q
from mindhand.data.synthetic.corpus import DeskCorpus, cotraining, pretraining
from mindhand.data.synthetic.mix import COTRAIN, PRETRAIN, Mix
from mindhand.data.synthetic.moments import Moment
from mindhand.worlds.draw import Draw
from mindhand.worlds.equations import Equation
from mindhand.worlds.scene import (
    FONTS,
    INSTRUCTIONS,
    KNOWN,
    equations,
    place_words,
    read_reasoning,
    reasoning_text,
    sample_maths,
    split_of,
)  # fmt: skip

from .synthetic_picture import patches

EQUATION = re.compile(r"(?<!\d)(\d+)([+\-x])(\d+)(?!\d)")
FONT = {f.name: f.known for f in FONTS}


def scenes(count: int, split: str = "K-dev", **options):
    return [sample_maths(Keys.seeded(1, "questions", split, i), split, **options) for i in range(count)]


def asked(kind: str, count: int = 400, **options) -> list[tuple]:
    found = scenes(count, **options)
    return [(s, q.ask(kind, s, Draw(Keys.seeded(1, kind, i)), KNOWN)) for i, s in enumerate(found)]


# ---- answers are right ---------------------------------------------------------------------------------


def test_the_board_is_read_solved_and_answered():
    for scene in scenes(30):
        draw = Draw(Keys.seeded(1))
        e = scene.equation
        assert q.ask("read", scene, draw, KNOWN).answer == e.text
        assert q.ask("solve", scene, draw, KNOWN).answer == f"{e.text}={eval(e.text.replace('x', '*'))}"
        assert q.ask("answer", scene, draw, KNOWN).answer == str(eval(e.text.replace("x", "*")))


def test_facts_are_true_and_have_both_forms():
    forms = Counter()
    for _, a in asked("calc"):
        result = str(eval(a.slot.replace("x", "*")))
        assert a.answer == {"calc": result, "calc in full": f"{a.slot}={result}"}[a.phrases]
        forms[a.phrases] += 1
    assert min(forms.values()) > 150


def test_tiles_are_listed_in_the_words_of_the_reasoning():
    for scene, a in asked("tiles", 60):
        assert f". {a.answer}." in reasoning_text(scene, 0)
        assert read_reasoning(reasoning_text(scene, 0))["tiles"] == tuple(map(int, a.answer.split()[1]))


def test_where_names_the_leftmost_tile_of_its_digit():
    twins = 0
    for scene, a in asked("where"):
        same = [t for t in scene.tiles if t.digit == int(a.slot)]
        tile = min(same, key=lambda t: t.x)
        assert scene.tiles[a.tile] == tile
        assert a.answer == f"{a.slot} {place_words(tile.x, tile.y)}"
        twins += len(same) > 1
    assert twins > 10  # the rule was needed


def test_which_is_asked_of_places_with_one_tile_or_none():
    nothing = crowded = 0
    for scene, a in asked("which"):
        places = [place_words(t.x, t.y) for t in scene.tiles]
        here = [t for t, p in zip(scene.tiles, places) if p == a.slot]
        assert [str(t.digit) for t in here] == ([] if a.answer == q.NONE else [a.answer])
        assert (a.tile is None) == (a.answer == q.NONE)
        nothing += a.answer == q.NONE
        crowded += len(set(places)) < len(places)
    assert 40 < nothing < 120
    assert crowded > 10


def test_count_is_of_all_tiles_or_of_one_face():
    answers = Counter()
    for scene, a in asked("count"):
        faces = [t.face for t in scene.tiles]
        many = faces.count(a.slot.strip()) if a.slot else len(faces)
        assert a.answer == q.counted(many) and len(a.row) == many
        assert all(faces[k] == a.slot.strip() for k in a.row if a.slot)
        answers[bool(a.slot), a.answer[-1]] += 1
    assert {n for whole, n in answers if not whole} == {"3", "4", "5", "6"}
    assert {"0", "1", "2"} <= {n for whole, n in answers if whole}


def test_exist_is_balanced_and_holds_digits_that_are_on_the_board_only():
    yes = hard = 0
    for scene, a in asked("exist"):
        here = int(a.slot) in {t.digit for t in scene.tiles}
        assert a.answer == ("yes" if here else "no")
        yes += here
        hard += not here and a.slot in scene.board.text
    assert 160 < yes < 240
    assert hard > 60


def test_colour_is_asked_of_single_digits_and_of_the_board():
    boards = 0
    for scene, a in asked("colour"):
        if a.slot == "board":
            boards += 1
            assert a.answer == scene.board.paper
        else:
            (tile,) = [t for t in scene.tiles if t.digit == int(a.slot)]
            assert a.answer == tile.face
            assert scene.tiles[a.tile] == tile
    assert 25 < boards < 120


def test_a_scene_of_equal_digits_can_still_be_asked_about():
    scene = next(s for s in scenes(4000, equation=Equation(4, "+", 7)) if len({t.digit for t in s.tiles}) == 1)
    for kind in q.KINDS:
        q.ask(kind, scene, Draw(Keys.seeded(1, kind)), KNOWN)
    assert q.ask("colour", scene, Draw(Keys.seeded(1)), KNOWN).slot == "board"


def test_points_are_the_pixels_of_the_tile_spoken_of():
    scene = scenes(1)[0]
    tiles = patches(scene).tiles
    for kind in q.KINDS:
        a = q.ask(kind, scene, Draw(Keys.seeded(1, kind)), KNOWN)
        assert q.word(kind, a, 0, tiles).point == (None if a.tile is None else tiles[a.tile])
        assert q.word(kind, a, 0).point is None


# ---- words ---------------------------------------------------------------------------------------------


def test_no_wording_has_two_meanings():
    meaning = defaultdict(set)
    for kind, phrases in q.PHRASES.items():
        assert 3 <= len(set(phrases)) == len(phrases) <= 6, kind
        for p in phrases:
            meaning[p].add(kind)
            assert ("{}" in p) == (kind in ("calc", "calc in full", "where", "which", "count", "exist", "colour"))
    assert all(len(kinds) == 1 for kinds in meaning.values())
    said = defaultdict(set)
    for kind in q.KINDS:
        for _, a in asked(kind, 150):
            for i in range(6):
                said[q.word(kind, a, i).question].add(a.phrases)
    assert all(len(kinds) == 1 for kinds in said.values())
    assert not set(said) & set(INSTRUCTIONS)


def test_all_phrasings_are_drawn():
    scene = scenes(1)[0]
    for kind in ("read", "tiles"):
        said = {q.make(kind, scene, Draw(Keys.seeded(1, i)), KNOWN).question for i in range(60)}
        assert said == set(q.PHRASES[kind])


# ---- the mix -------------------------------------------------------------------------------------------


@given(st.integers(1, 6), st.sampled_from((0.0, 0.9)))
def test_kinds_keep_their_shares(count, progress):
    shares = dict(PRETRAIN.shares(progress))
    found = Counter(k for i in range(600) for k in PRETRAIN.kinds(Draw(Keys.seeded(1, i)), count, progress))
    for kind in q.KINDS:
        assert abs(found[kind] / (600 * count) - shares.get(kind, 0)) < 0.06


def test_four_questions_of_a_picture_differ_where_no_share_is_above_a_quarter():
    for i in range(200):
        assert len(set(PRETRAIN.kinds(Draw(Keys.seeded(1, i)), 4, 0.5))) == 4


def test_the_curriculum_reads_first():
    corpus = pretraining(0, 100, picture=patches)
    assert dict(corpus.mix.shares(24 / 100))["read"] == 0.35
    assert dict(corpus.mix.shares(25 / 100))["read"] == 0.10
    for kind in ("read", "solve", "answer", "calc", "tiles", "where", "which", "colour"):
        assert dict(PRETRAIN.full)[kind] >= 0.08
    assert all(share >= 0.05 for _, share in COTRAIN.shares(0.0))


def test_a_mix_that_does_not_add_up_is_refused():
    for shares in (
        (("read", 0.9),),
        (("read", 0.5), ("read", 0.5)),
        (("sing", 1.0),),
        (("read", 1.5), ("solve", -0.5)),
    ):
        with pytest.raises(BadData):
            Mix(early=shares, full=(("read", 1.0),))


# ---- who may know what ---------------------------------------------------------------------------------


@cache
def sampled(corpus: DeskCorpus) -> list[tuple]:
    """(scene, questions) of one picture of every step: the curriculum is walked through once."""
    scenes = [corpus.scene(step, 0) for step in range(corpus.steps)]
    return [(scene, corpus.asked(step, 0, Moment(scene))) for step, scene in enumerate(scenes)]


def leaks(corpus: DeskCorpus, allowed: set[str]) -> tuple[list[str], set[Equation], int]:
    """(what speaks of an equation that is not allowed, every equation spoken of or shown, how many questions)."""
    found, spoken, count = [], set(), 0
    for scene, qas in sampled(corpus):
        count += sum(len(qa.parts) or 1 for qa in qas)
        for text in (scene.board.text, *(t for qa in qas for t in (qa.question, qa.answer))):
            for a, op, b in EQUATION.findall(text):
                e = Equation(int(a), op, int(b))
                spoken.add(e)
                if split_of(e) not in allowed:
                    found.append(text)
    return found, spoken, count


PRETRAINING = pretraining(3, 6500, picture=patches)


def test_pretraining_never_speaks_of_x_and_speaks_of_all_else():
    found, spoken, count = leaks(PRETRAINING, set(KNOWN))
    assert count >= 20_000
    assert not found
    assert spoken == {e for s in KNOWN for e in equations(s)}


def test_every_fact_is_spoken_in_words_alone():
    told = {
        m.group()
        for _, qas in sampled(PRETRAINING)
        for qa in qas
        if qa.kind == "calc" and (m := EQUATION.search(qa.question))
    }
    assert told == {e.text for s in KNOWN for e in equations(s)}


def test_cotraining_speaks_of_r_and_c_only():
    found, spoken, count = leaks(cotraining(3, 5100, picture=patches), {"R", "C"})
    assert count >= 20_000
    assert not found
    assert spoken == {e for s in ("R", "C") for e in equations(s)}


def test_a_leak_would_be_seen():
    """The same search finds K in a corpus that has it, also where only words speak of it."""
    found, _, _ = leaks(pretraining(3, 50, picture=patches), {"R", "C"})
    assert found
    scene = sample_maths(Keys.seeded(1), "R")
    fact = q.make("calc", scene, Draw(Keys.seeded(1)), ("X",))
    (a, op, b) = EQUATION.findall(fact.question)[0]
    assert split_of(Equation(int(a), op, int(b))) == "X"


def test_fonts_are_those_of_the_corpus():
    for corpus, want in (
        (pretraining(1, 300, picture=patches), {"R", "K"}),
        (cotraining(1, 300, picture=patches), {"R"}),
    ):
        boards = [corpus.scene(i, 0) for i in range(300)]
        assert {FONT[s.board.font] for s in boards} | {FONT[s.tile_font] for s in boards} == want


def test_half_of_the_boards_cannot_be_answered_from_the_tiles():
    corpus = pretraining(1, 400, picture=patches)
    bare = sum(
        not {t.digit for t in s.tiles} & set(s.equation.digits) for s in (corpus.scene(i, 0) for i in range(400))
    )
    assert 150 < bare < 250


@pytest.mark.parametrize("bad", [{"splits": ("R", "X")}, {"splits": ()}, {"fonts": ("R", "X")}, {"questions": 0}])
def test_a_corpus_that_would_leak_is_refused(bad):
    good = {"seed": 0, "splits": ("R",), "fonts": ("R",), "mix": PRETRAIN, "picture": patches, "steps": 10}
    DeskCorpus(**good)
    with pytest.raises(BadData):
        DeskCorpus(**{**good, **bad})


def test_facts_in_words_are_of_what_the_corpus_may_know():
    for corpus, allowed in ((PRETRAINING, KNOWN), (cotraining(3, 10, picture=patches), ("R", "C"))):
        told = [qa for step in range(12) for qa in corpus.facts(step, range(200))]
        asked = [Equation(int(a), op, int(b)) for qa in told for a, op, b in EQUATION.findall(qa.question)]
        assert len(asked) == len(told)
        assert set(asked) == {e for s in allowed for e in equations(s)}
        assert all(qa.answer in (str(e.answer), f"{e.text}={e.answer}") for qa, e in zip(told, asked))
    assert corpus.facts(3, range(2, 4)) == corpus.facts(3, range(4))[2:]  # ranks share the rows of a step
