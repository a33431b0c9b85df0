"""The arms of a stage: what each measures, and the next command that takes it towards an action."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import mujoco
import numpy as np

from .arm import FINGER_RANGE
from .body import Body, Mount
from .kinematics import from_rot6d, tool_yaw
from .spec import GRIPPER_STEP

_SPAN = FINGER_RANGE[1] - FINGER_RANGE[0]


def slides(gripper: float) -> tuple[float, float]:
    """Where the two fingers are (m) when the gripper is 0 (closed) to 1 (open)."""
    finger = FINGER_RANGE[0] + _SPAN * gripper
    return finger, -finger


class Told(NamedTuple):
    """A command: joints (J,) rad and gripper 0..1; whether the target was moved to where it can be reached, and whether
    the way there was cut short."""

    joints: np.ndarray
    gripper: float
    clipped: bool
    limited: bool


class Arm:
    """One arm, measured. Positions and rotations are in the table's frame, but for `pose`."""

    def __init__(
        self, data: mujoco.MjData, body: Body, mount: Mount, joints: np.ndarray, fingers: np.ndarray, site: int
    ):
        """joints (J,), fingers (2,): addresses in qpos. site: the TCP's."""
        self.mount, self.body = mount, body
        self._data, self._joints, self._site = data, joints, site
        self._left, self._right = fingers.tolist()
        self._base, self._axes = mount.base.tolist(), mount.axes.tolist()

    @property
    def joints(self) -> np.ndarray:
        """(J,) radians."""
        return self._data.qpos[self._joints]

    @property
    def tcp(self) -> np.ndarray:
        """(3,) metres."""
        return self._data.site_xpos[self._site].copy()

    @property
    def rotation(self) -> np.ndarray:
        """(3,3) of the tool."""
        return self._data.site_xmat[self._site].reshape(3, 3).copy()

    @property
    def yaw(self) -> float:
        """The tool's yaw in the frame of the arm's own base, meaningful while it points down. Half a turn between two
        arms' frames is none for a gripper, so what one arm takes at some yaw of the table's the other does, too."""
        return tool_yaw(self.mount.turned(self._data.site_xmat[self._site].reshape(3, 3)))

    @property
    def gripper(self) -> float:
        """0 closed to 1 open, the mean of both fingers."""
        qpos = self._data.qpos
        return float((qpos[self._left] - qpos[self._right]) / 2 - FINGER_RANGE[0]) / _SPAN

    @property
    def pose(self) -> tuple[np.ndarray, np.ndarray]:
        """TCP (3,) m and tool rotation (3,3) in the frame of the arm's own base."""
        rotation = self._data.site_xmat[self._site].reshape(3, 3)
        return self.mount.local(self._data.site_xpos[self._site]), self.mount.turned(rotation)

    @property
    def state(self) -> list[float]:
        """The ten numbers of a state: `pose`, its rotation as rot6d, and the gripper. Plain floats, as in `follow`:
        after a picture has been drawn, numpy's own code has to be fetched from memory again."""
        a, b, c = self._axes
        x, y, z = ((p - q) * s for p, q, s in zip(self._data.site_xpos[self._site].tolist(), self._base, self._axes))
        xx, yx, _, xy, yy, _, xz, yz, _ = self._data.site_xmat[self._site].tolist()
        return [x, y, z, xx * a, xy * b, xz * c, yx * a, yy * b, yz * c, self.gripper]

    def measured(self) -> dict[str, np.ndarray | float]:
        """tcp (3,), tool (3,3), joints (J,) and gripper, as they are called in a world's geometry."""
        return {"tcp": self.tcp, "tool": self.rotation, "joints": self.joints.copy(), "gripper": self.gripper}

    def follow(self, target: Sequence[float], joints: np.ndarray, gripper: float) -> Told:
        """The command after `joints` and `gripper`, the last one, towards a target: ten numbers of an action."""
        position = [x if a <= x <= b else a if x < a else b for x, (a, b) in zip(target[:3], self.body.workspace)]
        rotation = from_rot6d(target[3:9])
        clipped = position != target[:3] or rotation is None
        found = self.body.inverse(position, self.pose[1] if rotation is None else rotation, joints)
        last, most = joints.tolist(), self.body.step
        move = [q - p for q, p in zip(found.joints.tolist(), last)]
        slow = [x if -most <= x <= most else math.copysign(most, x) for x in move]
        squeeze = min(max(target[9], 0.0), 1.0) - gripper
        shut = max(-GRIPPER_STEP, min(GRIPPER_STEP, squeeze))
        limited = shut != squeeze or slow != move
        return Told(np.array([p + x for p, x in zip(last, slow)]), gripper + shut, clipped or not found.exact, limited)
