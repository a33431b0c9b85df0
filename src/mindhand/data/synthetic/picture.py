"""From a scene to its front picture and the pixels of what is written in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mindhand.worlds.scene import MathsScene

from .samples import Pixel, board_class, tile_class


@dataclass(frozen=True, eq=False)
class Seen:
    """A picture uint8 (h,w,3), and where the board's characters and the tiles' digits are, in the scene's order."""

    image: np.ndarray
    board: tuple[Pixel, ...]
    tiles: tuple[Pixel, ...]


Picture = Callable[[MathsScene], Seen]  # a module-level function, so that producer processes can be given it


def glyphs_of(scene: MathsScene, seen: Seen) -> tuple[tuple[int, float, float], ...]:
    """(class, u, v) of every character in the picture."""
    board = [(board_class(c), *p) for c, p in zip(scene.board.text, seen.board, strict=True)]
    tiles = [(tile_class(t.digit), *p) for t, p in zip(scene.tiles, seen.tiles, strict=True)]
    return (*board, *tiles)
