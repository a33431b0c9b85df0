"""Toys are put where the instruction says: an expert that does, an honest judge, controls that fail."""

import numpy as np
import pytest

from mindhand.core.keys import Key, Keys
from mindhand.worlds.desk import notices
from mindhand.worlds.desk.controls import Wanderer, mislead
from mindhand.worlds.desk.driver import PHASES
from mindhand.worlds.desk.kinematics import to_rot6d, tool_down
from mindhand.worlds.desk.placing_controls import MISTAKES, mistaken
from mindhand.worlds.desk.placing_judge import CALM
from mindhand.worlds.desk.show import render_toys
from mindhand.worlds.desk.spec import PLACING_LIMIT
from mindhand.worlds.desk.world import DeskWorld
from mindhand.worlds.perturb import Perturbation
from mindhand.worlds.placing import read_placing, sample_placing_task
from mindhand.worlds.things import FIELD

from .driving import drive, worded
from .test_placing import SCENES, key


@pytest.fixture(scope="module")
def world():
    with DeskWorld(rows=3) as made:
        yield made


@pytest.mark.parametrize("task", ["R", "K-dev/object", "K-dev/relation", "K-test", "X"])
def test_the_expert_solves_it_and_says_so(world, task):
    for how in sorted({s.relation for s in SCENES[task]}):
        k = key(next(i for i, s in enumerate(SCENES[task]) if s.relation == how), task)
        outcome, steps = drive(world, 0, k)
        facts = outcome.facts[0]
        assert outcome.success[0], facts["why"]
        assert outcome.reward[0] == 1
        assert facts["choice_right"] and facts["lifted"] and facts["released"] and facts["why"] == ""
        assert facts["choice"] == sample_placing_task(k).target
        assert facts["toys"] == len(sample_placing_task(k).choices())
        assert steps < PLACING_LIMIT
        assert world.placed(0) == 1
        now = world.scene(0)
        assert now.relation in now.toys.relation(now.target, now.reference)


def test_reasoning_and_geometry_follow_the_sub_steps(world):
    k = key(next(i for i, s in enumerate(SCENES["R"]) if s.relation == "left of"))
    scene = sample_placing_task(k)
    world.reset([k], [0])
    assert world.observe([0], ()).text["instruction"] == (scene.instruction,)
    steps, phases = [], []
    while True:
        said = read_placing(world.reasoning(0))
        steps += [said["step"]] if steps[-1:] != [said["step"]] else []
        facts = world.geometry([0])[0]
        index, pose = world.target(0)
        assert facts["target"] == index == scene.target
        assert np.array_equal(facts["object"], pose)
        held = np.abs(pose[:3] - facts["tcp"]).max() < 0.02
        if said["step"] == "put":
            assert held
            assert np.allclose(facts["goal"], (*world.scene(0).goal(), 0.0))
        else:
            assert np.array_equal(facts["goal"], pose)
        action = world.expert([0])
        phase = world._rows[0].expert.plan.phase
        phases += [phase] if phases[-1:] != [phase] else []
        if world.step(action, [0]).done[0]:
            break
    assert steps == ["take", "put"] or steps == ["take", "put", "done"]
    assert read_placing(world.reasoning(0))["step"] == "done"
    assert world.target(0) is None and world.goal(0) is None
    assert tuple(phases) == PHASES[: len(phases)]


def test_pictures_show_toys_where_the_world_says(world):
    world.reset([key(4)], [0])
    before = world.observe([0]).images["front"][0, 0].astype(int)
    scene = sample_placing_task(key(4))
    at = [(t.x, t.y, t.kind.height / 2) for t in scene.toys.toys]
    for u, v in world.project(np.array(at), "front", [0])[0]:
        assert 0 <= u < 128 and 0 <= v < 128
        patch = before[int(v) - 2 : int(v) + 3, int(u) - 2 : int(u) + 3].reshape(-1, 3)
        assert np.abs(patch - before[2, 64]).sum(1).max() > 40  # not the bare table


def test_boxes_are_where_the_toys_are_seen(world):
    world.reset([key(4)], [0])
    judge, stage = world._rows[0].judge, world._stages[0]
    shown = render_toys(judge.scene.toys, notices.writing(judge.scene.writing)[0])
    assert np.abs(stage.boxes("front", (128, 128)) - shown.boxes).max() < 0.02
    here = world.observe([0], ["front"]).images["front"][0, 0].astype(int)
    assert np.abs(here - shown.image).max() <= 1  # the picture that pretraining has of the same toys
    read = read_placing(judge.reasoning_with_boxes(stage))
    for k, box in ((judge.scene.target, read["target_box"]), (judge.scene.reference, read["reference_box"])):
        assert np.abs(np.array(box) - np.floor(shown.boxes[k] / 4)).max() <= 1


def belief_of(task, what, count):
    """So many keys of a task whose scenes allow this mistake, with the mistaken scenes."""
    out = []
    for i, scene in enumerate(SCENES[task]):
        if len(out) < count and (belief := mistaken(scene, what, Keys.of([key(i, task)]))) is not None:
            out.append((key(i, task), belief))
    assert len(out) == count
    return out


@pytest.mark.parametrize("what", MISTAKES)
def test_one_mistake_is_no_success(world, what):
    for k, belief in [*belief_of("R", what, 2), *belief_of("K-dev", what, 1)]:
        world.reset([k], [0])
        driver, solved = mislead(world, 0, belief), False
        for _ in range(PLACING_LIMIT):
            outcome = world.step(world.expert([0]), [0])
            solved |= bool(outcome.success[0])
            if driver.belief.success and driver.plan.phase == "rest":
                break
        assert driver.belief.success, "the control did not do what it should"
        assert not solved
        facts = outcome.facts[0]
        assert facts["choice_right"] is (what != "target")
        assert facts["why"]


def test_a_wandering_arm_does_not_solve_it(world):
    for i in range(2):
        driver = Wanderer(key(i), FIELD)
        world.reset([key(i)], [0])
        out = [world.step(driver.act()[None], [0]) for _ in range(PLACING_LIMIT)]
        assert not any(o.success[0] for o in out)
        assert out[-1].facts[0]["choice"] >= 0, "the control never touched a toy"
        assert out[-1].truncated[0] and not out[-2].truncated[0]


def lie(world, row, poses, lifted=True, steps=CALM + 2):
    """Lay the toys of a row somewhere, and wait; the last outcome."""
    stage, judge = world._stages[row], world._rows[row].judge
    stage.set(world._rows[row].joints, 1.0, poses)
    judge.lifted, judge.choice, judge.choice_right = lifted, judge.scene.target, True
    hold = np.concatenate([stage.tcp - stage.base, to_rot6d(stage.rotation), [1.0]])[None]
    return [world.step(hold, [row]) for _ in range(steps)][-1]


def test_the_judge_asks_for_every_part(world):
    i = next(i for i, s in enumerate(SCENES["R"]) if s.relation == "right of" and len(s.toys.toys) >= 4)
    scene = SCENES["R"][i]
    x, y, _ = scene.goal()
    good = [(t.x, t.y, t.yaw) for t in scene.toys.toys]
    good[scene.target] = (x, y, 0.0)
    third = next(k for k in range(len(good)) if k not in (scene.target, scene.reference))

    def after(changes, **more):
        world.reset([key(i)], [1])
        poses = [changes.get(k, p) for k, p in enumerate(good)]
        outcome = lie(world, 1, poses, **more)
        return bool(outcome.success[0]), outcome.facts[0]["why"]

    def shifted(k, by):
        return {k: (good[k][0], good[k][1] + by, good[k][2])}

    assert after({}) == (True, "")
    assert after({}, lifted=False)[1].startswith("did not lift")
    assert after({}, steps=1) == (False, "not at rest")
    assert after(shifted(scene.reference, 0.015))[0]
    assert after(shifted(scene.reference, 0.025))[1].endswith("the reference")
    assert after(shifted(third, 0.025))[0]
    assert after(shifted(third, 0.035))[1] == "moved a toy that was not asked for"
    assert after({scene.target: (*good[scene.target], 0.3)}, steps=2)[1].startswith("not ")  # it falls
    was = scene.toys.toys[scene.target]
    assert after({scene.target: (was.x, was.y, was.yaw)})[1].startswith("not right of")


@pytest.mark.parametrize(("task", "how"), [("R", "in"), ("K-dev/relation", "on"), ("K-dev/object", "in")])
def test_in_and_on_are_within_the_container(world, task, how):
    i = next(i for i, s in enumerate(SCENES[task]) if s.relation == how)
    scene = SCENES[task][i]
    x, y, z = scene.goal()
    container = scene.toys.toys[scene.reference].kind
    poses = [(t.x, t.y, t.yaw) for t in scene.toys.toys]

    def after(dx, height):
        world.reset([key(i, task)], [1])
        there = {scene.target: (x + dx, y, 0.0, height)}
        outcome = lie(world, 1, [there.get(k, p) for k, p in enumerate(poses)], steps=20)
        return bool(outcome.success[0])

    assert after(0.0, z + 0.002)
    assert world.scene(1).toys.toys[scene.target].held_by == scene.reference
    assert not after(container.reach + scene.toys.toys[scene.target].kind.reach + 0.02, 0.001)


def test_the_expert_recovers_from_noise_and_from_another_driver(world):
    k = key(3)
    world.reset([k], [0])
    draw = Keys.of([k]).normal(400, 6)[0]
    noise, solved = np.zeros(6), False
    for step in range(PLACING_LIMIT + 50):
        noise = 0.9 * noise + 0.012 * np.sqrt(1 - 0.81) * draw[step]
        world.disturb([0], noise[None])
        action = world.expert([0])
        if 12 <= step < 24 or 44 <= step < 54:  # somebody else drives, to a corner and with the gripper half shut
            action = np.concatenate([[0.45, -0.2, 0.3], to_rot6d(tool_down(0.5)), [0.5]])[None]
        solved = bool(world.step(action, [0]).success[0])
        if solved:
            break
    assert solved


def test_families_take_turns_in_a_row(world):
    maths = Key("test", "maths_matching/R", 2)
    with DeskWorld(1) as alone:
        alone.reset([maths], [0])
        want = alone.observe([0])
    drive(world, 2, key(5))
    world.reset([maths], [2])
    now = world.observe([2])
    assert now.text == want.text
    assert all(np.array_equal(now.images[c], want.images[c]) for c in want.images)


def test_what_can_be_perturbed_and_said_otherwise():
    with DeskWorld(1) as world:
        clean = worded(world, key(0))
        world.perturb = Perturbation(layout=2, start=3, language=4, noise=3)
        world.reset([key(0)], [0])
        other = world.observe([0])
        assert other.text != clean.text
        assert not np.array_equal(other.images["front"], clean.images["front"])
        assert np.abs(other.state - clean.state).max() > 0.01
        outcome, _ = drive(world, 0, key(0))
        assert outcome.success[0]
