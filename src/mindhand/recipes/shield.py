"""Records of the shield: whether AEGIS holds its constraint in random states, and leaves what it need not change.

mindhand bench shield        from a clean checkout
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import mindhand.core
import mindhand.kit.ellipsoids
import mindhand.methods.guard.aegis
import mindhand.worlds.desk.spec
from mindhand.core.keys import Key, Keys
from mindhand.core.nouns import Observation
from mindhand.core.record import Record, write_record
from mindhand.core.rotation import from_matrix, to_matrix
from mindhand.kit.ellipsoids import separate
from mindhand.methods.guard.aegis import OBSTACLES, SLOTS, VALID, correct
from mindhand.worlds.desk.spec import SPEC, WORKSPACE

SOURCES = (
    Path(__file__), mindhand.core, mindhand.kit.ellipsoids, mindhand.methods.guard.aegis, mindhand.worlds.desk.spec,
)  # fmt: skip
STATES = 10_000
SLACK = 1e-6  # m: a command is rounded to float32


def row(index: int, shield: Any = None) -> dict[str, Any]:
    """One random state of the desk: a hand anywhere in the workspace, turned anyhow, one to three ellipsoids about it,
    a command up to 6 cm away; and what the shield, AEGIS unless given, makes of it.

    apart, after: m between gripper and nearest obstacle, before and where the command leads, less than 0 in one. far:
    every obstacle is so far away that no such move asks for a change. violation: some obstacle is nearer after than
    (1 - alpha dt) of before, or deeper in the gripper than before, or a command was changed, be it by a bit, in a far
    state.
    """
    shield = shield or correct(SPEC)
    key = Key("shield-1", "random", index)
    keys = Keys.of([key])
    low, high = np.array(WORKSPACE).T
    place = low + keys.fold("place").uniform(3)[0] * (high - low)
    turn = to_matrix(keys.fold("turn").normal(4)[0], "quat_wxyz")
    told, there = np.zeros((1, SLOTS, 3, 4)), np.zeros((1, SLOTS), bool)
    for k in range(1 + int(keys.fold("count").integers(3)[0])):
        one = keys.fold("obstacle", k)
        axes = to_matrix(one.fold("turn").normal(4)[0], "quat_wxyz")
        size = 0.01 + 0.09 * one.fold("size").uniform(3)[0]
        away = one.fold("away").normal(3)[0]
        away *= (0.05 + 0.30 * one.fold("far").uniform()[0]) / np.linalg.norm(away)
        told[0, k] = np.column_stack([axes @ np.diag(size) @ axes.T, place + away])
        there[0, k] = True
    move = keys.fold("move").normal(3)[0]
    move *= 0.06 * keys.fold("long").uniform()[0] / np.linalg.norm(move)
    state = np.concatenate([place, from_matrix(turn, "rot6d"), [1.0]]).astype(np.float32)
    extras = {OBSTACLES: told, VALID: there}
    now = Observation({}, state[None, None], {"instruction": ("go",)}, np.zeros((1, 1)), (key,), extras=extras)
    action = state[None].copy()
    action[0, :3] += move
    out, _ = shield(action, now, {})

    def gaps(at: np.ndarray) -> np.ndarray:
        _, centre, s_e = aegis.pose(np.concatenate([at, state[3:]]))
        fat = aegis.config.margin * np.eye(3)
        return np.array([separate(o[:, 3] - centre, s_e, o[:, :3] + fat)[1] for o in told[0][there[0]]])

    aegis: Any = correct(SPEC)
    # The world takes a command outside of its workspace for the nearest one inside.
    to = np.clip(out.action[0, :3], np.minimum(low, state[:3]), np.maximum(high, state[:3]))
    before, after = gaps(state[:3]), gaps(to)
    left = 1 - aegis.config.alpha / SPEC.rate
    length = float(np.linalg.norm(action[0, :3].astype(np.float64) - state[:3]))
    far = bool((before > length / (1 - left) + SLACK).all())
    changed = out.action.tobytes() != action.tobytes()
    broken = bool((after < np.where(before > 0, left * before, before) - SLACK).any())
    return {
        "key": key,
        "apart": float(before.min()),
        "after": float(after.min()),
        "far": far,
        "changed": changed,
        "violation": broken or (far and changed),
    }


def publish(folder: Path | None = None, states: int = STATES) -> list[Record]:
    """shield/violations/random: the share of random states in which the constraint was broken, or a far command was
    changed. Expected: none of 10,000, of which about a third are far and a third corrected."""
    return [
        write_record(
            "shield/violations/random",
            rows=[row(i) for i in range(states)],
            field="violation",
            kind="rate",
            unit="1",
            chance=None,
            sources=SOURCES,
            command="mindhand bench shield",
            folder=folder,
        )
    ]
