"""Upcycling, mixtures, routing. Numbers of the specification: 1.0x, 2.0x, 1.5x, and a router gradient of zero."""

import copy

import pytest
import torch

from mindhand.core.errors import BuildError
from mindhand.model.moe import GAIN, MoE, MoEConfig, Upcycle, traffic
from mindhand.model.trunk import FFN

from .tiny import segments, vlm


def logits(model, task=None):
    segs, *_ = segments(model)
    if task is not None:
        segs = [type(s)(s.name, s.x, s.valid, s.position, s.tower, task) for s in segs]
    return model.logits(model(segs).hidden["reasoning"])


@pytest.mark.parametrize("training", [True, False])  # acting computes every expert on every token
@pytest.mark.parametrize("experts,active", [(8, 2), (4, 2), (6, 3), (8, 1), (8, 8)])
def test_upcycled_logits_equal_dense(experts, active, training):
    dense = vlm().train(training)
    moe = copy.deepcopy(dense)
    Upcycle(MoEConfig(experts, active)).apply(moe)
    a, b = logits(dense), logits(moe)
    assert (a - b).abs().max() <= 1e-6 * a.abs().max()


@pytest.mark.parametrize("mixture", sorted(GAIN))
def test_mixtures_raw_and_rescaled(mixture):
    torch.manual_seed(0)
    ffn = FFN(16, 24)
    x, task = torch.randn(2, 5, 16), torch.randint(0, 2, (2, 5))
    want = ffn(x)
    raw = MoE(MoEConfig(mixture=mixture), ffn)(x, task)
    assert (raw - GAIN[mixture] * want).abs().max() < 1e-6
    assert (MoE(MoEConfig(mixture=mixture, rescale=True), ffn)(x, task) - want).abs().max() < 1e-6
    assert {"dynamic": 1.0, "shared+dynamic": 2.0, "static+shared+dynamic": 1.5}.get(mixture, 1.0) == GAIN[mixture]


def test_router_gradient_is_zero_until_experts_differ():
    model = vlm()
    Upcycle(MoEConfig()).apply(model)
    segs = [type(s)(s.name, s.x.detach(), s.valid, s.position) for s in segments(model)[0]]

    def grads() -> tuple[float, float]:
        model.zero_grad()
        model(segs).hidden["reasoning"].square().sum().backward()
        moe = model.towers["vlm"].layers[0].ffn
        return float(moe.router.weight.grad.abs().max()), float(moe.down.grad.abs().max())

    router, experts = grads()
    assert router < 1e-6 * experts  # rounding only
    with torch.no_grad():
        model.towers["vlm"].layers[0].ffn.down[3] *= 1.1
    router, experts = grads()
    assert router > 1e-3 * experts


def test_routed_equals_the_formula_token_by_token():
    torch.manual_seed(1)
    moe = MoE(MoEConfig(5, 2), FFN(16, 24))
    for p in (moe.gate_up, moe.down):
        torch.nn.init.normal_(p, std=0.3)
    x = torch.randn(3, 4, 16)
    want = torch.zeros_like(x)
    for b in range(3):
        for n in range(4):
            l = moe.router(x[b, n])
            s = l.topk(2).indices
            for i, g in zip(s, l[s].softmax(0)):
                gate, up = (moe.gate_up[i] @ x[b, n]).chunk(2)
                want[b, n] += g * (moe.down[i] @ (torch.nn.functional.silu(gate) * up))
    assert (moe(x) - want).abs().max() < 1e-5
    # rows do not affect each other: no capacity, nothing dropped
    assert (moe(x[:1]) - want[:1]).abs().max() < 1e-5


def test_static_experts_route_by_task():
    torch.manual_seed(0)
    model = vlm()
    Upcycle(MoEConfig(mixture="static+dynamic")).apply(model)
    with torch.no_grad():
        model.towers["vlm"].layers[0].ffn.static.each[1].down.weight += 0.1
    same = logits(model, torch.tensor([0, 0]))
    robot = logits(model, torch.tensor([0, 1]))
    assert torch.equal(same[0], robot[0]) and (same[1] - robot[1]).abs().max() > 1e-3
    with pytest.raises(BuildError, match="task"):
        logits(model)


def test_sites_and_traffic():
    model = vlm()
    Upcycle(MoEConfig(4, 2)).apply(model)
    seen = []
    model.towers["vlm"].layers[0].ffn.scores.register_forward_hook(lambda m, i, o: seen.append(o.detach()))
    logits(model)
    assert seen[0].shape[-1] == 4
    valid = torch.ones(seen[0].shape[:2], dtype=torch.bool)
    share = traffic(seen[0], 2, valid)
    assert share.shape == (4,) and abs(float(share.sum()) - 1) < 1e-6 and float(share.max()) <= 0.5
    assert float(traffic(seen[0], 2, ~valid).sum()) == 0


def test_upcycling_twice_is_refused():
    model = vlm()
    Upcycle(MoEConfig()).apply(model)
    with pytest.raises(BuildError, match="layer 0"):
        Upcycle(MoEConfig()).apply(model)
    with pytest.raises(BuildError, match="active"):
        MoE(MoEConfig(2, 3), FFN(4, 4))


@pytest.mark.parametrize("tokens", [1, 5, 70])  # a word at a time; less than a block; several blocks
def test_while_it_acts_a_token_does_not_depend_on_its_neighbours_in_any_bit(tokens):
    torch.manual_seed(0)
    moe = MoE(MoEConfig(8, 2), FFN(128, 384))
    for p in moe.parameters():
        torch.nn.init.normal_(p, std=0.1)
    x, others = torch.randn(3, tokens, 128), torch.randn(40, tokens, 128)
    with torch.no_grad():
        moe.eval()
        alone = moe(torch.cat([x, others[:5]]))[:3]
        for at in (0, 2, 4):
            among = moe(torch.cat([others[5 : 5 + at], x, others[10 : 15 - at]]))[at : at + 3]
            assert torch.equal(alone, among)
        moe.train()
        assert torch.allclose(moe(x), alone, atol=1e-4)
