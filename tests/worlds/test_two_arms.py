"""A second arm behind one argument: the same contracts, the first arm as it was, both seen by whatever looks."""

import json
import struct
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings

from mindhand.core.convert import converter
from mindhand.core.errors import BadData
from mindhand.core.keys import Key, Keys
from mindhand.core.seams import World
from mindhand.data.lerobot_read import LeRobotReader
from mindhand.data.lerobot_write import LeRobotWriter
from mindhand.data.record import GAZE, Noise, gaze, record_demonstrations
from mindhand.worlds.desk import families
from mindhand.worlds.desk.controls import Wanderer
from mindhand.worlds.desk.kinematics import forward, to_rot6d
from mindhand.worlds.desk.sense_views import IDS, look
from mindhand.worlds.desk.senses import Senses
from mindhand.worlds.desk.spec import ACTION_HIGH, ACTION_LOW, SHUT, SPEC, SPECS
from mindhand.worlds.desk.stage import Stage
from mindhand.worlds.desk.world import DeskWorld
from mindhand.worlds.gym import WorldEnv
from mindhand.worlds.perturb import Perturbation
from mindhand.worlds.scene import AREA, FACES, PLACES, sample_task

from .driving import drive
from .test_desk import BOTH, key, trace
from .test_kinematics import joints
from .test_render import hue


@pytest.fixture(scope="module")
def world():
    with DeskWorld(rows=3, arms=2) as made:
        yield made


def on_the_right(index=0, task="maths_matching/R/1"):
    """A key whose first tile the right arm takes."""
    keys = (key(i, task) for i in range(500))
    return [k for k in keys if (s := sample_task(k)).tiles[s.order()[0]].x > 0.02][index]


def until(world, row, phase):
    """Drive the row's expert until the arm whose turn it is enters a phase."""
    for _ in range(200):
        action = world.expert([row])
        if world._rows[row].expert.plan.phase == phase:
            return
        world.step(action, [row])
    raise AssertionError(f"no phase '{phase}'")


# ---- one arm, and the other one ------------------------------------------------------------------------


def test_the_spec_of_two_arms_is_that_of_one_and_as_much_again():
    two = SPECS[2]
    assert (two.action_size, two.state_size, SPEC.action_size) == (20, 20, 10)
    assert two.action_names()[:10] == SPEC.action_names()
    assert two.action_names()[10:13] == ["tcp_right.x", "tcp_right.y", "tcp_right.z"]
    assert [p.frame for p in two.action] == ["arm_base", "arm_base", "", "right_arm_base", "right_arm_base", ""]
    assert two.roles == ("front", "wrist", "wrist_right")
    assert two.part("gripper_right") == slice(19, 20)
    assert two.robot != SPEC.robot
    other = replace(two, action=tuple(replace(p, polarity="closed") if p.polarity else p for p in two.action[::-1]))
    x = np.linspace(-1, 1, 60).reshape(1, 3, 20)
    there = converter(two, other)(x, None)
    assert there[0, 0, 0] == 1 - x[0, 0, 19]
    assert np.allclose(converter(other, two)(there, None), x)


def test_one_arm_is_what_it_was(world):
    assert SPEC.fingerprint() == "45dc3289bd7c"
    one, two = Stage().model, world._stages[0].model
    assert (one.nq, one.nv, one.nu) == (50, 44, 8)
    assert (two.nq, two.nv, two.nu) == (58, 52, 16)
    assert "wrist_right" not in Stage().ids.cameras

    def bits(model, name):
        return int(model.geom(f"{name}/left_pad").contype[0]), int(model.geom(f"{name}/left_pad").conaffinity[0])

    assert bits(one, "arm") == (4, 3)
    assert (bits(two, "arm"), bits(two, "arm_right")) == ((4, 11), (8, 7))
    with DeskWorld(1) as alone:
        alone.reset([key(3)], [0])
        alone.step(alone.expert([0]), [0])
        (snap,) = alone.snapshot([0])
        begin = snap.index(b"\n") + 5
        header = json.loads(snap[begin : begin + struct.unpack("<I", snap[begin - 4 : begin])[0]])
        assert header["gripper"] == 1.0 and len(header["joints"]) == 6
        assert header["judge"]["wide"] is True and "wide_right" not in header["judge"]
        names = set(alone.geometry([0])[0])
        world.reset([key(3)], [0])
        more = set(world.geometry([0])[0]) - names
        assert more == {"tcp_right", "tool_right", "joints_right", "gripper_right"}


@settings(max_examples=30, deadline=None)
@given(joints)
def test_the_right_arm_is_the_left_one_turned_about_the_middle(world, q):
    stage = world._stages[0]
    stage.data.qpos[stage.ids.arm] = [*q, *q]
    stage.refresh()
    left, right = stage.arms
    for arm in (left, right):
        position, rotation = arm.pose
        np.testing.assert_allclose(position, forward(q)[0], atol=1e-12)
        np.testing.assert_allclose(rotation, forward(q)[1], atol=1e-12)
    np.testing.assert_allclose(right.tcp, left.tcp * (-1, -1, 1), atol=1e-12)
    target = [0.3, 0.1, 0.1, *to_rot6d(forward(q)[1]), 0.5]
    a, b = (arm.follow(target, q, 1.0) for arm in (left, right))
    np.testing.assert_allclose(a.joints, b.joints, atol=1e-12)
    assert a[1:] == b[1:]


def test_both_arms_told_the_same_do_the_same(world):
    world.reset([key(0)], [0])
    stage, row = world._stages[0], world._rows[0]
    row.joints = np.tile(row.joints[:6], 2)
    stage.set(row.joints, 1.0, [(0.9, 0.9 + 0.1 * k, 0.0) for k in range(stage.count)])  # nothing in the way
    ten = world.observe([0], ()).state[0, 0, :10] + np.array([0.06, 0.08, -0.06, *[0.0] * 6, -1.0])
    for _ in range(15):
        world.step(np.tile(ten, 2)[None], [0])
    left, right = world.observe([0], ()).state[0, 0].reshape(2, 10)
    np.testing.assert_allclose(left, right, atol=1e-5)
    np.testing.assert_allclose(left[:3], ten[:3], atol=0.005)
    assert left[9] < 0.1


# ---- the World's contracts -----------------------------------------------------------------------------


def test_it_is_a_world_and_shows_what_its_spec_says(world):
    assert isinstance(world, World)
    world.reset([key(0), key(1, "spatial_placing/R")], [0, 2])
    seen = world.observe([2, 0])
    shapes = {"front": (2, 1, 128, 128, 3), "wrist": (2, 1, 64, 64, 3), "wrist_right": (2, 1, 64, 64, 3)}
    assert {r: x.shape for r, x in seen.images.items()} == shapes
    assert not np.array_equal(seen.images["wrist"], seen.images["wrist_right"])
    assert seen.state.shape == (2, 1, 20)
    assert set(world.observe([0], cameras=["wrist_right"]).images) == {"wrist_right"}
    here = look(world._stages[0], world._canvas, "front", (128, 128)).labels
    assert not np.isin(here, [IDS[n] for n in ("arm", "gripper", "arm_right", "gripper_right")]).any()  # both at home


@BOTH
def test_same_key_same_episode_in_any_row_after_any_other(world, task):
    with DeskWorld(rows=1, arms=2) as alone:
        want = trace(alone, 0, key(7, task))
    drive(world, 2, key(8, task))
    assert trace(world, 2, key(7, task)) == want
    assert trace(world, 2, key(9, task)) != want


def test_rows_together_are_rows_alone(world):
    keys = [key(i, ("maths_matching/K-dev", "spatial_placing/R")[i % 2]) for i in range(3)]
    world.reset(keys, range(3))
    for _ in range(20):
        world.step(world.expert(range(3)), range(3))
    together = world.observe(range(3))
    with DeskWorld(rows=1, arms=2) as alone:
        for r in (2, 1, 0):
            alone.reset([keys[r]], [0])
            for _ in range(20):
                alone.step(alone.expert([0]), [0])
            one = alone.observe([0])
            assert np.array_equal(one.state[0], together.state[r])
            assert all(np.array_equal(one.images[c][0], together.images[c][r]) for c in one.images)


@pytest.mark.parametrize(
    ("task", "phase"),
    [("maths_matching/R/2", "descend"), ("maths_matching/R/2", "open"), ("spatial_placing/R", "lift")],
)
def test_snapshots_go_on_exactly_elsewhere(world, task, phase):
    k = on_the_right(task=task) if task.startswith("maths") else key(3, task)
    world.reset([k, key(4)], [0, 1])
    noise, step = Keys.of([k]).normal(200, 12)[0] * 0.01, 0
    while (plan := world._rows[0].expert.plan).phase != phase or plan.t < 5:  # an opening gripper is open by then
        world.disturb([0], noise[None, step])
        world.step(world.expert([0]), [0])
        step += 1
    world.disturb([0], noise[None, step])  # pending noise is part of the state
    (snap,) = world.snapshot([0])
    for _ in range(5):
        world.step(world.expert([1]), [1])
    world.restore([1], [snap])
    assert world.snapshot([1]) == [snap]

    def go_on(row):
        out = []
        for step in range(30):
            outcome = world.step(world.expert([row]), [row])
            seen = world.observe([row], None if step % 10 == 0 else ())
            pictures = [x.tobytes() for x in seen.images.values()]
            out.append((outcome.facts, world.reasoning(row), seen.state.tobytes(), pictures))
        return out, world.snapshot([row])[0]  # to the last bit of every double

    assert go_on(0) == go_on(1)


@BOTH
def test_asking_the_expert_changes_nothing(world, task):
    world.reset([key(1, task), key(1, task)], [0, 1])
    for _ in range(30):
        first = world.expert([0])
        again = world.expert([0, 0])
        assert np.array_equal(again, np.repeat(first, 2, 0))
        assert np.array_equal(world.expert([1])[0], first[0])
        world.step(np.repeat(first, 2, 0), [0, 1])


def test_what_is_not_of_two_arms_is_refused(world, monkeypatch):
    with pytest.raises(BadData, match="3 arms"):
        DeskWorld(arms=3)
    with DeskWorld(1) as one:
        for here, there in ((world, one), (one, world)):
            here.reset([key(0)], [0])
            with pytest.raises(BadData, match="number of arms"):
                there.restore([0], here.snapshot([0]))
    with pytest.raises(BadData, match=r"Noise\(size=12\)"):
        world.disturb([0], np.zeros((1, 6)))
    for bad in (np.zeros((1, 10)), np.full((1, 20), np.nan)):
        with pytest.raises(BadData, match=r"\(1, 20\)"):
            world.step(bad, [0])
    usual = families.FAMILIES["spatial_placing"]
    monkeypatch.setitem(families.FAMILIES, "spatial_placing", replace(usual, arms=1))
    with pytest.raises(BadData, match="2 arms"):
        world.reset([key(0, "spatial_placing/R")], [0])
    world.reset([key(0)], [0])


def test_what_one_arm_cannot_do_is_reported_whatever_the_other_does(world):
    for arm in (0, 1):
        world.reset([key(0)], [0])
        hold = world.observe([0], ()).state[0].astype(float)
        facts = world.step(hold, [0]).facts[0]
        assert not facts["clipped"] and not facts["limited"]
        hold[0, 10 * arm] = 3.0
        facts = world.step(hold, [0]).facts[0]
        assert facts["clipped"] and facts["limited"]


# ---- who looks -----------------------------------------------------------------------------------------


def test_the_judge_watches_both_hands(world):
    k = on_the_right()
    scene = sample_task(k)
    world.reset([k], [0])
    held, said = [], []
    while True:
        action = world.expert([0])
        action[0, 9] = 0.0  # the left one is shut at home all the time: that is of no account
        outcome = world.step(action, [0])
        facts = outcome.facts[0]
        if outcome.done[0]:
            break
        stage = world._stages[0]
        near = np.abs(stage.positions[scene.order()[0]] - stage.arms[1].tcp).max() < 0.02
        held.append(near and stage.arms[1].gripper < 0.7)
        said.append(" put " in world.reasoning(0))
        assert not (held[-1] and facts["placed"])  # in the tray is not yet let go
    assert outcome.success[0] and world._stages[0].arms[1].gripper > SHUT
    assert facts["closed"] == facts["choice"] == scene.order()[0] and facts["choice_right"]
    assert sum(held) > 15 and all(s for h, s in zip(held, said) if h)


def test_the_right_wrist_sees_what_the_right_hand_is_over(world):
    k = on_the_right()
    world.reset([k], [0])
    until(world, 0, "close")
    index, pose = world.target(0)
    tile = sample_task(k).tiles[index]
    picture = world.observe([0]).images["wrist_right"][0, 0]
    c, s = np.cos(tile.yaw), np.sin(tile.yaw)
    corners = [(pose[0] + c * x - s * y, pose[1] + s * x + c * y, 0.0203) for x in (0, 0.017) for y in (-0.018, 0.018)]
    seen = world.project(np.array(corners), "wrist_right", [0])[0]
    for u, v in seen[2:]:
        assert np.abs(hue(picture[int(v), int(u)]) - hue(FACES[tile.face])).max() < 0.06
    assert seen[0, 1] > seen[1, 1] and abs(seen[0, 0] - seen[1, 0]) < 8  # upright: its upper edge is up
    stage = world._stages[0]
    labels = {role: look(stage, world._canvas, role, (64, 64)).labels for role in ("wrist", "wrist_right")}
    assert (labels["wrist_right"] == IDS[f"tile {index}"]).mean() > 0.03
    assert not (labels["wrist"] == IDS[f"tile {index}"]).any()
    assert (labels["wrist_right"] == IDS["gripper_right"]).any() and (labels["wrist"] == IDS["gripper"]).any()


def test_senses_are_of_both_arms():
    senses = Senses(depth=("wrist", "wrist_right"), segmentation=("wrist_right",), touch=True)
    with DeskWorld(1, senses=senses, arms=2) as world:
        world.reset([on_the_right()], [0])
        until(world, 0, "carry")
        felt = world.observe([0]).extras
        assert felt["depth/wrist_right"].shape == felt["segmentation/wrist_right"].shape == (1, 1, 64, 64)
        press = {pad: float(felt[f"touch/{pad}"][0, 0, 2]) for pad in ("left", "arm_right/left", "arm_right/right")}
        assert press["left"] == 0 and min(press["arm_right/left"], press["arm_right/right"]) > 3


def test_perturbed_arms_and_cameras_are_both_perturbed(world):
    world.reset([key(2)], [0])
    usual = world._stages[0].model
    clean = world._rows[0].joints.reshape(2, 6)
    want = trace(world, 0, key(2))
    world.perturb = Perturbation(start=5, camera=4)
    try:
        for i in range(8, 1, -1):
            world.reset([key(i)], [0])
            off = np.linalg.norm(world._rows[0].joints.reshape(2, 6) - clean, axis=1)
            stage = world._stages[0]
            world.step(world.expert([0]), [0])
            assert arms_touching(stage) == 0
        assert (off > 0.3).all() and abs(off[0] - off[1]) > 1e-6  # of the last, which is the clean one's key
        for camera in ("arm/wrist", "arm_right/wrist"):
            assert not np.allclose(stage.model.camera(camera).quat, usual.camera(camera).quat)
        outcome, _ = drive(world, 0, key(5))
        assert outcome.success[0]
    finally:
        world.perturb = Perturbation()
    assert trace(world, 0, key(2)) == want


def arms_touching(stage):
    """Contacts between the two arms."""
    m, pairs = stage.model, stage.data.contact.geom
    root = np.array([m.body(int(m.body_rootid[b])).name for b in m.geom_bodyid])[pairs]
    return int(((root[:, 0] != root[:, 1]) & np.isin(root, ["arm/base", "arm_right/base"]).all(1)).sum())


def test_two_wandering_arms_meet_and_solve_nothing(world):
    k = key(0)
    world.reset([k], [0])
    (x0, x1), y = AREA[0], (PLACES[0][1], AREA[1][1])
    # In the right arm's frame the table is turned: so is the field.
    both = Wanderer(k), Wanderer(key(1), ((-x1, -x0), (-y[1], -y[0])))
    met = 0
    for _ in range(120):
        outcome = world.step(np.concatenate([w.act() for w in both])[None], [0])
        met += arms_touching(world._stages[0])
        assert not outcome.success[0]
    assert outcome.facts[0]["moved"] >= 0, "the control never touched a tile"
    assert met > 0, "nothing keeps them apart, and nothing was felt"


def test_gymnasium_and_the_recorder_take_it(tmp_path):
    with DeskWorld(1, arms=2) as world:
        env = WorldEnv(world, "maths_matching/R", low=np.tile(ACTION_LOW, 2), high=np.tile(ACTION_HIGH, 2))
        seen, _ = env.reset(seed=3)
        assert seen in env.observation_space and seen["wrist_right"].shape == (64, 64, 3)
        env.step(env.action_space.sample())
        keys = [Key("record", "maths_matching/R/1", i) for i in range(2)]
        with LeRobotWriter(tmp_path / "d", SPECS[2], pictures="model", labels=GAZE) as writer:
            record_demonstrations(world, keys, writer, noise=Noise(share=1.0, size=12), labels=gaze)
        reader = LeRobotReader(tmp_path / "d")
        assert reader.spec == SPECS[2]
        episode = reader.episode(0)
        assert episode.action.shape[1] == episode.state.shape[1] == 20 and "wrist_right" in episode.images
        world.reset([keys[0]], [0])
        assert np.array_equal(episode.action[0], world.expert([0])[0])
        with pytest.raises(BadData, match="size=12"):
            record_demonstrations(world, [Key("other", "maths_matching/R/1", 0)], writer, labels=gaze)
