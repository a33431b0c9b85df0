"""From samples to a `Batch`: pixels, token runs, and the dense targets that make a small VLM read in minutes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from mindhand.core.batch import Batch, Target, Text
from mindhand.core.errors import BadData
from mindhand.model.words import Words

from .samples import NOTHING, QA, ImageText, Pixel

ROLE = "front"
WIDE = 32.0  # pixels: the width of a toy, about
ORDER = (f"image/{ROLE}", "text", "reasoning")


def cell(point: Pixel, size: tuple[int, int], grid: tuple[int, int]) -> int:
    """The cell, row-major, of a pixel (u, v) in a picture of `size` (height, width) cut into `grid` (rows, columns)."""
    u, v = point
    column, row = int(u * grid[1] / size[1]), int(v * grid[0] / size[0])
    return min(max(row, 0), grid[0] - 1) * grid[1] + min(max(column, 0), grid[1] - 1)


def glyph_cells(sample: ImageText, grid: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """int64 (rows*columns,): the class of the glyph whose centre lies in each cell, NOTHING without one; of two,
    the one nearer to the cell's centre. float32 (rows*columns,2): where it is in the cell, right and down, -1/2 .. 1/2
    of the cell's sides."""
    out = np.full(grid[0] * grid[1], NOTHING, np.int64)
    spot = np.zeros((len(out), 2), np.float32)
    for at, (k, du, dv) in _central([g[1:] for g in sample.glyphs], sample.image.shape[:2], grid).items():
        out[at], spot[at] = sample.glyphs[k][0], (du, dv)
    return out, spot


def trait_cells(sample: ImageText, grid: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of the toy whose middle lies in each cell: int64 (rows*columns,) hue and pattern, -1 without one; float32
    (rows*columns,2) width and height in shares of `WIDE` pixels."""
    hue, pattern = (np.full(grid[0] * grid[1], -1, np.int64) for _ in range(2))
    size = np.zeros((len(hue), 2), np.float32)
    for at, (k, *_) in _central([t[:2] for t in sample.traits], sample.image.shape[:2], grid).items():
        t = sample.traits[k]
        hue[at], pattern[at], size[at] = t.hue, t.pattern, (t.width / WIDE, t.height / WIDE)
    return hue, pattern, size


def _central(
    points: Sequence[Pixel], size: tuple[int, int], grid: tuple[int, int]
) -> dict[int, tuple[int, float, float]]:
    """By cell the index of the point nearest to its middle, and how far right and down of it, in cells."""
    out: dict[int, tuple[int, float, float]] = {}
    for k, (u, v) in enumerate(points):
        at = cell((u, v), size, grid)
        du = u * grid[1] / size[1] - at % grid[1] - 0.5
        dv = v * grid[0] / size[0] - at // grid[1] - 0.5
        if at not in out or du * du + dv * dv < out[at][1] ** 2 + out[at][2] ** 2:
            out[at] = k, du, dv
    return out


def _turns(asked: Sequence[QA], words: Words) -> dict[str, Text]:
    return {
        "text": words.questions([qa.question for qa in asked]),
        "reasoning": words.answers([qa.answer for qa in asked], given=[qa.given for qa in asked]),
    }


def collate_image_text(samples: Sequence[ImageText], words: Words, grid: tuple[int, int]) -> Batch:
    """B samples of Q questions each -> a batch with images {"front": (B,1,h,w,3)} and B*Q rows of text.

    "text" holds the questions (nothing supervised), "reasoning" the answers. grid: rows and columns of the vision
    tower's tokens. Targets: "glyph" (B, rows*columns) class of the glyph centred in each cell, valid everywhere;
    "spot" (B, rows*columns, 2) where in the cell, valid where there is one; "hue", "pattern" and "size" of a toy.
    """
    counts = {len(s.questions) for s in samples}
    shapes = {s.image.shape for s in samples}
    if len(counts) != 1 or len(shapes) != 1:
        raise BadData(
            f"a batch of pictures {sorted(shapes)} with {sorted(counts)} questions",
            "one shape and one number of questions, and at least one sample",
            "sort the samples by both before collating",
        )
    rows, asked = len(samples), counts.pop()
    qas = [qa for s in samples for qa in s.questions]
    pages = collate_pages(samples, grid)
    return replace(
        pages, order=ORDER, text=_turns(qas, words), task=torch.zeros(rows * asked, dtype=torch.int64), questions=asked
    )


def collate_pages(samples: Sequence[ImageText], grid: tuple[int, int]) -> Batch:
    """Pictures, their glyphs and traits alone, nothing asked; see `collate_image_text`."""
    glyphs, spots = (torch.from_numpy(np.stack(x)) for x in zip(*(glyph_cells(s, grid) for s in samples)))
    hues, patterns, sizes = (torch.from_numpy(np.stack(x)) for x in zip(*(trait_cells(s, grid) for s in samples)))
    toy = hues >= 0
    return Batch(
        order=ORDER[:1],
        images={ROLE: torch.from_numpy(np.stack([s.image for s in samples])).unsqueeze(1)},
        present={ROLE: torch.ones(len(samples), dtype=torch.bool)},
        text={},
        task=torch.zeros(len(samples), dtype=torch.int64),
        targets={
            "glyph": Target(glyphs, torch.ones(glyphs.shape, dtype=torch.bool)),
            "spot": Target(spots, glyphs != NOTHING),
            "hue": Target(hues, toy),
            "pattern": Target(patterns, toy),
            "size": Target(sizes, toy),
        },
    )


def collate_text(asked: Sequence[QA], words: Words, questions: int = 1) -> Batch:
    """Questions in words alone, without any picture, `questions` of them a row."""
    return Batch(
        order=ORDER[1:],
        images={},
        present={},
        text=_turns(asked, words),
        task=torch.zeros(len(asked), dtype=torch.int64),
        questions=questions,
    )
