"""The bowl tells which ball is meant; in the twin the other one is asked for, and who goes by the bowl is wrong."""

import hashlib
import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mindhand.core.errors import BadData
from mindhand.core.keys import Key
from mindhand.worlds import cued
from mindhand.worlds.absent import sample_placing_task
from mindhand.worlds.biased import BIASED, OTHER, PAIRS, sample_task
from mindhand.worlds.placing import PlacingScene, placing_reasoning, read_placing

MANY = 300


def scenes(task):
    return [sample_task(Key("test", task, i)) for i in range(MANY)]


def told(scene):
    """The colour of the ball that goes along with the bowl's."""
    return PAIRS[scene.toys.toys[scene.reference].colour]


def colour(scene):
    return scene.toys.toys[scene.target].colour


def test_the_bowl_tells_all_in_one_task_and_misleads_in_the_other():
    shown, other = scenes(BIASED), scenes(OTHER)
    assert all(colour(s) == told(s) for s in shown) and not any(colour(s) == told(s) for s in other)
    for some in (shown, other):  # and nothing else tells it: sides and colours are even
        assert set(Counter(colour(s) for s in some)) == {*PAIRS.values()}
        assert np.mean([s.toys.toys[s.target].x < 0 for s in some]) == pytest.approx(0.5, abs=0.09)  # 3 sd
        assert np.mean([colour(s) == "red" for s in some]) == pytest.approx(0.5, abs=0.09)
        for k in range(3):  # nor the place in the list
            of = [s.toys.toys[k].x < 0 for s in some if s.target == k]
            assert np.mean(of) == pytest.approx(0.5, abs=0.16)


@given(st.integers(0))
def test_a_twin_is_the_same_scene_asked_for_the_other_ball(index):
    a, b = (sample_task(Key("test", task, index)) for task in (BIASED, OTHER))
    assert (a.toys, a.writing, a.reference, a.relation) == (b.toys, b.writing, b.reference, b.relation)
    assert a.target != b.target and {a.target, b.target} == set(a.choices())
    for s in (a, b):
        assert s.instruction == f"put the {colour(s)} ball in the bowl" and s.split == "R"
        assert s.layout().free(s.target, s.reference, "in")
        assert PlacingScene.from_json(json.loads(json.dumps(s.to_json()))) == s
        read = read_placing(placing_reasoning(s, "take"))
        assert read is not None and read["target"] == f"{colour(s)} ball"


def test_the_rest_of_placing_knows_these_scenes():
    k = Key("test", OTHER, 3)
    assert sample_placing_task(k) == sample_task(k)
    cue = Key("test", cued.CUE, 3)
    assert sample_task(cue) == cued.sample_task(cue)
    for bad in ("spatial_placing/K-dev/biased", f"{BIASED}/other"):
        with pytest.raises(BadData):
            sample_placing_task(Key("test", bad, 0))


# Who changes these raises the version of the protocol, then the line.
def test_scenes_are_what_they_were():
    some = [sample_task(Key("biased", task, i)) for task in (BIASED, OTHER) for i in range(8)]
    said = [json.dumps(json.loads(json.dumps(s.to_json()), parse_float=lambda x: f"{float(x):.6f}")) for s in some]
    assert hashlib.sha256("\n".join(said).encode()).hexdigest()[:12] == "f7c343223995"
