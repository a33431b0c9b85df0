"""OpenVLA-OFT: a whole chunk in one pass of the trunk, continuous, by L1; FiLM for language (2502.19645).

Seams: expert, edits. Zeros ride at H x A action positions behind prompt and state, see each other both ways, and their
last hidden states are regressed to the chunk: no action word is decoded. `Film` (OFT+) scales and shifts what the
vision tower sees by the mean embedding of the instruction. With a `spread` it also tells how far off it may be, and so
can be drawn from and made likelier (RIPT-VLA). Differs from the heart: no thought steers it, no noise. Here state and
streams come behind the text, and the bench trains all of the mind. The paper: LIBERO 76.5 to 97.1 %, 26 times
the actions a second of the same VLA with tokens.
Use: VLA(expert=OFT(Config(...)), edits=[Film()], ...)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from mindhand.core.batch import masked_rows
from mindhand.core.card import Claim, MethodCard
from mindhand.core.errors import BuildError
from mindhand.core.keys import Keys
from mindhand.core.parts import Entry, replaces_only
from mindhand.core.seams import Code, Context, Draw, Inputs, LogProb, Noised, Rule, Sampler, Segment, text_position
from mindhand.core.spec import Spec
from mindhand.model import fits
from mindhand.model.bins import BinCodec
from mindhand.model.codec import ChunkCodec
from mindhand.model.spread import Spread, residual_mlp
from mindhand.model.streams import entries
from mindhand.model.token_expert import SAID, Senses, TokenExpert, robots
from mindhand.model.vision import Stem, ViT
from mindhand.model.vision_qwen25 import WindowViT
from mindhand.model.vision_siglip import SigLIP

BOTH_WAYS: Rule = ((SAID, SAID, "full"),)  # before the pass's own rule


@dataclass(frozen=True)
class Config:
    """The shape of a chunk, and of what it is drawn from. In brackets the paper's values."""

    horizon: int  # H (8 on LIBERO, 25 on ALOHA)
    action: int  # A
    state: int  # S
    trunk: int  # D, and so the width of streams
    blocks: int = 2  # of the head (2)
    spread: Literal["", "laplace", "gaussian"] = ""  # of what round the answer is drawn ("")

    @property
    def width(self) -> int:
        """Of the tokens of streams."""
        return self.trunk


class OFT(nn.Module):
    """Expert: parallel decoding, one step of the chunk from the A hidden states at its positions, L1."""

    part_name = "oft"

    def __init__(self, config: Config):
        super().__init__()
        c = self.config = config
        self.needs = frozenset({"text", "codec", fits.trunk(c.trunk), fits.numbers(c.action)})
        self.provides = frozenset({"draw", fits.HEARS, fits.KEYS_AND_VALUES, fits.tokens(c.trunk)})
        self.senses = Senses(c.state, c.trunk)
        self.head = residual_mlp(c.action * c.trunk, c.trunk, c.blocks, c.action)
        self.spread = Spread(c.spread, c.action * c.trunk, c.trunk, c.blocks, c.action) if c.spread else None

    def placeholders(self, start: Tensor, valid: Tensor) -> Segment:
        """Zeros at H x A positions from `start` (B,) on; the steps of the chunk that are padding stay masked."""
        wide = valid.repeat_interleave(self.config.action, 1)
        x = self.head[0].weight.new_zeros(*wide.shape, self.config.trunk)
        return Segment(SAID, x, wide, text_position(torch.ones_like(wide), start), task=robots(x))

    def regress(self, hidden: Tensor) -> Tensor:
        """Hidden states (B,H*A,D) at the action positions -> (B,H,A)."""
        return self.head(self._steps(hidden))

    def _steps(self, hidden: Tensor) -> Tensor:
        return hidden.unflatten(1, (-1, self.config.action)).flatten(2)

    def corrupt(self, code: Code, keys: Keys) -> Noised:
        """Nothing is left of the actions: what the network sees is the same for all."""
        clean = torch.where(code.valid.unsqueeze(-1), code.values, torch.zeros_like(code.values))
        return Noised(torch.zeros_like(clean), clean.new_zeros(len(clean)), clean, code.valid)

    def predict(self, ctx: Context, noised: Noised) -> Tensor:
        """ONE pass: (B,H,A)."""
        return self.regress(self.hidden(ctx, noised.valid))

    def hidden(self, ctx: Context, valid: Tensor) -> Tensor:
        """ONE pass, for a chunk of which valid (B,H) counts: (B,H*A,D)."""
        seen = self.senses(ctx)
        blank = self.placeholders(ctx.trunk.end + seen.valid.sum(1), valid)
        how = {"rule": (*BOTH_WAYS, *ctx.trunk.rule), "extras": entries(ctx)}
        return ctx.trunk.extend([seen, blank], **how).hidden[SAID]

    def loss(self, ctx: Context, code: Code, keys: Keys) -> dict[str, Tensor]:
        """{"action": (B,)}: mean distance over the valid steps of each row; with a spread, "scale" (B,): how unlikely
        the demonstrated chunk is, of which the scale alone learns."""
        noised = self.corrupt(code, keys)
        hidden = self.hidden(ctx, noised.valid)
        mean = self.regress(hidden)
        out = {"action": masked_rows((mean - noised.target).abs(), noised.valid)}
        if self.spread is not None:
            out["scale"] = masked_rows(self.spread.loss(noised.target, mean, self._steps(hidden)), noised.valid)
        return out

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
        """The one answer, `samples` times, or with a spread drawn round it but for the first; parts held fixed are put
        in its place."""
        if given := [n for n, x in (("sampler", sampler), ("noise", noise)) if x is not None]:
            raise BuildError(f"a {given[0]} for a hand that regresses", "none", "take it out, or choose flow")
        hidden = self.hidden(ctx, self._every(ctx))
        value, logged = self.regress(hidden).unsqueeze(1).expand(-1, samples, -1, -1), {}
        if self.spread is not None:
            value = self.spread.draw(value[:, 0], self._steps(hidden), samples, keys, temperature).to(value.dtype)
            flat = torch.full(value.shape[:2], temperature, device=value.device)
            flat[:, 0] = 1.0
            logged = {"temperature": flat}
        return Draw(value if frozen is None else torch.where(torch.isnan(frozen), value, frozen), logged=logged)

    def _every(self, ctx: Context) -> Tensor:
        return torch.ones(len(ctx.trunk.end), self.config.horizon, dtype=torch.bool, device=ctx.trunk.end.device)

    def log_prob(self, ctx: Context, draw: Draw) -> LogProb:
        """Of every step of a chunk, the sum over its numbers, with the entropy: (B,S,H) each. The scale is that of the
        draw's temperature. BuildError without a spread."""
        if self.spread is None:
            do = "Config(spread='laplace'), or choose flow or tokens"
            raise BuildError("a regressed chunk has no density", "a hand that knows how far off it may be", do)
        hidden, flat = self.hidden(ctx, self._every(ctx)), draw.logged.get("temperature")
        wide = 1.0 if flat is None else flat[..., None, None]
        at = self.spread.round(self.regress(hidden).unsqueeze(1), self._steps(hidden).unsqueeze(1), wide)
        value = at.log_prob(draw.value.float()).sum(-1)
        mask = torch.ones_like(value, dtype=torch.bool)
        if draw.valid is not None:
            mask = draw.valid.reshape(*value.shape, -1).all(-1)
        return LogProb(value, mask, at.entropy().sum(-1).expand_as(value))


class FilmSite(nn.Module):
    """(1 + gamma) x + beta, a number a channel, from what is asked; nothing where nothing is, and at the start."""

    def __init__(self, of: nn.Module, width: int, channels: int, last: bool):
        super().__init__()
        self.of, self.last = (of,), last  # the backbone, in a tuple: no child
        self.tell = nn.Linear(width, 2 * channels)
        nn.init.zeros_(self.tell.weight)
        nn.init.zeros_(self.tell.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B',n,C) or, channels not last, (B',C,h,w); B' is B, or B pictures of several frames."""
        about = self.of[0].about
        if about is None:
            return x
        told = self.tell(about).repeat_interleave(len(x) // len(about), 0)
        gamma, beta = told.view(len(x), *([1, -1] if self.last else [-1, 1, 1])).chunk(2, -1 if self.last else 1)
        return (1 + gamma) * x + beta


@dataclass(frozen=True)
class Film:
    """Edit: FiLM in the vision tower, in every block of a transformer between attention and MLP, of a stem behind
    every convolution."""

    part_name: ClassVar[str] = "film"
    provides: ClassVar[frozenset[str]] = frozenset({"FiLM"})  # a second one would scale what the first has scaled

    def apply(self, vla: nn.Module) -> None:
        """`vla` is a VLM or holds one as `backbone`. BuildError for another tower."""
        backbone = getattr(vla, "backbone", vla)
        width, tower = backbone.width, backbone.vision
        if isinstance(tower, ViT | WindowViT | SigLIP):
            for block in tower.blocks:
                block.middle = FilmSite(backbone, width, tower.config.width, True)
        elif isinstance(tower, Stem):
            layers = list(tower.convs)
            sites = [(i, c.out_channels) for i, c in enumerate(layers) if isinstance(c, nn.Conv2d)]
            for i, channels in reversed(sites):
                layers.insert(i + 1, FilmSite(backbone, width, channels, False))
            tower.convs = nn.Sequential(*layers)
        else:
            raise BuildError(f"FiLM in a {type(tower).__name__}", "a ViT or a Stem", "leave it out")


PART = Entry("oft", Config, lambda config, **_: OFT(config))
EDIT = Entry("film", Film, lambda config, **_: config)
CARD = MethodCard(
    name="oft",
    title="OpenVLA-OFT",
    arxiv="2502.19645",
    area="act",
    seams=("expert", "edits"),
    claim=Claim("whole chunks by regression succeed more often than chunks of tokens, in one pass", "effect"),
    base="tokens",
)


def plug(
    parts: Mapping[str, Any], spec: Spec, film: bool = True, spread: Literal["", "laplace", "gaussian"] = ""
) -> dict[str, Any]:
    """Instead of a hand of tokens and its bins."""
    replaces_only(parts, "OFT", expert=TokenExpert, codec=BinCodec)
    told = parts["expert"].config
    sizes = told.length // spec.action_size, spec.action_size, spec.state_size, told.trunk
    config = Config(*sizes, spread=spread)
    edits = [*parts.get("edits", ()), *([Film()] if film else [])]
    return {**parts, "expert": OFT(config), "codec": ChunkCodec(spec), "edits": edits}


@torch.no_grad()
def probe(on: Any, off: Any) -> bool:
    """A chunk takes one pass of the trunk behind the prompt's, and the other hand more."""
    state = torch.zeros(2, 1, on.spec.state_size)
    passes = []
    for vla in (on, off):
        ask = vla.backbone.words.questions(["pick", "pick"])
        ctx = Context(vla.backbone([vla.backbone.text("text", ask.ids, ask.valid)]), {}, Inputs({}, {}, state))
        count: list[int] = []
        hook = vla.backbone.towers["vlm"].layers[0].attn.out.register_forward_hook(lambda *_, c=count: c.append(1))
        vla.expert.draw(ctx, 1, keys=Keys.seeded(2))
        hook.remove()
        passes.append(len(count))
    return passes[0] == 1 < passes[1]
