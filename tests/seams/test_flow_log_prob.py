"""pi_RL (2510.25889): the densities that policy gradients need of a flow, through Expert.log_prob and the SDE.

Seams: Sampler (the SDE), Expert.log_prob, Objective (the surrogate). Batch.logged carries what a rollout kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor, nn

from mindhand.core.errors import BuildError
from mindhand.core.keys import Keys
from mindhand.core.seams import Context, Draw, Inputs, LogProb, Sampler
from mindhand.model.diffusion import ODE, SDE, keyed_normal
from mindhand.model.expert import ActionExpert

from ..model.tiny import expert, segments, vlm

STEPS, SAMPLES, EXECUTED = 4, 3, 2  # K, S, and how many of the H steps were carried out


def world(level: float = 0.5, one: bool = False) -> tuple[ActionExpert, Context, SDE]:
    hand, model = expert(process="flow"), vlm()
    with torch.no_grad():
        trunk = model(segments(model)[0])
    state = torch.randn(2, 1, 5, generator=torch.Generator().manual_seed(0))
    return hand, Context(trunk, {}, Inputs({}, {}, state)), SDE(count=STEPS, level=level, one=one)


def roll(hand: ActionExpert, ctx: Context, sampler: SDE) -> Draw:
    """A draw as a rollout makes it: without gradients, its chain kept."""
    with torch.no_grad():
        return hand.draw(ctx, SAMPLES, keys=Keys.seeded(2, "rollout"), sampler=sampler, want=("chain",))


def executed(lp: LogProb, draw: Draw, steps: int) -> Tensor:
    """(B,S,M) bool: the mask without the entries of the chunk that no robot carried out."""
    horizon, action = draw.value.shape[2:]
    carried = torch.arange(horizon) < steps
    whole = carried.view(1, horizon, 1).expand(len(draw.times), horizon, action)
    return lp.mask & whole.reshape(1, 1, -1)


def joint(lp: LogProb, mask: Tensor) -> Tensor:
    """Chunk-level log-probability, (B,S)."""
    return torch.where(mask, lp.value, torch.zeros(())).sum(-1)


@dataclass(frozen=True)
class PPO:
    """min(r A, clip(r) A) at chunk level; advantages (B,S) and old log-probabilities are a rollout's."""

    clip: float = 0.2
    executed: int = EXECUTED

    def surrogate(self, expert: ActionExpert, ctx: Context, draw: Draw, old: Tensor, advantage: Tensor) -> Tensor:
        """(B,), to be minimised."""
        lp = expert.log_prob(ctx, draw)
        ratio = (joint(lp, executed(lp, draw, self.executed)) - old).exp()
        held = ratio.clamp(1 - self.clip, 1 + self.clip)
        return -torch.minimum(ratio * advantage, held * advantage).mean(-1)


def reference(hand: ActionExpert, ctx: Context, draw: Draw, level: float) -> Tensor:
    """The formula, element by element, in the paper's other convention of time (tau = 1 - t, v' = -v):
    mu = x + (v' - sigma^2/(2(1-tau)) (x - tau v')) delta, std = sigma sqrt(delta). Shape (B,S,K,H,A)."""
    delta, out = 1 / STEPS, []
    wide = hand.conditions(ctx).repeat(SAMPLES)
    for k in range(STEPS):
        tau = k * delta
        x, after = draw.chain[k], draw.chain[k + 1]
        v = -hand.denoise(wide, x.flatten(0, 1), torch.full((2 * SAMPLES,), 1 - tau)).view(x.shape)
        # at the very start sigma would be infinite: the next grid value stands in its denominator
        sigma = level * math.sqrt((1 - tau) / (tau if k else delta))
        mean = x + (v - sigma**2 / (2 * (1 - tau)) * (x - tau * v)) * delta
        out.append(torch.distributions.Normal(mean, sigma * math.sqrt(delta)).log_prob(after))
    return torch.stack(out, 2)


def test_the_sde_is_a_sampler():
    assert isinstance(SDE(), Sampler)


@pytest.mark.parametrize("level", [0.2, 0.5, 0.8])
def test_1_log_probabilities_equal_the_reference(level):
    """(1) Every step of the chain within 1e-5, relative to the size of the numbers."""
    hand, ctx, sampler = world(level)
    draw = roll(hand, ctx, sampler)
    lp = hand.log_prob(ctx, draw)
    want = reference(hand, ctx, draw, level).flatten(2)
    assert lp.value.shape == lp.mask.shape == want.shape and bool(lp.mask.all())
    assert ((lp.value - want).abs() / want.abs().clamp_min(1)).max() < 1e-5
    # the densities of noise that was drawn from them: -log(std) - log(2 pi)/2 - 1/2 on average, nothing freak
    delta = 1 / STEPS
    stds = [level * math.sqrt((1 - k * delta) / (k * delta if k else delta) * delta) for k in range(STEPS)]
    z2 = -2 * (lp.value.view(2, SAMPLES, STEPS, -1) + torch.tensor(stds).log().view(1, 1, -1, 1)) - math.log(
        2 * math.pi
    )
    assert float(z2.detach().mean()) == pytest.approx(1.0, abs=0.25)


def test_1_one_stochastic_step():
    """(1) The hybrid: one Gaussian, of the step that was drawn; all others are the ODE's and masked."""
    hand, ctx, sampler = world(one=True)
    draw = roll(hand, ctx, sampler)
    lp, want = hand.log_prob(ctx, draw), reference(hand, ctx, draw, 0.5)
    which = draw.logged["which"]
    per_step = lp.mask.view(2, SAMPLES, STEPS, -1)
    for b in range(2):
        assert [bool(per_step[b, :, k].all()) for k in range(STEPS)] == [k == int(which[b]) for k in range(STEPS)]
        got = lp.value[b].view(SAMPLES, STEPS, -1)[:, which[b]]
        assert (got - want[b, :, which[b]].flatten(1)).abs().max() < 1e-4
    deterministic = [k for k in range(STEPS) if k != int(which[0])]
    wide = hand.conditions(ctx).repeat(SAMPLES)
    for k in deterministic:  # x - v delta, exactly the ODE's step
        x = draw.chain[k]
        v = hand.denoise(wide, x.flatten(0, 1), torch.full((2 * SAMPLES,), 1 - k / STEPS)).view(x.shape)
        assert (draw.chain[k + 1] - (x - v / STEPS))[0].abs().max() < 1e-4


@pytest.mark.parametrize("one", [False, True])
def test_1_the_ratio_of_a_policy_to_itself_is_one(one):
    """(1) Exactly, not nearly, where both sides are computed alike."""
    hand, ctx, sampler = world(one=one)
    draw = roll(hand, ctx, sampler)
    old, new = hand.log_prob(ctx, draw), hand.log_prob(ctx, draw)
    assert torch.equal((joint(new, new.mask) - joint(old, old.mask).detach()).exp(), torch.ones(2, SAMPLES))
    with torch.no_grad():
        hand.leave.bias += 0.1
    moved = hand.log_prob(ctx, draw)
    assert (joint(moved, moved.mask) - joint(old, old.mask)).abs().min() > 1e-3


def test_2_no_noise_is_the_ode():
    """(2) c = 0, through the hand."""
    hand, ctx, _ = world()
    with torch.no_grad():
        noise = torch.randn(2, SAMPLES, 4, 3, generator=torch.Generator().manual_seed(1))
        ode = hand.draw(ctx, SAMPLES, keys=Keys.seeded(2), sampler=ODE(count=STEPS), noise=noise).value
        sde = hand.draw(ctx, SAMPLES, keys=Keys.seeded(2), sampler=SDE(count=STEPS, level=0.0), noise=noise).value
        assert (ode - sde).abs().max() < 1e-4
        loud = hand.draw(ctx, SAMPLES, keys=Keys.seeded(2), sampler=SDE(count=STEPS), noise=noise).value
        assert (ode - loud).abs().max() > 0.1


WEIGHTS, MEANS, STDS = (0.4, 0.6), (-0.5, 1.6), (0.3, 0.5)


def velocity(x: Tensor, t: Tensor) -> Tensor:
    """E[noise - a | x_t] in closed form, a from a mixture of two Gaussians."""
    t = t.view(-1, 1, 1)
    parts, logits = [], []
    for w, m, s in zip(WEIGHTS, MEANS, STDS):
        var = t**2 + (1 - t) ** 2 * s**2
        gap = x - (1 - t) * m
        parts.append(t / var * gap - (m + (1 - t) * s**2 / var * gap))
        logits.append(math.log(w) - 0.5 * var.log() - gap**2 / (2 * var))
    share = torch.stack(logits).softmax(0)
    return (share * torch.stack(parts)).sum(0)


MEAN = sum(w * m for w, m in zip(WEIGHTS, MEANS))
VAR = sum(w * (m**2 + s**2) for w, m, s in zip(WEIGHTS, MEANS, STDS)) - MEAN**2


def mixture(sampler: Sampler, samples: int = 40_000) -> Tensor:
    keys = Keys.seeded(8, "mixture")  # rows draw their stochastic step, if it is one
    x = keyed_normal(keys, 1, samples // 8, 1, like=torch.zeros(1, dtype=torch.float64))  # a long chunk each
    return sampler(velocity, x, keys=keys).value


@pytest.mark.parametrize("one", [False, True])
def test_3_the_marginal_of_a_mixture_is_kept(one):
    """(3) Mean and variance of the draws within 3 % of the ODE's at K = 50."""
    ode, sde = mixture(ODE(count=50)), mixture(SDE(count=50, level=0.5, one=one))
    assert float(sde.mean()) == pytest.approx(float(ode.mean()), rel=0.03)
    assert float(sde.var()) == pytest.approx(float(ode.var()), rel=0.03)
    assert (sde - ode).abs().mean() > 0.005
    # and it is still two hills: few draws in the valley between them
    valley = ((sde > 0.25) & (sde < 0.45)).double().mean()
    assert float(valley) < 0.5 * float(((sde > 1.5) & (sde < 1.7)).double().mean())


def test_3_with_fine_steps_it_is_the_mixture_itself():
    for sampler in (ODE(count=200), SDE(count=200, level=0.5)):
        value = mixture(sampler, 20_000)
        assert float(value.mean()) == pytest.approx(MEAN, rel=0.03)
        assert float(value.var()) == pytest.approx(VAR, rel=0.03)


def test_3_another_drift_would_not_keep_it():
    """Noise without the drift that pays for it, or with the drift's sign of the other convention of time."""

    class Bent(SDE):
        share = 0.0

        def transition(self, step: Callable, x: Tensor, i: int, sigma: float) -> tuple[Tensor, float]:
            (mean, std), (still, _) = super().transition(step, x, i, sigma), super().transition(step, x, i, 0.0)
            return still + self.share * (mean - still), std

    class Reversed(Bent):
        share = -1.0

    assert float(mixture(Bent(count=50), 5_000).var()) > 1.3 * VAR
    assert float(mixture(Reversed(count=50), 5_000).var()) > 2 * VAR


def gradients(loss: Tensor, module: nn.Module) -> Tensor:
    found = torch.autograd.grad(loss, list(module.parameters()), allow_unused=True)
    return torch.cat([g.flatten() for g in found if g is not None])


@pytest.mark.parametrize("one", [False, True])
def test_4_the_surrogate_at_ratio_one_is_the_policy_gradient(one):
    """(4) d/dtheta of min(r A, clip(r) A) at r = 1 equals A times the gradient of log p, for signs of both kinds."""
    hand, ctx, sampler = world(one=one)
    draw = roll(hand, ctx, sampler)
    advantage = torch.tensor([[1.5, -0.5, 0.2], [-1.0, 0.7, 0.0]])
    lp = hand.log_prob(ctx, draw)
    old = joint(lp, executed(lp, draw, EXECUTED)).detach()
    got = gradients(PPO().surrogate(hand, ctx, draw, old, advantage).sum(), hand)
    again = hand.log_prob(ctx, draw)
    want = gradients(-(advantage * joint(again, executed(again, draw, EXECUTED))).mean(-1).sum(), hand)
    assert (got - want).abs().max() <= 1e-5 * want.abs().max() and want.abs().max() > 0.1
    # away from one the clip holds what would go further in its favour
    far = old - math.log(2.0)  # ratio 2
    assert not gradients(PPO().surrogate(hand, ctx, draw, far, torch.ones(2, SAMPLES)).sum(), hand).any()
    assert gradients(PPO().surrogate(hand, ctx, draw, far, -torch.ones(2, SAMPLES)).sum(), hand).any()


@pytest.mark.parametrize("one", [False, True])
def test_entries_that_were_not_carried_out_are_masked(one):
    """Against the reference over the executed entries; what an unexecuted entry came to be changes nothing."""
    hand, ctx, sampler = world(one=one)
    draw = roll(hand, ctx, sampler)
    lp = hand.log_prob(ctx, draw)
    every = reference(hand, ctx, draw, 0.5)
    if one:
        steps = draw.logged["which"].view(2, 1, 1, 1, 1) == torch.arange(STEPS).view(1, 1, -1, 1, 1)
        every = torch.where(steps, every, torch.zeros(()))
    want = every[:, :, :, :EXECUTED].sum((2, 3, 4))
    assert (joint(lp, executed(lp, draw, EXECUTED)) - want).abs().max() < 1e-3
    assert (joint(lp, lp.mask) - want).abs().min() > 1e-2
    last = draw.chain[-1].clone()
    last[:, :, EXECUTED:] += 5  # the last state is a target only: no later step is computed from it
    other = hand.log_prob(ctx, replace(draw, chain=(*draw.chain[:-1], last)))
    assert torch.equal(joint(lp, executed(lp, draw, EXECUTED)), joint(other, executed(other, draw, EXECUTED)))
    if not one:
        assert not torch.equal(joint(lp, lp.mask), joint(other, other.mask))


def test_a_draw_without_a_density_is_refused():
    hand, ctx, sampler = world()
    keys = Keys.seeded(2)
    for draw in (
        hand.draw(ctx, 1, keys=keys, sampler=sampler),  # no chain kept
        hand.draw(ctx, 1, keys=keys, want=("chain",)),  # an ODE
    ):
        with pytest.raises(BuildError, match="no density"):
            hand.log_prob(ctx, draw)
