"""Muon for matrices, AdamW for the rest, in one optimiser whose state is plain tensors.

Muon (K. Jordan, 2024): momentum, then an approximate orthogonalisation by five Newton-Schulz steps. On the small
VLM it learns facts in half the samples of AdamW. torch.optim.Muon takes plain matrices only; here a convolution
is a matrix (out, rest) and stacked experts (E,m,n) are a batch of matrices.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # Newton-Schulz, of Muon's author


def orthogonal(g: Tensor, steps: int = 5) -> Tensor:
    """U V^T of the singular value decomposition of each matrix (...,m,n), approximately."""
    a, b, c = COEFFICIENTS
    x = g.bfloat16() if g.device.type == "cuda" else g.float()
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        s = x @ x.mT
        x = a * x + (b * s + c * s @ s) @ x
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
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["step"] = torch.zeros((), dtype=torch.float64)
                    state["first"] = torch.zeros_like(p)
                    if not group["muon"]:
                        state["second"] = torch.zeros_like(p)
                state["step"] += 1
                if group["decay"]:
                    p.mul_(1 - group["lr"] * group["decay"])
                (self._muon if group["muon"] else self._adam)(p, p.grad, state, group)

    def _muon(self, p: Tensor, g: Tensor, state: dict, group: dict) -> None:
        first = state["first"]
        first.lerp_(g, 1 - group["momentum"])
        g = g.lerp(first, group["momentum"])  # Nesterov
        g = g if g.ndim == 3 else g.flatten(1)
        scale = max(1.0, g.shape[-2] / g.shape[-1]) ** 0.5
        p.add_(orthogonal(g).view_as(p), alpha=-group["lr"] * scale)

    def _adam(self, p: Tensor, g: Tensor, state: dict, group: dict) -> None:
        b1, b2 = group["betas"]
        n = float(state["step"])
        state["first"].lerp_(g, 1 - b1)
        state["second"].lerp_(g * g, 1 - b2)
        root = (state["second"] / (1 - b2**n)).sqrt_().add_(group["eps"])
        p.addcdiv_(state["first"], root, value=-group["lr"] / (1 - b1**n))


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
