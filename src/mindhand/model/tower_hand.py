"""A hand in a tower of the trunk: flow matching by tokens that share the mind's attention (as pi0, 2410.24164).

The state, what the hand's own eyes see and the noisy chunk are tokens of a narrower tower as deep as the trunk. They
see each other and all of the prefix at every layer, and the keys and values of streams that feed "expert.kv"; the
prefix does not see them, so it is computed once a chunk and only the chunk's tokens once a flow step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mindhand.core.batch import masked_rows
from mindhand.core.keys import Keys
from mindhand.core.seams import (
    Code,
    Context,
    Draw,
    Entry,
    LogProb,
    Noised,
    Predict,
    Rule,
    Sampler,
    Segment,
    Trunk,
    text_position,
)

from . import fits
from .diffusion import Flow, density, draw_chunks
from .expert import sinusoid
from .streams import entries
from .token_expert import SAID, SEEN, Senses

TOWER = "hand"
RULE: Rule = ((SAID, "*", "full"), ("*", SAID, "none"), (SEEN, "*", "full"))  # before that of the pass it goes on with


@dataclass(frozen=True)
class AddTower:
    """Edit: one more tower in the trunk, as deep, with as many heads, narrower (`TOWER` for a hand)."""

    name: str
    width: int
    ffn: int

    @property
    def provides(self) -> frozenset[str]:
        """The tower."""
        return frozenset({fits.tower(self.name, self.width)})

    def apply(self, vla: nn.Module) -> None:
        """`vla` is a VLM or holds one as `backbone`."""
        backbone = getattr(vla, "backbone", vla)
        backbone.add_tower(self.name, replace(backbone.config.tower, width=self.width, ffn=self.ffn))


@dataclass(frozen=True)
class TowerHandConfig:
    """action: A'; horizon: H; state: S; width: of its tower, and so of the tokens of streams."""

    action: int
    horizon: int
    state: int
    width: int


class TowerHand(nn.Module):
    """Expert (core/seams.py) for a backbone with `AddTower(TOWER, width, ...)`."""

    part_name = "tower_hand"

    def __init__(self, config: TowerHandConfig):
        super().__init__()
        c = self.config = config
        self.process = Flow()
        self.needs = frozenset({"text", "codec", fits.numbers(c.action), fits.tower(TOWER, c.width)})
        own = (fits.HEARS, fits.SEES_ALL, fits.KEYS_AND_VALUES, fits.tokens(c.width), fits.process(self.process))
        self.provides = frozenset({"draw", *own})
        self.senses = Senses(c.state, c.width, TOWER)
        self.enter, self.leave = nn.Linear(c.action, c.width), nn.Linear(c.width, c.action)
        self.time = nn.Sequential(nn.Linear(c.width, c.width), nn.SiLU(), nn.Linear(c.width, c.width))

    def prefix(self, ctx: Context) -> Trunk:
        """What does not change while a chunk is drawn: the pass, and what is sensed."""
        return ctx.trunk.extend([self.senses(ctx)], rule=(*RULE, *ctx.trunk.rule), extras=entries(ctx))

    def noisy(self, x: Tensor, t: Tensor) -> Tensor:
        """Tokens (N,H,width) of noisy actions (N,H,A') at t (N,)."""
        time = self.time(sinusoid(t * self.process.scale, self.config.width).to(x.dtype))
        return self.enter(x) + time.unsqueeze(1)

    def velocity(
        self, prefix: Trunk, x: Tensor, t: Tensor, valid: Tensor, extras: Sequence[Sequence[Entry]] = ()
    ) -> Tensor:
        """ONE network call: noisy actions (N,H,A') at t (N,) behind the prefix and beside `extras` -> (N,H,A')."""
        z = self.noisy(x.to(self.leave.weight.dtype), t)
        place = text_position(torch.ones_like(valid), prefix.end)
        said = prefix.extend([Segment(SAID, z, valid, place, TOWER)], rule=prefix.rule, extras=extras)
        return self.leave(said.hidden[SAID])

    def corrupt(self, code: Code, keys: Keys) -> Noised:
        """Padded steps are zeroed first, so that they carry nothing."""
        clean = torch.where(code.valid.unsqueeze(-1), code.values, torch.zeros_like(code.values))
        return self.process.corrupt(clean, code.valid, keys)

    def predict(self, ctx: Context, noised: Noised) -> Tensor:
        """ONE network call, (B,H,A')."""
        return self.velocity(self.prefix(ctx), noised.x, noised.t, noised.valid, entries(ctx))

    def loss(self, ctx: Context, code: Code, keys: Keys) -> dict[str, Tensor]:
        """{"action": (B,)}: mean over the valid steps of each row."""
        noised = self.corrupt(code, keys)
        error = F.mse_loss(self.predict(ctx, noised).float(), noised.target.float(), reduction="none")
        return {"action": masked_rows(error, noised.valid)}

    def _step(self, ctx: Context, samples: int) -> Predict:
        wide = self.prefix(ctx)
        wide, extras = wide.fork(samples) if samples > 1 else wide, entries(ctx, samples)
        whole = torch.ones(len(wide.end), self.config.horizon, dtype=torch.bool, device=wide.end.device)
        return lambda x, t: self.velocity(wide, x, t, whole, extras).to(x.dtype)

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
        """S chunks a row on one prefix: value (B,S,H,A')."""
        shape = (samples, self.config.horizon, self.config.action)
        return draw_chunks(
            self._step(ctx, samples),
            sampler or self.process.sampler(),
            len(ctx.trunk.end),
            shape,
            like=self.leave.weight,
            keys=keys,
            noise=noise,
            frozen=frozen,
            want=want,
            temperature=temperature,
        )

    def log_prob(self, ctx: Context, draw: Draw) -> LogProb:
        """As `diffusion.density`."""
        return density(lambda samples: self._step(ctx, samples), draw)
