"""What cannot be done is left alone: an expert that refuses, a judge that wants it left alone and the hand at home."""

import numpy as np
import pytest

from mindhand.core.keys import Key
from mindhand.data.lerobot_read import LeRobotReader
from mindhand.data.lerobot_write import LeRobotWriter
from mindhand.data.record import GAZE, Noise, gaze, record_demonstrations
from mindhand.worlds.absent import sample_maths_task, sample_placing_task
from mindhand.worlds.desk.controls import Wanderer, insist, mislead, nearest_order
from mindhand.worlds.desk.families import FAMILIES, IMPOSSIBLE
from mindhand.worlds.desk.kinematics import to_rot6d, tool_down
from mindhand.worlds.desk.placing_controls import nearest
from mindhand.worlds.desk.refusal import NEAR, STAYS
from mindhand.worlds.desk.spec import HOME, PLACING_LIMIT, REFUSAL_LIMIT, SHUT
from mindhand.worlds.desk.world import SPEC, DeskWorld
from mindhand.worlds.perturb import Perturbation
from mindhand.worlds.placing import read_placing
from mindhand.worlds.scene import REFUSAL, read_reasoning
from mindhand.worlds.things import FIELD

from .driving import drive
from .test_desk import trace

TASKS = (
    "maths_matching/R/absent",
    "maths_matching/K-dev/2/absent",
    "spatial_placing/R/absent-target",
    "spatial_placing/K-dev/absent-reference",
)
EACH = pytest.mark.parametrize("task", TASKS)


@pytest.fixture(scope="module")
def world():
    with DeskWorld(rows=2) as made:
        yield made


def key(index, task):
    return Key("test", task, index)


def sample(k):
    return (sample_maths_task if k.task.startswith("maths") else sample_placing_task)(k)


def pose(world, row, at=None, gripper=1.0):
    """An action that holds the tool where it is or, pointing down, at (x, y, z) of the table's frame."""
    state = world.observe([row], ()).state[0, 0]
    if at is None:
        return state[None]
    return np.concatenate([np.array(at) - [-0.41, 0, 0], to_rot6d(tool_down(0.0)), [gripper]])[None]


def play(world, row, act, steps=REFUSAL_LIMIT):
    """So many control steps; their outcomes."""
    return [world.step(act(step), [row]) for step in range(steps)]


@EACH
def test_the_expert_refuses_and_says_so(world, task):
    for i in range(3):
        k = key(i, task)
        world.reset([k], [0])
        assert world.scene(0) == sample(k)
        assert world.observe([0], ()).text["instruction"] == (sample(k).instruction,)
        thought = world.reasoning(0)
        said = read_reasoning(thought) or read_placing(thought)
        assert said["step"] == REFUSAL
        outcomes = play(world, 0, lambda _: world.expert([0]))
        # Time is up only once, and until then it is neither a success nor decided.
        assert not any(o.done[0] or o.success[0] or o.reward[0] for o in outcomes[:-1])
        last, facts = outcomes[-1], outcomes[-1].facts[0]
        assert last.success[0] and last.ended[0] and not last.truncated[0] and last.reward[0] == 1
        assert facts["choice"] == facts["closed"] == facts["moved"] == facts["approached"] == -1
        assert facts["choice_right"] is True and facts["why"] == "" and facts["home"] >= STAYS
        assert facts["steps"] == REFUSAL_LIMIT
        assert world.reasoning(0) == thought  # nothing has changed
        (geometry,) = world.geometry([0])
        assert geometry["target"] == -1 and np.isnan(geometry["object"]).all() and np.isnan(geometry["goal"]).all()
        assert world.target(0) is None and world.goal(0) is None
        assert np.linalg.norm(geometry["tcp"] - HOME) < 0.005


@EACH
def test_facts_are_those_of_the_family_and_what_a_refusal_needs(world, task):
    family, k = task.split("/")[0], key(0, task)
    usual = set(FAMILIES[family].judge(sample(key(0, f"{family}/R"))).facts())
    assert set(IMPOSSIBLE[family].judge(sample(k)).facts()) == usual | {"home", "why"}


@EACH
def test_whoever_misses_nothing_takes_what_is_there_and_fails(world, task):
    for i in range(3):
        k = key(i, task)
        world.reset([k], [0])
        scene = sample(k)
        if task.startswith("maths"):
            insist(world, 0, wanted := nearest_order(scene))
        else:
            mislead(world, 0, belief := nearest(scene))
            wanted = (belief.target,)
            assert belief.missing is None
        outcomes = play(world, 0, lambda _: world.expert([0]), 2 * REFUSAL_LIMIT)
        assert not any(o.success[0] or o.ended[0] for o in outcomes)
        assert [bool(o.truncated[0]) for o in outcomes] == [s + 1 >= REFUSAL_LIMIT for s in range(2 * REFUSAL_LIMIT)]
        facts = outcomes[REFUSAL_LIMIT - 1].facts[0]
        assert facts["choice"] == facts["closed"] == wanted[0], "the control did not take what it should"
        assert facts["choice_right"] is False and facts["why"].startswith("took ") and facts["why"].endswith("none")


@EACH
def test_a_wandering_arm_does_not_pass_for_one_that_refuses(world, task):
    k = key(0, task)
    driver = Wanderer(k) if task.startswith("maths") else Wanderer(k, FIELD)
    world.reset([k], [0])
    last = play(world, 0, lambda _: driver.act()[None])[-1]
    assert last.facts[0]["choice"] >= 0, "the control never touched a thing"
    assert last.truncated[0] and not last.success[0]


@EACH
def test_the_hand_is_at_home_when_the_time_is_up(world, task):
    def after(*plan):
        """(steps, where) in turn; at home before and at the end of the time where the plan says nothing."""
        world.reset([key(1, task)], [1])
        out = [o for steps, at in plan for o in play(world, 1, lambda _, at=at: pose(world, 1, at), steps)]
        assert len(out) == REFUSAL_LIMIT and out[-1].facts[0]["choice"] == -1
        return bool(out[-1].success[0]), out[-1].facts[0]["why"]

    over = (0.0, 0.04, 0.20)  # high above the things
    assert after((REFUSAL_LIMIT, HOME)) == (True, "")
    assert after((REFUSAL_LIMIT, over)) == (False, "not at home")  # stopped before it took anything
    assert after((60, over), (40, HOME)) == (True, "")
    assert after((80, HOME), (20, over)) == (False, "not at home")
    assert after((95, over), (5, HOME)) == (False, "not at home")  # not yet, and it does not only pass by
    beside = (HOME[0], HOME[1], HOME[2] + NEAR + 0.03)
    assert after((REFUSAL_LIMIT, beside)) == (False, "not at home")


def test_what_is_pushed_is_not_left_alone(world):
    k = key(2, TASKS[0])
    tile = sample(k).tiles[0]
    for by, want in ((0.008, True), (0.014, False)):
        world.reset([k], [1])
        stage, row = world._stages[1], world._rows[1]
        poses = [(t.x, t.y, t.yaw) for t in sample(k).tiles]
        poses[0] = (tile.x + by, tile.y, tile.yaw)
        stage.set(row.joints, 1.0, poses)
        last = play(world, 1, lambda _: world.expert([1]))[-1]
        assert bool(last.success[0]) is want
        assert last.facts[0]["moved"] == (-1 if want else 0)


def test_an_arm_that_hangs_fails_when_disturbed_and_in_the_possible_twin(world):
    world.perturb = Perturbation(start=5)
    hung, refused = [], []
    for i in range(4):
        for out, hangs in ((hung, True), (refused, False)):
            world.reset([key(i, TASKS[2])], [0])
            hold = pose(world, 0) if hangs else None
            last = play(world, 0, lambda _, hold=hold: world.expert([0]) if hold is None else hold)[-1]
            out.append(bool(last.success[0]))
    world.perturb = Perturbation()
    assert all(refused) and sum(hung) <= 1
    world.reset([key(0, "spatial_placing/R")], [0])
    hold = pose(world, 0)
    assert not any(o.success[0] for o in play(world, 0, lambda _: hold, PLACING_LIMIT))


@EACH
def test_the_expert_goes_home_from_wherever_it_is_left(world, task):
    """Disturbed by noise, and by another driver who goes low and shuts the hand on nothing."""
    k = key(3, task)
    world.reset([k], [0])
    noise = Noise(share=1.0).steps(k)
    phases = []
    for step in range(REFUSAL_LIMIT):
        action = world.expert([0])
        phase = world._rows[0].expert.plan.phase
        phases += [phase] if phases[-1:] != [phase] else []
        if 20 <= step < 45:
            action = pose(world, 0, (-0.19, -0.19, 0.05), SHUT - 0.3)
        world.disturb([0], noise(step)[None])
        outcome = world.step(action, [0])
    assert outcome.success[0], outcome.facts[0]["why"]
    assert phases[-4:] == ["open", "retreat", "home", "rest"]
    assert world.geometry([0])[0]["gripper"] > SHUT


@EACH
def test_snapshots_and_rows_go_on_exactly(world, task):
    with DeskWorld(rows=1) as alone:
        want = trace(alone, 0, key(5, task))
    drive(world, 1, key(5, "spatial_placing/R"))
    assert trace(world, 1, key(5, task)) == want
    world.reset([key(6, task)], [0])
    play(world, 0, lambda _: world.expert([0]), 60)
    (snap,) = world.snapshot([0])
    with DeskWorld(rows=1) as elsewhere:
        elsewhere.restore([0], [snap])
        for _ in range(40):
            one, other = world.step(world.expert([0]), [0]), elsewhere.step(elsewhere.expert([0]), [0])
            assert one.facts == other.facts and one.done == other.done
        assert world.snapshot([0]) == elsewhere.snapshot([0]) and one.success[0]
        assert world.reasoning(0) == elsewhere.reasoning(0)


def test_perturbed_it_is_refused_too():
    every = Perturbation(layout=3, camera=2, start=3, language=4, light=2, background=3, noise=2)
    for task, perturb in ((TASKS[0], every), (TASKS[3], Perturbation(start=4, language=3, noise=2))):
        with DeskWorld(1, perturb) as world:
            world.reset([key(0, task)], [0])
            seen, words = world.observe([0]), world.wordings(0)
            assert seen.text["instruction"][0] != sample(key(0, task)).instruction
            assert len({*words.values(), seen.text["instruction"][0]}) == 3
            assert play(world, 0, lambda _, world=world: world.expert([0]))[-1].success[0]


def test_demonstrations_hold_the_refusal_in_every_frame(tmp_path):
    keys = [key(0, TASKS[0]), key(0, TASKS[2])]
    with (
        DeskWorld(2) as world,
        LeRobotWriter(tmp_path / "d", SPEC, pictures="model", labels=GAZE, command="test") as writer,
    ):
        assert record_demonstrations(world, keys, writer, noise=Noise(share=1.0), rows=2, labels=gaze) == 2
    reader = LeRobotReader(tmp_path / "d")
    assert [e.key for e in reader.episodes] == keys
    for number, k in enumerate(keys):
        episode = reader.episode(number)
        assert episode.success and len(episode) == REFUSAL_LIMIT and episode.instruction == sample(k).instruction
        (thought,) = set(episode.reasoning)
        assert (read_reasoning(thought) or read_placing(thought))["step"] == REFUSAL
        assert all(np.isnan(x).all() for x in episode.labels.values())  # nothing is looked at
        assert np.abs(episode.action[-1, :3] - (np.array(HOME) - [-0.41, 0, 0])).max() < 1e-3
