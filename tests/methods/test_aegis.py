"""AEGIS: a plane between the gripper and what stands about, and commands that are changed no more than it needs."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from mindhand.core.errors import BadCheckpoint, BadData, BuildError
from mindhand.core.keys import Key
from mindhand.core.nouns import ActionChunk, Observation
from mindhand.kit.ellipsoids import barrier, boxes, mvee, separate
from mindhand.methods.guard.aegis import OBSTACLES, SLOTS, VALID, Config, correct, sighted
from mindhand.model.store import load_vla, save_vla
from mindhand.serve.execute import run_episodes
from mindhand.serve.rows import put_rows
from mindhand.worlds.desk.kinematics import to_rot6d, tool_down
from mindhand.worlds.desk.senses import Senses
from mindhand.worlds.desk.spec import SPEC, WORKSPACE
from mindhand.worlds.desk.world import DeskWorld

from ..seams.build import observation, oft, spec, vla

OPEN = Config(box=())  # no walls
DELTA = replace(SPEC, action=(replace(SPEC.action[0], mode="delta", unit="cm"), *SPEC.action[1:]))


def turned(rng):
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    return q * np.sign(np.diag(r)) * np.sign(np.linalg.det(q * np.sign(np.diag(r))))


def ellipsoid(rng, low=0.02, high=0.12):
    turn = turned(rng)
    return turn @ np.diag(rng.uniform(low, high, 3)) @ turn.T


def seen(place, turn, *obstacles):
    """What a filter of the desk is given: the tool point (3,) and its turn, and obstacles (S, centre)."""
    told, there = np.zeros((1, SLOTS, 3, 4)), np.zeros((1, SLOTS), bool)
    for k, (s, centre) in enumerate(obstacles):
        told[0, k], there[0, k] = np.column_stack([s, centre]), True
    state = np.concatenate([place, to_rot6d(turn), [1.0]])[None, None].astype(np.float32)
    key, extras = (Key("test", "aegis", 0),), {OBSTACLES: told, VALID: there}
    return Observation({}, state, {"instruction": ("go",)}, np.zeros((1, 1)), key, extras=extras)


def told(place, turn):
    """A command of the desk (1,10)."""
    return np.concatenate([place, to_rot6d(turn), [0.37]])[None].astype(np.float32)


def apart(shield, now, place):
    """How far the gripper, its tool point at `place`, is from every obstacle (m)."""
    state = now.state[0, -1].copy()
    state[:3] = place
    _, centre, s_e = shield.pose(state)
    some = now.extras[OBSTACLES][0][now.extras[VALID][0]]
    fat = shield.config.margin * np.eye(3)
    return [separate(o[:, 3] - centre, s_e, o[:, :3] + fat)[1] for o in some]


def overlap(rng, away, s_e, s_o, count):
    """By points inside of both."""
    v = rng.normal(size=(count, 3))
    v *= (rng.uniform(size=(count, 1)) ** (1 / 3)) / np.linalg.norm(v, axis=1, keepdims=True)
    both = (s_o, s_e, away), (s_e, s_o, -away)
    return any((np.linalg.norm((v @ mine + at) @ np.linalg.inv(other), axis=1) <= 1).any() for mine, other, at in both)


# ---- the specification's -----------------------------------------------------------------------------------


def test_1_gradients_are_those_of_finite_differences():
    """(1) Both gradients of h differ from finite differences by less than 1e-5."""
    rng, step = np.random.default_rng(0), 1e-6
    for _ in range(50):
        s_e, s_o, away = ellipsoid(rng), ellipsoid(rng), rng.normal(size=3) * 0.3
        p_s = rng.normal(size=3)
        p_s /= np.linalg.norm(p_s)
        around = away, np.linalg.inv(s_e), s_o
        _, slope, push = barrier(p_s, *around)
        assert abs(slope @ p_s) < 1e-12
        for axis in np.eye(3) * step:
            along = axis - (axis @ p_s) * p_s

            def at(move, base=p_s, rest=around):
                p = base + move
                return barrier(p / np.linalg.norm(p), *rest)[0]

            assert abs((at(along) - at(-along)) / (2 * step) - slope @ axis / step) < 1e-5
            higher = [barrier(p_s, away - sign * axis, *around[1:])[0] for sign in (1, -1)]  # the gripper moves
            assert abs((higher[0] - higher[1]) / (2 * step) - push @ axis / step) < 1e-5


def go(shield, now, turn, rng, obstacles, steps, absolute):
    """Drive at one obstacle after the other; what came of it: the least h of any plane, the largest change (m)."""
    state, goal, least, change, fat = {}, obstacles[0][1], np.inf, 0.0, shield.config.margin * np.eye(3)
    for step in range(steps):
        if step % 100 == 99:
            goal = obstacles[step // 100 % len(obstacles)][1] + rng.normal(size=3) * 0.1
        at = now.state[0, 0, :3]
        way = goal - at
        way *= min(1.0, 0.02 / max(np.linalg.norm(way), 1e-9))
        action = told(at + way if absolute else way * 100, turn)
        out, state = shield(action, now, state)
        assert out.action[0, 3:].tobytes() == action[0, 3:].tobytes()
        change = max(change, float(np.abs(out.action - action).max()))
        now = seen(out.action[0, :3] if absolute else at + out.action[0, :3] / 100, turn, *obstacles)
        _, centre, s_e = shield.pose(now.state[0, 0])
        some = now.extras[OBSTACLES][0, : len(obstacles)]
        planes = state["planes"][0, : len(obstacles)]
        least = min(least, *barrier(planes, some[..., 3] - centre, np.linalg.inv(s_e), some[..., :3] + fat)[0])
        if step % 20 == 0:
            assert not any(overlap(rng, c - centre, s_e, s + fat, 500) for s, c in obstacles)
    return least, change


@pytest.mark.parametrize(
    ("how", "count", "starts", "steps"), [(SPEC, 1, 20, 400), (SPEC, 3, 4, 100), (DELTA, 2, 4, 100)]
)
def test_2_no_step_of_twenty_random_ways_comes_too_near(how, count, starts, steps):
    """(2) From 20 random starts, 400 kinematic steps each, told to go into an obstacle: h is never below -1e-5 and no
    ellipsoids overlap. From fewer starts among three obstacles, and with commands that are deltas, too."""
    rng, shield = np.random.default_rng(1), correct(how, OPEN)
    for _ in range(starts):
        turn = turned(rng)
        while True:
            obstacles = [(ellipsoid(rng), rng.uniform(-0.25, 0.25, 3)) for _ in range(count)]
            now = seen(rng.uniform(-0.4, 0.4, 3), turn, *obstacles)
            if min(apart(shield, now, now.state[0, 0, :3])) > 0:
                break
        least, change = go(shield, now, turn, rng, obstacles, steps, how is SPEC)
        assert least > -1e-5
        assert change > 0.005


def test_3_a_command_that_harms_nothing_passes_bit_by_bit():
    """(3) Where the constraint is inactive the output is the input, bit by bit; where it is active, it is not."""
    rng, shield, passed, met = np.random.default_rng(2), correct(SPEC), [], []
    for _ in range(300):
        place, turn = rng.uniform((0.2, -0.2, 0.1), (0.5, 0.2, 0.3)), turned(rng)
        s, centre = ellipsoid(rng, 0.01, 0.04), rng.uniform((0.1, -0.4, 0.0), (0.6, 0.4, 0.3))
        now, action = seen(place, turn, (s, centre)), told(place + rng.uniform(-0.03, 0.03, 3), turn)
        (near,) = apart(shield, now, now.state[0, 0, :3])
        move = float(np.linalg.norm(action[0, :3] - now.state[0, 0, :3]))
        out, _ = shield(action, now, {})
        same = out.action.tobytes() == action.tobytes()
        assert same != bool(out.intervened[0])
        if near > 2 * move + 1e-6:  # alpha dt is a half
            passed.append(same)
        elif apart(shield, now, action[0, :3])[0] < min(0, near):  # into it, or deeper
            met.append(same)
    assert len(passed) > 100 and all(passed)
    assert len(met) > 5 and not any(met)


def test_4_the_least_ellipsoid_holds_all_points_and_is_no_larger_than_it_must_be():
    """(4) Round points of a known ellipsoid the MVEE holds all of them (within 1e-3) with its volume within 2 %; of a
    box's corners it is the one in closed form; of a plane's points and of one point it is thin, not nothing."""
    rng = np.random.default_rng(3)
    for _ in range(10):
        s, centre = ellipsoid(rng, 0.01, 0.3), rng.normal(size=3)
        v = rng.normal(size=(600, 3))
        points = centre + v / np.linalg.norm(v, axis=1, keepdims=True) @ s
        found, size = mvee(points)
        assert (np.linalg.norm((points - found) @ np.linalg.inv(size), axis=1) ** 2).max() <= 1 + 1e-3
        assert abs(np.linalg.det(size) / np.linalg.det(s) - 1) < 0.02
        assert np.allclose(size, size.T)
        half, turn = rng.uniform(0.01, 0.1, 3), turned(rng)
        corners = np.array([(i, j, k) for i in (-1, 1) for j in (-1, 1) for k in (-1, 1)]) * half @ turn.T + centre
        (box,) = boxes(centre[None], half[None], turn[None])
        found, size = mvee(corners)
        assert np.abs(found - box[:, 3]).max() < 1e-3 and np.abs(size - box[:, :3]).max() < 1e-3
    flat = np.column_stack([rng.uniform(size=(50, 2)), np.full(50, 0.3)])
    for points in (flat, flat[:1], flat[:2]):
        found, size = mvee(points)
        assert 0.0009 < np.linalg.eigvalsh(size).min() < 0.004
        assert (np.linalg.norm((points - found) @ np.linalg.inv(size), axis=1) <= 1 + 1e-9).all()


def test_5_the_sign_of_the_largest_h_is_whether_they_overlap():
    """(5) On 1,000 random pairs the largest h over p_s is negative just where points of both are in both."""
    rng, both = np.random.default_rng(4), {True: 0, False: 0}
    for _ in range(1000):
        s_e, s_o = ellipsoid(rng), ellipsoid(rng)
        away = rng.normal(size=3)
        away *= rng.uniform(0.04, 0.28) / np.linalg.norm(away)
        p_s, h = separate(away, s_e, s_o)
        assert abs(barrier(p_s, away, np.linalg.inv(s_e), s_o)[0] - h) < 1e-9
        found = overlap(rng, away, s_e, s_o, 3000)
        assert not (found and h > 0)
        if abs(h) > 0.004:  # a sliver is missed by points
            assert found == (h < 0)
            both[found] += 1
    assert min(both.values()) > 200


# ---- besides -----------------------------------------------------------------------------------------------

DOWN = tool_down(0.0)


def test_the_gripper_is_within_its_ellipsoid():
    with DeskWorld(rows=1) as world:
        world.reset([Key("test", "maths_matching/R", 0)], [0])
        _, centre, s_e = correct(SPEC).pose(world.observe([0], ()).state[0, 0])
        stage, shift = world._stages[0], world.geometry([0])[0]["tcp"] - world.observe([0], ()).state[0, 0, :3]
        m, d, found = stage.model, stage.data, 0
        for g in np.flatnonzero(m.geom_contype):
            if m.body(int(m.geom_bodyid[g])).name.partition("/")[2] in ("wrist_rotate", "left_finger", "right_finger"):
                corners = np.array([(i, j, k) for i in (-1, 1) for j in (-1, 1) for k in (-1, 1)]) * m.geom_size[g]
                at = corners @ d.geom_xmat[g].reshape(3, 3).T + d.geom_xpos[g] - shift
                assert (np.linalg.norm((at - centre) @ np.linalg.inv(s_e), axis=1) <= 1).all()
                found += 1
    assert found == 4


def test_between_two_obstacles_both_are_heeded_and_only_what_it_must_is_changed():
    shield, wide = correct(SPEC, OPEN), 0.03 * np.eye(3)
    place = np.array([0.35, 0.0, 0.2])
    gate = [(wide, place + np.array((0.12, side * 0.06, 0.0))) for side in (1, -1)]
    for some, sideways in ((gate[:1], True), (gate, False)):
        state, now = {}, seen(place, DOWN, *some)
        for _ in range(40):
            at = now.state[0, 0, :3].astype(np.float64)
            out, state = shield(told(at + np.array((0.01, 0.0, 0.0)), DOWN), now, state)
            now = seen(out.action[0, :3], DOWN, *some)
            assert min(apart(shield, now, out.action[0, :3])) > -1e-6
        assert (abs(out.action[0, 1]) > 0.005) == sideways  # round one, stopped by two
    assert now.state[0, 0, 0] < gate[0][1][0]


def test_what_starts_inside_comes_out_no_faster_than_allowed():
    shield, now = correct(SPEC, OPEN), seen((0.3, 0.0, 0.2), DOWN, (0.04 * np.eye(3), (0.33, 0.03, 0.24)))
    (last,), state, first = apart(shield, now, now.state[0, 0, :3]), {}, None
    assert last < -0.03
    for _ in range(60):
        at = now.state[0, 0, :3]
        out, state = shield(told(at, DOWN), now, state)  # told to stay
        first = first or out
        now = seen(out.action[0, :3], DOWN, (0.04 * np.eye(3), (0.33, 0.03, 0.24)))
        (gap,) = apart(shield, now, now.state[0, 0, :3])
        assert gap > last - 1e-7 and np.linalg.norm(out.action[0, :3] - at) < 0.1 / 20 * 1.5
        last = gap
    assert last > -1e-3 and first.intervened[0] and first.why[0].startswith("obstacle 0 at -0.0")
    shut = [(0.05 * np.eye(3), np.array((0.3, side * 0.05, 0.26))) for side in (1, -1)]
    held, _ = shield(told((0.3, 0.0, 0.1), DOWN), seen((0.3, 0.0, 0.2), DOWN, *shut), {})
    assert (
        np.isfinite(held.action).all() and min(apart(shield, seen((0.3, 0, 0.2), DOWN, *shut), held.action[0, :3])) < 0
    )


def test_what_it_commands_is_inside_the_box():
    shield, (low, high) = correct(SPEC), np.array(WORKSPACE).T
    rng, inside = np.random.default_rng(6), 0
    for _ in range(60):
        place = rng.uniform(low, high)
        now = seen(place, DOWN, (0.05 * np.eye(3), np.clip(place + rng.normal(size=3) * 0.12, low, high)))
        wish = place + rng.normal(size=3) * 0.2
        out, _ = shield(told(wish, DOWN), now, {})
        if out.intervened[0]:
            assert (out.action[0, :3] >= np.minimum(low, place) - 1e-6).all()
            assert (out.action[0, :3] <= np.maximum(high, place) + 1e-6).all()
            inside += 1
            near, after = apart(shield, now, place)[0], apart(shield, now, out.action[0, :3])[0]
            assert after >= min(0.5 * near, 0.5 * near + 1e-6) - 1e-6 if near > 0 else after >= near - 1e-6
        else:  # the world clips it: what it makes of it is harmless, too
            assert apart(shield, now, np.clip(wish, np.minimum(low, place), np.maximum(high, place)))[0] > -1e-6
    assert inside > 10


def test_an_obstacle_that_changes_gets_another_plane_and_states_are_told_by_row():
    shield, place = correct(SPEC), (0.35, 0.0, 0.2)
    first, second = ((0.03 * np.eye(3), (0.35, y, 0.2)) for y in (0.2, -0.2))
    _, state = shield(told(place, DOWN), seen(place, DOWN, first), {})
    _, other = shield(told(place, DOWN), seen(place, DOWN, second), state)
    _, fresh = shield(told(place, DOWN), seen(place, DOWN, second), {})
    assert np.array_equal(other["planes"], fresh["planes"]) and other["planes"][0, 0, 1] < 0 < state["planes"][0, 0, 1]
    joined = put_rows(state, fresh, [0], 1)
    assert joined is not None and np.array_equal(joined["planes"], fresh["planes"])


def test_what_it_cannot_shield_is_refused_by_name():
    with pytest.raises(BuildError, match="tool point"):
        correct(spec())  # joints
    with pytest.raises(BuildError, match="relative"):
        correct(replace(SPEC, action=(replace(SPEC.action[0], mode="relative"), *SPEC.action[1:])))
    with pytest.raises(BuildError, match="tool point"):
        correct(replace(SPEC, state=(SPEC.state[0], SPEC.state[2])))
    with pytest.raises(BuildError, match="alpha"):
        correct(SPEC, Config(alpha=30.0))
    now = seen((0.3, 0.0, 0.2), DOWN)
    with pytest.raises(BadData, match="sighted"):
        correct(SPEC)(told((0.3, 0.0, 0.2), DOWN), replace(now, extras={}), {})
    with pytest.raises(BadData, match="finite"):
        correct(SPEC)(told((0.3, np.nan, 0.2), DOWN), now, {})


def test_no_checkpoint_arms_or_disarms_it(tmp_path):
    made = vla(oft())
    save_vla(made, tmp_path / "it")
    config = next(p for p in (tmp_path / "it").rglob("*.json") if "slots" in json.loads(p.read_text()))
    assert "aegis" not in config.read_text()
    loaded = load_vla(tmp_path / "it", spec())
    obs = observation()
    chunks = [p.act(obs, p.start(obs.keys))[0].actions for p in (made.eval(), loaded.eval())]
    assert np.array_equal(*chunks)
    for word in ("filters", "wrappers"):
        config.write_text(json.dumps({**json.loads(config.read_text()), word: ["aegis"]}))
        with pytest.raises(BadCheckpoint):
            load_vla(tmp_path / "it", spec())


# ---- on the desk -------------------------------------------------------------------------------------------


class Straight:
    """Goes straight at the first obstacle, at the height it is at."""

    spec, provides, name = SPEC, frozenset(), "straight"

    def start(self, keys):
        return {}

    def act(self, obs, state, *, want=()):
        here = obs.state[:, -1]
        way = obs.extras[OBSTACLES][:, 0, :, 3] - here[:, :3]
        way[:, 2] = 0
        way /= np.linalg.norm(way, axis=1, keepdims=True)
        actions = np.repeat(here[:, None], 4, 1)
        actions[:, :, :3] += way[:, None] * 0.015 * np.arange(1, 5)[:, None]
        return ActionChunk(actions.astype(np.float32), np.ones(actions.shape[:2], bool)), state


@pytest.fixture(scope="module")
def course():
    senses = Senses(depth=("front",), segmentation=("front",))
    with DeskWorld(rows=1, senses=senses) as made:
        yield made


def test_interventions_are_counted_in_an_episode_and_nothing_is_touched(course):
    key, world = Key("test", "obstacle_course/across", 0), sighted(course)
    how = {"replan": 4, "horizon_steps": 48, "rows": 1}
    (bare,) = run_episodes(Straight(), world, [key], **how)
    (kept,) = run_episodes(Straight(), world, [key], filters=(correct(SPEC),), **how)
    assert bare.interventions == () and bare.facts["hit"]
    assert len(kept.interventions) > 3 and all(why.startswith("aegis: obstacle") for _, why in kept.interventions)
    assert not kept.facts["touched"] and kept.facts["displacement"] < 0.002


def test_sighted_worlds_tell_of_obstacles_and_never_of_the_target(course):
    key, shift = Key("test", "obstacle_course/across", 0), np.array([0.41, 0.0, 0.0])
    world = sighted(course)
    world.reset([key], [0])
    facts, obs = world.geometry([0])[0], world.observe([0], ())
    (known,), (there,) = obs.extras[OBSTACLES], obs.extras[VALID]
    assert there.sum() == len(facts["obstacles"]) and obs.images == {}
    clouds = []
    for (x, y, z, *half, _), turn, told_of in zip(facts["obstacles"], facts["obstacle_turns"], known):
        corners = np.array([(i, j, k) for i in (-1, 1) for j in (-1, 1) for k in (-1, 1)]) * half
        at = corners @ turn.T + (x, y, z) + shift
        assert np.linalg.norm((at - told_of[:, 3]) @ np.linalg.inv(told_of[:, :3]), axis=1).max() < 1 + 1e-4
        clouds.append(at.mean(0) + 0.999 * (at - at.mean(0)))
    snap = world.snapshot([0])
    world.reset([Key("test", "obstacle_course/across", 0, 1)], [0])
    assert not np.array_equal(world.observe([0], ()).extras[OBSTACLES][0], known)
    world.restore([0], snap)
    assert np.array_equal(world.observe([0], ()).extras[OBSTACLES][0], known)

    eyes = sighted(course, ("front",))
    eyes.restore([0], snap)
    eyes._found[0] = eyes._look(0)
    (saw,) = eyes.observe([0], ()).extras[OBSTACLES]
    for k in range(len(clouds)):  # what is seen of it is there
        assert np.linalg.norm(saw[k, :2, 3] - known[k, :2, 3]) < 0.03
        assert np.linalg.norm((saw[k, :, 3] - known[k, :, 3]) @ np.linalg.inv(known[k, :, :3])) < 1

    toys = sighted(course, ("front",), ("obstacle", "toy"))
    toys.restore([0], snap)
    toys._found[0] = toys._look(0)
    (saw,), (there,) = (toys.observe([0], ()).extras[n] for n in (OBSTACLES, VALID))
    lie = [i for i in range(len(facts["toys"])) if i != facts["target"]]
    assert there.sum() <= len(clouds) + len(lie)

    def nearby(i):
        return min(np.linalg.norm(o[:2, 3] - facts["toys"][i, :2] - shift[:2]) for o in saw[there])

    assert nearby(facts["target"]) > 0.03 > max(nearby(i) for i in lie)


def test_worlds_in_which_nothing_can_be_seen_are_refused(course):
    with pytest.raises(BadData, match="geometry"):
        sighted(course).reset([Key("test", "spatial_placing/R", 0)], [0])
    with pytest.raises(BadData, match="wrist"):
        sighted(course, ("wrist",)).reset([Key("test", "spatial_placing/R", 0)], [0])
