"""Meta-World keeps the World's contracts: functions of keys, exact snapshots, upright pictures, its own success."""

from __future__ import annotations

import hashlib
import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mindhand.core.errors import BadData, Refusal
from mindhand.core.keys import Key, Keys
from mindhand.core.seams import World
from mindhand.worlds import metaworld as module
from mindhand.worlds.gym import WorldEnv
from mindhand.worlds.metaworld import MetaWorld
from mindhand.worlds.metaworld_spec import ACTION_HIGH, ACTION_LOW, LIMIT, MT10, SPEC, TASKS, task_of

pytest.importorskip("metaworld", reason="needs the extra: pip install 'mindhand[metaworld]'")

pytestmark = pytest.mark.filterwarnings("ignore:Constant")  # pytest sets the filters of the module aside
CYAN, GREEN, BLUE = (0, 1, 1), (0, 1, 0), (0, 0, 1)


@pytest.fixture(scope="module")
def world():
    with MetaWorld(rows=3) as made:
        yield made


def key(index: int, name: str = "reach") -> Key:
    return Key("test", task_of(name), index)


def trace(world: MetaWorld, row: int, k: Key, steps: int = 20, every: int = 10) -> str:
    """A digest of everything an episode shows: states, facts, the expert's actions and pictures."""
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
    world.reset([key(0), key(1, "door-open")], [0, 2])
    seen = world.observe([2, 0])
    assert {r: x.shape for r, x in seen.images.items()} == {"front": (2, 1, 128, 128, 3), "wrist": (2, 1, 64, 64, 3)}
    assert seen.state.shape == (2, 1, SPEC.state_size) and seen.state.dtype == np.float32
    assert seen.text["instruction"] == (TASKS["door-open"][0], TASKS["reach"][0])
    assert seen.keys == (key(1, "door-open"), key(0))
    assert np.isclose(1 / SPEC.rate, world._row(0).env.dt)
    assert set(world.observe([0], cameras=["wrist"]).images) == {"wrist"}
    assert not world.observe([0], cameras=()).images


def test_a_policy_is_told_nothing_of_objects(world):
    world.reset([key(i, "pick-place") for i in range(3)], range(3))
    state, facts = world.observe(range(3), ()).state, world.geometry(range(3))
    assert len({f["object"].tobytes() for f in facts}) == len({f["goal"].tobytes() for f in facts}) == 3
    assert all(np.array_equal(s, state[0]) for s in state)  # the same hand, whatever lies there
    assert SPEC.state_names() == ["hand.x", "hand.y", "hand.z", "gripper.open"]
    assert not world.observe([0]).extras


@pytest.mark.parametrize("name", ["push", "disassemble"])
def test_same_key_same_episode_in_any_row_after_any_other(world, name):
    with MetaWorld(1) as alone:
        want = trace(alone, 0, key(7, name))
    trace(world, 2, key(8, name), steps=60)
    assert trace(world, 2, key(7, name)) == want
    trace(world, 1, key(8, "door-open"))
    assert trace(world, 1, key(7, name)) == want
    assert trace(world, 1, key(9, name)) != want


def test_rows_together_are_rows_alone(world):
    keys = [key(i, name) for i, name in enumerate(("push", "window-open", "push"))]
    world.reset(keys, range(3))
    for _ in range(12):
        world.step(world.expert(range(3)), range(3))
    together = world.observe(range(3))
    with MetaWorld(1) as alone:
        for r in (2, 0, 1):
            alone.reset([keys[r]], [0])
            for _ in range(12):
                alone.step(alone.expert([0]), [0])
            one = alone.observe([0])
            assert np.array_equal(one.state[0], together.state[r])
            assert all(np.array_equal(one.images[c][0], together.images[c][r]) for c in one.images)


def test_another_process_gives_the_same_episode(world):
    code = (
        "from tests.worlds.test_metaworld import key, trace\n"
        "from mindhand.worlds.metaworld import MetaWorld\n"
        "print(trace(MetaWorld(2), 1, key(5, 'sweep-into')))"
    )
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert there.returncode == 0, there.stderr
    assert there.stdout.strip() == trace(world, 0, key(5, "sweep-into"))


@pytest.mark.parametrize("name", ["reach", "coffee-push", "door-lock"])
def test_an_episode_is_meta_world_s_own(world, name):
    """Begun by its own means from the same vector, and stepped by them, it is the same."""
    library, full = module._library(), f"{name}-v3"
    world.reset([key(3, name)], [0])
    start = world._row(0).env._last_rand_vec
    theirs = library.environments[full]()
    space = theirs._random_reset_space
    assert (start >= space.low).all() and (start <= space.high).all()
    data = {"rand_vec": start, "env_cls": type(theirs), "partially_observable": False}
    theirs.set_task(library.task(env_name=full, data=pickle.dumps(data)))
    seen, _ = theirs.reset()
    expert = library.experts[full]()
    for _ in range(15):
        action = expert.get_action(seen)
        mine = world.step(np.clip(action, -1, 1)[None], [0])
        seen, _, _, _, info = theirs.step(action)
        assert world.observe([0], ()).state[0, 0].tobytes() == seen[:4].astype(np.float32).tobytes()
        assert {n: mine.facts[0][n] for n in info} == {n: float(x) for n, x in info.items()}


def go_on(world: MetaWorld, row: int, steps: int = 25) -> list:
    out: list = []
    for step in range(steps):
        outcome = world.step(world.expert([row]), [row])
        seen = world.observe([row], None if step % 8 == 0 else ())
        out.append((outcome.facts, seen.state.tobytes(), *(x.tobytes() for x in seen.images.values())))
    return [*out, world.snapshot([row])]


# Two whose environments hold views of the simulator's memory, and one that notes its first distance while it runs.
@pytest.mark.parametrize("name", ["basketball", "door-lock", "coffee-pull"])
def test_snapshots_go_on_exactly_elsewhere_and_in_the_same_row(world, name):
    world.reset([key(3, name), key(4)], [0, 1])
    noise = Keys.of([key(3)]).normal(40, 3)[0] * 0.3
    for step in range(30):
        world.disturb([0], noise[None, step])
        world.step(world.expert([0]), [0])
    world.disturb([0], noise[None, 30])  # pending noise is part of the state
    (snap,) = world.snapshot([0])
    want = go_on(world, 0)
    world.restore([0, 1], [snap, snap])
    now = world.observe([0, 1])
    assert all(np.array_equal(x[0], x[1]) for x in now.images.values())
    assert go_on(world, 1) == want
    assert go_on(world, 0) == want
    with MetaWorld(1) as other:
        other.restore([0], [snap])
        assert go_on(other, 0) == want


@pytest.mark.slow
@pytest.mark.parametrize("name", TASKS)
def test_every_task_s_snapshot_is_exact_and_its_expert_moves_something(world, name):
    world.reset([key(0, name)], [0])
    before = world.geometry([0])[0]
    for _ in range(40):
        outcome = world.step(world.expert([0]), [0])
    assert all(np.isfinite(x) for x in outcome.facts[0].values())
    (snap,) = world.snapshot([0])
    want = go_on(world, 0)
    world.restore([1], [snap])
    assert go_on(world, 1) == want
    after = world.geometry([0])[0]
    assert any(np.linalg.norm(after[n] - before[n]) > 0.01 for n in ("hand", "object"))


def test_a_foreign_snapshot_is_refused(world):
    world.reset([key(0)], [0])
    (snap,) = world.snapshot([0])
    for bad in (snap[:-8], b"x" + snap, snap[:40], b"", snap.replace(b"metaworld/reach", b"metaworld/peach")):
        with pytest.raises(BadData, match="snapshot"):
            world.restore([1], [bad])
    world.restore([1], [snap])


def test_looking_changes_nothing(world):
    world.reset([key(1, "basketball")] * 2, [0, 1])
    for _ in range(15):
        world.observe([0])
        a, b = (world.step(world.expert([r]), [r]) for r in (0, 1))
        assert a.facts == b.facts
    assert world.snapshot([0]) == world.snapshot([1])


def middle(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """(u, v) of the pixels of a pure colour, lit or not."""
    x = picture.astype(float)
    on, off = x[..., np.array(colour) == 1], x[..., np.array(colour) == 0]
    v, u = np.nonzero((on.min(-1) > 60) & (off.max(-1) < 0.25 * on.min(-1)))
    assert len(u) > 3
    return np.array([u.mean(), v.mean()]) + 0.5


def test_pictures_are_upright_and_points_are_where_they_are_seen(world):
    """One finger is cyan: it is seen where the hand is projected to, wherever the hand goes."""
    for way in ((1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, 0, 1)):
        world.reset([key(0, "reach-wall")], [0])
        for _ in range(12):
            world.step(np.array([[*way, -1.0]]), [0])
        finger = world._row(0).env.data.body("leftpad").xpos + 0.0
        picture = world.observe([0], ["front"]).images["front"][0, 0]
        (where,) = world.project(finger[None], "front", [0])[0]
        assert np.linalg.norm(middle(picture, CYAN) - where) < 4, way
    up, low = world.project(np.array([[0, 0.6, 0.3], [0, 0.6, 0.0]]), "front", [0])[0]
    assert up[1] < low[1] - 20  # what is high is high in the picture


def test_the_wrist_sees_what_is_under_the_hand(world):
    world.reset([key(2, "bin-picking")], [0])
    for _ in range(15):
        world.step(world.expert([0]), [0])
    picture = world.observe([0], ["wrist"]).images["wrist"][0, 0]
    (where,) = world.project(world.geometry([0])[0]["object"][None], "wrist", [0])[0]
    assert np.linalg.norm(middle(picture, GREEN) - where) < 4


def test_a_goal_is_seen_where_it_is(world):
    """It is nothing but a marker, and nothing else tells where."""
    for name, colour in (("pick-place", BLUE), ("push", GREEN)):
        world.reset([key(0, name)], [0])
        world.step(np.zeros((1, 4)), [0])
        (where,) = world.project(world.geometry([0])[0]["goal"][None], "front", [0])[0]
        picture = world.observe([0], ["front"]).images["front"][0, 0]
        assert np.linalg.norm(middle(picture, colour) - where) < 2, name


@pytest.mark.parametrize("name", ["reach", "drawer-close", "button-press-topdown"])
def test_experts_solve_what_they_do(world, name):
    world.reset([key(1, name)], [0])
    steps, done = 0, False
    while not done:
        outcome, steps = world.step(world.expert([0]), [0]), steps + 1
        assert outcome.success[0] == outcome.ended[0] == (outcome.facts[0]["success"] > 0)
        assert outcome.reward[0] == outcome.success[0] and not outcome.truncated[0]
        done = outcome.done[0]
    assert outcome.success[0] and outcome.facts[0]["steps"] == steps < 150
    assert 0 <= outcome.facts[0]["shaped"] <= 10


def test_time_is_up_when_meta_world_s_is(world):
    world.reset([key(0)], [0])
    for step in range(1, LIMIT + 1):
        outcome = world.step(np.zeros((1, 4)), [0])
        assert outcome.truncated[0] == (step == LIMIT)
    assert not outcome.success[0]
    with pytest.raises(BadData, match="time is up"):
        world.step(np.zeros((1, 4)), [0])


def test_actions_are_centimetres_and_cut_off(world):
    world.reset([key(0)] * 3, range(3))
    for _ in range(8):
        actions = np.array([[0, 0, 0, -1], [0, 1, 0, -1], [0, 9, 0, -1]])
        outcome = world.step(actions, range(3))
    assert [f["clipped"] for f in outcome.facts] == [False, False, True]
    for _ in range(25):
        world.step(np.array([[0, 0, 0, -1]] * 3), range(3))  # let it come there
    moved = world.observe(range(3), ()).state[:, 0, 1]
    assert moved[1] == moved[2] and moved[1] - moved[0] == pytest.approx(0.08, abs=0.01)
    for _ in range(30):
        world.step(np.array([[0, 0, 0, 1], [0, 0, 0, -1], [0, 0, 0, -1]]), range(3))
    assert (np.diff(world.observe([0, 1], ()).state[:, 0, 3]) > 0.3).all()  # 1 closes, and closed is less open
    for bad in (np.zeros((1, 3)), np.full((1, 4), np.nan)):
        with pytest.raises(BadData, match="finite"):
            world.step(bad, [0])


def test_noise_moves_the_hand_for_one_step(world):
    world.reset([key(0)] * 2, [0, 1])
    world.disturb([1], np.array([[0.0, -1.0, 0.0]]))
    for step in range(2):
        world.step(np.zeros((2, 4)), [0, 1])
        goal = [world._row(r).env.data.mocap_pos[0, 1] for r in (0, 1)]
        assert goal[0] - goal[1] == pytest.approx(0.01), step
    with pytest.raises(BadData, match="size=3"):
        world.disturb([0], np.zeros((1, 4)))


def test_every_task_has_words_of_its_own(world):
    assert {f"{name}-v3" for name in TASKS} == set(module._library().environments) == set(module._library().experts)
    said = [text for both in TASKS.values() for text in both]
    assert len(set(said)) == 2 * len(TASKS) == 100
    assert all(text == text.strip(" .").lower() and len(text) < 90 for text in said)
    assert len(MT10) == 10 and set(MT10) <= set(TASKS)
    from metaworld.env_dict import MT10_V3

    assert {f"{name}-v3" for name in MT10} == set(MT10_V3)
    world.reset([key(0), key(1)], [0, 1])
    words = world.wordings(0)
    assert words["paraphrased"] == TASKS["reach"][1]
    assert words["swapped"] in {said for name, (said, _) in TASKS.items() if name != "reach"}
    assert world.reasoning(0) == ""


def test_wrong_use_is_refused(world):
    for task in ("metaworld/juggle", "maths_matching/R", "metaworld", "metaworld/reach-v3"):
        with pytest.raises(BadData, match="no task"):
            world.reset([Key("test", task, 0)], [0])
    with pytest.raises(BadData, match="one key a row"):
        world.reset([key(0)], [0, 1])
    with pytest.raises(BadData, match="no episode"):
        MetaWorld(1).observe([0])


def test_gymnasium_has_it_too(world):
    env = WorldEnv(world, task_of("reach"), low=ACTION_LOW, high=ACTION_HIGH)
    first, _ = env.reset(seed=3)
    again, _ = env.reset(seed=3)
    assert all(np.array_equal(first[n], again[n]) for n in first)
    seen, reward, ended, truncated, info = env.step(env.action_space.sample())
    assert env.observation_space.contains(seen)
    assert (reward, ended, truncated, info["success"]) == (0.0, False, False, False)


def test_without_the_extra_the_line_is_said(monkeypatch):
    for name in [n for n in sys.modules if n.split(".")[0] == "metaworld"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "metaworld", None)
    module._library.cache_clear()
    with pytest.raises(Refusal, match=r"pip install 'mindhand\[metaworld\]'"):
        MetaWorld(1).reset([key(0)], [0])
    module._library.cache_clear()
