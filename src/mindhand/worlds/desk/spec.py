"""What the desk promises to a policy: its spec, its limits. No simulator here, so this is quick to import."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mindhand.core.spec import Camera, Part, Spec

SECONDS = 0.05  # a control step
LIMITS = {1: 150, 2: 260}  # control steps allowed, by digits of the answer: twice what the expert takes
PLACING_LIMIT = 150  # control steps to place a toy
REFUSAL_LIMIT = 100  # control steps to leave everything alone: twice what the expert takes to close upon a thing
COURSE_LIMIT = 200  # and to do so among obstacles
HEIGHTS_LIMIT = 60  # control steps until a hand must be held over a block: twice what the expert takes
HIDDEN_LIMIT = 300  # and to touch what was asked for: twice what the expert takes
JOINT_STEP = np.pi * SECONDS  # rad a control step: the arm's top speed
SHUT = 0.75  # a gripper narrower than this may hold a tile (at 0.69 the pads touch one)
EMPTY = 0.1  # and one narrower than this holds nothing (0.24 holds a tile that stands on its edge)
GRIPPER_STEP = 0.34  # a faster close drives the pads into a tile
WORKSPACE = ((0.08, 0.62), (-0.40, 0.40), (0.009, 0.45))  # TCP x, y, z in the frame of an arm's base
# What a random policy of one arm spans; of two: np.tile(ACTION_LOW, 2).
ACTION_LOW = np.array([low for low, _ in WORKSPACE] + [-1.0] * 6 + [0.0], np.float32)
ACTION_HIGH = np.array([high for _, high in WORKSPACE] + [1.0] * 6 + [1.0], np.float32)
HAND = ("hand shut", "hand full", "hand open")  # the gripper in words: up to EMPTY, up to SHUT, wider
HOME = (-0.225, -0.03, 0.15)  # TCP, table frame: out of the front picture; a second arm's is its mirror image in x
START_SPREAD = 0.02  # m: the first pose lies this close to HOME, each way


# A Panda in its stead covers the same table from farther away; its own top speed.
PANDA_POS, PANDA_JOINT_STEP = (-0.62, 0.0, 0.0), 2.175 * SECONDS
PANDA_WORKSPACE = ((0.29, 0.83), *WORKSPACE[1:])
PANDA_LOW, PANDA_HIGH = ACTION_LOW.copy(), ACTION_HIGH.copy()
PANDA_LOW[0], PANDA_HIGH[0] = PANDA_WORKSPACE[0]


def _pose(suffix: str, frame: str) -> tuple[Part, ...]:
    """What an action says of an arm, and a state too: names end with `suffix`."""
    return (
        Part(f"tcp{suffix}", "position", ("x", "y", "z"), "m", frame=frame),
        Part(f"tool{suffix}", "rotation", ("xx", "xy", "xz", "yx", "yy", "yz"), "1", frame=frame, rotation="rot6d"),
        Part(f"gripper{suffix}", "gripper", ("open",), "1", polarity="open"),
    )


_POSE = _pose("", "arm_base")
SPEC = Spec(
    robot="desk-viperx",
    action=_POSE,
    state=_POSE,
    cameras=(
        Camera("front", 128, 128, source=(128, 128)),
        Camera("wrist", 64, 64, source=(128, 128), interpolation="area"),
    ),
    rate=1 / SECONDS,
)
_POSES = (*_POSE, *_pose("_right", "right_arm_base"))
SPECS = {  # by the number of arms
    1: SPEC,
    2: replace(
        SPEC,
        robot="desk-viperx-2",
        action=_POSES,
        state=_POSES,
        cameras=(*SPEC.cameras, replace(SPEC.cameras[1], role="wrist_right")),
    ),
}
PANDA_SPEC = replace(SPEC, robot="desk-panda")
