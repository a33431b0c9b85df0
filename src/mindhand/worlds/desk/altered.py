"""A row of the desk that does not look as usual: camera, lamp, table and litter perturbed, and the arm's start.

A model of its own, with the same bodies in the same order (so a state is one of the plain model's too), a picture for
the table and the meshes of toys. The plain model is never written to: a row that goes back to it is as if it had never
left. Here, everything that can be perturbed is set anew with each episode.
"""

from __future__ import annotations

import copy
import math
from functools import cache
from typing import NamedTuple

import mujoco
import numpy as np

from mindhand.core.keys import Key, Keys
from mindhand.core.rotation import to_matrix
from mindhand.worlds.draw import Draw
from mindhand.worlds.perturb import FIELD, LITTER, MAGNITUDES, Perturbation, amount, keys_of, litter, span, within
from mindhand.worlds.perturb_noise import clouds
from mindhand.worlds.scene import PLACES, TILE, MathsScene
from mindhand.worlds.things import Toy

from .arm import look_at
from .build import (
    BOARD_AXES,
    BOARD_HALF,
    BOARD_POS,
    CAMERAS,
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
from .kinematics import HIGH, LOW, forward
from .spec import WORKSPACE
from .stage import Stage

SIDE, SPAN = 256, 1.28  # the table's picture: pixels a side, and the metres that they cover around the middle
_UP = np.array([0.0, 0.0, 1.0])


@cache
def _compiled(size: int, arms: int) -> mujoco.MjModel:
    spec = make_spec(size, arms)
    spec.add_texture(
        name="ground", type=mujoco.mjtTexture.mjTEXTURE_2D, builtin=mujoco.mjtBuiltin.mjBUILTIN_FLAT,
        rgb1=[1, 1, 1], rgb2=[1, 1, 1], width=SIDE, height=SIDE, nchannel=3,
    )  # fmt: skip
    ground = spec.add_material(name="ground", texuniform=True, texrepeat=[2 / SPAN] * 2)  # of a plane's half sizes
    ground.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = "ground"
    add_costumes(spec, LITTER)
    return spec.compile()


def needed(perturb: Perturbation) -> bool:
    """Whether anything is perturbed that only an `AlteredStage` shows."""
    return bool(perturb.layout or perturb.camera or perturb.light or perturb.background)


class AlteredStage(Stage):
    """A row whose looks are perturbed: `alter` it before it is dressed."""

    def __init__(self, size: int = 128, arms: int = 1):
        super().__init__(size, copy.copy(_compiled(size, arms)))
        self._usual = _compiled(size, arms)
        self._table = self.model.geom("table").id
        self._lamp = self.model.light("lamp").id
        self._texture = self.model.texture("ground").id
        self._wardrobe = Wardrobe(self.model, LITTER)
        self._ground: np.ndarray | None = None

    def alter(self, key: Key, perturb: Perturbation, scene: MathsScene) -> None:
        """Camera, lamp, table and litter of an episode. scene: as `perturbed_scene` has it."""
        m, usual = self.model, self._usual
        for name in ("cam_pos", "cam_quat", "light_dir", "light_diffuse", "light_specular", "geom_matid", "geom_rgba"):
            getattr(m, name)[:] = getattr(usual, name)
        for name in ("ambient", "diffuse"):
            getattr(m.vis.headlight, name)[:] = getattr(usual.vis.headlight, name)
        self._ground, self.loose = None, ()
        if perturb.camera:
            self._turn_cameras(key, perturb.camera)
        if perturb.light:
            self._shine(lighting(keys_of(key, "light", perturb.light), perturb.light))
        if perturb.background:
            self._ground = ground(keys_of(key, "background", perturb.background), perturb.background)
            begin = m.tex_adr[self._texture]
            m.tex_data[begin : begin + self._ground.size] = self._ground.ravel()
            m.geom_matid[self._table] = m.material("ground").id
            m.geom_rgba[self._table] = 1.0
        if perturb.layout:
            toys = litter(scene, keys_of(key, "layout", perturb.layout), perturb.layout)
            self.loose = tuple(mesh for toy in toys for mesh in self._lying(toy))

    def _lying(self, toy: Toy) -> list[Loose]:
        c, s = math.cos(toy.yaw), math.sin(toy.yaw)
        return self._wardrobe.loose(toy, np.array([toy.x, toy.y, 0.0]), np.array([(c, -s, 0), (s, c, 0), (0, 0, 1.0)]))

    def dress(self, scene: MathsScene) -> None:
        """As `Stage.dress`, and the table's picture."""
        super().dress(scene)
        if self._ground is not None:
            self._textures[self._texture] = self._ground

    def _turn_cameras(self, key: Key, level: int) -> None:
        m, keys = self.model, keys_of(key, "camera", level)
        front = self.ids.cameras["front"]
        m.cam_pos[front], m.cam_quat[front] = viewpoint(keys, level)
        for role in sorted(set(self.ids.cameras) - {"front"}):
            wrist, draw = self.ids.cameras[role], Draw(keys.fold(role))
            m.cam_pos[wrist] += amount(draw, "camera", "mount", level) * _direction(draw)
            half = math.radians(amount(draw, "camera", "tilt", level)) / 2
            turn = np.concatenate([[math.cos(half)], math.sin(half) * _direction(draw)])
            mujoco.mju_mulQuat(m.cam_quat[wrist], m.cam_quat[wrist].copy(), turn)

    def _shine(self, light: Lighting) -> None:
        m, colour = self.model, np.array(light.colour)
        m.light_dir[self._lamp] = light.direction
        m.light_diffuse[self._lamp] = LIGHT * (1 + light.share) * colour
        m.light_specular[self._lamp] = light.gloss * colour
        m.vis.headlight.ambient[:] = LIGHT * (1 - light.share) * colour
        m.vis.headlight.diffuse[:] = HEADLIGHT * colour


def _direction(draw: Draw, size: int = 3) -> np.ndarray:
    """(size,): a direction, all alike."""
    v = np.array([draw.normal() for _ in range(size)])
    return v / np.linalg.norm(v)


# ---- camera --------------------------------------------------------------------------------------------

SMALLEST = 0.68  # of its usual width and height in the picture: a tile's digit is then 5.5 pixels high
_AROUND = 0.028  # m around a tile's middle that is to be seen of it


@cache
def to_be_seen() -> np.ndarray:
    """(n,3): points that the front picture always holds: the board but for its margin, the tray, and the middles of
    tiles wherever a perturbed layout may put them, with most of what is around them."""
    board = [(sx * 0.95 * BOARD_HALF[0], sy * 0.9 * BOARD_HALF[1], 0.0) for sx in (-1, 1) for sy in (-1, 1)]
    x, y = TILE[0] / 2 + SLACK + 2 * RIM, TILE[1] / 2 + SLACK + 2 * RIM
    tray = [(px + sx * x, py + sy * y, 0.0) for px, py in PLACES for sx in (-1, 1) for sy in (-1, 1)]
    grid, tiles = [np.arange(low, high + 0.001, 0.01) for low, high in FIELD], []
    for v in grid[1]:
        row = [u for u in grid[0] if within(u, v)]
        ends = ((min(row), -_AROUND), (max(row), _AROUND))  # what lies between them is seen if they are
        tiles += [(u + side, v + s * _AROUND, TILE[2]) for u, side in ends for s in (-1, 1)]
    return np.concatenate([np.array(board) @ BOARD_AXES.T + BOARD_POS, tray, tiles])


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


def _fit(axes: np.ndarray, aim: tuple[float, float]) -> tuple[float, np.ndarray]:
    """The least distance (1 is the usual one) from which a camera with these axes holds all of `to_be_seen` when it
    is aimed at its middle and then turned off it by `aim` (rad, right and up), and its axes then."""
    eye, middle = np.array(FRONT_EYE), np.array(FRONT_LOOK)
    away = np.linalg.norm(eye - middle) * axes[:, 2]
    focal = 1 / math.tan(math.radians(FRONT_FOVY) / 2)
    distance, out = 1.0, axes
    for last in (False, False, True):
        seen = (to_be_seen() - middle - distance * away) @ out
        angles = np.arctan(seen[:, :2] / -seen[:, 2:])
        right, up = (angles.min(0) + angles.max(0)) / 2 + (aim if last else (0.0, 0.0))
        out = out @ _about(1, -right) @ _about(0, up)
        # In the picture: focal * |side| <= depth, where both are linear in the distance.
        seen, step = (to_be_seen() - middle) @ out, away @ out
        need = [
            (seen[:, 2] + s * focal * seen[:, k]) / (step[2] + s * focal * step[k]) for k in (0, 1) for s in (-1, 1)
        ]
        distance = float(np.max(need))
    return distance, out


def viewpoint(keys: Keys, level: int) -> tuple[np.ndarray, np.ndarray]:
    """Position (3,) m and quaternion (4,) of the front camera: on a cone around the usual direction, rolled, a little
    beside its aim, and at least so far away that all of `to_be_seen` is in the picture; drawn again where what lies
    on the table were smaller than `SMALLEST`."""
    draw, away = Draw(keys), np.array(FRONT_EYE) - FRONT_LOOK
    while True:
        cone, roll = (math.radians(amount(draw, "camera", q, level)) for q in ("cone", "roll"))
        axes = _orbit(cone, draw.uniform(-math.pi, math.pi), roll if draw.chance(0.5) else -roll)
        aim, way = math.radians(amount(draw, "camera", "aim", level)), draw.uniform(-math.pi, math.pi)
        wanted = amount(draw, "camera", "distance", level)
        least, turned = _fit(axes, (aim * math.cos(way), aim * math.sin(way)))
        distance = max(least, wanted)
        flat = axes[2, 2] * np.linalg.norm(away) / away[2]  # how high a picture shows the table, of its usual
        if min(1.0, flat) / distance >= SMALLEST:
            break
    quat = np.empty(4)
    mujoco.mju_mat2Quat(quat, np.ascontiguousarray(turned).ravel())
    return np.array(FRONT_LOOK) + distance * np.linalg.norm(away) * axes[:, 2], quat


# ---- light ---------------------------------------------------------------------------------------------


class Lighting(NamedTuple):
    """The direction of the lamp's light (unit), the colour of all light (1, 1, 1 as usual), how much of what comes from
    everywhere comes from the lamp instead, and its highlights."""

    direction: tuple[float, float, float]
    colour: tuple[float, float, float]
    share: float
    gloss: float


def lighting(keys: Keys, level: int) -> Lighting:
    """A lamp turned any way, though never from below, dimmer or brighter, and tinted."""
    draw, lamp = Draw(keys), np.array(LAMP) / np.linalg.norm(LAMP)
    while True:
        turn, axis = math.radians(amount(draw, "light", "turn", level)), np.cross(lamp, _direction(draw))
        turned = to_matrix(turn * axis / np.linalg.norm(axis), "axis_angle") @ lamp
        if turned[2] < -0.3:
            break
    power = amount(draw, "light", "dark" if draw.chance(0.6) else "bright", level)
    tint = np.array([draw.uniform(-1.0, 1.0) for _ in range(3)])
    tint = (tint - tint.mean()) / np.abs(tint - tint.mean()).max()
    colour = power * np.exp(amount(draw, "light", "tint", level) * tint)
    share, gloss = (amount(draw, "light", q, level) for q in ("share", "gloss"))
    return Lighting(tuple(turned.tolist()), tuple(colour.tolist()), share, gloss)


# ---- background ----------------------------------------------------------------------------------------

TABLE = (0.55, 0.45, 0.36)  # as it usually is
PALE, DARK = 0.60, 0.12  # tiles are paler, the arm is darker than any table
PATTERNS = ("plain", "stripes", "checks", "wood", "marble", "speckle")
_EDGE = ((0.190, 0.235), (0.182, 0.225))  # m: where the table may end, to the right and at the back of all tiles


def _colour(draw: Draw, near: tuple[float, ...], low: float, high: float) -> np.ndarray:
    """An RGB colour at least `low` and at most `high` from another one, neither pale nor dark."""
    while True:
        rgb = np.array([draw.uniform(0.05, 0.80) for _ in range(3)])
        if low <= np.linalg.norm(rgb - near) <= high and DARK <= rgb @ (0.3, 0.59, 0.11) <= PALE:
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


def ground(keys: Keys, level: int) -> np.ndarray:
    """The table's picture, uint8 (SIDE,SIDE,3), its top away from the front camera: another colour, with a pattern,
    and from some level on with a floor of yet another one beyond its edge to the right or at the back."""
    draw = Draw(keys)
    colour = _colour(draw, TABLE, *span("background", "colour", level))
    contrast = amount(draw, "background", "contrast", level)
    kind = draw.pick(PATTERNS)
    tint = np.array([draw.uniform(0.5, 1.0) for _ in range(3)])
    out = colour + contrast * _pattern(draw, keys, kind)[..., None] * tint
    if MAGNITUDES["background"]["floor"][level]:
        floor = _colour(draw, tuple(colour), 0.2, 0.6)
        x = (np.arange(SIDE) + 0.5) * (SPAN / SIDE) - SPAN / 2
        side = draw.index(3)  # to the right, at the back, both
        right, back = draw.uniform(*_EDGE[0]), draw.uniform(*_EDGE[1])
        out[:, x > (right if side != 1 else SPAN)] = floor
        out[-x > (back if side != 0 else SPAN)] = floor
    return (255 * out.clip(0.0, 1.0) + 0.5).astype(np.uint8)


# ---- start ---------------------------------------------------------------------------------------------

LOWEST = 0.09  # m above the table: the fingers and the bar that holds them clear every tile
OWN_SIDE = 0.33  # m before an arm's base: two tools that start nearer than this do not meet (the middle is at .41)


@cache
def _corner_rays() -> np.ndarray:
    """(4,3): directions through the corners of the wrist picture, in the gripper's frame."""
    camera = _compiled(128, 1).camera(CAMERAS["wrist"])
    depth = 1 / math.tan(math.radians(float(camera.fovy[0])) / 2)
    rays = np.array([(x, y, -depth) for x in (-1, 1) for y in (-1, 1)]) @ to_matrix(camera.quat, "quat_wxyz").T
    return rays / np.linalg.norm(rays, axis=1, keepdims=True)


def start_joints(joints: np.ndarray, key: Key, level: int, lowest: float = LOWEST) -> np.ndarray:
    """(6,) joints of an arm, or (12,) of two, near those of a clean start, each as far off as the level says: within
    limits, the tool within the workspace, on the arm's own side where there are two, and `lowest` (m) above the table
    or higher, and nothing but the table before the wrist camera."""
    keys = keys_of(key, "start", level)
    if len(joints) == 6:
        return _start(joints, keys, level, lowest, WORKSPACE[0][1])
    sides = zip(joints.reshape(-1, 6), (keys, keys.fold("right")))
    return np.concatenate([_start(side, own, level, lowest, OWN_SIDE) for side, own in sides])


def _start(joints: np.ndarray, keys: Keys, level: int, lowest: float, far: float) -> np.ndarray:
    draw = Draw(keys)
    while True:
        out = joints + amount(draw, "start", "joints", level) * _direction(draw, 6)
        at, rotation = forward(out)
        inside = all(low <= x <= high for x, (low, high) in zip(at, WORKSPACE)) and at[0] <= far
        down = (_corner_rays() @ rotation.T)[:, 2].max() < -0.12  # the table ends 3 m away
        if inside and down and at[2] >= lowest and (out >= LOW).all() and (out <= HIGH).all():
            return out
