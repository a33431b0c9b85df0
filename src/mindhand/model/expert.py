"""The hand: a diffusion transformer (ScaleDP, 2409.14411) conditioned on what was seen and what was reasoned.

Block (DiT, 2212.09748, adaLN-Zero), non-causal over the tokens of streams and of the chunk:
    (s1,b1,a1,s2,b2,a2) = W SiLU(c);  x += a1 Attn(LN(x)(1+s1) + b1);  x += a2 MLP(LN(x)(1+s2) + b2)
    final: LN(x)(1+s) + b -> Linear; all W and the last Linear are zero at the start.
c is time plus one of the two conditions of `Following`. What differs from ScaleDP: tokens of streams to the
"expert" (a wrist camera's, a gaze's) come before the chunk's in the same attention. Without streams, it is ScaleDP.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mindhand.core.batch import masked_rows, token_mean
from mindhand.core.errors import BuildError
from mindhand.core.keys import Keys
from mindhand.core.seams import Code, Context, Draw, LogProb, Noised, Predict, Sampler, Trunk

from . import fits
from .attention import attend
from .diffusion import Diffusion, Flow, density, draw_chunks, sample_normal
from .following import Following, Place

Process = Literal["diffusion", "diffusion-action", "flow"]


@dataclass(frozen=True)
class ExpertConfig:
    """Defaults are ScaleDP-H's ("1B")."""

    action: int  # A', as coded
    horizon: int  # H
    state: int  # S
    trunk: int = 1536  # D of the language tower
    width: int = 1280
    layers: int = 32
    heads: int = 16
    ratio: int = 4  # MLP
    place: Place = "latter"  # of reasoning-following
    process: Process = "diffusion"  # (paper: diffusion, of noise)
    insulated: bool = False  # no gradient passes from the hand into the trunk (pi0.5-KI, 2505.23705; paper: False)
    doubt: float = 1.0  # of what is known and thought while learning, in standard deviations (paper: 0)


PROCESSES: dict[Process, Diffusion | Flow] = {
    "diffusion": Diffusion(),
    "diffusion-action": Diffusion(predicts="action"),
    "flow": Flow(),
}


def process_of(hand: Any) -> Diffusion | Flow | None:
    """What a hand walks back from noise, as it says itself; None where it does something else."""
    return next((p for p in PROCESSES.values() if fits.process(p) in hand.provides), None)


FAR = 1.5  # root mean square of a fitted mean, beyond which it is drawn back; about that of one with doubt


class Projector(nn.Module):
    """W2 GELU(W1 mean(tokens)): the mean over a run of tokens becomes one vector.

    Once fitted, a mean far from all that it was fitted on is drawn back to `FAR`: what was never seen must not speak
    louder than what was.
    """

    def __init__(self, width: int):
        super().__init__()
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)
        self.register_buffer("middle", torch.zeros(width))
        self.register_buffer("spread", torch.ones(width))
        self.register_buffer("fitted", torch.tensor(False))

    middle: Tensor
    spread: Tensor
    fitted: Tensor

    def forward(self, mean: Tensor, doubt: Tensor | None = None) -> Tensor:
        """(B,D) -> (B,D), or (B,n,D) token by token. doubt, of that shape: noise that is added while learning, in units
        of the spread, once fitted. The mean over a picture and a thought is unlike any other; a hand that may trust it
        to the last digit learns which frame it is in, and is lost on a frame that it has not seen (docs/log.md)."""
        x = (mean - self.middle) / self.spread
        if self.fitted:
            x = x.float() if doubt is None else x.float() + doubt
            x = (x / (x.square().mean(-1, keepdim=True).sqrt() / FAR).clamp_min(1)).to(mean.dtype)
        return self.second(F.gelu(self.first(x)))

    @torch.no_grad()
    def fit(self, means: Tensor) -> None:
        """Centre and scale the input by `means` (n,D), changing the first layer so that the output stays the same but
        for what is far.

        Means over runs of tokens are nearly alike; what differs between two thoughts is a small part of them, which a
        hand on a frozen mind would learn to read slowly."""
        middle, spread = means.mean(0), means.std(0).clamp_min(1e-2)
        whole = self.first.weight / self.spread
        self.first.bias += whole @ (middle - self.middle)
        self.first.weight.copy_(whole * spread)
        self.middle.copy_(middle)
        self.spread.copy_(spread)
        self.fitted.fill_(True)


class _Block(nn.Module):
    """Sites: `attn_out`, `inner`, `out`."""

    def __init__(self, c: ExpertConfig):
        super().__init__()
        self.heads = c.heads
        self.norm = nn.LayerNorm(c.width, elementwise_affine=False, eps=1e-6)
        self.qkv, self.o = nn.Linear(c.width, 3 * c.width), nn.Linear(c.width, c.width)
        self.fc1, self.fc2 = nn.Linear(c.width, c.ratio * c.width), nn.Linear(c.ratio * c.width, c.width)
        self.modulate = nn.Linear(c.width, 6 * c.width)
        self.attn_out, self.inner, self.out = nn.Identity(), nn.Identity(), nn.Identity()
        nn.init.zeros_(self.modulate.weight)
        nn.init.zeros_(self.modulate.bias)

    def forward(self, x: Tensor, c: Tensor, mask: Tensor) -> Tensor:
        s1, b1, a1, s2, b2, a2 = self.modulate(F.silu(c)).unsqueeze(1).chunk(6, -1)
        h = self.norm(x) * (1 + s1) + b1
        q, k, v = (p.unflatten(-1, (self.heads, -1)).transpose(1, 2) for p in self.qkv(h).chunk(3, -1))
        x = x + a1 * self.attn_out(self.o(attend(q, k, v, mask)))
        h = self.norm(x) * (1 + s2) + b2
        return self.out(x + a2 * self.fc2(self.inner(F.gelu(self.fc1(h), approximate="tanh"))))


@dataclass(frozen=True)
class Conditions:
    """What does not change while a chunk is denoised: L+1 conditions (B,width), stream tokens and their mask."""

    blocks: list[Tensor]
    tokens: Tensor  # (B,m,width)
    valid: Tensor  # (B,m)

    def repeat(self, samples: int) -> Conditions:
        """(B*S) rows, row-major."""
        same: dict[int, Tensor] = {}
        wide = [same.setdefault(id(b), b.repeat_interleave(samples, 0)) for b in self.blocks]
        return Conditions(wide, self.tokens.repeat_interleave(samples, 0), self.valid.repeat_interleave(samples, 0))


class ActionExpert(nn.Module):
    """Draws chunks by diffusion (default) or flow matching (core/seams.py, Expert)."""

    def __init__(self, config: ExpertConfig):
        super().__init__()
        c = self.config = config
        self.process = PROCESSES[c.process]
        follows = set() if c.place == "none" else {"reasoning"}  # else half of it, or all, would see the state alone
        self.needs = frozenset({"text", "codec", fits.trunk(c.trunk), fits.numbers(c.action), *follows})
        self.provides = frozenset({"draw", fits.HEARS, fits.tokens(c.width), fits.process(self.process)})
        self.prompt, self.thought = Projector(c.trunk), Projector(c.trunk)
        self.following = Following(c.place, c.trunk, c.state, c.width, c.layers, c.heads)
        self.time = nn.Sequential(nn.Linear(256, c.width), nn.SiLU(), nn.Linear(c.width, c.width))
        self.enter = nn.Linear(c.action, c.width)
        self.position = nn.Parameter(torch.zeros(1, c.horizon, c.width))
        nn.init.normal_(self.position, std=0.02)
        self.blocks = nn.ModuleList(_Block(c) for _ in range(c.layers))
        self.norm = nn.LayerNorm(c.width, elementwise_affine=False, eps=1e-6)
        self.last, self.leave = nn.Linear(c.width, 2 * c.width), nn.Linear(c.width, c.action)
        for layer in (self.last, self.leave):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.tokens = Projector(c.trunk) if c.place == "attend" else None  # of a thought, one by one

    def conditions(self, ctx: Context, keys: Keys | None = None) -> Conditions:
        """Pool the trunk's language tower into u and r, place them, and collect the tokens of streams to the expert.
        keys: of the doubt that learning adds to both."""
        if held := [name for name, out in ctx.streams.items() if out.entries]:
            raise BuildError(
                f"keys and values of the streams {held}, which the action expert does not read",
                "streams that feed 'expert' with tokens",
                "take the streams out, or use an expert that reads 'expert.kv'",
            )
        prompt, thought = two_means(ctx.trunk)
        if self.config.insulated:
            prompt, thought = prompt.detach(), thought.detach()
        rows = prompt.shape[0]
        state = ctx.inputs.state
        if state is None or state.shape[-1] != self.config.state:
            have = None if state is None else state.shape[-1]
            raise BuildError(f"a state of size {have}", f"{self.config.state}", "use the spec the expert was built for")
        now = state[:, -1].to(prompt.dtype)
        known, said = self._doubt(keys, "prompt", prompt), self._doubt(keys, "thought", thought)
        each = self._tokens(ctx.trunk, keys)
        blocks = self.following(self.prompt(prompt, known), self.thought(thought, said), prompt, now, each)
        segments = [s for out in ctx.streams.values() for s in out.segments]
        width = self.config.width
        for s in segments:
            if s.x.shape[-1] != width:
                raise BuildError(f"stream tokens '{s.name}' of width {s.x.shape[-1]}", f"{width}", "project them")
        tokens = torch.cat([s.x for s in segments], 1) if segments else prompt.new_zeros(rows, 0, width)
        valid = torch.cat([s.valid for s in segments], 1) if segments else tokens.new_zeros(rows, 0, dtype=torch.bool)
        return Conditions(blocks, tokens, valid)

    def _doubt(self, keys: Keys | None, name: str, like: Tensor) -> Tensor | None:
        if keys is None or not self.config.doubt:
            return None
        return self.config.doubt * sample_normal(keys.fold("doubt").fold(name), 1, *like.shape[1:], like=like)[:, 0]

    def _tokens(self, trunk: Trunk, keys: Keys | None) -> tuple[Tensor, Tensor] | None:
        """For who attends to them, the thought's tokens (B,n,D), projected, and which there are (B,n)."""
        if self.tokens is None:
            return None
        x, valid = thought_tokens(trunk)
        x = x.detach() if self.config.insulated else x
        return self.tokens(x, self._doubt(keys, "tokens", x)), valid

    def denoise(self, c: Conditions, x: Tensor, t: Tensor, valid: Tensor | None = None) -> Tensor:
        """ONE network call: x (N,H,A'), t (N,), valid (N,H) -> prediction (N,H,A')."""
        rows, horizon = x.shape[:2]
        time = self.time(sinusoid(t * self.process.scale, 256).to(c.tokens.dtype))
        z = torch.cat([c.tokens, self.enter(x.to(c.tokens.dtype)) + self.position[:, :horizon]], 1)
        own = torch.ones(rows, horizon, dtype=torch.bool, device=x.device) if valid is None else valid
        keys = torch.cat([c.valid, own], 1)
        none = ~keys.any(1, keepdim=True)  # a row without robot data: let it see itself, its loss is masked
        mask = (keys | none).view(rows, 1, 1, -1)
        for b, cond in zip(self.blocks, c.blocks):
            z = b(z, time + cond, mask)
        scale, shift = self.last(F.silu(time + c.blocks[-1])).unsqueeze(1).chunk(2, -1)
        return self.leave(self.norm(z[:, c.tokens.shape[1] :]) * (1 + scale) + shift)

    def corrupt(self, code: Code, keys: Keys) -> Noised:
        """Noise a coded chunk (B,H,A'); padded steps are zeroed first, so that they carry nothing."""
        clean = torch.where(code.valid.unsqueeze(-1), code.values, torch.zeros_like(code.values))
        return self.process.corrupt(clean, code.valid, keys)

    def predict(self, ctx: Context, noised: Noised, keys: Keys | None = None) -> Tensor:
        """ONE network call, (B,H,A'). keys: of the doubt that learning adds (`conditions`)."""
        return self.denoise(self.conditions(ctx, keys), noised.x, noised.t, noised.valid)

    def loss(self, ctx: Context, code: Code, keys: Keys) -> dict[str, Tensor]:
        """{"action": (B,)}: the process's error of the prediction, mean over the valid steps of each row."""
        noised = self.corrupt(code, keys)
        error = self.process.error(self.predict(ctx, noised, keys).float(), noised.target.float())
        return {"action": masked_rows(error, noised.valid)}

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
        """S chunks a row on one conditioning: value (B,S,H,A'). The chain is kept only if `want` names it.
        noise (B,S,H,A') or (B,1,H,A'); `temperature` scales it, given or not."""
        conditions = self.conditions(ctx)
        shape = (samples, self.config.horizon, self.config.action)
        return draw_chunks(
            self._step(conditions, samples),
            sampler or self.process.sampler(),
            conditions.tokens.shape[0],
            shape,
            like=self.position,
            keys=keys,
            noise=noise,
            frozen=frozen,
            want=want,
            temperature=temperature,
        )

    def log_prob(self, ctx: Context, draw: Draw) -> LogProb:
        """As `diffusion.density`."""
        return density(lambda samples: self._step(self.conditions(ctx), samples), draw)

    def _step(self, conditions: Conditions, samples: int) -> Predict:
        wide = conditions.repeat(samples)
        return lambda x, t: self.denoise(wide, x, t).to(x.dtype)


def two_means(trunk: Trunk) -> tuple[Tensor, Tensor]:
    """Mean hidden states (B,D) of the prompt and of the reasoning, over segments of the language tower alone."""
    names = [n for n in trunk.hidden if trunk.tower.get(n, "vlm") == "vlm"]
    prompt = pooled(trunk, [n for n in names if not is_reasoning(n)])
    return prompt, pooled(trunk, [n for n in names if is_reasoning(n)], like=prompt)


def thought_tokens(trunk: Trunk) -> tuple[Tensor, Tensor]:
    """Hidden states (B,n,D) of the reasoning's tokens and which of them there are (B,n); zeros where there are none."""
    names = [n for n in trunk.hidden if trunk.tower.get(n, "vlm") == "vlm" and is_reasoning(n)]
    if not names:
        prompt, _ = two_means(trunk)
        return torch.zeros_like(prompt).unsqueeze(1), torch.zeros_like(prompt[:, :1], dtype=torch.bool)
    hidden, valid = (torch.cat([of[n] for n in names], 1) for of in (trunk.hidden, trunk.valid))
    return torch.where(valid.unsqueeze(-1), hidden, torch.zeros_like(hidden)), valid


def is_reasoning(name: str) -> bool:
    """Whether a segment is the model's own words ("reasoning", "reasoning/2")."""
    return name.split("/")[0] == "reasoning"


def pooled(trunk: Trunk, names: Sequence[str], like: Tensor | None = None) -> Tensor:
    """Mean hidden state (B,D) over the valid tokens of the named segments; zeros where there are none."""
    if not names:
        assert like is not None
        return torch.zeros_like(like)
    hidden = torch.cat([trunk.hidden[n] for n in names], 1)
    return token_mean(hidden, torch.cat([trunk.valid[n] for n in names], 1))


def sinusoid(t: Tensor, size: int) -> Tensor:
    """(N,) -> (N,size) float32, cosines then sines of geometric frequencies 1 .. 1e-4."""
    rate = torch.exp(-math.log(1e4) * torch.arange(size // 2, device=t.device, dtype=torch.float32) / (size // 2))
    angle = t.float().unsqueeze(1) * rate
    return torch.cat([angle.cos(), angle.sin()], -1)
