"""Muon for matrices, AdamW for the rest, in one optimiser whose state is plain tensors.

Muon (K. Jordan, 2024): momentum, then an approximate orthogonalisation by five Newton-Schulz steps. On the small
VLM it learns facts in half the samples of AdamW. torch.optim.Muon takes plain matrices only; here a convolution
is a matrix (out, rest) and stacked experts (E,m,n) are a batch of matrices.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from mindhand.core.precision import half

from .sharded import cut, own, whole

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # Newton-Schulz, of Muon's author


def orthogonal(g: Tensor, steps: int = 5) -> Tensor:
    """U V^T of the singular value decomposition of each matrix (B,m,n), approximately; in bfloat16 where the
    machine computes in it."""
    a, b, c = COEFFICIENTS
    x = g / (g.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    tall = x.shape[-2] > x.shape[-1]
    x = (x.mT if tall else x).to(torch.bfloat16 if half(g.device) else g.dtype).contiguous()
    for _ in range(steps):
        s = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(s, s, s, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).to(g.dtype)


class MuonAdamW(torch.optim.Optimizer):
    """Groups with `muon` True take matrices (two or more dimensions), the others anything.

    Muon's update is scaled by sqrt(max(1, m/n)); betas are AdamW's; `decay` is decoupled. Defaults are those
    that trained the small VLM (learning rates .02 and 2e-3).
    """

    def __init__(
        self,
        groups: Iterable[dict],
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.98),
        eps: float = 1e-8,
        decay: float = 0.0,
    ):
        super().__init__(list(groups), dict(lr=1e-3, muon=False, momentum=momentum, betas=betas, eps=eps, decay=decay))

    @torch.no_grad()
    def step(self, closure=None) -> None:
        """One update of every parameter that has a gradient."""
        for group in self.param_groups:
            learning = [p for p in group["params"] if p.grad is not None]
            for p in learning:
                if not (state := self.state[p]):
                    state["step"] = torch.zeros((), device=p.device)  # where the fused update wants it
                    state["first"] = torch.zeros_like(p)
                    if not group["muon"]:
                        state["second"] = torch.zeros_like(p)
            (self._muon if group["muon"] else self._adamw)(learning, group)

    def _muon(self, learning: list[nn.Parameter], group: dict) -> None:
        alike: dict[tuple[int, ...], list[tuple[nn.Parameter, Tensor]]] = defaultdict(list)
        for p in learning:
            if group["decay"]:
                p.mul_(1 - group["lr"] * group["decay"])
            state = self.state[p]
            state["step"] += 1
            state["first"].lerp_(p.grad, 1 - group["momentum"])
            g = p.grad.lerp(state["first"], group["momentum"])  # Nesterov
            # A share of stacked matrices is some of them, whole; one of a matrix is some of its rows.
            g = own(g) if g.ndim == 3 else whole(g).flatten(1).unsqueeze(0)
            alike[tuple(g.shape[1:])].append((p, g))
        for (m, n), some in alike.items():
            updates = orthogonal(torch.cat([g for _, g in some])).split([len(g) for _, g in some])
            for (p, _), update in zip(some, updates):
                update = update if p.ndim == 3 else own(cut(update.view(p.shape), p))
                own(p).add_(update, alpha=-group["lr"] * max(1.0, m / n) ** 0.5)

    def _adamw(self, learning: list[nn.Parameter], group: dict) -> None:
        states = [self.state[p] for p in learning]
        first, second, steps = ([own(s[n]) for s in states] for n in ("first", "second", "step"))
        beta1, beta2 = group["betas"]
        how = {"lr": group["lr"], "beta1": beta1, "beta2": beta2, "weight_decay": group["decay"], "eps": group["eps"]}
        mine, grads = [own(p) for p in learning], [own(p.grad) for p in learning if p.grad is not None]
        adamw(mine, grads, first, second, [], steps, amsgrad=False, maximize=False, fused=True, **how)


def split(
    module: nn.Module, named: Iterable[tuple[str, nn.Parameter]]
) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """(matrices for Muon, the rest) of the named parameters: embeddings, heads' outputs, norms and biases are rest."""
    embedded = {id(p) for m in module.modules() if isinstance(m, nn.Embedding) for p in m.parameters(recurse=False)}
    matrices, rest = [], []
    for name, p in named:
        plain = p.ndim >= 2 and id(p) not in embedded and min(p.flatten(1).shape) > 1
        (matrices if plain and not name.endswith(("position", "leave.weight")) else rest).append(p)
    return matrices, rest
