"""The hand as more words: action tokens, written one after the other by the trunk itself.

What RT-2 (2307.15818) and OpenVLA (2406.09246) do; the codec says what a token means (`bins.py`). The pass goes on
behind prompt and reasoning with what the hand's own eyes see and the state, then a cue, then n tokens, each seeing
all before it. Action words have embeddings and scores of their own: no word of the language is overwritten, and none
but action words can be said.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mindhand.core.batch import masked_rows
from mindhand.core.errors import BuildError
from mindhand.core.keys import Keys
from mindhand.core.seams import Code, Context, Draw, LogProb, Noised, Sampler, Segment, Trunk, text_position

from . import fits
from .streams import entries

SEEN, SAID = "seen", "action"  # segments


@dataclass(frozen=True)
class TokenConfig:
    """codes: action words; length: n of a chunk, at most; state: S; trunk: D of the language tower, and so of streams.
    end: the word behind which nothing is said; None where all chunks are as long."""

    codes: int
    length: int
    state: int
    trunk: int
    end: int | None = None

    @property
    def width(self) -> int:
        """Of the tokens of streams."""
        return self.trunk


def robots(x: Tensor) -> Tensor:
    """The task (B,) of what a hand adds to a pass: a robot's, whatever the rows of the prompt are."""
    return torch.ones(len(x), dtype=torch.int64, device=x.device)


class Senses(nn.Module):
    """What a hand that rides in the trunk is given before it acts: tokens of streams, and the state as one more."""

    def __init__(self, state: int, width: int, tower: str = "vlm"):
        super().__init__()
        self.size, self.width, self.tower = state, width, tower
        self.state = nn.Sequential(nn.Linear(state, width), nn.GELU(), nn.Linear(width, width))

    def forward(self, ctx: Context) -> Segment:
        """One segment, to go on with the pass. BuildError for remembered thoughts, and for foreign sizes."""
        if not ctx.trunk.cache:
            raise BuildError(
                "remembered thoughts", "a pass of the trunk, which the hand goes on with", "train the mind with it"
            )
        state = ctx.inputs.state
        if state is None or state.shape[-1] != self.size:
            have = None if state is None else state.shape[-1]
            raise BuildError(f"a state of size {have}", f"{self.size}", "use the spec the expert was built for")
        now = self.state(state[:, -1].to(self.state[0].weight.dtype)).unsqueeze(1)
        runs = [s for out in ctx.streams.values() for s in out.segments]
        for s in runs:
            if s.x.shape[-1] != self.width:
                raise BuildError(f"tokens '{s.name}' of width {s.x.shape[-1]}", f"{self.width}", "project them")
        x = torch.cat([*(s.x.to(now.dtype) for s in runs), now], 1)
        valid = torch.cat([*(s.valid for s in runs), torch.ones_like(now[..., 0], dtype=torch.bool)], 1)
        return Segment(SEEN, x, valid, text_position(valid, ctx.trunk.end), self.tower, robots(x))


class TokenExpert(nn.Module):
    """Expert (core/seams.py) for codes of ids (B,n). Sample 0 of a row is the likeliest token at every step, the
    others are drawn; `temperature` flattens what those are drawn from."""

    part_name = "token_expert"

    def __init__(self, config: TokenConfig):
        super().__init__()
        self.config = config
        self.needs = frozenset({"text", "codec", fits.trunk(config.trunk), fits.ids(config.codes, config.end)})
        self.provides = frozenset({"draw", fits.HEARS, fits.KEYS_AND_VALUES, fits.tokens(config.trunk)})
        self.embedding = nn.Embedding(config.codes + 1, config.trunk)  # the last is the cue
        self.leave = nn.Linear(config.trunk, config.codes)
        self.senses = Senses(config.state, config.trunk)
        nn.init.normal_(self.embedding.weight, std=0.02)

    def _said(self, ids: Tensor, start: Tensor, valid: Tensor | None = None) -> Segment:
        valid = torch.ones_like(ids, dtype=torch.bool) if valid is None else valid
        x = self.embedding(ids)
        return Segment(SAID, x, valid, text_position(torch.ones_like(valid), start), task=robots(x))

    def _cue(self, rows: int) -> Tensor:
        return torch.full((rows, 1), self.config.codes, dtype=torch.int64, device=self.embedding.weight.device)

    def scores(self, ctx: Context, ids: Tensor, valid: Tensor | None = None) -> Tensor:
        """Of every token, all before it given: ids (B,n) -> (B,n,codes). ONE pass."""
        seen = self.senses(ctx)
        told = torch.cat([self._cue(len(ids)), ids[:, :-1]], 1)
        count = seen.valid.sum(1)
        on = None if valid is None else torch.cat([torch.ones_like(valid[:, :1]), valid[:, :-1]], 1)
        trunk = ctx.trunk.extend([seen, self._said(told, ctx.trunk.end + count, on)], extras=entries(ctx))
        return self.leave(trunk.hidden[SAID])

    def corrupt(self, code: Code, keys: Keys) -> Noised:
        """Nothing is: all tokens before one are given as they are."""
        return Noised(code.values, torch.zeros(len(code.values)), code.values, code.valid)

    def predict(self, ctx: Context, noised: Noised) -> Tensor:
        """ONE network call: scores (B,n,codes)."""
        return self.scores(ctx, noised.x, noised.valid)

    def loss(self, ctx: Context, code: Code, keys: Keys) -> dict[str, Tensor]:
        """{"action": (B,)}: cross-entropy, mean over the valid tokens of each row."""
        said = self.predict(ctx, self.corrupt(code, keys)).float()
        error = F.cross_entropy(said.transpose(1, 2), code.values, reduction="none")
        return {"action": masked_rows(error, code.valid)}

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
        """Ids (B,S,n), token by token on one prefix."""
        if given := [n for n, x in (("sampler", sampler), ("noise", noise), ("frozen", frozen)) if x is not None]:
            raise BuildError(f"{given} for action tokens", "none of them", "use an expert of continuous chunks")
        seen = self.senses(ctx)
        trunk: Trunk = ctx.trunk.extend([seen], extras=entries(ctx))
        trunk, extras = trunk.fork(samples) if samples > 1 else trunk, entries(ctx, samples)
        rows = len(seen.x)
        token, out, counts = self._cue(rows * samples), [], []
        alive = torch.ones_like(token, dtype=torch.bool)
        for i in range(self.config.length):
            trunk = trunk.extend([self._said(token, trunk.end)], extras=extras)
            scores = self.leave(trunk.hidden[SAID][:, -1]).float().view(rows, samples, -1)
            if samples > 1:
                chance = torch.from_numpy(keys.fold("draw", i).uniform(samples, self.config.codes))
                gumbel = -(-chance.clamp_min(1e-300).log()).clamp_min(1e-300).log()
                scores[:, 1:] += temperature * gumbel[:, 1:].to(scores)
            token = scores.argmax(-1).view(-1, 1)
            out.append(token.view(rows, samples, 1))
            counts.append(alive.view(rows, samples, 1))
            alive = alive & (token != self.config.end) if self.config.end is not None else alive
            if not bool(alive.any()):
                break
        flat = torch.full((rows, samples), temperature, device=token.device)
        flat[:, 0] = 1.0
        return Draw(torch.cat(out, -1), logged={"temperature": flat}, valid=torch.cat(counts, -1))

    def log_prob(self, ctx: Context, draw: Draw) -> LogProb:
        """Of every token at the temperature that it was drawn at (1 unless logged), with its entropy: (B,S,n) each."""
        ids = draw.value
        rows, samples, count = ids.shape
        flat = ids.flatten(0, 1)
        said = self.scores(ctx.fork(samples), flat).float()
        if "temperature" in draw.logged:
            said = said / draw.logged["temperature"].reshape(-1, 1, 1)
        said = said.log_softmax(-1)
        mask = torch.ones_like(ids, dtype=torch.bool) if draw.valid is None else draw.valid
        value = said.gather(-1, flat.unsqueeze(-1)).view(rows, samples, count)
        entropy = -(said.exp() * said).sum(-1).view(rows, samples, count)
        return LogProb(value, mask, entropy)


@contextmanager
def unended(hand: TokenExpert) -> Iterator[list[Tensor]]:
    """While it is open, the first token of the next draw cannot be the end; the list then holds where it would have
    been the likeliest, bool (B*S,). Nothing else changes."""
    first: list[Tensor] = []

    def hook(module: nn.Module, given: tuple[Tensor, ...], scores: Tensor) -> Tensor | None:
        if first:
            return None
        end = torch.tensor([hand.config.end], device=scores.device)
        first.append((scores.argmax(-1) == end).flatten())
        return scores.index_fill(-1, end, float("-inf"))

    handle = hand.leave.register_forward_hook(hook)
    try:
        yield first
    finally:
        handle.remove()
