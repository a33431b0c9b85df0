"""What the pads feel is what contacts press, and noise is as published, keyed, and nothing at level 0."""

import math
from dataclasses import replace

import mujoco
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mindhand.core.keys import Keys
from mindhand.worlds.desk import sense_noise
from mindhand.worlds.desk.arm import PAD
from mindhand.worlds.desk.canvas import Canvas
from mindhand.worlds.desk.sense_touch import TAXELS, bench, splat, touch
from mindhand.worlds.desk.sense_views import IDS, beside, look
from mindhand.worlds.desk.senses import Senses
from mindhand.worlds.desk.world import DeskWorld
from mindhand.worlds.perturb_noise import Sensor

from .sensing import EVERYTHING, SHAPES, digest, holding, key


@pytest.fixture(scope="module")
def held():
    with holding() as made:
        yield made


# ---- touch ---------------------------------------------------------------------------------------------


def pads(stage):
    return {side: stage.model.geom(f"arm/{side}_pad").id for side in ("left", "right")}


def test_forces_are_the_contacts_summed(held):
    stage = held._stages[0]
    felt, d, wrench = touch(stage), bench(stage), np.zeros(6)
    for side, pad in pads(stage).items():
        total = np.zeros(3)
        for k in range(d.ncon):
            contact = d.contact[k]
            mujoco.mj_contactForce(stage.model, d, k, wrench)
            on_second = contact.frame.reshape(3, 3).T @ wrench[:3]
            total += on_second if contact.geom2 == pad else -on_second if contact.geom1 == pad else 0.0
        assert np.isclose(np.linalg.norm(felt[side].force), np.linalg.norm(total))
        own = stage.data.geom_xmat[pad].reshape(3, 3).T @ total
        sign = 1 if side == "left" else -1
        assert np.allclose(felt[side].force, [own[0], -sign * own[2], sign * own[1]], atol=1e-9)
        assert np.isclose(felt[side].taxels.sum(), felt[side].force[2], rtol=1e-3)


def test_a_held_tile_is_carried_by_friction_and_squeezed_from_both_sides(held):
    stage = held._stages[0]
    (tile,) = np.flatnonzero(stage.positions[:, 2] > 0.05)
    assert stage.still(tile, 0.005, 0.9)
    felt = touch(stage)
    weight = 9.81 * 0.03
    shares = [felt[side].force[0] for side in ("left", "right")]  # x is down: the tool points down
    assert np.isclose(sum(shares), weight, rtol=0.02)
    assert min(shares) > 0.2 * weight
    presses = [felt[side].force[2] for side in ("left", "right")]
    assert min(presses) > 5
    assert np.isclose(*presses, rtol=0.02)
    assert felt["left"].taxels[2:].sum() > 0.9 * presses[0]  # it is held by the tips


def test_empty_pads_feel_nothing_and_an_obstacle_is_felt_outside_the_faces(held):
    stage = held._stages[1]
    for felt in touch(stage).values():
        assert not felt.force.any() and not felt.taxels.any()
    snap = stage.get_state()
    joints = stage.joints.copy()
    try:
        stage.data.qpos[stage.ids.tile_qpos[0] : stage.ids.tile_qpos[0] + 3] = stage.tcp - np.array([0, 0, 0.0175])
        stage.data.qpos[stage.ids.tile_qpos[0] + 3 : stage.ids.tile_qpos[0] + 7] = 1, 0, 0, 0
        stage.data.qpos[stage.ids.fingers] = 0.021, -0.021
        stage.refresh()
        felt = touch(stage)
        assert np.array_equal(stage.joints, joints)
        for side in ("left", "right"):  # the tips stand on a tile: it pushes them back along x
            assert felt[side].force[0] < -0.1
            assert felt[side].taxels.sum() < 0.05 * abs(felt[side].force[0])
    finally:
        stage.set_state(snap)


def test_touch_is_a_function_of_the_state_and_touches_nothing(held):
    stage, other = held._stages
    before = (stage.get_state().tobytes(), stage.data.contact.pos.tobytes(), stage.data.qacc.tobytes())
    want = digest(Senses(touch=True).extras(stage, held._canvas, key(0), 3))
    assert (stage.get_state().tobytes(), stage.data.contact.pos.tobytes(), stage.data.qacc.tobytes()) == before
    (here, there) = held.snapshot([0, 1])
    held.restore([1], [here])  # where another episode's contacts were
    assert digest(Senses(touch=True).extras(other, held._canvas, key(0), 3)) == want
    held.restore([1], [there])


@given(st.floats(-PAD[0], PAD[0]), st.floats(-PAD[2], PAD[2]), st.floats(0, 50))
def test_splatting_keeps_the_amount_and_its_middle(x, y, amount):
    shared = splat(x, y, amount)
    assert shared.shape == TAXELS and (shared >= 0).all()
    assert np.isclose(shared.sum(), amount)
    for axis, (q, half) in enumerate(((x, PAD[0]), (y, PAD[2]))):
        middles = half * ((2 * np.arange(TAXELS[axis]) + 1) / TAXELS[axis] - 1)
        want = np.clip(q, middles[0], middles[-1])
        assert np.isclose(shared.sum(1 - axis) @ middles, want * shared.sum(), atol=1e-9)


# ---- noise ---------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.floats(-1.2, 1.2), st.floats(-math.pi, math.pi), st.floats(0.3, 3.0))
def test_a_plane_is_seen_at_its_angle_and_has_no_edges(lean, around, far):
    focal, size = 100.0, 24
    normal = np.array([math.sin(lean) * math.cos(around), math.sin(lean) * math.sin(around), math.cos(lean)])
    x, y = (np.mgrid[:size, :size][::-1] + 0.5 - size / 2) / focal
    rays = np.stack([x, y, np.ones_like(x)], -1)
    near = (rays @ normal) / (far * normal[2])
    angle, gap = sense_noise.slopes(near.astype(np.float32), focal)
    want = np.arccos(np.abs(rays @ normal) / np.linalg.norm(rays, axis=-1))
    assert np.abs(angle - want).max() < 0.02
    assert gap.max() < 1e-5


def plane(far, size=96):
    return np.full((size, size), far, np.float32), np.ones((size, size), bool)


def test_depth_noise_grows_with_the_square_of_the_distance_in_whole_steps_of_disparity():
    spread = {}
    for far in (0.6, 1.2, 2.4, 4.8):
        depth, valid = sense_noise.noisy_depth(*plane(far), 300.0, Keys.of([key(0)]), 1.0)
        assert valid.all()
        steps = 1 / depth / sense_noise.STEP
        assert np.abs(steps - steps.round()).max() < 1e-2
        assert abs(depth.mean() - far) < 0.003 * far**2
        spread[far] = depth.std()
        published = math.hypot(0.0012 + 0.0019 * (far - 0.4) ** 2, sense_noise.STEP * far**2 / math.sqrt(12))
        assert 0.85 < spread[far] / published < 1.15
    assert spread[4.8] / spread[2.4] > 3.5
    half = sense_noise.noisy_depth(*plane(2.4), 300.0, Keys.of([key(0)]), 0.5)[0]
    assert 0.4 < half.std() / spread[2.4] < 0.6


def test_depth_is_missing_behind_edges_and_on_surfaces_seen_from_the_side():
    depth, valid = plane(1.2)
    depth[:, :48] = 0.9
    focal = 400.0  # the shadow is wider than a pixel: nothing is left of those beside the edge
    found = sense_noise.noisy_depth(depth, valid, focal, Keys.of([key(0)]), 1.0)[1]
    assert not found[:, 48].any() and found[:, 50:].all() and found[:, :48].all()
    half = sense_noise.noisy_depth(depth, valid, 20.0, Keys.of([key(0)]), 1.0)[1][:, 48].mean()
    assert 0.2 < half < 0.9
    x = (np.arange(96) + 0.5 - 48) / 400
    for degrees, left in ((60, 1.0), (77.5, 0.5), (88, 0.0)):
        slope = math.tan(math.radians(degrees))
        steep = np.broadcast_to(1 / ((1 + slope * x) / 1.0), (96, 96)).astype(np.float32)
        found = sense_noise.noisy_depth(steep, valid, 400.0, Keys.of([key(0)]), 1.0)[1]
        assert abs(found.mean() - left) < 0.2


def test_level_0_is_exact_and_other_levels_are_not(held):
    stage, canvas = held._stages[0], held._canvas
    clean = replace(EVERYTHING, noise=0.0).extras(stage, canvas, key(0), 1)
    for role, shape in SHAPES.items():
        exact = look(stage, canvas, role, shape)
        assert np.array_equal(clean[f"depth/{role}"], exact.depth)
        assert np.array_equal(clean[f"segmentation/{role}"], exact.labels)
    assert np.array_equal(clean["stereo/front"], beside(stage, canvas, "front", (128, 128), 0.05))
    for pad, felt in touch(stage).items():
        assert np.array_equal(clean[f"touch/{pad}"], felt.force.astype(np.float32))
        assert np.array_equal(clean[f"touch/{pad}/taxels"], felt.taxels.astype(np.float32))
    spoilt = EVERYTHING.extras(stage, canvas, key(0), 1)
    assert {n for n in clean if np.array_equal(clean[n], spoilt[n])} - {"points/valid"} == {
        n for n in clean if n.startswith(("intrinsics", "extrinsics")) or n.endswith("baseline")
    }
    error = (spoilt["depth/front"] - clean["depth/front"])[spoilt["depth/front/valid"]]
    assert 0.001 < np.sqrt(np.median(error**2)) < 0.004
    assert 0.9 < spoilt["depth/front/valid"].mean() < 1
    labels, clear = spoilt["segmentation/front"], clean["segmentation/front"]
    assert 0.9 < (labels == clear).mean() < 1 and (labels[labels != clear] == IDS["nothing"]).all()
    shift = np.abs(spoilt["stereo/front"].astype(int) - clean["stereo/front"])
    assert 0 < np.median(shift) < 12
    assert np.abs(spoilt["touch/left"] - clean["touch/left"]).max() < 2


def test_noise_of_touch_has_a_threshold_and_a_gain_that_lasts():
    taxels, force = np.zeros((4, 4)), np.array([0.0, 0.0, 10.0])
    taxels[1, 1] = 10.0
    gains, quiet = set(), 0
    for step in range(40):
        felt, pressed = sense_noise.noisy_touch(force, taxels, Keys.of([key(0)]), step, 1.0)
        gains.add(round(felt[2] / 10, 1))
        assert ((pressed == 0) | (pressed >= sense_noise.TOUCH_LEAST)).all()
        quiet += (pressed == 0).sum()
    assert quiet > 0.95 * 40 * 15
    assert len(gains) == 1


def test_the_same_key_and_step_sense_the_same_anywhere(held):
    stage = held._stages[0]
    want = EVERYTHING.extras(stage, held._canvas, key(0), 7)
    assert digest(EVERYTHING.extras(stage, held._canvas, key(0), 7)) == digest(want)
    (snap,) = held.snapshot([0])
    with DeskWorld(rows=1) as other:
        other.restore([0], [snap])
        canvas = Canvas(128)
        assert digest(EVERYTHING.extras(other._stages[0], canvas, key(0), 7)) == digest(want)
        canvas.close()
    # One sense does not change another's noise.
    assert np.array_equal(Senses(depth=("front",), noise=1.0).extras(
        stage, held._canvas, key(0), 7)["depth/front"], want["depth/front"])  # fmt: skip
    for again in ((key(1), 7), (key(0), 8)):
        other = EVERYTHING.extras(stage, held._canvas, *again)
        same = {n for n in want if np.array_equal(want[n], other[n])}
        assert same <= {n for n in want if n.startswith(("intri", "extri")) or n.endswith(("baseline", "points/valid"))}


def test_a_bad_camera_spoils_the_second_picture_too(held):
    stage, canvas = held._stages[0], held._canvas
    senses, clean = Senses(stereo=0.05), beside(stage, canvas, "front", (128, 128), 0.05)
    for kind in ("fog", "gaussian", "grain"):
        sensor = next(s for s in (Sensor.of(key(i), 4) for i in range(99)) if s.kind == kind)
        got = senses.extras(stage, canvas, key(0), 2, sensor)["stereo/front"]
        assert not np.array_equal(got, clean)
        same = np.array_equal(got, sensor.see(clean, "front", 2))
        assert same is (kind != "grain")  # grain is each camera's own
