"""A running score of how an episode will end: two networks over what was felt at each query (2506.09937, section 4).

Both give s_t in training for whole episodes, and a query at a time with a state by row; what comes later changes
nothing that was said before. Letters: n episodes, T queries, W features.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mindhand.core.seams import State


class Unit(nn.Module):
    """(x - mean) / spread of the features (...,W) that were learned from; one that never moved stays near 0."""

    def __init__(self, features: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("spread", torch.ones(features))

    mean: Tensor
    spread: Tensor

    def fit(self, x: Tensor) -> None:
        """Of features (n,W)."""
        self.mean.copy_(x.mean(0))
        self.spread.copy_(x.std(0, unbiased=False).clamp_min(1e-3))

    def forward(self, x: Tensor) -> Tensor:
        """(...,W) -> (...,W)."""
        return (x - self.mean) / self.spread


def _chance(x: Tensor) -> Tensor:
    """float64 within (0, 1), never at its ends: scores (...,1) -> (...)."""
    return torch.sigmoid(x.squeeze(-1).double().clamp(-30, 30))


class Summed(nn.Module):
    """SAFE-MLP: s_t is the sum up to t of sigmoid(g(e)), which therefore never falls, and 0 < s_t < t."""

    def __init__(self, features: int, width: int):
        super().__init__()
        self.unit = Unit(features)
        self.g = nn.Sequential(nn.Linear(features, width), nn.ReLU(), nn.Linear(width, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Features (n,T,W) -> s (n,T)."""
        return _chance(self.g(self.unit(x))).cumsum(1)

    def start(self, rows: int) -> dict[str, Tensor]:
        """Of episodes that begin."""
        return {"sum": torch.zeros(rows, dtype=torch.float64, device=self.unit.mean.device)}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """One query more: x (n,W) -> s (n,)."""
        s = state["sum"] + _chance(self.g(self.unit(x)))
        return s, {"sum": s}

    @staticmethod
    def loss(s: Tensor, failed: Tensor, t: Tensor) -> Tensor:
        """y (t - s_t) + (1 - y) s_t of s (n,T), failed float (n,1), t (T,) from 1: (n,T)."""
        return failed * (t - s) + (1 - failed) * s


class Recurrent(nn.Module):
    """SAFE-LSTM: s_t is the chance that the episode fails, by all features up to t."""

    def __init__(self, features: int, width: int):
        super().__init__()
        self.unit, self.leave = Unit(features), nn.Linear(width, 1)
        self.memory = nn.LSTM(features, width, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        """Features (n,T,W) -> s (n,T)."""
        return _chance(self.leave(self.memory(self.unit(x))[0]))

    def start(self, rows: int) -> dict[str, Tensor]:
        """Of episodes that begin."""
        zero = torch.zeros(rows, self.memory.hidden_size, device=self.unit.mean.device)
        return {"h": zero, "c": zero.clone()}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """One query more: x (n,W) -> s (n,)."""
        out, (h, c) = self.memory(self.unit(x).unsqueeze(1), (state["h"].unsqueeze(0), state["c"].unsqueeze(0)))
        return _chance(self.leave(out[:, 0])), {"h": h[0], "c": c[0]}

    @staticmethod
    def loss(s: Tensor, failed: Tensor, t: Tensor) -> Tensor:
        """Binary cross-entropy at every step, a failure as positive: as of `Summed`. (The paper prints no minus.)"""
        return F.binary_cross_entropy(s, failed.expand_as(s).to(s), reduction="none")


SCORES = {"mlp": Summed, "lstm": Recurrent}
