"""TACO: of several chunks the one whose hidden feature was most often seen in the data is taken (2512.02834).

Seam: Policy, round a VLA. S chunks are drawn on one prefix; a coin-flip network f tells of each one's feature h, the
hand's last hidden state at the first action token in the last call, how often its like was met: d / ||f(h)||^2. No
weight of the VLA moves. `fit` learns f from the frames that the VLA was trained on, of each the feature of the drawn
chunk nearest to the demonstrated one. Differs from the paper: a hand of tokens is heard behind its last; sizes and
epochs are for thousands of frames. The paper: LIBERO-Long 94.8 to 96.6 %, RoboTwin2 59.3 to 64.0 %.
Use: policy = wrap(vla, fitted=fit(vla, frames))
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mindhand.core.card import Claim, MethodCard
from mindhand.core.checkpoint import load_into
from mindhand.core.errors import BuildError
from mindhand.core.keys import Key, Keys
from mindhand.core.nouns import ActionChunk, Observation, smoke_observation
from mindhand.core.seams import Noised, Policy, State
from mindhand.data.robot import RobotFrames
from mindhand.kit.notes import alarmed, noted
from mindhand.kit.probe import belongs, fingerprint, heard, load_probe, save_probe, told
from mindhand.model import fits
from mindhand.model.diffusion import Diffusion
from mindhand.model.expert import process_of
from mindhand.model.hearing import last_layer, listening

NAME = "taco"


@dataclass(frozen=True)
class Config:
    """What is drawn, and how the counts are learned. In brackets the paper's values."""

    samples: int = 16  # S, chunks that are drawn to choose from (50 in simulation, 30 on a robot)
    temperature: float = 0.0  # 0: the most counted; else one is drawn by counts^(1/temperature) (0)
    bank: int = 16  # N, fixed noises that a frame's feature is searched with (50)
    levels: tuple[float, ...] = ()  # of noise on the demonstrated chunk, to search with instead of the bank
    coins: int = 20  # d (20)
    scale: float = 10.0  # of features (10)
    width: int = 192  # of the network (1536)
    blocks: int = 3  # residual (3)
    dropout: float = 0.1  # in them (0.1)
    lr: float = 1e-4  # Adam's at the start (1e-4)
    peak: float = 1e-3  # OneCycle's, cosine (1e-3)
    rows: int = 256  # features a batch (512)
    accumulate: int = 1  # batches a step (2)
    epochs: int = 100  # (16, of hundreds of thousands of frames)
    rare: float = 0.01  # quantile of the data's own counts, below which a count is low; ours


class Residual(nn.Module):
    """LN(x + W2 GELU(W1 x)), four times as wide inside, with dropout."""

    def __init__(self, width: int, dropout: float):
        super().__init__()
        drop = nn.Dropout(dropout)
        self.inner = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), drop, nn.Linear(4 * width, width), drop)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """(n,width) -> (n,width)."""
        return self.norm(x + self.inner(x))


class CoinFlip(nn.Module):
    """f: features (n,W) -> (n,d), coins as they fell on average (Lobel et al., 2306.03186). The sum of a network that
    learns and of one that does not, whose output has mean 0 and variance 1 over what it saw while learning: what was
    never seen has the norm of a single fall."""

    def __init__(self, features: int, c: Config):
        super().__init__()
        self.scale = c.scale

        def net(dropout: float) -> nn.Sequential:
            middle = [Residual(c.width, dropout) for _ in range(c.blocks)]
            first = nn.Linear(features, c.width), nn.GELU(), nn.LayerNorm(c.width)
            return nn.Sequential(*first, *middle, nn.Linear(c.width, c.coins))

        self.net, self.prior = net(c.dropout), net(0.0).requires_grad_(False)
        self.register_buffer("seen", torch.zeros(()))
        self.register_buffer("mean", torch.zeros(c.coins))
        self.register_buffer("spread", torch.zeros(c.coins))  # sum of squares about the mean

    seen: Tensor
    mean: Tensor
    spread: Tensor

    def forward(self, h: Tensor) -> Tensor:
        """While it learns, the prior's mean and variance run on."""
        x = self.scale * h
        with torch.no_grad():
            prior = self.prior(x)
            if self.training:
                self._note(prior)
            prior = (prior - self.mean) / (self.spread / self.seen.clamp_min(1)).sqrt().clamp_min(1e-6)
        return self.net(x) + prior

    def _note(self, x: Tensor) -> None:
        """Mean and squares of two sets from those of each (Chan, Golub and LeVeque 1983)."""
        whole, off = self.seen + len(x), x.mean(0) - self.mean
        self.spread += (x - x.mean(0)).square().sum(0) + off.square() * self.seen * len(x) / whole
        self.mean += off * len(x) / whole
        self.seen.copy_(whole)

    @torch.no_grad()
    def counts(self, h: Tensor) -> Tensor:
        """d / ||f(h)||^2 of features (...,W): (...,). How often a feature was seen, 1 also where it never was."""
        out = self(h.flatten(0, -2))
        return (out.shape[-1] / out.square().sum(-1).clamp_min(1e-12)).unflatten(0, h.shape[:-1])


def coins(index: np.ndarray, count: int) -> np.ndarray:
    """float32 (n,count) of -1 and 1: a frame's coins are those of its number in the dataset, whenever they are asked
    for; frames that look alike have coins of their own."""
    base = Keys.seeded(1, NAME, "coins").rows * len(index)
    return (2 * Keys(base).fold_each(index.tolist()).integers(2, count) - 1).astype(np.float32)


def learn(features: Tensor, index: np.ndarray, c: Config, seed: int = 0) -> CoinFlip:
    """min mean ||f(h_n) - coins(n)||^2 over features (n,W) of frames (n,)."""
    target, batches = torch.from_numpy(coins(index, c.coins)).to(features.device), -(-len(index) // c.rows)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = CoinFlip(features.shape[1], c).to(features.device).train()
        learner = torch.optim.Adam(net.net.parameters(), c.lr)
        steps = max(2, c.epochs * -(-batches // c.accumulate))
        cycle = torch.optim.lr_scheduler.OneCycleLR(learner, c.peak, steps, div_factor=c.peak / c.lr)
        for epoch in range(c.epochs):
            order = np.argsort(Keys.seeded(1, NAME, "order", seed, epoch).uniform(len(index))[0])
            parts = np.array_split(order, batches)
            for i in range(0, batches, c.accumulate):
                some = parts[i : i + c.accumulate]
                learner.zero_grad()
                for at in some:
                    ((net(features[at]) - target[at]).square().mean() / len(some)).backward()
                learner.step()
                cycle.step()
    return net.eval()


def bank(policy: Any, count: int) -> np.ndarray:
    """The first `count` of the fixed noises of a hand, (1,count,H,A'): the same for every frame, and in every run."""
    hand = policy.expert.config
    return Keys.seeded(1, NAME, "bank").repeat(count).normal(hand.horizon, hand.action)[None]


@torch.no_grad()
def features(policy: Any, frames: RobotFrames, index: np.ndarray, c: Config) -> Tensor:
    """High-fidelity search: of each frame the feature of the chunk, of `bank` drawn, that is nearest to the
    demonstrated one (n,W). A VLA with a memory is asked as at an episode's beginning."""
    return torch.cat([_searched(policy, frames, at, c) for at in np.array_split(index, -(-len(index) // 16))])


def _searched(policy: Any, frames: RobotFrames, at: np.ndarray, c: Config) -> Tensor:
    obs, (actions, valid) = frames.observe(at), frames.chunks(at)
    start, process = policy.start(obs.keys), process_of(policy.expert)
    shown = [torch.from_numpy(x).to(policy.device) for x in (actions, valid, obs.state)]
    if process is None and c.levels:
        raise BuildError("noise levels for a hand of tokens", "no levels", "Config(levels=())")
    if process is None:
        told, h, _ = heard(policy, obs, start, c.bank)
        unit = frames.reader.action.std(0).clip(1e-6)
        values, true = (torch.from_numpy(x / unit).to(policy.device) for x in (told.actions, actions))
    elif c.levels:
        true = policy.codec.encode(*shown).values
        values, h = _restored(policy, policy.think(obs, start)[0], process, true, obs.keys, c.levels)
    else:
        told, h, _ = heard(policy, obs, start, c.bank, noise=bank(policy, c.bank))
        values, true = told.extra["draw"].value, policy.codec.encode(*shown).values
    if values.shape[2:] != true.shape[1:]:
        what = f"frames with {true.shape[1]} actions each, and a policy with {values.shape[2]}"
        raise BuildError(what, "the horizon that it learned", "RobotFrames(horizon=...)")
    off = ((values - true.unsqueeze(1)).square().sum(-1) * shown[1].unsqueeze(1)).sum(-1)
    return h[torch.arange(len(h), device=h.device), off.argmin(1)]


def _restored(policy: Any, ctx: Any, process: Any, true: Tensor, keys: Any, levels: Any) -> tuple[Tensor, Tensor]:
    """The paper's search: chunks (B,N,H,A') that one call makes of the demonstrated one (B,H,A'), corrupted at N levels
    in (0, 1), and their features."""
    rows, count = len(true), len(levels)
    x0 = true.repeat_interleave(count, 0).float()
    noise = torch.from_numpy(Keys.of(keys).fold(NAME).repeat(count).normal(*x0.shape[1:])).to(x0)
    t = torch.tensor(levels * rows, device=x0.device)
    if isinstance(process, Diffusion):
        t = (t * process.steps).long().clamp(0, process.steps - 1)
    x, whole = process.at(x0, noise, t), torch.ones(x0.shape[:2], dtype=torch.bool, device=x0.device)
    with listening(policy.expert) as calls:
        said = policy.expert.predict(ctx.fork(count), Noised(x, t.to(x), x0, whole)).float()
    return process.clean(said, x, t).unflatten(0, (rows, count)), calls[-1][:, 0].float().unflatten(0, (rows, count))


@dataclass(frozen=True)
class Counts:
    """What was learned: net; of: fingerprint of the policy; low: the count below which nothing like it was seen."""

    net: CoinFlip
    config: Config
    of: str
    low: float

    def save(self, folder: Path | str) -> None:
        """Write it, atomically."""
        about = {"config": asdict(self.config), "features": self.net.net[0].in_features, "low": self.low}
        save_probe(folder, NAME, self.of, about, self.net.state_dict())


def load(folder: Path | str) -> Counts:
    """Counts that were saved. BadCheckpoint for a folder that is not whole, or another method's."""
    stored = load_probe(folder, NAME)
    told = stored.about["config"]
    config = Config(**{**told, "levels": tuple(told["levels"])})
    net = CoinFlip(stored.about["features"], config)
    load_into(net, stored.tensors)
    return Counts(net.eval(), config, stored.of, stored.about["low"])


def fit(policy: Any, frames: RobotFrames, config: Config = Config(), seed: int = 0) -> Counts:
    """Counts of a VLA, over all cached frames of the data that it learned from. BuildError as of `wrap`."""
    _listened(policy)
    found = features(policy, frames, frames.cache.frames, config)
    net = learn(found, frames.cache.frames, config, seed)
    return Counts(net, config, fingerprint(policy), float(net.counts(found).quantile(config.rare)))


def _listened(policy: Any) -> None:
    if not {fits.TRUNK, fits.PROPOSES} <= policy.provides:
        raise BuildError(f"TACO round {told(policy)}", "a VLA, of which several chunks are drawn", "put it innermost")
    last_layer(policy.expert)


class Taco:
    """Policy round a VLA; others go round this one. Its state is the VLA's, and how often it was asked, by row."""

    def __init__(self, base: Any, config: Config, counts: Counts):
        self.base, self.config, self.spec = base, config, base.spec
        self.provides: frozenset[str] = frozenset({fits.HIDDEN})
        self.net, self.low = counts.net.to(base.device).eval(), counts.low

    def start(self, keys: Sequence[Key]) -> State:
        """Nothing is remembered but what is inside."""
        return {"base": self.base.start(keys), "asked": np.zeros(len(keys), np.int64)}

    def act(self, obs: Observation, state: State, *, want: Sequence[str] = ()) -> tuple[ActionChunk, State]:
        """Extra "counts" (B,S), "chosen" (B,), "alarm" (B,): whether all counts of a row are low, and a note of it; a
        wanted "draw" is that of all samples, what is wanted as "hidden" that of the chosen one."""
        told, h, base = heard(self.base, obs, state["base"], self.config.samples, want=want)
        counts = self.net.counts(h).cpu().numpy()
        which = chosen(counts, self.config.temperature, Keys.of(obs.keys).fold(NAME).fold_each(state["asked"].tolist()))
        alarm, chunk = counts.max(1) < self.low, told.pick(which)
        note = [f"no chunk is familiar: {n:.2f} < {self.low:.2f}" if a else "" for a, n in zip(alarm, counts.max(1))]
        own = {"counts": counts, "chosen": which, "alarm": alarmed(told.extra, alarm), "note": noted(told.extra, note)}
        extra = {**{n: x for n, x in told.extra.items() if n in want}, **chunk.extra, **own}
        return replace(chunk, extra=extra), {"base": base, "asked": state["asked"] + 1}


def chosen(counts: np.ndarray, temperature: float, keys: Keys) -> np.ndarray:
    """Of counts (B,S) the largest (B,), or at a temperature one drawn with chance counts^(1/temperature)."""
    if not temperature:
        return counts.argmax(1)
    gumbel = -np.log(-np.log(keys.uniform(counts.shape[1]).clip(1e-300, 1 - 1e-16)))
    return (np.log(counts) / temperature + gumbel).argmax(1)


CARD = MethodCard(
    name=NAME,
    title="TACO",
    arxiv="2512.02834",
    area="run",
    seams=("Policy", "Proposer"),
    claim=Claim("the most familiar of several chunks succeeds more often than the first", "effect"),
    needs=frozenset({fits.PROPOSES, fits.TRUNK}),
)


def wrap(policy: Policy, config: Config | None = None, fitted: Counts | None = None) -> Policy:
    """Round a VLA. config: that of the counts unless given. BuildError without counts, and with another policy's."""
    _listened(policy)
    if fitted is None:
        how = "fit(policy, frames), or: python -m mindhand.recipes.fit taco CHECKPOINT DATA FOLDER, and taco=FOLDER"
        raise BuildError("TACO without counts", "what `fit` learned of this policy", how)
    belongs(fitted.of, policy, NAME)
    return Taco(policy, config or fitted.config, fitted)


def probe(on: Any, off: Any) -> bool:
    """What is done is the most familiar of several chunks that the policy inside would have drawn."""
    obs = smoke_observation(on.spec)
    chunk = on.act(obs, on.start(obs.keys))[0]
    counts = chunk.extra.get("counts", np.zeros((1, 1)))
    drawn = off.propose(obs, off.start(obs.keys), counts.shape[1])[0].actions[0, counts[0].argmax()]
    return counts.shape[1] > 1 and np.allclose(drawn, chunk.actions[0], atol=1e-4)
