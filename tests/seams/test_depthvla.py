"""DepthVLA (2510.13375): a depth tower and a flow tower that ride in the trunk's attention, and a block mask.

Seams: Edit (the towers), Stream to the trunk (depth tokens), Rule (who sees whom), Expert (the flow tower),
Objective (the depth loss). No line of the trunk knows of any of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from mindhand.core.batch import Batch, Target, masked_rows
from mindhand.core.errors import BuildError
from mindhand.core.keys import Keys
from mindhand.core.seams import (
    CAUSAL,
    Code,
    Context,
    Draw,
    Edit,
    Expert,
    Inputs,
    LogProb,
    Noised,
    Objective,
    Rule,
    Sampler,
    Segment,
    State,
    Stream,
    StreamOut,
    Trunk,
    grid_position,
    text_position,
)  # fmt: skip
from mindhand.model.diffusion import ODE, Flow, sample_normal
from mindhand.model.expert import sinusoid
from mindhand.model.vision import Stem, StemConfig

from ..model.tiny import segments, vlm
from .build import batch, close

WIDE, DEEP, HAND = 32, 16, 24  # widths of the three towers
MASK: Rule = (
    ("action", "*", "full"),  # the hand sees everything
    ("depth", "depth", "full"),  # depth sees depth
    ("depth", "*", "none"),
    ("*", "depth", "none"),  # the mind sees the mind
    ("*", "action", "none"),
    *CAUSAL,
)


@dataclass(frozen=True)
class Towers:
    """Edit: a tower for depth and one for the hand, as deep as the trunk, narrower."""

    def apply(self, vla: nn.Module) -> None:
        """`vla` is a backbone or holds one."""
        backbone = getattr(vla, "backbone", vla)
        own = backbone.config.tower
        for name, width in (("depth", DEEP), ("hand", HAND)):
            backbone.add_tower(name, replace(own, width=width, ffn=2 * width))


class Depth(nn.Module):
    """Stream to the trunk: the depth encoder's tokens, one a cell of the picture."""

    feeds: Literal["trunk"] = "trunk"

    def __init__(self, camera: str = "front"):
        super().__init__()
        self.camera = camera
        self.stem = Stem(StemConfig(channels=(8, 8, 16, 16), out=DEEP))

    def start(self, rows: int) -> State:
        return {}

    def forward(self, inputs: Inputs, trunk: Trunk | None, state: State) -> StreamOut:
        p = self.stem(inputs.pixels[self.camera])
        valid = p.valid & inputs.present[self.camera].unsqueeze(1)
        return StreamOut((Segment("depth", p.x, valid, grid_position(len(p.x), p.grid), "depth"),), state)


def scale_invariant(log_depth: Tensor, depth: Tensor, valid: Tensor, share: float = 0.5) -> Tensor:
    """L_si = sqrt(mean(y^2) - share * mean(y)^2), y = log d_hat - log d over valid cells: (B,n) -> (B,)."""
    y = log_depth - torch.where(valid, depth, torch.ones_like(depth)).log()
    mean, square = masked_rows(y, valid), masked_rows(y**2, valid)
    return (square - share * mean**2).clamp_min(1e-8).sqrt()


class DepthLoss(nn.Module):
    """Objective: every depth token tells the depth of its cell; targets["depth"] (B,n) in metres."""

    replaces: frozenset[str] = frozenset()

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(DEEP, 1)

    def loss(self, vla: object, batch: Batch, ctx: Context, keys: Keys) -> dict[str, Tensor]:
        target = batch.targets["depth"]
        log_depth = self.head(ctx.trunk.hidden["depth"]).squeeze(-1)
        return {"depth": scale_invariant(log_depth, target.value, target.valid & ctx.trunk.valid["depth"])}

    def after_step(self, vla: object, step: int) -> None:
        pass


class TowerHand(nn.Module):
    """Expert: flow matching in a tower of the trunk; the prefix is cached, only action tokens are recomputed."""

    def __init__(self, action: int = 3, horizon: int = 4, rule: Rule = MASK):
        super().__init__()
        self.process, self.rule, self.shape = Flow(), rule, (horizon, action)
        self.enter, self.time, self.leave = nn.Linear(action, HAND), nn.Linear(HAND, HAND), nn.Linear(HAND, action)

    def segment(self, ctx: Context, x: Tensor, t: Tensor, valid: Tensor) -> Segment:
        """Noisy actions as tokens behind the prefix."""
        time = self.time(sinusoid(t * self.process.scale, HAND)).unsqueeze(1)
        return Segment("action", self.enter(x) + time, valid, text_position(valid, ctx.trunk.end), "hand")

    def velocity(self, ctx: Context, x: Tensor, t: Tensor, valid: Tensor) -> Tensor:
        trunk = ctx.trunk.extend([self.segment(ctx, x, t, valid)], rule=self.rule)
        return self.leave(trunk.hidden["action"])

    def corrupt(self, code: Code, keys: Keys) -> Noised:
        clean = torch.where(code.valid.unsqueeze(-1), code.values, torch.zeros_like(code.values))
        return self.process.corrupt(clean, code.valid, keys)

    def predict(self, ctx: Context, noised: Noised) -> Tensor:
        return self.velocity(ctx, noised.x, noised.t, noised.valid)

    def loss(self, ctx: Context, code: Code, keys: Keys) -> dict[str, Tensor]:
        noised = self.corrupt(code, keys)
        return {"action": masked_rows((self.predict(ctx, noised) - noised.target) ** 2, noised.valid)}

    def draw(
        self, ctx: Context, samples: int, *, keys: Keys, sampler: Sampler | None = None, noise: Tensor | None = None,
        frozen: Tensor | None = None, want: Sequence[str] = (), temperature: float = 1.0,
    ) -> Draw:  # fmt: skip
        wide = ctx.fork(samples)
        if noise is None:
            noise = temperature * sample_normal(keys.fold("draw"), samples, *self.shape, like=self.leave.weight)
        full = torch.ones(len(wide.trunk.end), self.shape[0], dtype=torch.bool)
        return (sampler or ODE(self.process))(
            lambda x, t: self.velocity(wide, x, t, full), noise, keys=keys, frozen=frozen
        )

    def log_prob(self, ctx: Context, draw: Draw) -> LogProb:
        raise BuildError("this hand keeps no chain", "a sampler with a density", "draw with one")


def world():
    """The tiny VLM with three towers, the trunk's segments and the depth segment of two rows, one hand."""
    torch.manual_seed(0)
    model = vlm()
    Towers().apply(model)
    for p in model.towers.parameters():
        if p.ndim > 1:
            nn.init.normal_(p, std=p.shape[-1] ** -0.5)
    mind = segments(model)[0]
    pixels = torch.rand(2, 1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    inputs = Inputs({"front": pixels}, {"front": torch.ones(2, dtype=torch.bool)}, None)
    stream = Depth()
    depth = stream(inputs, None, stream.start(2)).segments[0]
    return model, mind, depth, TowerHand(), inputs


def noised(seed: int = 0) -> Noised:
    g = torch.Generator().manual_seed(seed)
    full = torch.ones(2, 4, dtype=torch.bool)
    return Noised(torch.randn(2, 4, 3, generator=g), torch.tensor([0.3, 0.8]), torch.randn(2, 4, 3, generator=g), full)


def test_parts_fit_their_seams():
    assert isinstance(Towers(), Edit)
    assert isinstance(Depth(), Stream)
    assert isinstance(TowerHand(), Expert)
    assert isinstance(DepthLoss(), Objective)
    model = world()[0]
    with pytest.raises(BuildError, match="one occupant"):
        Towers().apply(model)


@pytest.mark.parametrize("order", ["mind depth hand", "hand depth mind", "depth hand mind"])
def test_a_who_sees_whom(order):
    """(a) Perturbed depth leaves the mind as it was; perturbed noise leaves mind and depth; the hand sees both.
    By the mask, wherever in the sequence they stand."""
    model, mind, depth, hand, inputs = world()

    def run(depth: Segment, x: Tensor):
        ctx = Context(model(mind), {}, inputs)
        action = hand.segment(ctx, x, noised().t, noised().valid)
        parts = {"mind": mind, "depth": [depth], "hand": [action]}
        return model([s for name in order.split() for s in parts[name]], rule=MASK).hidden

    x = noised().x
    base, moved, renoised = run(depth, x), run(replace(depth, x=depth.x + 1), x), run(depth, x + 1)
    for s in mind:
        assert torch.equal(base[s.name], moved[s.name]) and torch.equal(base[s.name], renoised[s.name])
    assert torch.equal(base["depth"], renoised["depth"]) and not torch.equal(base["depth"], moved["depth"])
    for other in (moved, renoised):
        assert (base["action"] - other["action"]).abs().amax((1, 2)).min() > 1e-3  # in every row
    # and the hand's last token reaches its first: full, not causal
    last = x.clone()
    last[:, -1] += 1
    assert (run(depth, last)["action"][:, 0] - base["action"][:, 0]).abs().min(0).values.max() > 1e-4


def test_a_without_its_line_depth_would_see_the_mind():
    """The case that breaks it: causally, what stands behind sees what stands before."""
    model, mind, depth, _, _ = world()
    first = [replace(mind[0], x=mind[0].x + 1), *mind[1:]]
    for rule, blind in ((MASK, True), (tuple(r for r in MASK if r[0] != "depth"), False)):
        a, b = (model([*m, depth], rule=rule).hidden["depth"] for m in (mind, first))
        assert torch.equal(a, b) == blind


def test_a_absent_cameras_are_masked():
    """A row whose camera is absent: its pixels reach nobody."""
    model, mind, _, hand, inputs = world()
    stream = Depth()
    out = []
    for shift in (0.0, 0.5):
        pixels = inputs.pixels["front"].clone()
        pixels[1] += shift
        seen = Inputs({"front": pixels}, {"front": torch.tensor([True, False])}, None)
        segment = stream(seen, None, {}).segments[0]
        out.append(hand.predict(Context(model([*mind, segment], rule=MASK), {}, seen), noised()))
    assert torch.equal(*out)


def test_b_scale_invariance():
    """(b) With factor 1 a global scale of depth changes nothing, with 0.5 it does; the root of nothing has a slope."""
    g = torch.Generator().manual_seed(0)
    guess, true = torch.randn(3, 8, generator=g), torch.rand(3, 8, generator=g) + 0.5
    valid = torch.rand(3, 8, generator=g) > 0.3
    a, b = (scale_invariant(guess, s * true, valid, share=1.0) for s in (1, 7))
    close(a, b)
    a, b = (scale_invariant(guess, s * true, valid) for s in (1, 7))
    assert (a - b).abs().min() > 0.1
    rows = [(guess[i][valid[i]] - true[i][valid[i]].log()) for i in range(3)]
    close(
        scale_invariant(guess, true, valid), torch.stack([((y**2).mean() - 0.5 * y.mean() ** 2).sqrt() for y in rows])
    )
    # invalid cells, however wrong, count for nothing
    close(scale_invariant(guess, torch.where(valid, true, -3.0), valid), scale_invariant(guess, true, valid))
    exact = true.log().requires_grad_()
    loss = scale_invariant(exact, true, valid).sum()
    loss.backward()
    assert bool(torch.isfinite(exact.grad).all()) and float(loss.detach()) < 1e-3


def test_b_the_depth_loss_trains_depth_alone():
    """Its gradient reaches encoder, tower and head of depth, and, by the mask, no weight of the mind."""
    model, mind, _, _, inputs = world()
    stream, objective = Depth(), DepthLoss()
    depth = stream(inputs, None, {}).segments[0]
    ctx = Context(model([*mind, depth], rule=MASK), {}, inputs)
    cells = depth.x.shape[1]
    known = torch.ones(2, cells, dtype=torch.bool)
    known[0, : cells // 2] = False
    labels = Target(1 + torch.arange(2.0 * cells).view(2, cells) / cells, known)
    loss = objective.loss(None, batch(model, targets={"depth": labels}), ctx, Keys.seeded(2))["depth"]
    assert loss.shape == (2,)
    loss.sum().backward()
    for part in (stream.stem, model.towers["depth"].layers[0], objective.head):
        assert all(p.grad.abs().max() > 0 for p in part.parameters() if p.ndim > 1)
    assert all(p.grad is None or not p.grad.any() for p in model.towers["vlm"].parameters())


def test_c_cached_equals_uncached_across_flow_steps():
    """(c) Ten Euler steps that extend the cached prefix of mind and depth, against ten whole passes."""
    model, mind, depth, hand, inputs = world()
    passes: list[tuple[int, ...]] = []
    model.towers["depth"].layers[0].out.register_forward_hook(lambda m, i, o: passes.append(tuple(o.shape)))
    with torch.no_grad():
        ctx = Context(model([*mind, depth], rule=MASK), {}, inputs)
        noise = torch.randn(2, 3, 4, 3, generator=torch.Generator().manual_seed(2))
        cached = hand.draw(ctx, 3, keys=Keys.seeded(2), noise=noise).value
        assert len(passes) == 1  # depth ran once for 3 samples of 10 steps
        full = torch.ones(6, 4, dtype=torch.bool)
        prefix = [
            replace(s, **{f: getattr(s, f).repeat_interleave(3, 0) for f in ("x", "valid", "position")})
            for s in (*mind, depth)
        ]
        wide = ctx.fork(3)

        def whole(x: Tensor, t: Tensor) -> Tensor:
            action = hand.segment(wide, x, t, full)
            return hand.leave(model([*prefix, action], rule=MASK).hidden["action"])

        close(cached, ODE()(whole, noise, keys=Keys.seeded(2)).value, 1e-4)
    assert len(passes) == 11


def test_d_without_depth_it_is_the_two_tower_model():
    """(d) Depth struck from the mask equals the model that never had it; left in, it does not."""
    model, mind, depth, hand, inputs = world()
    blind: Rule = (("action", "depth", "none"), *MASK)
    three, two = Context(model([*mind, depth], rule=MASK), {}, inputs), Context(model(mind), {}, inputs)
    # the depth segment may stand before or behind: `end` counts it, so both get the same explicit positions
    assert torch.equal(three.trunk.end, two.trunk.end)
    without = hand.predict(two, noised())
    hand.rule = blind
    close(hand.predict(three, noised()), without)
    hand.rule = MASK
    assert (hand.predict(three, noised()) - without).abs().max() > 1e-3


def test_the_flow_loss_reaches_all_three_towers():
    model, mind, depth, hand, inputs = world()
    ctx = Context(model([*mind, depth], rule=MASK), {}, inputs)
    valid = torch.tensor([[True] * 4, [False] * 4])  # the second row is an image-text row
    loss = hand.loss(ctx, Code(torch.rand(2, 4, 3), valid), Keys.seeded(2))["action"]
    assert loss.tolist()[0] > 0 and loss.tolist()[1] == 0
    loss.sum().backward()
    for tower in model.towers.values():
        assert tower.layers[0].attn.qkv.weight.grad.abs().max() > 0
