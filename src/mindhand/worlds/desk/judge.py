"""What has happened in an episode: which tile was chosen, what lies in the tray, whether the task is solved.

Success and choice are separate on purpose: `choice` judges the mind (which tile was meant), success the hand.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from mindhand.worlds.scene import PLACES, MathsScene, reasoning_text

from .build import PLATE, REST
from .spec import LIMITS, SHUT
from .stage import Stage, in_tray

NEAR, HEIGHT = 0.012, 0.004  # a tile is in its place within this, in x and y, and in height
UPRIGHT, SLOW = 0.97, 0.05  # cosine of the tilt; m/s
MOVED = 0.01  # a tile pushed or lifted by this was moved
AROUND, LOW = 0.025, 0.045  # the gripper is around a tile: horizontally, and TCP height
HELD = 0.035  # and a tile is in the hand if it is no further above or below
SHIFTED = 1e-4  # a tile at rest that is further from where it last lay now lies elsewhere


def half_turn(angle: float) -> float:
    """The angle modulo pi nearest to zero: a tile can be gripped either way round."""
    return angle - math.pi * round(angle / math.pi)


def _between(dx: float, dy: float, dz: float) -> bool:
    """Whether a tile so far from the TCP is between the fingers."""
    return abs(dx) < AROUND and abs(dy) < AROUND and abs(dz) < HELD


class Judge:
    """The running account of one row. `data()` and `load()` carry it through snapshots."""

    def __init__(self, scene: MathsScene):
        self.scene = scene
        self.start = [(t.x, t.y) for t in scene.tiles]
        self.rest = [(t.x, t.y, t.yaw) for t in scene.tiles]  # where each tile last lay, on the table or in the tray
        self.digits = scene.equation.digits
        self.taken: list[int] = []  # tiles that fill the answer's first places, in order
        self.success = False
        self.approached = self.closed = self.moved = self.choice = -1
        self.choice_right: bool | None = None
        self.wide = True  # the gripper has been open since it last closed
        self.limit = LIMITS[len(self.digits)]  # control steps of an episode

    @property
    def now(self) -> MathsScene:
        """The scene as it is: tiles where they last lay on the table."""
        return self.scene.moved(self.rest)

    @property
    def placed(self) -> int:
        """How many leading digits of the answer lie in their places."""
        return len(self.taken)

    def carrying(self, stage: Stage) -> bool:
        """Whether a tile that serves next is in the hand: between the fingers, and gripped, lifted, or at its place and
        not yet let go."""
        if self.placed == len(self.digits):
            return False
        hands = [(arm.gripper <= SHUT, *arm.tcp.tolist()) for arm in stage.arms]
        px, py = PLACES[self.placed]
        for k in self.scene.candidates(self.placed, self.taken):
            x, y, z = stage.positions[k].tolist()
            there = abs(x - px) < NEAR and abs(y - py) < NEAR
            for shut, tx, ty, tz in hands:
                if _between(x - tx, y - ty, z - tz) and (shut or z > REST + MOVED or there):
                    return True
        return False

    def reasoning(self, stage: Stage) -> str:
        """The text of the sub-step that the row is in."""
        return reasoning_text(self.now, self.placed, self.taken, self.carrying(stage))

    def target(self, stage: Stage) -> tuple[int, np.ndarray] | None:
        """The tile now wanted, as the reasoning names it: index and (x, y, z, yaw), the yaw within a quarter turn of 0
        since half a turn changes nothing; None when all are placed."""
        if self.placed == len(self.digits):
            return None
        k = self.now.order(self.taken)[self.placed]
        return k, np.array([*stage.positions[k], half_turn(stage.tile_yaw(k))])

    def goal(self, stage: Stage) -> np.ndarray | None:
        """(x, y, z, yaw) of what the reasoning speaks of: the tile to take, or where the one in the hand is to be put;
        None when all are placed."""
        target = self.target(stage)
        if target is None:
            return None
        return np.array([*PLACES[self.placed], PLATE, 0.0]) if self.carrying(stage) else target[1]

    def geometry(self, stage: Stage) -> Mapping[str, Any]:
        """tiles (n,4) x y z yaw, digits (n,)."""
        yaws = [stage.tile_yaw(k) for k in range(stage.count)]
        digits = np.array([t.digit for t in self.scene.tiles])
        return {"tiles": np.column_stack([stage.positions, yaws]), "digits": digits}

    def update(self, stage: Stage) -> None:
        """Look once, after a control step. Plain floats: numpy costs more than it saves on six tiles."""
        tiles, hands = stage.positions.tolist(), [(arm.gripper, *arm.tcp.tolist()) for arm in stage.arms]
        for arm, (gripper, tx, ty, tz) in zip(stage.arms, hands):
            beside = [max(abs(x - tx), abs(y - ty)) for x, y, _ in tiles]
            self._choose(f"wide{arm.mount.suffix}", tiles, gripper, tz, beside)
        inside, free = 0, []
        for k, (x, y, z) in enumerate(tiles):
            tray = in_tray(x, y)
            inside += tray
            rx, ry, _ = self.rest[k]
            shifted = abs(x - rx) > SHIFTED or abs(y - ry) > SHIFTED
            if not (tray or (shifted and abs(z - REST) < HEIGHT / 2)) or not stage.still(k, SLOW, UPRIGHT):
                continue
            held = tray and any(g <= SHUT and _between(x - tx, y - ty, z - tz) for g, tx, ty, tz in hands)
            if not held and shifted:
                self.rest[k] = x, y, stage.tile_yaw(k)
            if not held and tray:
                free.append(k)
        self.taken = self._filled(tiles, free)
        self.success = len(self.taken) == len(self.digits) and inside == len(self.taken)

    def _filled(self, tiles: list[list[float]], free: list[int]) -> list[int]:
        """The tiles, among those released and at rest in the tray, that fill the first places, in order."""
        taken: list[int] = []
        for (px, py), digit in zip(PLACES, self.digits):
            for k in free:
                x, y, z = tiles[k]
                near = abs(x - px) < NEAR and abs(y - py) < NEAR and abs(z - REST - PLATE) < HEIGHT
                if near and self.scene.tiles[k].digit == digit:
                    taken.append(k)
                    break
            else:
                break
        return taken

    def _choose(self, wide: str, tiles: list[list[float]], gripper: float, height: float, beside: list[float]) -> None:
        """Look at one hand; its gripper's last look is kept in `wide`, or for a second arm in `wide_right`."""
        closes = vars(self).get(wide, True) and gripper <= SHUT
        vars(self)[wide] = gripper > SHUT
        if self.choice >= 0:
            return
        nearest = beside.index(min(beside))
        if height < LOW and beside[nearest] < AROUND:
            self.approached = nearest if self.approached < 0 else self.approached
            self.closed = nearest if closes else -1
        gone = [max(abs(x - u), abs(y - v), z - REST) for (x, y, z), (u, v) in zip(tiles, self.start)]
        self.moved = gone.index(max(gone)) if max(gone) > MOVED else -1
        self.choice = self.closed if self.closed >= 0 else self.moved
        if self.choice >= 0:
            self.choice_right = (
                self.scene.tiles[self.choice].digit == self.digits[min(self.placed, len(self.digits) - 1)]
            )

    def facts(self) -> dict[str, Any]:
        """Privileged facts, tiles by index, -1 for none yet: `approached`, the first tile the low gripper was
        around; `choice`, the first tile it closed upon ("closed") or that was pushed or lifted by 1 cm ("moved"),
        whichever came first, and whether its digit was the one wanted then (None without a choice); `placed`,
        leading digits in place, of `digits`; `tiles`, how many there were to choose from."""
        return {
            "approached": self.approached,
            "closed": self.closed,
            "moved": self.moved,
            "choice": self.choice,
            "choice_right": self.choice_right,
            "placed": self.placed,
            "digits": len(self.digits),
            "tiles": len(self.scene.tiles),
        }

    def data(self) -> dict[str, Any]:
        """Plain values."""
        return {k: v for k, v in vars(self).items() if k not in ("scene", "start", "digits", "limit")}

    def load(self, data: dict[str, Any]) -> None:
        """The inverse of `data`."""
        vars(self).update({**data, "rest": [tuple(p) for p in data["rest"]]})
