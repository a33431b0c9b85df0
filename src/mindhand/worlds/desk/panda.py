"""A Franka Emika Panda with its hand: the maker's kinematics, dressed in boxes and capsules.

Masses, centres and inertias are those that Gaz et al. identified (RA-L 2019, "Dynamic identification of the Franka
Emika Panda robot"), limits of torque the maker's. Geoms have no mass, as of the other arm, and the pads are its pads,
between which there are 2 to 74 mm as there: so a number of the gripper means the same opening on both. The hand could
open 6 mm further. The fingers are 24 mm longer than the maker's: a toy snowman is held 65 mm below its top.
"""

from __future__ import annotations

import mujoco
import numpy as np

from .arm import DARK, PAD, SHELL, TIP, add_box, add_capsule, add_fingers, add_servos, add_wrist_camera
from .panda_kinematics import DH, FLANGE, HAND, HIGH, JOINTS, LOW, PINCH

# mass, centre, inertia xx yy zz xy xz yz: kg, m, kg m2, in the link's frame
_LINKS = (
    (4.970684, (0.003875, 0.002081, -0.04762), (0.70337, 0.70661, 0.009117, -0.000139, 0.006772, 0.019169)),
    (0.646926, (-0.003141, -0.02872, 0.003495), (0.007962, 0.02811, 0.025995, -0.003925, 0.010254, 0.000704)),
    (3.228604, (0.027518, 0.039252, -0.066502), (0.037242, 0.036155, 0.01083, -0.004761, -0.011396, -0.012805)),
    (3.587895, (-0.05317, 0.104419, 0.027454), (0.025853, 0.019552, 0.028323, 0.007796, -0.001332, 0.008641)),
    (1.225946, (-0.011953, 0.041065, -0.038437), (0.035549, 0.029474, 0.008627, -0.002117, -0.004037, 0.000229)),
    (1.666555, (0.060149, -0.014117, -0.010517), (0.001964, 0.004354, 0.005433, 0.000109, -0.001158, 0.000341)),
    (0.735522, (0.010517, -0.004252, 0.061597), (0.012516, 0.010027, 0.004815, -0.000428, -0.001196, -0.000741)),
)
_HAND = (0.73, (0.03, 0.0, -0.01), (0.0017, 0.0025, 0.001, 0.0, 0.0, 0.0))  # in the tool's axes
# As stiff as the step allows: with twice that a tile is shaken out of the hand, perhaps because a contact's forces are
# worked out without the dampers; more iterations of the solver change nothing.
KP = (1800.0, 2200.0, 1500.0, 1150.0, 130.0, 155.0, 107.0)
KV = (77.0, 92.0, 62.0, 48.0, 5.3, 6.6, 4.5)
FORCE = (87.0, 87.0, 87.0, 87.0, 12.0, 12.0, 12.0)  # N m
ARMATURE, DAMPING = 0.1, 1.0
PALM = 0.0584  # m from the flange: where the fingers begin
# Of the wrist camera, from the TCP as the other arm's.
EYE, LOOK = (PINCH - 0.105, 0.0, 0.095), (PINCH + 0.015, 0.0, 0.0)
_ROOT = (PINCH + TIP - 2 * PAD[0] - PALM) / 2  # half the length of what holds a pad
_ACROSS, _ALONG, _DEEP = 0.102, (0.018, 0.0202), (0.050, 0.0315)  # half sizes of the hand


def _dress(links: list, bits: tuple[int, int]) -> None:
    """Visible shapes, in the links' frames; those that reach nothing do not collide."""
    free = (0, 0)
    add_capsule(links[0], (0, 0, -0.26), (0, 0, -0.02), 0.058, DARK, free)
    add_capsule(links[1], (0, 0, -0.05), (0, 0, 0.05), 0.058, SHELL, free)
    add_capsule(links[1], (0, 0, 0), (0, -0.12, 0), 0.055, SHELL, free)
    add_capsule(links[2], (0, 0, -0.15), (0, 0, -0.06), 0.055, SHELL, free)
    add_capsule(links[2], (0.0, 0, -0.06), (0.0825, 0, 0), 0.050, DARK, free)
    add_capsule(links[3], (0, 0, -0.05), (0, 0, 0.05), 0.055, DARK, free)
    add_capsule(links[3], (0, 0, 0), (-0.0825, 0.10, 0), 0.050, SHELL, free)
    add_capsule(links[4], (0, 0, -0.27), (0, 0, -0.21), 0.055, SHELL, bits)
    add_capsule(links[4], (0, 0.07, -0.21), (0, 0.06, -0.04), 0.028, SHELL, bits)
    add_capsule(links[4], (0, 0, -0.04), (0, 0, 0.02), 0.048, DARK, bits)
    add_capsule(links[5], (0, 0, -0.03), (0, 0, 0.03), 0.046, SHELL, bits)
    add_capsule(links[5], (0, 0, 0), (0.088, 0, 0), 0.042, SHELL, bits)
    add_capsule(links[6], (0, 0, -0.02), (0, 0, 0.065), 0.042, DARK, bits)


def add_panda(
    spec: mujoco.MjSpec, name: str, pos: tuple[float, float, float], yaw: float, bits: tuple[int, int]
) -> None:
    """Mount a Panda called `name` at `pos` (m), turned by `yaw` (rad), colliding by `bits` (contype, conaffinity).

    Adds joints "<name>/joint1" ..., slides, actuators, site and camera as `arm.add_arm` does.
    """
    body = spec.worldbody.add_body(
        name=f"{name}/base", pos=list(pos), quat=[np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)], gravcomp=1
    )
    add_capsule(body, (-0.10, 0, 0.05), (0, 0, 0.05), 0.06, DARK, (0, 0))
    links = []
    for k, (joint, (mass, centre, inertia)) in enumerate(zip(JOINTS, _LINKS)):
        a, alpha, d = DH[k]
        body = body.add_body(
            name=f"{name}/{joint}", pos=[a, -np.sin(alpha) * d, np.cos(alpha) * d], gravcomp=1, mass=mass,
            quat=[np.cos(alpha / 2), np.sin(alpha / 2), 0, 0], ipos=list(centre), fullinertia=list(inertia),
            explicitinertial=True,
        )  # fmt: skip
        body.add_joint(
            name=f"{name}/{joint}", type=mujoco.mjtJoint.mjJNT_HINGE, axis=[0, 0, 1], range=[LOW[k], HIGH[k]],
            armature=ARMATURE, damping=DAMPING,
        )  # fmt: skip
        links.append(body)
    _dress(links, bits)
    hand = _add_hand(links[-1], name, bits)
    hand.add_site(name=f"{name}/tcp", pos=[PINCH, 0, 0], size=[0.002] * 3, rgba=[0, 0, 0, 0])
    add_wrist_camera(hand, name, yaw, EYE, LOOK)
    add_fingers(hand, name, PINCH, PALM, (_ROOT, _ROOT), bits)
    add_servos(spec, name, JOINTS, list(zip(KP, FORCE, KV)))


def _add_hand(flange, name: str, bits: tuple[int, int]):
    """The hand's body, whose axes are the tool's: along the fingers, closing, and forward."""
    c, s = np.cos(HAND), np.sin(HAND)
    axes = np.array([(0.0, s, c), (0.0, -c, s), (1.0, 0.0, 0.0)])  # columns: the hand's z, -y and x
    quat = np.empty(4)
    mujoco.mju_mat2Quat(quat, axes.ravel())
    mass, centre, inertia = _HAND
    hand = flange.add_body(
        name=f"{name}/hand", pos=[0, 0, FLANGE], quat=quat, gravcomp=1, mass=mass, ipos=list(centre),
        fullinertia=list(inertia), explicitinertial=True,
    )  # fmt: skip
    add_box(hand, (_ALONG[0], 0, 0), (_ALONG[0], _DEEP[0], _DEEP[1]), DARK, bits)
    add_box(hand, (PALM - _ALONG[1], 0, 0), (_ALONG[1], _ACROSS, 0.02), SHELL, bits)
    return hand
