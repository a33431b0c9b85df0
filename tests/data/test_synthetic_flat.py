"""Flat pictures say the same of the same scenes, and look like no desk."""

import numpy as np
import pytest

from mindhand.core.errors import BadData
from mindhand.core.keys import Keys
from mindhand.data.synthetic.flat import flat_desk, flat_table
from mindhand.data.synthetic.picture import Hand, composed
from mindhand.data.synthetic.toy_corpus import ToyCorpus
from mindhand.recipes.nano import SEEN, NanoPlan, PageSource, corpus_of
from mindhand.worlds.scene import FONTS, MathsScene, sample_maths
from mindhand.worlds.things import COLOURS

KEYS = [Keys.seeded(1, "flat", i) for i in range(12)]
SCENES = [sample_maths(k, "K-dev") for k in KEYS]
TOYS = ToyCorpus(5, flat_table)


def around(image, point, reach):
    u, v = (int(c) for c in point)
    return image[max(v - reach, 0) : v + reach + 1, max(u - reach, 0) : u + reach + 1].astype(int)


@pytest.mark.parametrize("keyed", [False, True])
def test_characters_are_where_it_says(keyed):
    for scene, keys in zip(SCENES, KEYS):
        seen = flat_desk(scene, keys if keyed else None)
        assert len(seen.board) == len(scene.board.text) and len(seen.tiles) == len(scene.tiles)
        for point in (*seen.board, *seen.tiles):
            assert np.ptp(around(seen.image, point, 4).sum(-1)) > 60
        assert np.array_equal(seen.image, flat_desk(scene, keys if keyed else None).image)
        assert np.abs(seen.image.astype(int) - composed(scene, keys if keyed else None).image).mean() > 15


def test_a_tile_moved_is_a_tile_moved():
    scene = SCENES[0]
    poses = [(t.x, t.y, t.yaw) for t in scene.tiles]
    there = scene.moved([(poses[0][0] + 0.03, poses[0][1], poses[0][2]), *poses[1:]])
    (u0, v0), (u1, v1) = flat_desk(scene).tiles[0], flat_desk(there).tiles[0]
    assert u1 - u0 == pytest.approx(0.03 * 350) and v1 == pytest.approx(v0)


def test_toys_are_in_their_boxes_and_have_their_colours():
    right = total = 0
    for row in range(40):
        table = TOYS.table(0, row)
        sight = flat_table(table, KEYS[row % 12])
        for toy, point, (left, top, r, bottom) in zip(table.scene.toys, sight.toys, sight.boxes):
            assert left <= point[0] <= r and top <= point[1] <= bottom and r - left < 60
            if toy.material == "plain" and not any(t.held_by is not None for t in table.scene.toys):
                near = around(sight.image, point, 8).reshape(-1, 1, 3)
                away = near / near.sum(-1, keepdims=True) - np.array(COLOURS[toy.colour]) / sum(COLOURS[toy.colour])
                total, right = total + 1, right + bool(np.abs(away).sum(-1).min() < 0.08)
    assert total > 30 and right / total > 0.9


def test_a_hand_is_refused():
    with pytest.raises(BadData, match="with a hand"):
        flat_desk(SCENES[0], KEYS[0], Hand())


def test_a_pretraining_sees_what_its_plan_says():
    plans = {seen: NanoPlan(pictures=64, rows=4, brief=False, seen=seen) for seen in SEEN}
    robots = {f.name for f in FONTS if f.known == "R"}
    for seen, plan in plans.items():
        corpus = corpus_of(plan)
        fonts, thoughts = set(), 0
        for step in range(8, 16):
            thoughts += corpus.desk.sort(step) == "thought"
            for row in range(4):
                scene: MathsScene = corpus.desk.scene(step, row)
                fonts |= {scene.tile_font, scene.board.font, getattr(corpus.toys.table(step, row).writing, "font", "")}
        assert bool(fonts & robots) == (seen != "other fonts")
        assert bool(thoughts) == (seen != "flat")
    images = {seen: PageSource(0, 3, (8, 16), True, seen).batch(None, 0).images["front"] for seen in SEEN}
    assert not np.array_equal(images["flat"], images["desk"])
    assert not np.array_equal(images["other fonts"], images["desk"])
    with pytest.raises(BadData, match="pictures 'moon'"):
        NanoPlan(brief=False, seen="moon")
    with pytest.raises(BadData, match="for a brief pretraining"):
        NanoPlan(seen="flat")
