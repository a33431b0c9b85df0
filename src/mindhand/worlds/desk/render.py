"""Pictures of scenes without an episode, and where every glyph is in them: the raw material of image-text data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from mindhand.core.errors import BadData
from mindhand.core.keys import Keys
from mindhand.worlds.draw import Draw
from mindhand.worlds.scene import PLACES, MathsScene, Tile

from . import textures
from .arm import look_at
from .build import BOARD_HALF, BOARD_THICK, FRONT_EYE, FRONT_FOVY, FRONT_LOOK, LABEL_HALF, LABEL_TOP, LAMP, LIGHT, PLATE
from .canvas import Canvas
from .kinematics import inverse, tool_down
from .spec import HOME
from .stage import Stage

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


@lru_cache(maxsize=8)
def _view(jitter: Keys | None) -> tuple[np.ndarray, np.ndarray, float, np.ndarray, float]:
    """The front camera's position, quaternion and angle, the lamp's direction and the brightness: as the world has
    them, or near that."""
    eye, look, fovy = np.array(FRONT_EYE), np.array(FRONT_LOOK), FRONT_FOVY
    lamp, bright = np.array(LAMP), 1.0
    if jitter is not None:
        draw = Draw(jitter.fold("jitter"))
        eye = eye + [draw.uniform(-0.012, 0.012) for _ in range(3)]
        look = look + [draw.uniform(-0.006, 0.006) for _ in range(3)]
        fovy *= draw.uniform(0.98, 1.04)
        lamp[:2] += [draw.uniform(-0.25, 0.25) for _ in range(2)]
        bright = draw.uniform(0.8, 1.15)
    return eye, look_at(eye, look, _UP), fovy, lamp / np.linalg.norm(lamp), bright


def _shake(stage: Stage, jitter: Keys | None) -> None:
    m, c = stage.model, stage.ids.cameras["front"]
    m.cam_pos[c], m.cam_quat[c], m.cam_fovy[c], m.light_dir[0], bright = _view(jitter)
    m.light_diffuse[0] = LIGHT * bright
    m.vis.headlight.ambient[:] = LIGHT * bright


def _corners(box: tuple[float, float, float, float], half: tuple[float, float], height: float) -> np.ndarray:
    """A box in fractions of a face (right, down) to its 4 corners in the face's frame (x right, y up, z out)."""
    left, top, right, bottom = box
    x = [(f - 0.5) * 2 * half[0] for f in (left, right, right, left)]
    y = [(0.5 - f) * 2 * half[1] for f in (top, top, bottom, bottom)]
    return np.array([(a, b, height) for a, b in zip(x, y)])


def glyph_marks(stage: Stage, camera: str, size: int) -> tuple[Mark, ...]:
    """The marks of a dressed and placed stage."""
    scene, d = stage.scene, stage.data
    if scene is None:
        raise BadData("a stage without a scene", "dress(scene) first", "dress it")
    found, faces = [], []
    _, boxes = textures.board(scene.board)
    g = stage.ids.board_geom
    turn, at = d.geom_xmat[g].reshape(3, 3), d.geom_xpos[g]
    for k, (glyph, box) in enumerate(zip(scene.board.glyphs, boxes)):
        found.append((glyph.char, "board", k))
        faces.append(_corners(box, BOARD_HALF, BOARD_THICK) @ turn.T + at)
    for k, tile in enumerate(scene.tiles):
        b = stage.ids.tiles[k]
        box = textures.label_box(tile.digit, scene.tile_font)
        found.append((str(tile.digit), "tile", k))
        faces.append(_corners(box, LABEL_HALF, LABEL_TOP) @ d.xmat[b].reshape(3, 3).T + d.xpos[b])
    pixels = stage.project(np.concatenate(faces), camera, (size, size)).reshape(-1, 4, 2)
    low, high = pixels.min(1), pixels.max(1)
    middle, extent = ((low + high) / 2).tolist(), (high - low).tolist()
    return tuple(Mark(*name, *m, *e) for name, m, e in zip(found, middle, extent))


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
    if held is not None:
        scene, gripper = replace(scene, tiles=(*scene.tiles, held)), GRASP
        poses.append((x, y, yaw, z))
    if stage.scene is not scene:
        stage.dress(scene)
    _shake(stage, jitter)
    stage.set(found.joints, gripper, poses)
    marks = glyph_marks(stage, camera, size)
    places = stage.project(np.array([(*p, PLATE) for p in PLACES]), camera, (size, size)).tolist()
    return Picture(
        stage.paint(canvas, camera, (size, size)),
        marks if held is None else marks[:-1],
        tuple((u, v) for u, v in places),
    )
