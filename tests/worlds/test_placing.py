"""Scenes of toys ask fairly: of their class, of one thing only, and not of those who cannot hear or read."""

import json
import re
from collections import Counter

import numpy as np
import pytest

from mindhand.core.errors import BadData
from mindhand.core.keys import Key, Keys
from mindhand.data.synthetic.vocabulary import word_forms
from mindhand.worlds import grips, placing
from mindhand.worlds.boards import Notice
from mindhand.worlds.declared import scene_hash
from mindhand.worlds.desk.world import DeskWorld
from mindhand.worlds.perturb_words import AFTER, ASKS, BEFORE, SO, TOY_REASONS, rewrite
from mindhand.worlds.placing import (
    INSTRUCTIONS,
    STEPS,
    PlacingScene,
    item_class,
    items,
    placing_reasoning,
    read_placing,
    sample_placing,
    sample_placing_task,
    whereabouts,
)
from mindhand.worlds.placing_layout import Layout
from mindhand.worlds.things import BY_NAME, COLOURS, FIELD, RELATIONS

TASKS = ("R", "K-dev", "K-test", "K-dev/object", "K-dev/relation", "X")


def key(index, task="R"):
    return Key("test", f"spatial_placing/{task}", index)


SCENES = {task: [sample_placing_task(key(i, task)) for i in range(100)] for task in TASKS}


def layout_of(scene):
    toys = scene.toys.toys
    return Layout(tuple(t.kind for t in toys), tuple((t.x, t.y, t.yaw) for t in toys))


def names_of(scene):
    return tuple(scene.toys.toys[k].thing for k in (scene.target, scene.reference))


def test_items_of_the_open_world_are_in_one_class_each():
    every = {split: set(items(split)) for split in placing.SPLITS}
    assert not every["K-dev"] & every["K-test"]
    assert all(item_class(*i) == split for split, some in every.items() for i in some)
    for split in ("K-dev", "K-test"):
        assert set(items(split, "object")) | set(items(split, "relation")) == every[split]
        assert {r for *_, r in items(split, "relation")} == {"behind", "on"}
        assert {r for *_, r in items(split, "object")} == {"left of", "right of", "in front of", "in"}
        assert {BY_NAME[t].known for t, *_ in items(split, "object")} == {"R", "K"}
        assert len(every[split]) > 1000
    assert {t for t, *_ in every["X"]} == {"rocket", "glasses"}
    with pytest.raises(BadData):
        items("R", "object")


@pytest.mark.parametrize("task", TASKS)
def test_scenes_are_of_their_class_and_can_be_done(task):
    split, _, about = task.partition("/")
    for scene in SCENES[task]:
        toys = scene.toys.toys
        target, reference = names_of(scene)
        assert scene.split == split
        assert 3 <= len(toys) <= 6
        assert len({(t.thing, t.colour) for t in toys}) == len(toys)
        assert len(scene.choices()) >= 2
        new = {"object": "K" in (BY_NAME[target].known, BY_NAME[reference].known),
               "relation": RELATIONS[scene.relation] == "K"}  # fmt: skip
        if split == "R":
            assert all(t.kind.known == "R" for t in toys) and not any(new.values())
        if split.startswith("K"):
            assert sum(new.values()) == 1 and (not about or new[about])
        assert all(low <= v <= high for t in toys for v, (low, high) in zip((t.x, t.y), FIELD))
        layout = layout_of(scene)
        assert scene.relation not in scene.toys.relation(scene.target, scene.reference)
        assert layout.free(scene.target, scene.reference, scene.relation)
        x, y, z = scene.goal()
        assert (x, y) == pytest.approx(layout.goal(scene.target, scene.reference, scene.relation))
        within = scene.reference if z else None
        poses = [(x, y, t.yaw) if k == scene.target else (t.x, t.y, t.yaw) for k, t in enumerate(toys)]
        assert scene.relation in scene.moved(poses, within).toys.relation(scene.target, scene.reference)
        assert PlacingScene.from_json(json.loads(json.dumps(scene.to_json()))) == scene


def test_what_is_new_and_how_it_lies_are_asked_for_equally_often():
    new = Counter(RELATIONS[s.relation] for s in SCENES["K-dev"])
    assert 35 <= new["K"] <= 65
    how = Counter(s.relation for s in SCENES["R"])
    assert set(how) == {"left of", "right of", "in front of", "in"}
    assert min(how.values()) >= 14
    notices = sum(isinstance(s.writing, Notice) for s in SCENES["R"])
    assert 35 <= notices <= 65


def test_words_name_one_toy_and_no_more_than_they_must():
    for scene in (s for some in SCENES.values() for s in some):
        for k in range(len(scene.toys.toys)):
            said = scene.said(k).split()
            answer = [j for j, t in enumerate(scene.toys.toys) if set(said) <= {t.thing, t.colour}]
            assert answer == [k]
            alone = sum(t.thing == said[-1] for t in scene.toys.toys) == 1
            assert len(said) == (1 if alone else 2)
        assert scene.instruction == INSTRUCTIONS[0].format(
            scene.said(scene.target), scene.relation, scene.said(scene.reference)
        )


def test_a_policy_with_half_a_mind_is_left_to_guess():
    scenes = [s for task in ("R", "K-dev/object") for s in SCENES[task]]
    pairs = [(s, s.toys.toys[s.target]) for s in scenes]
    assert np.mean([sum(t.thing == x.thing for t in s.toys.toys) > 1 for s, x in pairs]) > 0.2  # the colour decides
    assert np.mean([sum(t.colour == x.colour for t in s.toys.toys) > 1 for s, x in pairs]) > 0.4  # the name does
    # Who mistakes the reference is right half of the time at most, in most scenes.
    luck = [layout_of(s).luck(s.target, s.reference, s.relation) for s in scenes]
    assert np.mean(np.array(luck) <= 0.5) > 0.8
    # The target is neither the nearest to the arm, nor told by its place among the toys or by what it is.
    chance = np.mean([1 / len(s.choices()) for s in scenes])
    nearest = np.mean([min(s.choices(), key=lambda k: s.toys.toys[k].x) == s.target for s in scenes])
    first = np.mean([s.choices()[0] == s.target for s in scenes])
    assert abs(nearest - chance) < 0.12
    assert abs(first - chance) < 0.12
    liked = Counter(x.thing for _, x in pairs[:100])
    best = [max(s.choices(), key=lambda k: liked[s.toys.toys[k].thing]) == s.target for s in scenes[100:]]
    assert np.mean(best) < chance + 0.15


def test_tasks_are_read_or_refused():
    assert sample_placing_task(key(3)) == sample_placing(Keys.of([key(3)]), "R")
    for bad in ("", "C", "K", "R/object", "K-dev/colour", "K-dev/object/relation"):
        with pytest.raises(BadData):
            sample_placing_task(key(0, bad))
    with pytest.raises(BadData, match="families"), DeskWorld(1) as world:
        world.reset([Key("t", "toys/R", 0)], [0])


# ---- words ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", TASKS)
def test_thoughts_are_read_back(task):
    for scene in SCENES[task]:
        toys = [scene.toys.toys[k] for k in (scene.target, scene.reference)]
        named = [f"{t.colour} {t.thing}" for t in toys]
        boxes = ((9.0, 50.0, 20.0, 63.9), (100.0, 0.0, 127.9, 31.0))
        for step in STEPS:
            read = read_placing(placing_reasoning(scene, step))
            assert (read["step"], read["target"], read["reference"]) == (step, *named)
            assert read["relation"] == (None if step == "take" else scene.relation)
            assert read["reference_place"] == (None if step == "done" else whereabouts(toys[1].x, toys[1].y))
            assert read["target_place"] == (whereabouts(toys[0].x, toys[0].y) if step == "take" else None)
            assert read["target_box"] is read["reference_box"] is None
            read = read_placing(placing_reasoning(scene, step, boxes))
            assert read["target_box"] == ((2, 12, 5, 15) if step == "take" else None)
            assert read["reference_box"] == ((25, 0, 31, 7) if step != "done" else None)


def test_damaged_thoughts_are_not_read():
    scene = SCENES["R"][0]
    take, put = (placing_reasoning(scene, s) for s in ("take", "put"))
    other = "pink hammer" if "pink hammer" not in take else "white duck"
    named = f"{scene.toys.toys[scene.target].colour} {scene.toys.toys[scene.target].thing}"
    turned = take.replace(f"take {named}", f"take {other}"), put.replace(scene.relation, f"{scene.relation} the")
    for bad in (*turned, take[:-1], take.replace("take", "grab"), take + put, put[put.index("put") :], "", "done."):
        assert read_placing(bad) is None
    far = placing_reasoning(scene, "take", ((0, 0, 1, 1), (0, 0, 1, 1))).replace("<x0>", "<x40>")
    assert read_placing(far) is None
    with pytest.raises(BadData):
        placing_reasoning(scene, "grab")


def test_the_whole_vocabulary_has_every_word():
    texts = [s.worded(k) for task in TASKS for s in SCENES[task] for k in range(len(INSTRUCTIONS))]
    texts += [placing_reasoning(s, step) for task in TASKS for s in SCENES[task] for step in STEPS]
    said = {form for text in texts for form in re.findall(r" ?[A-Za-z]+", text)}
    assert said <= set(word_forms(True))


def test_words_around_an_instruction_tell_nothing_of_it():
    added = [*ASKS, *BEFORE, *AFTER, *TOY_REASONS, *SO]
    secret = {"left", "right", "front", "back", "middle", "behind", *COLOURS, *BY_NAME}
    assert not {w for text in added for w in re.findall(r"[a-z]+", text)} & secret
    for k in range(30):
        said = rewrite(SCENES["R"][k].instruction, Keys.seeded(1, "toys", k), 1 + k % 5, TOY_REASONS)
        assert SCENES["R"][k].instruction.partition(" ")[2] in said  # all but the verb


def test_the_hash_covers_it(monkeypatch):
    before = scene_hash()
    for module, name, value in ((placing, "SALT", 4), (placing, "BESIDE", 0.02), (grips, "NEAR", 0.005)):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, value)
            assert scene_hash() != before
