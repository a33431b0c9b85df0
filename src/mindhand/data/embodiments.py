"""Several robots in one batch: vectors of different sizes padded to the longest, with a mask of what is a robot's own.

A `Mixture` says which rows make a batch; here they become arrays of one size. Each robot is normalised by statistics of
its own, measured on its own data before anything is padded, and `valid` (B,H,A) rules the loss as it is:
`core.batch.masked_rows(error, x.valid)` sees neither padding nor steps past an episode's end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mindhand.core.errors import BadData

from .episodes import gather
from .mixture import SampleSet
from .reader import Reader
from .statistics import Mode, Statistics, Which, measure

NOBODY = -1  # the embodiment of a row without a robot


@dataclass(frozen=True)
class Padded:
    """B rows: state float32 (B,S) and actions (B,H,A) of the largest sizes, 0 where a robot has no such dimension;
    state_valid bool (B,S); valid bool (B,H,A), False there and after an episode's end; embodiment int64 (B,)."""

    state: np.ndarray
    state_valid: np.ndarray
    actions: np.ndarray
    valid: np.ndarray
    embodiment: np.ndarray


class Embodiments:
    """Datasets of several robots, numbered in their order, and the statistics of each; `horizon` H commands follow a
    frame. SpecMismatch where statistics are another robot's, BadData where they are not of actions as recorded."""

    def __init__(self, readers: Sequence[Reader], statistics: Sequence[Statistics], horizon: int):
        if not readers or len(readers) != len(statistics) or horizon < 1:
            raise BadData(
                f"{len(readers)} datasets with {len(statistics)} statistics and {horizon} steps",
                "statistics of each, and a step or more",
                "measure them: Embodiments.measured",
            )
        for reader, s in zip(readers, statistics):
            s.require(reader.spec, f"{reader.path}")
            if s.actions != "as recorded":
                raise BadData(f"statistics of actions '{s.actions}'", "'as recorded'", "measure them as recorded")
        self.readers, self.statistics, self.horizon = tuple(readers), tuple(statistics), horizon
        self.state_size = max(r.spec.state_size for r in readers)
        self.action_size = max(r.spec.action_size for r in readers)

    @staticmethod
    def measured(readers: Sequence[Reader], horizon: int, mode: Mode = "q01_q99") -> Embodiments:
        """With statistics measured on all episodes of each dataset."""
        return Embodiments(readers, [measure(r.vectors(), r.spec, mode=mode) for r in readers], horizon)

    def sets(self, weights: Sequence[float] | None = None) -> list[SampleSet]:
        """For a `Mixture`: every frame of each dataset."""
        return [
            SampleSet(f"{i}/{r.spec.robot}", "robot", np.arange(len(r)), w, i)
            for i, (r, w) in enumerate(zip(self.readers, weights or (1.0,) * len(self.readers)))
        ]

    def padded(self, embodiment: np.ndarray, index: np.ndarray) -> Padded:
        """Rows of global frames `index` (B,) of the datasets `embodiment` (B,), in robot units; NOBODY has no valid
        number. BadData for a number that names no dataset."""
        embodiment, index = np.asarray(embodiment, np.int64), np.asarray(index, np.int64)
        if ((embodiment < NOBODY) | (embodiment >= len(self.readers))).any():
            raise BadData(f"embodiments {np.unique(embodiment)}", f"{NOBODY}..{len(self.readers) - 1}", "number them")
        rows = len(index)
        state, state_valid = np.zeros((rows, self.state_size), np.float32), np.zeros((rows, self.state_size), bool)
        actions = np.zeros((rows, self.horizon, self.action_size), np.float32)
        valid = np.zeros(actions.shape, bool)
        for k, reader in enumerate(self.readers):
            at = np.flatnonzero(embodiment == k)
            s, a = reader.spec.state_size, reader.spec.action_size
            ends = reader.ends[np.searchsorted(reader.begins, index[at], "right") - 1]
            chunks, inside = gather(reader.action, index[at], ends, self.horizon)
            state[at, :s], state_valid[at, :s] = reader.state[index[at]], True
            actions[at, :, :a], valid[at, :, :a] = chunks, inside[..., None]
        return Padded(state, state_valid, actions, valid, embodiment)

    def normalise(self, x: Padded) -> Padded:
        """Each row by its robot's statistics; whatever is not valid becomes 0."""
        return self._each(x, Statistics.normalise)

    def restore(self, x: Padded) -> Padded:
        """The inverse of `normalise`, in robot units."""
        return self._each(x, Statistics.restore)

    def _each(self, x: Padded, change: Callable[[Statistics, Which, np.ndarray], np.ndarray]) -> Padded:
        out: dict[Which, np.ndarray] = {"state": np.zeros_like(x.state), "action": np.zeros_like(x.actions)}
        for k, (reader, s) in enumerate(zip(self.readers, self.statistics)):
            at = x.embodiment == k
            for which, values, size in (
                ("state", x.state, reader.spec.state_size),
                ("action", x.actions, reader.spec.action_size),
            ):
                out[which][at, ..., :size] = change(s, which, values[at, ..., :size])
        state, actions = np.where(x.state_valid, out["state"], 0), np.where(x.valid, out["action"], 0)
        return replace(x, state=state.astype(np.float32), actions=actions.astype(np.float32))
