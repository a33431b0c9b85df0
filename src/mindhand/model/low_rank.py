"""Low-rank surgery that keeps a tower's function at first and stores little: LoRA, and experts that are residuals.

`LoRA` (2106.09685): W x becomes W x + (alpha / r) B A x, with B zero at the start and W left as it was.
`LowRankExperts`: a mixture like `moe.Upcycle`'s whose experts share the pretrained FFN and differ from it by low-rank
residuals; expert 0 has none. Eight full copies store the FFN eight times, these 1.1 to 1.5 times, by their rank:
    h_i = SwiGLU((W_up + B_i A_i) x);  y = W_down sum_i g_i h_i + sum_i g_i D_i C_i h_i,   B_i, D_i zero at the start
Both are trained by patterns of names: what they add is called "low_..." and "router".
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mindhand.core.errors import BuildError

from . import fits
from .ffn_edits import replace_ffns, tower_of
from .trunk import FFN

ADDED = ("*.low_*", "*.router.*")  # the names of what these edits add


class LowRankLinear(nn.Module):
    """A linear layer and a low-rank one beside it, (..., in) -> (..., out)."""

    def __init__(self, base: nn.Linear, rank: int, alpha: float):
        super().__init__()
        self.base, self.scale = base, alpha / rank
        self.low_in = nn.Parameter(_drawn(base.weight, rank, base.in_features))
        self.low_out = nn.Parameter(base.weight.new_zeros(base.out_features, rank))

    def forward(self, x: Tensor) -> Tensor:
        """Both added."""
        return self.base(x) + self.scale * F.linear(F.linear(x, self.low_in), self.low_out)


def _drawn(like: Tensor, *shape: int) -> Tensor:
    return torch.empty(shape, device=like.device, dtype=like.dtype).normal_(std=1 / math.sqrt(shape[-1]))


@dataclass(frozen=True)
class LoRA:
    """Edit: a low-rank layer beside each of these in every block of a tower. Weights are drawn by `seed`."""

    rank: int = 16
    alpha: float = 32.0
    where: tuple[str, ...] = ("attn.qkv", "attn.o", "ffn.gate_up", "ffn.down")
    tower: str = "vlm"
    seed: int = 0

    @property
    def provides(self) -> frozenset[str]:
        """The layers that it has split, which no other LoRA may split, nor a mixture copy."""
        return fits.layers(self.tower, self.where)

    def apply(self, vla: nn.Module) -> None:
        """`vla` is a VLM or holds one as `backbone`. BuildError for what is no plain linear layer."""
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            for block in tower_of(vla, self.tower).layers:
                linear = {n: m for n, m in block.named_modules() if isinstance(m, nn.Linear)}
                for path in self.where:
                    if path not in linear:
                        have = f"a linear layer: {sorted(linear)}"
                        raise BuildError(f"'{path}' of tower '{self.tower}' is none", have, "change `where`")
                    block.set_submodule(path, LowRankLinear(linear[path], self.rank, self.alpha))


@dataclass(frozen=True)
class LowRankConfig:
    """experts: E, the plain one among them; active: k; rank: r of each residual; first: by how much the router prefers
    the plain one at the start, in units of its logits."""

    experts: int = 8
    active: int = 2
    rank: int = 16
    first: float = 1.0


class LowRankMoE(nn.Module):
    """Replaces an FFN, which stays in it as `ffn`. Site: `scores` (router logits, B,n,E)."""

    def __init__(self, c: LowRankConfig, like: FFN):
        super().__init__()
        if not 1 <= c.active <= c.experts:
            raise BuildError(f"{c.active} of {c.experts} experts active", "1 <= active <= experts", "mend the config")
        self.config, self.ffn = c, like
        w, n = like.gate_up.weight, c.experts - 1
        width, inner = like.gate_up.in_features, like.down.in_features
        self.low_up_in = nn.Parameter(_drawn(w, n, c.rank, width))
        self.low_up_out = nn.Parameter(w.new_zeros(n, 2 * inner, c.rank))
        self.low_down_in = nn.Parameter(_drawn(w, n, c.rank, inner))
        self.low_down_out = nn.Parameter(w.new_zeros(n, width, c.rank))
        self.router = nn.Linear(width, c.experts, device=w.device, dtype=w.dtype)
        with torch.no_grad():
            self.router.bias[0] += c.first
        self.scores = nn.Identity()

    def forward(self, x: Tensor, task: Tensor | None = None, valid: Tensor | None = None) -> Tensor:
        """(B,n,D) -> (B,n,D). All residuals are computed for all tokens: they are cheap, and rows then do not depend
        on their neighbours."""
        logits = self.scores(self.router(x))
        top, chosen = logits.float().topk(self.config.active, -1)
        gates = torch.zeros_like(logits).scatter(-1, chosen, top.softmax(-1).to(logits.dtype))
        plain = self.ffn.gate_up(x)
        low = torch.einsum("bnd,erd->bner", x, self.low_up_in)
        more = torch.einsum("bner,efr->bnef", low, self.low_up_out)
        gate, up = torch.cat([plain.unsqueeze(-2), plain.unsqueeze(-2) + more], -2).chunk(2, -1)
        h = gates.unsqueeze(-1) * (F.silu(gate) * up)  # (B,n,E,F)
        y = self.ffn.down(self.ffn.inner(h.sum(-2)))
        low = torch.einsum("bnef,erf->bner", h[..., 1:, :], self.low_down_in)
        return y + torch.einsum("bner,edr->bnd", low, self.low_down_out)


@dataclass(frozen=True)
class LowRankExperts:
    """Edit: replace the FFN of every layer of a tower by a mixture of itself and low-rank residuals."""

    config: LowRankConfig = LowRankConfig()
    tower: str = "vlm"
    seed: int = 0

    @property
    def provides(self) -> frozenset[str]:
        """The tower's FFN, which it alone may have."""
        return fits.layers(self.tower)

    def apply(self, vla: nn.Module) -> None:
        """`vla` is a VLM or holds one as `backbone`."""
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            replace_ffns(vla, self.tower, lambda ffn: LowRankMoE(self.config, ffn))
