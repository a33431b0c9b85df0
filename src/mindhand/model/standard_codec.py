"""Actions as they are commanded, with mean 0 and standard deviation 1: the codec of ACT and of much imitation learning.

Beside `ChunkCodec` nothing is made relative to where the hand is, and nothing is bounded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mindhand.core.batch import Batch
from mindhand.core.convert import FLAT
from mindhand.core.errors import BadCheckpoint, BadData
from mindhand.core.rotation import from_matrix, to_matrix
from mindhand.core.seams import Code, Decoded
from mindhand.core.spec import Spec

from . import fits
from .codec import hold, no_rotation

FLOOR = 1e-2  # smallest standard deviation: a dimension that never moves must not be divided by nothing
VERSION = "standard-1"  # the convention, stored with the numbers


@dataclass(frozen=True)
class StandardConfig:
    """Nothing to choose: the numbers come from the data, conventions from the spec."""


class StandardCodec(nn.Module):
    """Codec (core/seams.py): (x - mean) / std, each number for itself; rotations are made rotations again."""

    part_name = "standard_codec"
    mean: Tensor
    std: Tensor

    def __init__(self, spec: Spec, config: StandardConfig = StandardConfig()):
        super().__init__()
        self.spec, self.config = spec, config
        self.register_buffer("mean", torch.full((spec.action_size,), float("nan")), persistent=False)
        self.register_buffer("std", torch.ones(spec.action_size), persistent=False)

    @property
    def size(self) -> int:
        """A'."""
        return self.spec.action_size

    @property
    def provides(self) -> frozenset[str]:
        """Chunks of so many numbers a step."""
        return frozenset({fits.numbers(self.size)})

    def fit(self, batches: Iterator[Batch]) -> None:
        """Over the valid steps of all chunks. BadData where there is none."""
        count, total, square = 0, np.zeros(self.size), np.zeros(self.size)
        first: np.ndarray | None = None  # sums are of what differs from it: those of squares would lose the digits
        for b in batches:
            if b.actions is None or b.action_valid is None:
                continue
            x = b.actions[b.action_valid].double().cpu().numpy()
            if len(x):
                first = x[0] if first is None else first
                count, total, square = count + len(x), total + (x - first).sum(0), square + ((x - first) ** 2).sum(0)
        if first is None:
            raise BadData("no valid action to take a mean of", "robot samples in the batches", "check the source")
        spread = np.sqrt(np.maximum(square / count - (total / count) ** 2, 0))
        self.mean.copy_(torch.from_numpy(first + total / count))
        self.std.copy_(torch.from_numpy(spread).clamp_min(FLOOR))

    def statistics(self) -> dict[str, Any]:
        """What a checkpoint stores."""
        return {"codec": VERSION, "mean": self.mean.tolist(), "std": self.std.tolist()}

    def load_statistics(self, stored: Mapping[str, Any]) -> None:
        """The inverse of `statistics`; refuses another convention or size."""
        sizes = {len(stored.get(n, ())) for n in ("mean", "std")}
        if stored.get("codec") != VERSION or sizes != {self.size}:
            what, do = f"action statistics '{stored.get('codec')}' of size {sizes}", "load one of this codec and robot"
            raise BadCheckpoint(what, f"'{VERSION}' of size {self.size}", do)
        self.mean.copy_(torch.tensor(stored["mean"]))
        self.std.copy_(torch.tensor(stored["std"]))

    def _fitted(self) -> None:
        if bool(torch.isnan(self.mean).any()):
            raise BadCheckpoint("the codec has no statistics", "fit(batches) or a checkpoint's", "fit it first")

    def encode(self, actions: Tensor, valid: Tensor, state: Tensor | None) -> Code:
        """actions (B,H,A) in robot units; invalid steps are coded as zeros."""
        self._fitted()
        x = (actions - self.mean) / self.std
        return Code(torch.where(valid.unsqueeze(-1), x, torch.zeros_like(x)), valid)

    def decode(self, code: Code, state: Tensor | None) -> Decoded:
        """A row that is not finite, or no rotation, holds the measured state and counts."""
        self._fitted()
        x = code.values.float() * self.std + self.mean
        good = (torch.isfinite(x).flatten(1).all(1) & ~no_rotation(self.spec, x)).cpu().numpy()
        assert state is not None
        y = np.repeat(hold(self.spec, state[:, -1])[:, None], x.shape[1], 1)
        y[good] = x.cpu().numpy()[good]
        for p in (p for p in self.spec.action if p.kind == "rotation" and p.rotation in FLAT):
            at = self.spec.part(p.name)
            y[..., at] = from_matrix(to_matrix(y[..., at], p.rotation), p.rotation)
        return Decoded(y.astype(np.float32), code.valid.cpu().numpy(), (~good).astype(np.int64))
