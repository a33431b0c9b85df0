"""OpenVLA-OFT (2502.19645): a chunk in one pass of the trunk, from action positions that hold nothing.

Seam: Expert. H x A' placeholder tokens of zeros ride in the language tower itself, see each other both ways, and
their last hidden states are regressed to the chunk with L1. The trunk is extended, never changed.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mindhand.core.batch import masked_rows
from mindhand.core.errors import BuildError
from mindhand.core.keys import Keys
from mindhand.core.seams import (
    CAUSAL,
    Code,
    Context,
    Draw,
    Expert,
    Inputs,
    LogProb,
    Noised,
    Rule,
    Sampler,
    Segment,
    Trunk,
    text_position,
)  # fmt: skip
from mindhand.model.moe import MoEConfig, Upcycle

from ..model.tiny import segments, vlm
from .build import batch, close, observation, vla

BOTH_WAYS: Rule = (("action", "action", "full"), *CAUSAL)
WIDTH, HORIZON, ACTION = 32, 4, 3
TOKENS = HORIZON * ACTION


class Residual(nn.Module):
    """x + ReLU(W LN(x))."""

    def __init__(self, width: int):
        super().__init__()
        self.norm, self.linear = nn.LayerNorm(width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + F.relu(self.linear(self.norm(x)))


class OFT(nn.Module):
    """Expert: parallel decoding, one step of the chunk from the A' hidden states at its positions, L1."""

    needs: frozenset[str] = frozenset({"text"})
    provides: frozenset[str] = frozenset({"draw"})

    def __init__(self, width: int = WIDTH, horizon: int = HORIZON, action: int = ACTION):
        super().__init__()
        self.shape, self.width = (horizon, action), width
        self.head = nn.Sequential(
            nn.LayerNorm(action * width), nn.Linear(action * width, width), nn.ReLU(),
            Residual(width), Residual(width), nn.LayerNorm(width), nn.Linear(width, action),
        )  # fmt: skip

    def placeholders(self, ctx: Context, valid: Tensor) -> Segment:
        """Zeros at H x A' positions behind the prompt; the steps of the chunk that are padding stay masked."""
        wide = valid.repeat_interleave(self.shape[1], 1)
        x = next(self.head.parameters()).new_zeros(*wide.shape, self.width)
        place = text_position(torch.ones_like(wide), ctx.trunk.end)
        robot = torch.ones(len(x), dtype=torch.int64, device=x.device)
        return Segment("action", x, wide, place, task=robot)

    def regress(self, trunk: Trunk) -> Tensor:
        """Hidden states at the action positions -> (B,H,A')."""
        return self.head(trunk.hidden["action"].unflatten(1, self.shape).flatten(2))

    def corrupt(self, code: Code, keys: Keys) -> Noised:
        """Nothing is left of the actions: what the network sees is the same for all."""
        clean = torch.where(code.valid.unsqueeze(-1), code.values, torch.zeros_like(code.values))
        return Noised(torch.zeros_like(clean), clean.new_zeros(len(clean)), clean, code.valid)

    def predict(self, ctx: Context, noised: Noised) -> Tensor:
        return self.regress(ctx.trunk.extend([self.placeholders(ctx, noised.valid)], rule=BOTH_WAYS))

    def loss(self, ctx: Context, code: Code, keys: Keys) -> dict[str, Tensor]:
        noised = self.corrupt(code, keys)
        return {"action": masked_rows((self.predict(ctx, noised) - noised.target).abs(), noised.valid)}

    def draw(
        self, ctx: Context, samples: int, *, keys: Keys, sampler: Sampler | None = None, noise: Tensor | None = None,
        frozen: Tensor | None = None, want: Sequence[str] = (), temperature: float = 1.0,
    ) -> Draw:  # fmt: skip
        """The one answer, `samples` times; parts held fixed are put in its place."""
        if sampler is not None:
            raise BuildError("a sampler for a hand that regresses", "no sampler", "take it out")
        rows = len(ctx.trunk.end)
        blank = torch.zeros(rows, *self.shape)
        every = torch.ones(rows, self.shape[0], dtype=torch.bool)
        value = self.predict(ctx, Noised(blank, blank[:, 0, 0], blank, every)).unsqueeze(1)
        value = value.expand(-1, samples, -1, -1)
        return Draw(value if frozen is None else torch.where(torch.isnan(frozen), value, frozen))

    def log_prob(self, ctx: Context, draw: Draw) -> LogProb:
        raise BuildError("a regressed chunk has no density", "an expert that samples", "choose flow or tokens")


def hand(seed: int = 0) -> OFT:
    torch.manual_seed(seed)
    return OFT()


def context(model=None) -> Context:
    model = model or vlm()
    return Context(model(segments(model)[0]), {}, Inputs({}, {}, None))


def code(valid: Tensor | None = None, seed: int = 3) -> Code:
    values = torch.rand(2, HORIZON, ACTION, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return Code(values, torch.ones(2, HORIZON, dtype=torch.bool) if valid is None else valid)


def passes(model) -> list[tuple[int, ...]]:
    """Grows by one with every pass of the trunk."""
    seen: list[tuple[int, ...]] = []
    model.towers["vlm"].layers[0].attn.out.register_forward_hook(lambda m, i, o: seen.append(tuple(o.shape)))
    return seen


def test_is_an_expert():
    assert isinstance(hand(), Expert)


@pytest.mark.parametrize("rule,reaches", [(BOTH_WAYS, True), (CAUSAL, False)])
def test_a_attention_between_action_positions(rule, reaches):
    """(a) A perturbed placeholder j > i changes the output at i with the two-way mask, and not with the causal."""
    ctx, oft = context(), hand()
    blank = oft.placeholders(ctx, torch.ones(2, HORIZON, dtype=torch.bool))
    i, j = 4, 7
    x = blank.x.clone()
    x[:, j] = 1.0
    moved = Segment(blank.name, x, blank.valid, blank.position)
    a, b = (ctx.trunk.extend([s], rule=rule).hidden["action"] for s in (blank, moved))
    assert bool((a[:, i] - b[:, i]).abs().amax(-1).min() > 1e-4) == reaches
    assert torch.equal(a[:, i], b[:, i]) != reaches
    assert (a[:, j + 1] - b[:, j + 1]).abs().amax(-1).min() > 1e-4  # and a later one in any case
    for name in ("image/front", "text", "reasoning"):
        assert torch.equal(ctx.trunk.hidden[name], ctx.trunk.extend([moved], rule=rule).hidden[name])


def test_b_one_pass_a_chunk():
    """(b) One pass of the trunk for H x A' numbers, however many samples; autoregression takes H x A'."""
    model, oft = vlm(), hand()
    ctx = context(model)
    seen = passes(model)
    with torch.no_grad():
        draw = oft.draw(ctx, 5, keys=Keys.seeded(2))
    assert seen == [(2, TOKENS, WIDTH)]
    assert draw.value.shape == (2, 5, HORIZON, ACTION) and torch.equal(draw.value[:, 0], draw.value[:, 4])
    oft.loss(ctx, code(), Keys.seeded(2))
    assert len(seen) == 2


def test_e_parallel_and_sequential_agree():
    """(e) One pass and H x A' passes have the same shapes; under the causal rule the same values too."""
    ctx, oft = context(), hand()
    s = oft.placeholders(ctx, torch.ones(2, HORIZON, dtype=torch.bool))
    step = ctx.trunk
    for i in range(TOKENS):
        part = (x[:, i : i + 1] for x in (s.x, s.valid, s.position))
        step = step.extend([Segment("action", *part)])
    parallel = ctx.trunk.extend([s])
    close(step.hidden["action"], parallel.hidden["action"])
    close(oft.regress(step), oft.regress(parallel))
    both = ctx.trunk.extend([s], rule=BOTH_WAYS)
    assert oft.regress(both).shape == oft.regress(step).shape == (2, HORIZON, ACTION)
    assert (oft.regress(both) - oft.regress(step)).abs().max() > 1e-3


def test_nothing_of_the_answer_is_in_the_input():
    """Two rows whose actions differ are predicted alike: no embedding of the truth is fed."""
    ctx, oft = context(), hand()
    a, b = (oft.predict(ctx, oft.corrupt(code(seed=s), Keys.seeded(2))) for s in (3, 4))
    assert torch.equal(a, b) and not torch.equal(code(seed=3).values, code(seed=4).values)


def test_padding_changes_neither_loss_nor_gradient():
    oft = hand()
    ctx = context()
    valid = torch.tensor([[True] * 4, [True, True, False, False]])
    out = []
    for junk in (0.0, 9.0):
        c = code(valid)
        c = Code(torch.where(valid.unsqueeze(-1), c.values, torch.full_like(c.values, junk)), valid)
        oft.zero_grad()
        loss = oft.loss(ctx, c, Keys.seeded(2))["action"]
        loss.sum().backward(retain_graph=True)
        out.append((loss.detach(), torch.cat([p.grad.flatten() for p in oft.parameters()])))
    assert torch.equal(out[0][0], out[1][0]) and torch.equal(out[0][1], out[1][1])
    shown = oft.predict(ctx, oft.corrupt(code(valid), Keys.seeded(2)))[1, :2]
    close(out[0][0][1], (shown - code().values[1, :2]).abs().mean().detach())
    none = oft.loss(ctx, code(torch.zeros(2, 4, dtype=torch.bool)), Keys.seeded(2))["action"]
    assert none.tolist() == [0, 0]


def test_held_parts_and_foreign_samplers():
    from mindhand.model.diffusion import ODE

    ctx, oft = context(), hand()
    frozen = torch.full((2, 2, HORIZON, ACTION), float("nan"))
    frozen[..., 0] = 0.5
    value = oft.draw(ctx, 2, keys=Keys.seeded(2), frozen=frozen).value
    free = oft.draw(ctx, 2, keys=Keys.seeded(2)).value
    assert bool((value[..., 0] == 0.5).all()) and torch.equal(value[..., 1:], free[..., 1:])
    with pytest.raises(BuildError, match="sampler"):
        oft.draw(ctx, 1, keys=Keys.seeded(2), sampler=ODE())
    with pytest.raises(BuildError, match="density"):
        oft.log_prob(ctx, Draw(value))


def test_in_a_vla_it_trains_the_mind_and_acts():
    """In the slot of the heart's own hand: losses, gradients into the language tower, a chunk in robot units."""
    model = vla(hand())
    loss = model.losses(batch(model.backbone), Keys.seeded(2))["action"]
    loss.mean().backward()
    assert model.backbone.towers["vlm"].layers[0].ffn.down.weight.grad.abs().max() > 0
    obs = observation()
    chunk, state = model.act(obs, model.start(obs.keys))
    again, _ = model.act(obs, state)
    assert chunk.actions.shape == (2, HORIZON, ACTION) and (chunk.actions == again.actions).all()
    other, _ = model.act(obs.with_text("instruction", ("3+4=7.", "pick")), model.start(obs.keys))
    assert abs(other.actions[0] - chunk.actions[0]).max() > 1e-5


def test_its_tokens_go_to_the_static_experts_of_robots():
    """The upcycled mind routes placeholders as robot tokens, whatever the rows of the prompt were."""
    model, oft = vlm(), hand()
    Upcycle(MoEConfig(mixture="static+dynamic")).apply(model)
    text = [Segment(s.name, s.x, s.valid, s.position, task=torch.tensor([0, 1])) for s in segments(model)[0]]
    ctx = Context(model(text), {}, Inputs({}, {}, None))
    before = oft.predict(ctx, oft.corrupt(code(), Keys.seeded(2)))
    with torch.no_grad():
        for block in model.towers["vlm"].layers:
            block.ffn.static.each[0].down.weight += 1  # the image-text experts
    assert torch.equal(before, oft.predict(ctx, oft.corrupt(code(), Keys.seeded(2))))
