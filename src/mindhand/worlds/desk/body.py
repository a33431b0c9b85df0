"""What differs between the arms that can stand at the desk: their kinematics, where they stand, how they are built."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import mujoco
import numpy as np

from mindhand.core.errors import BadData
from mindhand.core.spec import Spec

from . import kinematics, panda_kinematics
from .arm import add_arm
from .kinematics import Solution
from .panda import add_panda
from .spec import HOME, JOINT_STEP, PANDA_JOINT_STEP, PANDA_POS, PANDA_SPEC, PANDA_WORKSPACE, SPECS, WORKSPACE

ARM = "arm"
ARM_POS = (-0.41, 0.0, 0.0)  # the frame "arm_base" is the table's, moved here and not turned


@dataclass(frozen=True, eq=False)
class Mount:
    """Where an arm stands: its name in the model, what names of the second of two end with, where its base is (3,) m,
    where its TCP is at home (3,) m, and the diagonal of its base's axes: the first arm looks to +x and its frame is the
    table's, moved; the second looks to -x and its frame is also turned half about z."""

    name: str
    suffix: str
    base: np.ndarray
    home: tuple[float, float, float]
    axes: np.ndarray

    def local(self, position: np.ndarray) -> np.ndarray:
        """A position (3,) m of the table's frame in the base's."""
        return (position - self.base) * self.axes

    def turned(self, rotation: np.ndarray) -> np.ndarray:
        """A rotation (3,3) of the table's frame in the base's."""
        return rotation * self.axes[:, None]


@dataclass(frozen=True, eq=False)
class Body:
    """A kind of arm. joints: their names, J of them; low, high (J,) rad, their limits; rest (J,): where a search for
    joints begins; step: the most that one moves in a control step (rad); workspace: low and high x, y, z (m) of the TCP
    in the base's frame; mounts: where the first one stands, and the second where there may be two; specs: by how many;
    forward, inverse: of `kinematics`; add: into a model, as `arm.add_arm`."""

    name: str
    joints: tuple[str, ...]
    low: np.ndarray
    high: np.ndarray
    rest: np.ndarray
    step: float
    workspace: tuple[tuple[float, float], ...]
    mounts: tuple[Mount, ...]
    specs: Mapping[int, Spec]
    forward: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
    inverse: Callable[[Sequence[float] | np.ndarray, np.ndarray, np.ndarray], Solution]
    add: Callable[[mujoco.MjSpec, str, tuple[float, float, float], float, tuple[int, int]], None]


_AS_TABLE, _TURNED = np.array([1.0, 1.0, 1.0]), np.array([-1.0, -1.0, 1.0])
VIPERX = Body(
    "viperx", kinematics.JOINTS, kinematics.LOW, kinematics.HIGH, np.zeros(6), JOINT_STEP, WORKSPACE,
    (
        Mount(ARM, "", np.array(ARM_POS), HOME, _AS_TABLE),
        Mount("arm_right", "_right", np.array([-ARM_POS[0], 0.0, 0.0]), (-HOME[0], *HOME[1:]), _TURNED),
    ),
    SPECS, kinematics.forward, kinematics.inverse, add_arm,
)  # fmt: skip
PANDA = Body(
    "panda", panda_kinematics.JOINTS, panda_kinematics.LOW, panda_kinematics.HIGH, panda_kinematics.REST,
    PANDA_JOINT_STEP, PANDA_WORKSPACE, (Mount(ARM, "", np.array(PANDA_POS), HOME, _AS_TABLE),), {1: PANDA_SPEC},
    panda_kinematics.forward, panda_kinematics.inverse, add_panda,
)  # fmt: skip
BODIES = {b.name: b for b in (VIPERX, PANDA)}


def body_of(name: str, arms: int) -> Body:
    """The body of this name; refuses one that there is not, and more arms of it than there are mounts for."""
    if name not in BODIES:
        raise BadData(f"a desk with the body '{name}'", f"one of {tuple(BODIES)}", "correct body=")
    body = BODIES[name]
    if arms not in body.specs:
        raise BadData(f"a desk with {arms} arms, body '{name}'", f"one of {tuple(body.specs)}", "correct arms=")
    return body
