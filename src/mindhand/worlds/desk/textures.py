"""What is written on the board and on the tiles, drawn with packaged fonts, glyph bitmaps cached.

Pictures here are uint8 (height, width, 3), first row at the top.
"""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mindhand.worlds.hands import SCAN, SCAN_UNSEEN
from mindhand.worlds.scene import FACES, FONTS, INKS, PAPERS, Board, Glyph, Tile

from .build import BOARD, LABEL
from .hands import handwritten
from .ink import Ink

BOARD_DIGIT, LABEL_DIGIT = 39, 50  # pixels: height of an 8
_HAND, _SAMPLES = 44, 8  # pixels: height of an 8 as hands write it; glyphs of each character that a hand has
_SCANS = 1 << 12  # numbers for scans, of which there are fewer: all of them are shown (with 8 a digit they are learned)
BOARD_FILL = 0.94  # the line shrinks to stay within this part of the board's width
FILES = {f.name: Path(__file__).parent / "fonts" / f.file for f in FONTS}


@lru_cache(maxsize=64)
def _font(name: str, height: int) -> tuple[ImageFont.FreeTypeFont, float]:
    """The font at the size where an 8 is `height` pixels high, and how far the middle of an 8 is below its top."""

    def load(size: float) -> ImageFont.FreeTypeFont:
        return ImageFont.truetype(FILES[name], size, layout_engine=ImageFont.Layout.BASIC)

    top, bottom = (load(200).getbbox("8")[k] for k in (1, 3))
    font = load(200 * height / (bottom - top))
    box = font.getbbox("8")
    return font, (box[1] + box[3]) / 2


@lru_cache(maxsize=2048)
def glyph(name: str, char: str, height: int, turn: int) -> Ink:
    """The bitmap of one character, an 8 of that font being `height` pixels high, turned by `turn` degrees."""
    font, middle = _font(name, height)
    half = math.ceil(height)
    picture = Image.new("L", (2 * half, 2 * half))
    advance = font.getlength(char)
    ImageDraw.Draw(picture).text((half - advance / 2, half - middle), char, font=font, fill=255)
    if turn:
        picture = picture.rotate(turn, Image.Resampling.BICUBIC)
    box = picture.getbbox() or (half, half, half + 1, half + 1)
    cover = np.asarray(picture.crop(box), np.float32) / 255.0
    return Ink(cover, box[0] - half, box[1] - half, advance)


def _stamp(canvas: np.ndarray, ink: Ink, x: float, y: float, colour: tuple[int, int, int]) -> tuple[int, ...]:
    """Blend a glyph into uint8 (h,w,3) with its pen at (x, y); its box (left, top, right, bottom) on the canvas."""
    left, top = round(x) + ink.left, round(y) + ink.top
    right, bottom = left + ink.cover.shape[1], top + ink.cover.shape[0]
    l, t, r, b = max(left, 0), max(top, 0), min(right, canvas.shape[1]), min(bottom, canvas.shape[0])
    if l < r and t < b:
        cover = ink.cover[t - top : b - top, l - left : r - left, None]
        part = canvas[t:b, l:r]
        part[...] = part + cover * (np.array(colour, np.float32) - part) + 0.5
    return l, t, r, b


@lru_cache(maxsize=32)
def _blank(size: tuple[int, int], colour: tuple[int, int, int]) -> np.ndarray:
    return np.broadcast_to(np.array(colour, np.uint8), (size[1], size[0], 3)).copy()


@lru_cache(maxsize=1500)
def label(digit: int, font: str, face: str, ink: str) -> np.ndarray:
    """A tile's label; read-only."""
    canvas = _blank(LABEL, FACES[face]).copy()
    _stamp(canvas, glyph(font, str(digit), LABEL_DIGIT, 0), LABEL[0] / 2, LABEL[1] / 2, INKS[ink])
    canvas.flags.writeable = False
    return canvas


def label_box(digit: int, font: str) -> tuple[float, float, float, float]:
    """The ink box of a label's digit, (left, top, right, bottom) as fractions of the label."""
    ink = glyph(font, str(digit), LABEL_DIGIT, 0)
    left, top = LABEL[0] / 2 + ink.left, LABEL[1] / 2 + ink.top
    right, bottom = left + ink.cover.shape[1], top + ink.cover.shape[0]
    return left / LABEL[0], top / LABEL[1], right / LABEL[0], bottom / LABEL[1]


def tile_label(tile: Tile, font: str) -> np.ndarray:
    """The label of a tile of a scene."""
    return label(tile.digit, font, tile.face, tile.ink)


def _drawn(font: str, mark: Glyph, height: int) -> Ink:
    if font in FILES:
        return glyph(font, mark.char, height, mark.turn)
    # A hand has so many glyphs of each character; to write a new one takes ten times as long as to turn one.
    many = _SCANS if font in (SCAN, SCAN_UNSEEN) else _SAMPLES
    return _turned(handwritten(font, mark.char, _HAND, 0, int(abs(mark.dx) * 1e9) % many), height, mark.turn)


def _turned(ink: Ink, height: int, turn: int) -> Ink:
    """A glyph that was written _HAND pixels high, smaller or larger, and turned by so many degrees about its pen."""
    scale, half = height / _HAND, height
    c, s = math.cos(math.radians(turn)) / scale, math.sin(math.radians(turn)) / scale
    # From a pixel of the result to one of the bitmap, pen to pen.
    x, y = -ink.left - c * half + s * half, -ink.top - s * half - c * half
    bitmap = Image.fromarray(np.uint8(ink.cover * 255 + 0.5))
    picture = bitmap.transform(
        (2 * half, 2 * half), Image.Transform.AFFINE, (c, -s, x, s, c, y), Image.Resampling.BILINEAR
    )
    box = picture.getbbox() or (half, half, half + 1, half + 1)
    return Ink(np.asarray(picture.crop(box), np.float32) / 255.0, box[0] - half, box[1] - half, ink.advance * scale)


@lru_cache(maxsize=64)
def board(content: Board) -> tuple[np.ndarray, tuple[tuple[float, float, float, float], ...]]:
    """The board's picture and the ink box of each glyph, (left, top, right, bottom) as fractions of the board."""
    paper, _ = PAPERS[content.paper]
    canvas = _blank(BOARD, paper).copy()

    def inks(height: int) -> list[Ink]:
        return [_drawn(content.font, g, round(height * g.scale)) for g in content.glyphs]

    line, height = inks(BOARD_DIGIT), BOARD_DIGIT
    wide = sum(i.advance for i in line)
    if wide > BOARD_FILL * BOARD[0]:
        height = int(BOARD_DIGIT * BOARD_FILL * BOARD[0] / wide)
        line = inks(height)
        wide = sum(i.advance for i in line)
    pen, boxes = (BOARD[0] - wide) / 2, []
    for mark, ink in zip(content.glyphs, line):
        x = pen + ink.advance / 2 + mark.dx * height
        l, t, r, b = _stamp(canvas, ink, x, BOARD[1] / 2 + mark.dy * height, INKS[content.ink])
        boxes.append((l / BOARD[0], t / BOARD[1], r / BOARD[0], b / BOARD[1]))
        pen += ink.advance
    canvas.flags.writeable = False
    return canvas, tuple(boxes)
