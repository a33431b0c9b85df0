"""What the tests of the senses share: keys, a digest, and a desk whose arm holds a tile."""

import hashlib

import numpy as np

from mindhand.core.keys import Key
from mindhand.worlds.desk.kinematics import to_rot6d, tool_down
from mindhand.worlds.desk.senses import Senses
from mindhand.worlds.desk.world import DeskWorld

SHAPES = {"front": (128, 128), "wrist": (64, 64)}
EVERYTHING = Senses(
    depth=("front", "wrist"), segmentation=("front", "wrist"), stereo=0.05, points=256, views=("front", "wrist"),
    touch=True, noise=1.0,
)  # fmt: skip


def key(index, task="maths_matching/R"):
    return Key("senses", task, index)


def digest(extras):
    """Of names, types and every bit."""
    out = hashlib.sha256()
    for name, x in extras.items():
        out.update(name.encode() + str(x.dtype).encode() + x.tobytes())
    return out.hexdigest()


def holding():
    """A world whose first row holds a tile still in the air, and whose second is at its start."""
    made = DeskWorld(rows=2)
    made.reset([key(0), key(1)], [0, 1])
    while not (made._stages[0].positions[:, 2] > 0.05).any():
        action = made.expert([0])
        made.step(action, [0])
    seen = made.observe([0], ()).state[0, 0]
    still = np.concatenate([seen[:3], to_rot6d(tool_down(made._stages[0].yaw)), [action[0, 9]]])
    for _ in range(25):
        made.step(still[None], [0])
    made.observe([0, 1])
    return made
