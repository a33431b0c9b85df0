"""From a scene to its front picture and the pixels of what is written in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mindhand.core.keys import Keys
from mindhand.worlds.draw import Draw
from mindhand.worlds.scene import MathsScene, Tile

from .samples import Pixel, board_class, tile_class

if TYPE_CHECKING:
    from mindhand.worlds.desk.render import Mark
    from mindhand.worlds.desk.render import Picture as Drawn

SHAKEN, ARMED = 0.5, 0.6  # shares of the corpus: camera and lamp moved a little; the arm over the table
TOOL = ((-0.2, 0.1), (-0.13, 0.11), (0.03, 0.2), (-0.5, 0.5))  # where it may be then: x, y, z (m), yaw (rad)
CARRY = (TOOL[0], (-0.13, 0.05), (0.02, 0.12), TOOL[3])  # where tiles are carried
TRIES = 4  # so many places are tried for a hand that is to hide nothing
HIDDEN = 0.1  # a character is hidden when more of its box than this looks different with the arm there


@dataclass(frozen=True, eq=False)
class Seen:
    """A picture uint8 (h,w,3), and where the board's characters and the tiles' digits are, in the scene's order, and
    the tray's places; and the tiles whose digit something covers."""

    image: np.ndarray
    board: tuple[Pixel, ...]
    tiles: tuple[Pixel, ...]
    places: tuple[Pixel, ...]
    covered: tuple[int, ...] = ()


@dataclass(frozen=True)
class Hand:
    """What the hand does: it holds one more `tile`, or it is `at` (x, y, z, yaw; m, rad), whatever it hides there."""

    tile: Tile | None = None
    at: tuple[float, ...] | None = None


# (scene, one key row or None, the hand or None) -> what is seen; with None exactly the view that an episode begins
# with, otherwise a variation that is a pure function of all. A module-level function, so that producer processes can
# be given it.
Picture = Callable[[MathsScene, Keys | None, Hand | None], Seen]


def glyphs_of(scene: MathsScene, seen: Seen) -> tuple[tuple[int, float, float], ...]:
    """(class, u, v) of every character that can be seen in the picture."""
    board = [(board_class(c), *p) for c, p in zip(scene.board.text, seen.board, strict=True)]
    tiles = [(tile_class(t.digit), *p) for t, p in zip(scene.tiles, seen.tiles, strict=True)]
    return (*board, *(t for k, t in enumerate(tiles) if k not in seen.covered))


def hidden(before: np.ndarray, after: np.ndarray, marks: tuple[Mark, ...]) -> list[Mark]:
    """The characters that can be seen in picture `before` and not in `after`, both uint8 (h,w,3)."""
    differ = before != after
    changed = differ[..., 0] | differ[..., 1] | differ[..., 2]  # a tenth of the time of any(-1)

    def covered(m: Mark) -> bool:
        top, left = max(0, int(m.v - m.height / 2)), max(0, int(m.u - m.width / 2))
        box = changed[top : int(m.v + m.height / 2) + 1, left : int(m.u + m.width / 2) + 1]
        return bool(box.mean() > HIDDEN)

    return [m for m in marks if covered(m)]


def _seen(scene: MathsScene, picture: Drawn, gone: Sequence[Mark] = ()) -> Seen:
    """gone: the characters that something hides."""
    at = {(m.where, m.index): (m.u, m.v) for m in picture.marks}
    return Seen(
        picture.image,
        tuple(at["board", k] for k in range(len(scene.board.text))),
        tuple(at["tile", k] for k in range(len(scene.tiles))),
        picture.places,
        tuple(m.index for m in gone if m.where == "tile"),
    )


def reaches(draw: Draw, held: bool) -> list[tuple[float, ...]]:
    """Where an arm may be, one place after the other until one hides nothing; none for a table without an arm."""
    armed, low = draw.chance(ARMED) or held, draw.chance(0.5) or held
    return [tuple(draw.uniform(*span) for span in (CARRY if low else TOOL)) for _ in range(TRIES if armed else 0)]


def front(scene: MathsScene, keys: Keys | None = None, hand: Hand | None = None) -> Seen:
    """The desk's front picture, 128x128. With keys, camera and lamp are moved in half of the pictures, and the arm
    is over the table in about half of them, high or low, or holds a tile, and hides nothing if it can; unless it is
    told where to be."""
    from mindhand.worlds.desk.render import render_scene

    jitter, tools, held = None, [], hand.tile if hand else None
    if keys is not None:
        draw = Draw(keys.fold("front"))
        jitter = keys if draw.chance(SHAKEN) else None
        tools = reaches(draw, held is not None)
    bare = render_scene(scene, jitter=jitter)
    for tool in [hand.at] if hand and hand.at else tools:
        with_arm = render_scene(scene, jitter=jitter, tcp=tool, held=held)
        gone = hidden(bare.image, with_arm.image, bare.marks)
        if not gone or (hand and (hand.at or tool is tools[-1])):
            return _seen(scene, with_arm, gone)
    return _seen(scene, bare)


def composed(scene: MathsScene, keys: Keys | None = None, hand: Hand | None = None) -> Seen:
    """The same, composed in two dimensions, for the mass: several times as fast as `front`."""
    from .compose import compose  # with a simulator in it: a producer that never draws starts fast without

    return compose(scene, keys, hand)
