"""Where obstacles are: in the geometry that planners believe, in pictures and senses, measured exactly."""

import math

import numpy as np
import pytest

from mindhand.worlds import course_hand, course_sight
from mindhand.worlds.course import BOARD, HOME, LEVELS, CourseScene, Obstacle, legs, sample_course_task
from mindhand.worlds.course_hand import Hand, gaps, opened
from mindhand.worlds.desk import build, kinematics, spec
from mindhand.worlds.desk.canvas import UNSEEN, Canvas
from mindhand.worlds.desk.course_stage import CourseStage
from mindhand.worlds.desk.gap import box_gaps
from mindhand.worlds.desk.kinematics import inverse, tool_down
from mindhand.worlds.desk.sense_views import IDS, look, unproject
from mindhand.worlds.desk.senses import Senses
from mindhand.worlds.desk.world import DeskWorld

from .test_course_desk import key, shift


@pytest.fixture(scope="module")
def world():
    with DeskWorld(rows=3) as made:
        yield made


# ---- geometry --------------------------------------------------------------------------------------------


def apart(a, b, steps=2000):
    """The distance of two boxes, by accelerated projected descent."""
    (p, r, f), (q, s, g) = a, b
    both, at, high = np.hstack([r, -s]), p - q, np.r_[f, g]
    z = y = np.zeros(6)
    t = 1.0
    for _ in range(steps):
        new = np.clip(y - both.T @ (at + both @ y) / 2, -high, high)
        grown = (1 + math.sqrt(1 + 4 * t * t)) / 2
        y, z, t = new + (t - 1) / grown * (new - z), new, grown
    return float(np.linalg.norm(at + both @ z))


def test_distances_of_boxes_are_exact():
    draw = np.random.default_rng(0)

    def box(k):
        turn = np.linalg.qr(draw.normal(size=(3, 3)))[0] if k % 3 else np.eye(3)
        half = draw.uniform(0.002, 0.1, 3) * (1, 1, k % 4 > 0) if k % 5 else np.array([0, 0, 0.08])
        return draw.uniform(-0.15, 0.15, 3), turn, half

    pairs = [(box(k), box(k + 1)) for k in range(60)]
    sides = [tuple(np.array(x) for x in zip(*(pair[n] for pair in pairs))) for n in (0, 1)]
    want, got = np.array([apart(*pair) for pair in pairs]), box_gaps(*sides)
    separate = want > 1e-3
    assert separate.sum() > 20
    assert np.abs(got - want)[separate].max() < 2e-5
    assert np.array_equal(box_gaps(*sides[::-1]).round(12), got.round(12))


def test_what_planners_believe_of_the_hand_is_safe_and_not_far_off():
    """Against the simulator's shapes, in many poses of a hand that points down."""
    stage, draw, short = CourseStage(), np.random.default_rng(1), []
    scene = sample_course_task(key(0, "clear"))
    for _ in range(150):
        one = Obstacle("post", *draw.uniform((-0.12, -0.12), (0.12, 0.1)), draw.uniform(0, 3),
                       tuple(draw.uniform(0.01, 0.05, 2)), draw.uniform(0.1, 0.27))  # fmt: skip
        stage.dress(CourseScene(**{**vars(scene), "obstacles": (one,)}))
        x, y = one.x + draw.uniform(-0.09, 0.09), one.y + draw.uniform(-0.09, 0.09)
        pose = np.array([[x, y, draw.uniform(0.01, 0.2), draw.uniform(-1.5, 1.5)]])
        found = inverse(pose[0, :3] - stage.base, tool_down(pose[0, 3]), np.zeros(6))
        if not found.exact:
            continue
        wide = draw.uniform(0, 1)
        stage.set(found.joints, wide, [(0.5 + 0.1 * k, 0.5, 0.0) for k in range(stage.count)])
        spread = opened(0.074 * wide + 0.002)
        believed, true = gaps(pose, spread, [one.box])[0, 0], stage.nearer(0.2, False)
        if true < course_hand.FAR:
            short.append(true - believed)
    assert len(short) > 60
    assert min(short) > -0.002 and np.mean(short) < 0.012 and max(short) < 0.035


def test_numbers_are_those_of_the_desk():
    assert (course_sight.EYE, course_sight.LOOK, course_sight.FOVY) == (
        build.FRONT_EYE,
        build.FRONT_LOOK,
        build.FRONT_FOVY,
    )
    assert HOME[:3] == spec.HOME
    arm = kinematics.SHOULDER_Z, math.hypot(*kinematics.ELBOW), sum(kinematics.FOREARM), kinematics.TOOL
    mine = course_hand.SHOULDER, course_hand.UPPER, course_hand.LOWER, course_hand.TOOL
    assert np.allclose(arm, mine, atol=1e-5)
    assert course_hand.ALONG[-1] == course_hand.TOOL
    back = build.BOARD_POS[1] + build.BOARD_HALF[1] * math.cos(build.BOARD_TILT)
    assert back + 0.01 < BOARD


def test_the_world_tells_where_obstacles_are(world):
    for level in LEVELS:
        world.reset([key(3, level)], [0])
        scene, facts = sample_course_task(key(3, level)), world.geometry([0])[0]
        want = [
            (o.x, o.y, o.height / 2, *o.half, o.height / 2, math.remainder(o.yaw, 2 * math.pi)) for o in scene.obstacles
        ]
        assert np.allclose(facts["obstacles"], want)
        for row, turn in zip(facts["obstacles"], facts["obstacle_turns"]):
            assert np.allclose(turn[:2, 0], (math.cos(row[6]), math.sin(row[6]))) and np.isclose(turn[2, 2], 1)
    stage = world._stages[0]
    shift(stage, 0, 0.0, math.pi / 2)
    assert abs(world.geometry([0])[0]["obstacle_turns"][0][2, 2]) < 1e-6


def test_hands_of_scenes_are_where_the_expert_goes(world):
    """What the sampler promises is about the way that is really taken."""
    for i in (0, 5):
        k = key(i, "clear")
        way = legs(sample_course_task(k))
        world.reset([k], [0])
        stage, lowest, seen = world._stages[0], None, []
        while True:
            outcome = world.step(world.expert([0]), [0])
            plan = world._rows[0].expert.plan
            if plan.phase == "close":
                lowest = stage.tcp
            if plan.phase == "carry":
                seen.append(stage.tcp)
            if outcome.done[0]:
                break
        assert np.abs(lowest - way.grasp[:3]).max() < 0.012
        assert np.abs(seen[0][:2] - way.carry[0][:2]).max() < 0.015
        assert np.abs(seen[-1][:2] - way.carry[1][:2]).max() < 0.02
        assert abs(seen[0][2] - way.carry[0][2]) < 0.035
        assert isinstance(way.full, Hand)


# ---- pictures and senses -----------------------------------------------------------------------------------


def test_obstacles_are_in_the_picture_as_high_as_the_arm_gets_and_hide_no_toy(world):
    canvas, shape = Canvas(128), (128, 128)
    stage = CourseStage()
    for level in LEVELS:
        for i in range(4):
            scene = sample_course_task(key(i, level))
            stage.dress(scene)
            joints = inverse(np.array(HOME[:3]) - stage.base, tool_down(0.0), np.zeros(6)).joints
            stage.set(joints, 1.0, [(t.x, t.y, t.yaw) for t in scene.toys.toys])
            for o in scene.obstacles:
                c, s = math.cos(o.yaw), math.sin(o.yaw)
                feet = [(o.x + c * a * o.half[0] - s * b * o.half[1], o.y + s * a * o.half[0] + c * b * o.half[1])
                        for a in (-1, 1) for b in (-1, 1)]  # fmt: skip
                at = stage.project(np.array([(*f, z) for f in feet for z in (0, min(0.15, o.height))]), "front", shape)
                assert (at >= 0).all() and (at <= 128).all()
            stage.paint(canvas, "front", shape)
            with_them = look(stage, canvas, "front", shape).labels
            stage.model.geom_group[stage.obstacle_geoms] = UNSEEN
            stage.paint(canvas, "front", shape)
            without = look(stage, canvas, "front", shape).labels
            for k in range(len(scene.toys.toys)):
                toy = IDS[f"toy {k}"]
                assert (with_them == toy).sum() > 0.45 * (without == toy).sum()
            for k in range(len(scene.obstacles)):
                assert (with_them == IDS[f"obstacle {k}"]).sum() > 50
                assert not (without == IDS[f"obstacle {k}"]).any()
    canvas.close()


def test_an_obstacle_that_was_another_one_is_drawn_whole():
    """Its middle is out of the wrist's picture and its side is in it; where it was drawn before, it was small."""
    small = Obstacle("block", 0.1, 0.1, 0.0, (0.005, 0.005), 0.01)
    wall = Obstacle("wall", 0.0, 0.02, 0.0, (0.1, 0.01), 0.11)
    scene, pictures = sample_course_task(key(0, "clear")), []
    canvas, used, fresh = Canvas(128), CourseStage(), CourseStage()
    for stage, obstacles in ((used, (small,)), (used, (wall,)), (fresh, (wall,))):
        stage.dress(CourseScene(**{**vars(scene), "obstacles": obstacles}))
        for x in (-0.14, -0.1, 0.1):
            joints = inverse(np.array([x, -0.06, 0.16]) - stage.base, tool_down(0.0), np.zeros(6)).joints
            stage.set(joints, 1.0, [(0.5, 0.5 + 0.1 * k, 0.0) for k in range(stage.count)])
            pictures.append(stage.paint(canvas, "wrist", (128, 128)))
    assert all(np.array_equal(a, b) for a, b in zip(pictures[3:6], pictures[6:]))
    assert not any(np.array_equal(a, b) for a, b in zip(pictures[:3], pictures[3:6]))
    canvas.close()


def test_depth_and_labels_know_obstacles():
    senses = Senses(depth=("front", "wrist"), segmentation=("front", "wrist"), points=64)
    with DeskWorld(1, senses=senses) as world:
        world.reset([key(6, "near")], [0])
        seen = world.observe([0]).extras
        scene, at = sample_course_task(key(6, "near")), None
        for k, o in enumerate(scene.obstacles):
            mine = seen["segmentation/front"][0, 0] == IDS[f"obstacle {k}"]
            at = unproject(seen["depth/front"][0, 0], seen["intrinsics/front"][0, 0], seen["extrinsics/front"][0, 0])[
                mine
            ]
            c, s = math.cos(o.yaw), math.sin(o.yaw)
            u, v = c * (at[:, 0] - o.x) + s * (at[:, 1] - o.y), c * (at[:, 1] - o.y) - s * (at[:, 0] - o.x)
            assert len(at) > 50 and np.abs(u).max() < o.half[0] + 1e-4 and np.abs(v).max() < o.half[1] + 1e-4
            assert at[:, 2].min() > -1e-4 and at[:, 2].max() < o.height + 1e-4
        assert seen["points"].shape == (1, 1, 64, 3)
