"""The desk with toys instead of tiles: one model for all scenes, whose loose bodies become other toys at every reset.

A slot is a free body with some boxes; how large they are, where they are on it and what it weighs is set for
the toy that it stands for (`proxies`). None of them is drawn: a toy is seen as its meshes at the body's pose.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from functools import cache

import mujoco
import numpy as np

from mindhand.worlds.placing import PlacingScene
from mindhand.worlds.things import Toy

from . import notices
from .body import VIPERX, Body
from .build import PARK, TILE_BITS, add_arms, bare_spec
from .canvas import UNSEEN, Loose
from .costumes import Wardrobe, add_costumes
from .proxies import BOXES, Proxy, proxy
from .stage import Stage
from .toys import outline

SLOTS = 6
NAMES = tuple(f"toy{k}" for k in range(SLOTS))  # of the bodies and of their first shapes; the others are "toy0/1" ...
_STAT = ("meaninertia", "meanmass", "meansize", "extent", "center")
_SMALL = 1e-3  # m: half the size of a shape that is not used
# Where the compiler is told that masses and shapes are: apart and askew, or it would mark frames that are alike, and
# positions set later would not count.
_MASS_AT, _SHAPE_AT, _ASKEW = [0.011, 0.012, 0.013], [0.004, 0.005, 0.006], [0.9, 0.3, 0.2, 0.1]


def _slot(spec: mujoco.MjSpec, k: int) -> None:
    body = spec.worldbody.add_body(
        name=NAMES[k], pos=[PARK[0] + 0.15 * k, PARK[1], 0.0], mass=0.03, ipos=_MASS_AT, iquat=_ASKEW,
        inertia=[1e-5, 1.1e-5, 9e-6], explicitinertial=True,
    )  # fmt: skip
    body.add_freejoint(name=NAMES[k])
    for n in range(BOXES):
        body.add_geom(
            name=f"{NAMES[k]}/{n}" if n else NAMES[k], type=mujoco.mjtGeom.mjGEOM_BOX, mass=0,
            size=[_SMALL] * 3, pos=_SHAPE_AT, quat=_ASKEW[::-1], group=UNSEEN, contype=TILE_BITS[0],
            conaffinity=TILE_BITS[1], friction=[0.7, 0.005, 0.0001],
        )  # fmt: skip


def make_toy_spec(size: int = 128, arms: int = 1, body: Body = VIPERX) -> mujoco.MjSpec:
    """The editable model; `size` is the largest picture side it can render, in pixels."""
    spec = bare_spec(size)
    spec.option.disableflags |= mujoco.mjtDisableBit.mjDSBL_MIDPHASE  # its boxes would be those of compiling
    for k in range(SLOTS):
        _slot(spec, k)
    add_arms(spec, arms, body)
    add_costumes(spec)
    return spec


@cache
def _compiled(size: int, arms: int, body: Body) -> mujoco.MjModel:
    return make_toy_spec(size, arms, body).compile()


class ToyStage(Stage):
    """A row. Positions are those of toys' frames: the middle of what they stand on."""

    def __init__(self, size: int = 128, arms: int = 1, model: mujoco.MjModel | None = None, body: Body = VIPERX):
        """arms: of the usual model; one that is given has its own, of this body."""
        super().__init__(size, copy.copy(_compiled(size, arms, body)) if model is None else model, NAMES, body=body)
        self._wardrobe = Wardrobe(self.model)

    def dress(self, scene: PlacingScene) -> None:
        """Shapes, masses and the board of a scene. Moves nothing, but `set` or `set_state` must follow: the data are
        used to derive what the simulator needs of the masses."""
        self.scene, self.count = scene, len(scene.toys.toys)
        for k in range(SLOTS):
            self._become(k, proxy(scene.toys.toys[k].thing) if k < self.count else None)
        stat = {name: np.copy(getattr(self.model.stat, name)) for name in _STAT}
        mujoco.mj_setConst(self.model, self.data)
        for name, value in stat.items():  # what is drawn and when the solver stops must not depend on the toys
            setattr(self.model.stat, name, value)
        self._show({self.ids.board: notices.writing(scene.writing)[0]})

    def _become(self, k: int, form: Proxy | None) -> None:
        """Make slot k this thing, or nothing: no weight, no contacts."""
        m, body, first = self.model, int(self.ids.tiles[k]), self.ids.tile_geoms[k]
        geoms = slice(first, first + BOXES)
        m.body_gravcomp[body] = 1.0 if form is None else 0.0
        used = np.arange(BOXES) < (0 if form is None else len(form.turns))
        size, pos, turn = np.full((BOXES, 3), _SMALL), np.zeros((BOXES, 3)), np.zeros(BOXES)
        if form is not None:
            size[used], pos[used], turn[used], pos[~used] = form.halves, form.middles, form.turns, form.centre
        m.geom_size[geoms], m.geom_pos[geoms] = size, pos
        m.geom_quat[geoms] = np.stack([np.cos(turn / 2), 0 * turn, 0 * turn, np.sin(turn / 2)], 1)
        m.geom_aabb[geoms, :3], m.geom_aabb[geoms, 3:] = 0.0, size
        m.geom_rbound[geoms] = np.linalg.norm(size, axis=1)
        m.geom_contype[geoms], m.geom_conaffinity[geoms] = TILE_BITS[0] * used, TILE_BITS[1] * used
        m.body_mass[body], m.body_ipos[body] = (form.mass, form.centre) if form else (0.03, (0.0, 0.0, 0.0))
        m.body_inertia[body] = form.inertia if form else 1e-5
        m.body_iquat[body] = 1.0, 0.0, 0.0, 0.0

    def set(self, joints: np.ndarray, gripper: float | Sequence[float], poses: Sequence[tuple[float, ...]]) -> None:
        """Put arms at joints (6,) each, grippers (all alike or each) at 0..1 and the toys at (x, y, yaw), standing on
        the table, or (x, y, yaw, z); everything at rest."""
        m, d, ids = self.model, self.data, self.ids
        mujoco.mj_resetData(m, d)
        for k in range(SLOTS):
            x, y, yaw, *height = poses[k] if k < len(poses) else (PARK[0] + 0.15 * k, PARK[1], 0.0)
            a = ids.tile_qpos[k]
            d.qpos[a : a + 7] = x, y, height[0] if height else 0.0, math.cos(yaw / 2), 0.0, 0.0, math.sin(yaw / 2)
        self._put_arm(joints, gripper)

    def boxes(self, camera: str, shape: tuple[int, int]) -> np.ndarray:
        """(n,4): the box of every toy as it is now, left, top, right, bottom, in pixels of a picture of `shape`, cut at
        its edges. It covers what other toys hide, and is NaN for a toy with a point behind the camera."""
        out = np.empty((self.count, 4))
        for k, toy in enumerate(self.scene.toys.toys):
            body = self.ids.tiles[k]
            points = outline(toy.thing) @ self.data.xmat[body].reshape(3, 3).T + self.data.xpos[body]
            seen = self.project(points, camera, shape)
            out[k] = *seen.min(0), *seen.max(0)
        return out.clip(0, (shape[1], shape[0]) * 2)

    @property
    def loose(self) -> Sequence[Loose]:
        """The toys, as they are drawn where they are now."""
        d, bodies = self.data, self.ids.tiles
        toys: tuple[Toy, ...] = self.scene.toys.toys if self.scene else ()
        placed = zip(toys, d.xpos[bodies], d.xmat[bodies].reshape(-1, 3, 3))
        return [mesh for where in placed for mesh in self._wardrobe.loose(*where)]

    @loose.setter
    def loose(self, _: Sequence[Loose]) -> None:
        """Nothing else is drawn."""
