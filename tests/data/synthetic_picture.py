"""A drawing of a scene that takes microseconds: every character is a patch whose colour tells which one it is."""

from __future__ import annotations

import os

import numpy as np

from mindhand.core.errors import BadData
from mindhand.core.keys import Keys
from mindhand.data.synthetic.picture import Hand, Seen
from mindhand.worlds.scene import AREA, MathsScene

SIZE = 128


def patches(scene: MathsScene, keys: Keys | None = None, hand: Hand | None = None) -> Seen:
    """Board characters in a row at the bottom, tiles above it where they lie."""
    image = np.full((SIZE, SIZE, 3), 90, np.uint8)
    board = tuple((20.5 + 12 * i, 110.5) for i in range(len(scene.board.text)))
    tiles = tuple(
        (
            8.5 + 110 * (t.x - AREA[0][0]) / (AREA[0][1] - AREA[0][0]),
            84.5 - 70 * (t.y - AREA[1][0]) / (AREA[1][1] - AREA[1][0]),
        )
        for t in scene.tiles
    )
    for (u, v), value in [*zip(board, map(ord, scene.board.text)), *zip(tiles, (t.digit for t in scene.tiles))]:
        image[int(v) - 2 : int(v) + 3, int(u) - 2 : int(u) + 3] = (value, 3 * value % 256, 255 - value)
    return Seen(image, board, tiles, ((30.5, 100.5), (60.5, 100.5)))


def refuses(scene: MathsScene, keys: Keys | None = None, hand: Hand | None = None) -> Seen:
    """A picture that cannot be made, for one equation in two."""
    if scene.equation.answer % 2:
        raise BadData("an odd answer", "an even one", "none: this is a test")
    return patches(scene)


def dies(scene: MathsScene, keys: Keys | None = None, hand: Hand | None = None) -> Seen:
    """Ends a producer process at its first picture, but not this one."""
    if os.environ.get("SYNTHETIC_TEST_PARENT") != str(os.getpid()):
        os._exit(7)
    return patches(scene)
