"""Pictures of scenes without an episode, and where every glyph is in them: the raw material of image-text data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import mujoco
import numpy as np

from mindhand.core.errors import BadData
from mindhand.core.keys import Keys
from mindhand.core.rotation import to_matrix
from mindhand.worlds.draw import Draw
from mindhand.worlds.scene import PLACES, MathsScene, Tile

from . import textures
from .arm import look_at
from .build import (
    BOARD_AXES,
    BOARD_HALF,
    BOARD_POS,
    BOARD_THICK,
    FRONT_EYE,
    FRONT_FOVY,
    FRONT_LOOK,
    LABEL_HALF,
    LABEL_TOP,
    LAMP,
    LIGHT,
    PLATE,
)
from .canvas import Canvas
from .kinematics import inverse, tool_down
from .spec import HOME
from .stage import Stage, resting

_UP = np.array([0.0, 0.0, 1.0])
GRASP = 0.69  # the gripper's opening with a tile between the pads


@dataclass(frozen=True)
class Mark:
    """A glyph in a picture: the character as drawn, "board" or "tile", which glyph or tile it is, and the middle
    (u right, v down) and size of its ink in pixels, the picture's top left corner being 0, 0. Computed from
    geometry: an arm in front of it does not unmark it."""

    char: str
    where: str
    index: int
    u: float
    v: float
    width: float
    height: float


@dataclass(frozen=True)
class Picture:
    """image uint8 (size, size, 3), its marks, board first, then tiles, and the pixels of the tray's places."""

    image: np.ndarray
    marks: tuple[Mark, ...]
    places: tuple[tuple[float, float], ...]


@lru_cache(maxsize=4)
def _studio(size: int) -> tuple[Stage, Canvas]:
    return Stage(size), Canvas(size)


@dataclass(frozen=True, eq=False)
class Look:
    """How the front camera and the lamp stand: the camera's position (3,) m and its quaternion, its angle from the
    bottom to the top (degrees), the direction of the lamp's light (3,) and its brightness."""

    eye: np.ndarray
    quat: np.ndarray
    fovy: float
    lamp: np.ndarray
    bright: float

    @cached_property
    def axes(self) -> np.ndarray:
        """(3,3), columns: the camera's right, up and backwards."""
        return to_matrix(self.quat, "quat_wxyz")

    def focal(self, size: int) -> float:
        """Pixels, of a picture `size` pixels a side."""
        return size / 2 / math.tan(math.radians(self.fovy) / 2)

    def project(self, points: np.ndarray, size: int) -> np.ndarray:
        """(...,3) points of the table's frame to (...,2) pixels of a picture `size` pixels a side, u to the right and v
        down."""
        seen = (points - self.eye) @ self.axes
        return size / 2 + seen[..., :2] * (self.focal(size) / -seen[..., 2:]) * (1, -1)


@lru_cache(maxsize=64)
def look(jitter: Keys | None) -> Look:
    """As the world has them, or near that."""
    eye, target, fovy = np.array(FRONT_EYE), np.array(FRONT_LOOK), FRONT_FOVY
    lamp, bright = np.array(LAMP), 1.0
    if jitter is not None:
        draw = Draw(jitter.fold("jitter"))
        eye = eye + [draw.uniform(-0.012, 0.012) for _ in range(3)]
        target = target + [draw.uniform(-0.006, 0.006) for _ in range(3)]
        fovy *= draw.uniform(0.98, 1.04)
        lamp[:2] += [draw.uniform(-0.25, 0.25) for _ in range(2)]
        bright = draw.uniform(0.8, 1.15)
    return Look(eye, look_at(eye, target, _UP), fovy, lamp / np.linalg.norm(lamp), bright)


def stand(model: mujoco.MjModel, camera: int, here: Look) -> None:
    """Put camera and lamp of a model there."""
    model.cam_pos[camera], model.cam_quat[camera], model.cam_fovy[camera] = here.eye, here.quat, here.fovy
    model.light_dir[0], model.light_diffuse[0] = here.lamp, LIGHT * here.bright
    model.vis.headlight.ambient[:] = LIGHT * here.bright


def tile_poses(tiles: Sequence[Tile]) -> np.ndarray:
    """(n,4): x, y, z of the centre and yaw of tiles that lie where they say."""
    return np.array([(t.x, t.y, resting(t.x, t.y), t.yaw) for t in tiles]).reshape(-1, 4)


def glyph_corners(scene: MathsScene) -> np.ndarray:
    """(n,4,3): the corners of the ink of every character, in the table's frame: the board's, then the tiles'."""
    on_board = np.array(textures.board(scene.board)[1]).reshape(-1, 4)
    labels = np.array([textures.label_box(t.digit, scene.tile_font) for t in scene.tiles]).reshape(-1, 4)
    poses = tile_poses(scene.tiles)
    c, s, zero = np.cos(poses[:, 3]), np.sin(poses[:, 3]), np.zeros(len(poses))
    turn = np.stack([c, -s, zero, s, c, zero, zero, zero, zero + 1], 1).reshape(-1, 3, 3)
    tiles = _corners(labels, LABEL_HALF, LABEL_TOP) @ turn.swapaxes(1, 2) + poses[:, None, :3]
    return np.concatenate([board_corners(on_board), tiles])


def board_corners(boxes: np.ndarray) -> np.ndarray:
    """Boxes (n,4) on the board (left, top, right, bottom, as fractions of it) to their corners (n,4,3) in the table's
    frame."""
    return _corners(boxes, BOARD_HALF, BOARD_THICK) @ BOARD_AXES.T + BOARD_POS


def _corners(boxes: np.ndarray, half: tuple[float, float], height: float) -> np.ndarray:
    """Boxes (n,4) in fractions of a face (left, top, right, bottom) to their corners (n,4,3) in the face's frame (x
    right, y up, z out)."""
    x = (boxes[:, [0, 2, 2, 0]] - 0.5) * 2 * half[0]
    y = (0.5 - boxes[:, [1, 1, 3, 3]]) * 2 * half[1]
    return np.stack([x, y, np.full_like(x, height)], -1)


def _marks(stage: Stage, scene: MathsScene, camera: str, size: int) -> tuple[Mark, ...]:
    names = [(g.char, "board", k) for k, g in enumerate(scene.board.glyphs)]
    names += [(str(t.digit), "tile", k) for k, t in enumerate(scene.tiles)]
    pixels = stage.project(glyph_corners(scene).reshape(-1, 3), camera, (size, size)).reshape(-1, 4, 2)
    low, high = pixels.min(1), pixels.max(1)
    middle, extent = ((low + high) / 2).tolist(), (high - low).tolist()
    return tuple(Mark(*name, *m, *e) for name, m, e in zip(names, middle, extent))


def render_scene(
    scene: MathsScene,
    *,
    camera: str = "front",
    size: int = 128,
    tcp: tuple[float, float, float, float] | None = None,
    gripper: float = 1.0,
    jitter: Keys | None = None,
    held: Tile | None = None,
) -> Picture:
    """A picture of a scene as it lies (a tile whose centre is at a place of the tray lies in the tray).

    tcp: where the tool is, x, y, z, yaw in the table's frame; at home, outside the front picture, by default.
    held: one more tile, between the fingers, without a mark.
    jitter: one key row that moves the front camera by up to 12 mm and varies lamp and brightness; None gives
    exactly the view that episodes have. Refuses a tcp out of reach.
    """
    stage, canvas = _studio(size)
    x, y, z, yaw = (*HOME, 0.0) if tcp is None else tcp
    found = inverse(np.array([x, y, z]) - stage.base, tool_down(yaw), np.zeros(6))
    if not found.exact:
        raise BadData(f"tcp {(x, y, z, yaw)} is out of reach", "a pose within 0.54 m of the arm's base", "move it")
    poses: list[tuple[float, ...]] = [(t.x, t.y, t.yaw) for t in scene.tiles]
    dressed = scene
    if held is not None:
        dressed, gripper = replace(scene, tiles=(*scene.tiles, held)), GRASP
        poses.append((x, y, yaw, z))
    if stage.scene is not dressed:
        stage.dress(dressed)
    stand(stage.model, stage.ids.cameras["front"], look(jitter))
    stage.set(found.joints, gripper, poses)
    places = stage.project(np.array([(*p, PLATE) for p in PLACES]), camera, (size, size)).tolist()
    return Picture(
        stage.paint(canvas, camera, (size, size)),
        _marks(stage, scene, camera, size),
        tuple((u, v) for u, v in places),
    )
