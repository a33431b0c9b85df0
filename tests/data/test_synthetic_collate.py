"""Tokens, cells and masks of a batch mean what the sample says."""

from __future__ import annotations

import subprocess
import sys
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mindhand.core.errors import BadData
from mindhand.core.keys import Keys
from mindhand.data.synthetic import vocabulary as v
from mindhand.data.synthetic.collate import cell, collate_image_text, glyph_cells
from mindhand.data.synthetic.corpus import pretraining
from mindhand.data.synthetic.samples import QA, ImageText, board_class, class_name, tile_class
from mindhand.model.words import ASK, END, SAY, text_of
from mindhand.worlds.scene import CELLS, cell_of, reasoning_text, sample_maths
from mindhand.worlds.things import GRID as CELLS_WHOLE

from .synthetic_picture import patches

GRID = (8, 16)  # cells of the small VLM's stem: 16 pixels high, 8 wide
CORPUS = pretraining(2, 10, rows=8, picture=patches)


@cache
def words(whole: bool = False):
    return v.train_words(whole)


# ---- vocabulary ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("whole", "least", "most", "cells"), [(False, 256, 384, CELLS), (True, 512, 768, CELLS_WHOLE)])
def test_every_word_is_one_token_and_so_is_every_coordinate(whole, least, most, cells):
    w = words(whole)
    assert least <= len(w) <= most
    assert not [form for form in v.word_forms(whole) if len(w.encode(form)) != 1]
    for k in range(cells):
        assert len(w.encode(f"<x{k}><y{k}>")) == 2
        assert w.decode(w.encode(f"<x{k}>")) == f"<x{k}>"
    assert len(w.encode("1234567890")) == 10 and w.decode(w.encode("27+45=72")) == "27+45=72"
    assert not [t for t in w.tokenizer.get_vocab() if sum(c.isdigit() for c in t) > 1 and not t.startswith("<")]


@pytest.mark.parametrize("whole", [False, True])
def test_the_vocabulary_is_the_same_bytes_in_every_process(whole):
    # another process, whose hashes of strings differ
    code = f"import sys, {v.__name__} as v; sys.stdout.buffer.write(v.train_words({whole}).to_bytes())"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
    assert said == words(whole).to_bytes() != words(not whole).to_bytes()


def test_thoughts_are_short():
    lengths = []
    for i in range(300):
        scene = sample_maths(Keys.seeded(1, "thoughts", i), "K-dev")
        for placed in range(len(scene.equation.digits) + 1):
            text = reasoning_text(scene, placed)
            lengths.append(len(words().encode(text)))
            assert words().decode(words().encode(text)) == text
    assert np.mean(lengths) <= 24
    # the longest: two digits in both operand and answer, six tiles, one digit placed
    assert max(lengths) <= 30


def test_questions_are_written_in_few_tokens_and_read_back():
    for step in range(10):
        for s in CORPUS.batch(step):
            for qa in s.questions:
                assert len(words().encode(qa.question)) <= (24 if qa.parts else 16), qa.question
                assert words().decode(words().encode(qa.answer)) == qa.answer


# ---- cells ---------------------------------------------------------------------------------------------


@given(st.floats(0, 127.99), st.floats(0, 127.99))
def test_cells_contain_their_pixel(u, y):
    at = cell((u, y), (128, 128), GRID)
    row, column = divmod(at, 16)
    assert column * 8 <= u < column * 8 + 8
    assert row * 16 <= y < row * 16 + 16
    # the coordinate words divide the picture alike where the grid is theirs
    assert divmod(cell((u, y), (128, 128), (CELLS, CELLS)), CELLS) == cell_of((u, y))[::-1]


def test_cells_of_pictures_that_are_not_square():
    assert cell((63.9, 15.0), (32, 64), (2, 4)) == 3
    assert cell((0.0, 16.0), (32, 64), (2, 4)) == 4
    assert cell((64.0, 32.0), (32, 64), (2, 4)) == 7  # on the border: the last cell


def test_of_two_glyphs_in_a_cell_the_more_central_counts():
    image = np.zeros((128, 128, 3), np.uint8)
    near, far = (board_class("3"), 4.5, 8.0), (tile_class(3), 1.0, 2.0)
    for glyphs in ((near, far), (far, near)):
        cells, spots = glyph_cells(ImageText(image, (), glyphs), GRID)
        assert cells[0] == board_class("3")
        assert spots[0].tolist() == [0.0625, 0.0]
        assert not cells[1:].any()


def test_glyph_cells_agree_with_the_scene():
    for row in range(8):
        sample, scene = CORPUS.sample(1, row), CORPUS.scene(1, row)
        cells, spots = glyph_cells(sample, GRID)
        board = [class_name(c)[-1] for c in cells if class_name(c).startswith("board")]
        assert "".join(board) == scene.board.text  # patches writes it in one line, a cell a character
        for g, u, y in sample.glyphs:
            at = int(y // 16) * 16 + int(u // 8)
            assert cells[at] == g
            assert np.allclose((spots[at] + (at % 16 + 0.5, at // 16 + 0.5)) * (8, 16), (u, y), atol=1e-4)
        assert (cells != 0).sum() == len(sample.glyphs)


# ---- batches -------------------------------------------------------------------------------------------


def test_a_batch_says_what_its_samples_say():
    samples = CORPUS.batch(9)
    batch = collate_image_text(samples, words(), GRID)
    qas = [qa for s in samples for qa in s.questions]
    assert len(batch) == 8
    assert batch.questions == 4
    assert batch.order == ("image/front", "text", "reasoning")
    assert batch.images["front"].shape == (8, 1, 128, 128, 3)
    assert np.array_equal(batch.images["front"][5, 0].numpy(), samples[5].image)
    assert batch.task.tolist() == [0] * 32
    asked, said = batch.text["text"], batch.text["reasoning"]
    assert text_of(words(), asked.ids, asked.valid) == [qa.question for qa in qas]
    assert text_of(words(), said.ids, said.valid) == [qa.answer for qa in qas]
    assert not asked.supervised.any()
    assert torch.equal(said.supervised[:, 1:], said.valid[:, 1:])
    assert set(asked.ids[:, 0].tolist()) == {words().id(ASK)}
    assert set(said.ids[:, 0].tolist()) == {words().id(SAY)}
    assert all(row[m][-1] == words().id(END) for row, m in zip(said.ids, said.valid))
    glyph, spot = batch.targets["glyph"], batch.targets["spot"]
    assert torch.equal(spot.valid, glyph.value != 0)
    assert 5 < sum(qa.point is not None for qa in qas) < 32
    for b, qa in enumerate(qas):
        if qa.point is not None:
            row = cell(qa.point, (128, 128), GRID)
            # under the point of a grounded answer there is the tile it speaks of
            assert class_name(int(glyph.value[b // 4, row])).startswith("tile")
            digits = [c for c in qa.question + qa.answer if c.isdigit()]
            assert class_name(int(glyph.value[b // 4, row]))[-1] in digits
    assert glyph.value.shape == glyph.valid.shape == (8, 128)
    assert bool(glyph.valid.all())


def test_a_ragged_batch_is_refused():
    image = np.zeros((16, 16, 3), np.uint8)
    one = ImageText(image, (QA("read", "read the board", "3+4"),))
    two = ImageText(image, one.questions * 2)
    wide = ImageText(np.zeros((16, 32, 3), np.uint8), one.questions)
    for bad in ([one, two], [one, wide], []):
        with pytest.raises(BadData, match="one shape"):
            collate_image_text(bad, words(), GRID)
