"""Pictures of toys on the desk, and where every toy is in them. No tray, no tiles; an arm where one is asked for.

Toys are not in the model, which holds their meshes alone: any number of copies is added to what is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import mujoco
import numpy as np

from mindhand.core.errors import BadData
from mindhand.worlds.grips import grip
from mindhand.worlds.scene import Board
from mindhand.worlds.things import Toy, ToyScene

from . import textures
from .arms import slides
from .body import ARM_POS
from .build import add_arms, bare_spec
from .canvas import Canvas, Loose
from .costumes import Wardrobe, add_costumes
from .kinematics import inverse, tool_down
from .placing_judge import opening
from .render import Look, board_corners, stand
from .render import look as usual
from .stage import Ids
from .toys import outline


@dataclass(frozen=True, eq=False)
class Shown:
    """image uint8 (size, size, 3); of every toy its box (n,4), left, top, right, bottom, and the middle of its body
    (n,2), u right, v down, in pixels from the picture's top left corner. A box covers what other toys hide, and ends
    where the picture does."""

    image: np.ndarray
    boxes: np.ndarray
    middles: np.ndarray


def _model(size: int, arms: int) -> mujoco.MjModel:
    spec = bare_spec(size)
    add_arms(spec, arms)
    add_costumes(spec)
    return spec.compile()


class _Studio:
    """A desk for toys, with an arm or without, and what it is drawn with."""

    def __init__(self, size: int, arms: int):
        self.size, self.model = size, _model(size, arms)
        self.ids = Ids.of(self.model, ())
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
        stand(self.model, self.ids.cameras["front"], look)
        self._settle()

    def _settle(self) -> None:
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_camlight(self.model, self.data)

    def reach(self, tool: Sequence[float], gripper: float) -> None:
        """Put the tool at x, y, z (m), yaw (rad), the gripper at 0..1. BadData for where it does not reach."""
        found = inverse(np.array(tool[:3]) - ARM_POS, tool_down(tool[3]), np.zeros(6))
        if not found.exact:
            raise BadData(f"a tool at {tuple(tool)} is out of reach", "within 0.54 m of the arm's base", "move it")
        self.data.qpos[self.ids.arm], self.data.qpos[self.ids.fingers] = found.joints, slides(gripper)
        self._settle()

    def write(self, picture: np.ndarray) -> None:
        """Put this on the board."""
        if self.used.get(self.board) is not picture:
            begin = self.model.tex_adr[self.board]
            self.model.tex_data[begin : begin + picture.size] = picture.ravel()
            self.used = {self.board: picture}


@lru_cache(maxsize=4)
def _studio(size: int, arms: int = 0) -> _Studio:
    return _Studio(size, arms)


def render_toys(
    scene: ToyScene,
    board: Board | np.ndarray,
    *,
    look: Look | None = None,
    size: int = 128,
    tool: Sequence[float] | None = None,
    held: Toy | None = None,
) -> Shown:
    """A picture of toys as they lie, `size` pixels a side.

    board: what is written behind them, or its picture (`textures.board`, `notices`). look: how the camera and the
    lamp stand; None means as in an episode. What a container holds lies in its middle. tool: an arm is there, and its
    tool at x, y, z (m), yaw (rad); held: one more toy, gripped as it should be. Boxes and middles know nothing of both.
    """
    studio, here = _studio(size, int(tool is not None)), look or usual(None)
    studio.stand(here)
    studio.write(textures.board(board)[0] if isinstance(board, Board) else board)
    loose: list[Loose] = []
    if tool is not None:
        studio.reach(tool, opening(grip(held.thing).width) if held else 1.0)
        loose += studio.wardrobe.loose(held, *_in_hand(held, tool)) if held else []
    points, starts, middles, begin = [], [], [], 0
    for k, toy in enumerate(scene.toys):
        x, y, z = scene.place(k)
        at, turn = np.array([x, y, z]), _turned(toy.yaw)
        loose += studio.wardrobe.loose(toy, at, turn)
        edge = outline(toy.thing)
        points.append(edge @ turn.T + at)
        starts.append(begin)
        begin += len(edge)
        middles.append((x, y, z + toy.kind.height / 2))
    front = studio.ids.cameras["front"], (size, size)
    (image,) = studio.brush.paint(studio.model, studio.data, [front], studio.used, loose)
    if not middles:
        return Shown(image, np.empty((0, 4)), np.empty((0, 2)))
    pixels = here.project(np.concatenate([*points, middles]), size)
    low, high = (f.reduceat(pixels[:begin], starts) for f in (np.minimum, np.maximum))
    return Shown(image, np.concatenate([low, high], 1).clip(0, size), pixels[begin:])


def _turned(yaw: float) -> np.ndarray:
    c, s = np.cos(yaw), np.sin(yaw)
    return np.array([(c, -s, 0.0), (s, c, 0.0), (0.0, 0.0, 1.0)])


def _in_hand(toy: Toy, tool: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Where a toy's frame is, and how it is turned, when a tool grips it: as near to its own yaw as can be."""
    by = grip(toy.thing)
    turn = _turned(by.toy_yaw(tool[3], toy.yaw))
    return np.array(tool[:3]) - turn @ np.array([by.x, by.y, by.up]), turn


def board_pixels(boxes: Sequence[Sequence[float]], *, look: Look | None = None, size: int = 128) -> np.ndarray:
    """The middles (n,2), in pixels, of boxes on the board (left, top, right, bottom, as fractions of it)."""
    return (look or usual(None)).project(board_corners(np.array(boxes).reshape(-1, 4)).mean(1), size)
