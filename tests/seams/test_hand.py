"""What methods need of hands, samplers and codecs: named samples, counted calls, densities, refusals."""

from __future__ import annotations

import inspect
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from mindhand.core.errors import BuildError, Refusal
from mindhand.core.keys import Keys
from mindhand.core.nouns import Reasoning
from mindhand.core.seams import Code, Codec, Context, Entry, Inputs, StreamOut
from mindhand.methods.act.oft import OFT
from mindhand.model.diffusion import DDIM, ODE, SDE, Diffusion, Flow

from ..contract.bases import BASES, examples, policy
from ..model.tiny import expert, segments, vlm
from .build import close, observation, oft, vla

CHUNK = Code(torch.zeros(2, 4, 3), torch.ones(2, 4, dtype=torch.bool))


def context(model=None) -> Context:
    model = model or vlm()
    return Context(model(segments(model)[0]), {}, Inputs({}, {}, torch.ones(2, 1, 5)))


def test_a_sample_is_named_by_its_key_and_number():
    hand, ctx = expert(), context()
    with torch.no_grad():
        one, three = (hand.draw(ctx, s, keys=Keys.seeded(2)).value for s in (1, 3))
        close(one[:, 0], three[:, 0])


def test_the_hybrid_calls_the_network_once_a_step():
    calls = []

    def step(x: Tensor, t: Tensor) -> Tensor:
        calls.append(len(x))
        return -x

    draw = SDE(count=4, one=True)(step, torch.randn(2, 1, 4, 3), keys=Keys.seeded(2))
    assert len(calls) == 4
    calls.clear()
    draw.sampler.log_prob(step, draw)  # one transition a row: paper 2510.25889 halves its update's time by it
    assert len(calls) == 1


def test_more_ddim_steps_than_the_process_has_are_refused():
    with pytest.raises(Refusal):
        DDIM(Diffusion(10), count=20)(lambda x, t: x, torch.randn(1, 1, 4, 3), keys=Keys.seeded(1))


def registers(ctx: Context, size: float = 1.0, layers: int = 2) -> Context:
    """A stream's keys and values for every layer, three a row."""
    g = torch.Generator().manual_seed(0)
    k = ctx.trunk.cache[0][0].k
    shape = (len(k), k.shape[1], 3, k.shape[3])
    there = torch.ones(len(k), 3, dtype=torch.bool)
    each = [Entry("register", torch.randn(shape, generator=g), size * torch.randn(shape, generator=g), there)]
    return replace(ctx, streams={"registers": StreamOut((), entries=tuple(tuple(each) for _ in range(layers)))})


def test_keys_and_values_of_a_stream_are_read_or_refused():
    """By every hand: what nobody reads would train and do nothing (RetoVLA's registers, 2509.21243)."""
    with pytest.raises(BuildError, match=r"does not read"):
        expert().predict(registers(context()), expert().corrupt(CHUNK, Keys.seeded(2)))
    for base in BASES.values():
        made = policy(base())
        ctx = replace(context(made.backbone), inputs=Inputs({}, {}, torch.ones(2, 1, 5)))
        keys = Keys.seeded(2)
        with torch.no_grad():
            plain, small, large = (
                made.expert.draw(c, 2, keys=keys).value for c in (ctx, registers(ctx), registers(ctx, 50.0))
            )
            alone = made.expert.draw(registers(ctx), 1, keys=keys).value
        assert not torch.equal(small, large) and not torch.equal(plain, small)
        assert torch.allclose(alone[:, 0].float(), small[:, 0].float(), atol=1e-5)  # of a fork, the row's own
        noised = made.expert.corrupt(coded(made), keys)
        given = made.expert.predict(registers(ctx, 50.0), noised)
        assert not torch.equal(given, made.expert.predict(ctx, noised))
        with pytest.raises(BuildError, match="for 1 layers"):
            made.expert.predict(registers(ctx, layers=1), noised)


def coded(made) -> Code:
    """A chunk of two rows, as this policy learns it."""
    b = examples(made.backbone)
    return made.codec.encode(b.actions[:2], torch.ones_like(b.action_valid[:2]), b.state[:2])


def test_the_codec_protocol_has_statistics():
    assert {"statistics", "load_statistics"} <= {n for n, _ in inspect.getmembers(Codec)}


def test_any_expert_can_propose():
    made, obs = vla(oft()), observation()
    assert made.propose(obs, made.start(obs.keys), 2)[0].actions.shape == (2, 2, 4, 3)


def test_a_forked_context_forks_its_reasoning():
    assert len(replace(context(), reasoning=Reasoning(("a", "b"))).fork(3).reasoning) == 6


@pytest.mark.parametrize("sampler", [None, SDE(count=3), SDE(count=3, one=True)])
def test_samples_are_named_whatever_draws_them(sampler):
    """The noise of every step too; and held parts are noised alike."""
    hand, ctx, keys = expert(process="flow"), context(), Keys.seeded(2)
    with torch.no_grad():
        one, three = (hand.draw(ctx, s, keys=keys, sampler=sampler).value for s in (1, 3))
        close(one[:, 0], three[:, 0])
        assert (three[:, 0] - three[:, 1]).abs().max() > 1e-3
        if sampler is None:
            frozen = torch.full((2, 3, 4, 3), float("nan"))
            frozen[..., 0] = 0.1
            a, b = (hand.draw(ctx, s, keys=keys, frozen=frozen[:, :s]).value for s in (1, 3))
            close(a[:, 0], b[:, 0])


def test_temperature_scales_the_noise():
    hand, ctx, keys = expert(process="flow"), context(), Keys.seeded(2)
    noise = torch.randn(2, 1, 4, 3)
    with torch.no_grad():
        cold = hand.draw(ctx, 3, keys=keys, temperature=0.0).value
        assert torch.equal(cold[:, 0], cold[:, 2])
        a = hand.draw(ctx, 1, keys=keys, noise=noise, temperature=0.5).value
        assert torch.equal(a, hand.draw(ctx, 1, keys=keys, noise=0.5 * noise).value)
    made, obs = vla(hand), observation()
    few = made.propose(obs, made.start(obs.keys), 2, temperature=0.0)[0].actions
    assert (few[:, 0] == few[:, 1]).all()


def test_the_first_proposal_is_the_act():
    made, obs = vla(expert()), observation()
    acted, proposed = made.act(obs, made.start(obs.keys))[0], made.propose(obs, made.start(obs.keys), 3)[0]
    assert abs(acted.actions - proposed.actions[:, 0]).max() < 1e-5
    assert abs(proposed.actions[:, 0] - proposed.actions[:, 1]).max() > 1e-4
    assert proposed.extra["errors"].shape == (2, 3) and not proposed.extra["errors"].any()


@pytest.mark.parametrize("one", [False, True])
def test_a_density_counts_what_is_valid(one):
    """Per step of the chunk; what is left out has no gradient either."""
    hand, ctx, sampler = expert(process="flow"), context(), SDE(count=4, one=one)
    with torch.no_grad():
        draw = hand.draw(ctx, 2, keys=Keys.seeded(2), sampler=sampler, want=("chain",))
    valid = torch.ones(2, 2, 4, dtype=torch.bool)
    valid[0, 1, 2:] = False
    whole, part = hand.log_prob(ctx, draw), hand.log_prob(ctx, replace(draw, valid=valid))
    assert torch.equal(whole.value, part.value)
    mask = part.mask.view(2, 2, 4, 4, 3)
    assert torch.equal(mask, whole.mask.view(2, 2, 4, 4, 3) & valid.view(2, 2, 1, 4, 1))
    assert int(part.mask.sum()) == int(whole.mask.sum()) - (1 if one else 4) * 2 * 3


def test_a_decoding_counts_what_is_valid():
    """A hand may say less than a whole chunk."""

    class Short(OFT):
        def draw(self, ctx, samples, **more):
            draw = super().draw(ctx, samples, **more)
            valid = torch.ones(draw.value.shape[:3], dtype=torch.bool)
            valid[1, :, 2:] = False
            return replace(draw, valid=valid)

    made, obs = vla(Short(oft().config)), observation()
    assert made.act(obs, made.start(obs.keys))[0].valid.tolist() == [[True] * 4, [True, True, False, False]]
    assert made.propose(obs, made.start(obs.keys), 2)[0].valid.sum((1, 2)).tolist() == [8, 4]


@pytest.mark.parametrize("sampler", [DDIM(), ODE(), SDE(count=4), SDE(count=4, one=True)])
def test_narrow_noise_is_walked_in_float32(sampler):
    """bf16 cannot add the last steps; x and t reach the network in float32."""
    seen = []

    def step(x: Tensor, t: Tensor) -> Tensor:
        seen.append((x.dtype, t.dtype))
        return 0.1 * x

    noise = torch.randn(1, 2, 4, 3).bfloat16()
    narrow, wide = (sampler(step, x, keys=Keys.seeded(1)).value for x in (noise, noise.float()))
    assert torch.equal(narrow, wide) and set(seen) == {(torch.float32, torch.float32)}


@pytest.mark.parametrize("process", [Diffusion(1000), Flow()])
def test_narrow_actions_keep_their_time(process):
    """Step 999 is no bf16 number, nor is the share of signal left at the first steps."""
    keys, clean = Keys.seeded(64, "t"), torch.rand(64, 4, 3).bfloat16()
    on = torch.ones(64, 4, dtype=torch.bool)
    narrow, wide = (process.corrupt(x, on, keys) for x in (clean, clean.float()))
    assert torch.equal(narrow.t, wide.t) and narrow.x.dtype == torch.bfloat16
    assert (narrow.x - wide.x).abs().max() < 0.03
    if isinstance(process, Diffusion):
        assert process.kept(clean).dtype == torch.float32 and 0 < 1 - float(process.kept(clean)[0]) < 1e-3


def test_a_hand_s_attention_can_be_hooked():
    hand, ctx = expert(), context()
    noised = hand.corrupt(Code(torch.zeros(2, 4, 3), torch.ones(2, 4, dtype=torch.bool)), Keys.seeded(2))
    before = hand.predict(ctx, noised)
    for site in ("attn_out", "inner"):
        hook = getattr(hand.blocks[0], site).register_forward_hook(lambda m, i, o: o * 0)
        assert (hand.predict(ctx, noised) - before).abs().max() > 1e-4
        hook.remove()


def test_every_count_of_ddim_steps_that_fits_is_drawn():
    for count in (1, 3, 10):
        draw = DDIM(Diffusion(10), count=count)(lambda x, t: x, torch.randn(1, 1, 4, 3), keys=Keys.seeded(1))
        assert len(draw.chain) == count + 1
    with pytest.raises(BuildError, match="DDIM steps"):
        DDIM(Diffusion(10), count=0)
