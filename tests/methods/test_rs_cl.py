"""RS-CL's unit checks, lettered as in its specification, and what stream and objective owe their seams."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from mindhand.core.errors import BuildError
from mindhand.core.keys import Keys
from mindhand.core.seams import Objective, Stream
from mindhand.methods.learn.rs_cl import RSCL, Config, Summary, cknna, contrast, plug, targets

from ..contract.bases import ROWS, SPEC, examples, flow, policy

CONFIG = Config(32, 32, 5, steps=11)


def model():
    return policy(plug(flow(), SPEC, CONFIG))


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_are_a_stream_and_an_objective():
    assert isinstance(Summary(CONFIG), Stream) and isinstance(RSCL(CONFIG), Objective)


def test_a_weights_sum_to_one_and_equal_states_weigh_the_same():
    """(a) Every row of the targets sums to one; equal states weigh the same, and nothing more than oneself."""
    states = drawn(6, 5)
    states[4] = states[1]
    w = targets(states, 1.0)
    assert torch.allclose(w.sum(1), torch.ones(6)) and torch.allclose(w[:, 4], w[:, 1])
    assert torch.allclose(targets(states[:1].expand(6, -1), 1.0), torch.full((6, 6), 1 / 6))
    assert bool((w.diagonal() >= w.amax(1) - 1e-6).all())


def test_b_at_no_beta_it_is_infonce():
    """(b) With beta near 0 the loss is InfoNCE, whose only positive is oneself; with beta 1 it is not."""
    z, cut, states = drawn(6, 8), drawn(6, 8, seed=1), drawn(6, 5, seed=2)
    near = contrast(z, cut, targets(states, 1e-6), 0.2)
    a, b = (x / x.norm(dim=-1, keepdim=True) for x in (z, cut))
    assert torch.allclose(near, torch.nn.functional.cross_entropy(a @ b.T / 0.2, torch.arange(6), reduction="none"))
    assert not torch.allclose(near, contrast(z, cut, targets(states, 1.0), 0.2))


def test_c_its_weight_fades():
    """(c) The weight is 1 at the first step, below 1e-6 at the last and after it, and goes on after a restart."""
    objective, seen = RSCL(CONFIG), []
    for step in range(CONFIG.steps):
        seen.append(objective.weight)
        objective.after_step(None, step)
    assert seen[0] == 1 and seen[-1] < 1e-6 and seen[5] == pytest.approx(0.5) and seen == sorted(seen, reverse=True)
    assert objective.weight < 1e-6
    again = RSCL(CONFIG)
    again.load_state_dict(objective.state_dict())
    assert again.weight == objective.weight  # a training that goes on goes on from there


def test_states_are_scaled_by_the_extremes_met_so_far():
    objective, states = RSCL(CONFIG), drawn(8, 5)
    assert torch.allclose(objective.scaled(states).amax(0), torch.ones(5))
    assert torch.allclose(objective.scaled(states[:1] * 0 + states.amin(0)), torch.full((1, 5), -1.0))
    assert float(objective.scaled(10 * states).abs().max()) <= 1 + 1e-5
    again = RSCL(CONFIG)
    again.load_state_dict(objective.state_dict())
    assert torch.equal(again.scaled(states), objective.scaled(states))


def test_d_it_teaches_the_adapter_and_not_the_hand():
    """(d) No gradient of the loss reaches the hand, or a frozen mind; the adapter and its token learn."""
    vla = model()
    batch = examples(vla.backbone)
    vla.losses(batch, Keys.seeded(ROWS, 0))["rs_cl"].sum().backward()
    taught = {n for n, p in vla.named_parameters() if p.grad is not None and bool(p.grad.any())}
    assert any(n.startswith("streams.0.adapter") for n in taught) and "streams.0.token" in taught
    assert not [n for n in taught if n.startswith(("expert", "backbone", "streams.0.leave"))]
    vla.zero_grad()
    vla.losses(batch, Keys.seeded(ROWS, 0))["action"].sum().backward()
    assert vla.streams[0].leave.weight.grad.abs().max() > 0  # and the hand reads what was adapted


def test_an_unfrozen_trunk_learns_too():
    vla = policy(plug(flow(), SPEC, replace(CONFIG, frozen=False)))
    vla.losses(examples(vla.backbone), Keys.seeded(ROWS, 0))["rs_cl"].sum().backward()
    assert vla.backbone.towers["vlm"].layers[0].ffn.down.weight.grad.abs().max() > 0


def test_rows_that_do_not_act_are_left_out():
    vla = model()
    batch = examples(vla.backbone)
    valid = batch.action_valid.clone()
    valid[2] = False
    some = replace(batch, action_valid=valid)
    found = vla.losses(some, Keys.seeded(ROWS, 0))["rs_cl"]
    assert found[2] == 0 and bool((found[[0, 1, 3, 4, 5]] > 0).all())
    other = replace(some, state=torch.cat([some.state[:2], some.state[2:3] + 9, some.state[3:]]))
    assert torch.allclose(vla.losses(other, Keys.seeded(ROWS, 0))["rs_cl"], found, atol=1e-5)
    none = replace(batch, action_valid=torch.zeros_like(valid))
    assert "rs_cl" not in vla.losses(none, Keys.seeded(ROWS, 0))


def test_one_view_is_cut_off_and_another_at_another_step():
    objective, x = RSCL(CONFIG), drawn(4, 10, 3)
    views = {"image/front": slice(0, 4), "image/wrist": slice(4, 7)}
    gone = set()
    for step in range(20):
        cut = objective.cut(x, views, Keys.seeded(4, step))
        zero = (cut == 0).all(-1)
        assert torch.equal(cut[~zero], x[~zero])
        gone.add(tuple(zero[0].nonzero()[:, 0].tolist()))
        assert bool((zero == zero[:1]).all())
    assert gone == {(0, 1, 2, 3), (4, 5, 6)}
    half = (objective.cut(drawn(64, 10, 3), {"image/front": slice(0, 8)}, Keys.seeded(64, 0)) == 0).all(-1)
    assert 0.4 < half[:, :8].float().mean() < 0.6 and not half[:, 8:].any()
    with pytest.raises(BuildError, match="pictures"):
        objective.cut(x, {}, Keys.seeded(4))


def test_alignment_of_features():
    a = drawn(40, 6)
    turn, _ = torch.linalg.qr(drawn(6, 6, seed=3))
    assert cknna(a, a) == pytest.approx(1) and cknna(a, 3 * a @ turn) == pytest.approx(1)
    assert cknna(a, drawn(40, 6, seed=4)) < 0.4
    assert not math.isnan(cknna(a, torch.zeros(40, 2)))
