"""The mind learns to say actions: it does, padding and image-text rows say nothing, and the hand is not asked."""

from dataclasses import replace

import torch

from mindhand.core.keys import Keys
from mindhand.model.bins import BinCodec
from mindhand.model.token_expert import TokenConfig, TokenExpert
from mindhand.train.said import SaidActions

from ..contract.bases import HORIZON, SPEC, examples, flow, policy


def saying(parts):
    codec = BinCodec(SPEC)
    told = TokenConfig(256, HORIZON * SPEC.action_size, SPEC.state_size, parts["backbone"].width)
    return {**parts, "objectives": [SaidActions(codec, TokenExpert(told))]}


def made():
    vla = policy(saying(flow()))
    vla.objectives[0].fit(iter([examples(vla.backbone, seed) for seed in range(8)]))
    return vla


def losses(vla, batch):
    vla.zero_grad()
    return vla.losses(batch, Keys.seeded(len(batch), 0))


def test_the_mind_learns_from_what_is_said_and_from_nothing_else_here():
    vla = made()
    losses(vla, examples(vla.backbone, 3))["said"].mean().backward()
    assert any(bool(p.grad.any()) for n, p in vla.backbone.named_parameters() if p.grad is not None and "vlm" in n)
    assert all(p.grad is None for p in vla.expert.parameters())


def test_rows_without_actions_say_nothing_and_do_not_weigh():
    vla = made()
    batch = examples(vla.backbone, 3)
    some = batch.action_valid.clone()
    some[3:] = False
    said = losses(vla, replace(batch, action_valid=some))["said"]
    assert not said[3:].any() and bool((said[:3] > 0).all())
    whole = losses(vla, batch)["said"]
    torch.testing.assert_close(said[:3], 2 * whole[:3])  # a mean over the rows that act
    junk = torch.where(some.unsqueeze(-1), batch.actions, torch.full_like(batch.actions, 7.0))
    assert torch.equal(losses(vla, replace(batch, actions=junk, action_valid=some))["said"], said)


def test_nothing_is_said_where_there_are_no_actions():
    vla = made()
    batch = examples(vla.backbone, 3)
    assert "said" not in losses(vla, replace(batch, actions=None, action_valid=None))
