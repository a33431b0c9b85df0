"""The Episode: the arrays of one demonstration in memory, and the chunks of actions cut from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from mindhand.core.errors import BadData
from mindhand.core.keys import Key
from mindhand.core.spec import Spec


@dataclass(frozen=True)
class Episode:
    """One episode of T frames at the Spec's control rate.

    images {role: uint8 (T,h,w,3)}; state float32 (T,S) measured before the
    action; action float32 (T,A) the command given at that frame; reasoning: T strings, the text of the sub-step a
    frame belongs to ("" where there is none); labels {name: float32 (T,k)} are privileged targets for auxiliary
    losses ("gaze": pixels), NaN where there is none; success None where nobody judged it; key names it, if it has one.
    """

    images: Mapping[str, np.ndarray]
    state: np.ndarray
    action: np.ndarray
    instruction: str
    reasoning: Sequence[str] = ()
    success: bool | None = None
    key: Key | None = None
    labels: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "state", np.asarray(self.state, np.float32))
        object.__setattr__(self, "action", np.asarray(self.action, np.float32))
        object.__setattr__(self, "reasoning", tuple(self.reasoning) or ("",) * len(self.state))
        object.__setattr__(self, "labels", {k: np.asarray(v, np.float32) for k, v in self.labels.items()})
        lengths = {"state": len(self.state), "action": len(self.action), "reasoning": len(self.reasoning)}
        lengths |= {f"label '{name}'": len(x) for name, x in self.labels.items()}
        lengths |= {f"image '{role}'": len(x) for role, x in self.images.items()}
        if len(set(lengths.values())) != 1 or not len(self.state):
            raise BadData(f"an episode with lengths {lengths}", "equal lengths of at least 1", "record them together")
        for name in ("state", "action"):
            x = getattr(self, name)
            if x.ndim != 2 or not np.isfinite(x).all():
                raise BadData(
                    f"episode {self.key}: {name} of shape {x.shape}"
                    + ("" if x.ndim != 2 else f" holds NaN or infinity, first at {_first(~np.isfinite(x))}"),
                    "finite numbers (frames, dimensions)",
                    "find the sensor or the division that made it; it is never replaced by zero",
                )
        for role, x in self.images.items():
            if x.dtype != np.uint8 or x.ndim != 4 or x.shape[-1] != 3:
                raise BadData(f"image '{role}' is {x.dtype} {x.shape}", "uint8 (T,h,w,3)", "cast at the camera")

    def __len__(self) -> int:
        return len(self.state)

    def require(self, spec: Spec, sizes: Mapping[str, tuple[int, int]], labels: Mapping[str, int]) -> None:
        """Raises BadData where the arrays are not what `spec` declares; sizes {role: (h,w)} of the pictures,
        labels {name: k} of the labels."""
        vectors = {"state": (self.state.shape[1], spec.state_size), "action": (self.action.shape[1], spec.action_size)}
        for name, (mine, theirs) in vectors.items():
            if mine != theirs:
                raise BadData(f"episode {self.key}: {name} of {mine} dimensions", f"{theirs}", f"check {spec.robot}")
        if (mine := {name: x.shape[1] for name, x in self.labels.items() if x.ndim == 2}) != dict(labels):
            raise BadData(
                f"episode {self.key}: labels {mine}", f"{dict(labels)}", "declare them when opening the writer"
            )
        if set(self.images) != set(spec.roles):
            raise BadData(
                f"episode {self.key}: cameras {sorted(self.images)}",
                f"{sorted(spec.roles)}",
                "record every camera of the spec; one that is never there does not belong in the spec",
            )
        for role, x in self.images.items():
            if x.shape[1:3] != sizes[role]:
                raise BadData(
                    f"episode {self.key}: camera '{role}' gave {x.shape[1:3]} pictures",
                    f"{sizes[role]}",
                    "store all pictures at the source size of the spec (pictures='source'), or all as the model sees "
                    "them (pictures='model', for worlds that crop and resize as the spec says)",
                )


def _first(bad: np.ndarray) -> tuple[int, ...]:
    return tuple(int(i) for i in np.argwhere(bad)[0])


def gather(action: np.ndarray, index: np.ndarray, end: np.ndarray, horizon: int) -> tuple[np.ndarray, np.ndarray]:
    """Chunks that begin at frames `index` (B,) of concatenated episodes `action` (N,A).

    `end` (B,) is the first frame that no longer belongs to the episode. Returns actions (B,H,A) and valid (B,H):
    after the end the last action is repeated and valid is False.
    """
    index, end = np.asarray(index, np.int64), np.asarray(end, np.int64)
    if ((index < 0) | (index >= end) | (end > len(action))).any():
        raise BadData("a chunk that begins outside its episode", "0 <= index < end <= frames", "check the frame index")
    at = index[:, None] + np.arange(horizon)
    return action[np.minimum(at, end[:, None] - 1)], at < end[:, None]


def chunk(action: np.ndarray, t: int, horizon: int) -> tuple[np.ndarray, np.ndarray]:
    """The chunk of one episode's `action` (T,A) that begins at frame t: actions (H,A), valid (H,)."""
    actions, valid = gather(action, np.array([t]), np.array([len(action)]), horizon)
    return actions[0], valid[0]
