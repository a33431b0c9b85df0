"""Composed pictures are the simulator's, but for the last bit of blur: on every view, with and without an arm."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest

from mindhand.core.keys import Keys
from mindhand.data.synthetic.compose import Sheet
from mindhand.data.synthetic.picture import Hand, composed, front, reaches
from mindhand.data.synthetic.resample import read, shrunk, taps
from mindhand.data.synthetic.view import view
from mindhand.worlds.desk.render import render_scene
from mindhand.worlds.draw import Draw
from mindhand.worlds.scene import PLACES, Tile, sample_maths

SCENES = [sample_maths(Keys.seeded(1, "composed", i), "R", fonts="RKX"[i % 3]) for i in range(6)]


def differs(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """How far two pictures are apart: on average (of 255), and the share of pixels that anyone could see."""
    d = np.abs(a.astype(int) - b).max(-1)
    return float(d.mean()), float((d > 24).mean())


@pytest.mark.parametrize("number", [0, 1, 5])
def test_it_is_what_the_simulator_renders(number):
    at = view(number)
    for scene in SCENES:
        ours, theirs = Sheet(scene, at).seen(), render_scene(scene, jitter=at.jitter)
        mean, share = differs(ours.image, theirs.image)
        assert mean < 0.6 and share < 0.006, (mean, share)
        one_less = replace(scene, tiles=scene.tiles[1:])  # and a single tile would be noticed
        mean, share = differs(ours.image, render_scene(one_less, jitter=at.jitter).image)
        assert mean > 0.6 and share > 0.006, (mean, share)
        marks = {(m.where, m.index): (m.u, m.v) for m in theirs.marks}
        for k, point in enumerate(ours.board):
            assert np.allclose(point, marks["board", k], atol=1e-3)
        for k, point in enumerate(ours.tiles):
            assert np.allclose(point, marks["tile", k], atol=1e-3)
        assert np.allclose(ours.places, theirs.places, atol=1e-3)


def test_a_tile_in_the_tray_lies_on_its_plate():
    scene = SCENES[0]
    scene = scene.moved([(*PLACES[0], 0.05), *[(t.x, t.y, t.yaw) for t in scene.tiles[1:]]])
    mean, share = differs(composed(scene).image, render_scene(scene).image)
    assert mean < 0.6 and share < 0.006


def test_an_arm_hides_what_the_simulator_hides():
    for scene in SCENES:
        tile = scene.tiles[0]
        hand = Hand(at=(tile.x, tile.y, 0.05, tile.yaw))
        ours, theirs = composed(scene, None, hand), front(scene, None, hand)
        mean, share = differs(ours.image, theirs.image)
        assert mean < 0.8 and share < 0.01, (mean, share)
        assert 0 in ours.covered and ours.covered == theirs.covered


def test_a_tile_between_the_fingers_is_seen_there():
    at = view(3)
    scene = next(s for s in SCENES if len(s.tiles) < 5)
    for index in range(6):
        tool = reaches(Draw(Keys.seeded(1, "tool", index)), True)[0]
        held = Tile(4, *tool[:2], tool[3], "orange", "blue", "other")
        arm = at.arm(tool, held)
        theirs = render_scene(scene, tcp=arm.tool, held=held, jitter=at.jitter)
        sheet = Sheet(scene, at)
        sheet.put(arm, held)
        mean, share = differs(sheet.seen().image, theirs.image)
        assert mean < 1.0 and share < 0.015, (index, mean, share)


def test_shrinking_halves_and_mixes():
    rng = np.random.default_rng(0)
    a = rng.random((38, 64)).astype(np.float32)
    assert shrunk(a, 1.0) is a
    half = shrunk(a, 2.0)
    assert half.shape == (19, 32) and np.allclose(half[3, 5], a[6:8, 10:12].mean())
    between = shrunk(a, 2.0**0.5)
    assert between.shape == a.shape and between.std() < a.std()
    assert np.allclose(shrunk(np.full((37, 50), 0.25, np.float32), 5.3), 0.25)  # odd sizes, several halvings
    y, x = np.mgrid[:38, :64] + 0.5
    assert np.allclose(read(a, taps(x.ravel(), y.ravel(), a.shape)), a.ravel(), atol=1e-6)
    beyond = taps(np.array([-3.0, 99.0]), np.array([-3.0, 99.0]), a.shape)
    assert np.allclose(read(a, beyond), [a[0, 0], a[-1, -1]])


def test_a_ray_along_a_tile_s_face_is_no_accident():
    """Rays that run exactly along an axis of a tile, over its middle and beside it, are drawn as their neighbours."""
    scene = SCENES[0]
    tile = replace(scene.tiles[0], yaw=0.0)
    alone, at = replace(scene, tiles=(tile,)), copy.copy(view(0))
    u, v = (int(c) for c in at.project(np.array([(tile.x, tile.y, 0.02)]))[0])
    at.rays = at.rays.copy()
    at.rays[0, [v * 128 + u, v * 128 + u + 20]] = 0.0
    with np.errstate(all="raise"):
        drawn = Sheet(alone, at).seen().image
    mean, share = differs(drawn, Sheet(alone, view(0)).seen().image)
    assert mean < 0.05 and share < 0.001
