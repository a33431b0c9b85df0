"""How a chunk is corrupted and drawn: diffusion (DDPM training, DDIM sampling) and flow matching (ODE, SDE).

Both keep one convention: t grows with noise. A process corrupts and names the network's target; a sampler
walks back. Samplers see the network only as `step(x (N,H,A), t (N,)) -> prediction`.
Letters: B rows, S samples, N = B*S, H horizon, A action, K sampling steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from mindhand.core.errors import BuildError
from mindhand.core.keys import Keys
from mindhand.core.seams import Draw, LogProb, Noised, Predict, Sampler

from . import fits


def keyed_normal(keys: Keys, *shape: int, like: Tensor) -> Tensor:
    """Standard normal (B,*shape) from counters, on the device and in the type of `like`."""
    return torch.from_numpy(keys.normal(*shape)).to(like)


def sample_normal(keys: Keys, samples: int, *shape: int, like: Tensor) -> Tensor:
    """Standard normal (B,S,*shape), at least float32. A sample is named by its row's key and its number: how many are
    drawn beside it changes nothing."""
    noise = torch.from_numpy(keys.repeat(samples).normal(*shape))
    return noise.view(len(keys), samples, *shape).to(like.device, exact(like.dtype))


def draw_chunks(
    step: Predict,
    sampler: Sampler,
    rows: int,
    shape: tuple[int, int, int],
    *,
    like: Tensor,
    keys: Keys,
    noise: Tensor | None,
    frozen: Tensor | None,
    want: Sequence[str],
    temperature: float,
) -> Draw:
    """The draw of an expert whose process is walked back: shape (S,H,A'); noise (B,S,H,A') or (B,1,H,A') instead of
    the keys' own, which `temperature` scales, given or not. The chain is kept only if `want` names it."""
    if noise is None:
        noise = sample_normal(keys.fold("draw"), *shape, like=like)
    noise = (noise if temperature == 1.0 else noise * temperature).expand(rows, shape[0], -1, -1)
    draw = sampler(step, noise, keys=keys, frozen=frozen)
    return draw if "chain" in want else replace(draw, chain=())


def density(step: Callable[[int], Predict], draw: Draw) -> LogProb:
    """Recomputed, differentiable log-density of a drawn chain; the sampler must have one (SDE). step: of so many
    samples a row."""
    if not draw.chain or not hasattr(draw.sampler, "log_prob"):
        raise BuildError(
            f"a draw by {type(draw.sampler).__name__} with {len(draw.chain)} kept states has no density",
            "draw(..., sampler=SDE(), want=('chain',))",
            "draw with a stochastic sampler and keep the chain",
        )
    return draw.sampler.log_prob(step(draw.value.shape[1]), draw)


def exact(dtype: torch.dtype) -> torch.dtype:
    """What a process computes in: at least float32, since the steps near its end are smaller than bf16 can add."""
    return torch.promote_types(dtype, torch.float32)


@dataclass(frozen=True)
class Diffusion:
    """DDPM (2006.11239) with squared-cosine noise (2102.09672, eq. 17).

    The paper's lineage trains with 100 steps, predicts the noise, and clips the estimate of x0 to [-1, 1] when
    sampling. Predicting the action itself (2202.00512, sec. 4) asks for the same at every t, which a hand that trains
    for minutes learns far sooner, and by its absolute error more precisely: the squared one is spent on how far the
    hand will have come, not on where it closes (docs/log.md).
    """

    steps: int = 100
    scale: float = 1.0  # what t is multiplied by before its sinusoid
    predicts: Literal["noise", "action"] = "noise"

    def error(self, said: Tensor, target: Tensor) -> Tensor:
        """Elementwise: squared for noise, absolute for actions."""
        return (said - target).square() if self.predicts == "noise" else (said - target).abs()

    def kept(self, like: Tensor) -> Tensor:
        """alpha-bar_t, the share of signal variance left after step t, (steps,), at least float32."""

        def signal(t: float) -> float:
            return math.cos((t / self.steps + 0.008) / 1.008 * math.pi / 2) ** 2

        beta = [min(1 - signal(t + 1) / signal(t), 0.999) for t in range(self.steps)]
        return torch.cumprod(1 - torch.tensor(beta, dtype=torch.float64), 0).to(like.device, exact(like.dtype))

    def at(self, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """x_t for integer t (N,), x0 and noise (N,...)."""
        a = self.kept(x0)[t.long()].reshape(-1, *[1] * (x0.ndim - 1))
        return (a.sqrt() * x0 + (1 - a).sqrt() * noise).to(x0.dtype)

    def corrupt(self, x0: Tensor, valid: Tensor, keys: Keys) -> Noised:
        """x0 (B,H,A), valid (B,H); t uniform over the steps."""
        t = torch.from_numpy(keys.fold("t").integers(self.steps)).to(x0.device)
        noise = keyed_normal(keys.fold("noise"), *x0.shape[1:], like=x0)
        target = noise if self.predicts == "noise" else x0
        return Noised(self.at(x0, noise, t), t.to(exact(x0.dtype)), target, valid)

    def clean(self, said: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """x0 as the network's answer at x_t (N,...) has it, for integer t (N,)."""
        a = self.kept(x)[t.long()].reshape(-1, *[1] * (x.ndim - 1))
        return (x - (1 - a).sqrt() * said) / a.sqrt() if self.predicts == "noise" else said

    def sampler(self) -> DDIM:
        """The default: 10 DDIM steps."""
        return DDIM(self)


@dataclass(frozen=True)
class DDIM:
    """Deterministic DDIM (2010.02502, eq. 12, eta 0). `clip` bounds the estimate of x0 (None: unbounded)."""

    process: Diffusion = Diffusion()
    count: int = 10  # K
    clip: float | None = 1.0

    @property
    def needs(self) -> frozenset[str]:
        """An expert that learned to walk this process back."""
        return frozenset({fits.process(self.process)})

    def __post_init__(self) -> None:
        if not 1 <= self.count <= self.process.steps:
            raise BuildError(
                f"{self.count} DDIM steps of a process of {self.process.steps}",
                f"1 to {self.process.steps}",
                "draw with fewer, or train with more",
            )

    def __call__(self, step: Predict, x: Tensor, *, keys: Keys, frozen: Tensor | None = None) -> Draw:
        x = x.to(exact(x.dtype))
        kept = self.process.kept(x)
        stride = self.process.steps // self.count
        times = [i * stride for i in reversed(range(self.count))]
        shape, chain = x.shape, [x]
        pin = _Pin(frozen, keys, lambda a, n, t: self.process.at(a, n, torch.full((a.shape[0],), t, device=a.device)))
        x = pin.at(x, times[0])
        for t in times:
            flat = x.flatten(0, 1)
            said = step(flat, torch.full((flat.shape[0],), float(t), device=x.device, dtype=x.dtype)).view(shape)
            by_noise = self.process.predicts == "noise"
            x0 = (x - (1 - kept[t]).sqrt() * said) / kept[t].sqrt() if by_noise else said
            if self.clip is not None:
                x0 = x0.clamp(-self.clip, self.clip)
            eps = said if by_noise else (x - kept[t].sqrt() * x0) / (1 - kept[t]).sqrt()
            before = kept[t - stride] if t >= stride else kept.new_ones(())
            x = before.sqrt() * x0 + (1 - before).sqrt() * eps
            x = pin.at(x, t - stride) if t >= stride else pin.final(x)
            chain.append(x)
        return Draw(x, tuple(chain), tuple(float(t) for t in times), sampler=self)


@dataclass(frozen=True)
class Flow:
    """Flow matching on straight paths (2210.02747): x_t = t*noise + (1-t)*a; the network predicts noise - a."""

    scale: float = 100.0

    def error(self, said: Tensor, target: Tensor) -> Tensor:
        """Elementwise, squared."""
        return (said - target).square()

    def at(self, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """x_t for t (N,) in [0, 1]."""
        t = t.reshape(-1, *[1] * (x0.ndim - 1))
        return (t * noise + (1 - t) * x0).to(x0.dtype)

    def corrupt(self, x0: Tensor, valid: Tensor, keys: Keys) -> Noised:
        """x0 (B,H,A), valid (B,H); t uniform in (0, 1]."""
        t = 1 - torch.from_numpy(keys.fold("t").uniform()).to(x0.device, exact(x0.dtype))
        noise = keyed_normal(keys.fold("noise"), *x0.shape[1:], like=x0)
        return Noised(self.at(x0, noise, t), t, noise - x0, valid)

    def clean(self, said: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """x0 as the network's answer at x_t (N,...) has it, for t (N,) in [0, 1]."""
        return x - t.reshape(-1, *[1] * (x.ndim - 1)) * said

    def sampler(self) -> ODE:
        """The default: 10 Euler steps."""
        return ODE(self)


@dataclass(frozen=True)
class ODE:
    """Euler steps along the flow from t = 1 (noise) to 0 (action)."""

    process: Flow = Flow()
    count: int = 10  # K

    @property
    def needs(self) -> frozenset[str]:
        """An expert that learned to walk this process back."""
        return frozenset({fits.process(self.process)})

    def __call__(self, step: Predict, x: Tensor, *, keys: Keys, frozen: Tensor | None = None) -> Draw:
        times = [1 - i / self.count for i in range(self.count)]
        x = x.to(exact(x.dtype))
        shape, chain = x.shape, [x]
        pin = _Pin(frozen, keys, lambda a, n, t: self.process.at(a, n, torch.full((a.shape[0],), t).to(a)))
        x = pin.at(x, 1.0)
        for i, t in enumerate(times):
            flat = x.flatten(0, 1)
            v = step(flat, torch.full((flat.shape[0],), t, device=x.device, dtype=x.dtype)).view(shape)
            x = x - v / self.count
            x = pin.at(x, times[i + 1]) if i + 1 < self.count else pin.final(x)
            chain.append(x)
        return Draw(x, tuple(chain), tuple(times), sampler=self)


@dataclass(frozen=True)
class SDE:
    """The flow's ODE as a stochastic process with the same marginals, whose steps have a density.

    sigma_t = level*sqrt(t/(1-t)) (at t = 1 the next grid value in the denominator); a step of size d goes to
    N((1-(t-d)) a + ((t-d) - sigma^2 d/(2t)) e, sigma^2 d) with a = x - t v, e = x + (1-t) v: Flow-SDE of pi_RL
    (2510.25889) in our convention of time. `one`: a single step, drawn by key, is stochastic, the others are not;
    then a density takes one network call, of each row at its own step.
    """

    process: Flow = Flow()
    count: int = 10  # K
    level: float = 0.5
    one: bool = False

    @property
    def needs(self) -> frozenset[str]:
        """An expert that learned to walk this process back."""
        return frozenset({fits.process(self.process)})

    def _sigma(self, i: int) -> float:
        t, delta = 1 - i / self.count, 1 / self.count
        return self.level * math.sqrt(t / (1 - t if i else delta))

    def transition(self, step: Predict, x: Tensor, i: int, sigma: float) -> tuple[Tensor, float]:
        """Mean (N,H,A) and standard deviation of the i-th step from x (N,H,A)."""
        t = 1 - i / self.count
        v = step(x, torch.full((x.shape[0],), t, device=x.device, dtype=x.dtype))
        return self._mean(x, v, t, sigma), sigma / math.sqrt(self.count)

    def _mean(self, x: Tensor, v: Tensor, t: Any, sigma: Any) -> Tensor:
        """Where a step from t leads on average; t and sigma are numbers, or (N,1,1), one a row."""
        delta = 1 / self.count
        a, e = x - t * v, x + (1 - t) * v
        later = t - delta
        return (1 - later) * a + (later - sigma**2 * delta / (2 * t)) * e

    def __call__(self, step: Predict, x: Tensor, *, keys: Keys, frozen: Tensor | None = None) -> Draw:
        if frozen is not None:
            raise BuildError("SDE cannot hold parts of a chunk fixed", "ODE or DDIM", "choose another sampler")
        x = x.to(exact(x.dtype))
        shape, chain = x.shape, [x]
        which = torch.from_numpy(keys.fold("which").integers(self.count)).to(x.device)  # (B,)
        for i in range(self.count):
            flat, t = x.flatten(0, 1), 1 - i / self.count
            v = step(flat, torch.full((flat.shape[0],), t, device=x.device, dtype=x.dtype))

            def seen(x: Tensor, t: Tensor, v: Tensor = v) -> Tensor:  # one call serves both means
                return v

            mean, std = self.transition(seen, flat, i, self._sigma(i))
            moved = mean.view(shape) + std * sample_normal(keys.fold("step", i), *shape[1:], like=x)
            if self.one:
                still, _ = self.transition(seen, flat, i, 0.0)
                moved = torch.where((which == i).view(-1, 1, 1, 1), moved, still.view(shape))
            x = moved
            chain.append(x)
        times = tuple(1 - i / self.count for i in range(self.count))
        return Draw(x, tuple(chain), times, logged={"which": which} if self.one else {}, sampler=self)

    def log_prob(self, step: Predict, draw: Draw) -> LogProb:
        """Log-density of every stochastic step of a drawn chain under `step`: (B,S,K*H*A), differentiable. Masked: what
        was not stochastic, and what `draw.valid` does not count."""
        counts = torch.ones_like(draw.value, dtype=torch.bool)
        if draw.valid is not None:
            counts = counts & draw.valid.reshape(draw.valid.shape + (1,) * (counts.ndim - draw.valid.ndim))
        if self.one:
            value, at = self._one(step, draw)
            return LogProb(value.flatten(2), (at & counts.unsqueeze(2)).flatten(2))
        values = []
        for i in range(self.count):
            x, nxt = draw.chain[i], draw.chain[i + 1]
            mean, std = self.transition(step, x.flatten(0, 1), i, self._sigma(i))
            values.append(torch.distributions.Normal(mean.view(x.shape), std).log_prob(nxt).flatten(2))
        return LogProb(torch.cat(values, 2), counts.flatten(2).repeat(1, 1, self.count))

    def _one(self, step: Predict, draw: Draw) -> tuple[Tensor, Tensor]:
        """Densities (B,S,K,H,A) in ONE network call, zero but at each row's own step; and which it is, (B,1,K,1,1)."""
        which, chain = draw.logged["which"], torch.stack(draw.chain, 2)
        row, samples = torch.arange(len(which), device=which.device), chain.shape[1]
        x, nxt = chain[row, :, which], chain[row, :, which + 1]  # (B,S,H,A)
        sigma = x.new_tensor([self._sigma(i) for i in range(self.count)])[which].repeat_interleave(samples)
        t = (1 - which.to(x.dtype) / self.count).repeat_interleave(samples)
        flat, column = x.flatten(0, 1), (-1, 1, 1)
        mean = self._mean(flat, step(flat, t), t.view(column), sigma.view(column))
        std = sigma.view(column) / math.sqrt(self.count)
        value = torch.distributions.Normal(mean, std).log_prob(nxt.flatten(0, 1)).view(x.shape)
        at = (which.unsqueeze(1) == torch.arange(self.count, device=which.device)).view(-1, 1, self.count, 1, 1)
        return torch.where(at, value.unsqueeze(2), torch.zeros_like(value).unsqueeze(2)), at


class _Pin:
    """Holds parts of a chunk fixed while the rest is drawn: `frozen` (B,S,H,A), NaN where free."""

    def __init__(self, frozen: Tensor | None, keys: Keys, corrupt):
        self.frozen, self.corrupt = frozen, corrupt
        if frozen is not None:
            self.fixed = ~torch.isnan(frozen)
            self.value = torch.where(self.fixed, frozen, torch.zeros_like(frozen))
            self.noise = sample_normal(keys.fold("pin"), *frozen.shape[1:], like=frozen)

    def at(self, x: Tensor, t: float) -> Tensor:
        if self.frozen is None:
            return x
        flat = self.corrupt(self.value.flatten(0, 1), self.noise.flatten(0, 1), t)
        return torch.where(self.fixed, flat.view(x.shape).to(x), x)

    def final(self, x: Tensor) -> Tensor:
        return x if self.frozen is None else torch.where(self.fixed, self.value, x)
