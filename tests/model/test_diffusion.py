"""Processes and samplers against distributions whose answer is known in closed form."""

import pytest
import torch

from mindhand.core.errors import BuildError
from mindhand.core.keys import Keys
from mindhand.model.diffusion import DDIM, ODE, SDE, Diffusion, Flow, keyed_normal

MEAN, STD = 0.3, 0.2  # a Gaussian over actions, well inside the clip


def epsilon_of_gaussian(process):
    """E[noise | x_t] for x0 ~ N(MEAN, STD^2): the network that training would converge to."""

    def step(x, t):
        a = process.kept(x)[t.long()].view(-1, 1, 1)
        return (1 - a).sqrt() * (x - a.sqrt() * MEAN) / (a * STD**2 + 1 - a)

    return step


def velocity_of_gaussian(x, t):
    """E[noise - a | x_t] for a ~ N(MEAN, STD^2) on straight paths."""
    t = t.view(-1, 1, 1)
    var = t**2 + (1 - t) ** 2 * STD**2
    gap = x - (1 - t) * MEAN
    return t / var * gap - (MEAN + (1 - t) * STD**2 / var * gap)


def ddim_of_gaussian(process, x, count):
    """The same walk in closed form: for a Gaussian every DDIM step is an affine map of x."""
    kept = process.kept(torch.zeros(1, dtype=torch.float64)).tolist()
    stride = process.steps // count
    for t in [i * stride for i in reversed(range(count))]:
        a, b = kept[t], kept[t - stride] if t >= stride else 1.0
        var = a * STD**2 + 1 - a
        slope = ((a * b) ** 0.5 * STD**2 + ((1 - a) * (1 - b)) ** 0.5) / var
        x = b**0.5 * MEAN + slope * (x - a**0.5 * MEAN)
    return x


@pytest.mark.parametrize("steps,count", [(100, 10), (100, 100), (1000, 1000)])
def test_ddim_reproduces_a_gaussian_posterior(steps, count):
    process = Diffusion(steps)
    keys = Keys.seeded(1, "ddim")
    x = keyed_normal(keys, 20000, 1, 1, like=torch.zeros(1, dtype=torch.float64))
    draw = DDIM(process, count, clip=None)(epsilon_of_gaussian(process), x, keys=keys)
    assert torch.allclose(draw.value, ddim_of_gaussian(process, x, count), atol=1e-9)
    if count == 1000:  # and with many steps it is the posterior: noise quantiles become data quantiles
        assert torch.allclose(draw.value, MEAN + STD * x, atol=0.02)
        assert float(draw.value.std()) == pytest.approx(STD, rel=0.01)
    assert draw.chain[0] is x and len(draw.chain) == count + 1


def test_ddim_clips_the_estimate():
    keys = Keys.seeded(1, "clip")
    x = 5 * keyed_normal(keys, 50, 2, 1, like=torch.zeros(1))
    process = Diffusion()
    wild = DDIM(process)(lambda x, t: torch.zeros_like(x), x, keys=keys).value
    assert float(wild.abs().max()) <= 1.0
    assert float(DDIM(process, clip=None)(lambda x, t: torch.zeros_like(x), x, keys=keys).value.abs().max()) > 1.0


def test_schedule_is_the_squared_cosine():
    kept = Diffusion().kept(torch.zeros(1, dtype=torch.float64))
    assert kept.shape == (100,) and bool((kept[1:] < kept[:-1]).all())
    assert float(kept[0]) > 0.999 and float(kept[-1]) < 1e-4
    assert float(kept[49]) == pytest.approx(0.4938, abs=2e-3)  # cos^2 halves half way


def test_corruption_has_the_stated_marginals():
    x0 = torch.full((4000, 2, 1), 0.7)
    valid = torch.ones(4000, 2, dtype=torch.bool)
    for process in (Diffusion(), Flow()):
        n = process.corrupt(x0, valid, Keys.seeded(4000, "m"))
        if isinstance(process, Diffusion):
            a = process.kept(x0)[n.t.long()].view(-1, 1, 1)
            assert torch.allclose(n.x, a.sqrt() * x0 + (1 - a).sqrt() * n.target)
            assert set(n.t.long().tolist()) == set(range(100))
        else:
            t = n.t.view(-1, 1, 1)
            assert torch.allclose(n.x, x0 + t * n.target, atol=1e-5) and float(n.t.min()) > 0 and float(n.t.max()) <= 1


def test_ode_and_sde_keep_the_marginal():
    """pi_RL's unit check (3): mean and variance within 3 % of the ODE's at K >= 50; c = 0 is the ODE."""
    keys = Keys.seeded(1, "flow")
    x = keyed_normal(keys, 1, 20000, 1, like=torch.zeros(1, dtype=torch.float64))
    ode = ODE(count=50)(velocity_of_gaussian, x, keys=keys).value
    assert float(ode.mean()) == pytest.approx(MEAN, rel=0.02) and float(ode.std()) == pytest.approx(STD, rel=0.06)
    fine = ODE(count=400)(velocity_of_gaussian, x, keys=keys).value
    assert float(fine.std()) == pytest.approx(STD, rel=0.01)
    for one in (False, True):
        sde = SDE(count=50, level=0.5, one=one)(velocity_of_gaussian, x, keys=keys).value
        assert float(sde.mean()) == pytest.approx(float(ode.mean()), rel=0.03)
        assert float(sde.std()) == pytest.approx(float(ode.std()), rel=0.03)
        assert (sde - ode).abs().mean() > 1e-3
    still = SDE(count=50, level=0.0)(velocity_of_gaussian, x, keys=keys).value
    assert torch.allclose(still, ode, atol=1e-9)


@pytest.mark.parametrize("sampler", [DDIM(), ODE()])
def test_frozen_parts_are_held_and_the_rest_is_finite(sampler):
    keys = Keys.seeded(3, "pin")
    x = keyed_normal(keys, 2, 4, 3, like=torch.zeros(1))
    frozen = torch.full_like(x, float("nan"))
    frozen[:, :, :2] = 0.25
    step = epsilon_of_gaussian(Diffusion()) if isinstance(sampler, DDIM) else velocity_of_gaussian
    value = sampler(step, x, keys=keys, frozen=frozen).value
    assert bool((value[:, :, :2] == 0.25).all()) and bool(torch.isfinite(value).all())
    free = sampler(step, x, keys=keys).value
    assert torch.allclose(value[:, :, 2:], free[:, :, 2:])
    with pytest.raises(BuildError, match="SDE"):
        SDE()(velocity_of_gaussian, x, keys=keys, frozen=frozen)


def test_predicting_the_action_is_the_same_walk():
    """A network that says x0 draws what the one that says the noise does, and the target is the clean action."""
    said = epsilon_of_gaussian(Diffusion())

    def action(x, t):
        a = Diffusion().kept(x)[t.long()].view(-1, 1, 1)
        return (x - (1 - a).sqrt() * said(x, t)) / a.sqrt()

    keys = Keys.seeded(1, "x0")
    x = keyed_normal(keys, 50, 2, 1, like=torch.zeros(1, dtype=torch.float64))
    a = DDIM(clip=None)(said, x, keys=keys).value
    b = DDIM(Diffusion(predicts="action"), clip=None)(action, x, keys=keys).value
    assert torch.allclose(a, b, atol=1e-9)
    x0 = torch.rand(4, 2, 1)
    n = Diffusion(predicts="action").corrupt(x0, torch.ones(4, 2, dtype=torch.bool), Keys.seeded(4))
    assert torch.equal(n.target, x0) and not torch.equal(n.x, x0)
