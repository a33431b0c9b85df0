"""Gemma's decoder (2403.08295) as parts of the trunk: what a `GemmaConfig` makes where a `TowerConfig` makes Qwen2's.

Block: the trunk's, without biases; RMSNorm scales by 1 + weight; the gate of the FFN is GELU (tanh). Embeddings are
multiplied by sqrt(D) where they are read, not where words are written by the same table. Positions count tokens, of
pictures too, so all rotary frequencies follow the first axis.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mindhand.core.seams import text_position


class GemmaNorm(nn.Module):
    """x / rms(x) * (1 + weight), all of it in float32 (float64 of float64), then in the type of x."""

    def __init__(self, width: int, eps: float):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.zeros(width)), eps

    def forward(self, x: Tensor) -> Tensor:
        """(...,D)."""
        exact = torch.promote_types(x.dtype, torch.float32)
        return F.rms_norm(x.to(exact), (x.shape[-1],), 1 + self.weight.to(exact), self.eps).to(x.dtype)


class GeGLU(nn.Module):
    """down(gelu(gate x) * up x), GELU by its tanh approximation. gate and up are one matrix. Site: `inner`. A class of
    its own: edits that copy a SwiGLU (`ffn_edits.py`) refuse it by name."""

    def __init__(self, width: int, inner: int):
        super().__init__()
        self.gate_up = nn.Linear(width, 2 * inner, bias=False)
        self.down = nn.Linear(inner, width, bias=False)
        self.inner = nn.Identity()

    def forward(self, x: Tensor, task: Tensor | None = None, valid: Tensor | None = None) -> Tensor:
        """(B,n,D) -> (B,n,D). `task` and `valid` (B,n) are for replacements that route by them."""
        gate, up = self.gate_up(x).chunk(2, -1)
        return self.down(self.inner(F.gelu(gate, approximate="tanh") * up))


class ScaledEmbedding(nn.Embedding):
    """ids (B,n) -> sqrt(D) times their rows (B,n,D). The factor is rounded to the type of the table first."""

    def forward(self, input: Tensor) -> Tensor:
        """(B,n) int64."""
        factor = torch.tensor(self.embedding_dim**0.5, dtype=self.weight.dtype, device="cpu").item()
        return super().forward(input) * factor


@dataclass(frozen=True)
class GemmaConfig:
    """One tower of Gemma's blocks. Towers of one trunk share `layers`, `heads`, `groups` and `head_size`."""

    width: int  # D
    layers: int  # L
    heads: int  # query heads N
    groups: int  # key and value heads G; one in Gemma 2B
    head_size: int  # d, whatever the width is
    ffn: int  # inner width of the GeGLU
    theta: float = 1e4
    eps: float = 1e-6

    @property
    def bias(self) -> bool:
        """On q, k, v: none."""
        return False

    @property
    def sections(self) -> tuple[int, int, int]:
        """All rotary frequencies follow the first axis."""
        return self.head_size // 2, 0, 0

    def norm(self) -> nn.Module:
        """(...,D) -> (...,D), before attention, before the FFN, and behind the last block."""
        return GemmaNorm(self.width, self.eps)

    def feed(self) -> nn.Module:
        """The FFN of one block."""
        return GeGLU(self.width, self.ffn)

    def table(self, vocabulary: int) -> nn.Embedding:
        """ids (B,n) -> (B,n,D)."""
        return ScaledEmbedding(vocabulary, self.width)

    def place(self, grid: tuple[int, int, int], valid: Tensor, start: Any) -> tuple[Tensor, Any]:
        """Positions (B,n,3) of a picture's tokens from `start` (B,) or int on, and the next free one: one token behind
        the other, as text; tokens that are not valid, a missing camera's, take no place."""
        return text_position(valid, start), start + valid.sum(1)
