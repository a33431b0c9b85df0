"""How a chunk is corrupted and drawn: diffusion (DDPM training, DDIM sampling) and flow matching (ODE, SDE).

Both keep one convention: t grows with noise. A process corrupts and names the network's target; a sampler
walks back. Samplers see the network only as `step(x (N,H,A), t (N,)) -> prediction`.
Letters: B rows, S samples, N = B*S, H horizon, A action, K sampling steps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mindhand.core.errors import BuildError
from mindhand.core.keys import Keys
from mindhand.core.seams import Draw, LogProb, Noised, Predict


def keyed_normal(keys: Keys, *shape: int, like: Tensor) -> Tensor:
    """Standard normal (B,*shape) from counters, on the device and in the type of `like`."""
    return torch.from_numpy(keys.normal(*shape)).to(like)


@dataclass(frozen=True)
class Diffusion:
    """DDPM (2006.11239) with squared-cosine noise (2102.09672, eq. 17) and epsilon prediction.

    The paper's lineage trains with 100 steps and clips the estimate of x0 to [-1, 1] when sampling.
    """

    steps: int = 100
    scale: float = 1.0  # what t is multiplied by before its sinusoid

    def kept(self, like: Tensor) -> Tensor:
        """alpha-bar_t, the share of signal variance left after step t, (steps,)."""

        def signal(t: float) -> float:
            return math.cos((t / self.steps + 0.008) / 1.008 * math.pi / 2) ** 2

        beta = [min(1 - signal(t + 1) / signal(t), 0.999) for t in range(self.steps)]
        return torch.cumprod(1 - torch.tensor(beta, dtype=torch.float64), 0).to(like)

    def at(self, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """x_t for integer t (N,), x0 and noise (N,...)."""
        a = self.kept(x0)[t.long()].reshape(-1, *[1] * (x0.ndim - 1))
        return a.sqrt() * x0 + (1 - a).sqrt() * noise

    def corrupt(self, x0: Tensor, valid: Tensor, keys: Keys) -> Noised:
        """x0 (B,H,A), valid (B,H); t uniform over the steps."""
        t = torch.from_numpy(keys.fold("t").integers(self.steps)).to(x0.device)
        noise = keyed_normal(keys.fold("noise"), *x0.shape[1:], like=x0)
        return Noised(self.at(x0, noise, t), t.to(x0.dtype), noise, valid)

    def sampler(self) -> DDIM:
        """The default: 10 DDIM steps."""
        return DDIM(self)


@dataclass(frozen=True)
class DDIM:
    """Deterministic DDIM (2010.02502, eq. 12, eta 0). `clip` bounds the estimate of x0 (None: unbounded)."""

    process: Diffusion = Diffusion()
    count: int = 10  # K
    clip: float | None = 1.0

    def __call__(self, step: Predict, x: Tensor, *, keys: Keys, frozen: Tensor | None = None) -> Draw:
        kept = self.process.kept(x)
        stride = self.process.steps // self.count
        times = [i * stride for i in reversed(range(self.count))]
        shape, chain = x.shape, [x]
        pin = _Pin(frozen, keys, lambda a, n, t: self.process.at(a, n, torch.full((a.shape[0],), t, device=a.device)))
        x = pin.at(x, times[0])
        for t in times:
            flat = x.flatten(0, 1)
            eps = step(flat, torch.full((flat.shape[0],), float(t), device=x.device, dtype=x.dtype)).view(shape)
            x0 = (x - (1 - kept[t]).sqrt() * eps) / kept[t].sqrt()
            if self.clip is not None:
                x0 = x0.clamp(-self.clip, self.clip)
            before = kept[t - stride] if t >= stride else kept.new_ones(())
            x = before.sqrt() * x0 + (1 - before).sqrt() * eps
            x = pin.at(x, t - stride) if t >= stride else pin.final(x)
            chain.append(x)
        return Draw(x, tuple(chain), tuple(float(t) for t in times), sampler=self)


@dataclass(frozen=True)
class Flow:
    """Flow matching on straight paths (2210.02747): x_t = t*noise + (1-t)*a; the network predicts noise - a."""

    scale: float = 100.0

    def at(self, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """x_t for t (N,) in [0, 1]."""
        t = t.reshape(-1, *[1] * (x0.ndim - 1))
        return t * noise + (1 - t) * x0

    def corrupt(self, x0: Tensor, valid: Tensor, keys: Keys) -> Noised:
        """x0 (B,H,A), valid (B,H); t uniform in (0, 1]."""
        t = 1 - torch.from_numpy(keys.fold("t").uniform()).to(x0)
        noise = keyed_normal(keys.fold("noise"), *x0.shape[1:], like=x0)
        return Noised(self.at(x0, noise, t), t, noise - x0, valid)

    def sampler(self) -> ODE:
        """The default: 10 Euler steps."""
        return ODE(self)


@dataclass(frozen=True)
class ODE:
    """Euler steps along the flow from t = 1 (noise) to 0 (action)."""

    process: Flow = Flow()
    count: int = 10  # K

    def __call__(self, step: Predict, x: Tensor, *, keys: Keys, frozen: Tensor | None = None) -> Draw:
        times = [1 - i / self.count for i in range(self.count)]
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
    (2510.25889) in our convention of time. `one`: a single step, drawn by key, is stochastic, the others are not.
    """

    process: Flow = Flow()
    count: int = 10  # K
    level: float = 0.5
    one: bool = False

    def _sigma(self, i: int) -> float:
        t, delta = 1 - i / self.count, 1 / self.count
        return self.level * math.sqrt(t / (1 - t if i else delta))

    def transition(self, step: Predict, x: Tensor, i: int, sigma: float) -> tuple[Tensor, float]:
        """Mean (N,H,A) and standard deviation of the i-th step from x (N,H,A)."""
        t, delta = 1 - i / self.count, 1 / self.count
        v = step(x, torch.full((x.shape[0],), t, device=x.device, dtype=x.dtype))
        a, e = x - t * v, x + (1 - t) * v
        later = t - delta
        return (1 - later) * a + (later - sigma**2 * delta / (2 * t)) * e, sigma * math.sqrt(delta)

    def __call__(self, step: Predict, x: Tensor, *, keys: Keys, frozen: Tensor | None = None) -> Draw:
        if frozen is not None:
            raise BuildError("SDE cannot hold parts of a chunk fixed", "ODE or DDIM", "choose another sampler")
        shape, chain = x.shape, [x]
        which = torch.from_numpy(keys.fold("which").integers(self.count)).to(x.device)  # (B,)
        for i in range(self.count):
            flat = x.flatten(0, 1)
            mean, std = self.transition(step, flat, i, self._sigma(i))
            noise = keyed_normal(keys.fold("step", i), *shape[1:], like=x)
            moved = mean.view(shape) + std * noise
            if self.one:
                still, _ = self.transition(step, flat, i, 0.0)
                moved = torch.where((which == i).view(-1, 1, 1, 1), moved, still.view(shape))
            x = moved
            chain.append(x)
        times = tuple(1 - i / self.count for i in range(self.count))
        return Draw(x, tuple(chain), times, logged={"which": which} if self.one else {}, sampler=self)

    def log_prob(self, step: Predict, draw: Draw) -> LogProb:
        """Log-density of every stochastic step of a drawn chain under `step`: (B,S,K*H*A), differentiable."""
        values, masks = [], []
        for i in range(self.count):
            x, nxt = draw.chain[i], draw.chain[i + 1]
            mean, std = self.transition(step, x.flatten(0, 1), i, self._sigma(i))
            value = torch.distributions.Normal(mean.view(x.shape), std).log_prob(nxt)
            mask = torch.ones_like(value, dtype=torch.bool)
            if self.one:
                mask &= (draw.logged["which"] == i).view(-1, 1, 1, 1)
            values.append(value.flatten(2))
            masks.append(mask.flatten(2))
        return LogProb(torch.cat(values, 2), torch.cat(masks, 2))


class _Pin:
    """Holds parts of a chunk fixed while the rest is drawn: `frozen` (B,S,H,A), NaN where free."""

    def __init__(self, frozen: Tensor | None, keys: Keys, corrupt):
        self.frozen, self.corrupt = frozen, corrupt
        if frozen is not None:
            self.fixed = ~torch.isnan(frozen)
            self.value = torch.where(self.fixed, frozen, torch.zeros_like(frozen))
            self.noise = keyed_normal(keys.fold("pin"), *frozen.shape[1:], like=frozen)

    def at(self, x: Tensor, t: float) -> Tensor:
        if self.frozen is None:
            return x
        flat = self.corrupt(self.value.flatten(0, 1), self.noise.flatten(0, 1), t)
        return torch.where(self.fixed, flat.view(x.shape).to(x), x)

    def final(self, x: Tensor) -> Tensor:
        return x if self.frozen is None else torch.where(self.fixed, self.value, x)
