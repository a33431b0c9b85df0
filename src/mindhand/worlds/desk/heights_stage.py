"""The desk with one block that stands fast, as high as its scene says. A segmentation counts it as an obstacle."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from functools import cache

import mujoco
import numpy as np

from mindhand.worlds.heights import COLOURS, HeightScene

from .body import ARM, VIPERX, Body
from .build import STATIC, SUBSTEPS, add_arms, bare_spec
from .stage import Stage

NAME = "obstacle0"  # of the body and of its shape
_SIZE = [0.02, 0.02, 0.03]


def make_heights_spec(size: int = 128, body: Body = VIPERX) -> mujoco.MjSpec:
    """The editable model; `size` is the largest picture side it can render, in pixels."""
    spec = bare_spec(size)
    spec.option.disableflags |= mujoco.mjtDisableBit.mjDSBL_MIDPHASE  # its boxes would be those of compiling
    # Askew where the compiler sees it, or it would mark the frame as the world's and a turn set later would not count.
    block = spec.worldbody.add_body(name=NAME, pos=[0.01, 0.02, 0.03], quat=[0.9, 0.3, 0.2, 0.1])
    block.add_geom(
        name=NAME, type=mujoco.mjtGeom.mjGEOM_BOX, size=_SIZE, contype=STATIC[0], conaffinity=STATIC[1],
        friction=[0.7, 0.005, 0.0001],
    )  # fmt: skip
    add_arms(spec, 1, body)
    return spec


@cache
def _compiled(size: int, body: Body) -> mujoco.MjModel:
    return make_heights_spec(size, body).compile()


class HeightsStage(Stage):
    """A row."""

    def __init__(self, size: int = 128, body: Body = VIPERX):
        super().__init__(size, model=copy.copy(_compiled(size, body)), loose=(), body=body)
        m = self.model
        self._body, self._geom = m.body(NAME).id, m.geom(NAME).id
        self._of_arm = m.body_rootid[m.geom_bodyid] == m.body(f"{ARM}/base").id
        self.touched = False  # whether the arm touched the block in the last control step

    def dress(self, scene: HeightScene) -> None:
        """Shape, place and colour of the scene's block. `set` or `set_state` must follow: they bring the data up to
        it."""
        self.scene, m, half = scene, self.model, np.array((*scene.half, scene.height / 2))
        m.geom_size[self._geom] = m.geom_aabb[self._geom, 3:] = half
        m.geom_rbound[self._geom] = np.linalg.norm(half)
        m.geom_rgba[self._geom, :3] = np.array(COLOURS[scene.colour]) / 255
        m.body_pos[self._body] = scene.x, scene.y, scene.height / 2
        m.body_quat[self._body] = math.cos(scene.yaw / 2), 0.0, 0.0, math.sin(scene.yaw / 2)

    def set(self, joints: np.ndarray, gripper: float | Sequence[float], poses: Sequence[tuple[float, ...]]) -> None:
        """Put the arm at joints (J,), its gripper at 0..1, at rest; nothing lies loose, so there are no poses."""
        mujoco.mj_resetData(self.model, self.data)
        self._put_arm(joints, gripper)

    def advance(self) -> None:
        """As `Stage.advance`, noting whether the arm touched the block meanwhile, for however short."""
        self.touched = False
        for _ in range(SUBSTEPS):
            mujoco.mj_step(self.model, self.data)
            pairs = self.data.contact.geom
            met = (pairs == self._geom).any(1) & self._of_arm[pairs].any(1)
            self.touched = self.touched or bool(met.any())
        self.refresh()
