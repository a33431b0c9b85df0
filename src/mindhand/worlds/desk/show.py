"""Pictures of toys on the desk, and where every toy is in them. No arm, no tray, no tiles.

Toys are not in the model, which holds their meshes alone: any number of copies is added to what is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

import mujoco
import numpy as np

from mindhand.worlds.scene import Board
from mindhand.worlds.things import COLOURS, MATERIALS, THINGS, Toy, ToyScene

from . import textures
from .build import bare_spec
from .canvas import Canvas, Loose
from .render import Look, board_corners, stand
from .render import look as usual
from .toys import BODY, SHADE, meshes, outline

_PATTERNS = tuple(f"{c} {m}" for c in COLOURS for m in MATERIALS[1:])
_DARKER = 0.6  # of the toy's colour, where it is painted SHADE
_PATTERN = 64  # pixels a side of a pattern: one period
_WHITE, _BLACK, _PALE = (246, 246, 242), (62, 56, 60), 450  # the second colour of a pattern; black from this sum on


@dataclass(frozen=True, eq=False)
class Shown:
    """image uint8 (size, size, 3); of every toy its box (n,4), left, top, right, bottom, and the middle of its body
    (n,2), u right, v down, in pixels from the picture's top left corner. A box covers what other toys hide, and ends
    where the picture does."""

    image: np.ndarray
    boxes: np.ndarray
    middles: np.ndarray


def pattern(colour: str, material: str) -> np.ndarray:
    """One period of a material other than plain, uint8 (h,w,3): the colour, and white or black where that shows."""
    first = COLOURS[colour]
    x, y = np.meshgrid(*[(np.arange(_PATTERN) + 0.5) / _PATTERN] * 2)
    marked = x < 0.4 if material == MATERIALS[1] else np.hypot(x - 0.5, y - 0.5) < 0.3
    return np.where(marked[..., None], _BLACK if sum(first) > _PALE else _WHITE, first).astype(np.uint8)


def _paint(spec: mujoco.MjSpec, name: str, picture: np.ndarray) -> None:
    spec.add_texture(
        name=name, type=mujoco.mjtTexture.mjTEXTURE_2D, width=_PATTERN, height=_PATTERN, nchannel=3,
        data=picture.ravel().tolist(),
    )  # fmt: skip
    spec.add_material(name=name).textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = name


def _model(size: int) -> mujoco.MjModel:
    spec = bare_spec(size)
    for name in _PATTERNS:
        _paint(spec, name, pattern(*name.split()))
    for thing in THINGS:
        for k, mesh in enumerate(meshes(thing.name)):
            # Every corner is a vertex of its own: the compiler keeps only one normal a vertex.
            count = np.arange(mesh.corners.size // 3)
            spec.add_mesh(
                name=f"{thing.name} {k}", inertia=mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL,
                uservert=mesh.corners.ravel(), userface=count, usernormal=mesh.normals.ravel(), userfacenormal=count,
                usertexcoord=mesh.texture.ravel(), userfacetexcoord=count,
            )  # fmt: skip
    return spec.compile()


@dataclass(frozen=True, eq=False)
class _Kit:
    """A toy's meshes: indices, positions (k,3) and rotations (k,3,3) of their frames, which compiling chose, and how
    they are painted."""

    ids: tuple[int, ...]
    positions: np.ndarray
    rotations: np.ndarray
    paints: tuple[str | tuple[int, int, int], ...]


@cache
def _rgba(colour: tuple[int, int, int], part: float = 1.0) -> np.ndarray:
    return np.array([*(part * c / 255 for c in colour), 1], np.float32)


class _Studio:
    """A desk for toys, and what it is drawn with."""

    def __init__(self, size: int):
        self.size, self.model = size, _model(size)
        self.data = mujoco.MjData(self.model)
        self.canvas = Canvas(size)
        self.brush = self.canvas.brush(self.model)
        self.kits = {t.name: self._kit(t.name) for t in THINGS}
        self.materials = {n: self.model.material(n).id for n in _PATTERNS}
        self.board = self.model.texture("board").id
        self.used: dict[int, np.ndarray] = {}
        self.look: Look | None = None

    def _kit(self, name: str) -> _Kit:
        made = meshes(name)
        ids = [self.model.mesh(f"{name} {k}").id for k in range(len(made))]
        rotations = np.empty((len(ids), 9))
        for out, i in zip(rotations, ids):
            mujoco.mju_quat2Mat(out, self.model.mesh_quat[i])
        return _Kit(tuple(ids), self.model.mesh_pos[ids], rotations.reshape(-1, 3, 3), tuple(m.paint for m in made))

    def stand(self, look: Look) -> None:
        """Put camera and lamp where they are told."""
        if self.look is look:
            return
        self.look = look
        stand(self.model, 0, look)
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_camlight(self.model, self.data)

    def write(self, picture: np.ndarray) -> None:
        """Put this on the board."""
        if self.used.get(self.board) is not picture:
            begin = self.model.tex_adr[self.board]
            self.model.tex_data[begin : begin + picture.size] = picture.ravel()
            self.used = {self.board: picture}

    def loose(self, toy: Toy, at: np.ndarray, turn: np.ndarray) -> list[Loose]:
        """The meshes of a toy at (3,) m, turned by (3,3)."""
        kit = self.kits[toy.thing]
        positions, rotations = kit.positions @ turn.T + at, (turn @ kit.rotations).reshape(-1, 9)
        own, out = COLOURS[toy.colour], []
        for mesh, position, rotation, paint in zip(kit.ids, positions, rotations, kit.paints):
            material = -1
            if paint == BODY:
                colour = _rgba(own)
                if toy.material != MATERIALS[0]:
                    colour, material = _rgba((255, 255, 255)), self.materials[f"{toy.colour} {toy.material}"]
            else:
                colour = _rgba(own, _DARKER) if paint == SHADE else _rgba(paint)
            out.append(Loose(mesh, position, rotation, colour, material))
        return out


@lru_cache(maxsize=4)
def _studio(size: int) -> _Studio:
    return _Studio(size)


def render_toys(scene: ToyScene, board: Board | np.ndarray, *, look: Look | None = None, size: int = 128) -> Shown:
    """A picture of toys as they lie, `size` pixels a side.

    board: what is written behind them, or its picture (`textures.board`, `notices`). look: how the camera and the
    lamp stand; None means as in an episode. What a container holds lies in its middle.
    """
    studio, here = _studio(size), look or usual(None)
    studio.stand(here)
    studio.write(textures.board(board)[0] if isinstance(board, Board) else board)
    loose: list[Loose] = []
    points, starts, middles, begin = [], [], [], 0
    for k, toy in enumerate(scene.toys):
        x, y, z = scene.place(k)
        c, s = np.cos(toy.yaw), np.sin(toy.yaw)
        at, turn = np.array([x, y, z]), np.array([(c, -s, 0.0), (s, c, 0.0), (0.0, 0.0, 1.0)])
        loose += studio.loose(toy, at, turn)
        edge = outline(toy.thing)
        points.append(edge @ turn.T + at)
        starts.append(begin)
        begin += len(edge)
        middles.append((x, y, z + toy.kind.height / 2))
    image = studio.brush.paint(studio.model, studio.data, 0, (size, size), studio.used, loose)
    if not middles:
        return Shown(image, np.empty((0, 4)), np.empty((0, 2)))
    pixels = here.project(np.concatenate([*points, middles]), size)
    low, high = (f.reduceat(pixels[:begin], starts) for f in (np.minimum, np.maximum))
    return Shown(image, np.concatenate([low, high], 1).clip(0, size), pixels[begin:])


def board_pixels(boxes: Sequence[Sequence[float]], *, look: Look | None = None, size: int = 128) -> np.ndarray:
    """The middles (n,2), in pixels, of boxes on the board (left, top, right, bottom, as fractions of it)."""
    return (look or usual(None)).project(board_corners(np.array(boxes).reshape(-1, 4)).mean(1), size)
