"""The desk as a MuJoCo model: table, board, tray, number tiles, one arm or two, a camera on each and one in front.

Frame: metres; table top z = 0, x to the right, y away from the front camera. The board stands between the camera
and the tray, where no posture of the arm hides it. Numbers were chosen by measurement; those that break things
when changed say so.
"""

from __future__ import annotations

import copy
from functools import cache

import mujoco
import numpy as np

from mindhand.worlds.scene import FACES, PLACES, TILE, TILES

from .arm import look_at
from .body import ARM, VIPERX, Body
from .spec import SECONDS

SUBSTEPS = 8  # a control step; 5 would let a pad sink 7 mm into a tile
MAX_TILES = TILES[1]
LABEL = (64, 76)  # pixels: width, height of a tile's label
BOARD = (256, 74)
BOARD_HALF = (0.172, 0.05)
BOARD_THICK = 0.002
BOARD_POS, BOARD_TILT = (0.0, -0.243, 0.026), np.radians(25.0)  # leaning back 65 degrees
BOARD_AXES = np.array(
    [[1, 0, 0], [0, np.cos(BOARD_TILT), -np.sin(BOARD_TILT)], [0, np.sin(BOARD_TILT), np.cos(BOARD_TILT)]]
)  # columns: right, up, out of its face
PLATE = 0.002  # thickness of the tray's plates
SLACK, RIM, RIM_TOP = 0.005, 0.003, 0.004  # clearance a side, half width and height of the rims
REST = TILE[2] / 2  # height of a tile's centre on the table
LABEL_HALF, LABEL_TOP = (TILE[0] / 2 - 0.0015, TILE[1] / 2 - 0.0015), REST + 0.0003
FRONT_EYE, FRONT_LOOK, FRONT_FOVY = (0.0, -0.75, 0.86), (0.0, -0.088, 0.012), 21.0
LAMP, LIGHT = (-0.25, 0.35, -1.0), 0.42  # direction; brightness of the lamp and of the ambient light
HEADLIGHT = 0.35  # brightness of the light that each camera brings along
STATIC, TILE_BITS, ARM_BITS = (1, 14), (2, 15), (4, 3)  # contype, conaffinity: the arm does not meet itself,
PAIR_BITS = (4, 11), (8, 7)  # and of two neither meets itself, but each the other
CAMERAS = {"front": "front", "wrist": f"{ARM}/wrist", "wrist_right": "arm_right/wrist"}
PLACE_COLOURS = ((0.20, 0.42, 0.80, 1), (0.94, 0.55, 0.16, 1))  # first digit blue, second orange
PARK = (0.9, 0.9)  # where unused tiles lie, out of every picture


def _material(spec: mujoco.MjSpec, name: str, size: tuple[int, int]) -> None:
    spec.add_texture(
        name=name, type=mujoco.mjtTexture.mjTEXTURE_2D, builtin=mujoco.mjtBuiltin.mjBUILTIN_FLAT,
        rgb1=[1, 1, 1], rgb2=[1, 1, 1], width=size[0], height=size[1], nchannel=3,
    )  # fmt: skip
    material = spec.add_material(name=name, specular=0.0, shininess=0.0)
    material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = name


def _static(spec: mujoco.MjSpec, pos, half, rgba, *, collide: bool = True, **more) -> None:
    bits = STATIC if collide else (0, 0)
    spec.worldbody.add_geom(
        type=mujoco.mjtGeom.mjGEOM_BOX, pos=list(pos), size=list(half), rgba=list(rgba), contype=bits[0],
        conaffinity=bits[1], friction=[0.7, 0.005, 0.0001], **more,
    )  # fmt: skip


def _tray(spec: mujoco.MjSpec) -> None:
    hx, hy = TILE[0] / 2 + SLACK, TILE[1] / 2 + SLACK
    for (x, y), colour in zip(PLACES, PLACE_COLOURS):
        # The plate ends inside the rims: coplanar faces flicker.
        _static(spec, (x, y, PLATE / 2), (hx + RIM, hy + RIM, PLATE / 2), colour)
        dark = (*(0.6 * c for c in colour[:3]), 1)
        for side in (-1, 1):
            _static(spec, (x + side * (hx + RIM), y, RIM_TOP / 2), (RIM, hy + 2 * RIM, RIM_TOP / 2), dark)
            _static(spec, (x, y + side * (hy + RIM), RIM_TOP / 2), (hx - 0.0005, RIM, RIM_TOP / 2), dark)


def _tile(spec: mujoco.MjSpec, k: int) -> None:
    body = spec.worldbody.add_body(name=f"tile{k}", pos=[PARK[0] + 0.1 * k, PARK[1], REST])
    body.add_freejoint(name=f"tile{k}")
    body.add_geom(
        name=f"tile{k}", type=mujoco.mjtGeom.mjGEOM_BOX, size=[s / 2 for s in TILE], mass=0.03,
        rgba=[*(c / 255 for c in FACES["white"]), 1], contype=TILE_BITS[0], conaffinity=TILE_BITS[1],
        friction=[0.7, 0.005, 0.0001],
    )  # fmt: skip
    _material(spec, f"label{k}", LABEL)
    # A texture is projected along a box's local z, so a label is a thin box of its own that touches nothing.
    body.add_geom(
        name=f"label{k}", type=mujoco.mjtGeom.mjGEOM_BOX, pos=[0, 0, LABEL_TOP - 0.00015], mass=0,
        material=f"label{k}", size=[*LABEL_HALF, 0.00015], contype=0, conaffinity=0,
    )  # fmt: skip


def _table(size: int) -> mujoco.MjSpec:
    """The table and its lamp."""
    spec = mujoco.MjSpec()
    spec.compiler.degree = False
    spec.memory = 4 << 20
    spec.option.timestep = SECONDS / SUBSTEPS
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.option.cone = mujoco.mjtCone.mjCONE_PYRAMIDAL
    spec.option.impratio = 1.0  # elliptic cones with impratio 10 explode in this scene
    spec.option.iterations, spec.option.ls_iterations = 20, 10
    glob = spec.visual.global_
    glob.offwidth = glob.offheight = size
    spec.visual.quality.offsamples = 0
    spec.visual.quality.shadowsize = 0
    spec.visual.quality.numslices, spec.visual.quality.numstacks = 12, 6
    spec.visual.headlight.ambient = [LIGHT] * 3
    spec.visual.headlight.diffuse = [HEADLIGHT] * 3
    spec.visual.headlight.specular = [0.0] * 3
    spec.visual.map.znear, spec.visual.map.zfar = 0.005, 10.0

    world = spec.worldbody
    world.add_light(
        name="lamp", type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL, pos=[0.3, -0.5, 1.5], dir=LAMP,
        diffuse=[LIGHT] * 3, ambient=[0.0] * 3, specular=[0.0] * 3, castshadow=False,
    )  # fmt: skip
    # The third size is the spacing of the grid that is drawn: at 0.1 the plane was 3,600 squares, for the same pixels.
    world.add_geom(
        name="table", type=mujoco.mjtGeom.mjGEOM_PLANE, size=[3.0, 3.0, 3.0], rgba=[0.55, 0.45, 0.36, 1],
        contype=STATIC[0], conaffinity=STATIC[1], friction=[0.7, 0.005, 0.0001],
    )  # fmt: skip
    return spec


def _board(spec: mujoco.MjSpec) -> None:
    _material(spec, "board", BOARD)
    lean = [np.cos(BOARD_TILT / 2), np.sin(BOARD_TILT / 2), 0, 0]
    _static(spec, BOARD_POS, (*BOARD_HALF, BOARD_THICK), (1, 1, 1, 1), material="board", quat=lean, name="board")


def _front(spec: mujoco.MjSpec) -> None:
    front = look_at(np.array(FRONT_EYE), np.array(FRONT_LOOK), np.array([0.0, 0.0, 1.0]))
    spec.worldbody.add_camera(name="front", pos=FRONT_EYE, quat=front, fovy=FRONT_FOVY)


def add_arms(spec: mujoco.MjSpec, count: int, body: Body = VIPERX) -> None:
    """Mount the first `count` of the body's mounts."""
    for mount, bits in zip(body.mounts[:count], (ARM_BITS,) if count == 1 else PAIR_BITS):
        body.add(spec, mount.name, tuple(mount.base), 0.0 if mount.axes[0] > 0 else np.pi, bits)


def make_spec(size: int = 128, arms: int = 1, body: Body = VIPERX) -> mujoco.MjSpec:
    """The editable model; `size` is the largest picture side it can render, in pixels."""
    spec = _table(size)
    # Trees of bounding boxes cost more than the few boxes they spare: a twentieth of a step, for the same contacts.
    spec.option.disableflags |= mujoco.mjtDisableBit.mjDSBL_MIDPHASE
    _tray(spec)
    _board(spec)
    for k in range(MAX_TILES):
        _tile(spec, k)
    add_arms(spec, arms, body)
    _front(spec)
    return spec


def bare_spec(size: int = 128) -> mujoco.MjSpec:
    """The same desk with nothing on it but the board: table, lamp and front camera."""
    spec = _table(size)
    _board(spec)
    _front(spec)
    return spec


@cache
def _compiled(size: int, arms: int, body: Body) -> mujoco.MjModel:
    return make_spec(size, arms, body).compile()


def make_model(size: int = 128, arms: int = 1, body: Body = VIPERX) -> mujoco.MjModel:
    """A model of its own, ready to simulate (compiled once a process, copied in a millisecond)."""
    return copy.copy(_compiled(size, arms, body))
