"""Scores of placing: the teacher's words get everything, a wrong word costs what it is about."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mindhand.core.errors import BadData
from mindhand.core.keys import Key
from mindhand.evaluate.score_placing import score_placing, success_chance
from mindhand.evaluate.scores import scored
from mindhand.worlds.perturb import CLEAN, Perturbation, perturbed_placing
from mindhand.worlds.placing import ABOUT, SPLITS, Missing, placing_reasoning, possible, sample_placing_task
from mindhand.worlds.things import COLOURS, RELATIONS

keys = st.builds(
    Key, st.just("test"), st.sampled_from([f"spatial_placing/{s}" for s in SPLITS]), st.integers(0, 99), st.just(0)
)


def row(key: Key, *texts: str, choice: int | None = None, success: bool = True, perturb=CLEAN, **facts) -> dict:
    """An episode in which these were thought, 20 steps apart, and a toy was taken after the first thought."""
    scene = perturbed_placing(sample_placing_task(key), key, perturb)
    taken = scene.target if choice is None else choice
    found = {"choice": taken, "choice_right": taken == scene.target, "toys": len(scene.choices()), "why": "", **facts}
    return {
        "key": str(key), "protocol": key.protocol, "task": key.task, "index": key.index, "seed": key.seed,
        "success": success, "end": "success" if success else "time",
        "thoughts": [[20 * i, t] for i, t in enumerate(texts)], "chosen_at": 15 if taken >= 0 else None, "facts": found,
    }  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(keys)
def test_the_teacher_s_words_get_everything(key):
    scene = sample_placing_task(key)
    found = score_placing(row(key, placing_reasoning(scene, "take"), placing_reasoning(scene, "put")))
    assert found["recognition"] and found["spatial"] and found["parsed"] and found["rac"] and found["choice"]
    assert found["choice_chance"] == 1 / len(scene.choices()) and found["why"] == ""


@settings(max_examples=25, deadline=None)
@given(keys, st.sampled_from(sorted(RELATIONS)))
def test_a_wrong_relation_costs_spatial_alone(key, other):
    scene = sample_placing_task(key)
    said = placing_reasoning(replace(scene, relation=other), "put")
    found = score_placing(row(key, placing_reasoning(scene, "take"), said))
    assert found["recognition"] and found["spatial"] == (other == scene.relation)


def test_another_toy_named_is_not_recognised_and_not_what_was_taken():
    key = Key("test", "spatial_placing/R", 3)
    scene = sample_placing_task(key)
    text = placing_reasoning(scene, "take")
    colour = scene.toys.toys[scene.target].colour
    other = next(c for c in COLOURS if c != colour and c not in text)
    found = score_placing(row(key, text.replace(colour, other)))
    assert not found["recognition"] and found["parsed"] and not found["rac"] and found["spatial"] is None
    wrong = next(k for k in scene.choices() if k != scene.target)
    found = score_placing(row(key, text, choice=wrong, success=False, why="took another toy"))
    assert not found["choice"] and found["rac"] is False and found["why"] == "took another toy"


def test_chance_of_success_is_counted_and_simulated():
    """Who does anything that can be done there is right as often as is said; what was asked for always counts."""
    rng = np.random.default_rng(0)
    shares, hits = [], []
    for i in range(60):
        scene = sample_placing_task(Key("test", f"spatial_placing/{SPLITS[i % 2]}", i))
        shares.append(success_chance(scene))
        layout, toys = scene.layout(), scene.toys.toys
        while True:  # a guess that cannot be carried out is not one: it is drawn again
            a, b, how = rng.choice(scene.choices()), rng.integers(len(toys)), rng.choice(sorted(RELATIONS))
            if a != b and possible(toys[a].thing, toys[b].thing, how) and layout.free(a, b, how):
                break
        guess = replace(scene, target=int(a), reference=int(b), relation=str(how))
        within = guess.reference if how == toys[b].kind.way else None
        poses = [(*guess.goal()[:2], 0.0) if k == a else (t.x, t.y, t.yaw) for k, t in enumerate(toys)]
        after = guess.moved(poses, within).toys
        hits.append(a == scene.target and scene.relation in after.relation(scene.target, scene.reference))
    assert min(shares) > 0 and 0.05 < np.mean(shares) < 0.2
    assert abs(np.mean(hits) - np.mean(shares)) < 2.5 * np.std(hits) / len(hits) ** 0.5 + 1e-9
    one = sample_placing_task(Key("test", "spatial_placing/R", 3))
    assert success_chance(replace(one, missing=Missing("target", "ball"))) == 0.0


def test_what_is_new_is_said():
    for task, kind in (("K-dev/object", "object"), ("K-dev/relation", "relation"), ("X", "object"), ("R", None)):
        for i in range(5):
            found = score_placing(row(Key("test", f"spatial_placing/{task}", i)))
            assert found.get("new") == kind and 0 < found["success_chance"] <= 1
    both = {score_placing(row(Key("test", "spatial_placing/K-dev", i)))["new"] for i in range(12)}
    assert both == set(ABOUT)


def test_a_row_is_scored_by_the_scene_as_it_was_laid_out():
    perturb = Perturbation(layout=5)
    keys = [Key("test", "spatial_placing/R", i) for i in range(30)]
    key = next(k for k in keys if len(sample_placing_task(k).toys.toys) == 3)
    scene = perturbed_placing(sample_placing_task(key), key, perturb)
    told = row(key, placing_reasoning(scene, "take"), placing_reasoning(scene, "put"), perturb=perturb)
    (found,) = scored([told], "layout5+blank")
    assert found["recognition"] and found["spatial"] and found["rac"] and found["choice"]
    assert found["choice_chance"] == 1 / len(scene.choices()) < 1 / len(sample_placing_task(key).choices())
    with pytest.raises(BadData, match="toys to take"):
        scored([told])
    # What the clean scene would have made one say is not recognised where a toy then lies in another place.
    for k in keys:
        clean = sample_placing_task(k)
        text, now = placing_reasoning(clean, "take"), perturbed_placing(clean, k, perturb)
        found = score_placing(row(k, text, perturb=perturb), perturb)
        assert found["recognition"] == (text == placing_reasoning(now, "take"))


def test_who_says_nothing_has_no_words_to_score():
    found = score_placing(row(Key("test", "spatial_placing/R", 0), choice=-1, success=False))
    assert found["rac"] is None and not {"recognition", "spatial", "parsed"} & set(found) and found["why"] == "time"


def test_rows_of_other_scenes_are_refused_and_families_are_told_apart():
    key = Key("test", "spatial_placing/X", 1)
    with pytest.raises(BadData, match="toys to take"):
        score_placing(row(key, toys=99))
    plain = {"task": "touch/R", "success": True}
    first, second = scored([row(key), plain], "noise2+blank")
    assert "choice_chance" in first and second == plain
