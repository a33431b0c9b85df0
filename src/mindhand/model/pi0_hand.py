"""The hand of pi0 (2410.24164), as its published weights have it: a `TowerHand` with other ends.

The state is one token by one linear layer; a noisy action and its time are joined by a small MLP. The time is in
sines, then cosines, of periods from 4 ms to 4 s of a flow that lasts one. States and actions have a fixed number of
entries, of which a robot uses the first (`padded_codec.py`): the others are zero. Training draws more of the noisy
end: t = 0.001 + 0.999 b, b ~ Beta(1.5, 1).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mindhand.core.errors import BuildError
from mindhand.core.keys import Keys
from mindhand.core.seams import Code, Noised

from .tower_hand import TowerHand, TowerHandConfig


@dataclass(frozen=True)
class Pi0Config:
    """Defaults are the published ones. width: of its tower."""

    state: int  # S of the robot, at most `states`
    action: int = 32  # A', of which a robot uses the first
    horizon: int = 50  # H
    width: int = 1024
    states: int = 32  # of the layer that reads the state
    shortest: float = 4e-3  # period of time
    longest: float = 4.0


class FirstLinear(nn.Linear):
    """A linear layer of inputs that end early, as if zeros followed."""

    def forward(self, input: Tensor) -> Tensor:
        """(...,n) -> (...,out), n at most `in_features`."""
        return F.linear(input, self.weight[:, : input.shape[-1]], self.bias)


class Pi0Hand(TowerHand):
    """Expert (core/seams.py) for a backbone with `AddTower(TOWER, width, ...)` and `WholePrompt`."""

    part_name = "pi0_hand"
    config: Pi0Config

    def __init__(self, config: Pi0Config):
        c = config
        super().__init__(TowerHandConfig(c.action, c.horizon, c.state, c.width))
        self.config = config
        if not 1 <= c.state <= c.states or c.width % 2:
            raise BuildError(f"a state of {c.state}, a width of {c.width}", f"1 to {c.states}, even", "another hand")
        self.senses.state = nn.Sequential(FirstLinear(c.states, c.width))
        self.time = nn.Sequential(nn.Linear(2 * c.width, c.width), nn.SiLU(), nn.Linear(c.width, c.width))

    def noisy(self, x: Tensor, t: Tensor) -> Tensor:
        """Tokens (N,H,width) of noisy actions (N,H,A') at t (N,), 1 at the noisy end."""
        c = self.config
        share = torch.linspace(0, 1, c.width // 2, dtype=torch.float32, device=t.device)
        rate = 1 / (c.shortest * (c.longest / c.shortest) ** share) * 2 * math.pi
        angle = t.float().unsqueeze(1) * rate
        time = torch.cat([angle.sin(), angle.cos()], 1).to(x.dtype)
        z = self.enter(x)
        return self.time(torch.cat([z, time.unsqueeze(1).expand_as(z)], 2))

    def corrupt(self, code: Code, keys: Keys) -> Noised:
        """Padded steps are zeroed first; t by its own law."""
        even = super().corrupt(code, keys)
        clean = torch.where(code.valid.unsqueeze(-1), code.values, torch.zeros_like(code.values))
        t = 0.001 + 0.999 * even.t ** (2 / 3)  # of an even draw b = u^(2/3) is Beta(1.5, 1)
        return replace(even, x=self.process.at(clean, clean + even.target, t), t=t)
