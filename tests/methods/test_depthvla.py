"""DepthVLA's unit checks, lettered as in its specification, and those of a hand in a tower of the trunk."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from mindhand.core.batch import Target
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
    Noised,
    Objective,
    Rule,
    Segment,
    Stream,
)  # fmt: skip
from mindhand.methods.see.depthvla import RULE, Config, Depth, DepthLoss, scale_invariant
from mindhand.model import tower_hand
from mindhand.model.diffusion import ODE, SDE
from mindhand.model.token_expert import SAID, SEEN
from mindhand.model.tower_hand import AddTower, TowerHand, TowerHandConfig
from mindhand.model.vision import StemConfig

from ..model.tiny import segments, vlm
from ..seams.build import batch, close

WIDE, DEEP, HAND = 32, 16, 24  # widths of the three towers
CONFIG = Config(DEEP, StemConfig(channels=(8, 8, 16, 16), out=DEEP))
MASK: Rule = (*tower_hand.RULE, *RULE, *CAUSAL)  # all in one pass
TOWERS = (AddTower("depth", DEEP, 2 * DEEP), AddTower("hand", HAND, 2 * HAND))


def made_hand() -> TowerHand:
    return TowerHand(TowerHandConfig(3, 4, 5, HAND))


def said(hand: TowerHand, ctx: Context, x: Tensor, t: Tensor, valid: Tensor) -> Segment:
    """The chunk's tokens, as they go behind the prefix."""
    kept: list[Segment] = []

    class Prefix:
        end, rule = ctx.trunk.end, ()

        def extend(self, found, **_):
            kept.extend(found)
            raise StopIteration

    with pytest.raises(StopIteration):
        hand.velocity(Prefix(), x, t, valid)
    return kept[0]


def world():
    """The tiny VLM with three towers, the trunk's segments and the depth segment of two rows, one hand."""
    torch.manual_seed(0)
    model = vlm()
    for edit in TOWERS:
        edit.apply(model)
    for p in model.towers.parameters():
        if p.ndim > 1:
            nn.init.normal_(p, std=p.shape[-1] ** -0.5)
    mind = segments(model)[0]
    pixels = torch.rand(2, 1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    state = torch.rand(2, 1, 5, generator=torch.Generator().manual_seed(3))
    inputs = Inputs({"front": pixels}, {"front": torch.ones(2, dtype=torch.bool)}, state)
    stream = Depth(CONFIG)
    depth = stream(inputs, None, stream.start(2)).segments[0]
    return model, mind, depth, made_hand(), inputs


def noised(seed: int = 0) -> Noised:
    g = torch.Generator().manual_seed(seed)
    full = torch.ones(2, 4, dtype=torch.bool)
    return Noised(torch.randn(2, 4, 3, generator=g), torch.tensor([0.3, 0.8]), torch.randn(2, 4, 3, generator=g), full)


def test_parts_fit_their_seams():
    assert isinstance(TOWERS[0], Edit)
    assert isinstance(Depth(CONFIG), Stream)
    assert isinstance(made_hand(), Expert)
    assert isinstance(DepthLoss(CONFIG), Objective)
    model = world()[0]
    with pytest.raises(BuildError, match="one occupant"):
        TOWERS[0].apply(model)
    with pytest.raises(BuildError, match="encoder of width"):
        Depth(replace(CONFIG, width=8))


@pytest.mark.parametrize(
    "order", ["mind depth hand", "hand depth mind", "depth hand mind", "eye depth words hand", "eye hand words depth"]
)
def test_a_who_sees_whom(order):
    """(a) Perturbed depth leaves the mind as it was; perturbed noise leaves mind and depth; the hand sees both.
    By the mask, wherever in the sequence they stand."""
    model, mind, depth, hand, inputs = world()

    def run(depth: Segment, x: Tensor):
        ctx = Context(model(mind), {}, inputs)
        action = said(hand, ctx, x, noised().t, noised().valid)
        parts = {"mind": mind, "eye": mind[:1], "words": mind[1:], "depth": [depth], "hand": [action]}
        return model([s for name in order.split() for s in parts[name]], rule=MASK).hidden

    x = noised().x
    base, moved, renoised = run(depth, x), run(replace(depth, x=depth.x + 1), x), run(depth, x + 1)
    plain = model(mind).hidden
    for s in mind:
        assert torch.equal(base[s.name], moved[s.name]) and torch.equal(base[s.name], renoised[s.name])
        close(base[s.name], plain[s.name])
    assert torch.equal(base["depth"], renoised["depth"]) and not torch.equal(base["depth"], moved["depth"])
    for other in (moved, renoised):
        assert (base["action"] - other["action"]).abs().amax((1, 2)).min() > 1e-3  # in every row
    # and the hand's last token reaches its first: full, not causal
    last = x.clone()
    last[:, -1] += 1
    assert (run(depth, last)["action"][:, 0] - base["action"][:, 0]).abs().min(0).values.max() > 1e-4


def test_a_without_its_line_depth_would_see_the_mind():
    """(a) The case that breaks it: without the rule, what stands behind sees what stands before."""
    model, mind, depth, _, _ = world()
    first = [replace(mind[0], x=mind[0].x + 1), *mind[1:]]
    for rule, blind in ((MASK, True), (tuple(r for r in MASK if r[0] != "depth"), False)):
        a, b = (model([*m, depth], rule=rule).hidden["depth"] for m in (mind, first))
        assert torch.equal(a, b) == blind


def test_a_absent_cameras_are_masked():
    """(a) A row whose camera is absent: its pixels reach nobody."""
    model, mind, _, hand, inputs = world()
    stream = Depth(CONFIG)
    out = []
    for shift in (0.0, 0.5):
        pixels = inputs.pixels["front"].clone()
        pixels[1] += shift
        seen = Inputs({"front": pixels}, {"front": torch.tensor([True, False])}, inputs.state)
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
    """(b) The loss's gradient reaches encoder, tower and head of depth, and, by the mask, no weight of the mind."""
    model, mind, _, _, inputs = world()
    stream, objective = Depth(CONFIG), DepthLoss(CONFIG)
    depth = stream(inputs, None, {}).segments[0]
    ctx = Context(model([*mind, depth], rule=MASK), {}, inputs)
    cells = depth.x.shape[1]
    known = torch.ones(2, cells, dtype=torch.bool)
    known[0, : cells // 2] = False
    labels = Target(1 + torch.arange(2.0 * cells).view(2, cells) / cells, known)
    loss = objective.loss(None, batch(model, targets={"depth": labels}), ctx, Keys.seeded(2))["depth"]
    assert loss.shape == (2,)
    loss.sum().backward()
    for part in (stream.encoder, model.towers["depth"].layers[0], objective.head):
        assert all(p.grad.abs().max() > 0 for p in part.parameters() if p.ndim > 1)
    assert all(p.grad is None or not p.grad.any() for p in model.towers["vlm"].parameters())


def test_c_cached_equals_uncached_across_flow_steps():
    """(c) Ten Euler steps that extend the cached prefix of mind and depth equal ten whole passes."""
    model, mind, depth, hand, inputs = world()
    passes: list[tuple[int, ...]] = []
    model.towers["depth"].layers[0].out.register_forward_hook(lambda m, i, o: passes.append(tuple(o.shape)))
    with torch.no_grad():
        ctx = Context(model([*mind, depth], rule=MASK), {}, inputs)
        noise = torch.randn(2, 3, 4, 3, generator=torch.Generator().manual_seed(2))
        cached = hand.draw(ctx, 3, keys=Keys.seeded(2), noise=noise).value
        assert len(passes) == 1  # depth ran once for 3 samples of 10 steps
        full = torch.ones(6, 4, dtype=torch.bool)
        seen = hand.senses(ctx)
        prefix = [
            replace(s, **{f: getattr(s, f).repeat_interleave(3, 0) for f in ("x", "valid", "position")}, task=None)
            for s in (*mind, depth, seen)
        ]
        behind = Context(hand.prefix(ctx).fork(3), {}, inputs)

        def whole(x: Tensor, t: Tensor) -> Tensor:
            return hand.leave(model([*prefix, said(hand, behind, x, t, full)], rule=MASK).hidden[SAID])

        close(cached, ODE()(whole, noise, keys=Keys.seeded(2)).value, 1e-4)
    assert len(passes) == 11


def test_d_without_depth_it_is_the_two_tower_model(monkeypatch):
    """(d) Depth struck from the mask equals the model that never had it; left in, it does not."""
    model, mind, depth, hand, inputs = world()
    three, two = Context(model([*mind, depth], rule=MASK), {}, inputs), Context(model(mind), {}, inputs)
    # the depth segment may stand before or behind: `end` counts it, so both get the same explicit positions
    assert torch.equal(three.trunk.end, two.trunk.end)
    without = hand.predict(two, noised())
    assert (hand.predict(three, noised()) - without).abs().max() > 1e-3
    blind: Rule = tuple((name, "depth", "none") for name in (SAID, SEEN))
    monkeypatch.setattr(tower_hand, "RULE", (*blind, *tower_hand.RULE))
    close(hand.predict(three, noised()), without)


def test_draws_are_keyed_and_have_a_density_with_a_stochastic_sampler():
    model, mind, _, hand, inputs = world()
    ctx, keys = Context(model(mind), {}, inputs), Keys.seeded(2)
    with torch.no_grad():
        one, three = (hand.draw(ctx, s, keys=keys).value for s in (1, 3))
        close(one, three[:, :1], 1e-4)
        assert (three[:, 1] - three[:, 2]).abs().max() > 1e-2
        drawn = hand.draw(ctx, 2, keys=keys, sampler=SDE(count=4), want=("chain",))
        found = hand.log_prob(ctx, drawn)
    assert bool(torch.isfinite(found.value[found.mask]).all()) and found.value.shape[:2] == (2, 2)
    with pytest.raises(BuildError, match="no density"):
        hand.log_prob(ctx, Draw(one))
    with pytest.raises(BuildError, match="state of size 7"):
        hand.predict(replace(ctx, inputs=replace(inputs, state=torch.zeros(2, 1, 7))), noised())


def test_the_flow_loss_reaches_all_three_towers():
    model, mind, depth, hand, inputs = world()
    ctx = Context(model([*mind, depth], rule=MASK), {}, inputs)
    valid = torch.tensor([[True] * 4, [False] * 4])  # the second row is an image-text row
    loss = hand.loss(ctx, Code(torch.rand(2, 4, 3), valid), Keys.seeded(2))["action"]
    assert loss.tolist()[0] > 0 and loss.tolist()[1] == 0
    loss.sum().backward()
    for tower in model.towers.values():
        assert tower.layers[0].attn.qkv.weight.grad.abs().max() > 0
