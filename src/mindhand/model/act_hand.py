"""A hand that reads pictures and state alone, without a mind: the action chunking transformer (ACT, 2304.13705).

A conditional variational autoencoder of chunks. While it learns, a posterior encoder reads the demonstrated chunk and
the state into a latent; an encoder joins the latent, the state and the tokens of streams (`resnet.py`); a decoder asks
it once for all steps. L1, and the divergence of the posterior from the prior. Acting, the latent is the prior's mean.
Post-norm blocks whose queries and keys alone are told places, as in DETR. What the trunk knows does not reach it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mindhand.core.batch import masked_rows
from mindhand.core.errors import BuildError
from mindhand.core.keys import Keys
from mindhand.core.seams import Code, Context, Draw, LogProb, Noised, Sampler, Segment

from . import fits


@dataclass(frozen=True)
class ActConfig:
    """Sizes. In brackets the paper's values, where they differ from LeRobot's, which are the defaults."""

    horizon: int  # H
    action: int  # A
    state: int  # S
    width: int = 512
    heads: int = 8
    inner: int = 3200  # of the feed-forward layers
    posterior: int = 4  # layers
    encoder: int = 4
    decoder: int = 1  # (7, of which the authors' code used the first alone)
    latent: int = 32
    dropout: float = 0.1
    divergence: float = 10.0  # weight of the divergence


class Attend(nn.Module):
    """One block: attention, to its own tokens or to a memory's, then where `inner` is given a feed-forward layer; each
    with dropout, added, normed."""

    def __init__(self, c: ActConfig, inner: int = 0):
        super().__init__()
        self.attention = nn.MultiheadAttention(c.width, c.heads, c.dropout, batch_first=True)
        self.norm = nn.LayerNorm(c.width)
        self.drop = nn.Dropout(c.dropout)
        self.ffn, self.ffn_norm = None, None
        if inner:
            layers = (nn.Linear(c.width, inner), nn.ReLU(), nn.Dropout(c.dropout), nn.Linear(inner, c.width))
            self.ffn, self.ffn_norm = nn.Sequential(*layers), nn.LayerNorm(c.width)

    def forward(
        self, x: Tensor, place: Tensor, valid: Tensor | None = None, memory: tuple[Tensor, Tensor] | None = None
    ) -> Tensor:
        """x (B,n,D) at places (B or 1,n,D); valid (B,m) of what is attended to; memory: (x, place) of that, where it is
        not x."""
        keys, where = memory or (x, place)
        hidden = None if valid is None else ~valid
        seen = self.attention(x + place, keys + where, keys, key_padding_mask=hidden, need_weights=False)[0]
        x = self.norm(x + self.drop(seen))
        return x if self.ffn is None else self.ffn_norm(x + self.drop(self.ffn(x)))


class DecoderBlock(nn.Module):
    """The steps attend to each other, then to what was seen."""

    def __init__(self, c: ActConfig):
        super().__init__()
        self.own = Attend(c)
        self.seen = Attend(c, c.inner)


class ActHand(nn.Module):
    """Expert (core/seams.py): conditions are `ctx.inputs.state` and tokens of streams, no text and no hidden state.

    Loss "action" is L1 + divergence weight * KL, a row; "l1" and "kl" are told without gradient. Sample 0 of a draw is
    the chunk of latent 0, of others the latent is drawn from the prior, `temperature` wide.
    """

    part_name = "act_hand"
    steps: Tensor

    def __init__(self, c: ActConfig):
        super().__init__()
        self.config = c
        self.needs = frozenset({"codec", fits.numbers(c.action)})
        self.provides = frozenset({"draw", fits.tokens(c.width)})
        self.posterior = nn.ModuleList(Attend(c, c.inner) for _ in range(c.posterior))
        self.encoder = nn.ModuleList(Attend(c, c.inner) for _ in range(c.encoder))
        self.decoder = nn.ModuleList(DecoderBlock(c) for _ in range(c.decoder))
        for p in (*self.encoder.parameters(), *self.decoder.parameters()):
            if p.ndim > 1:
                nn.init.xavier_uniform_(p)
        self.summary = nn.Parameter(torch.randn(1, c.width))  # the posterior's token
        self.posterior_state = nn.Linear(c.state, c.width)
        self.posterior_action = nn.Linear(c.action, c.width)
        self.posterior_leave = nn.Linear(c.width, 2 * c.latent)  # mean, and logarithm of the variance
        self.register_buffer("steps", sinusoids(2 + c.horizon, c.width), persistent=False)
        self.enter_latent = nn.Linear(c.latent, c.width)
        self.enter_state = nn.Linear(c.state, c.width)
        self.places = nn.Parameter(torch.randn(2, c.width))  # of latent and state
        self.queries = nn.Parameter(torch.randn(c.horizon, c.width))
        self.norm = nn.LayerNorm(c.width)
        self.leave = nn.Linear(c.width, c.action)

    def infer(self, state: Tensor, code: Code) -> tuple[Tensor, Tensor]:
        """The posterior of a chunk: mean and logarithm of the variance, (B,latent) each. Steps that are not valid are
        not read."""
        rows = len(state)
        tokens = (self.posterior_state(state).unsqueeze(1), self.posterior_action(code.values))
        x = torch.cat([self.summary.expand(rows, 1, -1), *tokens], 1)
        valid = F.pad(code.valid, (2, 0), value=True)
        for block in self.posterior:
            x = block(x, self.steps.unsqueeze(0), valid)
        mean, log_variance = self.posterior_leave(x[:, 0]).float().chunk(2, -1)
        return mean, log_variance

    def chunk(self, ctx: Context, latent: Tensor) -> Tensor:
        """(B,H,A) of a latent (B,latent). BuildError for a state or tokens of another size."""
        state, segments = self._state(ctx), [s for out in ctx.streams.values() for s in out.segments]
        if odd := next((s for s in segments if s.x.shape[-1] != self.config.width), None):
            raise BuildError(f"tokens '{odd.name}' of width {odd.x.shape[-1]}", f"{self.config.width}", "project them")
        rows, own = len(state), [self.enter_latent(latent).unsqueeze(1), self.enter_state(state).unsqueeze(1)]
        x = torch.cat([*own, *(s.x.to(own[1].dtype) for s in segments)], 1)
        ones = torch.ones(rows, 2, dtype=torch.bool, device=x.device)
        valid = torch.cat([ones, *(s.valid for s in segments)], 1)
        at = [self.places.expand(rows, -1, -1), *(cell_places(s, self.config.width) for s in segments)]
        place = torch.cat(at, 1)
        for block in self.encoder:
            x = block(x, place, valid)
        asked = self.queries.unsqueeze(0)
        out = x.new_zeros(rows, *self.queries.shape)
        for block in self.decoder:
            out = block.own(out, asked)
            out = block.seen(out, asked, valid, (x, place))
        return self.leave(self.norm(out))

    def _state(self, ctx: Context) -> Tensor:
        state = ctx.inputs.state
        if state is None or state.shape[-1] != self.config.state:
            have = None if state is None else state.shape[-1]
            raise BuildError(f"a state of size {have}", f"{self.config.state}", "use the spec the expert was built for")
        return state[:, -1]

    def _none(self, ctx: Context) -> Tensor:
        return self._state(ctx).new_zeros(len(self._state(ctx)), self.config.latent)

    def terms(self, ctx: Context, code: Code, noise: Tensor) -> tuple[Tensor, Tensor]:
        """L1 over the valid steps, and the divergence, summed over the latent: (B,) each. noise (B,latent) of the
        latent."""
        clean = torch.where(code.valid.unsqueeze(-1), code.values, torch.zeros_like(code.values))
        mean, log_variance = self.infer(self._state(ctx), Code(clean, code.valid))
        drawn = self.chunk(ctx, mean + (log_variance / 2).exp() * noise.to(mean))
        apart = -0.5 * (1 + log_variance - mean**2 - log_variance.exp()).sum(-1)
        robot = code.valid.any(1)  # of a row without an action nothing is read
        return masked_rows((drawn - clean).abs(), code.valid), torch.where(robot, apart, torch.zeros_like(apart))

    def loss(self, ctx: Context, code: Code, keys: Keys) -> dict[str, Tensor]:
        """{"action", "l1", "kl"}: (B,) each; see the class."""
        noise = torch.from_numpy(keys.fold("latent").normal(self.config.latent))
        with _keyed(keys, self.queries.device):
            error, apart = self.terms(ctx, code, noise)
        whole = error + self.config.divergence * apart
        return {"action": whole, "l1": error.detach(), "kl": apart.detach()}

    def corrupt(self, code: Code, keys: Keys) -> Noised:
        """Nothing is left of the actions: what the network sees is the same for all."""
        clean = torch.where(code.valid.unsqueeze(-1), code.values, torch.zeros_like(code.values))
        return Noised(torch.zeros_like(clean), clean.new_zeros(len(clean)), clean, code.valid)

    def predict(self, ctx: Context, noised: Noised) -> Tensor:
        """The chunk of latent 0, (B,H,A)."""
        return self.chunk(ctx, self._none(ctx))

    def draw(
        self,
        ctx: Context,
        samples: int,
        *,
        keys: Keys,
        sampler: Sampler | None = None,
        noise: Tensor | None = None,
        frozen: Tensor | None = None,
        want: Sequence[str] = (),
        temperature: float = 1.0,
    ) -> Draw:
        """See the class; parts held fixed are put in place. BuildError for a sampler, or noise of actions."""
        if given := [n for n, x in (("sampler", sampler), ("noise", noise)) if x is not None]:
            raise BuildError(f"a {given[0]} for a hand that regresses", "none", "take it out, or choose flow")
        latents = [self._none(ctx)]
        for s in range(1, samples):
            latents.append(
                temperature * torch.from_numpy(keys.fold("draw", s).normal(self.config.latent)).to(latents[0])
            )
        value = torch.stack([self.chunk(ctx, latent) for latent in latents], 1)
        return Draw(value if frozen is None else torch.where(torch.isnan(frozen), value, frozen))

    def log_prob(self, ctx: Context, draw: Draw) -> LogProb:
        """BuildError: a regressed chunk has none."""
        raise BuildError("a regressed chunk has no density", "a hand that is drawn from", "choose flow or tokens")


@contextmanager
def _keyed(keys: Keys, device: torch.device) -> Iterator[None]:
    """While it is open torch draws dropout from the keys: a step that is done again is the same."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(int.from_bytes(keys.fold("dropout").rows[0][:8], "little") >> 1)
        yield


def sinusoids(count: int, width: int) -> Tensor:
    """(count,width) float32: sines and cosines in turns, of rates 1 .. 1e-4 (1706.03762)."""
    angle = np.arange(count)[:, None] / np.power(10000, 2 * (np.arange(width) // 2) / width)
    return torch.from_numpy(np.where(np.arange(width) % 2, np.cos(angle), np.sin(angle))).float()


def cell_places(s: Segment, width: int) -> Tensor:
    """(B,n,width): the rows, then the columns of a segment's cells, as shares of a turn, in the sinusoids of DETR."""
    rate = 10000 ** (2 * (torch.arange(width // 2, dtype=torch.float32, device=s.x.device) // 2) / (width // 2))
    out = []
    for axis in (1, 2):
        at = s.position[..., axis].float() + 1
        angle = (at / (at.amax(1, keepdim=True) + 1e-6) * (2 * torch.pi)).unsqueeze(-1) / rate
        out.append(torch.stack([angle[..., 0::2].sin(), angle[..., 1::2].cos()], -1).flatten(2))
    return torch.cat(out, -1)
