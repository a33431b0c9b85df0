"""Perturbations: level 0 is nothing, one name is one scene, axes compose, and what is asked can be done."""

import hashlib
import json
import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mindhand.core.errors import BadData
from mindhand.core.keys import Key, Keys
from mindhand.worlds import perturb as p
from mindhand.worlds.desk.altered import to_be_seen
from mindhand.worlds.desk.body import ARM_POS
from mindhand.worlds.desk.families import FAMILIES
from mindhand.worlds.desk.kinematics import forward, inverse, tool_down
from mindhand.worlds.desk.spec import HOME
from mindhand.worlds.desk.stage import in_tray
from mindhand.worlds.desk.starts import start_joints
from mindhand.worlds.desk.world import DeskWorld
from mindhand.worlds.perturb import AXES, CLEAN, LEVELS, MAGNITUDES, Perturbation, keys_of, perturbed_scene
from mindhand.worlds.perturb_noise import KINDS, Sensor, streak
from mindhand.worlds.perturb_words import AFTER, ASKS, BEFORE, OTHERWISE, REASONS, SO, rewrite
from mindhand.worlds.scene import COLUMNS, FACES, INSTRUCTIONS, PLACES, ROWS, TILE, WORDS, sample_task

TASK = "maths_matching/R"
FAMILY_TASKS = pytest.mark.parametrize("task", [TASK, "spatial_placing/R"])
EVERYTHING = Perturbation(**{axis: 5 for axis in AXES})
TRAY = np.array([(*at, 0.002) for at in PLACES])
SEEN = ("camera", "light", "background", "noise", "language")  # what the arm does not feel


def key(index, task=TASK):
    return Key("perturbed", task, index)


def only(axis, level):
    return Perturbation(**{axis: level})


@pytest.fixture(scope="module")
def world():
    with DeskWorld(rows=2) as made:
        yield made


def begin(world, perturb, k, row=0):
    world.perturb = perturb
    world.reset([k], [row])


def trace(world, row, steps=8):
    """A digest of all that an episode is and shows from here on: states to the last bit, words, pictures."""
    out = hashlib.sha256()
    for _ in range(steps):
        world.step(world.expert([row]), [row])
        seen = world.observe([row])
        pixels = world.project(TRAY, "front", [row]).tolist()
        facts = json.dumps([seen.text["instruction"], world.reasoning(row), pixels])
        out.update(facts.encode() + world._stages[row].get_state().tobytes())
        out.update(b"".join(x.tobytes() for x in seen.images.values()))
    return out.hexdigest()


# ---- names ---------------------------------------------------------------------------------------------


@given(st.builds(Perturbation, **{axis: st.sampled_from(LEVELS) for axis in AXES}))
def test_a_perturbation_is_read_back_from_its_text_and_its_json(some):
    assert Perturbation.parse(str(some)) == some
    assert Perturbation.from_json(json.loads(json.dumps(some.to_json()))) == some
    assert bool(some) == (some != CLEAN)


def test_its_text_is_short_and_stable():
    assert str(Perturbation(light=2, camera=3)) == "camera3+light2"
    assert Perturbation.parse("light2+camera3") == Perturbation(light=2, camera=3)
    assert str(CLEAN) == "clean"
    assert Perturbation.parse("camera0") == CLEAN


@pytest.mark.parametrize("bad", ["", "camera", "camera6", "zoom3", "camera1+camera2", "camera3 light2", "clean+light1"])
def test_what_names_no_perturbation_is_refused(bad):
    with pytest.raises(BadData):
        Perturbation.parse(bad)


@pytest.mark.parametrize("bad", [6, -1, True, 2.0, "2"])
def test_what_is_no_level_is_refused(bad):
    with pytest.raises(BadData):
        Perturbation(camera=bad)


def test_magnitudes_grow_from_nothing():
    assert tuple(MAGNITUDES) == AXES
    for axis, quantities in MAGNITUDES.items():
        for name, most in quantities.items():
            assert len(most) == len(LEVELS), (axis, name)
            away = np.abs(np.array(most, float) - most[0])
            assert (np.diff(away) >= 0).all() and away[-1] > 0, (axis, name)


# ---- nothing, the same, and clean again ----------------------------------------------------------------


@pytest.mark.parametrize("task", [TASK, "spatial_placing/R", "obstacle_course/across"])
def test_level_0_is_the_scene_as_it_is(world, task):
    k, family = key(0, task), FAMILIES[task.partition("/")[0]]
    assert family.perturbed(family.sample(k), k, CLEAN) == family.sample(k)
    begin(world, Perturbation(camera=0, noise=0), k)
    assert type(world._stages[0]) is family.stage
    (snap,) = world.snapshot([0])
    assert b'"perturb"' not in snap
    clean = {role: x[0, 0] for role, x in world.observe([0]).images.items()}
    # The other model, unperturbed, draws the very same pictures and has the very same states.
    other, row = family.altered(), world._rows[0]
    other.alter(k, CLEAN, row.scene)
    other.dress(row.scene)
    other.set(row.joints, row.gripper, family.lying(row.scene))
    assert np.array_equal(other.paint(world._canvas, "front", (128, 128)), clean["front"])
    for stage in (other, world._stages[0]):
        stage.command(row.joints + 0.1, 0.5)
        for _ in range(5):
            stage.advance()
    assert np.array_equal(other.get_state(), world._stages[0].get_state())


@FAMILY_TASKS
def test_the_same_perturbation_is_the_same_episode_and_leaves_no_trace(world, task):
    k = key(1, task)
    begin(world, CLEAN, k)
    clean = trace(world, 0)
    with DeskWorld(1, EVERYTHING) as alone:
        alone.reset([k], [0])
        want = trace(alone, 0)
    # Whatever was in the row before:
    for perturb, before in ((only("light", 3), task), (EVERYTHING, task), (EVERYTHING, TASK)):
        begin(world, perturb, key(2, before), 1)
        trace(world, 1, 2)
    begin(world, EVERYTHING, k, 1)
    assert trace(world, 1) == want != clean
    begin(world, only("camera", 4), k, 1)
    assert trace(world, 1) not in (want, clean)
    begin(world, CLEAN, k, 1)
    assert trace(world, 1) == clean


@FAMILY_TASKS
@pytest.mark.parametrize("axis", AXES)
def test_every_axis_changes_what_it_should_and_no_more(world, axis, task):
    def look(perturb):
        begin(world, perturb, key(4, task))
        seen = world.observe([0])
        return seen, world._stages[0].get_state()

    clean, state = look(CLEAN)
    seen, now = look(only(axis, 5))
    assert np.array_equal(state, now) == (axis in SEEN)
    assert (seen.text == clean.text) == (axis != "language")
    same = {role: np.array_equal(seen.images[role], x) for role, x in clean.images.items()}
    assert same["wrist"] == (axis == "language")
    assert axis == "start" or same["front"] == (axis == "language")  # the arm may still begin outside the picture
    world.step(world.expert([0]), [0])
    if axis in SEEN:
        later = world._stages[0].get_state()
        look(CLEAN)
        world.step(world.expert([0]), [0])
        assert np.array_equal(world._stages[0].get_state(), later)


def looks(world, perturb, k):
    """What each axis made of an episode."""
    begin(world, perturb, k)
    row, stage = world._rows[0], world._stages[0]
    m, loose = stage.model, [(p.mesh, p.position.tolist()) for p in stage.loose]
    head = m.vis.headlight
    return {
        "layout": (row.family.lying(row.scene), loose),
        "camera": [m.cam_pos.tolist(), m.cam_quat.tolist()],
        "start": row.joints.tolist(),
        "language": row.scene.instruction,
        "light": [m.light_dir.tolist(), m.light_diffuse.tolist(), m.light_specular.tolist(), list(head.ambient)],
        "background": [hashlib.sha256(x).hexdigest() for x in stage.pictures.values()],
        "noise": row.sensor,
    }


@FAMILY_TASKS
def test_axes_compose_each_as_if_it_were_alone(world, task):
    for k, levels in ((key(4, task), (5, 2)), (key(5, task), (3, 4))):
        clean = looks(world, CLEAN, k)
        alone = {axis: looks(world, only(axis, levels[i % 2]), k)[axis] for i, axis in enumerate(AXES)}
        assert all(alone[axis] != clean[axis] for axis in AXES)
        pairs = [(a, b) for a in AXES for b in AXES if a < b] + [AXES]
        for some in pairs:
            perturb = Perturbation(**{axis: levels[AXES.index(axis) % 2] for axis in some})
            assert looks(world, perturb, k) == {a: alone[a] if a in some else clean[a] for a in AXES}, some


@FAMILY_TASKS
def test_snapshots_of_a_perturbed_row_go_on_exactly_in_a_clean_world(world, task):
    begin(world, EVERYTHING, key(6, task))
    for _ in range(20):
        world.step(world.expert([0]), [0])
    (snap,) = world.snapshot([0])
    with DeskWorld(1) as other:
        other.reset([key(7, task)], [0])
        other.restore([0], [snap])
        assert other.snapshot([0]) == [snap]
        assert trace(other, 0) == trace(world, 0)
        other.reset([key(7, task)], [0])
        begin(world, CLEAN, key(7, task))
        assert trace(other, 0) == trace(world, 0)


def test_a_perturbed_row_is_still_projected_and_reasoned_about_rightly(world):
    for i in range(6):
        begin(world, Perturbation(layout=5, camera=5), key(10 + i))
        picture = world.observe([0], ["front"]).images["front"][0, 0]
        pixels = world.project(to_be_seen(), "front", [0])[0]
        assert pixels.min() > -0.01 and pixels.max() < 128.01
        for (u, v), channel in zip(world.project(TRAY, "front", [0])[0], (2, 0)):
            assert picture[int(v), int(u)].argmax() == channel  # the tray's places are blue and orange
        scene, (index, pose) = world.scene(0), world.target(0)
        assert scene.tiles[index].digit == scene.equation.digits[0]
        assert np.allclose(pose[:2], (scene.tiles[index].x, scene.tiles[index].y))
        assert np.allclose(world.geometry([0])[0]["tiles"][:, :2], [(t.x, t.y) for t in scene.tiles])


@FAMILY_TASKS
def test_the_expert_solves_what_is_perturbed_most(world, task):
    for i, perturb in enumerate((EVERYTHING, only("layout", 5), only("start", 5), EVERYTHING)):
        begin(world, perturb, key(20 + i, task))
        while not (outcome := world.step(world.expert([0]), [0])).done[0]:
            pass
        assert outcome.success[0]


# ---- layout and start ----------------------------------------------------------------------------------


def test_a_changed_layout_asks_the_same_and_can_be_done():
    assert ARM_POS[:2] == p.BASE
    moved = []
    for level in LEVELS[1:]:
        far, toys, still = [], [], 0
        for i in range(80):
            k = key(i, ("maths_matching/R", "maths_matching/K-dev/2")[i % 2])
            was = sample_task(k)
            keys = keys_of(k, "layout", level)
            now = p.shifted(was, keys, level)
            still += now is was
            assert p.guarded(now, was)
            assert [t.digit for t in now.tiles] == [t.digit for t in was.tiles]
            assert not any(in_tray(t.x, t.y) for t in now.tiles)
            assert max(abs(t.yaw) for t in now.tiles) < math.radians(60.1)  # or a 6 were a 9
            far += [math.hypot(a.x - b.x, a.y - b.y) for a, b in zip(was.tiles, now.tiles)]
            toys.append(p.litter(now, keys, level))
            check_litter(toys[-1], now)
        assert still <= 1
        assert np.mean([len(t) for t in toys]) > MAGNITUDES["layout"]["toys"][level] - 0.2
        moved.append(np.mean(far))
    assert (np.diff(moved) > 0.005).all()


def check_litter(toys, scene):
    assert len({t.thing for t in toys}) == len(toys)
    for toy in toys:
        beside = [math.hypot(toy.x - t.x, toy.y - t.y) for t in scene.tiles]
        assert min(beside) > toy.kind.reach + TILE[0] / 2
        assert toy.y - toy.kind.reach > -0.19  # the board and what is before it stay free
        assert all(math.hypot(toy.x - x, toy.y - y) > toy.kind.reach + 0.03 for x, y in PLACES)
        assert toy.kind in p.LITTER and toy.kind.known != "X"


def test_the_guard_sees_what_cannot_be_done():
    was = next(s for s in (sample_task(key(i)) for i in range(99)) if len(s.tiles) == 3)
    poses = [(t.x, t.y, t.yaw) for t in was.tiles]
    assert p.guarded(was, was)
    for bad in ((poses[1][0] + 0.045, poses[1][1], 0.0), (0.3, 0.0, 0.0), (-0.02, -0.09, 0.0), (0.16, 0.14, 0.0)):
        assert not p.guarded(was.moved([bad, *poses[1:]]), was)
    assert not p.within(*PLACES[0])
    a, b = was.moved([(0, 0, 0), (0.06, 0, 0), *poses[2:]]).tiles[:2]
    assert p.clear(a, b)  # side by side, fingers pass between them
    a, b = was.moved([(0, 0, 1.0), (0.06, 0, 0), *poses[2:]]).tiles[:2]
    assert not p.clear(a, b)


def test_the_arm_starts_elsewhere_above_everything():
    usual = inverse(np.array(HOME) - ARM_POS, tool_down(0.0), np.zeros(6)).joints
    for level in LEVELS[1:]:
        for i in range(30):
            joints = start_joints(usual, key(i), level)
            off = np.linalg.norm(joints - usual)
            assert 0.1 * (level - 1) <= off <= 0.1 * level
            assert forward(joints)[0][2] > 0.08


# ---- words ---------------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(
    st.text(max_size=80).filter(lambda s: re.search(r"\w", s)) | st.sampled_from(INSTRUCTIONS),
    st.integers(0, 99),
    st.integers(1, 5),
)
def test_words_always_change_and_never_vanish(instruction, seed, steps):
    keys = Keys.seeded(1, "words", seed)
    said = rewrite(instruction, keys, steps)
    assert said.strip() and said != instruction
    assert said == rewrite(instruction, keys, steps)


def test_words_grow_with_the_level_and_do_not_tell_the_answer():
    added = [*ASKS, *BEFORE, *AFTER, *REASONS, *SO, *(w for _, short, long in OTHERWISE for w in (*short, *long))]
    numbers = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "first", "last")
    secret = {*numbers, "plus", "minus", "times", *COLUMNS, *ROWS, *FACES, *WORDS} - {"tiles"}
    assert not {w for text in added for w in re.findall(r"[a-z]+", text)} & secret
    assert not re.search(r"\d", " ".join(added))
    for instruction in INSTRUCTIONS:
        long = [np.mean([len(rewrite(instruction, Keys.seeded(1, i), n)) for i in range(150)]) for n in range(1, 6)]
        assert (np.diff(long) > 10).all()
        texts = [rewrite(instruction, Keys.seeded(1, i), 5) for i in range(150)]
        assert len(set(texts)) > 60 and max(map(len, texts)) < 400


def test_words_that_change_nothing_are_an_error(monkeypatch):
    k = key(0)
    for same in (sample_task(k).instruction, " "):
        monkeypatch.setattr("mindhand.worlds.perturb.rewrite", lambda *_, same=same: same)
        with pytest.raises(BadData, match="other words"):
            perturbed_scene(sample_task(k), k, only("language", 1))
    with pytest.raises(BadData, match="blank"):
        rewrite(" . ", Keys.seeded(1, 0), 2)


# ---- noise ---------------------------------------------------------------------------------------------

PICTURE = np.kron(Keys.seeded(1, "picture").integers(256, 32, 32, 3)[0], np.ones((4, 4, 1))).astype(np.uint8)


@pytest.mark.parametrize("kind", KINDS)
def test_noise_is_a_function_of_key_step_and_camera_and_grows(kind):
    changes = []
    for level in LEVELS[1:]:
        sensor = Sensor(kind, MAGNITUDES["noise"][kind][level], 0.4, keys_of(key(0), "noise", level))
        seen = sensor.see(PICTURE, "front", 3)
        assert seen.shape == PICTURE.shape and seen.dtype == np.uint8
        assert np.array_equal(seen, sensor.see(PICTURE.copy(), "front", 3))
        alive = kind in ("shot", "grain")
        assert np.array_equal(seen, sensor.see(PICTURE, "front", 4)) != alive
        assert np.array_equal(seen, sensor.see(PICTURE, "wrist", 3)) != (alive or kind == "fog")
        changes.append(np.abs(seen.astype(float) - PICTURE).mean())
    assert changes[0] > 0.5 and (np.diff(changes) > 0).all()


def test_blur_leaves_a_flat_picture_alone_and_a_streak_lies_as_it_is_told():
    flat = np.full((64, 64, 3), (200, 90, 13), np.uint8)
    for kind in ("motion", "gaussian", "zoom"):
        sensor = Sensor(kind, MAGNITUDES["noise"][kind][5], 1.1, keys_of(key(0), "noise", 5))
        assert np.array_equal(sensor.see(flat, "wrist", 0), flat)
    for angle in np.linspace(0, math.pi, 9):
        taps = np.array(streak(6.0, float(angle)))
        down, right = (taps[:, 2] @ taps[:, k] ** 2 for k in (0, 1))
        assert taps[:, 2].sum() == 256
        assert abs(math.atan2(math.sqrt(down), math.sqrt(right)) - math.asin(math.sin(angle))) < 0.12


def test_every_kind_of_noise_is_met():
    kinds = {Sensor.of(key(i), 3).kind for i in range(60)}
    assert kinds == set(KINDS)
    sensor = Sensor.of(key(1), 4)
    low, high = MAGNITUDES["noise"][sensor.kind][3:5]
    assert low <= sensor.strength <= high
