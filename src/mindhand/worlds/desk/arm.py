"""The arm: ViperX 300 S kinematics and inertias (the maker's published numbers), dressed in boxes and capsules.

Geoms have no mass: the explicit inertias rule, whatever the arm wears.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import mujoco
import numpy as np

from .kinematics import ELBOW, FOREARM, HIGH, JOINTS, LOW, PINCH, WRIST_TO_GRIPPER

KP = (800.0, 1600.0, 800.0, 120.0, 200.0, 80.0)
ARMATURE = (0.2, 0.3, 0.2, 0.05, 0.06, 0.02)
FORCE = 300.0  # N m, the joints
FINGER_KP, FINGER_FORCE = 600.0, 20.0  # below 15 N both fingers saturate and a tile drifts sideways in the hand
FINGER_RANGE = (0.021, 0.057)
FINGER_X = 0.0687
PAD = (0.022, 0.005, 0.009)  # half sizes: along the finger, thickness, width
PAD_INSET = 0.020  # inner faces are this much closer together than the slides: 2 to 74 mm apart
TIP = 0.008  # how far a pad reaches beyond the pinch point
WRIST_FOVY = 68.0

SHELL, DARK, PAD_COLOUR = (0.30, 0.32, 0.36, 1), (0.13, 0.13, 0.15, 1), (0.10, 0.10, 0.11, 1)


@dataclass(frozen=True)
class _Link:
    pos: tuple[float, float, float]
    axis: tuple[int, int, int]
    mass: float
    centre: tuple[float, float, float]
    quat: tuple[float, float, float, float]
    inertia: tuple[float, float, float]


_LINKS = (
    _Link((0, 0, 0.079), (0, 0, 1), 0.798614, (0.000259233, -3.3552e-06, 0.0116129),
          (-0.476119, 0.476083, 0.52279, 0.522826), (0.00120156, 0.00113744, 0.0009388)),
    _Link((0, 0, 0.04805), (0, 1, 0), 0.792592, (0.0206949, 4e-10, 0.226459),
          (0, 0.0728458, 0, 0.997343), (0.00911338, 0.008925, 0.000759317)),
    _Link((ELBOW[0], 0, ELBOW[1]), (0, 1, 0), 0.322228, (0.105723, 0, 0),
          (-0.000621631, 0.704724, 0.0105292, 0.709403), (0.00144107, 0.00134228, 0.000152047)),
    _Link((FOREARM[0], 0, 0), (1, 0, 0), 0.414823, (0.0513477, 0.00680462, 0),
          (-0.702604, -0.0796724, -0.702604, 0.0796724), (0.0005911, 0.000546493, 0.000155707)),
    _Link((FOREARM[1], 0, 0), (0, 1, 0), 0.115395, (0.046743, -7.6652e-06, 0.010565),
          (-0.00100191, 0.544586, 0.0026583, 0.8387), (5.45707e-05, 4.63101e-05, 4.32692e-05)),
    _Link((WRIST_TO_GRIPPER, 0, 0), (1, 0, 0), 0.251652, (0.0395662, -2.56311e-07, 0.00400649),
          (0.62033, 0.619916, -0.339682, 0.339869), (0.000689546, 0.000650316, 0.000468142)),
)  # fmt: skip
_FINGER_MASS, _FINGER_INERTIA = 0.034796, (2.48003e-05, 1.417e-05, 1.20797e-05)


def look_at(eye: np.ndarray, target: np.ndarray, up: np.ndarray) -> np.ndarray:
    """The quaternion (w,x,y,z) of a camera at `eye` that sees `target` in its middle and `up` upwards."""
    forward = (target - eye) / np.linalg.norm(target - eye)
    right = np.cross(forward, up)
    right /= np.linalg.norm(right)
    axes = np.stack([right, np.cross(right, forward), -forward], 1)
    quat = np.empty(4)
    mujoco.mju_mat2Quat(quat, axes.ravel())
    return quat


def add_capsule(body, start, end, radius, colour, bits) -> None:
    """From `start` to `end` (m) in the body's frame, colliding by `bits` (contype, conaffinity)."""
    body.add_geom(
        type=mujoco.mjtGeom.mjGEOM_CAPSULE, fromto=[*start, *end], size=[radius, 0, 0], rgba=colour, mass=0,
        contype=bits[0], conaffinity=bits[1], friction=[0.7, 0.005, 0.0001],
    )  # fmt: skip


def add_box(body, pos, half, colour, bits=(0, 0), **more) -> None:
    """At `pos` in the body's frame, with half sizes `half` (m)."""
    body.add_geom(
        type=mujoco.mjtGeom.mjGEOM_BOX, pos=list(pos), size=list(half), rgba=colour, mass=0,
        contype=bits[0], conaffinity=bits[1], **more,
    )  # fmt: skip


def _dress(links: list, bits: tuple[int, int]) -> None:
    """Visible and colliding shapes; the base does not collide, nor do the first links, which reach nothing."""
    free = (0, 0)
    add_capsule(links[0], (0, 0, -0.06), (0, 0, 0.02), 0.042, DARK, free)
    add_capsule(links[1], (0, 0, 0), (0, 0, ELBOW[1]), 0.026, SHELL, free)
    add_capsule(links[1], (0, 0, ELBOW[1]), (ELBOW[0], 0, ELBOW[1]), 0.026, SHELL, free)
    add_capsule(links[2], (0, 0, 0), (FOREARM[0] - 0.03, 0, 0), 0.024, SHELL, bits)
    add_capsule(links[3], (-0.01, 0, 0), (FOREARM[1] - 0.02, 0, 0), 0.020, DARK, bits)
    add_capsule(links[4], (0, 0, 0), (0.03, 0, 0), 0.020, SHELL, bits)
    add_box(links[5], (0.0, 0, 0), (0.030, 0.032, 0.018), DARK, bits)
    add_box(links[5], (0.048, 0, 0), (0.008, 0.062, 0.012), SHELL, bits)


def add_arm(spec: mujoco.MjSpec, name: str, pos: tuple[float, float, float], yaw: float, bits: tuple[int, int]) -> None:
    """Mount an arm called `name` at `pos` (m), turned by `yaw` (rad), colliding by `bits` (contype, conaffinity).

    Adds joints "<name>/waist" ..., slides "<name>/left_finger" and "/right_finger", position actuators of the same
    names in that order, the site "<name>/tcp" and the camera "<name>/wrist".
    """
    body = spec.worldbody.add_body(
        name=f"{name}/base", pos=list(pos), quat=[np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)], gravcomp=1
    )
    add_capsule(body, (0, 0, 0), (0, 0, 0.05), 0.05, DARK, (0, 0))
    links = []
    for k, (joint, link) in enumerate(zip(JOINTS, _LINKS)):
        body = body.add_body(
            name=f"{name}/{joint}", pos=list(link.pos), gravcomp=1, mass=link.mass, ipos=list(link.centre),
            iquat=list(link.quat), inertia=list(link.inertia), explicitinertial=True,
        )  # fmt: skip
        body.add_joint(
            name=f"{name}/{joint}", type=mujoco.mjtJoint.mjJNT_HINGE, axis=list(link.axis),
            range=[LOW[k], HIGH[k]], armature=ARMATURE[k], damping=1.0,
        )  # fmt: skip
        links.append(body)
    _dress(links, bits)
    gripper = links[-1]
    gripper.add_site(name=f"{name}/tcp", pos=[PINCH, 0, 0], size=[0.002] * 3, rgba=[0, 0, 0, 0])
    add_wrist_camera(gripper, name, yaw, (0.02, 0.0, 0.095), (0.14, 0.0, 0.0))
    add_fingers(gripper, name, PINCH, FINGER_X, (-0.003, 0.020), bits)
    add_servos(spec, name, JOINTS, [(kp, FORCE, None) for kp in KP])


def add_wrist_camera(gripper, name: str, yaw: float, eye: Sequence[float], look: Sequence[float]) -> None:
    """The camera "<name>/wrist" at `eye` (m), which sees `look` in its middle, in the frame of a gripper: x along the
    fingers, y closing."""
    # Up is the closing direction, or its opposite where the arm looks the other way: a tile that the tool is aligned
    # with is seen upright, by whichever arm.
    quat = look_at(np.array(eye), np.array(look), np.array([0.0, np.sign(np.cos(yaw)), 0.0]))
    gripper.add_camera(name=f"{name}/wrist", pos=np.array(eye), quat=quat, fovy=WRIST_FOVY)


def add_fingers(
    gripper, name: str, pinch: float, begin: float, root: tuple[float, float], bits: tuple[int, int]
) -> None:
    """Two fingers on slides, whose pads meet at `pinch` (m along the gripper's x). Their bodies are at `begin`; `root`:
    the middle and half the length of what holds a pad, from there."""
    for side, sign in (("left", 1), ("right", -1)):
        finger = gripper.add_body(
            name=f"{name}/{side}_finger", pos=[begin, 0, 0], gravcomp=1, mass=_FINGER_MASS,
            ipos=[0.017344, -sign * 0.0060692, 0], inertia=list(_FINGER_INERTIA), explicitinertial=True,
            iquat=[0.449364, 0.449364, -0.54596, -0.54596] if sign > 0 else [0.44937, -0.44937, 0.545955, -0.545955],
        )  # fmt: skip
        span = FINGER_RANGE if sign > 0 else (-FINGER_RANGE[1], -FINGER_RANGE[0])
        finger.add_joint(
            name=f"{name}/{side}_finger", type=mujoco.mjtJoint.mjJNT_SLIDE, axis=[0, 1, 0], range=list(span),
            armature=0.1, damping=2.0,
        )  # fmt: skip
        face = -sign * (PAD_INSET - PAD[1])
        add_box(
            finger, (pinch + TIP - begin - PAD[0], face, 0), PAD, PAD_COLOUR, bits, name=f"{name}/{side}_pad",
            condim=4, friction=[1.2, 0.02, 0.0001], solref=[0.0125, 1], solimp=[0.95, 0.99, 0.001, 0.5, 2], priority=1,
        )  # fmt: skip
        add_box(finger, (root[0], face, 0), (root[1], 0.004, 0.008), SHELL)


def add_servos(
    spec: mujoco.MjSpec, name: str, joints: Sequence[str], gains: Sequence[tuple[float, float, float | None]]
) -> None:
    """Position actuators of the joints, by stiffness, greatest force and damping (None: critical where joints are 0),
    and of the fingers."""
    fingers = [(f"{side}_finger", (FINGER_KP, FINGER_FORCE, None)) for side in ("left", "right")]
    for joint, (kp, force, kv) in (*zip(joints, gains), *fingers):
        joint = f"{name}/{joint}"
        actuator = spec.add_actuator(
            name=joint, target=joint, trntype=mujoco.mjtTrn.mjTRN_JOINT, forcelimited=True, forcerange=[-force, force]
        )
        if kv is None:
            actuator.set_to_position(kp=kp, dampratio=1.0)
        else:
            actuator.set_to_position(kp=kp, kv=kv)
