"""The corpus on the real desk: where the marks are there is ink, nothing is hidden, everything is a pure function."""

from __future__ import annotations

import numpy as np
import pytest

from mindhand.core.keys import Keys
from mindhand.data.synthetic.collate import glyph_cells
from mindhand.data.synthetic.compose import page
from mindhand.data.synthetic.corpus import cotraining, page_scene, pretraining
from mindhand.data.synthetic.picture import Hand, composed, front, glyphs_of, hidden
from mindhand.data.synthetic.producers import Producers
from mindhand.worlds.desk.render import render_scene
from mindhand.worlds.scene import FONTS, INKS, sample_maths

CORPUS = pretraining(4, steps=40, rows=10)
BATCH = CORPUS.batch(30)


def test_there_is_ink_where_the_marks_are():
    for sample, scene in ((s, CORPUS.scene(30, r)) for r, s in enumerate(BATCH)):
        inks = [scene.board.ink] * len(scene.board.text) + [t.ink for t in scene.tiles]
        for (_, u, v), ink in zip(sample.glyphs, inks, strict=True):
            near = sample.image[int(v) - 4 : int(v) + 5, int(u) - 4 : int(u) + 5].astype(int)
            # the ink's colour, as bright as the lamp makes it, is nearer here than anywhere on a bare table
            bare = np.abs(near[0, 0] - INKS[ink]).sum()
            assert np.abs(near - INKS[ink]).sum(-1).min() < max(150, bare)
            assert np.ptp(near.sum(-1)) > 60


def test_a_page_is_full_and_its_digits_are_even():
    """Every digit is seen as often as any other: in scenes of the task a 9 is four times rarer than a 1."""
    keys = [Keys.seeded(1, "page", i) for i in range(60)]
    scenes = [page_scene(k) for k in keys]
    pages = [(scene, page(scene, k)) for scene, k in zip(scenes, keys)]
    counts = np.bincount([t.digit for scene, _ in pages for t in scene.tiles], minlength=10)
    assert counts.sum() == 6 * len(pages) and counts.min() > 18 and counts.max() < 60
    assert len({scene.tile_font for scene, _ in pages}) > 4
    assert page_scene(keys[3]) == scenes[3] and np.array_equal(page(scenes[3], keys[3]).image, pages[3][1].image)
    assert {page_scene(k, ("K",)).tile_font for k in keys} <= {f.name for f in FONTS if f.known == "K"}
    for scene, seen in pages[:10]:
        for glyph, u, v in glyphs_of(scene, seen):
            near = seen.image[int(v) - 4 : int(v) + 5, int(u) - 4 : int(u) + 5].astype(int)
            assert glyph and np.ptp(near.sum(-1)) > 60


def test_glyphs_rarely_share_a_cell():
    found = [(np.count_nonzero(glyph_cells(s, (8, 16))[0]), len(s.glyphs)) for s in BATCH]
    seen, all_of_them = map(sum, zip(*found))
    assert seen >= 0.97 * all_of_them


def test_an_arm_that_hides_a_tile_is_seen_to_do_so():
    scene = sample_maths(Keys.seeded(1, "arm"), "R")
    empty = render_scene(scene)
    tile = scene.tiles[0]
    over = render_scene(scene, tcp=(tile.x, tile.y, 0.04, 0.0))
    aside = render_scene(scene, tcp=(-0.06, -0.115, 0.2, 0.0))
    gone = hidden(empty.image, over.image, empty.marks)
    assert ("tile", 0) in [(m.where, m.index) for m in gone]
    assert not hidden(empty.image, empty.image, empty.marks)
    assert (aside.image != empty.image).any()
    blank = np.zeros_like(empty.image)
    for mark in empty.marks:  # every single one counts
        assert hidden(empty.image, blank, (mark,)) == [mark]
    seen = front(scene, None, Hand(at=(tile.x, tile.y, 0.04, 0.0)))  # and what is hidden is not to be read
    assert 0 in seen.covered and len(glyphs_of(scene, seen)) == len(empty.marks) - len(seen.covered)


@pytest.mark.parametrize("picture", [front, composed])
def test_pictures_vary_with_their_key_only(picture):
    scene = CORPUS.scene(3, 0)
    keys = [Keys.seeded(1, "look", i) for i in range(12)]
    first = [picture(scene, k) for k in keys]
    again = [picture(scene, k) for k in keys[::-1]][::-1]
    assert all(np.array_equal(a.image, b.image) and a.tiles == b.tiles for a, b in zip(first, again))
    assert len({a.image.tobytes() for a in first}) > 6
    plain = picture(scene)
    if picture is front:
        assert np.array_equal(plain.image, render_scene(scene).image)
    # half of them are not shaken, half of those have no arm
    assert 0 < sum(a.image.tobytes() == plain.image.tobytes() for a in first) < 9


def test_a_producer_renders_the_same_pictures():
    corpus = cotraining(1, steps=10, rows=4)
    with Producers(corpus, 1) as stream:
        made = [next(stream) for _ in range(2)]
    for step, batch in enumerate(made):
        for a, b in zip(batch, corpus.batch(step), strict=True):
            assert np.array_equal(a.image, b.image)
            assert a.questions == b.questions
            assert a.glyphs == b.glyphs
