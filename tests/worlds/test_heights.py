"""Reaching over a block: who sees how high it is succeeds, who does not fails, and in the plane it does not matter."""

import math

import mujoco
import numpy as np
import pytest

from mindhand.core.errors import BadData
from mindhand.core.keys import Key
from mindhand.data.record import Noise
from mindhand.worlds import heights
from mindhand.worlds.declared import heights_hash, scene_hash
from mindhand.worlds.desk.controls import Wanderer, presume
from mindhand.worlds.desk.kinematics import to_rot6d, tool_down
from mindhand.worlds.desk.sense_views import IDS
from mindhand.worlds.desk.senses import Senses
from mindhand.worlds.desk.spec import HEIGHTS_LIMIT, SPEC
from mindhand.worlds.desk.stage import Stage
from mindhand.worlds.desk.world import DeskWorld
from mindhand.worlds.heights import BAND, FAMILY, HEIGHTS, HOLD, KINDS, MEAN, OVER, HeightScene, sample_heights_task
from mindhand.worlds.perturb import Perturbation

from .driving import drive
from .test_desk import trace


def key(index, kind="varied"):
    return Key("test", f"{FAMILY}/{kind}", index)


@pytest.fixture(scope="module")
def world():
    with DeskWorld(rows=2) as made:
        yield made


def reached(world, kind, index, how=lambda: None, noise=None):
    """Whether `world.expert` of row 0, once `how` has changed it, does an episode; and the last facts."""
    k = key(index, kind)
    world.reset([k], [0])
    how()
    at = noise.steps(k) if noise else None
    for step in range(HEIGHTS_LIMIT):
        if at:
            world.disturb([0], at(step)[None])
        outcome = world.step(world.expert([0]), [0])
        if outcome.done[0]:
            return bool(outcome.success[0]), outcome.facts[0]
    raise AssertionError("the episode has no end")


# ---- scenes ----------------------------------------------------------------------------------------------


def test_heights_vary_where_they_should_and_nowhere_else():
    varied, flat = ([sample_heights_task(key(i, kind)) for i in range(300)] for kind in KINDS)
    found = np.array([s.height for s in varied])
    assert HEIGHTS[0] <= found.min() < 0.025 and 0.115 < found.max() < HEIGHTS[1]
    assert abs(found.mean() - MEAN) < 0.005 and {s.height for s in flat} == {MEAN}
    assert len({s.colour for s in varied}) == len(heights.COLOURS) and len({s.instruction for s in varied + flat}) == 1
    assert all(HeightScene.from_json(s.to_json()) == s for s in varied[:5])
    # neither where a block stands nor how wide it is tells how high it is
    for told in ([s.x for s in varied], [s.y for s in varied], [min(s.half) for s in varied]):
        assert abs(np.corrcoef(found, told)[0, 1]) < 0.15


def test_all_of_every_block_is_in_the_front_picture_and_in_reach():
    stage = Stage()
    for i in range(300):
        s = sample_heights_task(key(i))
        c, n = math.cos(s.yaw), math.sin(s.yaw)
        corners = [
            (s.x + c * u - n * v, s.y + n * u + c * v, z)
            for u in (-s.half[0], s.half[0]) for v in (-s.half[1], s.half[1]) for z in (0, s.height)
        ]  # fmt: skip
        stage.refresh()
        seen = stage.project(np.array(corners), "front", (128, 128))
        assert (seen > 0).all() and (seen < 128).all()


def test_the_hash_is_the_family_s_own(monkeypatch):
    before = scene_hash(), heights_hash()
    monkeypatch.setattr(heights, "OVER", 0.03)
    assert scene_hash() == before[0] and heights_hash() != before[1]


# ---- who does it, and who does not -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_expert_does_it_disturbed_or_not(world, kind):
    for i in range(12):
        done, facts = reached(world, kind, i)
        assert done and facts["why"] == "" and not facts["touched"] and facts["held"] >= HOLD
    disturbed = [reached(world, kind, i, noise=Noise(sd=0.006, share=1.0)) for i in range(12)]
    assert sum(done for done, _ in disturbed) >= 10  # some are pushed away in the last moment


def test_who_is_blind_to_height_fails_but_for_blocks_as_high_as_believed(world):
    won = []
    for i in range(30):
        done, facts = reached(world, "varied", i, lambda: presume(world, 0, MEAN))
        off = facts["height"] - MEAN
        assert done == (abs(off) < BAND) or abs(abs(off) - BAND) < 0.004, (off, facts)
        assert done or facts["why"] in (("too low", "touched the block") if off > 0 else ("too high",))
        won.append(done)
    assert 0 < sum(won) < 12  # a fifth are as high as it believes
    for i in range(8):  # in the plane there is nothing to be seen
        assert reached(world, "flat", i, lambda: presume(world, 0, MEAN))[0]
        assert not reached(world, "flat", i, lambda: presume(world, 0, MEAN + 0.03))[0]


def test_chance_and_standing_still_fail(world):
    for i in range(4):
        world.reset([key(i), key(i)], [0, 1])
        wanderer, still = Wanderer(key(i)), world.observe([1], ()).state[:, 0]
        for _ in range(HEIGHTS_LIMIT):
            outcome = world.step(np.concatenate([wanderer.act()[None], still]), [0, 1])
            assert not outcome.success.any()
        assert outcome.truncated.all()


def test_a_touch_is_never_forgiven_and_pushes_nothing(world):
    done, facts = reached(world, "varied", 0, lambda: presume(world, 0, 0.0))
    assert not done and facts["touched"] and facts["why"] == "touched the block"
    world.reset([key(0)], [0])
    scene, judge = world._rows[0].scene, world._rows[0].judge
    at = np.concatenate([np.array(scene.goal[:3]) - Stage.base, to_rot6d(tool_down(0.0)), [1.0]])[None]
    judge.touched = True
    for _ in range(HEIGHTS_LIMIT):
        outcome = world.step(at, [0])
    assert not outcome.success[0] and outcome.facts[0]["held"] >= HOLD


def test_who_sinks_through_all_heights_does_not_succeed(world):
    world.reset([key(0)], [0])
    s, held = world._rows[0].scene, 0
    for step in range(HEIGHTS_LIMIT):
        high = max(0.2 - max(0, step - 15) * 0.004, s.height + 0.012)
        action = np.concatenate([np.array([s.x, s.y, high]) - Stage.base, to_rot6d(tool_down(0.0)), [1.0]])[None]
        outcome = world.step(action, [0])
        held = max(held, outcome.facts[0]["held"])
    assert held >= HOLD and not outcome.success[0] and outcome.facts[0]["why"] == "too low"


@pytest.mark.parametrize(("over", "aside", "good"), [
    (OVER, 0.0, True), (OVER + 0.7 * BAND, 0.0, True), (OVER + 1.5 * BAND, 0.0, False), (OVER, 0.03, False),
])  # fmt: skip
def test_the_judge_looks_at_height_and_place(world, over, aside, good):
    k = next(key(i) for i in range(50) if 0.05 < sample_heights_task(key(i)).height < 0.08)
    world.reset([k], [0])
    s, done = world._rows[0].scene, False
    high = np.array([s.x, s.y + aside, 0.2])
    for step in range(HEIGHTS_LIMIT):
        place = high if step < 20 else np.array([s.x, s.y + aside, s.height + over])
        action = np.concatenate([place - Stage.base, to_rot6d(tool_down(0.0)), [1.0]])[None]
        done |= bool(world.step(action, [0]).success[0])
    assert done == good


# ---- as every family -------------------------------------------------------------------------------------


def test_snapshots_go_on_exactly_in_another_row(world):
    world.reset([key(3)], [0])
    for _ in range(8):
        world.step(world.expert([0]), [0])
    snaps = world.snapshot([0])
    world.reset([key(4, "flat")], [1])
    world.restore([1], snaps)
    for _ in range(HEIGHTS_LIMIT - 8):
        actions = world.expert([0, 1])
        outcome = world.step(actions, [0, 1])
        seen = world.observe([0, 1])
        assert np.array_equal(*actions) and np.array_equal(*seen.state) and np.array_equal(*seen.images["front"])
    assert outcome.success.all() and outcome.facts[0] == outcome.facts[1]


def test_an_episode_is_a_function_of_its_key(world):
    def run(row, before):
        drive(world, row, before)
        return trace(world, row, key(5))

    assert run(0, key(1)) == run(1, Key("test", "obstacle_course/clear", 1)) != trace(world, 0, key(6))


def test_what_is_unknown_is_refused(world):
    for task in (f"{FAMILY}/steep", FAMILY, f"{FAMILY}/flat/absent"):
        with pytest.raises(BadData):
            world.reset([Key("test", task, 0)], [0])
    with pytest.raises(BadData, match="light"), DeskWorld(1, perturb=Perturbation.parse("light3")) as other:
        other.reset([key(0)], [0])
    with pytest.raises(BadData, match="arms"), DeskWorld(1, arms=2) as other:
        other.reset([key(0)], [0])


def test_what_is_seen_is_the_block_that_is_felt():
    """Its top is as far away as geometry says, and its pixels are an obstacle's."""
    with DeskWorld(1, senses=Senses(segmentation=("front",))) as world:
        world.reset([key(0)], [0])
        s, stage = world._rows[0].scene, world._stages[0]
        labels = world.observe([0]).extras["segmentation/front"][0, 0]
        assert (labels == IDS["obstacle 0"]).sum() > 60
        metres, valid = world.depth(0, "front")
        assert metres.shape == (128, 128) and valid.all()
        top = np.array([[s.x, s.y, s.height]])
        u, v = stage.project(top, "front", (128, 128))[0]
        camera = stage.data.camera("front")
        along = float(-(top[0] - camera.xpos) @ camera.xmat.reshape(3, 3)[:, 2])
        assert metres[int(v), int(u)] == pytest.approx(along, abs=0.006)
        before = metres.copy()
        for _ in range(15):  # until the arm is in the picture
            world.step(world.expert([0]), [0])
        assert not np.array_equal(world.depth(0, "front")[0], before)


def test_the_block_stands_where_the_scene_says(world):
    world.reset([key(6)], [0])
    s, stage = world._rows[0].scene, world._stages[0]
    mujoco.mj_forward(stage.model, stage.data)
    turn = stage.data.body("obstacle0").xmat.reshape(3, 3)
    assert np.allclose(turn[:2, 0], (math.cos(s.yaw), math.sin(s.yaw))) and turn[2, 2] == pytest.approx(1.0)
    assert np.allclose(stage.data.geom("obstacle0").xpos, (s.x, s.y, s.height / 2))
    assert np.allclose(world.geometry([0])[0]["goal"], s.goal)
    assert world.spec == SPEC and world.reasoning(0) == ""
