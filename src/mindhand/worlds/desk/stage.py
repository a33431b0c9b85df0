"""One row of the desk: a model and its data, dressed as a scene, measured and painted."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np

from mindhand.worlds.scene import FACES, PLACES, TILE, MathsScene

from . import textures
from .arms import Arm, slides
from .body import ARM_POS, VIPERX, Body, Mount
from .build import CAMERAS, MAX_TILES, PARK, PLATE, REST, SUBSTEPS, TILE_BITS, make_model
from .canvas import UNSEEN, Brush, Canvas, Loose

STATE = mujoco.mjtState.mjSTATE_INTEGRATION
TILES = tuple(f"tile{k}" for k in range(MAX_TILES))


def _id(model: mujoco.MjModel, kind: str, name: str) -> int:
    found = mujoco.mj_name2id(model, getattr(mujoco.mjtObj, f"mjOBJ_{kind}"), name)
    if found < 0:
        raise KeyError(name)
    return found


def mounts_of(model: mujoco.MjModel, body: Body) -> tuple[Mount, ...]:
    """Those of a body's mounts that a model has an arm on."""
    bodies = {model.body(k).name for k in range(model.nbody)}
    return tuple(m for m in body.mounts if f"{m.name}/base" in bodies)


@dataclass(frozen=True)
class Ids:
    """Where things are in the model's arrays."""

    arm: np.ndarray  # (J,) qpos addresses of the joints; of two arms (2J,), the first one's first
    fingers: np.ndarray  # (2,) qpos addresses; of two arms (4,)
    tiles: np.ndarray  # (n,) bodies: of tiles, or of whatever else lies loose
    tile_qpos: tuple[int, ...]
    tile_qvel: tuple[int, ...]  # dof addresses; the linear velocity comes first
    tile_geoms: tuple[int, ...]
    label_geoms: tuple[int, ...]
    labels: tuple[int, ...]  # textures
    board: int  # texture
    board_geom: int
    tcps: tuple[int, ...]  # sites, one an arm
    cameras: dict[str, int]

    @staticmethod
    def of(m: mujoco.MjModel, loose: Sequence[str] = TILES, body: Body = VIPERX) -> Ids:
        """loose: the names of the free bodies; tiles have a label each."""
        arms = mounts_of(m, body)
        joints = [_id(m, "JOINT", f"{a.name}/{j}") for a in arms for j in body.joints]
        fingers = [_id(m, "JOINT", f"{a.name}/{side}_finger") for a in arms for side in ("left", "right")]
        roles = ("front", *(f"wrist{a.suffix}" for a in arms))
        free = [_id(m, "JOINT", name) for name in loose]
        labels = [f"label{k}" for k in range(len(loose))] if loose == TILES else []
        return Ids(
            arm=m.jnt_qposadr[joints],
            fingers=m.jnt_qposadr[fingers],
            tiles=np.array([_id(m, "BODY", name) for name in loose], np.int64),
            tile_qpos=tuple(int(m.jnt_qposadr[j]) for j in free),
            tile_qvel=tuple(int(m.jnt_dofadr[j]) for j in free),
            tile_geoms=tuple(_id(m, "GEOM", name) for name in loose),
            label_geoms=tuple(_id(m, "GEOM", name) for name in labels),
            labels=tuple(_id(m, "TEXTURE", name) for name in labels),
            board=_id(m, "TEXTURE", "board"),
            board_geom=_id(m, "GEOM", "board"),
            tcps=tuple(_id(m, "SITE", f"{a.name}/tcp") for a in arms),
            cameras={role: _id(m, "CAMERA", CAMERAS[role]) for role in roles},
        )


_TRAY = TILE[0] / 2 + 0.013, TILE[1] / 2 + 0.014


def in_tray(x: float, y: float) -> bool:
    """Whether a tile with this centre lies at least partly in the tray."""
    dx, dy = _TRAY
    return any([abs(x - px) < dx and abs(y - py) < dy for px, py in PLACES])


def resting(x: float, y: float) -> float:
    """The height of the centre of a tile that lies here."""
    return REST + (PLATE if in_tray(x, y) else 0.0)


class Stage:
    """A row. Positions are in the table's frame; `base` converts to "arm_base", which is shifted, not turned.

    `arms` are one or two; what a stage itself measures of an arm (`joints`, `tcp`, ...) is the first one's."""

    base = np.array(ARM_POS)

    def __init__(
        self,
        size: int = 128,
        model: mujoco.MjModel | None = None,
        loose: Sequence[str] = TILES,
        arms: int = 1,
        body: Body = VIPERX,
    ):
        """arms: of the usual model; one that is given has its own, of this body."""
        self.model = make_model(size, arms, body) if model is None else model
        self.body, self.base = body, body.mounts[0].base
        self.data = mujoco.MjData(self.model)
        self.ids = ids = Ids.of(self.model, loose, body)
        each = ids.arm.reshape(-1, len(body.joints)), ids.fingers.reshape(-1, 2), ids.tcps
        self.arms = tuple(Arm(self.data, body, *limb) for limb in zip(mounts_of(self.model, body), *each))
        self.scene: Any = None  # the one it is dressed as
        self.count = 0
        self.loose: Sequence[Loose] = ()  # what is drawn besides
        self.pictures: Mapping[int, np.ndarray] = {}  # by texture, those that no scene has
        self._textures: dict[int, np.ndarray] = {}
        self._brush: Brush | None = None

    def dress(self, scene: MathsScene) -> None:
        """Labels, colours and the board of a scene; moves nothing."""
        self.scene, self.count = scene, len(scene.tiles)
        m, used = self.model, {self.ids.board: textures.board(scene.board)[0]}
        for k, tile in enumerate(scene.tiles):
            used[self.ids.labels[k]] = textures.tile_label(tile, scene.tile_font)
            m.geom_rgba[self.ids.tile_geoms[k], :3] = np.array(FACES[tile.face]) / 255
        for k, geom in enumerate(self.ids.tile_geoms):
            # A tile that is not used floats where it is parked: no weight, no contacts, and not drawn.
            used_here = k < self.count
            m.body_gravcomp[self.ids.tiles[k]] = 0.0 if used_here else 1.0
            m.geom_contype[geom], m.geom_conaffinity[geom] = TILE_BITS if used_here else (0, 0)
            m.geom_group[[geom, self.ids.label_geoms[k]]] = 0 if used_here else UNSEEN
        self._show(used)

    def _show(self, used: dict[int, np.ndarray]) -> None:
        """These pictures, by texture, and no others but `pictures`."""
        used = {**self.pictures, **used}
        for index, picture in used.items():
            if self._textures.get(index) is not picture:
                begin = self.model.tex_adr[index]
                self.model.tex_data[begin : begin + picture.size] = picture.ravel()
        self._textures = used

    def set(self, joints: np.ndarray, gripper: float | Sequence[float], poses: Sequence[tuple[float, ...]]) -> None:
        """Put arms at joints (J,) each, grippers (all alike or each) at 0..1 and the tiles at (x, y, yaw), lying, or
        (x, y, yaw, z); everything at rest."""
        m, d, ids = self.model, self.data, self.ids
        mujoco.mj_resetData(m, d)
        for k in range(MAX_TILES):
            if k < len(poses):
                x, y, yaw, *height = poses[k]
                z = height[0] if height else resting(x, y)
            else:
                x, y, yaw, z = PARK[0] + 0.1 * k, PARK[1], 0.0, REST
            a = ids.tile_qpos[k]
            d.qpos[a : a + 7] = x, y, z, math.cos(yaw / 2), 0.0, 0.0, math.sin(yaw / 2)
        self._put_arm(joints, gripper)

    def _put_arm(self, joints: np.ndarray, gripper: float | Sequence[float]) -> None:
        grippers = np.broadcast_to(gripper, len(self.arms)).tolist()
        self.data.qpos[self.ids.arm] = joints
        self.data.qpos[self.ids.fingers] = [x for g in grippers for x in slides(g)]
        self.command(joints, *grippers)
        self.refresh()

    def command(self, joints: np.ndarray, *grippers: float) -> None:
        """Set the servos' targets: joints (J,) in radians of each arm, its gripper 0 (closed) to 1 (open)."""
        n = len(self.body.joints)
        each = [joints[n * k : n * k + n] for k in range(len(grippers))]
        self.data.ctrl[:] = [x for own, gripper in zip(each, grippers) for x in (*own, *slides(gripper))]

    def advance(self) -> None:
        """One control step of 50 ms."""
        mujoco.mj_step(self.model, self.data, SUBSTEPS)
        self.refresh()

    def refresh(self) -> None:
        """Bring poses and cameras up to the joint positions, which mj_step leaves one substep ahead of them."""
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_camlight(self.model, self.data)

    # ---- measured --------------------------------------------------------------------------------------

    def by(self, arm: int) -> Stage:
        """This stage as if it had only that arm: what an expert of one arm drives. Of this moment, not to be kept."""
        out = copy.copy(self)
        out.arms = (self.arms[arm],)
        return out

    @property
    def joints(self) -> np.ndarray:
        """(J,) radians."""
        return self.arms[0].joints

    @property
    def tcp(self) -> np.ndarray:
        """(3,) metres, table frame."""
        return self.arms[0].tcp

    @property
    def rotation(self) -> np.ndarray:
        """(3,3) of the tool, table frame."""
        return self.arms[0].rotation

    @property
    def yaw(self) -> float:
        """The tool's yaw in the frame of the arm's base, meaningful while it points down."""
        return self.arms[0].yaw

    @property
    def gripper(self) -> float:
        """0 closed to 1 open, the mean of both fingers."""
        return self.arms[0].gripper

    @property
    def home(self) -> tuple[float, float, float]:
        """The TCP's place at home (m), table frame."""
        return self.arms[0].mount.home

    @property
    def positions(self) -> np.ndarray:
        """(n,3) centres of the tiles in use."""
        return self.data.xpos[self.ids.tiles[: self.count]]

    def still(self, k: int, speed: float, upright: float) -> bool:
        """Whether tile k moves slower than `speed` (m/s) and the cosine of its tilt is above `upright`."""
        a = self.ids.tile_qvel[k]
        x, y, z = self.data.qvel[a : a + 3].tolist()
        return x * x + y * y + z * z < speed * speed and self.data.xmat[self.ids.tiles[k], 8] > upright

    def tile_yaw(self, k: int) -> float:
        """The yaw of tile k, in radians."""
        m = self.data.xmat[self.ids.tiles[k]]
        return math.atan2(m[3], m[0])

    # ---- pictures --------------------------------------------------------------------------------------

    def paint(self, canvas: Canvas, camera: str, shape: tuple[int, int]) -> np.ndarray:
        """What a camera sees, uint8 (height, width, 3)."""
        return self.paint_all(canvas, {camera: shape})[0]

    def paint_all(self, canvas: Canvas, shapes: Mapping[str, tuple[int, int]]) -> list[np.ndarray]:
        """What each of these cameras sees, uint8 (height, width, 3) as `shapes` has them."""
        if self._brush is None:
            self._brush = canvas.brush(self.model)
        views = [(self.ids.cameras[camera], shape) for camera, shape in shapes.items()]
        return self._brush.paint(self.model, self.data, views, self._textures, self.loose)

    def project(self, points: np.ndarray, camera: str, shape: tuple[int, int]) -> np.ndarray:
        """(N,3) points to (N,2) pixels (u right, v down, the top left corner of the picture is 0, 0) of a picture
        of `shape`; NaN behind the camera."""
        c = self.ids.cameras[camera]
        seen = (np.asarray(points, float) - self.data.cam_xpos[c]) @ self.data.cam_xmat[c].reshape(3, 3)
        focal = shape[0] / 2 / math.tan(math.radians(self.model.cam_fovy[c]) / 2)
        depth = np.where(seen[:, 2] < -1e-6, -seen[:, 2], np.nan)
        return np.stack([shape[1] / 2 + focal * seen[:, 0] / depth, shape[0] / 2 - focal * seen[:, 1] / depth], 1)

    # ---- state -----------------------------------------------------------------------------------------

    def get_state(self) -> np.ndarray:
        """Everything the integrator needs, float64."""
        out = np.empty(mujoco.mj_stateSize(self.model, STATE))
        mujoco.mj_getState(self.model, self.data, out, STATE)
        return out

    def set_state(self, state: np.ndarray) -> None:
        """The inverse of `get_state`."""
        mujoco.mj_setState(self.model, self.data, state, STATE)
        self.refresh()
