"""Actions as words: every number of a chunk in one of 256 bins (RT-2, 2307.15818; OpenVLA, 2406.09246).

What is binned is what `ChunkCodec` codes, relative and scaled. Bins are even between two percentiles of each number's
own values, so that outliers do not waste them; what lies outside is in the first or the last. Ids go step by step.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mindhand.core.batch import Batch
from mindhand.core.errors import BadCheckpoint, BadData
from mindhand.core.seams import Code, Decoded
from mindhand.core.spec import Spec

from . import fits
from .codec import ChunkCodec

LEAST = 1e-3  # of a bin's width, in halves of a number's range: one that never moves is in one bin


@dataclass(frozen=True)
class BinConfig:
    """bins: of each number (papers: 256); tail: the share of its values beyond the outer bins, at each end."""

    bins: int = 256
    tail: float = 0.01


class BinCodec(nn.Module):
    """Codec (core/seams.py): chunks (B,H,A) <-> ids int64 (B,H*A). Decoded is the middle of a bin."""

    part_name = "bin_codec"
    low: Tensor
    wide: Tensor

    def __init__(self, spec: Spec, config: BinConfig = BinConfig()):
        super().__init__()
        if config.bins < 2 or not 0 <= config.tail < 0.5:
            raise BadData(f"{config}", "2 bins or more, a tail in [0, 1/2)", "mend the config")
        self.config, self.plain = config, ChunkCodec(spec)
        self.register_buffer("low", torch.full((spec.action_size,), float("nan")), persistent=False)
        self.register_buffer("wide", torch.ones(spec.action_size), persistent=False)

    @property
    def size(self) -> int:
        """Numbers of a step, A."""
        return self.plain.size

    @property
    def provides(self) -> frozenset[str]:
        """As many ids as bins."""
        return frozenset({fits.ids(self.config.bins)})

    def fit(self, batches: Iterator[Batch]) -> None:
        """Percentiles over the valid steps of all chunks, which are held in memory."""
        kept = [b for b in batches if b.actions is not None and b.action_valid is not None]
        self.plain.fit(iter(kept))
        coded = [self.plain.encode(b.actions, b.action_valid, b.state) for b in kept]
        x = torch.cat([c.values[c.valid] for c in coded]).double().sort(0).values
        low, high = (x[round(q * (len(x) - 1))] for q in (self.config.tail, 1 - self.config.tail))
        self.low.copy_(low)
        self.wide.copy_(((high - low) / self.config.bins).clamp_min(LEAST))

    def statistics(self) -> dict[str, Any]:
        """What a checkpoint stores."""
        return {"codec": "bins-1", "low": self.low.tolist(), "wide": self.wide.tolist(), "of": self.plain.statistics()}

    def load_statistics(self, stored: Mapping[str, Any]) -> None:
        """The inverse of `statistics`; refuses another convention or size."""
        if stored.get("codec") != "bins-1" or len(stored.get("low", ())) != self.size:
            raise BadCheckpoint(
                f"action statistics '{stored.get('codec')}' of size {len(stored.get('low', ()))}",
                f"'bins-1' of size {self.size}",
                "load a checkpoint of this codec and robot",
            )
        self.plain.load_statistics(stored["of"])
        self.low.copy_(torch.tensor(stored["low"]))
        self.wide.copy_(torch.tensor(stored["wide"]))

    def encode(self, actions: Tensor, valid: Tensor, state: Tensor | None) -> Code:
        """Ids; those of invalid steps are 0 and not valid."""
        plain = self.plain.encode(actions, valid, state)
        if bool(torch.isnan(self.low).any()):
            raise BadCheckpoint("the codec has no statistics", "fit(batches) or a checkpoint's", "fit it first")
        ids = ((plain.values - self.low) / self.wide).floor().clamp(0, self.config.bins - 1).long()
        each = valid.unsqueeze(-1).expand_as(ids)
        return Code(torch.where(each, ids, 0).flatten(1), each.flatten(1))

    def decode(self, code: Code, state: Tensor | None) -> Decoded:
        """Ids (B,H*A). A row with an id that is no bin, or with a part of a step, holds the measured state and
        counts."""
        ids, steps = code.values, code.values.shape[1] // self.size
        odd = ((ids < 0) | (ids >= self.config.bins)).any(1)
        if ids.shape[1] % self.size:
            odd, ids = torch.ones_like(odd), ids[:, : steps * self.size]
        ids = ids.clamp(0, self.config.bins - 1).unflatten(1, (steps, self.size))
        x = self.low + (ids + 0.5) * self.wide
        x = torch.where(odd.view(-1, 1, 1), torch.nan, x)
        valid = code.valid[:, : steps * self.size].unflatten(1, (steps, self.size)).all(-1)
        return self.plain.decode(Code(x, valid), state)
