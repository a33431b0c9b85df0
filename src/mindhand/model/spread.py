"""How far round its mean a hand that regresses draws: a scale beside every number, and so a density of what is drawn.

A hand that was taught by L1 says the median of a Laplace distribution, one taught by L2 the mean of a Gaussian; what it
lacks is the scale. It is learned by likelihood from the same hidden states, with the mean and those states held fixed:
what the hand says does not move. (RIPT-VLA, 2505.17016, makes OpenVLA-OFT stochastic with a Laplace scale.)
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Laplace, Normal

from mindhand.core.keys import Keys

Kind = Literal["laplace", "gaussian"]
KINDS: dict[str, type[Laplace] | type[Normal]] = {"laplace": Laplace, "gaussian": Normal}
FIRST = -3.0  # log scale before anything is learned, of codes in [-1, 1]
LOW, HIGH = -7.0, 0.5  # of log scales: no number is ever certain, none as wide as the whole range


class Residual(nn.Module):
    """x + ReLU(W LN(x))."""

    def __init__(self, width: int):
        super().__init__()
        self.norm, self.linear = nn.LayerNorm(width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(...,D) -> (...,D)."""
        return x + F.relu(self.linear(self.norm(x)))


def residual_mlp(told: int, width: int, blocks: int, numbers: int) -> nn.Sequential:
    """(...,told) -> (...,numbers), as heads that regress a step's action have it (OpenVLA-OFT, 2502.19645)."""
    return nn.Sequential(
        nn.LayerNorm(told), nn.Linear(told, width), nn.ReLU(),
        *(Residual(width) for _ in range(blocks)), nn.LayerNorm(width), nn.Linear(width, numbers),
    )  # fmt: skip


class Spread(nn.Module):
    """The scale of A numbers a step, told by hidden states of `told` numbers."""

    def __init__(self, kind: Kind, told: int, width: int, blocks: int, numbers: int):
        super().__init__()
        self.of = KINDS[kind]
        self.head = residual_mlp(told, width, blocks, numbers)
        last = self.head[-1]
        nn.init.normal_(last.weight, std=1e-3)
        nn.init.constant_(last.bias, FIRST)

    def round(self, mean: Tensor, hidden: Tensor, temperature: Tensor | float = 1.0) -> Laplace | Normal:
        """The distribution round mean (...,H,A), told by hidden (...,H,told). temperature multiplies the scale."""
        scale = self.head(hidden.detach()).float().clamp(LOW, HIGH).exp() * temperature
        return self.of(mean.float(), scale)

    def loss(self, value: Tensor, mean: Tensor, hidden: Tensor) -> Tensor:
        """How unlikely value (B,H,A) is, number by number; no gradient reaches the mean or the hidden states."""
        return -self.round(mean.detach(), hidden).log_prob(value.float())

    def draw(self, mean: Tensor, hidden: Tensor, samples: int, keys: Keys, temperature: float) -> Tensor:
        """(B,S,H,A): the first sample of a row is the mean, which is the likeliest; the others are drawn."""
        chance = torch.from_numpy(keys.fold("spread").uniform(samples, *mean.shape[1:])).to(mean.device)
        at = self.round(mean.unsqueeze(1), hidden.unsqueeze(1), temperature)
        told = at.icdf(chance.clamp(1e-7, 1 - 1e-7).float())
        return torch.cat([at.mean[:, :1], told[:, 1:]], 1)
