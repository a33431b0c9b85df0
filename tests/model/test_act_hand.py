"""ACT's hand: the ELBO's terms, padding that is nothing, the latent at 0 when acting, and all of it on our seams."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from mindhand.core.errors import BadCheckpoint, BadData, BuildError, SpecMismatch
from mindhand.core.keys import Keys
from mindhand.core.seams import Code, Context, Inputs, Segment, StreamOut, grid_position
from mindhand.core.spec import Part
from mindhand.model.act_hand import ActConfig, ActHand, cell_places, sinusoids
from mindhand.model.diffusion import ODE
from mindhand.model.resnet import FrozenNorm, ResNetEyes, ResNetEyesConfig
from mindhand.model.standard_codec import StandardCodec
from mindhand.model.store import load_vla, save_vla
from mindhand.model.vla import VLA
from mindhand.recipes.act import act_parts
from mindhand.recipes.tiny import HORIZON, SPEC, batches, observation, vlm, words

SIZE = ActConfig(
    HORIZON, SPEC.action_size, SPEC.state_size, width=16, heads=2, inner=32, posterior=1, encoder=1, decoder=2, latent=4
)
EYES = ResNetEyesConfig(SPEC.roles, 16, depths=(1, 1, 1, 1), channels=4)


def policy(hand: ActConfig = SIZE) -> VLA:
    torch.manual_seed(0)
    vla = VLA(spec=SPEC, **act_parts(SPEC, words(), hand, EYES))
    some = [batches(vlm(), seed)[0] for seed in range(4)]
    vla.codec.fit(iter(some))
    vla.state_scale.fit(torch.cat([b.state[:, -1] for b in some]))
    return vla


def context(rows: int = 3, tokens: int = 6) -> Context:
    g = torch.Generator().manual_seed(1)
    x = torch.randn(rows, tokens, SIZE.width, generator=g)
    eyes = Segment("eyes/front", x, torch.ones(rows, tokens, dtype=torch.bool), grid_position(rows, (1, 2, 3)))
    state = torch.randn(rows, 1, SIZE.state, generator=g)
    return Context(None, {"0/eyes": StreamOut((eyes,))}, Inputs({}, {}, state))


def code(rows: int = 3, seed: int = 2) -> Code:
    valid = torch.ones(rows, HORIZON, dtype=torch.bool)
    valid[1, 2:] = False
    values = torch.randn(rows, HORIZON, SIZE.action, generator=torch.Generator().manual_seed(seed))
    return Code(values, valid)


def hand(**change) -> ActHand:
    torch.manual_seed(0)
    return ActHand(replace(SIZE, **change))


def test_the_loss_is_l1_and_the_divergence_of_the_posterior():
    """Against torch's own divergence of two normals, and a mean over the valid steps made by hand."""
    h, ctx, c = hand(dropout=0.0), context(), code()
    noise = torch.from_numpy(Keys.seeded(3, "k").fold("latent").normal(SIZE.latent))
    mean, log_variance = h.infer(ctx.inputs.state[:, -1], Code(torch.where(c.valid[..., None], c.values, 0.0), c.valid))
    scale = (log_variance / 2).exp()
    normal = torch.distributions.Normal
    apart = torch.distributions.kl_divergence(normal(mean, scale), normal(0.0, 1.0)).sum(-1)
    drawn = h.chunk(ctx, mean + scale * noise)
    error = torch.stack([(drawn[i] - c.values[i])[c.valid[i]].abs().mean() for i in range(3)])
    found = h.loss(ctx, c, Keys.seeded(3, "k"))
    assert torch.allclose(found["l1"], error, atol=1e-6) and torch.allclose(found["kl"], apart, atol=1e-5)
    assert torch.allclose(found["action"], error + SIZE.divergence * apart, atol=1e-4)
    assert found["action"].requires_grad and not found["l1"].requires_grad and not found["kl"].requires_grad


def test_padding_is_neither_read_nor_learned():
    h, ctx, c = hand(), context(), code()

    def learned(values):
        h.zero_grad()
        losses = h.loss(ctx, Code(values, c.valid), Keys.seeded(3, "k"))
        losses["action"].sum().backward()
        return {**losses, **{n: p.grad.clone() for n, p in h.named_parameters()}}

    one = learned(c.values)
    other = learned(torch.where(c.valid[..., None], c.values, torch.full_like(c.values, 9.0)))
    assert all(torch.equal(x, other[n]) for n, x in one.items())
    seen = learned(torch.where(~c.valid[..., None], c.values, torch.full_like(c.values, 9.0)))
    assert not torch.equal(one["kl"], seen["kl"]) and not torch.equal(one["l1"], seen["l1"])
    none = h.loss(ctx, Code(c.values, torch.zeros_like(c.valid)), Keys.seeded(3))
    assert none["action"].tolist() == [0, 0, 0]


def test_a_step_done_again_is_the_same_and_leaves_the_generator_alone():
    """With dropout; other keys draw another."""
    h, ctx, c = hand(dropout=0.5).train(), context(), code()
    before = torch.random.get_rng_state()
    one, same, other = (h.loss(ctx, c, Keys.seeded(3, k))["action"] for k in ("a", "a", "b"))
    assert torch.equal(one, same) and not torch.equal(one, other)
    assert torch.equal(before, torch.random.get_rng_state())


def test_acting_the_latent_is_zero_and_other_samples_draw_it():
    h, ctx = hand().eval(), context()
    with torch.no_grad():
        keys = Keys.seeded(3, "episode")
        many = h.draw(ctx, 3, keys=keys).value
        assert torch.equal(many[:, 0], h.chunk(ctx, torch.zeros(3, SIZE.latent)))
        assert torch.equal(many[:, 0], h.predict(ctx, h.corrupt(code(), keys)))
        assert torch.equal(many[:, 0], h.draw(ctx, 1, keys=Keys.seeded(3, "another")).value[:, 0])
        assert (many[:, 1] - many[:, 2]).abs().max() > 1e-3 and torch.equal(many, h.draw(ctx, 3, keys=keys).value)
        still = h.draw(ctx, 2, keys=keys, temperature=0.0).value
        assert torch.equal(still[:, 0], still[:, 1])
        frozen = torch.full_like(many, torch.nan)
        frozen[:, :, 0] = 5.0
        held = h.draw(ctx, 3, keys=keys, frozen=frozen).value
        assert bool((held[:, :, 0] == 5).all()) and torch.equal(held[:, :, 1:], many[:, :, 1:])


def test_what_does_not_fit_is_refused():
    h, ctx = hand(), context()
    for how in ({"sampler": ODE(count=2)}, {"noise": torch.zeros(3, 1, HORIZON, SIZE.action)}):
        with pytest.raises(BuildError, match="regresses"):
            h.draw(ctx, 1, keys=Keys.seeded(3), **how)
    with pytest.raises(BuildError, match="no density"):
        h.log_prob(ctx, h.draw(ctx, 1, keys=Keys.seeded(3)))
    with pytest.raises(BuildError, match="state of size 2"):
        h.chunk(replace(ctx, inputs=Inputs({}, {}, torch.zeros(3, 1, 2))), torch.zeros(3, SIZE.latent))
    with pytest.raises(BuildError, match="'eyes/front' of width 16"):
        hand(width=8).chunk(ctx, torch.zeros(3, SIZE.latent))
    with pytest.raises(BuildError, match="cameras"):
        ResNetEyes(replace(EYES, mean=((0.0, 0.0, 0.0),)))


def test_a_token_that_is_masked_is_nothing_and_a_place_is_something():
    h, ctx = hand().eval(), context()
    (s,) = ctx.streams["0/eyes"].segments
    z = torch.zeros(3, SIZE.latent)

    def out(**change):
        return h.chunk(replace(ctx, streams={"e": StreamOut((replace(s, **change),))}), z)

    off = torch.arange(6).expand(3, -1) < 4
    assert torch.allclose(out(valid=off), out(valid=off, x=torch.where(off[..., None], s.x, 7.0)), atol=1e-6)
    assert (out() - out(x=s.x.flip(1))).abs().max() > 1e-4
    assert torch.allclose(out(), out(x=s.x.flip(1), position=s.position.flip(1)), atol=1e-5)


def test_places_are_those_of_the_papers():
    assert torch.allclose(sinusoids(3, 8)[2, :3], torch.tensor([np.sin(2.0), np.cos(2.0), np.sin(0.2)]).float())
    grid = grid_position(1, (1, 2, 3))
    at = cell_places(Segment("e", torch.zeros(1, 6, 8), torch.ones(1, 6, dtype=torch.bool), grid), 8)[0]
    assert at.shape == (6, 8) and torch.equal(at[0, :4], at[2, :4]) and torch.equal(at[0, 4:], at[3, 4:])
    assert torch.allclose(at[0, 0], torch.tensor(torch.pi).sin(), atol=1e-5)  # row 1 of 2: half a turn
    assert torch.allclose(at[1, 4], torch.tensor(4 * torch.pi / 3).sin(), atol=1e-5)  # column 2 of 3


def test_a_frozen_norm_is_batch_norm_that_does_not_learn():
    ours, theirs = FrozenNorm(3), torch.nn.BatchNorm2d(3).eval()
    for name, x in ours.state_dict().items():
        x.copy_(torch.rand(3) + 0.5)
        theirs.state_dict()[name].copy_(x)
    x = torch.randn(2, 3, 4, 4)
    assert torch.allclose(ours(x), theirs(x), atol=1e-6) and not list(ours.parameters())


def test_the_codec_standardises_and_refuses():
    codec = StandardCodec(SPEC)
    valid = torch.ones(5, 4, dtype=torch.bool)
    valid[0, 1:] = False
    actions = 1000 + 3 * torch.randn(5, 4, 3, generator=torch.Generator().manual_seed(0))
    actions[~valid] = 9e9
    actions[..., 2] = 7.0  # never moves
    with pytest.raises(BadCheckpoint, match="no statistics"):
        codec.encode(actions, valid, None)
    with pytest.raises(BadData, match="no valid action"):
        codec.fit(iter([]))
    base = batches(vlm())[0]
    some = replace(base, images={}, present={}, text={}, targets={}, order=(), task=torch.ones(5, dtype=torch.int64),
                   state=torch.zeros(5, 1, 5), actions=torch.where(valid[..., None], actions, 0.0), action_valid=valid,
                   episode=None, step=None)  # fmt: skip
    codec.fit(iter([some]))
    known = actions[valid][:, :2]
    assert torch.allclose(codec.mean[:2], known.mean(0)) and codec.mean[2] == 7 and codec.std[2] == 1e-2
    assert torch.allclose(codec.std[:2], known.double().std(0, correction=0).float(), rtol=1e-4)
    x = codec.encode(actions, valid, None)
    assert not x.values[~valid].any()
    back = codec.decode(x, torch.zeros(5, 1, 5))
    assert np.allclose(back.actions[valid.numpy()], actions[valid].numpy(), atol=1e-3) and not back.errors.any()
    x.values[3, 0, 0] = torch.nan
    bad = codec.decode(x, torch.full((5, 1, 5), 0.5))
    assert bad.errors.tolist() == [0, 0, 0, 1, 0] and (bad.actions[3, :, :2] == 0.5).all()
    with pytest.raises(BadCheckpoint, match="chunk-1"):
        codec.load_statistics({"codec": "chunk-1", "mean": [0.0] * 3, "std": [1.0] * 3})


def test_regressed_rotations_are_rotations():
    turn = Part("turn", "rotation", ("a", "b", "c", "d", "e", "f"), "1", frame="base", rotation="rot6d")
    codec = StandardCodec(replace(SPEC, action=(turn,), state=(turn,)))
    codec.load_statistics({"codec": "standard-1", "mean": [0.0] * 6, "std": [1.0] * 6})
    values = torch.tensor([2.0, 0, 0, 1, 3, 0]).expand(1, 2, 6)
    state = torch.tensor([[[1.0, 0, 0, 0, 1, 0]]])
    out = codec.decode(Code(values, torch.ones(1, 2, dtype=torch.bool)), state)
    assert np.allclose(out.actions[0, 0], [1, 0, 0, 0, 1, 0]) and not out.errors.any()
    flat = codec.decode(Code(torch.zeros(1, 2, 6), torch.ones(1, 2, dtype=torch.bool)), state)
    assert np.array_equal(flat.actions[0, 0], state[0, 0].numpy()) and flat.errors.tolist() == [1]


def test_it_is_a_policy_like_any_other(tmp_path):
    """Learns from the batches of all, is deaf and not blind, and acts the same after a checkpoint."""
    vla = policy().train()
    robot, told = batches(vlm(), 3)
    losses = vla.losses(robot, Keys.seeded(len(robot), 0))
    losses["action"].mean().backward()
    assert any(bool(p.grad.any()) for p in vla.streams.parameters())
    assert vla.losses(told, Keys.seeded(len(told), 0)).keys() == {"text"}
    vla.eval()
    obs = observation()
    chunk, _ = vla.act(obs, vla.start(obs.keys))
    assert chunk.actions.shape == (2, HORIZON, SPEC.action_size)
    deaf = vla.act(obs.with_text("instruction", ("none", "none")), vla.start(obs.keys))[0]
    assert np.array_equal(deaf.actions, chunk.actions)
    wrist = replace(obs, images={**obs.images, "wrist": 255 - obs.images["wrist"]})
    assert not np.allclose(vla.act(wrist, vla.start(obs.keys))[0].actions, chunk.actions)
    absent = {**obs.present, "wrist": np.zeros(2, bool)}
    gone = [vla.act(replace(o, present=absent), vla.start(obs.keys))[0].actions for o in (obs, wrist)]
    assert np.allclose(*gone, atol=1e-6)
    one = replace(obs, images={"front": obs.images["front"]}, present={})
    with pytest.raises(SpecMismatch, match="wrist"):
        vla.act(one, vla.start(obs.keys))
    save_vla(vla, tmp_path / "it", smoke=obs)
    again = load_vla(tmp_path / "it", SPEC)
    assert np.array_equal(again.act(obs, again.start(obs.keys))[0].actions, chunk.actions)
