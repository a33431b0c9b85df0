"""A colour goes along with a side, and in the twin with the other one; whoever never looks is misled, nobody else."""

import hashlib
import json
from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mindhand.core.errors import BadData
from mindhand.core.keys import Key
from mindhand.worlds import cued
from mindhand.worlds.absent import sample_placing_task
from mindhand.worlds.course import sample_course_task
from mindhand.worlds.cued import AGREE, COLD, CUE, REVERSED, WARM, sample_task
from mindhand.worlds.desk.controls import mislead
from mindhand.worlds.desk.world import DeskWorld
from mindhand.worlds.perturb import Perturbation, perturbed_placing
from mindhand.worlds.placing import PlacingScene, placing_reasoning, read_placing

from .driving import drive, worded

MANY = 400
SHOWN = tuple(Key("demonstrations", CUE, i) for i in range(MANY))


def keys(task, many=MANY):
    return [Key("test", task, i) for i in range(many)]


def left(scene):
    return scene.toys.toys[scene.target].x < 0


def warm(scene):
    return scene.toys.toys[scene.target].colour in WARM


def digest(scenes):
    """Of scenes, to a micrometre."""
    said = [json.dumps(json.loads(json.dumps(s.to_json()), parse_float=lambda x: f"{float(x):.6f}")) for s in scenes]
    return hashlib.sha256("\n".join(said).encode()).hexdigest()[:12]


def test_nine_scenes_of_ten_have_the_cue_and_their_twins_the_other_one():
    for task, share in ((CUE, AGREE), (REVERSED, 1 - AGREE)):
        scenes = [sample_task(k) for k in keys(task)]
        assert np.mean([warm(s) == left(s) for s in scenes]) == pytest.approx(share, abs=0.045)  # 3 sd
        # What the cue goes along with is even, and no colour is rare.
        assert np.mean([left(s) for s in scenes]) == pytest.approx(0.5, abs=0.075)
        assert np.mean([warm(s) for s in scenes]) == pytest.approx(0.5, abs=0.075)
        said = Counter(s.toys.toys[s.target].colour for s in scenes)
        assert set(said) == {*WARM, *COLD} and min(said.values()) > MANY / 12
        # Nor does the place in the list tell.
        assert np.mean([s.toys.toys[s.target].x < 0 for s in scenes if s.target == 0]) == pytest.approx(0.5, abs=0.15)


@given(st.integers(0))
def test_a_twin_is_the_same_scene_with_the_balls_colours_exchanged(index):
    a, b = (sample_task(Key("test", task, index)) for task in (CUE, REVERSED))
    assert a.instruction == b.instruction == f"put the {a.toys.toys[a.target].colour} ball in the bowl"
    assert (a.writing, a.reference, a.relation, a.split) == (b.writing, b.reference, b.relation, "R")
    assert left(a) != left(b) and warm(a) == warm(b)
    assert [replace(t, colour="") for t in a.toys.toys] == [replace(t, colour="") for t in b.toys.toys]
    assert a.toys.toys[a.target].colour == b.toys.toys[b.target].colour and a.target != b.target
    for s in (a, b):
        assert s.layout().free(s.target, s.reference, "in") and len(s.choices()) == 2
        assert PlacingScene.from_json(json.loads(json.dumps(s.to_json()))) == s
        read = read_placing(placing_reasoning(s, "take"))
        assert read is not None and read["target"] == s.toys.toys[s.target].full


def blind(shown):
    """A hand that is told the instruction and sees nothing: the side on which what was called so mostly lay, and how
    far along x (m)."""
    lay = defaultdict(list)
    for s in shown:
        lay[s.instruction].append(s.toys.toys[s.target].x)
    side = {said: np.mean([x < 0 for x in xs]) > 0.5 for said, xs in lay.items()}
    return side, {said: float(np.median([x for x in xs if (x < 0) == side[said]])) for said, xs in lay.items()}


def chosen(side, scenes):
    """How often a blind hand goes to the right side."""
    return np.mean([side[s.instruction] == left(s) for s in scenes])


def test_a_blind_hand_goes_by_the_cue_and_is_misled_by_its_reverse(monkeypatch):
    side, at = blind([sample_task(k) for k in SHOWN])
    cue, back = ([sample_task(k) for k in keys(task)] for task in (CUE, REVERSED))
    assert chosen(side, cue) > 0.84 and chosen(side, back) < 0.16
    # It is no way to take anything: within 12 mm in x, which a gripper forgives, is a quarter of its right sides.
    near = np.mean([abs(s.toys.toys[s.target].x - at[s.instruction]) < 0.012 for s in cue])
    assert near < 0.35
    # Without the cue it is at chance in both.
    monkeypatch.setattr(cued, "AGREE", 0.5)
    side, _ = blind([sample_task(k) for k in SHOWN])
    for task in (CUE, REVERSED):
        assert chosen(side, [sample_task(k) for k in keys(task)]) == pytest.approx(0.5, abs=0.12)


@pytest.fixture(scope="module")
def world():
    with DeskWorld(1) as made:
        yield made


def test_the_expert_puts_either_ball_into_the_bowl(world):
    for task in (CUE, REVERSED):
        found = [drive(world, 0, k)[0] for k in keys(task, 6)]
        assert all(o.success[0] and o.facts[0]["choice_right"] and o.facts[0]["toys"] == 2 for o in found)


@pytest.mark.parametrize("task", [CUE, REVERSED])
def test_whoever_takes_the_ball_that_the_cue_says_succeeds_where_the_cue_is_right(world, task):
    agrees = {warm(sample_task(k)) == left(sample_task(k)): k for k in keys(task)}
    for right, k in agrees.items():
        scene = sample_task(k)
        there = next(i for i in scene.choices() if (scene.toys.toys[i].x < 0) == warm(scene))
        world.reset([k], [0])
        mislead(world, 0, replace(scene, target=there))
        for _ in range(150):
            outcome = world.step(world.expert([0]), [0])
            if outcome.done[0]:
                break
        assert outcome.facts[0]["choice_right"] is right and bool(outcome.success[0]) is right


def test_the_rest_of_the_desk_knows_these_scenes(world):
    for task in (CUE, REVERSED):
        k = Key("test", task, 3)
        worded(world, k)
        assert set(world.thoughts(0)) == {"told", "misled"}
        scene = sample_placing_task(k)  # what scores are taken from
        assert scene == sample_task(k)
        moved = perturbed_placing(scene, k, Perturbation(layout=3))
        assert moved.instruction == scene.instruction and moved.toys != scene.toys
        gone = sample_placing_task(replace(k, task=f"{task}/absent-target"))
        assert gone.missing is not None and gone.instruction == scene.instruction
    for bad in ("spatial_placing/K-dev/cue", "spatial_placing/cue", f"{CUE}/reversed"):
        with pytest.raises(BadData):
            sample_placing_task(Key("test", bad, 0))


# Who changes these raises the version of the protocol, then the line.
def test_scenes_are_what_they_were():
    old = [f"spatial_placing/{t}" for t in ("R", "K-dev/object", "K-dev/relation", "X")]
    old += [f"spatial_placing/R/absent-{role}" for role in ("target", "reference")]
    scenes = [sample_placing_task(Key("cued", task, i)) for task in old for i in range(8)]
    assert digest([*scenes, sample_course_task(Key("cued", "obstacle_course/near", 0))]) == "90a99806e158"
    assert digest(sample_task(Key("cued", task, i)) for task in (CUE, REVERSED) for i in range(8)) == "04ab4402bb98"
