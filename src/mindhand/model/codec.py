"""Actions <-> what is learned: relative to where the hand is, scaled to [-1, 1], and back. The default codec."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mindhand.core.batch import Batch
from mindhand.core.convert import converter
from mindhand.core.errors import BadCheckpoint, BadData
from mindhand.core.seams import Code, Decoded
from mindhand.core.spec import Part, Spec

from . import fits

FLOOR = 1e-2  # smallest half range: a dimension that never moves must not be divided by nothing
VERSION = "chunk-1"  # the convention below, stored with the numbers


@dataclass(frozen=True)
class CodecConfig:
    """Nothing to choose: ranges come from the data, conventions from the spec."""


class ChunkCodec(nn.Module):
    """Absolute commands -> relative to the state measured at the chunk's start -> min-max to [-1, 1].

    Positions subtract in the base frame, rotations compose as R_state^T R, whatever has no counterpart in the state
    and every gripper stays absolute. Ranges are those of training chunks, relative ones; nothing is clipped when
    encoding, since values outside are honest, and drawing bounds what it returns.
    """

    low: Tensor
    high: Tensor

    def __init__(self, spec: Spec, config: CodecConfig = CodecConfig()):
        super().__init__()
        self.spec, self.config = spec, config
        own = {p.name for p in spec.state}

        def relative(p: Part) -> Part:
            moves = p.kind in ("position", "rotation", "joint") and p.mode == "absolute" and p.name in own
            return replace(p, mode="relative") if moves else p

        coded = tuple(relative(p) for p in spec.action)
        self._encode = converter(spec.action, coded, state=spec.state)
        self._decode = converter(coded, spec.action, state=spec.state)
        self.register_buffer("low", torch.full((spec.action_size,), float("nan")), persistent=False)
        self.register_buffer("high", torch.full((spec.action_size,), float("nan")), persistent=False)

    @property
    def size(self) -> int:
        """A'."""
        return self.spec.action_size

    @property
    def provides(self) -> frozenset[str]:
        """Chunks of so many numbers a step."""
        return frozenset({fits.numbers(self.size)})

    def fit(self, batches: Iterator[Batch]) -> None:
        """Ranges over the valid steps of all chunks."""
        low, high = np.full(self.size, np.inf), np.full(self.size, -np.inf)
        for b in batches:
            if b.actions is None or b.action_valid is None or b.state is None:
                continue
            x = self._encode(b.actions.numpy(), b.state[:, -1].numpy())[b.action_valid.numpy()]
            if len(x):
                low, high = np.minimum(low, x.min(0)), np.maximum(high, x.max(0))
        if not np.isfinite(low).all():
            raise BadData("no valid action to take ranges from", "robot samples in the batches", "check the source")
        self.low.copy_(torch.from_numpy(low))
        self.high.copy_(torch.from_numpy(high))

    def statistics(self) -> dict[str, Any]:
        """What a checkpoint stores."""
        return {"codec": VERSION, "low": self.low.tolist(), "high": self.high.tolist()}

    def load_statistics(self, stored: Mapping[str, Any]) -> None:
        """The inverse of `statistics`; refuses another convention or size."""
        if stored.get("codec") != VERSION or len(stored.get("low", ())) != self.size:
            raise BadCheckpoint(
                f"action statistics '{stored.get('codec')}' of size {len(stored.get('low', ()))}",
                f"'{VERSION}' of size {self.size}",
                "load a checkpoint of this codec and robot",
            )
        self.low.copy_(torch.tensor(stored["low"]))
        self.high.copy_(torch.tensor(stored["high"]))

    def _scale(self) -> tuple[Tensor, Tensor]:
        if bool(torch.isnan(self.low).any()):
            raise BadCheckpoint("the codec has no statistics", "fit(batches) or a checkpoint's", "fit it first")
        return (self.high + self.low) / 2, ((self.high - self.low) / 2).clamp_min(FLOOR)

    def encode(self, actions: Tensor, valid: Tensor, state: Tensor | None) -> Code:
        """actions (B,H,A) and state (B,T,S) in robot units; invalid steps are coded as zeros."""
        middle, half = self._scale()
        out = torch.zeros_like(actions)
        rows = valid.any(1)
        if bool(rows.any()):
            safe = torch.where(valid.unsqueeze(-1), actions, actions[:, :1])[rows]  # no rotation is all zeros
            assert state is not None
            x = self._encode(safe.cpu().numpy(), state[rows][:, -1].cpu().numpy())
            out[rows] = (torch.from_numpy(x).to(actions) - middle) / half
        return Code(torch.where(valid.unsqueeze(-1), out, torch.zeros_like(out)), valid)

    def decode(self, code: Code, state: Tensor | None) -> Decoded:
        """Bounded to the ranges seen. A row that is not finite, or no rotation, holds the measured state and counts."""
        return self.restore(Code(code.values.float().clamp(-1, 1), code.valid), state)

    def restore(self, code: Code, state: Tensor | None) -> Decoded:
        """The same without bounds: for codecs that bound what they say themselves, in other ways."""
        middle, half = self._scale()
        x = code.values.float() * half + middle
        bad = ~torch.isfinite(x).flatten(1).all(1) | no_rotation(self.spec, x)
        assert state is not None
        held = hold(self.spec, state[:, -1])
        y = np.repeat(held[:, None], x.shape[1], 1)
        if (good := ~bad.cpu().numpy()).any():
            y[good] = self._decode(x[~bad].cpu().numpy(), state[~bad][:, -1].cpu().numpy())
        return Decoded(y.astype(np.float32), code.valid.cpu().numpy(), (~good).astype(np.int64))


def no_rotation(spec: Spec, x: Tensor) -> Tensor:
    """(B,): rows of actions (B,H,A) of which some step's rot6d is too short to be a rotation."""
    bad = torch.zeros(x.shape[0], dtype=torch.bool, device=x.device)
    for p in spec.action:
        if p.kind == "rotation" and p.rotation == "rot6d":
            a, b = x[..., spec.part(p.name)].split(3, -1)
            bad |= (torch.linalg.cross(a, b).norm(dim=-1) < 1e-3).any(1)
    return bad


def hold(spec: Spec, state: Tensor) -> np.ndarray:
    """The command that holds still: (B,A) from a measured state (B,S); parts the state lacks are zero."""
    out = np.zeros((state.shape[0], spec.action_size))
    for p in spec.action:
        if any(q.name == p.name and q.size == p.size for q in spec.state):
            out[:, spec.part(p.name)] = state[:, spec.part(p.name, "state")].cpu().numpy()
    return out


class StateScale(nn.Module):
    """z-scores of the proprioceptive state (std floor 1e-2, as the paper's lineage)."""

    mean: Tensor
    std: Tensor

    def __init__(self, size: int):
        super().__init__()
        self.register_buffer("mean", torch.full((size,), float("nan")), persistent=False)
        self.register_buffer("std", torch.ones(size), persistent=False)

    def fit(self, states: Tensor) -> None:
        """states (n,S)."""
        self.mean.copy_(states.double().mean(0))
        self.std.copy_(states.double().std(0, correction=0).clamp_min(1e-2))

    def forward(self, state: Tensor) -> Tensor:
        """(B,T,S) -> (B,T,S)."""
        if bool(torch.isnan(self.mean).any()):
            raise BadCheckpoint("no state statistics", "fit(states) or a checkpoint's", "fit them first")
        return (state - self.mean) / self.std

    def statistics(self) -> dict[str, Any]:
        """What a checkpoint stores."""
        return {"mean": self.mean.tolist(), "std": self.std.tolist()}

    def load_statistics(self, stored: Mapping[str, Any]) -> None:
        """The inverse of `statistics`."""
        if len(stored.get("mean", ())) != self.mean.numel():
            raise BadCheckpoint("state statistics of another size", f"{self.mean.numel()}", "use this robot's")
        self.mean.copy_(torch.tensor(stored["mean"]))
        self.std.copy_(torch.tensor(stored["std"]))
