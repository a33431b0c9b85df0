"""Pictures show what the scene says, where the geometry says."""

import gc
from dataclasses import replace

import numpy as np
import pytest

from mindhand.core.errors import BadData
from mindhand.core.keys import Key, Keys
from mindhand.worlds.desk import canvas
from mindhand.worlds.desk.canvas import Canvas, area_resize
from mindhand.worlds.desk.render import render_scene
from mindhand.worlds.desk.stage import Stage
from mindhand.worlds.desk.textures import board, glyph, label
from mindhand.worlds.desk.world import DeskWorld
from mindhand.worlds.scene import FACES, FONTS, PLACES, sample_maths, sample_task

SCENES = [sample_maths(Keys.seeded(1, "render", i), "K-dev", fonts="RKX"[i % 3]) for i in range(6)]


def hue(colour):
    """Direction of a colour, without its brightness."""
    c = np.asarray(colour, float)
    return c / np.linalg.norm(c)


def test_tiles_are_seen_where_projection_puts_them():
    with DeskWorld(1) as world:
        for i in range(4):
            k = Key("test", "maths_matching/R", i)
            world.reset([k], [0])
            scene = sample_task(k)
            picture = world.observe([0]).images["front"][0, 0]
            for t in scene.tiles:
                # just inside the tile's corners on top, where no digit is: the tile's own colour is there
                corners = [
                    (t.x + c * x - s * y, t.y + s * x + c * y, 0.0203)
                    for c, s in [(np.cos(t.yaw), np.sin(t.yaw))]
                    for x in (-0.017, 0.017)
                    for y in (-0.021, 0.021)
                ]
                for u, v in world.project(np.array(corners), "front", [0])[0]:
                    assert np.abs(hue(picture[int(v), int(u)]) - hue(FACES[t.face])).max() < 0.06, (i, t)


def test_projection_in_the_wrist_camera_finds_the_tile_under_it():
    with DeskWorld(1) as world:
        k = Key("test", "maths_matching/R/1", 4)
        world.reset([k], [0])
        while world._rows[0].expert.plan.phase != "close":
            world.step(world.expert([0]), [0])
        index, pose = world.target(0)
        tile = sample_task(k).tiles[index]
        picture = world.observe([0]).images["wrist"][0, 0]
        c, s = np.cos(tile.yaw), np.sin(tile.yaw)
        corner = [pose[0] + c * 0.017 - s * 0.018, pose[1] + s * 0.017 + c * 0.018, 0.0203]
        u, v = world.project(np.array([corner]), "wrist", [0])[0, 0]
        assert np.abs(hue(picture[int(v), int(u)]) - hue(FACES[tile.face])).max() < 0.06
        behind = world.project(np.array([[0.0, -2.0, 3.0]]), "front", [0])
        assert np.isnan(behind).all()


@pytest.mark.parametrize("jitter", [None, Keys.seeded(1, "j")])
def test_marks_enclose_the_ink(jitter):
    for scene in SCENES:
        shown = render_scene(scene, size=256, jitter=jitter)
        drawn = "".join(m.char for m in shown.marks if m.where == "board")
        assert drawn == "".join(g.char for g in scene.board.glyphs)
        paper = shown.image[int(shown.marks[0].v), 12].astype(int)
        for m in shown.marks:
            rows = slice(int(m.v - m.height / 2), int(np.ceil(m.v + m.height / 2)) + 1)
            columns = slice(int(m.u - m.width / 2), int(np.ceil(m.u + m.width / 2)) + 1)
            inside = shown.image[rows, columns].astype(int)
            if m.where == "board":
                contrast = np.abs(inside - paper).sum(-1)
                assert (contrast > 150).mean() > 0.12, m
            else:
                spread = inside.sum(-1)
                assert spread.max() - spread.min() > 150, m
        # all the board's ink is inside the marks
        marks = [m for m in shown.marks if m.where == "board"]
        low, high = min(m.u - m.width / 2 for m in marks), max(m.u + m.width / 2 for m in marks)
        middle = int(np.mean([m.v for m in marks]))
        band = np.abs(shown.image[middle - 6 : middle + 6].astype(int) - paper).sum(-1).max(0)
        outside = np.concatenate([band[16 : max(16, int(low) - 3)], band[int(high) + 4 : 240]])
        assert (outside < 90).all()


def test_marks_follow_a_glyph_up_and_down():
    scene = SCENES[0]
    for shift in (-0.4, 0.4):
        glyphs = tuple(replace(g, dy=shift, dx=0.0) for g in scene.board.glyphs)
        moved = replace(scene, board=replace(scene.board, glyphs=glyphs))
        shown = render_scene(moved, size=256)
        mark = next(m for m in shown.marks if m.where == "board" and m.char in "0123456789")
        column = shown.image[:, int(mark.u - mark.width / 2) : int(mark.u + mark.width / 2)].astype(int)
        paper = shown.image[int(mark.v), 12].astype(int)
        rows = np.flatnonzero((np.abs(column - paper).sum(-1) > 200)[175:243].any(1)) + 175
        assert abs((rows[0] + rows[-1] + 1) / 2 - mark.v) < 2
        assert abs((rows[-1] + 1 - rows[0]) - mark.height) < 3


def test_the_same_scene_looks_as_in_an_episode_and_jitter_is_undone():
    k = Key("test", "maths_matching/K-dev", 1)
    scene = sample_task(k)
    with DeskWorld(1) as world:
        world.reset([k], [0])
        real = world.observe([0]).images["front"][0, 0].astype(int)
    plain = render_scene(scene).image
    shaken = render_scene(scene, jitter=Keys.seeded(1, 3)).image
    assert np.array_equal(render_scene(scene).image, plain)
    assert np.array_equal(render_scene(scene, jitter=Keys.seeded(1, 3)).image, shaken)
    assert (plain != shaken).mean() > 0.1
    board_and_tray = slice(60, 128)  # the arm's start differs a little, and may touch the upper corner
    assert np.array_equal(plain[board_and_tray], real[board_and_tray])


def test_tiles_in_the_tray_and_the_arm_can_be_shown():
    scene = SCENES[0]
    blue = hue((0.20, 0.42, 0.80))

    def middle_of_first_place(shown):
        # the plate's centre as the front camera sees it: under a tile's label once one lies there
        return hue(shown.image[72, 44])

    assert np.abs(middle_of_first_place(render_scene(scene)) - blue).max() < 0.05
    poses = [(t.x, t.y, t.yaw) for t in scene.tiles]
    poses[0] = (*PLACES[0], 0.0)
    placed = render_scene(scene.moved(poses))
    mark = next(m for m in placed.marks if m.where == "tile" and m.index == 0)
    assert (abs(mark.u - 44) < 3, abs(mark.v - 71) < 4) == (True, True)
    assert np.abs(middle_of_first_place(placed) - blue).max() > 0.1
    armed = render_scene(scene, tcp=(0.0, 0.03, 0.1, 0.0)).image
    arm = (armed != render_scene(scene).image).any(-1)
    assert 100 < arm.sum() < 2000
    assert armed[arm].mean() < 110
    with pytest.raises(BadData, match="out of reach"):
        render_scene(scene, tcp=(0.5, 0.0, 0.1, 0.0))


def test_every_font_draws_every_character():
    for font in FONTS:
        chars = "0123456789+=?" + font.minus + "".join(font.times)
        drawn = {c: glyph(font.name, c, 40, 0).cover for c in chars}
        assert all(x.sum() > 20 for x in drawn.values()), font
        flat = [(x.shape, x.tobytes()) for x in drawn.values()]
        assert len(set(flat)) == len(flat), f"{font.name}: two characters look the same (a missing glyph?)"
        assert abs(drawn["8"].shape[0] - 40) <= 2


def test_boards_and_labels_are_drawn_once_and_cannot_be_written():
    scene = SCENES[0]
    assert board(scene.board)[0] is board(scene.board)[0]
    picture = label(3, "sans", "white", "black")
    with pytest.raises(ValueError, match="read-only"):
        picture[0] = 0


def test_area_resize_is_the_mean_of_blocks_with_halves_up():
    x = np.random.Generator(np.random.Philox(1)).integers(0, 256, (12, 8, 3), np.uint8)
    for height, width in ((6, 4), (4, 8), (3, 2), (12, 8)):
        mean = x.astype(float).reshape(height, 12 // height, width, 8 // width, 3).mean((1, 3))
        assert np.array_equal(area_resize(x, height, width), np.floor(mean + 0.5 + 1e-9).astype(np.uint8))


def test_what_a_camera_does_not_see_is_not_drawn_and_not_missed(monkeypatch):
    """Nothing is lost to the test for edges, wherever the arm is and in wide pictures too; something is saved."""
    saved = []

    def pictures() -> list[bytes]:
        out = []
        with DeskWorld(1) as world:
            world.reset([Key("cull", "maths_matching/R", 0)], [0])
            for _ in range(60):
                world.step(world.expert([0]), [0])
                out += [x.tobytes() for x in world.observe([0]).images.values()]
            stage = world._stages[0]
            out += [stage.paint(world._canvas, role, (64, 128)).tobytes() for role in ("front", "wrist")]
            for camera in stage.ids.cameras.values():
                radius = canvas.spheres(stage.model)
                saved.append(canvas.outside(stage.model, stage.data, camera, 1.0, radius).sum())
        return out

    some = pictures()
    monkeypatch.setattr(canvas, "outside", lambda model, *_: np.zeros(model.ngeom, bool))
    assert pictures() == some and min(saved[:2]) > 0


def test_what_is_collected_leaves_other_canvases_alone():
    """A stage and its canvas that nobody closed die while another one is current."""
    scene = sample_maths(Keys.seeded(1, "collected"), "K-dev")
    kept, there = Stage(128), Canvas(128)
    kept.dress(scene)
    kept.set(np.zeros(6), 1.0, [(t.x, t.y, t.yaw) for t in scene.tiles])
    before = kept.paint(there, "front", (128, 128))
    lost, other = Stage(128), Canvas(128)
    lost.dress(scene)
    lost.set(np.zeros(6), 1.0, [(t.x, t.y, t.yaw) for t in scene.tiles])
    lost.paint(other, "front", (128, 128))
    assert np.array_equal(kept.paint(there, "front", (128, 128)), before)  # current again
    del lost, other
    gc.collect()
    assert np.array_equal(kept.paint(there, "front", (128, 128)), before)
    there.close()
