"""A Panda at the desk keeps the world's contracts, and is not taken for a ViperX."""

import dataclasses

import numpy as np
import pytest

from mindhand.core.errors import BadData, SpecMismatch
from mindhand.core.keys import Key, Keys
from mindhand.worlds.desk.body import PANDA
from mindhand.worlds.desk.controls import insist, wrong_order
from mindhand.worlds.desk.kinematics import to_rot6d, tool_down
from mindhand.worlds.desk.placing_judge import gap
from mindhand.worlds.desk.senses import Senses
from mindhand.worlds.desk.spec import HOME, PANDA_HIGH, PANDA_LOW, PANDA_SPEC, SPEC
from mindhand.worlds.desk.world import DeskWorld
from mindhand.worlds.perturb import Perturbation
from mindhand.worlds.scene import PLACES, sample_task

from .driving import drive
from .test_desk import trace


def key(index, task="maths_matching/R"):
    return Key("panda", task, index)


@pytest.fixture(scope="module")
def world():
    with DeskWorld(rows=2, body="panda") as made:
        yield made


def test_it_says_the_same_of_itself_but_for_its_name(world):
    assert world.spec == PANDA_SPEC
    assert dataclasses.replace(world.spec, robot=SPEC.robot) == SPEC
    world.reset([key(0), key(1)], [0, 1])
    seen = world.observe([0, 1])
    assert {r: x.shape for r, x in seen.images.items()} == {"front": (2, 1, 128, 128, 3), "wrist": (2, 1, 64, 64, 3)}
    start = seen.state[:, 0]
    assert np.abs(start[:, :3] - PANDA.mounts[0].local(np.array(HOME))).max() < 0.021
    assert world.geometry([0])[0]["joints"].shape == (7,)
    outcome = world.step(start, [0, 1])
    assert not any(f["clipped"] or f["limited"] for f in outcome.facts)
    assert np.abs(world.observe([0, 1], ()).state[:, 0] - start).max() < 2e-3


def test_a_number_of_the_gripper_is_as_wide_as_the_other_arms(world):
    world.reset([key(0)], [0])
    stage = world._stages[0]
    for gripper in (0.0, 0.69, 1.0):
        stage.set(world._rows[0].joints, gripper, [])
        pads = [stage.data.geom(f"arm/{side}_pad") for side in ("left", "right")]
        between = np.linalg.norm(pads[0].xpos - pads[1].xpos) - 0.010
        assert abs(between - gap(gripper)) < 1e-9
    assert 0.052 < gap(1.0) <= 0.080


@pytest.mark.parametrize("task", ["maths_matching/R/2", "spatial_placing/R"])
def test_the_same_expert_solves_it(world, task):
    for i in range(2):
        outcome, steps = drive(world, 0, key(i, task))
        assert outcome.success[0]
        assert outcome.facts[0]["choice_right"]
        assert steps < 200


@pytest.mark.parametrize("task", ["height_reaching/varied", "hidden_state/count"])
def test_so_it_does_in_the_other_families(world, task):
    assert drive(world, 1, key(0, task))[0].success[0]


def test_a_wrong_tile_is_refused(world):
    k = key(2, "maths_matching/R/1")
    (wrong,) = wrong_order(sample_task(k), Keys.of([k]))
    world.reset([k], [0])
    insist(world, 0, [wrong])
    success = [bool(world.step(world.expert([0]), [0]).success[0]) for _ in range(130)]
    assert not any(success)
    lying = world._stages[0].positions[wrong, :2]
    assert np.abs(lying - PLACES[0]).max() < 0.012, "the control did not do what it should"


def test_same_key_same_episode_in_any_row_after_any_other(world):
    want = trace(world, 0, key(7))
    drive(world, 1, key(8, "spatial_placing/R"))
    assert trace(world, 1, key(7)) == want
    assert trace(world, 1, key(9)) != want


def test_snapshots_go_on_exactly_and_are_of_one_body(world):
    world.reset([key(3)], [0])
    for _ in range(30):
        world.step(world.expert([0]), [0])
    world.disturb([0], np.full((1, 7), 0.01))
    (snap,) = world.snapshot([0])
    world.restore([1], [snap])
    for _ in range(20):
        world.step(world.expert([0, 1]), [0, 1])
    assert world.snapshot([0]) == world.snapshot([1])
    with DeskWorld(1) as other:
        with pytest.raises(BadData, match="another scene declaration, body"):
            other.restore([0], [snap])
        other.reset([key(3)], [0])
        with pytest.raises(BadData, match="body='panda'"):
            world.restore([0], other.snapshot([0]))


def test_joint_noise_of_the_other_body_is_refused(world):
    world.reset([key(0)], [0])
    with pytest.raises(BadData, match=r"Noise\(size=7\)"):
        world.disturb([0], np.zeros((1, 6)))


def test_what_is_of_the_other_body_is_a_mismatch():
    with pytest.raises(SpecMismatch, match="desk-panda"):
        PANDA_SPEC.require(SPEC, "checkpoint", "world")


def test_what_there_is_not_is_refused():
    with pytest.raises(BadData, match="2 arms, body 'panda'"):
        DeskWorld(1, arms=2, body="panda")
    with pytest.raises(BadData, match="'gripper'"):
        DeskWorld(1, body="gripper")
    with DeskWorld(1, body="panda") as world, pytest.raises(BadData, match="obstacle_course"):
        world.reset([key(0, "obstacle_course/near")], [0])


def test_what_cannot_be_done_is_cut_and_reported(world):
    world.reset([key(0)], [0])
    for at in PANDA_LOW[:3], PANDA_HIGH[:3], np.array([3.0, 0.0, 0.1]):
        facts = world.step(np.concatenate([at, to_rot6d(tool_down(0.0)), [0.0]])[None], [0]).facts[0]
        assert facts["clipped"]
    joints = world._rows[0].joints
    assert (joints >= PANDA.low).all()
    assert (joints <= PANDA.high).all()


@pytest.mark.parametrize("task", ["maths_matching/R", "spatial_placing/R"])
def test_perturbations_and_senses_know_it(task):
    perturb = Perturbation(start=3, camera=2, light=2, background=2)
    with DeskWorld(1, perturb, Senses(segmentation=("wrist",), touch=True), body="panda") as world:
        world.reset([key(1, task)], [0])
        seen = world.observe([0])
        assert {5} <= set(np.unique(seen.extras["segmentation/wrist"]))  # its own fingers
        assert not (seen.extras["segmentation/wrist"] == 6).any()
        assert "touch/left" in seen.extras
        clean = PANDA.inverse(PANDA.mounts[0].local(np.array(HOME)), tool_down(0.0), PANDA.rest).joints
        assert np.abs(world._rows[0].joints - clean).max() > 0.02
        assert drive(world, 0, key(1, task))[0].success[0]
