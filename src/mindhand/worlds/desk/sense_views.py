"""What cameras see besides colours: where they stand, how far away things are, which they are, and how it looks from
beside them. All of it exact; `sense_noise` spoils it.

Pixels: u to the right, v down, the picture's top left corner at 0, 0, so the middle of the first pixel is 0.5, 0.5, as
in `Stage.project`. Cameras: x right, y down, z forward (OpenCV). Metres; the table's frame.
"""

from __future__ import annotations

import math
import re
import weakref
from collections.abc import Mapping
from typing import NamedTuple

import mujoco
import numpy as np

from mindhand.core.errors import BadData

from .body import ARM
from .canvas import Canvas
from .kinematics import JOINTS
from .stage import Stage

NOTHING, _TILE, _TOY, _OBSTACLE, _MANY = 0, 16, 32, 48, 16
# What the numbers of a segmentation mean: the same in every scene, row and version. Tiles, toys and obstacles by their
# index in the scene; toys that only lie about are counted alike.
LABELS: Mapping[int, str] = {
    NOTHING: "nothing", 1: "table", 2: "board", 3: "tray", 4: "arm", 5: "gripper", 6: "arm_right", 7: "gripper_right",
    **{_TILE + k: f"tile {k}" for k in range(_MANY)},
    **{_TOY + k: f"toy {k}" for k in range(_MANY)},
    **{_OBSTACLE + k: f"obstacle {k}" for k in range(_MANY)},
}  # fmt: skip
IDS: Mapping[str, int] = {name: k for k, name in LABELS.items()}
_GRIPPER = (JOINTS[-1], "hand", "left_finger", "right_finger")
_FLIP = np.array([1.0, -1.0, -1.0])  # OpenGL's camera, y up and z backwards, is turned half about x
_labels: weakref.WeakKeyDictionary[mujoco.MjModel, np.ndarray] = weakref.WeakKeyDictionary()


class View(NamedTuple):
    """depth float32 (h,w), m along the camera's axis, 0 where there is none; valid bool (h,w); labels int32 (h,w), keys
    of `LABELS`."""

    depth: np.ndarray
    valid: np.ndarray
    labels: np.ndarray


def camera_of(stage: Stage, role: str) -> int:
    """The model's index of the camera with this role; refuses a role that the stage has not."""
    if role not in stage.ids.cameras:
        raise BadData(f"camera '{role}'", f"one of {sorted(stage.ids.cameras)}", "correct the role")
    return stage.ids.cameras[role]


# ---- where cameras stand -------------------------------------------------------------------------------


def intrinsics(stage: Stage, role: str, shape: tuple[int, int]) -> np.ndarray:
    """(3,3) float64 of a camera whose picture has this shape (height, width): u, v, 1 times the depth is this matrix
    times x, y, z in the camera's frame. Pixels are square and the axis goes through the middle."""
    focal = shape[0] / 2 / math.tan(math.radians(float(stage.model.cam_fovy[camera_of(stage, role)])) / 2)
    return np.array([[focal, 0.0, shape[1] / 2], [0.0, focal, shape[0] / 2], [0.0, 0.0, 1.0]])


def extrinsics(stage: Stage, role: str) -> np.ndarray:
    """(4,4) float64, from the camera's frame to the table's."""
    c, out = camera_of(stage, role), np.eye(4)
    out[:3, :3] = stage.data.cam_xmat[c].reshape(3, 3) * _FLIP
    out[:3, 3] = stage.data.cam_xpos[c]
    return out


def unproject(depth: np.ndarray, intrinsic: np.ndarray, extrinsic: np.ndarray) -> np.ndarray:
    """Where the middle of each pixel is: depth (h,w) to points float64 (h,w,3) in the frame that `extrinsic` is to."""
    h, w = depth.shape
    x = (np.arange(w) + 0.5 - intrinsic[0, 2]) / intrinsic[0, 0]
    y = (np.arange(h)[:, None] + 0.5 - intrinsic[1, 2]) / intrinsic[1, 1]
    out = np.empty((3, h, w))  # one coordinate after the other: four times as fast
    for k, (right, down, ahead) in enumerate(extrinsic[:3, :3]):
        out[k] = depth * (x * right + (y * down + ahead)) + extrinsic[k, 3]
    return np.moveaxis(out, 0, -1)


# ---- what is there -------------------------------------------------------------------------------------


def _label(model: mujoco.MjModel, geom: int) -> int:
    body, name = int(model.geom_bodyid[geom]), model.geom(geom).name
    if body == 0:
        return IDS[name] if name in ("table", "board") else IDS["tray"]
    name, root = model.body(body).name, model.body(int(model.body_rootid[body])).name
    if root.endswith("/base"):
        part = "gripper" if name.rpartition("/")[2] in _GRIPPER else "arm"
        return IDS[part if root == f"{ARM}/base" else f"{part}_right"]
    found = re.fullmatch(r"(tile|toy|obstacle)(\d+)", name)
    known = IDS.get(f"{found[1]} {found[2]}") if found else None
    if known is None:
        raise BadData(f"body '{name}' without a label", f"one of {list(IDS)}", "give it one in LABELS")
    return known


def geom_labels(stage: Stage) -> np.ndarray:
    """int32 (n,): the labels of what `Brush.measure` numbers: the model's geoms, what is drawn besides, and, as the
    last one, nothing."""
    m = stage.model
    if m not in _labels:
        _labels[m] = np.array([_label(m, k) for k in range(m.ngeom)])
    toys, toy = [], _TOY - 1
    for one in stage.loose:
        toy += m.mesh(one.mesh).name.endswith(" 0")  # meshes of a toy follow one another, and this is the first
        toys.append(toy)
    return np.array([*_labels[m], *toys, NOTHING], np.int32)


def look(stage: Stage, canvas: Canvas, role: str, shape: tuple[int, int]) -> View:
    """What this camera sees in the middle of each pixel of a picture of this shape (height, width). What is drawn
    besides bodies is taken as `stage.loose` has it: where painting makes it, as of the last picture."""
    depth, geoms = canvas.brush_of(stage.model).measure(
        stage.model, stage.data, camera_of(stage, role), shape, stage.loose
    )
    valid = np.isfinite(depth)
    return View(np.where(valid, depth, np.float32(0)), valid, geom_labels(stage)[geoms])


def beside(
    stage: Stage,
    canvas: Canvas,
    role: str,
    shape: tuple[int, int],
    baseline: float,
    turn: np.ndarray | None = None,
) -> np.ndarray:
    """The picture uint8 (height, width, 3) of a camera just like this one, `baseline` metres to its right: what is at u
    there is at u + focal * baseline / depth here. turn: (3,) rad, about the camera's right, up and backward axes, how
    far it is from parallel."""
    c, d = camera_of(stage, role), stage.data
    place, axes = d.cam_xpos[c].copy(), d.cam_xmat[c].copy()
    try:
        d.cam_xpos[c] += baseline * axes.reshape(3, 3)[:, 0]
        if turn is not None:
            quat, matrix = np.empty(4), np.empty(9)
            mujoco.mju_axisAngle2Quat(quat, turn / np.linalg.norm(turn), float(np.linalg.norm(turn)))
            mujoco.mju_quat2Mat(matrix, quat)
            d.cam_xmat[c] = (axes.reshape(3, 3) @ matrix.reshape(3, 3)).ravel()
        return stage.paint(canvas, role, shape)
    finally:
        d.cam_xpos[c], d.cam_xmat[c] = place, axes
