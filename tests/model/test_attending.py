"""Attending to a thought: the mean where it begins, what no mean can tell where it has learned, padding never."""

from dataclasses import replace

import pytest
import torch

from mindhand.core.batch import Batch, Target, token_mean
from mindhand.core.keys import Keys
from mindhand.core.seams import Context
from mindhand.model.attending import Attending
from mindhand.model.following import Following
from mindhand.model.thinking import remember, remembered

from .test_expert import code, context
from .tiny import expert, vlm


def tokens(rows=2, n=5, width=8):
    x = torch.randn(rows, n, width, generator=torch.Generator().manual_seed(1))
    valid = torch.ones(rows, n, dtype=torch.bool)
    valid[1, 3:] = False
    return x, valid


def learned(hand):
    """One whose queries and conditions are no longer those of the start."""
    torch.manual_seed(3)
    for name, p in hand.named_parameters():
        if "query" in name or "modulate" in name or "last" in name or "leave" in name:
            torch.nn.init.normal_(p, std=0.5)
    return hand


def test_it_begins_with_the_mean():
    x, valid = tokens()
    made = Attending(8, 3, 2)(x, valid)
    assert made.shape == (2, 3, 8)
    assert torch.allclose(made, token_mean(x, valid).unsqueeze(1).expand_as(made), atol=1e-6)


def test_a_query_picks_its_token_and_padding_is_nobody_s():
    x, valid = tokens()
    made = Attending(8, 3, 1)
    with torch.no_grad():
        made.key.weight.copy_(torch.eye(8))
        made.query[1] = 100 * x[1, 2]
        made.query[2] = 100 * x[1, 4]  # which is padding
    out = made(x, valid)
    assert torch.allclose(out[1, 1], x[1, 2], atol=1e-4)
    other = made(torch.where(valid.unsqueeze(-1), x, x + 7), valid)
    assert torch.equal(out, other) and not torch.allclose(out[1, 2], x[1, 4], atol=0.1)
    alone = made(x[1:, :3], valid[1:, :3])
    assert torch.allclose(alone, out[1:], atol=1e-6), "what else is in a batch changes nothing"
    assert bool(torch.isfinite(made(x, torch.zeros_like(valid))).all())


def test_heads_divide_the_width():
    with pytest.raises(ValueError, match="that divide it"):
        Attending(8, 3, 3)


def test_blocks_of_the_latter_half_hear_each_their_own():
    torch.manual_seed(0)
    of = learned(Following("attend", 8, 2, 8, 4, heads=2))
    u, r, prompt, state = torch.randn(2, 8), torch.randn(2, 8), torch.randn(2, 8), torch.randn(2, 2)
    x, valid = tokens()
    a = of(u, r, prompt, state, (x, valid))
    assert len(a) == 5 and len({id(c) for c in a}) == 4
    assert all((p - q).abs().max() > 1e-4 for k, p in enumerate(a[2:]) for q in a[2:][:k])

    def moved(**change):
        b = of(**{"u": u, "r": r, "prompt": prompt, "state": state, "said": (x, valid), **change})
        return [bool((p - q).abs().max() > 1e-6) for p, q in zip(a, b)]

    assert moved(u=u + torch.randn_like(u)) == moved(r=r + torch.randn_like(r)) == [True, True, False, False, False]
    assert moved(said=(x + torch.randn_like(x), valid)) == [False, False, True, True, True]
    assert all(moved(state=state + 1))


def test_it_tells_thoughts_apart_that_have_one_mean():
    ctx = context()
    same = dict(ctx.trunk.hidden)
    mean = token_mean(same["reasoning"], ctx.trunk.valid["reasoning"])
    same["reasoning"] = mean.unsqueeze(1).expand_as(same["reasoning"]).contiguous()
    flat = replace(ctx, trunk=replace(ctx.trunk, hidden=same))
    for place, differs in (("latter", False), ("attend", True)):
        hand = learned(expert(place))
        n = hand.corrupt(code(), Keys.seeded(2, "noise"))
        far = (hand.predict(ctx, n) - hand.predict(flat, n)).abs().max()
        assert bool(far > 1e-4) == differs, place


def test_remembered_tokens_are_as_good_as_a_pass():
    model, hand = vlm(), learned(expert("attend"))
    ctx = context(model)
    kept = remember(ctx.trunk, tokens=True)
    assert kept["there"].sum(1).tolist() == ctx.trunk.valid["reasoning"].sum(1).tolist()
    targets = {"kept/prompt": Target(kept["prompt"], torch.ones(2, dtype=torch.bool))}
    targets["kept/reasoning"] = Target(kept["reasoning"].half().float(), kept["there"])
    trunk = remembered(Batch((), {}, {}, {}, torch.ones(2), ctx.inputs.state, targets=targets), model)
    n = hand.corrupt(code(), Keys.seeded(2, "noise"))
    again = hand.predict(Context(trunk, {}, ctx.inputs), n)
    assert torch.allclose(again, hand.predict(ctx, n), atol=1e-2)
    assert not torch.allclose(again, hand.predict(context(model, ("7.", "9.")), n), atol=1e-2)


def test_it_learns_where_to_look_and_an_insulated_mind_does_not():
    for insulated in (False, True):
        model, hand = vlm(), learned(expert("attend"))
        hand.config = replace(hand.config, insulated=insulated)
        hand.tokens.fit(torch.randn(64, hand.config.trunk))
        hand.loss(context(model), code(), Keys.seeded(2, "loss"))["action"].mean().backward()
        assert float(hand.following.attending.query.grad.abs().max()) > 0
        assert float(hand.tokens.first.weight.grad.abs().max()) > 0
        assert any(p.grad is not None for p in model.parameters()) != insulated
