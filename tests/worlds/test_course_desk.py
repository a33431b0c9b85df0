"""Among obstacles: an expert that leaves them alone, one that does not know of them, a judge that sees every touch."""

import math

import mujoco
import numpy as np
import pytest

from mindhand.core.errors import BadData
from mindhand.core.keys import Key, Keys
from mindhand.data.record import GAZE, Noise, demonstrate, gaze
from mindhand.worlds.course import FAMILY, HOME, LEVELS, MOVED, CourseScene, Obstacle, circles, sample_course_task
from mindhand.worlds.course_sight import corners, hidden
from mindhand.worlds.desk.altered import toys_to_be_seen, viewpoint
from mindhand.worlds.desk.body import ARM_POS
from mindhand.worlds.desk.controls import careless
from mindhand.worlds.desk.course_judge import FAR
from mindhand.worlds.desk.course_stage import CourseStage, Shapes, free_start
from mindhand.worlds.desk.kinematics import inverse, to_rot6d, tool_down
from mindhand.worlds.desk.spec import COURSE_LIMIT, SPEC
from mindhand.worlds.desk.world import DeskWorld
from mindhand.worlds.perturb import Perturbation, keys_of
from mindhand.worlds.placing import read_placing

from .driving import drive, worded
from .test_desk import trace


def key(index, level="across"):
    return Key("test", f"{FAMILY}/{level}", index)


@pytest.fixture(scope="module")
def world():
    with DeskWorld(rows=3) as made:
        yield made


# ---- who does it, and who does not -----------------------------------------------------------------------


@pytest.mark.parametrize("level", LEVELS)
def test_the_expert_solves_it_and_touches_nothing(world, level):
    for i in range(3):
        outcome, steps = drive(world, 0, key(i, level))
        facts = outcome.facts[0]
        assert outcome.success[0] and facts["why"] == "", facts["why"]
        assert not facts["hit"] and not facts["touched"] and facts["touched_by"] == []
        assert facts["displacement"] < 0.001 and facts["tilt"] < 1 and facts["clearance"] > 0.004
        assert facts["obstacles"] == len(sample_course_task(key(i, level)).obstacles)
        assert steps < COURSE_LIMIT
        assert read_placing(world.reasoning(0))["step"] == "done"


def test_who_does_not_know_of_obstacles_hits_what_stands_across(world):
    for i in range(3):
        world.reset([key(i)], [0])
        careless(world, 0)
        solved = False
        for _ in range(COURSE_LIMIT):
            outcome = world.step(world.expert([0]), [0])
            solved |= bool(outcome.success[0])
        facts = outcome.facts[0]
        assert facts["hit"] and facts["displacement"] > MOVED and not solved and facts["why"]
        assert outcome.truncated[0]


def test_where_nothing_is_in_the_way_both_do_the_very_same(world):
    for i in range(2):
        world.reset([key(i, "clear"), key(i, "clear")], [0, 1])
        careless(world, 1)
        while True:
            actions = world.expert([0, 1])
            assert np.array_equal(*actions)
            outcome = world.step(actions, [0, 1])
            if outcome.done[0]:
                break
        assert outcome.success.all() and outcome.facts[0]["clearance"] > 0.03


def test_the_expert_recovers_from_noise_and_from_another_driver(world):
    k = key(4)
    world.reset([k], [0])
    draw, noise, solved = Keys.of([k]).normal(400, 6)[0], np.zeros(6), False
    for step in range(COURSE_LIMIT):
        noise = 0.9 * noise + 0.01 * np.sqrt(1 - 0.81) * draw[step]
        world.disturb([0], noise[None])
        action = world.expert([0])
        if 12 <= step < 20:  # somebody else drives, up and home
            action = np.concatenate([[0.2, -0.05, 0.3], to_rot6d(tool_down(0.3)), [1.0]])[None]
        solved = bool(world.step(action, [0]).success[0])
        if solved:
            break
    assert solved


# ---- the judge -------------------------------------------------------------------------------------------


def hold(world, row, gripper=1.0):
    stage = world._stages[row]
    return np.concatenate([stage.tcp - stage.base, to_rot6d(stage.rotation), [gripper]])[None]


def shift(stage, k, by=0.0, lean=0.0):
    """Move obstacle k aside (m) and lean it about its x axis (rad)."""
    a = stage._qpos[k]
    stage.data.qpos[a + 1] += by
    stage.data.qpos[a + 3 : a + 7] = math.cos(lean / 2), math.sin(lean / 2), 0, 0
    stage.refresh()


def finished(world, index):
    """A row in which the target lies where it is to, as if it had been lifted there."""
    k = next(key(i, "clear") for i in range(index, 50) if sample_course_task(key(i, "clear")).relation != "in")
    world.reset([k], [1])
    stage, judge = world._stages[1], world._rows[1].judge
    poses = [(t.x, t.y, t.yaw) for t in judge.scene.toys.toys]
    poses[judge.scene.target] = (*judge.scene.goal()[:2], 0.0)
    stage.set(world._rows[1].joints, 1.0, poses)
    judge.lifted, judge.choice, judge.choice_right = True, judge.scene.target, True
    return stage, judge


def test_success_allows_a_nudge_and_nothing_more(world):
    for by, good in ((0.0, True), (0.006, True), (0.016, False)):
        stage, _ = finished(world, 0)
        shift(stage, 0, by)
        outcome = [world.step(hold(world, 1), [1]) for _ in range(6)][-1]
        facts = outcome.facts[0]
        assert bool(outcome.success[0]) is good
        assert facts["displacement"] == pytest.approx(by, abs=0.002)
        assert facts["hit"] is (by > MOVED) and not facts["touched"]
        assert facts["why"] == ("" if good else "moved an obstacle")
    # What was moved and is put back was moved.
    shift(stage, 0, -0.016)
    assert not [world.step(hold(world, 1), [1]) for _ in range(6)][-1].success[0]


def test_what_leans_was_hit(world):
    stage, _ = finished(world, 0)
    shift(stage, 0, 0.0, 0.3)
    facts = world.step(hold(world, 1), [1]).facts[0]
    assert facts["tilt"] > 10 and facts["hit"]


def begin(world, one, index=0):
    """Row 1 with this obstacle instead of its own, the toys as they lie; its stage and judge."""
    k = key(index, "clear")
    scene = CourseScene(**{**vars(sample_course_task(k)), "obstacles": (one,)})
    world.reset([k], [1])
    row, stage = world._rows[1], world._stages[1]
    row.scene, row.judge = scene, type(row.judge)(scene)
    stage.dress(scene)
    stage.set(row.joints, 1.0, [(t.x, t.y, t.yaw) for t in scene.toys.toys])
    return stage, row.judge


def test_a_touch_is_seen_and_told_from_being_moved(world):
    """The arm goes down upon a wide block: it touches and hardly moves it."""
    x, y = -0.02, 0.0
    stage, _ = begin(world, Obstacle("block", x, y, 0.0, (0.06, 0.03), 0.09))
    world._rows[1].joints = inverse(np.array([x, y, 0.12]) - stage.base, tool_down(0.0), np.zeros(6)).joints
    stage.set(world._rows[1].joints, 1.0, [(0.12, 0.1 - 0.09 * k, 0.0) for k in range(stage.count)])
    down = np.concatenate([np.array([x, y, 0.097]) - stage.base, to_rot6d(tool_down(0.0)), [0.0]])[None]
    facts = [world.step(down, [1]).facts[0] for _ in range(12)]
    assert facts[-1]["touched_by"] == ["arm"] and facts[-1]["hit"] and facts[-1]["clearance"] == 0.0
    assert facts[-1]["displacement"] < MOVED
    assert not facts[0]["touched"] and facts[0]["clearance"] > 0.002
    far = [f["clearance"] for f in facts]
    assert far == sorted(far, reverse=True)


def test_the_toy_in_the_hand_counts_as_part_of_it(world):
    """With the target in the hand, a post is put beside the toy, where the fingers are not."""
    stage, judge = begin(world, Obstacle("block", 0.18, 0.1, 0.0, (0.012, 0.012), 0.11), 1)
    while judge.step != "put" or stage.tcp[2] < 0.09:
        world.step(world.expert([1]), [1])
    c, s = math.cos(stage.yaw), math.sin(stage.yaw)  # across the closing direction
    held, a = stage.positions[judge.scene.target].tolist(), stage._qpos[0]
    if (held[0] - stage.tcp[0]) * c + (held[1] - stage.tcp[1]) * s < 0:  # on the side to which the toy sticks out
        c, s = -c, -s

    def beside(away):
        stage.data.qpos[a : a + 7] = held[0] + away * c, held[1] + away * s, 0.055, 1, 0, 0, 0
        stage.refresh()
        return stage.nearer(FAR, True), stage.nearer(FAR, False)

    full, empty = beside(0.06)
    assert 0 < full < empty - 0.01
    beside(0.03)
    still = np.concatenate([stage.tcp - stage.base, to_rot6d(tool_down(stage.yaw)), [0.0]])[None]
    assert world.step(still, [1]).facts[0]["touched_by"] == ["toy"]


def test_clearance_is_what_the_simulator_measures(world):
    k, checked = key(2), 0
    world.reset([k], [0])
    stage, scratch = world._stages[0], np.zeros(6)
    for step in range(60):
        world.step(world.expert([0]), [0])
        if step % 4:
            continue
        found, m, d = [], stage.model, stage.data
        for g in stage.empty.ids:
            for o in stage.standing.ids:
                far = mujoco.mj_geomDistance(m, d, int(g), int(o), 1.0, scratch)
                if far > 0:  # else it may be wrong
                    found.append(far)
        if len(found) == len(stage.empty.ids) * len(stage.standing.ids):
            assert stage.nearer(1.0, False) == pytest.approx(min(found), abs=2e-5)
            checked += 1
    assert checked > 5


# ---- contracts of a world ----------------------------------------------------------------------------------


def test_same_key_same_episode_in_any_row_after_any_other(world):
    with DeskWorld(rows=1) as alone:
        want = trace(alone, 0, key(7))
        placing = Key("test", "spatial_placing/R", 5)
        usual = trace(alone, 0, placing)
    drive(world, 2, key(8, "near"))  # other shapes in the same slots
    assert trace(world, 2, key(7)) == want
    assert trace(world, 2, key(9)) != want
    assert trace(world, 2, placing) == usual
    assert trace(world, 2, key(7)) == want


@pytest.mark.parametrize("at", [10, 36])
def test_snapshots_go_on_exactly_elsewhere(world, at):
    k = key(2)
    world.reset([k, key(4, "near")], [0, 1])
    careless(world, 0)  # so that something is knocked over
    for _ in range(at):
        world.step(world.expert([0]), [0])
    world.disturb([0], np.full((1, 6), 0.01))
    (snap,) = world.snapshot([0])
    for _ in range(5):
        world.step(world.expert([1]), [1])
    world.restore([0, 1], [snap, snap])

    def go_on(row):
        out = []
        for _ in range(30):
            outcome = world.step(world.expert([row]), [row])
            seen = world.observe([row])
            facts = world.geometry([row])[0]
            out.append((outcome.facts, world.reasoning(row), facts["obstacles"].tobytes(), seen.state.tobytes(),
                        *(x.tobytes() for x in seen.images.values())))  # fmt: skip
        return out, world.snapshot([row])[0]

    assert go_on(0) == go_on(1)


def test_what_can_be_perturbed_and_said_otherwise():
    with DeskWorld(1) as world:
        clean = worded(world, key(0))
        world.perturb = Perturbation(start=3, language=4, noise=3)
        outcome, _ = drive(world, 0, key(0))
        assert outcome.success[0] and not outcome.facts[0]["hit"]
        other = world.observe([0])
        assert other.text != clean.text and not np.array_equal(other.images["front"], clean.images["front"])
        world.perturb = Perturbation(layout=1)
        with pytest.raises(BadData, match="layout"):
            world.reset([key(0)], [0])


@pytest.mark.parametrize("axis", ["camera", "light", "background"])
def test_looks_change_pixels_and_nothing_else(world, axis):
    k = key(3)

    def look(level):
        world.perturb = Perturbation(**{axis: level})
        world.reset([k], [0])
        found = world._rows[0].scene.to_json(), world._stages[0].get_state(), world.observe([0]).images
        world.step(world.expert([0]), [0])
        return *found, world._stages[0].get_state()

    clean = look(0)
    for level in (3, 0):
        scene, state, images, later = look(level)
        assert scene == clean[0] and np.array_equal(state, clean[1]) and np.array_equal(later, clean[3])
        for role, x in images.items():
            assert np.array_equal(x, clean[2][role]) == (level == 0)
    world.perturb = Perturbation()


def test_no_camera_loses_an_obstacle_or_a_toy_behind_one(world):
    """Who sees to toys alone would hide some."""
    lost = 0
    for i in range(24):
        k, level = key(i, LEVELS[i % 3]), 3 + i % 3
        world.perturb = Perturbation(camera=level)
        world.reset([k], [0])
        scene, stage = world._rows[0].scene, world._stages[0]
        pixels = world.project(np.concatenate([corners(box) for box in scene.boxes]), "front", [0])[0]
        assert pixels.min() > -0.01 and pixels.max() < 128.01
        assert not hidden(circles(scene), scene.boxes, stage.model.cam_pos[stage.ids.cameras["front"]])
        at, _ = viewpoint(keys_of(k, "camera", level), level, toys_to_be_seen())
        lost += hidden(circles(scene), scene.boxes, at)
    assert lost > 0
    world.perturb = Perturbation()


def test_what_looks_otherwise_is_done_as_before_and_goes_on_from_a_snapshot(world):
    world.perturb = Perturbation(camera=5, start=5, language=5, light=5, background=5, noise=5)
    outcome, _ = drive(world, 0, key(5))
    assert outcome.success[0] and not outcome.facts[0]["hit"]
    world.reset([key(6)], [0])
    for _ in range(10):
        world.step(world.expert([0]), [0])
    (snap,) = world.snapshot([0])
    with DeskWorld(1) as other:
        other.reset([key(7)], [0])
        other.restore([0], [snap])
        assert other.snapshot([0]) == [snap]
        for _ in range(3):
            a, b = (one.observe([0]) for one in (world, other))
            assert all(np.array_equal(x, b.images[role]) for role, x in a.images.items())
            assert a.state.tobytes() == b.state.tobytes() and a.text == b.text
            for one in (world, other):
                one.step(one.expert([0]), [0])
        assert other.snapshot([0]) == world.snapshot([0]) != [snap]
    world.perturb = Perturbation()


@pytest.mark.parametrize("level", [1, 5])
def test_a_perturbed_start_touches_nothing(world, level):
    world.perturb = Perturbation(start=level)
    for i in range(12):
        k = key(i, ("near", "across")[i % 2])
        world.reset([k], [0])
        row, stage = world._rows[0], world._stages[0]
        assert free_start(row.scene, row.joints)
        assert stage.nearer(0.1, False) > 0.015
    world.perturb = Perturbation()


def test_a_start_in_an_obstacle_is_refused():
    scene = sample_course_task(key(0))
    at = np.array([HOME[0] + 0.02, HOME[1], 0.15]) - ARM_POS
    joints = inverse(at, tool_down(0.0), np.zeros(6)).joints
    assert free_start(scene, joints)
    there = Obstacle("post", HOME[0] + 0.1, HOME[1], 0.0, (0.012, 0.012), 0.25)
    assert not free_start(CourseScene(**{**vars(scene), "obstacles": (there,)}), joints)


def test_demonstrations_are_recorded():
    done = {}
    with DeskWorld(1) as world:
        demonstrate(world, [(0, key(1, "near"))], done.__setitem__, noise=Noise(share=0.0), rows=1, labels=gaze)
    episode = done[0]
    assert episode.success and episode.key == key(1, "near")
    assert episode.images["front"].shape[1:] == (128, 128, 3) and len(episode.state) == len(episode.action)
    assert {name: x.shape[1] for name, x in episode.labels.items()} == GAZE
    assert np.isfinite(episode.action).all() and episode.action.shape[1] == SPEC.action_size


def test_shapes_are_what_distances_are_between():
    stage = CourseStage()
    shapes = Shapes.of(stage.model, stage._arm)
    assert len(shapes.ids) == 7 and (shapes.radii > 0).sum() == 3
    assert (shapes.halves[shapes.radii > 0][:, :2] == 0).all()
