"""Views of the empty desk, rendered once and kept: what pictures are composed on.

A view is a place of the front camera and a light. Its empty desk comes from the simulator when it is first asked for;
what differs from picture to picture, board, tiles and arm, is drawn on copies of it (`compose`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from mindhand.core.keys import Keys
from mindhand.worlds.desk import render
from mindhand.worlds.desk.build import BOARD, BOARD_AXES, BOARD_HALF, BOARD_POS, BOARD_THICK, HEADLIGHT, LIGHT
from mindhand.worlds.desk.spec import HOME
from mindhand.worlds.scene import PAPERS, Board, MathsScene, Tile, sample_maths

from .resample import shrunk, taps

SIZE = 128  # pixels a side
VIEWS = 32  # beside the world's own
Pose = tuple[float, ...]  # of the tool: x, y, z (m), yaw (rad)


@lru_cache(maxsize=4)
def _bare(paper: str) -> MathsScene:
    scene = sample_maths(Keys.seeded(1, "an empty desk"), "R")
    return replace(scene, tiles=(), board=Board("", (), "sans", paper, "black"))


@dataclass(frozen=True, eq=False)
class Arm:
    """An arm in a picture: its pixels (K,), counted row by row, and their colours (K,3); mask (size,size) of all that
    it covers. With a tile between its fingers, at `tool`: the pixels at which it is seen, in the mask too."""

    tool: Pose
    pixels: np.ndarray
    colours: np.ndarray
    mask: np.ndarray
    tile: np.ndarray | None = None


class View:
    """Number 0 is exactly what an episode begins with; the others are near it, all of them fixed."""

    def __init__(self, number: int):
        self.number = number
        self.jitter = Keys.seeded(1, "view", number) if number else None
        self._look = look = render.look(self.jitter)
        self.eye = look.eye
        at = (np.arange(SIZE) + 0.5 - SIZE / 2) / look.focal(SIZE)
        u, v = np.meshgrid(at, -at)
        # Through the middle of every pixel, (3, size*size) in the table's frame.
        self.rays = (look.axes @ np.stack([u.ravel(), v.ravel(), np.full(u.size, -1.0)])).astype(np.float32)
        self.empty = self._shot().reshape(-1, 3)
        self._board()

    def _board(self) -> None:
        # Where each ray meets the board's face, in pixels of its drawing.
        start, ways = (self.eye - BOARD_POS) @ BOARD_AXES, BOARD_AXES.T @ self.rays
        far = (BOARD_THICK - start[2]) / ways[2]
        x, y = start[0] + far * ways[0], start[1] + far * ways[1]
        half = BOARD_HALF
        self.board = np.flatnonzero((np.abs(x) < half[0]) & (np.abs(y) < half[1]) & (far > 0))
        x, y = x[self.board], y[self.board]
        self.board_light = min(1.0, float(self.light(BOARD_AXES[:, 2])))
        # How many pixels of the drawing one of the picture covers: the card blurs by the larger number.
        upper, _, right, left = self.project(render.board_corners(np.array([[0.0, 0.0, 1.0, 1.0]])))[0]
        self.board_blur = max(BOARD[0] / np.linalg.norm(right - left), BOARD[1] / np.linalg.norm(upper - left))
        # Its edges are of the paper's colour too: they are where another paper looks different.
        differ = (self.empty != self._shot(board="slate").reshape(-1, 3)).any(-1)
        differ[self.board] = False
        self.edge = np.flatnonzero(differ)
        self.edge_light = self.empty[self.edge, 0] / np.float32(PAPERS["white"][0][0])
        small = shrunk(np.zeros(BOARD[::-1], np.float32), self.board_blur).shape
        self.taps = taps((0.5 + x / half[0] / 2) * small[1], (0.5 - y / half[1] / 2) * small[0], small)

    def light(self, normals: np.ndarray) -> np.ndarray:
        """How bright faces with these normals (...,3) are; a colour is multiplied by it and cut off at white."""
        look, ambient = self._look, LIGHT * self._look.bright
        lamp, head = normals @ -look.lamp, normals @ look.axes[:, 2]
        return ambient * (1 + np.maximum(lamp, 0)) + HEADLIGHT * np.maximum(head, 0)

    def project(self, points: np.ndarray) -> np.ndarray:
        """(...,3) points of the table's frame to (...,2) pixels, u to the right and v down."""
        return self._look.project(points, SIZE)

    def arm(self, tool: Pose, held: Tile | None = None) -> Arm:
        """An arm at this pose, alone or with a tile. Rendered anew: of a store of arms, a mind learns each by heart,
        and knows by the arm what it should have read."""
        empty, seen = self.empty.reshape(SIZE, SIZE, 3), self._shot(tool, held)
        mask = (seen != empty).any(-1)
        arm, tile = mask, None
        if held is not None:  # the same arm with a tile of other colours: what differs is the tile
            other = replace(held, face="blue" if held.face == "white" else "white", ink="red")
            ours = (seen != self._shot(tool, other)).any(-1)
            arm, tile = mask & ~ours, np.flatnonzero(ours)
        pixels = np.flatnonzero(arm)
        return Arm(tool, pixels, seen.reshape(-1, 3)[pixels], mask, tile)

    def _shot(self, tool: Pose | None = None, held: Tile | None = None, board: str = "white") -> np.ndarray:
        x, y, z, yaw = tool or (*HOME, 0.0)
        return render.render_scene(_bare(board), size=SIZE, tcp=(x, y, z, yaw), jitter=self.jitter, held=held).image


@lru_cache(maxsize=VIEWS + 1)
def view(number: int) -> View:
    """The view of this number, made once a process."""
    return View(number)
