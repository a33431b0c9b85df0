"""A scale beside a regressed number: learned without moving it, drawn from, and a density of what was drawn."""

import numpy as np
import pytest
import torch

from mindhand.core.errors import BuildError
from mindhand.core.keys import Keys
from mindhand.core.seams import Draw
from mindhand.kit.groups import leave_one_out
from mindhand.methods.act.oft import OFT, Config, plug
from mindhand.methods.learn.ript_vla import RIPT, probe
from mindhand.model.spread import HIGH, KINDS, LOW, Spread
from mindhand.train.rollouts import Rollouts, redrawn

from ..contract.bases import policy as bench_policy
from ..contract.bases import tokens
from ..methods.test_oft import ACTION, HORIZON, STATE, WIDTH, code, context
from ..seams.build import spec
from ..tiny_world import TinyWorld
from ..train.test_rollouts import PLAN, policy, words
from .tiny import vlm

WIDE = {"laplace": lambda x: x.abs().mean(), "gaussian": lambda x: x.square().mean().sqrt()}  # the scale of residuals


def hand(kind: str) -> OFT:
    torch.manual_seed(0)
    oft = OFT(Config(HORIZON, ACTION, STATE, WIDTH, spread=kind))
    torch.nn.init.normal_(oft.spread.head[-1].weight, std=0.3)  # so that it differs from number to number
    return oft


@pytest.mark.parametrize("kind", KINDS)
def test_the_scale_is_learned_and_what_is_said_does_not_move(kind):
    """From numbers off by a known scale, another one in either half of the rows; no gradient leaves the head."""
    torch.manual_seed(0)
    spread, hidden = Spread(kind, 2, 16, 1, 1), torch.zeros(1024, 1, 2)
    hidden[::2, :, 0], hidden[1::2, :, 1] = 1.0, 1.0
    true = torch.where(hidden[..., :1] > 0, 0.05, 0.4)
    mean = torch.zeros(1024, 1, 1, requires_grad=True)
    value = KINDS[kind](torch.zeros(()), true).sample()
    hidden.requires_grad_()
    optimiser = torch.optim.Adam(spread.parameters(), 0.01)
    for _ in range(150):
        optimiser.zero_grad()
        loss = spread.loss(value, mean, hidden).mean()
        loss.backward()
        optimiser.step()
    assert mean.grad is None and hidden.grad is None
    told = spread.round(mean, hidden).scale.detach()
    assert told[::2].mean() == pytest.approx(0.05, rel=0.15) and told[1::2].mean() == pytest.approx(0.4, rel=0.15)
    assert float(told.min()) > np.exp(LOW) and float(told.max()) < np.exp(HIGH)


@pytest.mark.parametrize("kind", KINDS)
def test_samples_are_as_wide_as_the_temperature_says(kind):
    ctx, oft = context(), hand(kind)
    with torch.no_grad():
        for temperature in (1.0, 3.0):
            draw = oft.draw(ctx, 4001, keys=Keys.seeded(2), temperature=temperature)
            off = draw.value[:, 1:] - draw.value[:, :1]
            told = oft.spread.round(draw.value[:, 0], oft._steps(oft.hidden(ctx, oft._every(ctx)))).scale
            for r, h, a in np.ndindex(2, HORIZON, ACTION):
                x = off[r, :, h, a]
                assert float(WIDE[kind](x) / told[r, h, a]) == pytest.approx(temperature, rel=0.08)
                assert abs(float((x > 0).float().mean()) - 0.5) < 0.04
    assert draw.logged["temperature"][0].tolist() == [1.0, *[3.0] * 4000]
    plain = OFT(Config(HORIZON, ACTION, STATE, WIDTH))
    plain.load_state_dict({n: x for n, x in oft.state_dict().items() if not n.startswith("spread.")})
    with torch.no_grad():
        same = plain.draw(ctx, 1, keys=Keys.seeded(2)).value
    assert torch.equal(same[:, 0], draw.value[:, 0])  # the first is the answer without a spread


@pytest.mark.parametrize("kind", KINDS)
def test_the_density_is_what_the_scale_says(kind):
    """Of a whole step, summed over its numbers; at the temperature of the draw; what does not count is masked."""
    ctx, oft = context(), hand(kind)
    with torch.no_grad():
        draw = oft.draw(ctx, 3, keys=Keys.seeded(2), temperature=2.0)
        found = oft.log_prob(ctx, draw)
        scale = oft.spread.round(draw.value[:, 0], oft._steps(oft.hidden(ctx, oft._every(ctx)))).scale
    assert found.value.shape == found.mask.shape == found.entropy.shape == (2, 3, HORIZON) and bool(found.mask.all())
    mean, b = draw.value[:, :1].double(), scale.unsqueeze(1).double() * torch.tensor([1.0, 2.0, 2.0]).view(1, 3, 1, 1)
    z = (draw.value.double() - mean) / b
    want = -(2 * b).log() - z.abs() if kind == "laplace" else -b.log() - 0.5 * np.log(2 * np.pi) - z.square() / 2
    assert (found.value - want.sum(-1)).abs().max() < 1e-3
    assert bool((found.value[:, :1] > found.value[:, 1:]).any())
    valid = torch.ones(2, 3, HORIZON, dtype=torch.bool)
    valid[1, :, 2:] = False
    part = oft.log_prob(ctx, Draw(draw.value, logged=draw.logged, valid=valid))
    assert torch.equal(part.mask, valid)


def test_demonstrations_teach_both_and_nothing_is_lost_without_it():
    ctx, oft = context(), hand("laplace")
    found = oft.loss(ctx, code(), Keys.seeded(2))
    assert found.keys() == {"action", "scale"}
    oft.zero_grad()
    found["scale"].sum().backward(retain_graph=True)
    moved = {n for n, p in oft.named_parameters() if p.grad is not None and bool(p.grad.any())}
    assert moved and all(n.startswith("spread.") for n in moved)
    oft.zero_grad()
    found["action"].sum().backward()
    assert all(p.grad is None or not p.grad.any() for n, p in oft.named_parameters() if n.startswith("spread."))
    plain = OFT(Config(HORIZON, ACTION, STATE, WIDTH))
    assert plain.loss(ctx, code(), Keys.seeded(2)).keys() == {"action"}
    with pytest.raises(BuildError, match="spread='laplace'"):
        plain.log_prob(ctx, Draw(torch.zeros(2, 1, HORIZON, ACTION)))


@pytest.mark.parametrize("kind", KINDS)
def test_a_regressing_hand_learns_from_its_rollouts(kind, tmp_path):
    """RIPT-VLA on it: what was drawn is found as likely again, and the better of two chunks becomes likelier."""
    parts = plug(words(vlm()), TinyWorld(1).spec, film=False, spread=kind)
    vla = policy(parts, objectives=[RIPT()])
    plan = PLAN.__class__(PLAN.starts, groups=1, many=3, dynamic=False, replan=4, steps=8, rows=6, queries=5)
    batch = Rollouts(plan, TinyWorld(6), tmp_path).batch(vla, 0)
    with torch.no_grad():
        now = vla.expert.log_prob(vla.context(batch), redrawn(batch))
    old = batch.logged["log_prob"]
    assert ((now.value[:, 0] - old.value).exp() - 1)[old.valid].abs().max() < 1e-4
    base = plug(tokens(), spec(), spread=kind)
    on, off = bench_policy({**base, "objectives": [RIPT()]}), bench_policy(base)
    assert probe(on, off) and not probe(off, off)
    assert not leave_one_out(np.ones((1, 3))).any()
