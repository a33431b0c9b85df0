"""Actions as words: bins there and back, and a hand that writes them one after the other."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mindhand.core.errors import BadCheckpoint, BuildError
from mindhand.core.keys import Keys
from mindhand.core.seams import Code, Codec, Expert
from mindhand.model.bins import BinCodec, BinConfig
from mindhand.model.eyes import EyeConfig, WristEye
from mindhand.model.store import load_vla, save_vla
from mindhand.model.token_expert import TokenConfig, TokenExpert

from .test_vla import SPEC, H, batch, build, observation, pose

N = H * SPEC.action_size


@cache
def some(seed: int):
    return batch(seed=seed)


@cache
def binned(bins: int = 256, tail: float = 0.01) -> BinCodec:
    codec = BinCodec(SPEC, BinConfig(bins, tail))
    codec.fit(iter([some(s) for s in range(20)]))
    return codec


def policy(bins: int = 16, seed: int = 0):
    torch.manual_seed(seed)
    eye = WristEye(EyeConfig(16, 32, 10, unshuffle=2, channels=8))
    hand = TokenExpert(TokenConfig(bins, N, 10, 32))
    return build(expert=hand, codec=BinCodec(SPEC, BinConfig(bins)), streams=[eye]).eval()


def test_are_a_codec_and_an_expert():
    assert isinstance(binned(), Codec) and isinstance(TokenExpert(TokenConfig(8, 4, 5, 32)), Expert)


@given(st.integers(0, 19), st.sampled_from([2, 17, 256]))
def test_what_is_coded_comes_back_within_half_a_bin(seed, bins):
    codec = binned(bins, 0.0)
    b = some(seed)  # what it was fitted on: nothing lies outside
    code = codec.encode(b.actions, b.action_valid, b.state)
    assert code.values.shape == (len(b), N) and code.values.min() >= 0 and code.values.max() < bins
    plain = codec.plain.encode(b.actions, b.action_valid, b.state)
    middles = codec.low + (code.values.unflatten(1, (H, -1)) + 0.5) * codec.wide
    off = ((middles - plain.values).abs() / codec.wide)[plain.valid]
    assert float(off.max()) <= 0.5 + 1e-3
    assert not code.values[~code.valid].any()
    again = codec.decode(code, b.state)
    assert again.actions.shape == b.actions.shape and not again.errors.any()
    assert np.array_equal(again.valid, b.action_valid.numpy())


def test_outliers_are_in_the_outer_bins_and_what_is_no_bin_counts_as_an_error():
    codec, b = binned(tail=0.1), batch(seed=3)
    far = codec.encode(b.actions + torch.tensor([9.0, 0, 0, *[0] * 7]), b.action_valid, b.state)
    x = far.values.unflatten(1, (H, -1))[..., 0]
    assert (x[b.action_valid] == 255).all()
    code = codec.encode(b.actions, b.action_valid, b.state)
    odd = replace(code, values=code.values.clone())
    odd.values[0, 5] = 256
    assert codec.decode(odd, b.state).errors.tolist() == [1, *[0] * (len(b) - 1)]
    short = Code(code.values[:, :-1], code.valid[:, :-1])
    held = codec.decode(short, b.state)
    assert held.errors.all() and np.isfinite(held.actions).all()
    new = BinCodec(SPEC)
    with pytest.raises(BadCheckpoint, match="no statistics"):
        new.encode(b.actions, b.action_valid, b.state)
    new.load_statistics(codec.statistics())
    assert torch.equal(new.encode(b.actions, b.action_valid, b.state).values, code.values)
    with pytest.raises(BadCheckpoint, match="bins-1"):
        new.load_statistics(codec.plain.statistics())


def test_the_likeliest_tokens_are_those_that_a_pass_over_all_of_them_scores_highest():
    vla, b = policy(), batch()
    ctx = vla.context(b)
    with torch.no_grad():
        ids = vla.expert.draw(ctx, 1, keys=Keys.seeded(len(b), 0)).value[:, 0]
        scores = vla.expert.scores(ctx, ids)
        assert torch.equal(scores.argmax(-1), ids)
        changed = ids.clone()
        changed[:, 7] = (changed[:, 7] + 1) % 16
        other = vla.expert.scores(ctx, changed)
    assert torch.allclose(scores[:, :8], other[:, :8], atol=1e-5) and not torch.allclose(scores[:, 8:], other[:, 8:])


def test_samples_are_named_by_their_number_and_have_a_density():
    vla, b = policy(), batch()
    ctx, keys = vla.context(b), Keys.seeded(len(b), 0)
    with torch.no_grad():
        one, two, five = (vla.expert.draw(ctx, s, keys=keys, temperature=3.0) for s in (1, 2, 5))
        assert torch.equal(one.value, five.value[:, :1]) and torch.equal(two.value, five.value[:, :2])
        assert len({tuple(x) for x in five.value[0].tolist()}) == 5
        found = vla.expert.log_prob(ctx, five)
    assert found.value.shape == found.entropy.shape == five.value.shape
    scores, said = vla.expert.scores(ctx, five.value[:, 3]), five.value[:, 3].unsqueeze(-1)
    unlogged = vla.expert.log_prob(ctx, replace(five, logged={}))
    for density, temperature in ((found, 3.0), (unlogged, 1.0)):  # that of the draw, where it is known
        want = (scores / temperature).log_softmax(-1).gather(-1, said)[..., 0]
        assert torch.allclose(density.value[:, 3], want, atol=1e-4)
    with pytest.raises(BuildError, match="frozen"):
        vla.expert.draw(ctx, 1, keys=keys, frozen=torch.zeros(1))


def test_padding_changes_neither_loss_nor_gradient():
    vla, b = policy(), batch(robot=(True, False))
    cut = b.action_valid.clone()
    cut[0, -1] = False  # an episode's end
    b = replace(b, action_valid=cut)
    code = vla.codec.encode(b.actions, b.action_valid, b.state)
    other = replace(code, values=torch.where(code.valid, code.values, 3))

    def learned(c):
        vla.zero_grad()
        loss = vla.expert.loss(vla.context(b), c, Keys.seeded(len(b), 0))["action"]
        loss.sum().backward()
        return loss.detach(), vla.expert.leave.weight.grad.clone(), vla.backbone.embedding.weight.grad.clone()

    for x, y in zip(learned(code), learned(other)):
        assert torch.allclose(x, y, atol=1e-6)
    assert learned(code)[2].abs().max() > 0  # the mind learns with the hand
    assert not learned(code)[0][1] and learned(code)[0][0] > 1


def test_acts_the_same_after_a_checkpoint(tmp_path):
    vla, obs = policy(), observation()
    chunk, _ = vla.act(obs, vla.start(obs.keys))
    assert chunk.actions.shape == (2, H, SPEC.action_size) and not chunk.extra["errors"].any()
    save_vla(vla, tmp_path / "it", smoke=obs)
    again = load_vla(tmp_path / "it", SPEC)
    assert np.array_equal(again.act(obs, again.start(obs.keys))[0].actions, chunk.actions)
    proposals, _ = vla.propose(obs, vla.start(obs.keys), 3)
    assert np.array_equal(proposals.actions[:, 0], chunk.actions)
    odd = replace(obs, state=pose(np.random.default_rng(5), 2, 1))
    assert not np.array_equal(vla.act(odd, vla.start(odd.keys))[0].actions, chunk.actions)


def test_remembered_thoughts_are_refused():
    vla, b = policy(), batch()
    ctx, code = vla.context(b), vla.codec.encode(b.actions, b.action_valid, b.state)
    with pytest.raises(BuildError, match="remembered"):
        vla.expert.loss(replace(ctx, trunk=replace(ctx.trunk, cache=[])), code, Keys.seeded(len(b), 0))
