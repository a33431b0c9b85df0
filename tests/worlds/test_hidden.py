"""Hidden state: an expert that remembers, one that cannot, a judge to whom a wrong touch is final, and no leak."""

import numpy as np
import pytest

from mindhand.core.errors import BadData
from mindhand.core.keys import Key, Keys
from mindhand.data.record import Noise, demonstrate
from mindhand.evaluate.protocol import HIDDEN
from mindhand.evaluate.protocol import keys as keys_of
from mindhand.worlds import hidden
from mindhand.worlds.declared import hidden_hash, scene_hash
from mindhand.worlds.desk.hidden_expert import STAYS, Forgetful
from mindhand.worlds.desk.kinematics import inverse, tool_down
from mindhand.worlds.desk.spec import HIDDEN_LIMIT, SPEC
from mindhand.worlds.desk.world import DeskWorld
from mindhand.worlds.hidden import CHANCE, FAMILY, GATE, KINDS, HiddenScene, sample_hidden_task
from mindhand.worlds.perturb import Perturbation

from .driving import drive, worded
from .test_desk import trace

UNTOLD = KINDS[:3]
EACH = pytest.mark.parametrize("kind", KINDS)


def key(index, kind):
    return Key("test", f"{FAMILY}/{kind}", index)


@pytest.fixture(scope="module")
def world():
    with DeskWorld(rows=2) as made:
        yield made


def decisions(world, k, noise=None):
    """Of an expert's episode: for each departure from the gate, the control step, how long the hand had stayed there,
    what a policy senses then, and what the arm is."""
    world.reset([k], [0])
    row, stage, out = world._rows[0], world._stages[0], []
    for step in range(HIDDEN_LIMIT):
        was, state, arm = row.expert.plan.phase, world.observe([0], ()).state[0, 0], stage.data.qpos.copy()
        stayed, action = row.judge.stayed, world.expert([0])
        if was == "stay" and row.expert.plan.phase != "stay":
            out.append((step, stayed, state, arm))
        if noise is not None:
            world.disturb([0], noise(step)[None])
        outcome = world.step(action, [0])
        if outcome.done[0]:
            assert outcome.success[0]
            return out
    raise AssertionError("the episode has no end")


# ---- who does it, and who does not -----------------------------------------------------------------------


@EACH
def test_the_expert_does_it_also_under_noise(world, kind):
    for i in range(2):
        outcome, steps = drive(world, 0, key(i, kind))
        facts, scene = outcome.facts[0], sample_hidden_task(key(i, kind))
        assert outcome.success[0] and facts["why"] == "" and tuple(facts["touched"]) == scene.order
        assert steps < HIDDEN_LIMIT - 60
        visits = decisions(world, key(i, kind), Noise(share=1.0).steps(key(i, kind)))
        assert len(visits) == len(scene.order) + 1  # and it was a success


@EACH
def test_whoever_remembers_nothing_guesses(world, kind):
    solved, tries = 0, 12
    for i in range(tries):
        world.reset([key(i, kind)], [0])
        world._rows[0].expert = Forgetful(Keys.of([key(i, kind)]))
        while True:
            outcome = world.step(world.expert([0]), [0])
            if outcome.done[0]:
                break
        solved += bool(outcome.success[0])
    assert solved == tries if kind == "seen" else solved <= tries / 3


def test_chance_is_of_the_best_guesser():
    """At the gate it can do no better than by guessing each as often: of any other shares the success is lower."""
    a, b = np.meshgrid(np.linspace(0, 1, 101), np.linspace(0, 1, 101))
    assert CHANCE["a_then_b"] == pytest.approx(np.max(a * b * np.maximum(1 - a - b, 0)), abs=1e-3)
    share = np.linspace(0, 1, 1001)
    counts = [np.max(share**n * (1 - share)) for n in (1, 2, 3)]
    assert CHANCE["count"] == pytest.approx(np.mean(counts), abs=1e-4)
    assert CHANCE["back"] == pytest.approx(np.max(share / 3 * (1 - share)), abs=1e-4)


# ---- what might tell -------------------------------------------------------------------------------------


@EACH
def test_what_is_drawn_is_where_the_arm_is_and_what_lies_there(world, kind):
    """At the gate, put where it was at the first decision, the arm is seen as it was: but for pads that light."""
    for i in range(2):
        k = key(i, kind)
        first, *_, last = decisions(world, k)
        seen = []
        for step, _, _, _ in (first, last):
            world.reset([k], [0])
            for _ in range(step):
                world.step(world.expert([0]), [0])
            world._stages[0].data.qpos[:] = first[3]
            world._stages[0].refresh()
            seen.append(world.observe([0]))
        same = [np.array_equal(seen[0].images[r], seen[1].images[r]) for r in ("front", "wrist")]
        assert all(same) if kind != "seen" else not any(same)
        assert np.array_equal(seen[0].state, seen[1].state) and seen[0].text == seen[1].text


def told(points, phases, episodes):
    """How often the phase is that of the nearest point of another episode."""
    scaled = (points - points.mean(0)) / np.maximum(points.std(0), 1e-6)
    away = np.linalg.norm(scaled[:, None] - scaled, axis=2)
    away[episodes[:, None] == episodes] = np.inf
    return np.mean(phases[away.argmin(1)] == phases)


def test_neither_the_hand_nor_a_clock_tells_the_phase(world):
    """Even who knows where the gate is cannot tell from what a policy senses of its hand how far it has come."""
    hands, clocks, phases, episodes = [], [], [], []
    for i in range(40):
        k = key(i, "a_then_b")
        gate = sample_hidden_task(k).gate
        for phase, (step, _, state, _) in enumerate(decisions(world, k)):
            hands.append([*(state[:2] - gate), *state[2:]])
            clocks.append(step)
            phases.append(phase)
            episodes.append(i)
    hands, clocks, phases, episodes = map(np.array, (hands, clocks, phases, episodes))
    assert told(hands, phases, episodes) < 0.46  # a third, and three standard errors
    assert clocks[phases == 2].min() < clocks[phases == 1].max() and clocks[phases == 1].min() < 80
    assert np.median(clocks[phases == 0]) > clocks[phases == 1].min()
    leaky = np.column_stack([hands, phases + 0.1 * np.arange(len(phases)) % 0.3])
    assert told(leaky, phases, episodes) > 0.8  # what tells is found


@EACH
def test_no_chunk_that_is_planned_before_the_gate_holds_what_is_decided_there(world, kind):
    """It stays longer than a chunk is carried out, and of `back` as long after the cube was put aside."""
    assert STAYS[0] > HIDDEN.replan
    for i in range(4):
        assert all(stayed >= STAYS[0] - 1 for _, stayed, _, _ in decisions(world, key(i, kind)))


def test_other_episodes_have_other_layouts():
    scenes = {sample_hidden_task(k).pads for k in keys_of(HIDDEN)}
    shown = {sample_hidden_task(Key("demonstrations", t, i)).pads for t in HIDDEN.tasks for i in range(100)}
    assert len(scenes) == 4 * HIDDEN.episodes and not scenes & shown
    orders = [len(sample_hidden_task(k).order) for k in keys_of(HIDDEN) if k.task.endswith("count")]
    assert min(orders.count(n) for n in (1, 2, 3)) > 20


# ---- the judge -------------------------------------------------------------------------------------------


def put(world, at, steps=1):
    """The hand of row 1 put to these points in turn, each for so many control steps; the last outcome."""
    row, stage = world._rows[1], world._stages[1]
    for point in at:
        for _ in range(steps):
            row.joints = inverse(np.array(point) - stage.base, tool_down(0.0), row.joints).joints
            stage._put_arm(row.joints, 1.0)
            outcome = world.step(world.observe([1], ()).state[0], [1])
    return outcome


def begin(world, kind, index=0):
    """Row 1 at home; its scene, the gate, and points on and above each pad."""
    world.reset([key(index, kind)], [1])
    scene = world.scene(1)
    return scene, (*scene.gate, GATE[2]), [(p.x, p.y, 0.02) for p in scene.pads], [(p.x, p.y, 0.09) for p in scene.pads]


HOME = (-0.225, -0.03, 0.15)


def test_success_is_all_of_it_in_turn(world):
    scene, gate, on, over = begin(world, "a_then_b")
    a, b = scene.order
    put(world, [gate], 4)
    facts = put(world, [on[a], over[a]]).facts[0]
    assert facts["touched"] == [a] and not facts["ready"] and facts["why"] == "touched 1 of 2"
    put(world, [gate], 4)
    put(world, [on[b], over[b]])
    assert not put(world, [HOME]).success[0]  # not by the gate
    put(world, [gate], 4)
    outcome = put(world, [HOME])
    assert outcome.success[0] and outcome.ended[0]


@pytest.mark.parametrize("wrong", ["order", "other", "gate", "often"])
def test_a_wrong_touch_is_final(world, wrong):
    scene, gate, on, over = begin(world, "count" if wrong == "often" else "a_then_b")
    pads = {"order": scene.order[::-1], "gate": scene.order, "often": (*scene.order, 0)}.get(wrong)
    pads = pads or tuple({*range(3)} - {*scene.order})
    for k in pads:
        if wrong != "gate" or k == scene.order[0]:
            put(world, [gate], 4)
        outcome = put(world, [on[k], over[k]] if k != pads[-1] else [on[k]])
        if outcome.facts[0]["why"].startswith("touched the") or outcome.truncated[0]:
            break
    assert outcome.truncated[0] and not outcome.success[0]
    said = {"order": "wrong pad", "other": "wrong pad", "gate": "without a stay", "often": "once too often"}[wrong]
    assert said in outcome.facts[0]["why"]
    put(world, [gate], 4)
    assert not put(world, [HOME]).success[0]


def test_one_touch_is_one_however_long(world):
    _, gate, on, over = begin(world, "count")
    put(world, [gate], 4)
    assert put(world, [on[0]], 6).facts[0]["touched"] == [0]
    assert put(world, [(*on[0][:2], 0.05), on[0]], 2).facts[0]["touched"] == [0]  # a tremble is no second one
    assert put(world, [over[0], gate], 4).facts[0]["ready"]


def test_the_cube_is_put_aside_at_the_gate_and_no_sooner(world):
    scene, gate, on, _ = begin(world, "back")
    stage = world._stages[1]
    assert not put(world, [gate], scene.when - 2).facts[0]["ready"] and not stage.moved
    put(world, [HOME], 6)
    assert not stage.moved  # it is due, and nobody is there
    assert put(world, [gate], 4).facts[0]["ready"] and stage.moved
    assert put(world, [on[scene.order[0]]]).facts[0]["why"] == "not at home"
    scene, gate, on, _ = begin(world, "back")
    put(world, [gate], 4)
    assert put(world, [on[scene.order[0]]]).truncated[0]  # it still lies there


# ---- contracts of a world ----------------------------------------------------------------------------------


def test_same_key_same_episode_in_any_row_after_any_other(world):
    with DeskWorld(rows=1) as alone:
        want = trace(alone, 0, key(7, "seen"), 120, 30)
        usual = trace(alone, 0, Key("test", "spatial_placing/R", 5))
    drive(world, 1, key(8, "back"))
    assert trace(world, 1, key(7, "seen"), 120, 30) == want
    assert trace(world, 1, key(9, "seen"), 120, 30) != want
    assert trace(world, 1, Key("test", "spatial_placing/R", 5)) == usual


@EACH
def test_snapshots_go_on_exactly_elsewhere(world, kind):
    world.reset([key(2, kind)], [0])
    for _ in range(70):
        world.step(world.expert([0]), [0])
    (snap,) = world.snapshot([0])
    drive(world, 1, key(3, "seen"))
    world.restore([1, 0], [snap, snap])

    def go_on(row):
        seen = world.observe([row])  # right after it: caps and cube are in the state
        out = [hash(seen.images["front"].tobytes())]
        for _ in range(15):
            outcome = world.step(world.expert([row]), [row])
            out.append((outcome.facts, hash(world.observe([row]).images["wrist"].tobytes())))
        return [*out, hash(world.snapshot([row])[0])]

    assert go_on(0) == go_on(1)


@EACH
def test_a_scene_survives_json_and_can_be_said_otherwise(world, kind):
    for i in range(6):
        scene = sample_hidden_task(key(i, kind))
        assert HiddenScene.from_json(scene.to_json()) == scene
        seen = worded(world, key(i, kind))
        assert seen.text["instruction"] == (scene.instruction,) and seen.images["front"].shape[2:] == (128, 128, 3)
    assert world.reasoning(0) == "" and world.geometry([0])[0]["target"] == scene.order[0]
    HIDDEN.require(SPEC)
    assert HIDDEN.steps == HIDDEN_LIMIT


def test_what_is_not_there_is_refused_and_what_is_can_be_perturbed():
    with DeskWorld(1) as world:
        with pytest.raises(BadData, match="a_then_b"):
            world.reset([key(0, "b_then_a")], [0])
        world.perturb = Perturbation(start=3, noise=3)
        assert drive(world, 0, key(0, "count"))[0].success[0]
        world.perturb = Perturbation(camera=1)
        with pytest.raises(BadData, match="camera"):
            world.reset([key(0, "count")], [0])


def test_its_hash_is_its_own(monkeypatch):
    before, others = hidden_hash(), scene_hash()
    for name, value in (("VERSION", "x"), ("APART", 0.09), ("INSTRUCTIONS", {}), ("WHEN", (1, 2))):
        with monkeypatch.context() as patch:
            patch.setattr(hidden, name, value)
            assert hidden_hash() != before and scene_hash() == others


def test_demonstrations_are_recorded():
    done = {}
    with DeskWorld(1) as world:
        demonstrate(world, [(0, key(1, "back"))], done.__setitem__, noise=Noise(share=1.0), rows=1)
    episode = done[0]
    assert episode.success and len(episode.state) == len(episode.action) < 240
    assert np.isfinite(episode.action).all() and (episode.action[:, 9] == 1).all()  # the gripper tells nothing
