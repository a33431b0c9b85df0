"""The shapes of the toys that `things` declares, as coloured solids, and the meshes that a model draws them with.

The frame of a toy: z = 0 at the table, the middle of its circle at x = y = 0, its length along x and its face
towards -y. At a picture of 128 pixels a toy is 16 to 24 pixels wide, so what is typical of it is exaggerated.
Shapes are written in millimetres; what `pieces`, `outline` and `meshes` give is in metres.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from types import FunctionType

import numpy as np

from mindhand.worlds.things import BY_NAME

from .solids import along_x, along_y, arc, ball, box, circle, lathe, normals, prism, rod, shift, tilt

Colour = tuple[int, int, int]
BODY, SHADE = "body", "shade"  # the toy's own colour and material; its colour, darker, without the material
DARK, WHITE, CREAM = (40, 40, 46), (244, 244, 240), (240, 226, 190)
WOOD, BROWN, ORANGE, YELLOW = (214, 168, 108), (88, 50, 26), (246, 140, 20), (252, 224, 80)
GLASS, FLAME = (166, 212, 240), (250, 120, 20)
THICK = 12  # mm, of flat toys
SLANT = np.array([0.77, 0.27, 0.58])  # the direction that stripes follow one another in, in the toy's frame
PERIOD = 0.016  # m along it between two of them
DIRECTIONS = 300  # in which `outline` takes the outermost point


@dataclass(frozen=True, eq=False)
class Piece:
    """A solid in the toy's frame, triangles (n,3,3) in metres, and how it is painted: BODY, SHADE or a colour."""

    solid: np.ndarray
    paint: str | Colour = BODY


_MAKERS: dict[str, FunctionType] = {}


def _toy(maker: FunctionType) -> FunctionType:
    _MAKERS[maker.__name__.strip("_")] = maker
    return maker


# ---- shapes, in millimetres ----------------------------------------------------------------------------


@_toy
def _ball() -> tuple[Piece, ...]:
    return (Piece(ball((24, 24, 24), (0, 0, 24), 16, 10)),)


@_toy
def _cube() -> tuple[Piece, ...]:
    return (Piece(box((41, 41, 41), (0, 0, 20.5))),)


@_toy
def _cup() -> tuple[Piece, ...]:
    wall = lathe([(0, 0), (17, 0), (23, 46), (19.5, 46), (15, 8), (0, 8)])
    ear = rod([(20 + 13 * x, 0, 25 + 14 * z) for x, z in arc(1, -95, 95, 7)], [3.5] * 7, 6)
    drink = prism(circle(18.2), 34, 37)
    return Piece(shift(wall, (-7, 0, 0))), Piece(shift(ear, (-7, 0, 0))), Piece(shift(drink, (-7, 0, 0)), BROWN)


@_toy
def _banana() -> tuple[Piece, ...]:
    path = [(x, y, 9.5) for x, y in arc(35, 208, 332, 9, (0, 25))]
    body = rod(path, [3, 6.5, 9, 9.5, 9.5, 9.5, 9, 6.5, 3])
    ends = [ball((4, 4, 4), path[k], 6, 4) for k in (0, -1)]
    return Piece(body), *(Piece(e, BROWN) for e in ends)


@_toy
def _star() -> tuple[Piece, ...]:
    outline = np.stack([arc(35, 90, 450, 6)[:-1], arc(14, 126, 486, 6)[:-1]], 1).reshape(-1, 2)
    return (Piece(prism(outline, 0, THICK)),)


@_toy
def _car() -> tuple[Piece, ...]:
    wheel = along_y(prism(circle(8.5, 10), -3.5, 3.5))
    wheels = [Piece(shift(wheel, (x, y, 8.5)), DARK) for x in (-18, 18) for y in (-13.5, 13.5)]
    glass = along_y(prism([(15, -20), (15, 14), (27, 6), (27, -16)], -11.5, 11.5))
    lamps = [Piece(box((3, 7, 5), (31, y, 14)), YELLOW) for y in (-8, 8)]
    hull, roof = box((62, 27, 11), (0, 0, 12.5)), box((23, 23, 3), (-5, 0, 28.5))
    return Piece(hull), Piece(roof), Piece(glass, GLASS), *wheels, *lamps


@_toy
def _hammer() -> tuple[Piece, ...]:
    head = along_y(prism(circle(9, 8), -13, 20))
    claw = prism([(-7, -24), (9, -13), (-9, -13)], 3, 19)
    handle = rod([(-40, 0, 9), (16, 0, 11)], [5.5, 4.5])
    return Piece(shift(head, (24, 2, 11))), Piece(shift(claw, (24, 2, 0))), Piece(handle, BROWN)


@_toy
def _ring() -> tuple[Piece, ...]:
    return (Piece(lathe(arc(8, 0, 360, 9, (21.5, 8))[:-1], 18, closed=True)),)


@_toy
def _duck() -> tuple[Piece, ...]:
    body, head = ball((24, 17, 16), (-7, 0, 16)), ball((13, 12.5, 12.5), (12, 0, 39))
    tail = rod([(-20, 0, 18), (-32, 0, 34)], [11, 1])
    beak = rod([(20, 0, 37), (34, 0, 35)], [7, 3.5])
    eyes = [Piece(ball((3, 3, 3), (18, y, 44), 6, 4), DARK) for y in (-9, 9)]
    return Piece(body), Piece(head), Piece(tail), Piece(beak, ORANGE), *eyes


@_toy
def _tree() -> tuple[Piece, ...]:
    tiers = [(23, 28, 16, 24), (18, 48, 11, 22), (12, 66, 0, 24)]  # radius, from where up, and so above
    crown, rims = [], []
    for below, z, above, tall in tiers:
        crown.append(Piece(lathe([(0, z + 6), (below, z + 6), (above * 0.6, z + tall), (0, z + tall)])))
        rims.append(Piece(lathe([(0, z), (below, z), (below, z + 6), (0, z + 6)]), SHADE))
    return *crown, *rims, Piece(prism(circle(10, 8), 0, 29), BROWN)


@_toy
def _bottle() -> tuple[Piece, ...]:
    glass = along_x(lathe([(0, -37), (13, -37), (13.5, 6), (5.5, 18), (5.5, 29), (0, 29)]))
    label, cap = along_x(lathe([(0, -24), (14, -24), (14, -4), (0, -4)])), along_x(prism(circle(7), 28, 38))
    lift = (0, 0, 14)
    return Piece(shift(glass, lift)), Piece(shift(label, lift), CREAM), Piece(shift(cap, lift), DARK)


@_toy
def _cone() -> tuple[Piece, ...]:
    def part(low: float, high: float) -> np.ndarray:
        return lathe([(0, low), (19 - low / 4, low), (19 - high / 4, high), (0, high)])

    foot = box((40, 40, 5), (0, 0, 2.5))
    return Piece(foot), Piece(part(5, 22)), Piece(part(22, 36), WHITE), Piece(part(36, 66))


@_toy
def _key() -> tuple[Piece, ...]:
    bow = lathe([(7, 0), (16, 0), (16, 10), (7, 10)], 12, closed=True)
    bit = [box((6, 15, 10), (x, -9, 5)) for x in (22, 34)]
    return Piece(shift(bow, (-21, 0, 0))), Piece(box((44, 7, 10), (15, 0, 5))), *map(Piece, bit)


@_toy
def _spoon() -> tuple[Piece, ...]:
    bowl = lathe([(0, 0), (0.6, 0), (1, 10), (0.78, 10), (0.5, 3), (0, 3)]) * (18, 14, 1)
    hollow = prism(circle(1) * (13, 10), 3, 6)
    handle = prism([(-40, -4.5), (6, -2.5), (6, 2.5), (-40, 4.5)], 5, 10)
    return Piece(shift(bowl, (22, 0, 0))), Piece(shift(hollow, (22, 0, 0)), SHADE), Piece(handle)


@_toy
def _heart() -> tuple[Piece, ...]:
    t = np.radians(np.arange(0, 360, 15))
    x, y = 16 * np.sin(t) ** 3, 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    notch = np.where(np.cos(t) > 0, (3.5 - 0.7 * np.abs(x)).clip(0), 0)  # deeper than the curve has it
    return (Piece(prism(np.stack([x, y + 2.5 - notch], 1) * 1.9, 0, THICK)),)


@_toy
def _house() -> tuple[Piece, ...]:
    walls = along_x(prism([(-17, 0), (17, 0), (17, 30), (0, 44), (-17, 30)], -21, 21))
    roof = along_x(prism([(-21, 29), (-18, 25), (0, 42), (18, 25), (21, 29), (0, 50)], -23, 23))
    chimney = box((8, 8, 22), (12, 9, 46))
    door = box((10, 2, 19), (0, -17.5, 9.5))
    panes = [Piece(box((9, 2, 9), (x, y, 15)), GLASS) for x, y in ((-13, -17.5), (13, -17.5), (-12, 17.5), (12, 17.5))]
    return Piece(walls, CREAM), Piece(roof), Piece(chimney, BROWN), Piece(door, BROWN), *panes


@_toy
def _mushroom() -> tuple[Piece, ...]:
    cap = lathe([(0, 36), (27, 35), (26, 40), (20, 48), (11, 53), (0, 55)])
    gills, stem = lathe([(0, 32), (24, 32), (27, 35), (0, 36)]), lathe([(0, 0), (16, 0), (12, 34), (0, 34)], 10)
    return Piece(cap), Piece(gills, CREAM), Piece(stem, CREAM)


@_toy
def _fish() -> tuple[Piece, ...]:
    body = ball((24, 16, 9), (11, 0, 9))
    tail = prism([(-8, 0), (-34, 17), (-27, 0), (-34, -17)], 4, 14)
    fin = prism([(20, 12), (2, 23), (0, 10)], 6, 12)
    eye = [Piece(ball((r, r, 3), (23, 5, z), 8, 4), c) for r, z, c in ((5, 15, WHITE), (2.5, 17, DARK))]
    return Piece(body), Piece(tail, GLASS), Piece(fin, GLASS), *eye  # of one colour it is an arrow to small eyes


@_toy
def _cross() -> tuple[Piece, ...]:
    a, b = 10, 32
    quarter = [(a, a), (a, b), (-a, b)]
    turns = [np.array(quarter) @ np.array([(c, -s), (s, c)]).T for c, s in ((1, 0), (0, 1), (-1, 0), (0, -1))]
    return (Piece(prism(np.concatenate(turns), 0, THICK)),)


@_toy
def _moon() -> tuple[Piece, ...]:
    outline = np.concatenate([arc(32, 47, 313, 15), arc(25, 290, 70, 9, (13, 0))])
    return (Piece(prism(outline, 0, THICK)),)


@_toy
def _arrow() -> tuple[Piece, ...]:
    outline = [(-36, -7), (5, -7), (5, -22), (37, 0), (5, 22), (5, 7), (-36, 7)]
    return (Piece(prism(outline, 0, THICK)),)


@_toy
def _boat() -> tuple[Piece, ...]:
    deck = np.array([(-32, -15), (6, -16), (24, -10), (38, 0), (24, 10), (6, 16), (-32, 15)])
    hull, floor = prism(deck * 0.72, 0, 20, top=1 / 0.72), prism(deck * 0.8, 20, 21)
    sail = prism([(23, 0), (-18, 6), (-18, -6)], 30, 74, top=0.05)
    mast = rod([(0, 0, 20), (0, 0, 40)], [2.5, 2.5], 6)
    return Piece(hull), Piece(floor, SHADE), Piece(sail, WHITE), Piece(mast, WOOD)


@_toy
def _dumbbell() -> tuple[Piece, ...]:
    weight, bar = along_x(prism(circle(15, 12), -9, 9)), along_x(prism(circle(5, 8), -20, 20))
    return *(Piece(shift(weight, (x, 0, 15))) for x in (-24, 24)), Piece(shift(bar, (0, 0, 15)), DARK)


@_toy
def _snowman() -> tuple[Piece, ...]:
    balls = [Piece(ball((r, r, r), (0, 0, z), 14, 8)) for r, z in ((21, 21), (15.5, 49), (12.5, 71))]
    hat = lathe([(0, 80), (10.5, 80), (10.5, 83), (6.5, 83), (6.5, 93), (0, 93)], 10)
    arms = [Piece(rod([(s * 13, 0, 50), (s * 31, -2, 60)], [2.5, 2]), BROWN) for s in (-1, 1)]
    nose = rod([(0, -11, 71), (0, -29, 70)], [4.5, 1], 6)
    knobs = [Piece(ball((3, 3, 3), (0, -15, z), 6, 4), DARK) for z in (45, 54)]
    return *balls, Piece(hat, DARK), Piece(nose, ORANGE), *knobs, *arms


@_toy
def _chair() -> tuple[Piece, ...]:
    legs = [Piece(box((5, 5, 26), (x, y, 13)), BROWN) for x in (-16, 16) for y in (-16, 16)]
    return Piece(box((38, 38, 5), (0, 0, 27))), Piece(box((38, 5, 36), (0, 16.5, 46))), *legs


@_toy
def _train() -> tuple[Piece, ...]:
    wheel = along_y(prism(circle(7, 10), -3, 3))
    wheels = [Piece(shift(wheel, (x, y, 7)), DARK) for x in (-24, -4, 16) for y in (-13, 13)]
    boiler = shift(along_x(prism(circle(12), -8, 29)), (0, 0, 23))
    cab, roof = box((22, 25, 30), (-20, 0, 25)), box((28, 30, 4), (-20, 0, 42))
    frame, chimney = box((64, 20, 7), (0, 0, 9)), lathe([(0, 30), (4, 30), (4, 42), (8, 52), (0, 52)], 10)
    dome = ball((5, 5, 6), (2, 0, 35), 8, 4)
    return (
        Piece(boiler), Piece(cab), Piece(roof, SHADE), Piece(frame, DARK), Piece(shift(chimney, (20, 0, 0)), DARK),
        Piece(dome, YELLOW), *wheels,
    )  # fmt: skip


@_toy
def _rocket() -> tuple[Piece, ...]:
    hull = along_x(lathe([(0, -24), (9, -24), (12.5, -8), (12.5, 6), (10, 16), (0, 16)]))
    nose = along_x(lathe([(10, 16), (6, 28), (0, 38), (0, 16)], closed=True))
    fin = [(-10, 10), (-28, 24), (-33, 24), (-24, 6)]
    flat = [prism(np.array(fin) * (1, s), -2.5, 2.5) for s in (1, -1)]
    upright = tilt(flat[0], 0, 90)
    window = ball((6.5, 6.5, 4), (1, 0, 25), 10, 4)
    flame = rod([(-24, 0, 0), (-30, 0, 0), (-38, 0, 0)], [6, 7, 2])
    lifted = [Piece(shift(s, (0, 0, 14)), p) for s, p in ((hull, BODY), (nose, WHITE), (flame, FLAME), (upright, DARK))]
    return *lifted, *(Piece(shift(f, (0, 0, 14)), DARK) for f in flat), Piece(window, GLASS)


@_toy
def _glasses() -> tuple[Piece, ...]:
    rim, lens = lathe(arc(3.5, 0, 360, 7, (13.5, 4))[:-1], 14, closed=True), prism(circle(12), 2, 4)
    arms = [rod([(s * 31, -10, 5), (s * 29, 15, 5), (s * 24, 23, 4)], [2.5] * 3, 6) for s in (-1, 1)]
    sides = [(s * 17.5, -12, 0) for s in (-1, 1)]
    bridge = rod([(-5, -8, 6), (5, -8, 6)], [3, 3], 6)
    return (
        *(Piece(shift(rim, at)) for at in sides), *(Piece(shift(lens, at), GLASS) for at in sides),
        *map(Piece, arms), Piece(bridge),
    )  # fmt: skip


# ---- containers, in millimetres ------------------------------------------------------------------------


@_toy
def _bowl() -> tuple[Piece, ...]:
    wall = lathe([(0, 0), (22, 0), (36, 12), (44, 30), (40, 30), (32, 15), (20, 8), (0, 8)], 18)
    return Piece(wall), Piece(prism(circle(24), 8, 10.5), SHADE)


@_toy
def _plate() -> tuple[Piece, ...]:
    dish = lathe([(0, 0), (28, 0), (48, 8), (47, 10), (30, 6), (0, 6)], 20)
    return Piece(dish), Piece(lathe([(27, 5), (31, 5), (31, 7.4), (27, 7.4)], 18, closed=True), SHADE)


@_toy
def _basket() -> tuple[Piece, ...]:
    def band(low: float, high: float) -> np.ndarray:
        a, b = 38 + low / 3, 38 + high / 3
        return lathe([(a, low), (b, high), (b - 4, high), (a - 4, low)], 16, closed=True)

    weave = [Piece(band(6 * k, 6 * k + 6), (BODY, SHADE)[k % 2]) for k in range(3)]
    handle = rod([(42 * x, 0, 15 + 42 * z) for x, z in arc(1, 0, 180, 9)], [2.3] * 9, 6)
    return *weave, Piece(prism(circle(36, 16), 0, 5)), Piece(handle, BROWN)


@_toy
def _box() -> tuple[Piece, ...]:
    walls = [box((63, 4, 25), (0, y, 12.5)) for y in (-29.5, 29.5)]
    walls += [box((4, 55, 25), (x, 0, 12.5)) for x in (-29.5, 29.5)]
    return *map(Piece, walls), Piece(box((56, 56, 5), (0, 0, 2.5)), BROWN)


@_toy
def _book() -> tuple[Piece, ...]:
    covers = [box((58, 74, 3), (0, 0, z)) for z in (1.5, 12.5)]
    spine, pages = box((4, 74, 14), (-28, 0, 7)), box((53, 68, 8), (0, 0, 7))
    title = [box((34, h, 1), (3, y, 14)) for h, y in ((9, 18), (5, 5))]
    return *map(Piece, covers), Piece(spine), Piece(pages, WHITE), *(Piece(t, CREAM) for t in title)


@_toy
def _pan() -> tuple[Piece, ...]:
    wall = lathe([(0, 0), (28, 0), (34, 20), (31, 20), (26, 6), (0, 6)], 18)
    handle = rod([(31, 0, 15), (58, 0, 19)], [4, 5])
    return Piece(wall), Piece(prism(circle(28), 5, 7), DARK), Piece(handle, DARK)


# ---- what is drawn -------------------------------------------------------------------------------------


@cache
def pieces(name: str) -> tuple[Piece, ...]:
    """The solids of a declared thing, in metres."""
    return tuple(Piece(p.solid * 1e-3, p.paint) for p in _MAKERS[BY_NAME[name].name]())


@cache
def outline(name: str) -> np.ndarray:
    """(n,3): the points of a toy that are outermost in some direction; nothing of it is seen beyond them."""
    k = np.arange(DIRECTIONS) + 0.5
    z, a = 1 - 2 * k / DIRECTIONS, k * np.pi * (1 + np.sqrt(5.0))
    r = np.sqrt(1 - z * z)
    points = np.concatenate([p.solid.reshape(-1, 3) for p in pieces(name)])
    return points[np.unique((points @ np.stack([r * np.cos(a), r * np.sin(a), z])).argmax(0))]


@dataclass(frozen=True, eq=False)
class Mesh:
    """All pieces of a toy that are painted alike: corners and normals there (n,3,3), texture coordinates (n,3,2)."""

    paint: str | Colour
    corners: np.ndarray
    normals: np.ndarray
    texture: np.ndarray


@cache
def meshes(name: str) -> tuple[Mesh, ...]:
    """The toy as few meshes, without the faces that point down: nobody looks from below."""
    out = []
    for paint in dict.fromkeys(p.paint for p in pieces(name)):
        solids = [p.solid for p in pieces(name) if p.paint == paint]
        corners, shading = np.concatenate(solids), np.concatenate([normals(s) for s in solids])
        face = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        face /= np.linalg.norm(face, axis=1, keepdims=True)
        seen = face[:, 2] > -0.8
        out.append(Mesh(paint, corners[seen], shading[seen], _texture(corners[seen], face[seen])))
    return tuple(out)


def _texture(corners: np.ndarray, face: np.ndarray) -> np.ndarray:
    """Stripes are planes through the toy across `SLANT`. Dots also need a second coordinate: it runs across the
    slant in the plane of the two axes that a face is most nearly in, so that dots are round there."""
    across = np.cross(np.eye(3)[np.abs(face).argmax(1)], SLANT)
    return np.stack([corners @ SLANT, np.einsum("nck,nk->nc", corners, across)], 2) / PERIOD
