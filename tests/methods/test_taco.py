"""TACO's unit checks, numbered as in its specification, and what a wrapper that has learned owes."""

from __future__ import annotations

from dataclasses import replace
from functools import cache, partial

import numpy as np
import pytest
import torch
from torch import Tensor

from mindhand.core.errors import BadCheckpoint, BuildError
from mindhand.core.keys import Keys
from mindhand.core.nouns import Observation
from mindhand.core.seams import Draw, Noised, Policy
from mindhand.kit.probe import fingerprint, heard, save_probe
from mindhand.methods.run.flashvla import wrap as with_flash
from mindhand.methods.run.taco import Config, Counts, bank, chosen, coins, features, fit, learn, load, wrap
from mindhand.model.diffusion import Diffusion, Flow
from mindhand.model.hearing import last_hidden, last_layer, listening
from mindhand.model.store import load_vla, save_vla
from mindhand.model.vla import VLA

from ..contract.bases import BASES, HORIZON, frames, policy
from ..model.tiny import expert
from ..seams.build import observation, oft, vla

C = Config(samples=5, bank=4, width=32, blocks=1, rows=8, epochs=2)


@cache
def base(name: str = "flow") -> VLA:
    return policy(BASES[name]()).eval()


@cache
def fitted(name: str = "flow") -> Counts:
    return fit(base(name), frames(), C)


def test_1_counts_are_how_often_a_feature_was_seen():
    """(1) Features repeated 1, 4, 16 and 64 times: the median of d / |f|^2 within 30 % of that after training, and near
    the limit, the mean of the coins that fell; one that was never seen counts as one. (A network this small forgets by
    dropout what it met once.)"""
    g, many = torch.Generator().manual_seed(0), torch.tensor([1, 4, 16, 64]).repeat_interleave(8)
    distinct, which = torch.randn(len(many), 16, generator=g), torch.arange(len(many)).repeat_interleave(many)
    which = which[torch.randperm(len(which), generator=g)]
    c = Config(width=128, dropout=0.0, rows=128, epochs=70)
    net = learn(distinct[which], np.arange(len(which)), c)
    told = net.counts(distinct).view(4, -1)
    fell = torch.zeros(len(many), c.coins).index_add(0, which, torch.from_numpy(coins(np.arange(len(which)), c.coins)))
    limit = (c.coins / (fell / many.unsqueeze(1)).square().sum(1)).view(4, -1)
    for i, m in enumerate((1, 4, 16, 64)):
        assert 0.7 * m < told[i].median() < 1.3 * m, (m, told[i])
    assert (told / limit).log().abs().median() < 0.2
    assert 0.4 < net.counts(torch.randn(64, 16, generator=g)).median() < 1.6


def test_1_coins_are_the_frames_own():
    """Asked for again, in any order, they fell the same; two frames' fell apart; as many heads as tails."""
    first = coins(np.arange(200), 20)
    assert np.array_equal(coins(np.array([7, 3]), 20), first[[7, 3]]) and set(np.unique(first)) == {-1.0, 1.0}
    assert abs(first.mean()) < 0.05 and len(np.unique(first, axis=0)) == 200
    assert np.array_equal(first[:, :8], coins(np.arange(200), 8))


def test_1_what_was_never_seen_has_the_norm_of_one_fall():
    """Of the frozen network alone: mean 0 and variance 1 over what it was shown, in whatever batches."""
    c = replace(C, epochs=1, rows=7)
    x = torch.randn(60, 6, generator=torch.Generator().manual_seed(1))
    net = learn(x, np.arange(60), c)
    out = net.prior(net.scale * x)
    assert torch.allclose(net.mean, out.mean(0), atol=1e-5) and net.seen == 60
    assert torch.allclose(net.spread / net.seen, out.var(0, unbiased=False), rtol=1e-4)
    assert not any(p.requires_grad for p in net.prior.parameters())


HANDS = {"flow": partial(base, "flow"), "tokens": partial(base, "tokens"), "diffusion": lambda: vla(expert()).eval()}


def of(one: VLA, c: Config, low: float = 0.0) -> Policy:
    """Round it, with counts that learned from noise."""
    width = last_layer(one.expert).in_features
    net = learn(torch.randn(8, width, generator=torch.Generator().manual_seed(0)), np.arange(8), C)
    return wrap(one, c, Counts(net, c, fingerprint(one), low))


@pytest.mark.parametrize("hand", HANDS)
def test_2_one_sample_is_the_policy(hand):
    """(2) M = 1: the bits of the wrapped policy, call after call; several are others."""
    plain = HANDS[hand]()
    alone = of(plain, replace(C, samples=1))
    obs = observation()
    p, q = plain.start(obs.keys), alone.start(obs.keys)
    for seed in range(2):
        obs = observation(seed=seed)
        a, p = plain.act(obs, p)
        b, q = alone.act(obs, q)
        assert np.array_equal(a.actions, b.actions) and np.array_equal(a.valid, b.valid)
    several = of(plain, replace(C, samples=6, temperature=1e6))
    picks = [several.act(observation(seed=s), several.start(obs.keys))[0] for s in range(4)]
    assert any(c.extra["chosen"].any() for c in picks)


@pytest.mark.parametrize("hand", ["flow", "diffusion"])
def test_3_a_shared_prefix_is_separate_calls(hand):
    """(3) Chunks of a batch on one prefix equal as many calls within 1e-5, and their features and counts with them."""
    one = HANDS[hand]()
    obs, noise = observation(), np.repeat(bank(one, 6), 2, 0)
    told, h, _ = heard(one, obs, one.start(obs.keys), 6, noise=noise)
    drawn = told.extra["draw"].value
    for i in range(6):
        _, alone, _ = each = heard(one, obs, one.start(obs.keys), 1, noise=noise[:, i : i + 1])
        assert (each[0].extra["draw"].value[:, 0] - drawn[:, i]).abs().max() < 1e-5
        assert (alone[:, 0] - h[:, i]).abs().max() < 1e-4
    assert (drawn[:, 0] - drawn[:, 1]).abs().max() > 1e-3 and (h[:, 0] - h[:, 1]).abs().max() > 1e-3


def test_the_feature_is_of_the_first_action_at_the_end_of_the_walk():
    """What one call on the last state of the chain hears, and no other."""
    one, obs = base(), observation()
    told, h, _ = heard(one, obs, one.start(obs.keys), 3, want=("chain", "context"))
    draw, ctx = told.extra["draw"], told.extra["context"]
    whole = torch.ones(6, HORIZON, dtype=torch.bool)
    with torch.no_grad(), listening(one.expert) as calls:
        for at in (-1, 0):
            x, t = draw.chain[at - 1 if at else 0].flatten(0, 1), torch.full((6,), draw.times[at])
            one.expert.predict(ctx.fork(3), Noised(x, t, x, whole))
    assert (calls[0][:, 0] - h.flatten(0, 1)).abs().max() < 1e-4
    assert (calls[1][:, 0] - h.flatten(0, 1)).abs().max() > 1e-2


def test_tokens_are_heard_behind_the_last_before_their_own_end():
    calls = [torch.full((4, 2), float(i)) for i in range(3)]
    valid = torch.tensor([[[1, 0, 0], [1, 1, 1]], [[1, 1, 0], [1, 1, 1]]]).bool()
    draw = Draw(torch.zeros(2, 2, 3), valid=valid)
    assert last_hidden(calls, draw)[..., 0].tolist() == [[0, 2], [1, 2]]
    with pytest.raises(BuildError, match="4 rows heard of 2 x 3"):
        last_hidden(calls, Draw(torch.zeros(2, 3, 3)))


# ---- the search ------------------------------------------------------------------------------------------


def test_the_bank_is_the_same_in_every_run():
    one = base()
    assert np.array_equal(bank(one, 3), bank(one, 8)[:, :3]) and bank(one, 8).shape == (1, 8, HORIZON, 3)
    assert len(np.unique(bank(one, 8)[0, :, 0, 0])) == 8


def test_the_feature_of_a_frame_is_that_of_the_nearest_chunk():
    one, f, at = base(), frames(), np.array([2, 9, 20])
    found = features(one, f, at, C)
    obs, (actions, valid) = f.observe(at), f.chunks(at)
    told, h, _ = heard(one, obs, one.start(obs.keys), 4, noise=bank(one, 4))
    code = one.codec.encode(*(torch.from_numpy(x) for x in (actions, valid, obs.state))).values
    off = (told.extra["draw"].value - code.unsqueeze(1)).square().sum(-1)
    off = (off * torch.from_numpy(valid).unsqueeze(1)).sum(-1)  # nothing behind an episode's end
    assert valid.any(1).all() and not valid.all()
    nearest = off.argmin(1)
    assert torch.equal(found, h[torch.arange(3), nearest])
    assert torch.allclose(features(one, f, at[::-1].copy(), C), found.flip(0), atol=1e-4)
    assert not torch.allclose(found, h[torch.arange(3), off.argmax(1)], atol=1e-2)


@pytest.mark.parametrize("process", [Flow(), Diffusion(), Diffusion(predicts="action")])
def test_who_predicts_rightly_gives_the_clean_chunk_back(process):
    x0 = torch.rand(5, 4, 3, generator=torch.Generator().manual_seed(0)) - 0.5
    noised = process.corrupt(x0, torch.ones(5, 4, dtype=torch.bool), Keys.seeded(5, "clean"))
    assert torch.allclose(process.clean(noised.target, noised.x, noised.t), x0, atol=2e-3)


@pytest.mark.parametrize("hand", ["flow", "diffusion"])
def test_the_search_by_noise_levels_hears_one_call(hand):
    one, f = HANDS[hand](), frames(4) if hand == "diffusion" else frames()
    found = {levels: features(one, f, np.array([2, 9]), replace(C, levels=levels)) for levels in ((0.1,), (0.1, 0.9))}
    assert all(x.shape == (2, last_layer(one.expert).in_features) and x.isfinite().all() for x in found.values())
    high = features(one, f, np.array([2, 9]), replace(C, levels=(0.9,)))
    same = [[torch.allclose(b, x, atol=1e-4) for x in (a, c)] for a, b, c in zip(found[0.1,], found[0.1, 0.9], high)]
    assert all(sum(row) == 1 for row in same), "each frame has the feature of one of both levels"


def test_what_cannot_be_searched_is_refused():
    with pytest.raises(BuildError, match="horizon"):
        features(base(), frames(4), np.array([0]), C)
    with pytest.raises(BuildError, match="levels"):
        features(base("tokens"), frames(), np.array([0]), replace(C, levels=(0.5,)))
    assert features(base("tokens"), frames(), np.array([0, 8]), C).shape[0] == 2


# ---- what wraps ------------------------------------------------------------------------------------------


def test_what_is_done_is_the_most_familiar():
    one = base()
    taco = wrap(one, fitted=fitted())
    assert isinstance(taco, Policy)
    obs = observation()
    chunk, after = taco.act(obs, taco.start(obs.keys))
    told, h, _ = heard(one, obs, one.start(obs.keys), C.samples)
    norm = fitted().net(h.flatten(0, 1)).square().sum(-1).view(2, -1)
    which = norm.argmin(1)
    assert chunk.extra["chosen"].tolist() == which.tolist() and after["asked"].tolist() == [1, 1]
    assert np.array_equal(chunk.actions, told.actions[np.arange(2), which])
    assert np.allclose(chunk.extra["counts"], C.coins / norm.detach(), rtol=1e-3)
    assert len(set(chunk.extra["counts"][0].round(6))) == C.samples, "all candidates count alike"


def test_draws_at_a_temperature_go_by_key():
    counts = np.tile(np.array([1.0, 2.0, 8.0]), (3000, 1))
    keys = Keys.seeded(3000, "draws")
    assert set(chosen(counts, 0.0, keys)) == {2}
    for temperature in (1.0, 2.0):
        share = np.bincount(chosen(counts, temperature, keys), minlength=3) / 3000
        chance = counts[0] ** (1 / temperature)
        assert np.abs(share - chance / chance.sum()).max() < 0.04
    assert np.array_equal(chosen(counts, 1.0, keys)[7:8], chosen(counts[7:8], 1.0, keys[7:8]))


def test_it_says_where_nothing_is_familiar():
    obs = observation()
    for low, alarm in ((0.0, False), (1e9, True)):
        taco = of(base(), C, low)
        chunk, _ = taco.act(obs, taco.start(obs.keys))
        assert chunk.extra["alarm"].tolist() == [alarm] * 2
        assert ["familiar" in note for note in chunk.extra["note"]] == [alarm] * 2
    assert 0 < fitted().low < 50


def test_rows_do_not_feel_their_neighbours():
    def run(seed: int) -> list[np.ndarray]:
        taco, still = wrap(base(), fitted=fitted()), observation()
        state, out = taco.start(still.keys), []
        for _ in range(2):
            pictures = still.images["front"].copy()
            pictures[1] = observation(seed=seed).images["front"][1]
            chunk, state = taco.act(replace(still, images={"front": pictures}), state)
            out += [chunk.actions[0], chunk.extra["counts"][0]]
        return out

    assert all(np.array_equal(a, b) for a, b in zip(run(0), run(5)))


def test_the_vla_inside_stays_as_it_is():
    one, obs = base(), observation()
    before = one.act(obs, one.start(obs.keys))[0].actions
    taco = wrap(one, fitted=fitted())
    taco.act(obs, taco.start(obs.keys))
    with pytest.raises(BuildError), listening(one.expert):
        raise BuildError("what went wrong", "nothing", "go on")
    assert not last_layer(one.expert)._forward_pre_hooks
    assert np.array_equal(one.act(obs, one.start(obs.keys))[0].actions, before)


def acted(taco: Policy, obs: Observation) -> tuple[np.ndarray, Tensor]:
    chunk, _ = taco.act(obs, taco.start(obs.keys))
    return chunk.actions, chunk.extra["counts"]


def test_counts_are_kept_with_the_policy_they_were_fitted_on(tmp_path):
    """Saved and loaded they count the same, also on the policy's own checkpoint; on another policy they are refused."""
    one, obs = base(), observation()
    fitted().save(tmp_path / "counts")
    save_vla(one, tmp_path / "policy")
    again = load(tmp_path / "counts")
    assert again.config == C and again.low == fitted().low
    first = acted(wrap(one, fitted=fitted()), obs)
    for same in (one, load_vla(tmp_path / "policy")):
        assert all(np.array_equal(a, b) for a, b in zip(first, acted(wrap(same, fitted=again), obs)))
    other = policy(BASES["flow"]()).eval()
    with torch.no_grad():
        other.expert.leave.bias[0] += 1e-3
    with pytest.raises(BuildError, match="fitted on policy"):
        wrap(other, fitted=again)
    with torch.no_grad():
        other.expert.leave.bias[0] = one.expert.leave.bias[0]
    wrap(other, fitted=again)
    other.state_scale.fit(torch.rand(9, 5))
    with pytest.raises(BuildError, match="fitted on policy"):
        wrap(other, fitted=again)
    save_probe(tmp_path / "other", "safe", "0", {}, {})
    with pytest.raises(BadCheckpoint, match="a probe of 'safe'"):
        load(tmp_path / "other")
    with pytest.raises(BadCheckpoint, match="a checkpoint"):
        load(tmp_path / "policy")


def test_what_it_cannot_go_round_is_refused():
    with pytest.raises(BuildError, match="without counts"):
        wrap(base())
    with pytest.raises(BuildError, match="Flash"):
        wrap(with_flash(base("tokens")), fitted=fitted())
    with pytest.raises(BuildError, match="OFT with 0 layers"):
        fit(vla(oft()), frames(4), C)
