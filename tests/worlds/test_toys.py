"""Every declared toy can be seen, where its box says, in its colour and material."""

import math
from dataclasses import replace

import numpy as np
import pytest

from mindhand.core.errors import BadData
from mindhand.core.keys import Keys
from mindhand.worlds.boards import Notice
from mindhand.worlds.desk.canvas import Canvas
from mindhand.worlds.desk.costumes import pattern
from mindhand.worlds.desk.kinematics import inverse, tool_down
from mindhand.worlds.desk.notices import notice
from mindhand.worlds.desk.placing_judge import opening
from mindhand.worlds.desk.playground import ToyStage
from mindhand.worlds.desk.render import look
from mindhand.worlds.desk.show import render_toys
from mindhand.worlds.desk.solids import arc, ball, box, lathe, normals, prism, rod, triangulate
from mindhand.worlds.desk.textures import board
from mindhand.worlds.desk.toys import BODY, meshes, outline, pieces
from mindhand.worlds.grips import GRIPS
from mindhand.worlds.placing import PlacingScene
from mindhand.worlds.scene import sample_maths
from mindhand.worlds.things import COLOURS, MATERIALS, THINGS, Toy, ToyScene, sample_toys, things

BOARD = sample_maths(Keys.seeded(1, "toys"), "K-dev").board
NAMES = [t.name for t in THINGS]
EMPTY = render_toys(ToyScene(()), BOARD).image.astype(int)


def lone(thing, colour="red", material="plain", yaw=0.4, x=0.01, y=0.0):
    """A scene of one toy."""
    return ToyScene((Toy(thing, colour, material, x, y, yaw),))


def changed(image, before=EMPTY):
    """(n,2) pixels (u,v) that differ from another picture's."""
    return np.argwhere((image != before).any(-1))[:, ::-1]


def hue(colours):
    """Directions of colours (...,3), without their brightness."""
    c = np.asarray(colours, float)
    return c / np.linalg.norm(c, axis=-1, keepdims=True)


def volume(triangles):
    """What they enclose."""
    return np.linalg.det(triangles).sum() / 6


def test_solids_are_closed_and_face_outward():
    square = [(0, 0), (0, 2), (2, 2), (2, 0)]  # clockwise: turned round
    crescent = np.concatenate([arc(32, 47, 313, 15), arc(25, 290, 70, 9, (13, 0))])
    area = 0.5 * sum(a[0] * b[1] - a[1] * b[0] for a, b in zip(crescent, np.roll(crescent, -1, 0)))
    for solid, size in (
        (prism(square, 1, 4), 12),
        (box((2, 3, 4), (5, 5, 5)), 24),
        (prism(crescent, 0, 2), 2 * area),
        (lathe([(0, 0), (1, 0), (1, 2), (0, 2)], 64), 2 * math.pi),
        (lathe(arc(1, 0, 360, 33, (3, 0))[:-1], 64, closed=True), 6 * math.pi**2),
        (ball((1, 2, 3), (0, 0, 0), 48, 24), 8 * math.pi),
        (rod([(0, 0, 1), (3, 0, 1), (6, 0, 1)], [1, 1, 1], 64), 6 * math.pi),
    ):
        assert volume(solid) == pytest.approx(size, rel=0.02)
        # every edge is walked once each way
        edges = [(tuple(t[k].round(6) + 0.0), tuple(t[(k + 1) % 3].round(6) + 0.0)) for t in solid for k in range(3)]
        assert len(set(edges)) == len(edges)
        assert {(b, a) for a, b in edges} == set(edges)
        face = np.cross(solid[:, 1] - solid[:, 0], solid[:, 2] - solid[:, 0])
        assert (np.einsum("nck,nk->nc", normals(solid), face) > 0).all()


def test_ears_are_cut_off_concave_outlines():
    star = np.stack([arc(3, 90, 450, 6)[:-1], arc(1, 126, 486, 6)[:-1]], 1).reshape(-1, 2)
    cut = star[triangulate(star)]
    sides = np.diff(cut, axis=1)
    areas = (sides[:, 0, 0] * sides[:, 1, 1] - sides[:, 0, 1] * sides[:, 1, 0]) / 2
    assert len(cut) == 8
    assert (areas > 0).all()
    assert areas.sum() == pytest.approx(5 * 3 * 1 * math.sin(math.radians(36)))
    with pytest.raises(ValueError, match="clockwise"):
        triangulate(star[::-1])


@pytest.mark.parametrize("name", NAMES)
def test_a_toy_stays_within_its_declared_circle_and_height(name):
    thing = next(t for t in THINGS if t.name == name)
    made, points = pieces(name), outline(name)
    assert any(p.paint == BODY for p in made)
    everything = np.concatenate([p.solid.reshape(-1, 3) for p in made])
    assert 6 <= len(points) <= 300
    assert np.hypot(everything[:, 0], everything[:, 1]).max() <= thing.reach + 5e-4
    assert np.hypot(points[:, 0], points[:, 1]).max() >= 0.9 * thing.reach
    assert -1e-9 <= everything[:, 2].min() < 0.003
    assert abs(everything[:, 2].max() - thing.height) < 0.0015
    assert len(meshes(name)) <= 6
    assert sum(len(m.corners) for m in meshes(name)) < 900


@pytest.mark.parametrize("name", NAMES)
def test_a_toy_is_seen_in_its_box_and_fills_it(name):
    for k, yaw in enumerate((0.0, 0.7, 2.1, -1.4)):
        shown = render_toys(lone(name, "white", yaw=yaw, x=0.12 * (k - 1.5) / 1.5, y=0.03 * k - 0.06), BOARD)
        seen, (left, top, right, bottom) = changed(shown.image), shown.boxes[0]
        assert len(seen) > 60
        low, high = seen.min(0), seen.max(0) + 1
        assert (low >= (left - 1, top - 1)).all() and (high <= (right + 1, bottom + 1)).all()
        assert (low <= (left + 2, top + 2)).all() and (high >= (right - 2, bottom - 2)).all()
        assert ((shown.middles[0] > (left, top)) & (shown.middles[0] < (right, bottom))).all()


@pytest.mark.parametrize("name", NAMES)
def test_plain_toys_show_their_colour(name):
    for colour, rgb in COLOURS.items():
        if colour in ("white", "black"):  # no hue: by brightness
            continue
        shown = render_toys(lone(name, colour), BOARD)
        u, v = changed(shown.image).T
        near = np.abs(hue(shown.image[v, u]) - hue(rgb)).max(-1) < 0.1
        assert near.mean() > 0.3, colour
        others = [
            (np.abs(hue(shown.image[v, u]) - hue(c)).max(-1) < 0.1).mean() for n, c in COLOURS.items() if n != colour
        ]
        assert near.mean() > max(others), colour
    pale, dark = (
        np.median(render_toys(lone(name, c), BOARD).image[v, u].astype(float).mean(-1)) for c in ("white", "black")
    )
    assert pale > dark + 50


@pytest.mark.parametrize("name", NAMES)
def test_materials_are_told_apart(name):
    for colour in ("blue", "yellow", "white", "black"):
        plain, *others = (render_toys(lone(name, colour, m), BOARD).image.astype(int) for m in MATERIALS)
        size = len(changed(plain))
        for image in others:
            assert (np.abs(image - plain).sum(-1) > 60).sum() > 0.1 * size, colour
        assert (np.abs(others[0] - others[1]).sum(-1) > 60).sum() > 0.1 * size, colour


def test_a_pattern_holds_more_of_its_colour_than_of_the_other():
    for colour, rgb in COLOURS.items():
        for material in MATERIALS[1:]:
            own = (pattern(colour, material) == rgb).all(-1).mean()
            assert 0.55 < own < 0.8


def test_what_a_container_holds_lies_in_it():
    for holder in things(("R", "K"), True):
        alone = lone(holder.name, "white", x=-0.06, y=0.02)
        # where it says it lies itself does not matter
        ball = Toy("ball", "red", "plain", 0.1, -0.1, 0.0, held_by=0)
        shown = render_toys(ToyScene((*alone.toys, ball)), BOARD)
        before = render_toys(alone, BOARD)
        seen, (left, top, right, bottom) = changed(shown.image, before.image), shown.boxes[1]
        assert len(seen) > 60
        assert (seen.min(0) >= (left - 1, top - 1)).all() and (seen.max(0) + 1 <= (right + 1, bottom + 1)).all()
        assert np.abs(shown.boxes[1, ::2].mean() - before.middles[0, 0]) < 3
        assert np.array_equal(shown.boxes[0], before.boxes[0])


def test_copies_are_all_drawn():
    colours = list(COLOURS)[:6]
    toys = tuple(
        Toy("duck", c, "plain", 0.09 * (k % 3 - 1), 0.09 * (k // 3) - 0.08, 0.5) for k, c in enumerate(colours)
    )
    shown = render_toys(ToyScene(toys), BOARD)
    for colour, (left, top, right, bottom) in zip(colours, shown.boxes.round().astype(int)):
        inside = shown.image[top:bottom, left:right].reshape(-1, 3)
        assert (np.abs(hue(inside) - hue(COLOURS[colour])).max(-1) < 0.08).sum() > 60, colour


def test_pictures_are_a_function_of_the_scene_the_board_and_the_look():
    for i in range(8):
        scene = sample_toys(Keys.seeded(1, "toys", i), ("R", "K", "X"))
        here = look(Keys.seeded(1, "look", i))
        first, shaken = render_toys(scene, BOARD), render_toys(scene, BOARD, look=here)
        again = render_toys(scene, BOARD)
        assert first.image.shape == (128, 128, 3) and first.image.dtype == np.uint8
        assert np.array_equal(first.image, again.image) and np.array_equal(first.boxes, again.boxes)
        assert np.array_equal(shaken.image, render_toys(scene, BOARD, look=here).image)
        assert not np.array_equal(shaken.boxes, first.boxes)
        assert len(first.boxes) == len(first.middles) == len(scene.toys)
        assert (first.boxes >= 0).all() and (first.boxes <= 128).all()
        assert np.abs(render_toys(scene, BOARD, size=256).boxes - 2 * first.boxes).max() < 1e-6


def test_boxes_follow_the_camera():
    for i in range(6):
        here, scene = look(Keys.seeded(1, "look", i)), lone(NAMES[5 * i], "white")
        before = render_toys(ToyScene(()), BOARD, look=here).image
        shown = render_toys(scene, BOARD, look=here)
        seen = changed(shown.image, before)
        measured = [*seen.min(0), *(seen.max(0) + 1)]
        assert np.abs(measured - shown.boxes[0]).max() < 2


def test_the_board_can_be_given_as_a_picture():
    assert np.array_equal(render_toys(ToyScene(()), board(BOARD)[0]).image, EMPTY)
    said = notice(Notice(("stop",), "sans", "white", "red"))[0]
    assert len(changed(render_toys(ToyScene(()), said).image)) > 1000
    assert np.array_equal(render_toys(ToyScene(()), BOARD).image, EMPTY)


def test_a_toy_off_the_picture_is_clipped():
    shown = render_toys(lone("train", x=0.19), BOARD)
    assert shown.boxes[0, 2] == 128
    assert 0 < shown.boxes[0, 0] < 128
    far = replace(lone("train").toys[0], x=2.0)
    assert np.array_equal(render_toys(ToyScene((far,)), BOARD).image, EMPTY)


def test_a_held_toy_is_where_a_world_has_it_in_its_hand():
    said, stage, canvas = Notice(("stop",), "sans", "white", "red"), ToyStage(), Canvas(128)
    bowl = Toy("bowl", "blue", "plain", -0.1, 0.05, 0.0)
    for k, (name, by) in enumerate(GRIPS.items()):
        x, y, z, yaw = 0.01 * (k % 5) - 0.02, -0.05, 0.12, 0.3 - by.yaw
        toy = Toy(name, "red", "plain", x, y, yaw)
        stage.dress(PlacingScene(ToyScene((toy, bowl)), 0, 1, "in", said, ""))
        tool = (*by.point(x, y, yaw), z + by.up, by.tool_yaw(yaw))
        joints = inverse(np.array(tool[:3]) - stage.base, tool_down(tool[3]), np.zeros(6)).joints
        stage.set(joints, opening(by.width), [(x, y, yaw, z), (bowl.x, bowl.y, bowl.yaw)])
        there = stage.paint(canvas, "front", (128, 128)).astype(int)
        here = render_toys(ToyScene((bowl,)), notice(said)[0], tool=tool, held=toy).image
        empty = render_toys(ToyScene((bowl,)), notice(said)[0], tool=tool).image
        assert (here != there).any(-1).sum() < 20 < 60 < (empty != there).any(-1).sum(), name
    with pytest.raises(BadData, match="out of reach"):
        render_toys(ToyScene(()), BOARD, tool=(0.4, 0.3, 0.2, 0.0))
