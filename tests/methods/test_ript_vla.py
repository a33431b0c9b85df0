"""RIPT-VLA's unit checks, numbered as in its specification."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mindhand.core.batch import Target
from mindhand.core.keys import Keys
from mindhand.kit.groups import clipped, contrast, leave_one_out
from mindhand.methods.act.fast import plug as with_fast
from mindhand.methods.learn.ript_vla import RIPT, Config
from mindhand.train.rollouts import Rollouts, redrawn

from ..model.tiny import vlm
from ..tiny_world import SPEC, TinyWorld
from ..train.test_rollouts import PLAN, demonstrated, policy, words

KEYS = Keys.seeded(5, "ript")


@given(st.lists(st.lists(st.sampled_from([0.0, 1.0]), min_size=4, max_size=4), min_size=1, max_size=5))
def test_1_a_group_s_advantages_sum_to_nothing(rewards):
    """(1) For any rewards; each is its own less the mean of the others'."""
    r = np.array(rewards, np.float32)
    a = leave_one_out(r)
    assert np.abs(a.sum(1)).max() < 1e-6
    for k in range(4):
        assert np.allclose(a[:, k], r[:, k] - np.delete(r, k, 1).mean(1), atol=1e-6)


def test_1_one_of_four():
    """(1) R = [1,0,0,0] gives A = [1,-1/3,-1/3,-1/3]."""
    assert np.allclose(leave_one_out(np.array([[1, 0, 0, 0]])), [[1, -1 / 3, -1 / 3, -1 / 3]])


@pytest.fixture(scope="module")
def collected(tmp_path_factory):
    """A policy of FAST's words, whose chunks end at unlike lengths, and queries of its rollouts."""
    vla = policy(with_fast(words(vlm(), 256), SPEC), objectives=[RIPT()])
    vla.expert.leave.bias.data[vla.expert.config.end] += 4  # or few would end before the last word
    plan = replace(PLAN, dynamic=False, groups=1, many=3, steps=8, queries=5)
    batch = Rollouts(plan, TinyWorld(8), tmp_path_factory.mktemp("rollouts")).batch(vla, 0)
    worth = torch.linspace(-1, 1, 5)
    return vla, replace(batch, logged={**batch.logged, "advantage": Target(worth, torch.ones(5, dtype=torch.bool))})


def test_2_the_first_ratios_are_one(collected):
    """(2) Before any update every token is as likely as when it was drawn, within 1e-5, so the loss is the mean of what
    its tokens were worth."""
    vla, batch = collected
    with torch.no_grad():
        now = vla.expert.log_prob(vla.context(batch), redrawn(batch))
        loss = vla.losses(batch, KEYS)["ript"].mean()
    old = batch.logged["log_prob"]
    assert ((now.value[:, 0] - old.value).exp() - 1)[old.valid].abs().max() < 1e-5
    each = batch.logged["advantage"].value.unsqueeze(1).expand_as(old.value)[old.valid]
    assert float(loss) == pytest.approx(-float(each.mean()), abs=1e-5)


def _gradients(vla, batch):
    vla.zero_grad()
    vla.losses(batch, KEYS)["ript"].mean().backward()
    return {n: p.grad.clone() for n, p in vla.named_parameters() if p.grad is not None}


def test_3_a_padded_token_changes_no_gradient(collected):
    """(3) Neither its id nor what was written down of it; one that counts does."""
    vla, batch = collected
    old, value = batch.logged["log_prob"], batch.logged["value"]
    assert not bool(old.valid.all()), "nothing is padded"
    want = _gradients(vla, batch)
    assert any(bool(g.any()) for g in want.values())

    def told(where, by):
        junk = {"log_prob": Target(torch.where(where, old.value + by, old.value), old.valid)}
        junk["value"] = Target(torch.where(where, (value.value + 1) % 100, value.value), value.valid)
        return _gradients(vla, replace(batch, logged={**batch.logged, **junk}))

    padded = told(~old.valid, 3.0)
    assert all(torch.equal(g, padded[n]) for n, g in want.items())
    other = told(old.valid & (torch.arange(old.value.shape[1]) == 1), 0.0)
    assert any(not torch.equal(g, other[n]) for n, g in want.items())


def test_3_equal_rewards_never_reach_the_loss():
    """(3) They are left out, and would be worth nothing."""
    rewards = np.array([[1, 1, 1], [0, 0, 0], [0, 1, 0]], np.float32)
    assert contrast(rewards).tolist() == [False, False, True]
    assert not leave_one_out(rewards[:2]).any()


def test_the_ratio_is_clipped_on_the_side_that_gains():
    """PPO's: what is already likelier by more than the clip gains nothing more, what became worse is still mended."""
    new = torch.tensor([[0.5], [0.5], [-0.5], [-0.5]], requires_grad=True)
    old, on, worth = torch.zeros(4, 1), torch.ones(4, 1, dtype=torch.bool), torch.tensor([1.0, -1.0, 1.0, -1.0])
    clipped(new, old, worth, on, 0.2).sum().backward()
    assert (new.grad[:, 0] != 0).tolist() == [False, True, True, False]
    free = torch.zeros(4, 1, requires_grad=True)
    clipped(free, old, worth, on, 0.2).sum().backward()
    assert free.grad[:, 0].tolist() == [-1, 1, -1, 1]


def test_demonstrations_are_cloned_as_ever():
    plain, with_it = policy(), policy(objectives=[RIPT(Config(clip=0.1))])
    with_it.load_state_dict(plain.state_dict())
    batch = demonstrated(PLAN.starts, plain.backbone.words)
    a, b = (vla.losses(batch, KEYS) for vla in (plain, with_it))
    assert a.keys() == b.keys() and torch.equal(a["action"], b["action"])
    said = replace(batch, actions=None, action_valid=None)
    assert with_it.losses(said, KEYS).keys() == plain.losses(said, KEYS).keys()
