"""A row of the desk that does not look as usual: camera, lamp, table and litter perturbed, and the arm's start.

A model of its own, with the same bodies in the same order (so a state is one of the plain model's too), a picture for
the table and the meshes of toys. The plain model is never written to: a row that goes back to it is as if it had never
left. Here, everything that can be perturbed is set anew with each episode, by `Looks`, whatever the family's stage.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import mujoco
import numpy as np

from mindhand.core.keys import Key, Keys
from mindhand.core.rotation import to_matrix
from mindhand.worlds.course import COLOUR, CourseScene, circles
from mindhand.worlds.course_sight import corners, hidden
from mindhand.worlds.draw import Draw
from mindhand.worlds.perturb import FIELD, LITTER, MAGNITUDES, Perturbation, amount, keys_of, litter, span, within
from mindhand.worlds.perturb_noise import clouds
from mindhand.worlds.placing import PlacingScene
from mindhand.worlds.scene import PLACES, TILE, MathsScene
from mindhand.worlds.things import COLOURS, THINGS, Toy
from mindhand.worlds.things import FIELD as TOY_FIELD

from .arm import look_at
from .body import VIPERX, Body
from .build import (
    BOARD_AXES,
    BOARD_HALF,
    BOARD_POS,
    FRONT_EYE,
    FRONT_FOVY,
    FRONT_LOOK,
    HEADLIGHT,
    LAMP,
    LIGHT,
    RIM,
    SLACK,
    make_spec,
)
from .canvas import Loose
from .costumes import Wardrobe, add_costumes
from .course_stage import CourseStage, make_course_spec
from .playground import ToyStage, make_toy_spec
from .stage import Stage

SIDE, SPAN = 256, 1.28  # the table's picture: pixels a side, and the metres that they cover around the middle
_UP = np.array([0.0, 0.0, 1.0])
_SHOWN = [np.array(rgb) / 255 for rgb in COLOURS.values()]  # of toys
_NONE = np.empty((0, 3))
Good = Callable[[np.ndarray], bool]  # whether a front camera may stand there (3,) m


@cache
def _compiled(make: Callable[..., mujoco.MjSpec], *how: Any) -> mujoco.MjModel:
    spec = make(*how)
    spec.add_texture(
        name="ground", type=mujoco.mjtTexture.mjTEXTURE_2D, builtin=mujoco.mjtBuiltin.mjBUILTIN_FLAT,
        rgb1=[1, 1, 1], rgb2=[1, 1, 1], width=SIDE, height=SIDE, nchannel=3,
    )  # fmt: skip
    ground = spec.add_material(name="ground", texuniform=True, texrepeat=[2 / SPAN] * 2)  # of a plane's half sizes
    ground.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = "ground"
    return spec.compile()


def _littered_spec(size: int, arms: int, body: Body) -> mujoco.MjSpec:
    spec = make_spec(size, arms, body)
    add_costumes(spec, LITTER)
    return spec


def needed(perturb: Perturbation) -> bool:
    """Whether anything is perturbed that only an altered stage shows."""
    return bool(perturb.layout or perturb.camera or perturb.light or perturb.background)


class Looks:
    """Camera, lamp and table of a stage, whose model has the table's picture. seen: (n,3) points that the front camera
    always holds; shown: colours (RGB of 0..1) that no lamp confuses and no table comes near."""

    def __init__(self, stage: Stage, seen: np.ndarray, shown: Sequence[Sequence[float]] = ()):
        self._stage, self._seen, self._shown = stage, seen, shown
        m = stage.model
        self._table, self._lamp = m.geom("table").id, m.light("lamp").id
        self._texture, self._ground = m.texture("ground").id, m.material("ground").id
        self._usual = [(array, array.copy()) for array in (
            m.cam_pos, m.cam_quat, m.light_dir, m.light_diffuse, m.light_specular, m.geom_matid, m.geom_rgba,
            m.vis.headlight.ambient, m.vis.headlight.diffuse,
        )]  # fmt: skip

    def alter(self, key: Key, perturb: Perturbation, also: np.ndarray = _NONE, good: Good = lambda at: True) -> None:
        """Those of an episode, shown from when the stage is next dressed. also: (n,3) points of this scene that the
        front camera holds, too; good: from where it may."""
        m = self._stage.model
        for array, usual in self._usual:
            array[:] = usual
        self._stage.pictures = {}
        if perturb.camera:
            self._turn_cameras(key, perturb.camera, np.concatenate([self._seen, also]), good)
        if level := perturb.light:
            self._shine(lighting(keys_of(key, "light", level), level, self._shown))
        if level := perturb.background:
            self._stage.pictures = {self._texture: ground(keys_of(key, "background", level), level, self._shown)}
            m.geom_matid[self._table] = self._ground
            m.geom_rgba[self._table] = 1.0

    def _turn_cameras(self, key: Key, level: int, seen: np.ndarray, good: Good) -> None:
        m, keys, cameras = self._stage.model, keys_of(key, "camera", level), self._stage.ids.cameras
        m.cam_pos[cameras["front"]], m.cam_quat[cameras["front"]] = viewpoint(keys, level, seen, good)
        for role in sorted(set(cameras) - {"front"}):
            wrist, draw = cameras[role], Draw(keys.fold(role))
            m.cam_pos[wrist] += amount(draw, "camera", "mount", level) * direction(draw)
            half = math.radians(amount(draw, "camera", "tilt", level)) / 2
            turn = np.concatenate([[math.cos(half)], math.sin(half) * direction(draw)])
            mujoco.mju_mulQuat(m.cam_quat[wrist], m.cam_quat[wrist].copy(), turn)

    def _shine(self, light: Lighting) -> None:
        m, colour = self._stage.model, np.array(light.colour)
        m.light_dir[self._lamp] = light.direction
        m.light_diffuse[self._lamp] = LIGHT * (1 + light.share) * colour
        m.light_specular[self._lamp] = light.gloss * colour
        m.vis.headlight.ambient[:] = LIGHT * (1 - light.share) * colour
        m.vis.headlight.diffuse[:] = HEADLIGHT * colour


class AlteredStage(Stage):
    """A row whose looks are perturbed: `alter` it before it is dressed."""

    def __init__(self, size: int = 128, arms: int = 1, body: Body = VIPERX):
        super().__init__(size, copy.copy(_compiled(_littered_spec, size, arms, body)), body=body)
        self._looks, self._wardrobe = Looks(self, to_be_seen()), Wardrobe(self.model, LITTER)

    def alter(self, key: Key, perturb: Perturbation, scene: MathsScene) -> None:
        """Camera, lamp, table and litter of an episode. scene: as `perturbed_scene` has it."""
        self._looks.alter(key, perturb)
        toys = litter(scene, keys_of(key, "layout", perturb.layout), perturb.layout) if perturb.layout else ()
        self.loose = tuple(mesh for toy in toys for mesh in self._lying(toy))

    def _lying(self, toy: Toy) -> list[Loose]:
        c, s = math.cos(toy.yaw), math.sin(toy.yaw)
        return self._wardrobe.loose(toy, np.array([toy.x, toy.y, 0.0]), np.array([(c, -s, 0), (s, c, 0), (0, 0, 1.0)]))


class AlteredToyStage(ToyStage):
    """The same with toys, which are all in the scene: there is no litter."""

    def __init__(self, size: int = 128, arms: int = 1, body: Body = VIPERX):
        super().__init__(size, model=copy.copy(_compiled(make_toy_spec, size, arms, body)), body=body)
        self._looks = Looks(self, toys_to_be_seen(), _SHOWN)

    def alter(self, key: Key, perturb: Perturbation, _: PlacingScene) -> None:
        """Camera, lamp and table of an episode."""
        self._looks.alter(key, perturb)


class AlteredCourseStage(CourseStage):
    """The same among obstacles, which are in the picture and hide no more of a toy than they do from the usual place:
    the camera is drawn again until it is so. Nothing looks like them."""

    def __init__(self, size: int = 128):
        super().__init__(size, model=copy.copy(_compiled(make_course_spec, size)))
        self._looks = Looks(self, toys_to_be_seen(), [*_SHOWN, np.array(COLOUR) / 255])

    def alter(self, key: Key, perturb: Perturbation, scene: CourseScene) -> None:
        """Camera, lamp and table of an episode."""
        stand, toys = np.concatenate([corners(box) for box in scene.boxes]), circles(scene)
        self._looks.alter(key, perturb, stand, lambda at: not hidden(toys, scene.boxes, at.tolist()))


Altered = AlteredStage | AlteredToyStage | AlteredCourseStage


def direction(draw: Draw, size: int = 3) -> np.ndarray:
    """(size,): a unit vector in a random direction."""
    v = np.array([draw.normal() for _ in range(size)])
    return v / np.linalg.norm(v)


# ---- camera --------------------------------------------------------------------------------------------

SMALLEST = 0.68  # of its usual width and height in the picture: a tile's digit is then 5.5 pixels high
_AROUND = 0.028  # m around a tile's middle that is to be seen of it
_HANDLE = 0.048  # and around a toy's: all but 11 mm of a pan's handle


def _board() -> np.ndarray:
    corners = [(sx * 0.95 * BOARD_HALF[0], sy * 0.9 * BOARD_HALF[1], 0.0) for sx in (-1, 1) for sy in (-1, 1)]
    return np.array(corners) @ BOARD_AXES.T + BOARD_POS


@cache
def to_be_seen() -> np.ndarray:
    """(n,3): points that the front picture always holds: the board but for its margin, the tray, and the middles of
    tiles wherever a perturbed layout may put them, with most of what is around them."""
    x, y = TILE[0] / 2 + SLACK + 2 * RIM, TILE[1] / 2 + SLACK + 2 * RIM
    tray = [(px + sx * x, py + sy * y, 0.0) for px, py in PLACES for sx in (-1, 1) for sy in (-1, 1)]
    grid, tiles = [np.arange(low, high + 0.001, 0.01) for low, high in FIELD], []
    for v in grid[1]:
        row = [u for u in grid[0] if within(u, v)]
        ends = ((min(row), -_AROUND), (max(row), _AROUND))  # what lies between them is seen if they are
        tiles += [(u + side, v + s * _AROUND, TILE[2]) for u, side in ends for s in (-1, 1)]
    return np.concatenate([_board(), tray, tiles])


@cache
def toys_to_be_seen() -> np.ndarray:
    """(n,3): the same with toys: the board, and all of them wherever they may lie, but for the end of a handle."""
    turns = [(math.cos(a), math.sin(a)) for a in np.arange(16) * math.pi / 8]
    sizes = [(min(t.reach, _HANDLE), z) for t in THINGS for z in (0.0, t.height)]
    corners = [(x, y) for x in TOY_FIELD[0] for y in TOY_FIELD[1]]
    toys = [(x + r * c, y + r * s, z) for x, y in corners for r, z in sizes for c, s in turns]
    return np.concatenate([_board(), toys])


def _about(axis: int, angle: float) -> np.ndarray:
    v = np.zeros(3)
    v[axis] = angle
    return to_matrix(v, "axis_angle")


def _orbit(cone: float, around: float, roll: float) -> np.ndarray:
    """(3,3), columns right, up, backwards: a camera that looks at the usual place from `cone` (rad) beside the usual
    direction, to the right (`around` 0), from above (a quarter turn), and so on."""
    eye, middle = np.array(FRONT_EYE), np.array(FRONT_LOOK)
    usual = to_matrix(look_at(eye, middle, _UP), "quat_wxyz")
    aside = math.cos(around) * usual[:, 0] + math.sin(around) * usual[:, 1]
    back = math.cos(cone) * usual[:, 2] + math.sin(cone) * aside
    return to_matrix(look_at(back, np.zeros(3), _UP), "quat_wxyz") @ _about(2, roll)


def _fit(axes: np.ndarray, aim: tuple[float, float], points: np.ndarray) -> tuple[float, np.ndarray]:
    """The least distance (1 is the usual one) from which a camera with these axes holds all points (n,3) when it is
    aimed at their middle and then turned off it by `aim` (rad, right and up), and its axes then."""
    eye, middle = np.array(FRONT_EYE), np.array(FRONT_LOOK)
    away = np.linalg.norm(eye - middle) * axes[:, 2]
    focal = 1 / math.tan(math.radians(FRONT_FOVY) / 2)
    distance, out = 1.0, axes
    for last in (False, False, True):
        seen = (points - middle - distance * away) @ out
        angles = np.arctan(seen[:, :2] / -seen[:, 2:])
        right, up = (angles.min(0) + angles.max(0)) / 2 + (aim if last else (0.0, 0.0))
        out = out @ _about(1, -right) @ _about(0, up)
        # In the picture: focal * |side| <= depth, where both are linear in the distance.
        seen, step = (points - middle) @ out, away @ out
        need = [
            (seen[:, 2] + s * focal * seen[:, k]) / (step[2] + s * focal * step[k]) for k in (0, 1) for s in (-1, 1)
        ]
        distance = float(np.max(need))
    return distance, out


def viewpoint(keys: Keys, level: int, seen: np.ndarray, good: Good = lambda at: True) -> tuple[np.ndarray, np.ndarray]:
    """Position (3,) m and quaternion (4,) of the front camera: on a cone around the usual direction, rolled, a little
    beside its aim, and at least so far away that all of `seen` (n,3) is in the picture; drawn again where what lies
    on the table were smaller than `SMALLEST`, and where a place is not `good`."""
    draw, away = Draw(keys), np.array(FRONT_EYE) - FRONT_LOOK
    while True:
        cone, roll = (math.radians(amount(draw, "camera", q, level)) for q in ("cone", "roll"))
        axes = _orbit(cone, draw.uniform(-math.pi, math.pi), roll if draw.chance(0.5) else -roll)
        aim, way = math.radians(amount(draw, "camera", "aim", level)), draw.uniform(-math.pi, math.pi)
        wanted = amount(draw, "camera", "distance", level)
        least, turned = _fit(axes, (aim * math.cos(way), aim * math.sin(way)), seen)
        distance = max(least, wanted)
        flat = axes[2, 2] * np.linalg.norm(away) / away[2]  # how high a picture shows the table, of its usual
        at = np.array(FRONT_LOOK) + distance * np.linalg.norm(away) * axes[:, 2]
        if min(1.0, flat) / distance >= SMALLEST and good(at):
            break
    quat = np.empty(4)
    mujoco.mju_mat2Quat(quat, np.ascontiguousarray(turned).ravel())
    return at, quat


# ---- light ---------------------------------------------------------------------------------------------


class Lighting(NamedTuple):
    """The direction of the lamp's light (unit), the colour of all light (1, 1, 1 as usual), how much of what comes from
    everywhere comes from the lamp instead, and its highlights."""

    direction: tuple[float, float, float]
    colour: tuple[float, float, float]
    share: float
    gloss: float


CLEARLY = 1.25  # times as far from any other colour; at 1 a pink ball in green light looks grey


def lighting(keys: Keys, level: int, shown: Sequence[Sequence[float]] = ()) -> Lighting:
    """A lamp turned any way, though never from below, dimmer or brighter, and tinted, though no colour of those `shown`
    (RGB of 0..1) is taken for another."""
    draw, lamp = Draw(keys), np.array(LAMP) / np.linalg.norm(LAMP)
    while True:
        turn, axis = math.radians(amount(draw, "light", "turn", level)), np.cross(lamp, direction(draw))
        turned = to_matrix(turn * axis / np.linalg.norm(axis), "axis_angle") @ lamp
        if turned[2] < -0.3:
            break
    power = amount(draw, "light", "dark" if draw.chance(0.6) else "bright", level)
    while True:
        tint = np.array([draw.uniform(-1.0, 1.0) for _ in range(3)])
        tint = (tint - tint.mean()) / np.abs(tint - tint.mean()).max()
        tint = np.exp(amount(draw, "light", "tint", level) * tint)
        if _told_apart(tint, shown):
            break
    share, gloss = (amount(draw, "light", q, level) for q in ("share", "gloss"))
    return Lighting(tuple(turned.tolist()), tuple((power * tint).tolist()), share, gloss)


def _told_apart(tint: np.ndarray, shown: Sequence[Sequence[float]]) -> bool:
    """Whether each colour in this light, but for its brightness, is clearly nearer to itself than to any other."""
    usual = np.array(shown).reshape(-1, 3)
    away = np.linalg.norm((tint * usual)[:, None] - usual, axis=2)
    own = away.diagonal().copy()
    np.fill_diagonal(away, np.inf)
    return bool((away >= CLEARLY * own[:, None]).all())


# ---- background ----------------------------------------------------------------------------------------

TABLE = (0.55, 0.45, 0.36)  # as it usually is
PALE, DARK = 0.60, 0.12  # tiles are paler, the arm is darker than any table
UNLIKE = 0.25  # distance of a table from the colours of toys, RGB of 0..1
PATTERNS = ("plain", "stripes", "checks", "wood", "marble", "speckle")
_EDGE = ((0.190, 0.235), (0.182, 0.225))  # m: where the table may end, to the right and at the back of all tiles


def _colour(
    draw: Draw, near: tuple[float, ...], low: float, high: float, shown: Sequence[Sequence[float]]
) -> np.ndarray:
    """An RGB colour at least `low` and at most `high` from another one, neither pale nor dark, and unlike all that are
    shown."""
    while True:
        rgb = np.array([draw.uniform(0.05, 0.80) for _ in range(3)])
        unlike = all(np.linalg.norm(rgb - one) >= UNLIKE for one in shown)
        if unlike and low <= np.linalg.norm(rgb - near) <= high and DARK <= rgb @ (0.3, 0.59, 0.11) <= PALE:
            return rgb


def _pattern(draw: Draw, keys: Keys, kind: str) -> np.ndarray:
    """(SIDE,SIDE) from -1 to 1."""
    y, x = (np.mgrid[:SIDE, :SIDE] + 0.5) * (SPAN / SIDE)
    angle, period = draw.uniform(0.0, math.pi), draw.uniform(0.03, 0.09)  # m
    u, v = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    if kind == "stripes":
        return np.sign(np.sin(2 * np.pi * u / period))
    if kind == "checks":
        return np.sign(np.sin(2 * np.pi * u / period) * np.sin(2 * np.pi * v / period))
    if kind == "speckle":
        return np.sign(keys.fold("speckle").uniform(SIDE, SIDE)[0] - 0.8)
    if kind == "plain":
        return np.zeros((SIDE, SIDE))
    cloud = clouds(keys.fold("cloud"), SIDE, SIDE)
    if kind == "marble":
        return 2.0 * cloud - 1.0
    return np.sin(2 * np.pi * (u / period + 2.0 * cloud))  # wood


def ground(keys: Keys, level: int, shown: Sequence[Sequence[float]] = ()) -> np.ndarray:
    """The table's picture, uint8 (SIDE,SIDE,3), its top away from the front camera: another colour, with a pattern,
    and from some level on with a floor of yet another one beyond its edge to the right or at the back; neither like
    any of the colours `shown` (RGB of 0..1)."""
    draw = Draw(keys)
    colour = _colour(draw, TABLE, *span("background", "colour", level), shown)
    contrast = amount(draw, "background", "contrast", level)
    kind = draw.pick(PATTERNS)
    tint = np.array([draw.uniform(0.5, 1.0) for _ in range(3)])
    out = colour + contrast * _pattern(draw, keys, kind)[..., None] * tint
    if MAGNITUDES["background"]["floor"][level]:
        floor = _colour(draw, tuple(colour), 0.2, 0.6, shown)
        x = (np.arange(SIDE) + 0.5) * (SPAN / SIDE) - SPAN / 2
        side = draw.index(3)  # to the right, at the back, both
        right, back = draw.uniform(*_EDGE[0]), draw.uniform(*_EDGE[1])
        out[:, x > (right if side != 1 else SPAN)] = floor
        out[-x > (back if side != 0 else SPAN)] = floor
    return (255 * out.clip(0.0, 1.0) + 0.5).astype(np.uint8)
