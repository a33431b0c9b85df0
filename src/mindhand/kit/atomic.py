"""Atomic commands: what a chunk of motion does, in one of a few words (CAST, arXiv 2508.13446, its atomic labels).

Left and right are the robot's, never the picture's: x forward, y left, z up of the frame that the spec names for the
tool point (REP 103). Of a robot that looks another way in that frame (Meta-World's looks along y) they are the frame's.
Units, modes and conventions are read from the spec.
Letters: n chunks, H steps, A action, S state, T time.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mindhand.core.errors import BuildError
from mindhand.core.rotation import to_matrix
from mindhand.core.spec import Part, Spec

from .still import UNITS

MOVES = ("move forward", "move back", "move left", "move right", "move up", "move down")  # +x -x +y -y +z -z
COMMANDS = (*MOVES, "rotate", "open", "close", "stop")
ROTATE, OPEN, CLOSE, STOP = range(len(MOVES), len(COMMANDS))
NONE = -1  # of a chunk without a valid step
_NAMED = re.compile(rf"\b(?:{'|'.join(MOVES)})\b")


@dataclass(frozen=True)
class Thresholds:
    """What a chunk must do to be called so."""

    move: float = 0.02  # m along one axis
    turn: float = 0.3  # rad of the tool, about any axis
    grip: float = 0.3  # of the gripper's own numbers, within the chunk


def named(text: str) -> int:
    """The motion that a text names ("move left to the cup"), NONE where it names none, or several."""
    found = set(_NAMED.findall(text.lower()))
    return COMMANDS.index(found.pop()) if len(found) == 1 else NONE


def _one(parts: Sequence[Part], kind: str, spec: Spec, needed: bool = False) -> Part | None:
    found = [p for p in parts if p.kind == kind]
    if len(found) > 1 or (needed and (len(found) != 1 or found[0].size != 3)):
        raise BuildError(
            f"atomic commands of {spec.robot}: {[(p.name, p.size) for p in found]} of kind '{kind}'",
            "one tool point x, y, z, and at most one rotation and one gripper",
            "label the action of one arm",
        )
    return found[0] if found else None


class Labeller:
    """Chunks of a spec's actions to numbers of `COMMANDS`, by the first that holds: the gripper opens or closes, the
    tool point moves by the threshold (along the axis on which it moves most), the tool turns, nothing does (stop).

    An absolute chunk moves from where the state says that the tool is, and from its own first command where no part of
    the state has that name; a relative one ("to the measured state at chunk start") is its last step; deltas are added
    up. Grippers are told by the commands within a chunk: what is measured is no command while a thing is held."""

    def __init__(self, spec: Spec, thresholds: Thresholds = Thresholds()):
        self.spec, self.thresholds = spec, thresholds
        self.point = _one(spec.action, "position", spec, needed=True)
        self.tool, self.gripper = (_one(spec.action, kind, spec) for kind in ("rotation", "gripper"))

    def _measured(self, part: Part, state: np.ndarray) -> tuple[Part, np.ndarray] | None:
        same = [p for p in self.spec.state if (p.name, p.kind, p.frame) == (part.name, part.kind, part.frame)]
        return (same[0], state[:, self.spec.part(part.name, "state")]) if same else None

    def place(self, state: np.ndarray) -> np.ndarray:
        """Where the tool point is measured: (n,S) to (n,3) m, in its frame. BuildError where no state says so."""
        known = self._measured(self.point, state)
        if known is None:
            raise BuildError(f"no place of '{self.point.name}' in the state of {self.spec.robot}", "one", "measure it")
        return known[1].astype(np.float64) * UNITS[known[0].unit]

    def way(self, actions: np.ndarray, valid: np.ndarray, state: np.ndarray) -> np.ndarray:
        """How far the tool point is commanded forward, left and up: (n,3) m."""
        x = actions[..., self.spec.part(self.point.name)].astype(np.float64) * UNITS[self.point.unit]
        if self.point.mode == "delta":
            return (x * valid[..., None]).sum(1)
        out = x[np.arange(len(x)), _last(valid)]
        if self.point.mode == "absolute":
            out = out - (x[:, 0] if self._measured(self.point, state) is None else self.place(state))
        return out

    def turn(self, actions: np.ndarray, valid: np.ndarray, state: np.ndarray) -> np.ndarray:
        """How far the tool is commanded to turn: (n,) rad, 0 where the action has no rotation."""
        if self.tool is None:
            return np.zeros(len(actions))
        x, last = actions[..., self.spec.part(self.tool.name)], _last(valid)
        r = to_matrix(x, self.tool.rotation, self.tool.unit)
        if self.tool.mode == "delta":
            whole = np.broadcast_to(np.eye(3), (len(r), 3, 3))
            for t in range(r.shape[1]):
                whole = np.where(valid[:, t, None, None], r[:, t] @ whole, whole)
        else:
            whole = r[np.arange(len(r)), last]
            if self.tool.mode == "absolute":
                known = self._measured(self.tool, state)
                first = r[:, 0] if known is None else to_matrix(known[1], known[0].rotation, known[0].unit)
                whole = whole @ np.swapaxes(first, -1, -2)
        return np.arccos(np.clip((np.trace(whole, axis1=-2, axis2=-1) - 1) / 2, -1.0, 1.0))

    def opening(self, actions: np.ndarray) -> np.ndarray:
        """How far open the gripper is commanded, (...,H): more is wider. Zeros where there is none."""
        if self.gripper is None:
            return np.zeros(actions.shape[:-1])
        x = actions[..., self.spec.part(self.gripper.name)].mean(-1).astype(np.float64)
        x = x if self.gripper.polarity == "open" else -x
        return x.cumsum(-1) if self.gripper.mode == "delta" else x

    def contact(self, action: np.ndarray) -> int:
        """The first frame of an episode's action (T,A) at which the gripper has begun to close; T where it never does.
        What is before is pre-contact."""
        opening = self.opening(action)
        shut = np.maximum.accumulate(opening) - opening > self.thresholds.grip
        return int(shut.argmax()) if shut.any() else len(action)

    def towards(self, way: np.ndarray) -> np.ndarray:
        """Ways forward, left and up (n,3) m to a move each, or STOP below the threshold: int64 (n,)."""
        axis = np.abs(way).argmax(1)
        along = way[np.arange(len(way)), axis]
        return np.where(np.abs(along) >= self.thresholds.move, 2 * axis + (along < 0), STOP)

    def __call__(self, actions: np.ndarray, valid: np.ndarray, state: np.ndarray) -> np.ndarray:
        """actions (n,H,A), valid (n,H) from the left, and the state (n,S) they begin in, to int64 (n,), NONE where no
        step is valid."""
        move = self.towards(self.way(actions, valid, state))
        opening = self.opening(actions)
        grip = opening[np.arange(len(actions)), _last(valid)] - opening[:, 0]
        if self.gripper is not None and self.gripper.mode == "delta":  # the first step is a change, too
            grip = grip + opening[:, 0]
        c = self.thresholds
        still = np.where(self.turn(actions, valid, state) >= c.turn, ROTATE, STOP)
        out = np.where(move == STOP, still, move)
        out = np.where(grip >= c.grip, OPEN, np.where(grip <= -c.grip, CLOSE, out))
        return np.where(valid.any(1), out, NONE)


def _last(valid: np.ndarray) -> np.ndarray:
    return np.maximum(valid.sum(1) - 1, 0)


DRIVES = ("turn left", "turn right", "adjust left", "adjust right", "go forward", "stop")


def drives(poses: np.ndarray, most: int = 10) -> list[tuple[int, int, str]]:
    """The paper's navigation labels, of its public code: a path (T,3) of x, y (m) and yaw (rad) in chunks (first pose,
    last pose, command), each grown until it has turned by 0.9 rad or made `most` steps. Chunks that turn between 0.5
    and 0.9 rad are none of these, and left out."""
    out, begin = [], 0
    yaws = np.unwrap(poses[:, 2])
    while begin < len(poses) - 1:
        end = begin + 1
        while end < len(poses) - 1 and end - begin < most and abs(yaws[end] - yaws[begin]) < 0.9:
            end += 1
        turn, far = yaws[end] - yaws[begin], np.linalg.norm(poses[end, :2] - poses[begin, :2])
        side = "left" if turn > 0 else "right"
        if abs(turn) > 0.9:
            out.append((begin, end, f"turn {side}"))
        elif far > 0.5 and abs(turn) < 0.1:
            out.append((begin, end, "go forward"))
        elif far < 0.5:
            out.append((begin, end, "stop"))
        elif 0.1 <= abs(turn) <= 0.5:
            out.append((begin, end, f"adjust {side}"))
        begin = end
    return out
