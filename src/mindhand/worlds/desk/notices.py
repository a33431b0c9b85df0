"""Notices and charts, drawn as the board's picture: uint8 (height, width, 3), first row at the top, as `textures`."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mindhand.worlds.boards import BARS, HEIGHTS, Chart, Notice
from mindhand.worlds.scene import INKS, PAPERS, Board

from .build import BOARD
from .textures import FILES, board

Box = tuple[float, float, float, float]  # left, top, right, bottom, as fractions of the board
_MARGIN = 7  # pixels at every side
_LARGEST = 40  # font size of a single short line


@lru_cache(maxsize=64)
def _font(name: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(FILES[name], size, layout_engine=ImageFont.Layout.BASIC)


@lru_cache(maxsize=64)
def notice(content: Notice) -> tuple[np.ndarray, tuple[Box, ...]]:
    """The picture, and the box of every word, line by line."""
    picture = Image.new("RGB", BOARD, PAPERS[content.paper][0])
    draw, boxes = ImageDraw.Draw(picture), []
    room = (BOARD[0] - 2 * _MARGIN, (BOARD[1] - 2 * _MARGIN) / len(content.lines))
    size = _LARGEST
    while size > 8:
        wide = max(_font(content.font, size).getlength(line) for line in content.lines)
        top, bottom = (_font(content.font, size).getbbox("bp")[k] for k in (1, 3))
        if wide <= room[0] and bottom - top <= room[1]:
            break
        size -= 1
    font = _font(content.font, size)
    for k, line in enumerate(content.lines):
        left, middle = (BOARD[0] - font.getlength(line)) / 2, _MARGIN + room[1] * (k + 0.5)
        y, words = middle - (top + bottom) / 2, line.split(" ")
        for n, word in enumerate(words):
            x = left + font.getlength(" ".join([*words[:n], ""]) if n else "")
            draw.text((x, y), word, font=font, fill=INKS[content.ink])
            box = font.getbbox(word)
            edges = (x + box[0], y + box[1], x + box[2], y + box[3])
            boxes.append(tuple(e / BOARD[i % 2] for i, e in enumerate(edges)))
    return np.asarray(picture), tuple(boxes)


@lru_cache(maxsize=64)
def chart(content: Chart) -> tuple[np.ndarray, tuple[Box, ...]]:
    """The picture, and the box of every bar."""
    paper, _ = PAPERS[content.paper]
    picture = Image.new("RGB", BOARD, paper)
    draw, boxes = ImageDraw.Draw(picture), []
    floor, tall = BOARD[1] - _MARGIN, BOARD[1] - 2 * _MARGIN
    step = (BOARD[0] - 2 * _MARGIN) / len(content.bars)
    for k, (colour, height) in enumerate(content.bars):
        left, right = _MARGIN + step * (k + 0.22), _MARGIN + step * (k + 0.78)
        edges = (left, floor - tall * height / HEIGHTS[-1], right, floor)
        draw.rectangle(edges, fill=BARS[colour])
        boxes.append(tuple(e / BOARD[i % 2] for i, e in enumerate(edges)))
    draw.line((_MARGIN, floor, BOARD[0] - _MARGIN, floor), fill=INKS["black"], width=2)
    return np.asarray(picture), tuple(boxes)


def writing(content: Board | Notice | Chart) -> tuple[np.ndarray, tuple[Box, ...]]:
    """Whatever is on a board: its picture, and the boxes of its characters, words or bars."""
    if isinstance(content, Notice):
        return notice(content)
    return chart(content) if isinstance(content, Chart) else board(content)
