"""Dynamic mixture of experts by upcycling: ChatVLA-2's first contribution (2505.21906, sec. 3.1).

Every decoder layer's FFN becomes E full copies of itself and a router:
    l = W_r h + b_r;   S = top-k(l);   g = softmax over l_i, i in S;   y = sum_{i in S} g_i FFN_i(h)
With equal experts and gates that sum to one, y = FFN(h) exactly: the upcycled VLM is the dense VLM. The two
mixtures that the paper rejects are not function preserving when summed raw (shared + routed doubles the FFN);
`rescale` divides by that gain, so that an ablation compares mixtures and not scales.
While experts are equal the router's gradient is exactly zero; only routing itself breaks the symmetry.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mindhand.core.errors import BuildError

from . import fits
from .ffn_edits import TaskFFN, copied, replace_ffns
from .steady import steady
from .trunk import FFN

BLOCK = 64  # rows that an expert multiplies at a time while it acts
Mixture = Literal["dynamic", "shared+dynamic", "static+dynamic", "static+shared+dynamic"]
# what the raw sums of the rejected mixtures multiply the FFN by at initialisation
GAIN: dict[str, float] = {
    "dynamic": 1.0,
    "shared+dynamic": 2.0,  # shared + routed
    "static+dynamic": 1.0,  # (static + routed) / 2
    "static+shared+dynamic": 1.5,  # (static + (shared + routed)) / 2
}


@dataclass(frozen=True)
class MoEConfig:
    """Defaults are the paper's: 8 experts, 2 active, dynamic only."""

    experts: int = 8  # E, routed (paper: 8; ablations 6, 4)
    active: int = 2  # k
    mixture: Mixture = "dynamic"
    rescale: bool = False  # divide the raw sum by GAIN, so that upcycling preserves the function
    tasks: int = 2  # static experts: one a task (image-text, robot), chosen by Segment.task


class MoE(nn.Module):
    """Replaces an FFN. Sites: `scores` (router logits, B,n,E), `inner` (an expert's rows at a time, some of zeros
    behind them; while it writes, a word a row, all experts' at once: (E,B,F))."""

    def __init__(self, c: MoEConfig, like: FFN):
        super().__init__()
        if not 1 <= c.active <= c.experts:
            raise BuildError(f"{c.active} of {c.experts} experts active", "1 <= active <= experts", "mend the config")
        self.config = c
        copies = c.experts

        def stack(w: Tensor, n: int) -> nn.Parameter:
            return nn.Parameter(w.detach().unsqueeze(0).repeat(n, 1, 1))

        self.gate_up = stack(like.gate_up.weight, copies)  # (E,2F,D)
        self.down = stack(like.down.weight, copies)  # (E,D,F)
        width = like.gate_up.in_features
        self.router = nn.Linear(width, c.experts, device=self.gate_up.device, dtype=self.gate_up.dtype)
        self.scores, self.inner = nn.Identity(), nn.Identity()
        self.shared = copied(like) if "shared" in c.mixture else None
        self.static = TaskFFN(like, c.tasks) if "static" in c.mixture else None

    def forward(self, x: Tensor, task: Tensor | None = None, valid: Tensor | None = None) -> Tensor:
        """(B,n,D) -> (B,n,D); `task` (B,n) int64 chooses the static expert. `valid` changes nothing: each token is
        routed for itself."""
        y = self.routed(x)
        if self.shared is not None:
            y = y + self.shared(x)
        if self.static is not None:
            y = 0.5 * (self.static(x, task) + y)
        return y / GAIN[self.config.mixture] if self.config.rescale else y

    def routed(self, x: Tensor) -> Tensor:
        """The dynamic part alone. No capacity limit: no token is dropped, and rows do not affect each other: while it
        acts (`eval`) not even in the last bit. A product rounds by how many rows it has: with runs as long as happened
        to be chosen, a token's sum depends on its neighbours, and an evaluation on who shared a batch (72 episodes of a
        policy with random weights: 11 went otherwise). So all products have `BLOCK` rows then."""
        flat = x.reshape(-1, x.shape[-1])
        logits = self.scores(self.router(x)).reshape(flat.shape[0], -1)
        top, chosen = logits.float().topk(self.config.active, -1)
        weights = top.softmax(-1).to(x.dtype)
        if not self.training and x.shape[1] == 1:  # a word at a time: nearly every expert has a token
            return self._alike(flat, torch.zeros_like(logits).scatter(1, chosen, weights)).reshape(x.shape)
        gate, expert = weights.reshape(-1), chosen.reshape(-1)
        # sorted by expert: each expert multiplies one contiguous run, filled up with a row of zeros
        sizes = torch.bincount(expert, minlength=self.config.experts).tolist()
        filled = [steady(n) if self.training else -(-n // BLOCK) * BLOCK for n in sizes]
        runs = zip(expert.argsort(stable=True).split(sizes), sizes, filled)
        slot = torch.cat([F.pad(run, (0, more - n), value=len(expert)) for run, n, more in runs])
        token, flat, gate = slot // self.config.active, F.pad(flat, (0, 0, 0, 1)), F.pad(gate, (0, 1))
        blocks = []
        for e, run in enumerate(flat[token].split(filled)):
            for block in run.split(max(len(run), 1) if self.training else BLOCK):
                if len(block):
                    g, u = F.linear(block, self.gate_up[e]).chunk(2, -1)
                    blocks.append(F.linear(self.inner(F.silu(g) * u), self.down[e]))
        out = torch.cat(blocks) * gate[slot].unsqueeze(-1)
        return torch.zeros_like(flat).index_add(0, token, out.to(flat.dtype))[:-1].reshape(x.shape)

    def _alike(self, flat: Tensor, gates: Tensor) -> Tensor:
        """Every expert on every token, (N,D) with gates (N,E) that are zero for those not chosen: products of one size
        here, too."""
        g, u = torch.matmul(flat, self.gate_up.mT).chunk(2, -1)  # (E,N,F) each
        each = torch.matmul(self.inner(F.silu(g) * u), self.down.mT)
        return (each * gates.T.unsqueeze(-1)).sum(0)


@dataclass(frozen=True)
class Upcycle:
    """Edit: replace the FFN of every layer of a tower by a mixture of copies of itself."""

    config: MoEConfig = MoEConfig()
    tower: str = "vlm"

    @property
    def provides(self) -> frozenset[str]:
        """The tower's FFN, which it alone may have."""
        return fits.layers(self.tower)

    def apply(self, vla: nn.Module) -> None:
        """`vla` is a VLM or holds one as `backbone`."""
        replace_ffns(vla, self.tower, lambda ffn: MoE(self.config, ffn))


def traffic(scores: Tensor, active: int, valid: Tensor) -> Tensor:
    """Share of routed tokens each expert received: scores (B,n,E), valid (B,n) -> (E,), sums to 1."""
    chosen = F.one_hot(scores.topk(active, -1).indices, scores.shape[-1]).sum(-2)
    count = (chosen * valid.unsqueeze(-1)).sum((0, 1)).float()
    return count / count.sum().clamp_min(1)
