"""The hand: conditioning by place, masks, one call, draws, log-probabilities."""

import math
from dataclasses import replace

import pytest
import torch

from mindhand.core.errors import BuildError
from mindhand.core.keys import Keys
from mindhand.core.seams import Code, Context, Expert, Inputs, Segment, StreamOut
from mindhand.model.diffusion import SDE
from mindhand.model.following import PLACES, Following

from .tiny import expert, segments, vlm


def context(model=None, answers=("3+4=7.", "take 7 left back."), state=None) -> Context:
    model = model or vlm()
    trunk = model(segments(model, answers=answers)[0])
    state = torch.randn(2, 1, 5, generator=torch.Generator().manual_seed(0)) if state is None else state
    return Context(trunk, {}, Inputs({}, {}, state))


def code(valid=None) -> Code:
    values = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(5)).clamp(-1, 1)
    return Code(values, torch.ones(2, 4, dtype=torch.bool) if valid is None else valid)


def test_is_an_expert():
    assert isinstance(expert(), Expert)


def blocks_that_move(place: str, what: str) -> list[bool]:
    """Which of the L+1 conditions change when u, r or the state does."""
    torch.manual_seed(0)
    f = Following(place, 6, 2, 8, 4)
    for p in f.parameters():
        torch.nn.init.normal_(p, std=0.3)
    x = {"u": torch.randn(1, 6), "r": torch.randn(1, 6), "prompt": torch.randn(1, 6), "state": torch.randn(1, 2)}
    a = f(**x)
    b = f(**{**x, what: x[what] + torch.randn_like(x[what])})
    assert len(a) == 5
    return [bool((p - q).abs().max() > 1e-6) for p, q in zip(a, b)]


@pytest.mark.parametrize(
    "place,u,r",
    [
        ("none", [1, 1, 1, 1, 1], [0, 0, 0, 0, 0]),
        ("film", [1, 1, 1, 1, 1], [1, 1, 1, 1, 1]),
        ("latter", [1, 1, 0, 0, 0], [1, 1, 1, 1, 1]),  # cond is u + r, so r reaches the former half too
        ("former", [0, 0, 1, 1, 1], [1, 1, 1, 1, 1]),
        ("all", [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]),
    ],
)
def test_places(place, u, r):
    assert blocks_that_move(place, "u") == [bool(x) for x in u]
    assert blocks_that_move(place, "r") == [bool(x) for x in r]
    assert all(blocks_that_move(place, "state"))


def test_film_starts_as_plain_observation():
    f = Following("film", 6, 2, 8, 4)
    u, r, p, s = torch.randn(1, 6), torch.randn(1, 6), torch.randn(1, 6), torch.randn(1, 2)
    assert torch.equal(f(u, r, p, s)[0], f(u, 0 * r, p, s)[0])


def test_shared_norm_and_new_parameters():
    """Reasoning-following adds one Linear to a hand without it, and nothing else (about 2M at the paper's size)."""
    plain, rf = (sum(p.numel() for p in Following(p, 1536, 14, 1280, 32).parameters()) for p in ("none", "latter"))
    assert rf - plain == (1536 + 14) * 1280 + 1280
    with pytest.raises(ValueError, match="expected one of"):
        Following("middle", 4, 2, 8, 2)


def test_zero_start():
    from mindhand.model.configs import expert_config
    from mindhand.model.expert import ActionExpert

    fresh = ActionExpert(expert_config("test", action=3, horizon=4, state=5, trunk=32))
    n = fresh.corrupt(code(), Keys.seeded(2))
    assert not bool(fresh.predict(context(), n).any())


@pytest.mark.parametrize("place", PLACES)
def test_reasoning_reaches_the_hand_where_it_should(place):
    hand = expert(place)
    n = hand.corrupt(code(), Keys.seeded(2))
    model = vlm()
    a = hand.predict(context(model), n)
    b = hand.predict(context(model, answers=("3+4=8.", "take 1 right front.")), n)
    assert bool((a - b).abs().max() > 1e-5) == (place != "none")


def test_padding_changes_neither_loss_nor_gradient():
    hand = expert()
    ctx = context()
    valid = torch.tensor([[True, True, True, True], [True, True, False, False]])
    out = []
    for junk in (0.0, 9.0):
        c = code(valid)
        c = Code(torch.where(valid.unsqueeze(-1), c.values, torch.full_like(c.values, junk)), valid)
        hand.zero_grad()
        loss = hand.loss(ctx, c, Keys.seeded(2, "k"))["action"]
        loss.sum().backward(retain_graph=True)
        out.append((loss.detach(), torch.cat([p.grad.flatten() for p in hand.parameters() if p.grad is not None])))
    assert torch.equal(out[0][0], out[1][0]) and torch.equal(out[0][1], out[1][1])
    none = hand.loss(ctx, code(torch.zeros(2, 4, dtype=torch.bool)), Keys.seeded(2))["action"]
    assert none.tolist() == [0, 0] and bool(torch.isfinite(none).all())


def test_streams_condition_and_masked_tokens_do_not():
    hand = expert()
    ctx = context()
    n = hand.corrupt(code(), Keys.seeded(2))
    x = torch.randn(2, 3, 32)
    pos = torch.zeros(2, 3, 3, dtype=torch.long)

    def run(x, valid):
        out = StreamOut((Segment("wrist", x, valid, pos),))
        return hand.predict(replace(ctx, streams={"wrist": out}), n)

    on = torch.ones(2, 3, dtype=torch.bool)
    assert (run(x, on) - run(x.flip(-1), on)).abs().max() > 1e-4
    assert torch.equal(run(x, ~on), run(x.flip(-1), ~on))
    assert (run(x, ~on) - hand.predict(ctx, n)).abs().max() < 1e-5
    with pytest.raises(BuildError, match="width"):
        hand.predict(replace(ctx, streams={"w": StreamOut((Segment("w", x[..., :5], on, pos),))}), n)


@pytest.mark.parametrize("process", ["diffusion", "flow"])
def test_draws_are_keyed_and_share_a_prefix(process):
    hand = expert(process=process).eval()
    with torch.no_grad():
        ctx = context()
        keys = Keys.seeded(2, "episode")
        many = hand.draw(ctx, 3, keys=keys).value
        assert many.shape == (2, 3, 4, 3) and (many[:, 0] - many[:, 1]).abs().max() > 1e-3
        assert torch.equal(many, hand.draw(ctx, 3, keys=keys).value)
        noise = torch.randn(2, 1, 4, 3)
        one = hand.draw(ctx, 1, keys=keys, noise=noise).value
        forked = hand.draw(ctx.fork(2), 1, keys=keys.repeat(2), noise=noise.repeat_interleave(2, 0)).value
        assert (one - forked[::2]).abs().max() < 1e-5
        assert hand.draw(ctx, 1, keys=keys).chain == () and hand.draw(ctx, 1, keys=keys, want=("chain",)).chain


def test_flow_log_probabilities():
    hand = expert(process="flow")
    ctx = context()
    draw = hand.draw(ctx, 2, keys=Keys.seeded(2), sampler=SDE(count=4), want=("chain",))
    lp = hand.log_prob(ctx, draw)
    assert lp.value.shape == lp.mask.shape == (2, 2, 4 * 4 * 3)
    lp.value.sum().backward()
    assert hand.leave.weight.grad.abs().max() > 0
    with pytest.raises(BuildError, match="no density"):
        hand.log_prob(ctx, hand.draw(ctx, 1, keys=Keys.seeded(2), want=("chain",)))


def test_a_foreign_state_is_refused():
    with pytest.raises(BuildError, match="state of size 7"):
        expert().predict(context(state=torch.zeros(2, 1, 7)), expert().corrupt(code(), Keys.seeded(2)))


@pytest.mark.parametrize("insulated", [True, False])
def test_a_hand_teaches_the_trunk_unless_it_is_insulated(insulated):
    model, hand = vlm(), expert(insulated=insulated)
    hand.loss(context(model), code(), Keys.seeded(2))["action"].sum().backward()
    learned = [p for p in model.towers.parameters() if p.grad is not None and bool(p.grad.any())]
    assert bool(learned) != insulated
    assert hand.prompt.first.weight.grad.abs().max() > 0


def test_a_block_and_the_conditions_are_the_published_formulas():
    """chatvla2.md 1.6, written out once more: time, c_obs and c_rsn, an adaLN-Zero block, the final layer."""
    hand, ctx = expert(layers=2).double(), context()
    for p in hand.parameters():
        torch.nn.init.normal_(p, std=0.3)
    hidden = {n: h.double() for n, h in ctx.trunk.hidden.items()}
    ctx = replace(ctx, trunk=replace(ctx.trunk, hidden=hidden), inputs=Inputs({}, {}, ctx.inputs.state.double()))
    c, x, t = hand.config, torch.randn(2, 4, 3).double(), torch.tensor([1.0, 0.25])
    said = [n for n in ctx.trunk.hidden if n == "reasoning"]
    seen = [n for n in ctx.trunk.hidden if n != "reasoning"]

    def linear(layer, x):
        return x @ layer.weight.T + layer.bias

    def norm(x):
        centred = x - x.mean(-1, keepdim=True)
        return centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()

    def gelu(x):
        return x / 2 * (1 + (math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)).tanh())

    def silu(x):
        return x / (1 + (-x).exp())

    def mean_of(names, row):
        return torch.cat([ctx.trunk.hidden[n][row][ctx.trunk.valid[n][row]] for n in names]).mean(0)

    def project(p, mean):  # W2 GELU(W1 mean)
        return linear(p.second, torch.nn.functional.gelu(linear(p.first, mean)))

    def condition(layer, v, row):  # t + W [LN(v); state], the layer norm one and shared
        f, mean = hand.following.norm, v.mean()
        normed = (v - mean) / ((v - mean).square().mean() + f.eps).sqrt() * f.weight + f.bias
        rate = torch.tensor([1e4 ** (-i / 128) for i in range(128)]).double()
        angle = t[row] * hand.process.scale * rate
        time = linear(hand.time[2], silu(linear(hand.time[0], torch.cat([angle.cos(), angle.sin()]))))
        return time + linear(layer, torch.cat([normed, ctx.inputs.state[row, -1]]))

    def block(b, z, cond):
        s1, b1, a1, s2, b2, a2 = linear(b.modulate, silu(cond)).split(c.width)
        q, k, v = linear(b.qkv, norm(z) * (1 + s1) + b1).split(c.width, -1)
        heads, size = [], c.width // c.heads
        for h in range(c.heads):
            part = slice(h * size, (h + 1) * size)
            heads.append((q[:, part] @ k[:, part].T / math.sqrt(size)).softmax(-1) @ v[:, part])
        z = z + a1 * linear(b.o, torch.cat(heads, -1))
        return z + a2 * linear(b.fc2, gelu(linear(b.fc1, norm(z) * (1 + s2) + b2)))

    with torch.no_grad():
        found = hand.denoise(hand.conditions(ctx), x, t)
        for row in range(2):
            u, r = project(hand.prompt, mean_of(seen, row)), project(hand.thought, mean_of(said, row))
            c_obs = condition(hand.following.observation, u + r, row)
            c_rsn = condition(hand.following.reasoning, r, row)

            def said_by(former, latter, last, row=row):
                z = linear(hand.enter, x[row]) + hand.position[0]
                z = block(hand.blocks[1], block(hand.blocks[0], z, former), latter)
                scale, shift = linear(hand.last, silu(last)).split(c.width)
                return linear(hand.leave, norm(z) * (1 + scale) + shift)

            want = said_by(c_obs, c_rsn, c_rsn)
            assert (found[row] - want).abs().max() <= 1e-6 * want.abs().max()
            for other in ((c_rsn, c_rsn, c_rsn), (c_obs, c_obs, c_rsn), (c_obs, c_rsn, c_obs)):
                assert (said_by(*other) - want).abs().max() > 1e-3 * want.abs().max()
