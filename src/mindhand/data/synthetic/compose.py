"""Front pictures composed in two dimensions, for the mass: as the simulator renders them, at a fraction of the time.

The empty desk and the arm come from `view`. The board's writing is laid on its face; every ray that may meet a tile is
cut with its box. Light, blur and perspective are the simulator's, and so is the arm; what differs is that there are
only `view.VIEWS` places of the camera, and that an arm is in front of every tile on the table.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from mindhand.core.keys import Keys
from mindhand.worlds.desk import textures
from mindhand.worlds.desk.build import LABEL_HALF, LABEL_TOP, PLATE
from mindhand.worlds.desk.render import glyph_corners, tile_poses
from mindhand.worlds.draw import Draw
from mindhand.worlds.scene import (
    FACES,
    INKS,
    PAPERS,
    PLACES,
    TILE,
    MathsScene,
    Tile,
)

from .picture import HIDDEN, SHAKEN, Hand, Seen, reaches
from .resample import read, shrunk, taps
from .view import SIZE, VIEWS, Arm, View, view

_REACH = 13  # pixels around a tile's middle within which all of it is seen
_HALF = np.array(TILE, np.float32)[:, None, None] / 2
_LABEL_BLUR = 6.1  # pixels of a label that one of the picture covers
_PLACES = np.array([(*p, PLATE) for p in PLACES])


@lru_cache(maxsize=512)
def _label(digit: int, font: str) -> np.ndarray:
    """How much ink (0..1) a tile's label has, as small as it is seen."""
    face, ink = FACES["white"][0], INKS["black"][0]
    return shrunk(
        (face - textures.label(digit, font, "white", "black")[..., 0].astype(np.float32)) / (face - ink), _LABEL_BLUR
    )


def _write(picture: np.ndarray, scene: MathsScene, at: View) -> None:
    board = scene.board
    paper, ink = np.array(PAPERS[board.paper][0], np.float32), np.array(INKS[board.ink], np.float32)
    channel = int(np.abs(paper - ink).argmax())
    drawn = textures.board(board)[0][..., channel]
    cover = (paper[channel] - drawn.astype(np.float32)) / (paper[channel] - ink[channel])
    seen = read(shrunk(cover, at.board_blur), at.taps)
    picture[at.edge] = at.edge_light[:, None] * paper + 0.5
    picture[at.board] = at.board_light * (paper + seen[:, None] * (ink - paper)) + 0.5


def _lay(
    picture: np.ndarray, tiles: Sequence[Tile], poses: np.ndarray, font: str, at: View, only: np.ndarray | None = None
) -> None:
    """Draw tiles with centres and yaws `poses` (n,4), far ones first. only: the pixels that may change."""
    order = np.argsort(-poses[:, 1], kind="stable")
    poses, tiles = poses[order].astype(np.float32), [tiles[k] for k in order]
    if only is None:
        centre = np.floor(at.project(poses[:, :3])).astype(int)
        near = np.clip(centre[:, :, None] + np.arange(-_REACH, _REACH), 0, SIZE - 1)
        pixels = (near[:, 1, :, None] * SIZE + near[:, 0, None, :]).reshape(len(tiles), -1)
    else:
        pixels = only[None]
    c, s = np.cos(poses[:, 3]), np.sin(poses[:, 3])
    rays, start = at.rays[:, pixels], at.eye.astype(np.float32) - poses[:, :3]
    # In each tile's own frame: x and y turned back, z up.
    ways = np.stack([c[:, None] * rays[0] + s[:, None] * rays[1], c[:, None] * rays[1] - s[:, None] * rays[0], rays[2]])
    start = np.stack([c * start[:, 0] + s * start[:, 1], c * start[:, 1] - s * start[:, 0], start[:, 2]])
    ways[ways == 0] = 1e-9  # along a face: as good as never through it
    reach, middle = _HALF / np.abs(ways), -start[:, :, None] / ways
    enter, leave = middle - reach, middle + reach  # of each axis's two faces
    side = np.sign(start)  # of each axis, the face that looks towards the eye
    face = enter.argmax(0)
    first = enter.max(0)
    tile, ray = np.nonzero(first < leave.min(0))
    if not len(tile):
        return
    face, first, pixels = face[tile, ray], first[tile, ray], pixels[tile if only is None else 0, ray]
    # A label lies a little above its tile.
    first = np.where(face == 2, (LABEL_TOP - start[2, tile]) / ways[2, tile, ray], first)
    x, y = (start[k, tile] + first * ways[k, tile, ray] for k in range(2))

    normals = np.zeros((len(tiles), 3, 3), np.float32)
    normals[:, 0, 0], normals[:, 0, 1] = side[0] * c, side[0] * s
    normals[:, 1, 0], normals[:, 1, 1] = -side[1] * s, side[1] * c
    normals[:, 2, 2] = side[2]
    bright = at.light(normals)
    faces = np.array([FACES[t.face] for t in tiles], np.float32)
    colours = np.minimum(faces[tile] * bright[tile, face, None], 255.0)

    labelled = (face == 2) & (np.abs(x) < LABEL_HALF[0]) & (np.abs(y) < LABEL_HALF[1])
    some, x, y = tile[labelled], x[labelled], y[labelled]
    labels = np.stack([_label(t.digit, font) for t in tiles])
    height, width = labels.shape[1:]
    corners, share = taps(
        (0.5 + x / LABEL_HALF[0] / 2) * width, (0.5 - y / LABEL_HALF[1] / 2) * height, (height, width)
    )
    cover = read(labels, (corners + some * (height * width), share))[:, None]
    inks = np.array([INKS[t.ink] for t in tiles], np.float32)
    colours[labelled] = np.minimum(bright[some, 2, None], 1.0) * (faces[some] + cover * (inks[some] - faces[some]))
    picture[pixels] = colours + 0.5


class Sheet:
    """A picture in the making: a scene on a view, without any arm."""

    def __init__(self, scene: MathsScene, at: View):
        self.scene, self.at, self.picture = scene, at, at.empty.copy()
        _write(self.picture, scene, at)
        if scene.tiles:
            _lay(self.picture, scene.tiles, tile_poses(scene.tiles), scene.tile_font, at)
        corners = at.project(glyph_corners(scene))
        self.low, self.high = corners.min(1), corners.max(1)  # of every character: smallest and largest u, v

    def hidden(self, arm: Arm) -> list[int]:
        """The characters of which more than a little is behind the arm."""
        low, high = np.maximum(self.low.astype(int), 0).tolist(), (self.high.astype(int) + 1).tolist()
        boxes = (arm.mask[v:bottom, u:right] for (u, v), (right, bottom) in zip(low, high))
        return [k for k, box in enumerate(boxes) if box.size and box.mean() > HIDDEN]

    def put(self, arm: Arm, held: Tile | None) -> None:
        """The arm over it, with a tile between its fingers."""
        self.picture[arm.pixels] = arm.colours
        if held is not None and arm.tile is not None:
            _lay(self.picture, (held,), np.array([arm.tool]), self.scene.tile_font, self.at, arm.tile)

    def seen(self, gone: Sequence[int] = ()) -> Seen:
        """What there is to see; `gone`: the characters that something hides."""
        count = len(self.scene.board.glyphs)
        middles = [(u, v) for u, v in ((self.low + self.high) / 2).tolist()]
        places = tuple((u, v) for u, v in self.at.project(_PLACES).tolist())
        covered = tuple(k - count for k in gone if k >= count)
        image = self.picture.reshape(SIZE, SIZE, 3)
        return Seen(image, tuple(middles[:count]), tuple(middles[count:]), places, covered)


def _somewhere(draw: Draw) -> int:
    return 1 + draw.index(VIEWS) if draw.chance(SHAKEN) else 0


def compose(scene: MathsScene, keys: Keys | None = None, hand: Hand | None = None) -> Seen:
    """What `picture.front` shows, composed."""
    number, tools, held = 0, [], hand.tile if hand else None
    if keys is not None:
        draw = Draw(keys.fold("composed"))
        number = _somewhere(draw)
        tools = reaches(draw, held is not None)
    at = view(number)
    sheet = Sheet(scene, at)
    for tool in [hand.at] if hand and hand.at else tools:
        arm = at.arm(tool, held)
        gone = sheet.hidden(arm)
        if not gone or (hand and (hand.at or tool is tools[-1])):
            sheet.put(arm, held)
            return sheet.seen(gone)
    return sheet.seen()


def page(scene: MathsScene, keys: Keys) -> Seen:
    """A picture to learn characters from: camera and lamp moved in half of them, no arm."""
    return Sheet(scene, view(_somewhere(Draw(keys.fold("page view"))))).seen()
