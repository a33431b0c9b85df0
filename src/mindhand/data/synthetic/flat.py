"""Flat pictures of the same scenes and tabletops: drawn in two dimensions, from far above and without perspective, by
no simulator. A mind that saw only these knows what is asked and not how the desk looks (the bridge to the desk)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import numpy as np
from PIL import Image, ImageDraw

from mindhand.core.errors import BadData
from mindhand.core.keys import Keys
from mindhand.worlds.draw import Draw
from mindhand.worlds.scene import PLACES, TILE, MathsScene, Tile
from mindhand.worlds.things import COLOURS, MATERIALS, Toy

from .picture import SHAKEN, Hand, Seen
from .samples import Pixel
from .toy_questions import Sight, Tabletop, pointed

SIZE, FINE = 128, 2  # pixels a side, and drawn so many times as large
SCALE, TILT = 350.0, math.radians(52)  # pixels a metre; the angle to the table that it is seen from
MIDDLE = (66.0, 84.0)  # where the table's middle is
BOARD = (9.0, 5.0, 110.0, 32.0)  # left, top, width, height in pixels
WOODS = ((206, 186, 158), (188, 196, 190), (214, 206, 196), (176, 168, 176), (222, 214, 178))  # a table's colours
WALL, PLATE, LIGHT = (226, 228, 230), (90, 130, 205), np.array([-0.4, -0.5, 0.77])
STRIPE = 5  # pixels a stripe, or a dot, and what is between it and the next
Corner = tuple[float, float]


class Sheet:
    """A picture in the making. With keys its colours, its board's place and its light vary in half of them."""

    def __init__(self, keys: Keys | None):
        draw = Draw(keys.fold("flat")) if keys is not None else None
        shaken = draw is not None and draw.chance(SHAKEN)

        def some(spread: float) -> float:
            return draw.uniform(-spread, spread) if draw is not None and shaken else 0.0

        self.light = 1.0 + some(0.15)
        self.shift = some(3.0), some(3.0)
        left, top, width, height = BOARD
        self.board = left + some(4.0), top + some(3.0), width * (1 + some(0.06)), height * (1 + some(0.08))
        self.image = Image.new("RGB", (SIZE * FINE, SIZE * FINE), WALL)
        wood = draw.pick(WOODS) if draw is not None else WOODS[0]
        self.pen = ImageDraw.Draw(self.image)
        self.pen.rectangle((0, 44 * FINE, SIZE * FINE, SIZE * FINE), fill=wood)

    def at(self, points: np.ndarray) -> np.ndarray:
        """(...,3) metres to (...,2) pixels."""
        x, y, z = np.moveaxis(np.asarray(points, float), -1, 0)
        u = MIDDLE[0] + self.shift[0] + SCALE * x
        return np.stack([u, MIDDLE[1] + self.shift[1] - SCALE * (y * math.sin(TILT) + z * math.cos(TILT))], -1)

    def write(self, picture: np.ndarray, boxes: Sequence[Sequence[float]]) -> tuple[Pixel, ...]:
        """Put a board's picture on the wall; the middles of its boxes (fractions of it), in pixels."""
        left, top, width, height = self.board
        size = round(width * FINE), round(height * FINE)
        self.image.paste(Image.fromarray(picture).resize(size, Image.Resampling.BOX), _corner(left, top))
        return tuple((left + width * (l + r) / 2, top + height * (t + b) / 2) for l, t, r, b in boxes)

    def lay(self, picture: np.ndarray, corners: np.ndarray) -> None:
        """Lay a picture on the table: `corners` (3,3), metres, of its top left, top right and bottom left."""
        origin, right, down = self.at(corners) * FINE
        h, w = picture.shape[:2]
        to = np.stack([(right - origin) / w, (down - origin) / h], 1)  # from its pixels to the sheet's
        ends = np.stack([origin, right, down, right + down - origin])
        low, high = np.floor(ends.min(0)).astype(int), np.ceil(ends.max(0)).astype(int)
        back = np.linalg.inv(to)
        offset = back @ (low - origin)
        way = (*back[0], offset[0], *back[1], offset[1])
        size = int(high[0] - low[0]), int(high[1] - low[1])
        drawn = Image.fromarray(picture).transform(size, Image.Transform.AFFINE, way, Image.Resampling.BILINEAR)
        there = Image.new("L", (w, h), 255).transform(size, Image.Transform.AFFINE, way)
        self.image.paste(drawn, (int(low[0]), int(low[1])), there)

    def frame(self, x: float, y: float, half: tuple[float, float]) -> None:
        """A plate on the table."""
        ends = self.at(np.array([(x - half[0], y + half[1], 0), (x + half[0], y - half[1], 0)])) * FINE
        self.pen.rectangle((*ends[0], *ends[1]), fill=PLATE)

    def done(self) -> np.ndarray:
        """uint8 (SIZE,SIZE,3)."""
        small = np.asarray(self.image.reduce(FINE))
        return small if self.light == 1.0 else np.clip(small * self.light, 0, 255).astype(np.uint8)


def _corner(left: float, top: float) -> tuple[int, int]:
    return round(left * FINE), round(top * FINE)


def flat_desk(scene: MathsScene, keys: Keys | None = None, hand: Hand | None = None) -> Seen:
    """A desk, 128x128; a `Picture`. BadData for a hand: there is none here."""
    from mindhand.worlds.desk.textures import board, tile_label  # a simulator's neighbours: see `picture.composed`

    if hand is not None:
        raise BadData("a flat picture with a hand in it", "none", "leave `think` infinite in a flat corpus")
    sheet = Sheet(keys)
    written = sheet.write(*board(scene.board))
    for place in PLACES:
        sheet.frame(*place, (TILE[0] * 0.6, TILE[1] * 0.6))
    for tile in scene.tiles:
        sheet.lay(tile_label(tile, scene.tile_font), _corners(tile))
    middles = np.array([(t.x, t.y, 0.0) for t in scene.tiles]).reshape(-1, 3)
    places = sheet.at(np.array([(*p, 0.0) for p in PLACES]))
    return Seen(sheet.done(), written, _pixels(sheet.at(middles)), _pixels(places))


def _corners(tile: Tile) -> np.ndarray:
    """Top left, top right and bottom left of a tile that lies flat."""
    c, s = math.cos(tile.yaw), math.sin(tile.yaw)
    half = ((-TILE[0] / 2, TILE[1] / 2), (TILE[0] / 2, TILE[1] / 2), (-TILE[0] / 2, -TILE[1] / 2))
    return np.array([(tile.x + c * a - s * b, tile.y + s * a + c * b, 0.0) for a, b in half])


def _pixels(points: np.ndarray) -> tuple[Pixel, ...]:
    return tuple((u, v) for u, v in points.tolist())


@cache
def _faces(name: str) -> tuple[np.ndarray, np.ndarray, tuple[str | tuple[int, int, int], ...]]:
    """Of a toy: triangles (n,3,3), their normals (n,3), and how each is painted."""
    from mindhand.worlds.desk.toys import pieces

    solids = np.concatenate([p.solid for p in pieces(name)])
    across = np.cross(solids[:, 1] - solids[:, 0], solids[:, 2] - solids[:, 0])
    across /= np.maximum(np.linalg.norm(across, axis=1, keepdims=True), 1e-12)
    return solids, across, tuple(p.paint for p in pieces(name) for _ in range(len(p.solid)))


def _stand(sheet: Sheet, toy: Toy, at: np.ndarray) -> tuple[float, float, float, float]:
    """Draw a toy; its box in pixels."""
    from mindhand.worlds.desk.costumes import pattern
    from mindhand.worlds.desk.toys import BODY, SHADE

    solids, normals, paints = _faces(toy.thing)
    c, s = math.cos(toy.yaw), math.sin(toy.yaw)
    turn = np.array([(c, -s, 0.0), (s, c, 0.0), (0.0, 0.0, 1.0)])
    corners, facing = solids @ turn.T + at, normals @ turn.T
    towards = np.array([0.0, -math.cos(TILT), math.sin(TILT)])
    order = (corners.mean(1) @ towards).argsort()
    seen = order[(facing @ towards)[order] > 0]
    bright, pixels = 0.6 + 0.4 * np.maximum(facing @ LIGHT, 0.0), sheet.at(corners)
    body, own = Image.new("L", sheet.image.size, 0), COLOURS[toy.colour]
    mark = ImageDraw.Draw(body)
    for k in seen.tolist():
        paint, part = paints[k], float(bright[k])
        base = own if paint == BODY else tuple(0.6 * c for c in own) if paint == SHADE else paint
        points = [tuple(p) for p in (pixels[k] * FINE).tolist()]
        sheet.pen.polygon(points, fill=tuple(int(part * c) for c in base))
        mark.polygon(points, fill=255 if paint == BODY else 0)
    if toy.material != MATERIALS[0]:
        period = Image.fromarray(pattern(toy.colour, toy.material)).resize((STRIPE * FINE, STRIPE * FINE))
        cloth = np.tile(np.asarray(period), (*(n // (STRIPE * FINE) + 1 for n in sheet.image.size), 1))
        sheet.image.paste(Image.fromarray(cloth[: sheet.image.height, : sheet.image.width]), (0, 0), body)
    flat = pixels.reshape(-1, 2).clip(0, SIZE)
    (left, top), (right, bottom) = flat.min(0).tolist(), flat.max(0).tolist()
    return left, top, right, bottom


def flat_table(table: Tabletop, keys: Keys | None = None) -> Sight:
    """A table of toys, 128x128; a `TabletopPicture`."""
    from mindhand.worlds.desk.notices import writing

    sheet = Sheet(keys)
    written = sheet.write(*writing(table.writing))
    toys = table.scene.toys
    places = [table.scene.place(k) for k in range(len(toys))]
    boxes: dict[int, tuple[float, float, float, float]] = {}
    for k in sorted(range(len(toys)), key=lambda k: (-places[k][1], places[k][2])):  # far ones first
        boxes[k] = _stand(sheet, toys[k], np.array(places[k]))
    middles = sheet.at(np.array([(x, y, z + t.kind.height / 2) for (x, y, z), t in zip(places, toys)]))
    around = tuple(boxes[k] for k in range(len(toys)))

    def at(point: Sequence[float]) -> Pixel:
        return _pixels(sheet.at(np.array([point])))[0]

    return Sight(sheet.done(), pointed(table.scene, _pixels(middles), around), around, written, at)
