"""Pictures of toys on the desk, and where every toy is in them. No arm, no tray, no tiles.

Toys are not in the model, which holds their meshes alone: any number of copies is added to what is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import mujoco
import numpy as np

from mindhand.worlds.scene import Board
from mindhand.worlds.things import ToyScene

from . import textures
from .build import bare_spec
from .canvas import Canvas, Loose
from .costumes import Wardrobe, add_costumes
from .render import Look, board_corners, stand
from .render import look as usual
from .toys import outline


@dataclass(frozen=True, eq=False)
class Shown:
    """image uint8 (size, size, 3); of every toy its box (n,4), left, top, right, bottom, and the middle of its body
    (n,2), u right, v down, in pixels from the picture's top left corner. A box covers what other toys hide, and ends
    where the picture does."""

    image: np.ndarray
    boxes: np.ndarray
    middles: np.ndarray


def _model(size: int) -> mujoco.MjModel:
    spec = bare_spec(size)
    add_costumes(spec)
    return spec.compile()


class _Studio:
    """A desk for toys, and what it is drawn with."""

    def __init__(self, size: int):
        self.size, self.model = size, _model(size)
        self.data = mujoco.MjData(self.model)
        self.canvas = Canvas(size)
        self.brush = self.canvas.brush(self.model)
        self.wardrobe = Wardrobe(self.model)
        self.board = self.model.texture("board").id
        self.used: dict[int, np.ndarray] = {}
        self.look: Look | None = None

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
        loose += studio.wardrobe.loose(toy, at, turn)
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
