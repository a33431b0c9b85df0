"""The desk with toys and obstacles: the toys' model, and three loose bodies that become other obstacles at every reset.

An obstacle is one box, that is felt as it is seen.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from functools import cache

import mujoco
import numpy as np

from mindhand.worlds.course import COLOUR, CourseScene, Obstacle
from mindhand.worlds.course_hand import turned_gap

from .body import ARM, ARM_POS
from .build import PARK, SUBSTEPS, TILE_BITS
from .canvas import UNSEEN
from .gap import box_gaps
from .kinematics import forward
from .playground import BOXES, ToyStage, make_toy_spec

MOST = 3  # obstacles of a scene
NAMES = tuple(f"obstacle{k}" for k in range(MOST))  # bodies and shapes
_WHO, _OBSTACLE = {"arm": 1, "toy": 3}, 9  # no two pairs of these numbers have the same sum
DENSITY = 600.0  # kg/m3, as wood
FREE = 0.02  # m that the arm is away from obstacles where it starts
_SMALL = 1e-3  # m: half the size of one that is not used


def make_course_spec(size: int = 128) -> mujoco.MjSpec:
    """The editable model; `size` is the largest picture side it can render, in pixels."""
    spec = make_toy_spec(size)
    for k, name in enumerate(NAMES):
        body = spec.worldbody.add_body(
            name=name, pos=[PARK[0] + 0.15 * k, PARK[1] + 0.3, _SMALL], mass=0.1, ipos=[0.0] * 3,
            iquat=[1.0, 0.0, 0.0, 0.0], inertia=[1e-5, 1.1e-5, 9e-6], explicitinertial=True,
        )  # fmt: skip
        body.add_freejoint(name=name)
        body.add_geom(
            name=name, type=mujoco.mjtGeom.mjGEOM_BOX, mass=0, size=[_SMALL] * 3, contype=TILE_BITS[0],
            conaffinity=TILE_BITS[1], friction=[0.7, 0.005, 0.0001], rgba=[*(c / 255 for c in COLOUR), 1],
        )  # fmt: skip
    return spec


@cache
def _compiled(size: int) -> mujoco.MjModel:
    return make_course_spec(size).compile()


def free_start(scene: CourseScene, joints: np.ndarray) -> bool:
    """Whether an arm with these joints, its tool turned anyhow, is clear of the obstacles."""
    at, turn = forward(joints)
    return turned_gap(at + ARM_POS, turn[:, 0], scene.boxes) >= FREE


@dataclass(frozen=True, eq=False)
class Shapes:
    """Some geoms, as what distances are measured between: boxes, and capsules as their axes. ids (n,); halves (n,3) m,
    half sizes; radii (n,) m, how thick they are around that."""

    ids: np.ndarray
    halves: np.ndarray
    radii: np.ndarray

    @staticmethod
    def of(m: mujoco.MjModel, ids: np.ndarray) -> Shapes:
        """As the model has them now."""
        size, capsule = m.geom_size[ids], m.geom_type[ids] == mujoco.mjtGeom.mjGEOM_CAPSULE
        halves = np.where(capsule[:, None], size[:, [1, 1, 1]] * (0, 0, 1), size)
        return Shapes(ids, halves, np.where(capsule, size[:, 0], 0.0))


class CourseStage(ToyStage):
    """A row. An obstacle's frame is in its middle."""

    def __init__(self, size: int = 128, model: mujoco.MjModel | None = None):
        super().__init__(size, model=copy.copy(_compiled(size)) if model is None else model)
        m = self.model
        self.obstacle_bodies = np.array([m.body(name).id for name in NAMES])
        self.obstacle_geoms = np.array([m.geom(name).id for name in NAMES])
        self._qpos = [int(m.joint(name).qposadr[0]) for name in NAMES]
        of_arm = m.body_rootid[m.geom_bodyid] == m.body(f"{ARM}/base").id
        self._arm = np.flatnonzero(of_arm & (m.geom_contype > 0))  # what can touch anything
        self.many = 0
        self.touches: set[str] = set()  # who touched an obstacle in the last control step: "arm", "toy" (the target)

    def dress(self, scene: CourseScene) -> None:
        """As `ToyStage.dress`, and the obstacles, which `set` puts where they stand."""
        self.many = len(scene.obstacles)
        for k in range(MOST):
            self._stand(k, scene.obstacles[k] if k < self.many else None)
        super().dress(scene)
        first, there = self.ids.tile_geoms[scene.target], self.obstacle_geoms[: self.many]
        toy = np.array([g for g in range(first, first + BOXES) if self.model.geom_contype[g]])
        self.empty, self.full = (Shapes.of(self.model, g) for g in (self._arm, np.concatenate([self._arm, toy])))
        self.standing = Shapes.of(self.model, there)
        self._who = np.zeros(self.model.ngeom, np.int64)
        self._who[self._arm], self._who[toy], self._who[there] = *_WHO.values(), _OBSTACLE

    def advance(self) -> None:
        """As `Stage.advance`, noting who touched an obstacle meanwhile, for however short."""
        self.touches = set()
        for _ in range(SUBSTEPS):
            mujoco.mj_step(self.model, self.data)
            met = self._who[self.data.contact.geom].sum(1).tolist()
            self.touches |= {who for who, code in _WHO.items() if code + _OBSTACLE in met}
        self.refresh()

    def nearer(self, than: float, full: bool) -> float:
        """How near (m) the arm, and with `full` the toy that is to be put, too, are to an obstacle, or `than` where
        they are no nearer. Measured exactly only for pairs of shapes that may be."""
        mine, theirs, d = self.full if full else self.empty, self.standing, self.data
        at, turn = d.geom_xpos[mine.ids], d.geom_xmat[mine.ids].reshape(-1, 3, 3)
        there, axes = d.geom_xpos[theirs.ids], d.geom_xmat[theirs.ids].reshape(-1, 3, 3)
        # From the point of an obstacle that is nearest to a shape's middle, all of the obstacle lies behind.
        seen = ((at[:, None] - there)[:, :, None] @ axes)[:, :, 0]
        out = seen - seen.clip(-theirs.halves, theirs.halves)
        away = np.sqrt((out * out).sum(2))
        along = (out[:, :, None] @ (axes.swapaxes(1, 2) @ turn[:, None]))[:, :, 0]
        reach = (np.abs(along) * mine.halves[:, None]).sum(2) / np.maximum(away, 1e-9) + mine.radii[:, None]
        k, n = np.nonzero(away - reach < than)
        if not len(k):
            return than
        far = box_gaps((at[k], turn[k], mine.halves[k]), (there[n], axes[n], theirs.halves[n])) - mine.radii[k]
        return min(than, max(0.0, float(far.min())))

    def _stand(self, k: int, one: Obstacle | None) -> None:
        """Make slot k this obstacle, or nothing: no weight, no contacts, not drawn."""
        m, body, geom, here = self.model, self.obstacle_bodies[k], self.obstacle_geoms[k], one is not None
        half = np.array((*one.half, one.height / 2) if here else (_SMALL,) * 3)
        m.body_gravcomp[body] = 0.0 if here else 1.0
        m.geom_group[geom] = 0 if here else UNSEEN
        m.geom_contype[geom], m.geom_conaffinity[geom] = TILE_BITS if here else (0, 0)
        m.geom_size[geom] = m.geom_aabb[geom, 3:] = half
        m.geom_rbound[geom] = np.linalg.norm(half)
        mass = 8 * half.prod() * DENSITY if here else 0.1
        m.body_mass[body] = mass
        m.body_inertia[body] = mass / 3 * ((half**2).sum() - half**2) if here else 1e-5
        a, place = self._qpos[k], (PARK[0] + 0.15 * k, PARK[1] + 0.3, _SMALL, 0.0)
        x, y, z, yaw = place if one is None else (one.x, one.y, one.height / 2, one.yaw)
        # Where a reset puts it.
        m.qpos0[a : a + 7] = x, y, z, math.cos(yaw / 2), 0.0, 0.0, math.sin(yaw / 2)

    @property
    def obstacle_places(self) -> np.ndarray:
        """(n,3): where the middles of the obstacles are."""
        return self.data.xpos[self.obstacle_bodies[: self.many]]

    @property
    def obstacle_turns(self) -> np.ndarray:
        """(n,3,3): how they are turned; the third column of one that stands is upright."""
        return self.data.xmat[self.obstacle_bodies[: self.many]].reshape(-1, 3, 3)
