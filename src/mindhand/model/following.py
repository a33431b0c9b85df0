"""Reasoning-following: how the thought steers the hand (ChatVLA-2, 2505.21906, sec. 3.2).

With u the projected prompt, r the projected reasoning, s the state and t the time embedding:
    c_obs = t + W_o [LN(u + r); s]        conditions blocks 0 .. L/2-1
    c_rsn = t + W_r [LN(r); s]            conditions blocks L/2 .. L-1 and the final layer
The layer norm is one and shared; in the latter half r replaces the observation entirely, state and time stay.
`former`, `all` move the replacement; `attend` is `latter` with a weighted mean of the thought's tokens in the place of
r, each block its own (`attending.py`); `film` is the fusion of DexVLA (2502.05855): c = t + W MLP([(1 + A r) u +
B r + mean(prompt); s]) everywhere, A and B zero at the start; `none` leaves the reasoning out: u + r becomes u.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from .attending import Attending

Place = Literal["none", "film", "former", "latter", "all", "attend"]
PLACES: tuple[Place, ...] = ("none", "film", "former", "latter", "all", "attend")


class Following(nn.Module):
    """Conditions of L blocks and the final layer, without the time embedding, from u, r and the state. heads: of who
    attends."""

    def __init__(self, place: Place, trunk: int, state: int, width: int, layers: int, heads: int = 1):
        super().__init__()
        if place not in PLACES:
            raise ValueError(f"reasoning-following at '{place}': expected one of {PLACES}")
        self.place, self.layers = place, layers
        if place == "film":
            self.scale, self.shift = nn.Linear(trunk, trunk), nn.Linear(trunk, trunk)
            for layer in (self.scale, self.shift):
                nn.init.zeros_(layer.weight)
                nn.init.zeros_(layer.bias)
            hidden = max(1024 * trunk // 1536, 64)  # 1024 at the paper's width of 1536, scaled with it
            self.fuse = nn.Sequential(
                nn.Linear(trunk + state, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(),
                nn.Linear(hidden, trunk), nn.ReLU(), nn.Linear(trunk, width),
            )  # fmt: skip
        else:
            self.norm = nn.LayerNorm(trunk)
            self.observation = nn.Linear(trunk + state, width)
            self.reasoning = nn.Linear(trunk + state, width) if place != "none" else None
        self.attending = Attending(trunk, layers - layers // 2 + 1, heads) if place == "attend" else None

    def forward(
        self, u: Tensor, r: Tensor, prompt: Tensor, state: Tensor, said: tuple[Tensor, Tensor] | None = None
    ) -> list[Tensor]:
        """u, r, prompt (mean hidden state of the prompt) (B,D), state (B,S) -> L+1 conditions (B,width). said: what who
        attends attends to, projected tokens of the thought (B,n,D) and which there are (B,n)."""
        if self.place == "film":
            mixed = (1 + self.scale(r)) * u + self.shift(r) + prompt
            return [self.fuse(torch.cat([mixed, state], -1))] * (self.layers + 1)
        if self.reasoning is None:
            return [self.observation(torch.cat([self.norm(u), state], -1))] * (self.layers + 1)
        seen = self.observation(torch.cat([self.norm(u + r), state], -1))
        half = self.layers // 2
        if self.attending is not None:
            assert said is not None
            each = self.attending(*said).unbind(1)
            return [seen] * half + [self.reasoning(torch.cat([self.norm(x), state], -1)) for x in each]
        heard = self.reasoning(torch.cat([self.norm(r), state], -1))
        former = heard if self.place in ("former", "all") else seen
        latter = heard if self.place in ("latter", "all") else seen
        return [former] * half + [latter] * (self.layers - half + 1)
