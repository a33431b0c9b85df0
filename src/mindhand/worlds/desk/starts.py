"""Where a perturbed arm begins: near its usual start, as far off as the level says."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy as np

from mindhand.core.keys import Key, Keys
from mindhand.core.rotation import to_matrix
from mindhand.worlds.draw import Draw
from mindhand.worlds.perturb import amount, keys_of

from .altered import direction
from .body import VIPERX, Body
from .build import CAMERAS, make_model

Free = Callable[[np.ndarray], bool]  # whether an arm may have these joints (J,)
LOWEST = 0.09  # m above the table: the fingers and the bar that holds them clear every tile
OWN_SIDE = 0.33  # m before an arm's base: two tools that start nearer than this do not meet (the middle is at .41)


@cache
def _corner_rays(body: Body) -> np.ndarray:
    """(4,3): directions through the corners of the wrist picture, in the gripper's frame."""
    camera = make_model(128, 1, body).camera(CAMERAS["wrist"])
    depth = 1 / math.tan(math.radians(float(camera.fovy[0])) / 2)
    rays = np.array([(x, y, -depth) for x in (-1, 1) for y in (-1, 1)]) @ to_matrix(camera.quat, "quat_wxyz").T
    return rays / np.linalg.norm(rays, axis=1, keepdims=True)


def start_joints(
    joints: np.ndarray,
    key: Key,
    level: int,
    lowest: float = LOWEST,
    free: Free = lambda _: True,
    body: Body = VIPERX,
) -> np.ndarray:
    """(J,) joints of an arm, or (2J,) of two, near those of a clean start, each as far off as the level says: within
    limits, the tool within the workspace, on the arm's own side where there are two, and `lowest` (m) above the table
    or higher, with nothing but the table before the wrist camera, and `free`."""
    keys = keys_of(key, "start", level)
    if len(joints) == len(body.joints):
        return _start(joints, keys, level, lowest, body.workspace[0][1], free, body)
    sides = zip(joints.reshape(-1, len(body.joints)), (keys, keys.fold("right")))
    return np.concatenate([_start(side, own, level, lowest, OWN_SIDE, free, body) for side, own in sides])


def _start(joints: np.ndarray, keys: Keys, level: int, lowest: float, far: float, free: Free, body: Body) -> np.ndarray:
    draw = Draw(keys)
    while True:
        out = joints + amount(draw, "start", "joints", level) * direction(draw, len(joints))
        at, rotation = body.forward(out)
        inside = all(low <= x <= high for x, (low, high) in zip(at, body.workspace)) and at[0] <= far
        down = (_corner_rays(body) @ rotation.T)[:, 2].max() < -0.12  # the table ends 3 m away
        limits = (out >= body.low).all() and (out <= body.high).all()
        if inside and down and at[2] >= lowest and limits and free(out):
            return out
