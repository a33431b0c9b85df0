"""The desk's senses agree with its geometry and forces, are pure functions of key and step, and level 0 is exact."""

import hashlib
import json
import math
from dataclasses import replace

import mujoco
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mindhand.core.errors import BadData
from mindhand.core.keys import Key
from mindhand.core.nouns import Observation
from mindhand.worlds.desk.altered import AlteredStage
from mindhand.worlds.desk.build import LABEL_TOP
from mindhand.worlds.desk.sense_touch import TAXELS
from mindhand.worlds.desk.sense_views import IDS, LABELS, beside, extrinsics, intrinsics, look, unproject
from mindhand.worlds.desk.senses import BOX, PLAIN, Senses, farthest
from mindhand.worlds.desk.world import DeskWorld
from mindhand.worlds.perturb import LEVELS, Perturbation, keys_of, litter, perturbed_scene
from mindhand.worlds.scene import sample_task

from .sensing import EVERYTHING, SHAPES, holding, key


@pytest.fixture(scope="module")
def world():
    with DeskWorld(rows=2) as made:
        yield made


@pytest.fixture(scope="module")
def held():
    with holding() as made:
        yield made


def hit(stage, role, shape, i, j):
    """Depth (m) and geom of what a ray through the middle of a pixel meets first."""
    model, data, c = stage.model, stage.data, stage.ids.cameras[role]
    focal = shape[0] / 2 / math.tan(math.radians(model.cam_fovy[c]) / 2)
    ray = np.array([(j + 0.5 - shape[1] / 2) / focal, (shape[0] / 2 - i - 0.5) / focal, -1.0])
    geom, groups = np.array([-1], np.int32), np.array([1, 1, 1, 1, 1, 0], np.uint8)
    ray = data.cam_xmat[c].reshape(3, 3) @ ray
    return mujoco.mj_ray(model, data, data.cam_xpos[c], ray, groups, 1, -1, geom), int(geom[0])


# ---- depth and labels ----------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["front", "wrist"])
def test_depth_and_labels_are_what_rays_meet(held, role):
    stage, canvas = held._stages[0], held._canvas
    depth, geoms = canvas.brush_of(stage.model).measure(stage.model, stage.data, stage.ids.cameras[role], SHAPES[role])
    flat, other, met = [], 0, range(1, SHAPES[role][0], 4)
    for i in met:
        for j in met:
            far, geom = hit(stage, role, SHAPES[role], i, j)
            other += geom != geoms[i, j]
            if geom == geoms[i, j] and stage.model.geom_type[geom] in (0, 6):  # round ones are drawn with corners
                flat.append(abs(far - depth[i, j]))
    assert other <= 0.01 * len(met) ** 2
    assert len(flat) > 0.8 * len(met) ** 2
    assert max(flat) < 1e-5


@pytest.mark.parametrize("role", ["front", "wrist"])
def test_points_of_the_table_lie_on_it_and_those_of_tiles_within_them(held, role):
    stage = held._stages[0]
    seen = look(stage, held._canvas, role, SHAPES[role])
    at = unproject(seen.depth, intrinsics(stage, role, SHAPES[role]), extrinsics(stage, role))
    assert np.abs(at[seen.labels == IDS["table"]][:, 2]).max() < 1e-5
    found = 0
    for k in range(stage.count):
        here = at[seen.labels == IDS[f"tile {k}"]]
        turn = stage.data.xmat[stage.ids.tiles[k]].reshape(3, 3)
        inside = np.abs((here - stage.positions[k]) @ turn)
        found += len(here) > 0
        assert (inside <= np.array([0.022, 0.026, LABEL_TOP]) + 1e-5).all()
    assert found >= 2


def test_what_lies_about_is_labelled_by_its_index_and_the_table_of_names_is_stable(world):
    perturb = Perturbation(layout=5, camera=3, background=2)
    world.perturb = perturb
    world.reset([key(5)], [0])
    world.observe([0])
    world.perturb = Perturbation()
    stage, scene = world._stages[0], world._rows[0].scene
    seen = look(stage, world._canvas, "front", (128, 128))
    names = {LABELS[int(k)] for k in np.unique(seen.labels)}
    toys = litter(scene, keys_of(key(5), "layout", 5), 5)
    assert {n for n in names if n.startswith("toy")} == {f"toy {k}" for k in range(len(toys))}
    solid = [t for t in toys if t.thing not in ("ring", "glasses", "moon")]  # whose middle is part of them
    for toy in solid:
        ((u, v),) = stage.project(np.array([(toy.x, toy.y, 0.006)]), "front", (128, 128))
        assert LABELS[int(seen.labels[int(v), int(u)])] == f"toy {toys.index(toy)}"
    at = unproject(seen.depth, intrinsics(stage, "front", (128, 128)), extrinsics(stage, "front"))
    for k, toy in enumerate(toys):
        here = at[seen.labels == IDS[f"toy {k}"]]
        assert np.hypot(*(here[:, :2] - (toy.x, toy.y)).T).max() <= toy.kind.reach + 1e-3
        assert here[:, 2].max() <= toy.kind.height + 1e-3
    assert {"table", "board", "tray"} <= names
    assert (IDS["nothing"], IDS["table"], IDS["arm"], IDS["tile 3"], IDS["toy 2"]) == (0, 1, 4, 19, 34)


def test_nothing_there_is_declared_not_filled_in(world):
    world.reset([key(0)], [0])
    world.observe([0])
    stage = world._stages[0]
    c = stage.ids.cameras["front"]
    try:
        down, level = math.sin(0.21), math.cos(0.21)  # the table ends 3 m away, in the middle of this picture
        stage.data.cam_xmat[c] = 1, 0, 0, 0, down, -level, 0, level, down
        seen = look(stage, world._canvas, "front", (128, 128))
    finally:
        stage.refresh()
    assert not seen.valid[:60].any() and seen.valid[-20:].all()
    assert (seen.depth[~seen.valid] == 0).all() and (seen.labels[~seen.valid] == IDS["nothing"]).all()


def test_measuring_leaves_pictures_as_they_were(world):
    world.reset([key(3)], [0])
    stage, pictures = world._stages[0], {}
    world.observe([0])
    for turn in range(2):
        for role in SHAPES:
            now = hashlib.sha256(stage.paint(world._canvas, role, (128, 128)).tobytes()).hexdigest()
            assert pictures.setdefault(role, now) == now
            if turn == 0:
                EVERYTHING.extras(stage, world._canvas, key(3), 0)
    assert len(set(pictures.values())) == 2


# ---- cameras -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def altered():
    return AlteredStage()


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from(sorted(SHAPES)),
    st.sampled_from(LEVELS),
    st.integers(0, 5),
    st.lists(st.tuples(*[st.floats(-0.6, 0.6)] * 3), min_size=1, max_size=8),
)
def test_calibration_is_that_of_project_under_any_camera(altered, role, level, index, points):
    perturb = Perturbation(camera=level)
    altered.alter(key(index), perturb, perturbed_scene(sample_task(key(index)), key(index), perturb))
    altered.refresh()
    points = np.array(points)
    inverse = np.linalg.inv(extrinsics(altered, role))
    seen = points @ inverse[:3, :3].T + inverse[:3, 3]
    shown = seen @ intrinsics(altered, role, (96, 128)).T
    want = altered.project(points, role, (96, 128))
    before, behind = seen[:, 2] > 0.02, seen[:, 2] < -0.02
    error = np.abs(shown[before, :2] / shown[before, 2:] - want[before])
    assert (error < 1e-6).all()
    assert np.isnan(want[behind]).all()
    turn = extrinsics(altered, role)[:3, :3]
    assert np.allclose(turn.T @ turn, np.eye(3), atol=1e-12) and np.linalg.det(turn) > 0


@given(st.sampled_from(sorted(SHAPES)), st.floats(0.1, 3.0), st.integers(2, 20), st.integers(2, 20))
def test_unproject_undoes_project_at_the_middle_of_pixels(altered, role, far, h, w):
    altered.refresh()
    at = unproject(np.full((h, w), far), intrinsics(altered, role, (h, w)), extrinsics(altered, role))
    assert at.shape == (h, w, 3)
    v, u = np.mgrid[:h, :w] + 0.5
    pixels = altered.project(at.reshape(-1, 3), role, (h, w))
    assert np.abs(pixels - np.stack([u, v], -1).reshape(-1, 2)).max() < 1e-6


def test_disparity_is_focal_times_baseline_over_depth(held):
    stage, canvas, shape, baseline = held._stages[0], held._canvas, (128, 128), 0.05
    left, right = (x.astype(float) for x in (
        stage.paint(canvas, "front", shape), beside(stage, canvas, "front", shape, baseline)))  # fmt: skip
    seen = look(stage, canvas, "front", shape)
    disparity = intrinsics(stage, "front", shape)[0, 0] * baseline / np.maximum(seen.depth, 0.1)
    assert 13 < np.median(disparity) < 20
    ink = (seen.labels == IDS["board"]) & (left.mean(-1) < 150)
    v, u = np.nonzero(ink)
    assert len(v) > 100

    def difference(off):
        x = u - disparity[v, u] + off
        low = np.floor(x).astype(int)
        part = (x - low)[:, None]
        return np.abs(right[v, low] * (1 - part) + right[v, low + 1] * part - left[v, u]).mean()

    offs = np.arange(-3, 3.01, 0.25)
    errors = [difference(off) for off in offs]
    assert abs(offs[int(np.argmin(errors))]) <= 0.25
    assert errors[int(np.argmin(errors))] < 0.3 * max(errors)
    assert np.array_equal(stage.paint(canvas, "front", shape), left)  # the camera stands where it stood
    assert np.array_equal(beside(stage, canvas, "front", shape, 0.0), left)


# ---- points --------------------------------------------------------------------------------------------


def test_points_are_of_the_scene_in_the_box_and_coloured_as_the_picture(held):
    stage, canvas = held._stages[0], held._canvas
    box = ((-0.2, 0.2), (-0.3, 0.2), (0.003, 0.3))  # without the table
    out = Senses(points=300, box=box).extras(stage, canvas, key(0), 4)
    points, valid = out["points"], out["points/valid"]
    assert points.dtype == np.float32 and points.shape == (300, 3) and valid.all()
    assert ((points >= np.array(box)[:, 0] - 1e-6) & (points <= np.array(box)[:, 1] + 1e-6)).all()
    pixels = stage.project(points.astype(float), "front", (128, 128))
    assert np.abs(pixels % 1 - 0.5).max() < 1e-3
    u, v = (pixels - 0.5).round().astype(int).T
    assert len(set(zip(u, v))) == 300
    assert np.array_equal(out["points/colours"], stage.paint(canvas, "front", (128, 128))[v, u])
    labels = look(stage, canvas, "front", (128, 128)).labels
    assert IDS["table"] not in labels[v, u]
    shifted = Senses(points=300, box=box, frame="arm_base").extras(stage, canvas, key(0), 4)["points"]
    assert np.abs(shifted - (points - stage.base)).max() < 1e-6
    fewer = Senses(points=100, box=box).extras(stage, canvas, key(0), 4)["points"]
    assert np.array_equal(fewer, points[:100])
    other = Senses(points=300, box=box).extras(stage, canvas, key(0), 5)["points"]
    assert not np.array_equal(other, points)


def test_where_there_are_too_few_points_the_rest_is_not_valid(held):
    out = Senses(points=500, box=((-0.02, 0.02), (-0.12, -0.1), (-0.1, 0.1))).extras(
        held._stages[0], held._canvas, key(0), 0
    )
    count = int(out["points/valid"].sum())
    assert 20 < count < 500
    assert out["points/valid"][:count].all()
    assert (out["points"][count:] == 0).all() and (out["points/colours"][count:] == 0).all()


def test_farthest_points_are_spread_better(held):
    def gap(points):
        apart = np.linalg.norm(points[:, None] - points[None], axis=-1) + 9 * np.eye(len(points))
        return apart.min()

    both = [
        Senses(points=128, sampling=how).extras(held._stages[0], held._canvas, key(0), 0)["points"]
        for how in ("random", "farthest")
    ]
    assert gap(both[1]) > 5 * gap(both[0])
    line = np.c_[[0.0, 1.0, 10.0, 4.0], np.zeros((4, 2))]
    assert farthest(line, 3).tolist() == [0, 2, 3]
    assert farthest(line, 9).tolist() == [0, 2, 3, 1]
    assert farthest(np.zeros((0, 3)), 3).size == 0


# ---- what is asked for ---------------------------------------------------------------------------------


def test_extras_are_those_asked_for_and_fit_an_observation(held):
    rows = [
        EVERYTHING.extras(s, held._canvas, k, 0) for s, k in zip(held._stages, (key(0), key(1)))
    ]  # fmt: skip
    shapes = {n: (x.dtype.name, x.shape) for n, x in rows[0].items()}
    expected = {"stereo/front": ("uint8", (128, 128, 3)), "stereo/front/baseline": ("float32", ()),
                "points": ("float32", (256, 3)), "points/colours": ("uint8", (256, 3)),
                "points/valid": ("bool", (256,))}  # fmt: skip
    for role, shape in SHAPES.items():
        expected |= {f"intrinsics/{role}": ("float32", (3, 3)), f"extrinsics/{role}": ("float32", (4, 4)),
                     f"depth/{role}": ("float32", shape), f"depth/{role}/valid": ("bool", shape),
                     f"segmentation/{role}": ("int32", shape)}  # fmt: skip
    for side in ("left", "right"):
        expected |= {f"touch/{side}": ("float32", (3,)), f"touch/{side}/taxels": ("float32", TAXELS)}
    assert shapes == expected
    seen = held.observe([0, 1])
    extras = {n: np.stack([r[n] for r in rows])[:, None] for n in rows[0]}
    full = Observation(seen.images, seen.state, seen.text, seen.time, seen.keys, extras=extras)
    assert full.rows([1]).extras["depth/front"].shape == (1, 1, 128, 128)
    assert not PLAIN and PLAIN.extras(held._stages[0], held._canvas, key(0), 0) == {}


def test_another_arms_camera_is_like_the_first_ones(held, monkeypatch):
    stage = held._stages[0]
    cameras = {**stage.ids.cameras, "wrist_right": stage.ids.cameras["wrist"]}
    monkeypatch.setattr(stage, "ids", replace(stage.ids, cameras=cameras))
    both = Senses(depth=("wrist", "wrist_right"), noise=0.0).extras(stage, held._canvas, key(0), 0)
    assert np.array_equal(both["depth/wrist"], both["depth/wrist_right"])
    monkeypatch.undo()
    with pytest.raises(BadData, match="wrist_right"):
        Senses(depth=("wrist_right",)).extras(stage, held._canvas, key(0), 0)
    with pytest.raises(BadData, match="back"):
        Senses(depth=("back",)).extras(stage, held._canvas, key(0), 0)


roles = st.lists(st.sampled_from(("front", "wrist", "wrist_right")), unique=True, max_size=3).map(tuple)


@given(
    st.builds(
        Senses, depth=roles, segmentation=roles, cameras=roles, stereo=st.floats(0, 0.2), points=st.integers(0, 4096),
        frame=st.sampled_from(("table", "arm_base")), sampling=st.sampled_from(("random", "farthest")),
        touch=st.booleans(), noise=st.floats(0, 3), box=st.sampled_from((BOX, ((0, 1), (0, 1), (0, 0.5)))),
    )
)  # fmt: skip
def test_senses_are_read_back_from_their_json(some):
    assert Senses.from_json(json.loads(json.dumps(some.to_json()))) == some
    assert hash(some) == hash(Senses.from_json(some.to_json()))


@pytest.mark.parametrize(
    "bad",
    [
        {"depth": "front"}, {"depth": ("front", "front")}, {"points": -1}, {"points": 3, "views": ()},
        {"frame": "camera"}, {"sampling": "grid"}, {"noise": -0.1}, {"noise": math.inf}, {"stereo": -0.1},
        {"stereo": math.nan}, {"box": ((0, 1), (0, 1))}, {"box": ((0, 1), (0, 1), (1, 0))},
    ],
)  # fmt: skip
def test_what_cannot_be_sensed_is_refused(bad):
    with pytest.raises(BadData, match=next(iter(bad))):
        Senses(**bad)


def test_unknown_senses_are_refused():
    with pytest.raises(BadData, match="smell"):
        Senses.from_json({"smell": True})


def test_a_world_tells_them_to_a_policy_and_what_is_felt_to_filters():
    senses = Senses(depth=("front",), segmentation=("front",), stereo=0.05, points=64, touch=True, noise=1.0)
    with DeskWorld(2, senses=senses) as world, DeskWorld(2) as plain:
        keys = [Key("senses", "maths_matching/R", 0), Key("senses", "spatial_placing/R", 1)]
        for one in (world, plain):
            one.reset(keys, [0, 1])
        told, usual = world.observe([0, 1]), plain.observe([0, 1])
        assert told.extras["depth/front"].shape == (2, 1, 128, 128) and told.extras["points"].shape == (2, 1, 64, 3)
        assert all(np.array_equal(told.images[role], usual.images[role]) for role in usual.images)
        for cameras in (("front",), ()):  # a recorder's, and a filter's, which is asked at every control step
            felt = world.observe([0, 1], cameras).extras
            assert set(felt) == {n for n in told.extras if n.startswith("touch")} and len(felt) == 4
            assert all(np.array_equal(x, told.extras[name]) for name, x in felt.items())
            assert not usual.extras and not plain.observe([0, 1], cameras).extras
        again = world.observe([1])
        assert all(np.array_equal(again.extras[name][0], told.extras[name][1]) for name in told.extras)
