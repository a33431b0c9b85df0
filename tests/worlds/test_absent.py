"""Impossible requests lack what they ask for and nothing else: neither the words nor the table alone tell."""

import json
import re
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mindhand.core.errors import BadData
from mindhand.core.keys import Key
from mindhand.data.synthetic.vocabulary import train_words, word_forms
from mindhand.worlds import absent, placing
from mindhand.worlds.absent import sample_maths_task, sample_placing_task
from mindhand.worlds.declared import scene_hash
from mindhand.worlds.perturb import Perturbation, perturbed_placing, perturbed_scene
from mindhand.worlds.placing import (
    INSTRUCTIONS,
    ROLES,
    STEPS,
    PlacingScene,
    placing_reasoning,
    read_placing,
    whereabouts,
)
from mindhand.worlds.scene import (
    REFUSAL,
    WORDS,
    MathsScene,
    place_words,
    read_reasoning,
    reasoning_cell_text,
    reasoning_text,
    sample_task,
)
from mindhand.worlds.wordings import placing_wordings

MATHS = ("R", "C", "K-dev", "X", "R/2", "K-dev/1/font-K")
PLACING = ("R", "K-dev", "K-dev/object", "K-dev/relation", "X")
MANY = 40
maths_keys = st.builds(
    Key, st.just("t"), st.sampled_from([f"maths_matching/{t}/absent" for t in MATHS]), st.integers(0)
)
toys_keys = st.builds(
    Key,
    st.just("t"),
    st.sampled_from([f"spatial_placing/{t}/absent-{r}" for t in PLACING for r in ROLES]),
    st.integers(0),
)


def twin(key):
    """The key of the possible scene of the same index."""
    return replace(key, task=absent.possible(key.task)[0])


def keys(family, tasks, words):
    return [Key("test", f"{family}/{t}/{w}", i) for t in tasks for w in words for i in range(MANY)]


# ---- maths ---------------------------------------------------------------------------------------------


@given(maths_keys)
def test_tiles_of_the_answer_are_absent_and_nothing_else_is_changed(key):
    scene, was = sample_maths_task(key), sample_maths_task(twin(key))
    assert was == sample_task(twin(key)) and not was.lacking and scene.lacking
    with pytest.raises(BadData, match="without a tile"):
        scene.order()
    assert replace(scene, tiles=was.tiles) == was
    need = Counter(scene.equation.digits)
    for now, before in zip(scene.tiles, was.tiles, strict=True):
        assert replace(now, digit=before.digit, why=before.why) == before
        assert now.digit == before.digit or (before.digit in need and now.digit not in need)
    # As many equal tiles as before, but where one of two equal ones is left.
    some = [sorted(Counter(t.digit for t in s.tiles).values()) for s in (scene, was)]
    assert some[0] == some[1] or len(need) < len(scene.equation.digits)
    assert MathsScene.from_json(json.loads(json.dumps(scene.to_json()))) == scene


def test_one_of_two_tiles_is_absent_as_well_as_both():
    scenes = [sample_maths_task(k) for k in keys("maths_matching", ("R/2", "K-dev/2"), ("absent",))]
    left = Counter()
    for s in scenes:
        have = {t.digit for t in s.tiles}
        left[len(set(s.equation.digits)), tuple(d in have for d in s.equation.digits)] += 1
    assert set(left) == {
        (2, (False, False)),
        (2, (True, False)),
        (2, (False, True)),
        (1, (False,) * 2),
        (1, (True,) * 2),
    }
    assert min(n for (many, _), n in left.items() if many == 2) > 0.2 * len(scenes)


@given(maths_keys)
def test_a_thought_of_maths_reads_the_board_and_the_tiles_and_takes_none(key):
    scene = sample_maths_task(key)
    text = reasoning_text(scene, 0)
    read = read_reasoning(text)
    assert (read["step"], read["digit"], read["place"], read["cell"], read["placed"]) == (REFUSAL, None, None, None, ())
    assert (read["expression"], read["answer"]) == (scene.equation.text, scene.equation.answer)
    assert read["tiles"] == tuple(t.digit for t in sorted(scene.tiles, key=lambda t: t.x))
    assert not any(place_words(t.x, t.y) in text for t in scene.tiles)
    assert reasoning_text(scene, 0, held=True) == text == reasoning_cell_text(scene, 0, (9.0, 9.0))
    for bad in (text.replace(". tiles", ""), text.replace(REFUSAL, "no"), text.replace(f" {REFUSAL}.", ""), f"{text}."):
        assert read_reasoning(bad) is None
    at = next(k for k, t in enumerate(scene.tiles))
    begun = read_reasoning(reasoning_text(scene, 1, (at,)))  # somebody put a tile into the tray
    assert begun["step"] == REFUSAL and len(begun["tiles"]) == len(scene.tiles) - 1
    assert begun["placed"] == scene.equation.digits[:1]


# ---- placing -------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(toys_keys)
def test_no_toy_answers_to_the_words(key):
    scene, was = sample_placing_task(key), sample_placing_task(twin(key))
    role = scene.missing.role
    assert was == placing.sample_placing_task(twin(key)) and was.missing is None and key.task.endswith(f"absent-{role}")
    words, toys, before = set(scene.missing.said.split()), scene.toys.toys, was.toys.toys
    assert not any(words <= {t.thing, t.colour} for t in toys)
    # What the possible request says, letter for letter, of toys as many as there are in its scene.
    assert scene.instruction == was.instruction == scene.worded() and scene.split == was.split
    assert [scene.worded(k) for k in range(len(INSTRUCTIONS))] == [was.worded(k) for k in range(len(INSTRUCTIONS))]
    assert len({(t.thing, t.colour) for t in toys}) == len(toys) == len(before)
    assert scene.choices() == was.choices()
    other = next(r for r in ROLES if r != role)
    named = set(scene.called(other).split())
    assert sum(named <= {t.thing, t.colour} for t in toys) == 1
    if len(words) == 2:  # the colour decides: something of that name is there
        assert any(t.thing == scene.missing.said.split()[1] for t in toys)
        assert [t.thing for t in toys] == [t.thing for t in before]
        assert [(t.x, t.y, t.yaw) for t in toys] == [(t.x, t.y, t.yaw) for t in before]
    else:
        assert [t.colour for t in toys] == [t.colour for t in before]
        assert Counter(t.thing for t in toys) != Counter(t.thing for t in before)
    if not any(t.kind.known == "K" for t in before):
        assert not any(t.kind.known == "K" for t in toys) or scene.split != "R"
    assert PlacingScene.from_json(json.loads(json.dumps(scene.to_json()))) == scene
    assert "missing" not in was.to_json()


def test_what_lies_there_instead_tempts():
    for task in ("R", "K-dev/object"):
        for word in absent.WORDS[placing.FAMILY]:
            some = [Key("test", f"spatial_placing/{task}/{word}", i) for i in range(2 * MANY)]
            pairs = [(sample_placing_task(k), sample_placing_task(twin(k))) for k in some]
            coloured = [p for p in pairs if " " in p[0].missing.said]
            assert 0.15 < len(coloured) / len(pairs) < 0.6
            exchanged = [
                Counter(t.colour for t in s.toys.toys) == Counter(t.colour for t in w.toys.toys) for s, w in coloured
            ]
            assert sum(exchanged) > 0.6 * len(exchanged)  # then there is something of that colour, too
            moved = [sum(a != b for a, b in zip(s.toys.toys, w.toys.toys)) > 2 for s, w in pairs]
            assert sum(moved) <= 0.1 * len(moved)  # nothing had room there, and all were laid afresh


@settings(deadline=None)
@given(toys_keys)
def test_a_thought_of_toys_names_what_is_missing_and_ends_with_none(key):
    scene = sample_placing_task(key)
    boxes = ((9.0, 50.0, 20.0, 63.9), (100.0, 0.0, 127.9, 31.0))
    for box in (None, boxes):
        (text,) = {placing_reasoning(scene, step, box) for step in STEPS}
        read = read_placing(text)
        assert (read["step"], read["relation"]) == (REFUSAL, None)
        for role in ROLES:
            toy = scene.toys.toys[getattr(scene, role)]
            here = (f"{toy.colour} {toy.thing}", whereabouts(toy.x, toy.y), None if box is None else True)
            want = (scene.missing.said, None, None) if role == scene.missing.role else here
            assert (read[role], read[f"{role}_place"], read[f"{role}_box"] and True) == want
    gone = f"{scene.missing.said} {REFUSAL}."
    assert gone in text
    for bad in (text[:-1], text.replace(gone, f"{scene.missing.said}."), text + text, text.replace(f" {REFUSAL}.", "")):
        assert read_placing(bad) is None
    possible = placing_reasoning(replace(scene, missing=None), "take")
    assert read_placing(f"{possible[: possible.index(' take')]} {REFUSAL}.") is None  # nothing is missing


# ---- words, tasks, the rest ----------------------------------------------------------------------------


def test_the_vocabulary_has_every_word_and_is_what_it_was():
    maths = [reasoning_text(sample_maths_task(k), 0) for k in keys("maths_matching", MATHS, ("absent",))]
    toys = [
        placing_reasoning(sample_placing_task(k), "take") for k in keys("spatial_placing", PLACING, ("absent-target",))
    ]
    assert {w for text in maths for w in re.findall(r"[a-z]{2,}", text)} <= set(WORDS)
    for whole, texts in ((False, maths), (True, [*maths, *toys])):
        known, words = {form.strip() for form in word_forms(whole)} | {"x"}, train_words(whole)
        for text in texts:
            assert set(re.findall(r"[A-Za-z]+", text)) <= known
            assert words.decode(words.encode(text)) == text
    # Pretraining says it already, of tiles that are not there; as a word of its own it needs no new token.
    assert REFUSAL in word_forms() and len(train_words().encode(REFUSAL)) == 1


def test_tasks_are_read_or_refused():
    assert absent.possible("maths_matching/K-dev/2/absent") == ("maths_matching/K-dev/2", "absent")
    assert absent.possible("spatial_placing/R") == ("spatial_placing/R", "")
    key = Key("t", "maths_matching/R/absent/2", 0)
    assert sample_maths_task(key).lacking and len(sample_maths_task(key).equation.digits) == 2
    for sample, bad in (
        (sample_maths_task, "maths_matching/R/absent-target"),
        (sample_maths_task, "maths_matching/absent"),
        (sample_maths_task, "maths_matching/R/absent/absent"),
        (sample_placing_task, "spatial_placing/R/absent"),
        (sample_placing_task, "spatial_placing/R/absent-target/absent-reference"),
        (sample_placing_task, "spatial_placing/R/object/absent-target"),
    ):
        with pytest.raises(BadData):
            sample(Key("t", bad, 0))


@pytest.mark.parametrize("level", [1, 5])
def test_perturbed_it_is_as_impossible(level):
    for i in range(6):
        key = Key("test", "maths_matching/R/absent", i)
        was = sample_maths_task(key)
        scene = perturbed_scene(was, key, Perturbation(layout=level, language=level))
        assert scene.lacking and scene.instruction != was.instruction
        assert [t.digit for t in scene.tiles] == [t.digit for t in was.tiles] and scene.tiles != was.tiles
        key = Key("test", "spatial_placing/R/absent-reference", i)
        toys = perturbed_placing(sample_placing_task(key), key, Perturbation(language=level))
        assert toys.missing == sample_placing_task(key).missing and toys.instruction != toys.worded()


def test_something_else_can_be_asked_for_and_the_same_in_other_words():
    for word in absent.WORDS[placing.FAMILY]:
        for i in range(MANY):
            key = Key("test", f"spatial_placing/R/{word}", i)
            scene = sample_placing_task(key)
            said = placing_wordings(key, scene)
            assert scene.missing.said in said["paraphrased"] and said["paraphrased"] != scene.instruction
            form = re.fullmatch(r"put the (.*) (left of|right of|in front of|behind|in|on) the (.*)", said["swapped"])
            for words in (form[1], form[3]):  # that can be done
                assert sum(set(words.split()) <= {t.thing, t.colour} for t in scene.toys.toys) == 1


def test_the_hash_covers_it(monkeypatch):
    before = scene_hash()
    with monkeypatch.context() as patch:
        patch.setattr(absent, "VERSION", "absent-2")
        assert scene_hash() != before
    assert scene_hash() == before
