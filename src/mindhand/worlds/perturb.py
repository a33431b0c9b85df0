"""Seven ways in which a scene may differ from training, five levels each, after LIBERO-Plus (arXiv 2510.13626).

What is changed is a pure function of (key, axis, level), drawn afresh for every level and independently of the other
axes, so that any of them compose. Level 0 changes nothing. Here is what needs no simulator: names, magnitudes, the
layout and the litter on the table; the words and the sensors' noise are in `perturb_words` and `perturb_noise`.

    layout      tiles shifted and turned beyond what scenes do, toys lying about; or toys shifted and turned, and more
                of them, as far as a scene may have them (`perturb_toys`)
    camera      where the front camera stands and looks, how the wrist's is mounted
    start       the joints that the arm starts from
    language    the instruction: chat around it, other words, a chain of reasons before it
    light       direction, brightness, colour and highlights of the lamp
    background  colour and pattern of the table, and a floor beyond its edge
    noise       motion, Gaussian and zoom blur, fog, shot noise, grain
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from mindhand.core.errors import BadData
from mindhand.core.keys import Key, Keys

from .draw import Draw
from .perturb_toys import rearranged
from .perturb_words import REASONS, TOY_REASONS, rewrite
from .placing import PlacingScene
from .scene import APART, AREA, PLACES, TILE, YAW, MathsScene, Tile
from .things import COLOURS, THINGS, Thing, Toy

AXES = ("layout", "camera", "start", "language", "light", "background", "noise")
LEVELS = (0, 1, 2, 3, 4, 5)

# By axis and quantity, the most at each level; an episode draws its own between the level below and this one (`span`),
# so magnitudes grow with the level in every single episode. Index 0 is the scene as it is. Where the paper goes further
# it is because the board, the tray, the tiles and what is written on them have to stay in a picture of 128 pixels.
MAGNITUDES: dict[str, dict[str, tuple[float, ...]]] = {
    "layout": {  # the paper shifts the target and adds distractors without giving sizes
        "shift": (0.0, 0.010, 0.020, 0.032, 0.045, 0.060),  # m
        "turn": (0.0, 6.0, 12.0, 18.0, 24.0, 30.0),  # degrees, on top of the scene's own; more, and 6 is a 9
        "toys": (0, 1, 2, 3, 4, 6),  # beside tiles; among toys, until there are six
    },
    "camera": {
        "cone": (0.0, 4.0, 8.0, 13.0, 19.0, 26.0),  # degrees of orbit; paper 15-75, where the board cannot be read
        "distance": (1.0, 1.05, 1.10, 1.17, 1.25, 1.35),  # paper 1.01-2.00; up to 1.47 where a turned view needs it
        "roll": (0.0, 2.0, 4.0, 6.0, 8.0, 10.0),  # degrees; paper 2-10 (orientation)
        "aim": (0.0, 0.2, 0.4, 0.6, 0.8, 1.0),  # degrees off the middle; paper 2-10, half of this narrow picture
        "mount": (0.0, 0.003, 0.006, 0.009, 0.012, 0.015),  # m, the wrist camera
        "tilt": (0.0, 2.0, 4.0, 6.0, 8.0, 10.0),  # degrees, the wrist camera; paper 2-10
    },
    "start": {"joints": (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)},  # rad, length of the change of all six; paper 0.1-0.5
    "language": {"steps": (0, 1, 2, 3, 4, 5)},  # clauses, words or links; the paper's are written by a language model
    "light": {  # the paper also switches shadows, which the desk does not draw, and gives no sizes
        "turn": (0.0, 12.0, 24.0, 36.0, 48.0, 60.0),  # degrees, the lamp's direction
        "share": (0.0, 0.1, 0.2, 0.3, 0.4, 0.5),  # of the light from everywhere that comes from the lamp instead
        "dark": (1.0, 0.88, 0.76, 0.64, 0.52, 0.42),  # brightness, in three of five episodes
        "bright": (1.0, 1.04, 1.08, 1.12, 1.16, 1.20),  # and in the others; beyond, pale tiles lose their ink
        "tint": (0.0, 0.07, 0.14, 0.21, 0.28, 0.35),  # logarithm of the most that a channel gains or loses
        "gloss": (0.0, 0.0, 0.06, 0.12, 0.2, 0.3),  # specular
    },
    "background": {  # the paper takes 950 textures, without an order among them
        "colour": (0.0, 0.08, 0.16, 0.24, 0.32, 0.42),  # distance from the table's own, RGB of 0..1
        "contrast": (0.0, 0.03, 0.06, 0.10, 0.15, 0.20),  # of the pattern, of 0..1
        "floor": (0, 0, 0, 1, 1, 1),  # whether the table ends in the picture
    },
    "noise": {  # pixels are those of a picture 128 pixels high
        "motion": (0.0, 1.5, 2.4, 3.3, 4.2, 5.2),  # pixels of the streak; paper's radius 5-35
        "gaussian": (0.0, 0.4, 0.6, 0.8, 1.0, 1.25),  # pixels; paper's sigma 1-10
        "zoom": (1.0, 1.02, 1.035, 1.05, 1.07, 1.09),  # the largest copy; paper 1.11-1.56
        "fog": (0.0, 0.15, 0.27, 0.39, 0.51, 0.63),  # of the picture, where it is thickest
        "shot": (0.0, 0.03, 0.055, 0.085, 0.12, 0.16),  # standard deviation at white, of 0..1; not in the paper,
        "grain": (0.0, 0.02, 0.04, 0.065, 0.09, 0.12),  # nor this, everywhere: both stand for its glass blur
    },
}

# ---- which, and how much -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Perturbation:
    """How much each axis is perturbed, 0 (not at all) to 5. Written "camera3+light2", or "clean"."""

    layout: int = 0
    camera: int = 0
    start: int = 0
    language: int = 0
    light: int = 0
    background: int = 0
    noise: int = 0

    def __post_init__(self) -> None:
        for axis, level in asdict(self).items():
            if isinstance(level, bool) or not isinstance(level, int) or level not in LEVELS:
                raise BadData(f"perturbation {axis}={level!r}", f"a level, one of {LEVELS}", "correct it")

    def __bool__(self) -> bool:
        return any(asdict(self).values())

    def __str__(self) -> str:
        return "+".join(f"{axis}{level}" for axis, level in self.to_json().items()) or "clean"

    @staticmethod
    def parse(text: str) -> Perturbation:
        """The inverse of `str`; axes in any order, each at most once."""
        found = [re.fullmatch(r"([a-z]+)(\d)", word) for word in text.split("+")] if text != "clean" else []
        levels = {m[1]: int(m[2]) for m in found if m}
        if len(levels) != len(found):
            raise BadData(f"perturbation '{text}'", "such as 'camera3+light2', or 'clean'", "write it so")
        return Perturbation.from_json(levels)

    def to_json(self) -> dict[str, int]:
        """The levels above 0, by axis."""
        return {axis: level for axis, level in asdict(self).items() if level}

    @staticmethod
    def from_json(levels: dict[str, int]) -> Perturbation:
        """The inverse of `to_json`; levels of 0 may be there too."""
        if unknown := set(levels) - set(AXES):
            raise BadData(f"perturbation of {sorted(unknown)}", f"axes among {AXES}", "correct it")
        return Perturbation(**levels)


CLEAN = Perturbation()


def keys_of(key: Key, axis: str, level: int) -> Keys:
    """What an axis draws from in an episode: one row."""
    return Keys.of([key]).fold("perturb", axis, level)


def span(axis: str, quantity: str, level: int) -> tuple[float, float]:
    """From where to where a quantity of `MAGNITUDES` is drawn at a level above 0; at the first, from half of its most
    on, so that no episode is left as it was."""
    most = MAGNITUDES[axis][quantity]
    return most[level - 1] if level > 1 else (most[0] + most[1]) / 2, most[level]


def amount(draw: Draw, axis: str, quantity: str, level: int) -> float:
    """One draw of a quantity of `MAGNITUDES`."""
    return draw.uniform(*span(axis, quantity, level))


def perturbed_scene(scene: MathsScene, key: Key, perturb: Perturbation) -> MathsScene:
    """The scene as it then lies and is asked for: other tiles' poses (layout), another instruction (language).

    Raises BadData where a language perturbation would say the same."""
    out = scene
    if perturb.layout:
        out = shifted(out, keys_of(key, "layout", perturb.layout), perturb.layout)
    if perturb.language:
        out = replace(out, instruction=_told(scene.instruction, key, perturb, REASONS))
    return out


def perturbed_placing(scene: PlacingScene, key: Key, perturb: Perturbation) -> PlacingScene:
    """The same of toys, and of others that are put among them (layout)."""
    out = scene
    if level := perturb.layout:
        turn = tuple(math.radians(d) for d in span("layout", "turn", level))
        more = int(MAGNITUDES["layout"]["toys"][level])
        out = rearranged(out, keys_of(key, "layout", level), span("layout", "shift", level), turn, more)
    if perturb.language:
        out = replace(out, instruction=_told(scene.instruction, key, perturb, TOY_REASONS))
    return out


def _told(instruction: str, key: Key, perturb: Perturbation, reasons: Sequence[str]) -> str:
    steps = int(MAGNITUDES["language"]["steps"][perturb.language])
    said = rewrite(instruction, keys_of(key, "language", perturb.language), steps, reasons)
    if said == instruction or not said.strip():
        raise BadData(f"{perturb} says '{said}' for '{instruction}'", "other words", "mend the grammar")
    return said


# ---- layout --------------------------------------------------------------------------------------------

BASE = (-0.41, 0.0)  # the arm's, which reaches this far with the tool down and a tile lifted:
REACH = (0.22, 0.56)
FIELD = ((AREA[0][0], 0.150), (-0.100, 0.145))  # where tiles may go: what the front picture and the arm allow
BESIDE = (-0.145, 0.095)  # in front of `AREA` only to the left and right of this: fingers clear a tile in the tray
GRIP = (0.017, 0.052)  # half of what open fingers need around a tile's middle, along and across it
NEAR = 0.002  # two tiles come no nearer
ROUNDS, TRIES = 60, 12  # of all tiles, of one
Box = tuple[float, float, float, float, float]  # x, y, yaw, half width, half depth


def _meet(a: Box, b: Box) -> bool:
    """Whether two turned boxes overlap: no side of either separates them."""
    dx, dy = b[0] - a[0], b[1] - a[1]
    c, s = abs(math.cos(b[2] - a[2])), abs(math.sin(b[2] - a[2]))
    for (_, _, yaw, hx, hy), (_, _, _, ux, uy) in ((a, b), (b, a)):
        along, across = (math.cos(yaw), math.sin(yaw)), (-math.sin(yaw), math.cos(yaw))
        if abs(dx * along[0] + dy * along[1]) > hx + c * ux + s * uy:
            return False
        if abs(dx * across[0] + dy * across[1]) > hy + s * ux + c * uy:
            return False
    return True


def _box(t: Tile, grow: float = 0.0) -> Box:
    return t.x, t.y, t.yaw, TILE[0] / 2 + grow, TILE[1] / 2 + grow


def _grip(t: Tile) -> Box:
    return t.x, t.y, t.yaw, *GRIP


def within(x: float, y: float) -> bool:
    """Whether a tile may lie here: in reach, in the picture, clear of the tray and of the board."""
    (x0, x1), (y0, y1) = FIELD
    near, far = REACH
    beside = y >= AREA[1][0] or not BESIDE[0] < x < BESIDE[1]
    return x0 <= x <= x1 and y0 <= y <= y1 and beside and near <= math.hypot(x - BASE[0], y - BASE[1]) <= far


def clear(a: Tile, b: Tile) -> bool:
    """Whether either of two tiles can be taken without touching the other: as far apart as any scene has them, or by
    what open fingers need."""
    usual = max(abs(a.yaw), abs(b.yaw)) <= YAW
    if usual and (abs(a.x - b.x) >= APART[0] or abs(a.y - b.y) >= APART[1]):
        return True
    return not (_meet(_box(a, NEAR), _box(b)) or _meet(_grip(a), _box(b)) or _meet(_box(a), _grip(b)))


def guarded(scene: MathsScene, was: MathsScene) -> bool:
    """Whether a changed layout asks the same and can be done: every tile where tiles may lie and clear of the others,
    and the tiles that are to be taken, if they are there, still the same ones (the leftmost of equal digits)."""
    pairs = ((a, b) for i, a in enumerate(scene.tiles) for b in scene.tiles[:i])
    same = was.lacking or scene.order() == was.order()
    return same and all(within(t.x, t.y) for t in scene.tiles) and all(clear(*p) for p in pairs)


def shifted(scene: MathsScene, keys: Keys, level: int) -> MathsScene:
    """Every tile shifted in a direction of its own and turned further the way it is turned already.

    Draws that `guarded` refuses are drawn again; a table too full for them shifts less, at worst not at all."""
    draw, part = Draw(keys), 1.0
    while part > 0.1:
        for _ in range(ROUNDS):
            tiles: list[Tile] = []
            for tile in scene.tiles:
                tries = (_shift(draw, tile, level, part) for _ in range(TRIES))
                good = (t for t in tries if within(t.x, t.y) and all(clear(t, other) for other in tiles))
                if (found := next(good, None)) is None:
                    break
                tiles.append(found)
            else:
                out = replace(scene, tiles=tuple(tiles))
                if guarded(out, scene):
                    return out
        part *= 0.8
    return scene


def _shift(draw: Draw, tile: Tile, level: int, part: float) -> Tile:
    far, way = part * amount(draw, "layout", "shift", level), draw.uniform(-math.pi, math.pi)
    turn = math.copysign(math.radians(part * amount(draw, "layout", "turn", level)), tile.yaw)
    return replace(tile, x=tile.x + far * math.cos(way), y=tile.y + far * math.sin(way), yaw=tile.yaw + turn)


# ---- litter --------------------------------------------------------------------------------------------

FLAT = 0.031  # m: fingers that carry a tile pass over what is lower
LITTER = tuple(t for t in THINGS if t.height < FLAT and t.known in ("R", "K") and not t.holds)
ROOM = ((-0.200, 0.205), (-0.145, 0.200))  # where toys' middles may lie; the picture cuts some
TRAY = (PLACES[0][0] - 0.045, PLACES[1][0] + 0.045, PLACES[0][1] - 0.062, PLACES[0][1] + 0.062)  # left right low high
SPARE = 0.004  # m between a toy and what it may not touch


def litter(scene: MathsScene, keys: Keys, level: int) -> tuple[Toy, ...]:
    """Toys that have nothing to do with the task, no two of a kind: clear of the tiles and of the fingers around them,
    of the tray and of the board. They are seen and not felt. A full table takes fewer than the level has."""
    draw, out = Draw(keys.fold("toys")), []
    for thing in draw.shuffled(LITTER)[: int(MAGNITUDES["layout"]["toys"][level])]:
        colour, yaw = draw.pick(list(COLOURS)), draw.uniform(-math.pi, math.pi)
        for _ in range(200):
            x, y = draw.uniform(*ROOM[0]), draw.uniform(*ROOM[1])
            if _roomy(x, y, thing, scene, out):
                out.append(Toy(thing.name, colour, "plain", x, y, yaw))
                break
    return tuple(out)


def _roomy(x: float, y: float, thing: Thing, scene: MathsScene, others: list[Toy]) -> bool:
    reach = thing.reach + SPARE
    left, right, low, high = TRAY
    if math.hypot(max(left - x, 0, x - right), max(low - y, 0, y - high)) < reach:
        return False
    around = (x, y, 0.0, reach * 0.89, reach * 0.89)  # a square as large as the circle
    if any(_meet(around, _grip(t)) or _meet(around, _box(t)) for t in scene.tiles):
        return False
    return all(math.hypot(x - t.x, y - t.y) >= reach + t.kind.reach for t in others)
