"""The expert of two arms: one after the other, each on its own side, from wherever somebody else left them."""

import math

import numpy as np
import pytest

from mindhand.core.keys import Keys
from mindhand.worlds.desk.body import VIPERX
from mindhand.worlds.desk.kinematics import to_rot6d, tool_down
from mindhand.worlds.desk.pair import Pair
from mindhand.worlds.desk.spec import LIMITS
from mindhand.worlds.desk.world import DeskWorld
from mindhand.worlds.grips import HIGHEST, in_reach
from mindhand.worlds.placing import sample_placing_task
from mindhand.worlds.scene import sample_task

from .test_two_arms import arms_touching, key, on_the_right, until


@pytest.fixture(scope="module")
def world():
    with DeskWorld(rows=1, arms=2) as made:
        yield made


def watch(world, k):
    """The expert's episode: last outcome, whose turn it was to close on something, contacts between the arms, and how
    far (m) the other arm was from home at most while one was at work."""
    world.reset([k], [0])
    closed, met, astray = [], 0, 0.0
    for _ in range(400):
        action = world.expert([0])
        pair, stage = world._rows[0].expert, world._stages[0]
        phase = pair.plan.phase
        if phase == "close" and (not closed or closed[-1] != pair.turn or pair.plan.t == 1):
            closed.append(pair.turn)
        if phase in ("approach", "descend", "close", "lift", "carry", "lower", "open"):
            other = stage.by(1 - pair.turn)
            astray = max(astray, math.dist(other.tcp, other.home))
        outcome = world.step(action, [0])
        met += arms_touching(stage)
        if outcome.done[0]:
            return outcome, list(dict.fromkeys(closed)), met, astray
    raise AssertionError("the episode has no end")


def sides(k):
    """Which arm is to take each of a scene's tiles, in order."""
    scene = sample_task(k)
    return [int(scene.tiles[i].x > 0) for i in scene.order()]


@pytest.mark.parametrize("want", [[0, 1], [1, 0], [1, 1]])
def test_each_tile_is_taken_by_the_arm_on_its_side(world, want):
    k = next(k for i in range(500) if sides(k := key(i, "maths_matching/R/2")) == want)
    outcome, closed, met, astray = watch(world, k)
    assert outcome.success[0] and outcome.facts[0]["choice_right"]
    assert closed == list(dict.fromkeys(want))
    assert met == 0
    assert astray < 0.07
    assert outcome.facts[0]["steps"] < 0.75 * LIMITS[2]


def find(want):
    """The first key of a placing scene whose target and goal (x, y) are as wanted."""
    for i in range(2000):
        scene = sample_placing_task(k := key(i, "spatial_placing/R"))
        toy = scene.toys.toys[scene.target]
        if want(toy.x, scene.goal()):
            return k
    raise AssertionError("no such scene")


def far_from_the_right(goal):
    return math.dist(goal[:2], VIPERX.mounts[1].base[:2]) > HIGHEST


def test_a_toy_is_put_by_the_arm_on_its_side_or_by_the_one_that_reaches_the_goal(world):
    near_left = find(lambda x, goal: x < -0.05)
    near_right = find(lambda x, goal: x > 0.05 and not far_from_the_right(goal))
    beyond = find(lambda x, goal: x > 0.01 and far_from_the_right(goal))
    for k, arm in ((near_left, 0), (near_right, 1), (beyond, 0)):
        scene = sample_placing_task(k)
        assert arm or in_reach(*scene.goal()[:2])
        outcome, closed, met, astray = watch(world, k)
        assert outcome.success[0], outcome.facts[0]["why"]
        assert closed == [arm] and met == 0 and astray < 0.07
        assert outcome.facts[0]["closed"] == scene.target


@pytest.mark.parametrize("task", ["maths_matching/R/2", "spatial_placing/R"])
def test_the_expert_recovers_from_noise_and_from_another_driver(world, task):
    k = key(3, task)
    world.reset([k], [0])
    draw = Keys.of([k]).normal(400, 12)[0]
    noise, solved = np.zeros(12), False
    for step in range(260):
        noise = 0.9 * noise + 0.012 * np.sqrt(1 - 0.81) * draw[step]
        world.disturb([0], noise[None])
        action = world.expert([0])
        if 12 <= step < 27 or 44 <= step < 54:  # somebody else drives both arms, to corners, one gripper half shut
            left = [0.45, -0.2, 0.2, *to_rot6d(tool_down(0.5)), 0.5]
            right = [0.22, -0.25, 0.3, *to_rot6d(tool_down(-0.4)), 1.0]
            action = np.array([[*left, *right]])
        world._rows[0].judge.limit = 260
        solved = bool(world.step(action, [0]).success[0])
        if solved:
            break
    assert solved


def test_who_holds_the_thing_goes_on_with_it(world):
    k = on_the_right()
    world.reset([k], [0])
    until(world, 0, "lower")  # over the tray, on the left side
    assert world.target(0)[1][0] < 0
    row = world._rows[0]
    row.expert = Pair(row.family.expert, Keys.of([k]))  # one that knows nothing of what has been done
    world.expert([0])
    assert row.expert.turn == 1 and row.expert.plan.phase == "carry"
    while not (outcome := world.step(world.expert([0]), [0])).done[0]:
        pass
    assert outcome.success[0]


def test_nobody_begins_before_the_other_is_home(world):
    k = on_the_right()
    world.reset([k], [0])
    row, stage = world._rows[0], world._stages[0]
    away = np.array([[0.45, 0.05, 0.2, *to_rot6d(tool_down(0.0)), 1.0, *world.expert([0])[0, 10:]]])
    for _ in range(25):
        world.step(away, [0])
    row.expert = Pair(row.family.expert, Keys.of([k]))
    while True:
        action = world.expert([0])
        left = stage.by(0)
        if row.expert.plan.phase == "approach":
            break
        assert (
            row.expert.turn == 1
            and np.abs(action[0, 10:13] - VIPERX.mounts[1].local(np.array(stage.by(1).home))).max() < 0.03
        )
        world.step(action, [0])
    assert math.dist(left.tcp, left.home) < 0.06
