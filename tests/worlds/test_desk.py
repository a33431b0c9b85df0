"""The desk keeps the World's contracts: pure functions of keys, exact snapshots, honest success."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mindhand.core.errors import BadData
from mindhand.core.keys import Key, Keys
from mindhand.core.seams import World
from mindhand.worlds.desk.controls import Wanderer, insist, wrong_order
from mindhand.worlds.desk.expert import PHASES
from mindhand.worlds.desk.kinematics import to_rot6d, tool_down
from mindhand.worlds.desk.spec import HOME, LIMITS, SHUT
from mindhand.worlds.desk.world import SPEC, DeskWorld
from mindhand.worlds.scene import PLACES, place_words, read_reasoning, sample_task

from .driving import drive


@pytest.fixture(scope="module")
def world():
    with DeskWorld(rows=4) as made:
        yield made


BOTH = pytest.mark.parametrize("task", ["maths_matching/R", "spatial_placing/K-dev"])  # a task of each family


def key(index, task="maths_matching/R"):
    return Key("test", task, index)


def find(task, want):
    """The first key of a task whose scene is as wanted."""
    return next(key(i, task) for i in range(500) if want(sample_task(key(i, task))))


def trace(world, row, k, steps=25, every=12):
    """A digest of everything an episode shows: states, facts, expert's actions and pictures."""
    world.reset([k], [row])
    out = hashlib.sha256()
    for step in range(steps):
        action = world.expert([row])
        outcome = world.step(action, [row])
        out.update(action.tobytes() + json.dumps(outcome.facts[0]).encode())
        seen = world.observe([row], None if step % every == 0 else ())
        out.update(seen.state.tobytes() + b"".join(x.tobytes() for x in seen.images.values()))
    return out.hexdigest()


def test_it_is_a_world_and_shows_what_its_spec_says(world):
    assert isinstance(world, World)
    world.reset([key(0), key(1, "maths_matching/K-dev")], [0, 2])
    seen = world.observe([2, 0])
    assert {r: x.shape for r, x in seen.images.items()} == {"front": (2, 1, 128, 128, 3), "wrist": (2, 1, 64, 64, 3)}
    assert seen.state.shape == (2, 1, SPEC.state_size)
    assert seen.keys == (key(1, "maths_matching/K-dev"), key(0))
    assert np.isclose(SPEC.rate, 20)
    start = np.array(HOME) - [-0.41, 0, 0]
    assert np.abs(seen.state[:, 0, :3] - start).max() < 0.021
    assert set(world.observe([0], cameras=["wrist"]).images) == {"wrist"}
    assert not world.observe([0], cameras=()).images


@BOTH
def test_same_key_same_episode_in_any_row_after_any_other(world, task):
    with DeskWorld(rows=1) as alone:
        want = trace(alone, 0, key(7, task))
    drive(world, 3, key(8, task))
    assert trace(world, 3, key(7, task)) == want
    assert trace(world, 3, key(9, task)) != want
    drive(world, 3, key(8))
    assert trace(world, 3, key(7, task)) == want


def test_rows_together_are_rows_alone(world):
    keys = [key(i, ("maths_matching/K-dev", "spatial_placing/R")[i % 2]) for i in range(4)]
    world.reset(keys, range(4))
    for _ in range(20):
        world.step(world.expert(range(4)), range(4))
    together = world.observe(range(4))
    with DeskWorld(rows=1) as alone:
        for r in (2, 1, 0):
            alone.reset([keys[r]], [0])
            for _ in range(20):
                alone.step(alone.expert([0]), [0])
            one = alone.observe([0])
            assert np.array_equal(one.state[0], together.state[r])
            assert all(np.array_equal(one.images[c][0], together.images[c][r]) for c in one.images)


def test_another_process_gives_the_same_episode(world):
    code = (
        "import mujoco\n"  # first, and without a backend named: the desk still draws
        "from tests.worlds.test_desk import key, trace\n"
        "from mindhand.worlds.desk.world import DeskWorld\n"
        "world = DeskWorld(2)\n"
        "print(*(trace(world, 1, key(5, f)) for f in ('maths_matching/R', 'spatial_placing/R')))"
    )
    plain = {k: v for k, v in os.environ.items() if k not in ("MUJOCO_GL", "PYOPENGL_PLATFORM", "LP_NUM_THREADS")}
    there = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2], env=plain
    )
    assert there.returncode == 0, there.stderr
    assert there.stdout.split() == [trace(world, 0, key(5, f)) for f in ("maths_matching/R", "spatial_placing/R")]
    assert "Error" not in there.stderr  # nor a complaint of the driver's at exit


@pytest.mark.parametrize(
    ("task", "at"),
    [(t, n) for t, ends in (("maths_matching/R/2", 70), ("spatial_placing/R", 48)) for n in (0, 31, ends)],
)
def test_snapshots_go_on_exactly_elsewhere_and_in_another_episode(world, task, at):
    k = key(3, task)
    world.reset([k, key(4)], [0, 1])
    noise = Keys.of([k]).normal(200, 6)[0] * 0.01
    for step in range(at):
        world.disturb([0], noise[None, step])
        world.step(world.expert([0]), [0])
    world.disturb([0], noise[None, at])  # pending noise is part of the state
    (snap,) = world.snapshot([0])
    for _ in range(5):
        world.step(world.expert([1]), [1])
    world.restore([1], [snap])

    def go_on(row):
        out = []
        for _ in range(30):
            outcome = world.step(world.expert([row]), [row])
            seen = world.observe([row])
            out.append((outcome.facts, world.reasoning(row), seen.state.tobytes(), seen.images["front"].tobytes(),
                        seen.images["wrist"].tobytes()))  # fmt: skip
        return out, world.snapshot([row])[0]  # to the last bit of every double

    now = world.observe([0, 1])
    assert np.array_equal(now.state[0], now.state[1])
    assert all(np.array_equal(x[0], x[1]) for x in now.images.values())
    assert go_on(0) == go_on(1)


def test_a_foreign_snapshot_is_refused(world, monkeypatch):
    world.reset([key(0)], [0])
    (snap,) = world.snapshot([0])
    for bad in (snap[:-8], b"x" + snap, snap[:40], b""):
        with pytest.raises(BadData):
            world.restore([0], [bad])
    monkeypatch.setattr("mindhand.worlds.desk.world.scene_hash", lambda: "0" * 12)
    with pytest.raises(BadData, match="another scene"):
        world.restore([0], [snap])


@pytest.mark.parametrize("task", ["maths_matching/R/1", "maths_matching/R/2", "maths_matching/K-dev/2"])
def test_the_expert_solves_it_and_says_so(world, task):
    for i in range(3):
        outcome, steps = drive(world, 0, key(i, task))
        facts = outcome.facts[0]
        assert outcome.success[0]
        assert outcome.reward[0] == 1
        assert facts["choice_right"]
        assert facts["placed"] == facts["digits"]
        assert steps < LIMITS[facts["digits"]]
        assert read_reasoning(world.reasoning(0))["digit"] is None
        assert world.target(0) is None


def test_equal_digits_take_two_tiles(world):
    k = find("maths_matching/R", lambda s: s.equation.answer == 11)
    outcome, _ = drive(world, 0, k)
    assert outcome.success[0]
    assert len(set(world._rows[0].judge.taken)) == 2


def stubborn(world, k, order, steps=260):
    world.reset([k], [0])
    insist(world, 0, order)
    seen = False
    for _ in range(steps):
        outcome = world.step(world.expert([0]), [0])
        seen |= bool(outcome.success[0])
    lying = world._stages[0].positions[list(order), :2]
    assert np.abs(lying - np.array(PLACES)[: len(order)]).max() < 0.012, "the control did not do what it should"
    return seen, outcome.facts[0]


def test_a_wrong_tile_is_refused(world):
    k = key(2, "maths_matching/R/1")
    scene = sample_task(k)
    (wrong,) = wrong_order(scene, Keys.of([k]))
    assert scene.tiles[wrong].digit not in scene.equation.digits
    success, facts = stubborn(world, k, [wrong], 130)
    assert not success
    assert facts["choice"] == wrong
    assert facts["choice_right"] is False


def test_swapped_order_is_refused(world):
    k = find("maths_matching/R/2", lambda s: s.equation.answer != 11)
    order = sample_task(k).order()
    success, facts = stubborn(world, k, order[::-1])
    assert not success
    assert facts["placed"] == 0
    assert stubborn(world, k, order)[0]  # the same control in the right order is accepted


def test_a_wandering_arm_does_not_solve_it(world):
    driver = Wanderer(key(0))
    world.reset([key(0)], [0])
    facts = [world.step(driver.act()[None], [0]).facts[0] for _ in range(200)]
    assert facts[-1]["moved"] >= 0, "the control never touched a tile"
    assert world.step(driver.act()[None], [0]).truncated[0]


def test_a_tile_too_many_in_the_tray_is_refused(world):
    k = find("maths_matching/R/1", lambda s: len(s.tiles) > 3)
    scene = sample_task(k)
    right = scene.order()[0]
    wrong = next(i for i, t in enumerate(scene.tiles) if t.digit != scene.tiles[right].digit)
    world.reset([k], [0])
    stage = world._stages[0]
    for extra, want in ((False, True), (True, False)):
        poses = [(t.x, t.y, t.yaw) for t in scene.tiles]
        poses[right] = (*PLACES[0], 0.0)
        if extra:
            poses[wrong] = (*PLACES[1], 0.0)
        stage.set(world._rows[0].joints, 1.0, poses)
        hold = np.concatenate([stage.tcp - stage.base, to_rot6d(stage.rotation), [1.0]])[None]
        assert bool(world.step(hold, [0]).success[0]) is want


def test_the_expert_recovers_from_noise_and_from_another_driver(world):
    k = key(11, "maths_matching/R/2")
    world.reset([k], [0])
    draw = Keys.of([k]).normal(400, 6)[0]
    noise, solved = np.zeros(6), False
    for step in range(LIMITS[2]):
        noise = 0.9 * noise + 0.012 * np.sqrt(1 - 0.81) * draw[step]
        world.disturb([0], noise[None])
        action = world.expert([0])
        if 15 <= step < 35:  # somebody else drives, to a corner and with the gripper half shut
            action = np.concatenate([[0.45, -0.2, 0.2], to_rot6d(tool_down(0.5)), [0.5]])[None]
        solved = bool(world.step(action, [0]).success[0])
        if solved:
            break
    assert solved


def test_the_expert_points_down_and_a_driven_arm_goes_where_it_says(world):
    world.reset([key(2)], [0])
    for _ in range(30):
        action = world.expert([0])[0]
        yaw = float(np.arctan2(-action[6], action[7]))
        np.testing.assert_allclose(action[3:9], to_rot6d(tool_down(yaw)), atol=1e-6)
        world.step(action[None], [0])
    state = world.observe([0], ()).state[0, 0]
    assert np.abs(state[:3] - action[:3]).max() < 0.02  # it lags a little behind its command


@BOTH
def test_asking_the_expert_changes_nothing(world, task):
    world.reset([key(1, task), key(1, task)], [0, 1])
    for _ in range(40):
        first = world.expert([0])
        again = world.expert([0, 0])
        assert np.array_equal(again, np.repeat(first, 2, 0))
        assert np.array_equal(world.expert([1])[0], first[0])
        world.step(np.repeat(first, 2, 0), [0, 1])


def test_what_cannot_be_done_is_cut_and_reported(world):
    world.reset([key(0)], [0])
    down = to_rot6d(tool_down(0.0))
    far = np.concatenate([[3.0, 0.0, 0.1], down, [0.0]])
    facts = world.step(far[None], [0]).facts[0]
    assert facts["clipped"]
    assert facts["limited"]
    seen = world.observe([0], ()).state[0, 0]
    near = np.concatenate([seen[:3], seen[3:9], [seen[9]]])
    world.reset([key(0)], [0])
    hold = np.concatenate([world.observe([0], ()).state[0, 0]])
    facts = world.step(hold[None], [0]).facts[0]
    assert not facts["clipped"]
    assert not facts["limited"]
    flat = near.copy()
    flat[3:9] = 0
    assert world.step(flat[None], [0]).facts[0]["clipped"]
    for bad in (np.full((1, 10), np.nan), np.zeros((1, 9)), np.zeros((2, 10))):
        with pytest.raises(BadData):
            world.step(bad, [0])
    with pytest.raises(BadData, match="no episode"):
        DeskWorld(1).step(hold[None], [0])


def test_reasoning_follows_the_sub_steps(world):
    k = find("maths_matching/R/2", lambda s: s.equation.answer != 11)
    scene = sample_task(k)
    world.reset([k], [0])
    said, agree = [read_reasoning(world.reasoning(0))], []
    for _ in range(LIMITS[2]):
        outcome = world.step(world.expert([0]), [0])
        now = read_reasoning(world.reasoning(0))
        if now != said[-1]:
            said.append(now)
        if outcome.done[0]:
            break
        index, pose = world.target(0)
        assert scene.tiles[index].digit == now["digit"]
        assert pose.shape == (4,)
        held = abs(pose[:3] - world.geometry([0])[0]["tcp"]).max() < 0.03
        place = (*PLACES[len(now["placed"])], 0.002, 0.0)
        assert np.allclose(world.goal(0), place if now["step"] == "put" else pose)
        assert held or now["step"] == "take"  # nothing is put that is not in the hand
        gripped = world.geometry([0])[0]["gripper"] <= SHUT
        agree.append(gripped == (now["step"] == "put"))  # but for the moment of letting go
    assert world.goal(0) is None
    assert np.mean(agree) > 0.95
    first, second = scene.equation.digits
    assert [(s["step"], s["digit"]) for s in said] == [
        ("take", first), ("put", first), ("take", second), ("put", second), ("done", None)
    ]  # fmt: skip
    assert [len(s["placed"]) for s in said] == [0, 0, 1, 1, 2]
    tiles = [scene.tiles[i] for i in scene.order()]
    there = [place_words(t.x, t.y) for t in tiles]
    assert [s["place"] for s in said] == [there[0], "left", there[1], "right", None]


def test_phases_of_a_clean_episode_come_once_and_in_order(world):
    world.reset([key(6, "maths_matching/R/1")], [0])
    phases = []
    while True:
        action = world.expert([0])
        phase = world._rows[0].expert.plan.phase
        if not phases or phases[-1] != phase:
            phases.append(phase)
        if world.step(action, [0]).done[0]:
            break
    assert tuple(phases) == PHASES[: len(phases)]
    assert "lower" in phases
