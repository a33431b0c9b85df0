"""SAFE: from what its hand feels, a VLA is told that it will fail while it still acts (2506.09937).

Seam: Policy, round a VLA or what hands its hidden states on. At each query t the hand's last ones e_t, pooled over the
chunk's action tokens, go to a small network, whose score s_t of the episode so far is compared with a limit at t; what
is done is the policy's own, bit for bit. `fit` learns the network from rollouts that succeeded and failed, of several
tasks, and the limit from successes kept apart: a new one ever exceeds it with a chance of at most alpha, as far as it
is exchangeable with those.
Differs from the paper: features are standardised; tokens alone are pooled, not steps of denoising; the limit takes the
finite sample's index. The paper: ROC-AUC 0.82 on tasks that it learned from, 0.77 to 0.78 on others.
Use: policy = wrap(vla, fitted=fit(vla, record(vla, world, keys, folder, replan=8, steps=200)))
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
from mindhand.core.errors import BadData, BuildError
from mindhand.core.keys import Key, Keys
from mindhand.core.nouns import ActionChunk, Observation, smoke_observation
from mindhand.core.seams import Policy, State
from mindhand.kit.conformal import enough, held, upper
from mindhand.kit.notes import alarmed, noted
from mindhand.kit.probe import acted, belongs, felt, fingerprint, innermost, load_probe, save_probe
from mindhand.kit.running import SCORES
from mindhand.kit.still import stay, unknown
from mindhand.model import fits
from mindhand.model.hearing import POOLS
from mindhand.train.recorded import Episode, Recorded

NAME = "safe"
LEARNS_FROM = "rollouts"  # of the policy itself; others' fit takes demonstrations
ALARMS = ("note", "hold")


@dataclass(frozen=True)
class Config:
    """What is scored, how that is learned, and what an alarm does. In brackets the paper's values, or what it tried."""

    score: str = "mlp"  # s_t: "mlp", the sum of what each query adds; "lstm", the chance of a failure (both)
    pool: str = "mean"  # of a chunk's action tokens: "first", "last", "mean" (all)
    width: int = 256  # hidden, in one layer (256, in 1 or 2)
    alpha: float = 0.2  # the share of successes in which an alarm is raised, at most
    alarm: str = "note"  # "note" it and go on, or "hold": the arm stays where it is till the episode ends
    kept: float = 0.5  # the share of successes that the limit is learned from, and not the score; ours
    balance: bool = True  # failures weigh as much as successes, however many there are (tried)
    early: float = 5.0  # w: a failure's query t of T weighs w exp(-3 t / T) + 1, before its mean is made 1 (5, or none)
    l2: float = 1e-2  # penalty (1e-3 to 1e-1)
    lr: float = 3e-4  # Adam's (3e-5 to 1e-3)
    rows: int = 64  # episodes a step; ours
    epochs: int = 300  # (up to 1000)

    def __post_init__(self) -> None:
        chosen = self.score in SCORES and self.pool in POOLS and self.alarm in ALARMS
        if not chosen or not 0 < self.kept < 1 or not 0 < self.alpha < 1:
            expected = f"score of {[*SCORES]}, pool of {POOLS}, alarm of {ALARMS}, shares in (0, 1)"
            raise BuildError(f"{self}", expected, "correct Config")


# ---- learning ----------------------------------------------------------------------------------------------


def shown(episodes: Sequence[Episode], c: Config) -> tuple[Tensor, Tensor]:
    """Features (n,T,W) of episodes, zero behind an end, and which there are, bool (n,T)."""
    pool, longest = POOLS.index(c.pool), max(map(len, episodes))
    out = np.zeros((len(episodes), longest, episodes[0].features.shape[-1]), np.float32)
    for line, e in zip(out, episodes):
        line[: len(e)] = e.features[:, pool]
    lengths = torch.tensor([len(e) for e in episodes])
    return torch.from_numpy(out), torch.arange(longest) < lengths.unsqueeze(1)


def weights(failed: Tensor, valid: Tensor, c: Config) -> Tensor:
    """Of queries (n,T), 0 where there are none: by `early`, of mean 1 in each episode, times `balance`."""
    lengths = valid.sum(1, keepdim=True)
    t = torch.arange(1, valid.shape[1] + 1, device=valid.device)
    w = torch.where(failed.unsqueeze(1), c.early * torch.exp(-3 * t / lengths) + 1, 1.0) * valid
    w = w * lengths / w.sum(1, keepdim=True)
    if c.balance:
        share = torch.where(failed, failed.double().mean(), 1 - failed.double().mean())
        w = w * (0.5 / share).unsqueeze(1)
    return w


def learn(episodes: Sequence[Episode], c: Config, seed: int = 0, device: Any = "cpu") -> nn.Module:
    """The network, from episodes of both kinds: the paper's loss, a mean over the queries of a step."""
    y = torch.tensor([not e.success for e in episodes], device=device)
    if bool(y.all()) or not bool(y.any()):
        what = f"{int(y.sum())} failures among {len(y)} rollouts that a score learns from"
        raise BadData(what, "some that failed and some that did not", "record more, of a policy that does both")
    x, valid = (v.to(device) for v in shown(episodes, c))
    w, t = weights(y, valid, c), torch.arange(1, x.shape[1] + 1, device=device)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = SCORES[c.score](x.shape[2], c.width).to(device).train()
    net.unit.fit(x[valid])
    learner = torch.optim.Adam(net.parameters(), c.lr, weight_decay=c.l2)
    for epoch in range(c.epochs):
        order = np.argsort(Keys.seeded(1, NAME, "order", seed, epoch).uniform(len(y))[0], kind="stable")
        for at in np.array_split(order, -(-len(y) // c.rows)):
            loss = net.loss(net(x[at]), y[at].double().unsqueeze(1), t) * w[at]
            learner.zero_grad()
            (loss.sum() / valid[at].sum()).backward()
            learner.step()
    return net.eval()


@torch.no_grad()
def scores(net: Any, episodes: Sequence[Episode], c: Config) -> list[np.ndarray]:
    """s (T,) of each episode."""
    out = []
    for at in range(0, len(episodes), 64):
        some = episodes[at : at + 64]
        found = net(shown(some, c)[0].to(net.unit.mean.device)).cpu().numpy()
        out += [line[: len(e)] for line, e in zip(found, some)]
    return out


def parted(rollouts: Recorded, c: Config, seed: int = 0) -> tuple[list[Episode], list[Episode]]:
    """Episodes that the score learns from, and successes that the limit does, drawn from all successes alike."""
    calm = [e for e in rollouts.episodes if e.success]
    order = np.argsort(Keys.seeded(1, NAME, "kept", seed).uniform(len(calm))[0], kind="stable")
    apart = [calm[i] for i in order[: round(c.kept * len(calm))]]
    names = {e.key for e in apart}
    return [e for e in rollouts.episodes if e.key not in names], apart


def limit_of(curves: Sequence[np.ndarray], c: Config, length: int) -> np.ndarray:
    """The limit (length,) of scores of successes that nothing learned from; a shorter one holds its last value.
    BadData for so few that no finite limit has a chance of at most alpha."""
    if len(curves) < enough(c.alpha):
        what = f"{len(curves)} successes to learn a limit from, of which {c.alpha} may exceed it"
        raise BadData(what, f"{enough(c.alpha)} at least", "record more episodes, keep more of them, or raise alpha")
    return upper(held(curves, length), c.alpha)


@dataclass(frozen=True)
class Fitted:
    """What was learned: net; config; of: fingerprint of the policy; limit float64 (T,), the last for all after it."""

    net: Any
    config: Config
    of: str
    limit: np.ndarray

    def save(self, folder: Path | str) -> None:
        """Write it, atomically."""
        about = {"config": asdict(self.config), "features": len(self.net.unit.mean)}
        save_probe(folder, NAME, self.of, about, {**self.net.state_dict(), "limit": torch.from_numpy(self.limit)})


def load(folder: Path | str) -> Fitted:
    """What was saved. BadCheckpoint for a folder that is not whole, or another method's."""
    stored = load_probe(folder, NAME)
    config = Config(**stored.about["config"])
    net = SCORES[config.score](stored.about["features"], config.width)
    tensors = dict(stored.tensors)
    limit = tensors.pop("limit").numpy()
    load_into(net, tensors)
    return Fitted(net.eval(), config, stored.of, limit)


def fit(policy: Any, rollouts: Recorded, config: Config = Config(), seed: int = 0) -> Fitted:
    """Score and limit of a policy, from its own rollouts (`train.recorded.record`). BuildError for those of another
    policy, and as of `wrap`; BadData where they are too few, or all end alike."""
    felt(policy, NAME)
    if (here := fingerprint(policy)) != rollouts.of:
        what = f"rollouts of policy {rollouts.of} to fit '{NAME}' on policy {here}"
        raise BuildError(what, "its own: hidden states of another mean nothing here", "record this policy")
    some, calm = parted(rollouts, config, seed)
    net = learn(some, config, seed, innermost(policy).device)
    limit = limit_of(scores(net, calm, config), config, max(map(len, rollouts.episodes)))
    return Fitted(net, config, rollouts.of, limit)


# ---- while it acts -----------------------------------------------------------------------------------------


class Safe:
    """Policy round one that tells what its hand feels, as this one does. Rows first in all that it remembers; what is
    raised in an episode stays so till its end."""

    provides: frozenset[str] = frozenset({fits.HIDDEN})

    def __init__(self, base: Any, config: Config, fitted: Fitted):
        self.base, self.config, self.spec = base, config, base.spec
        self.net, self.limit = fitted.net.to(innermost(base).device).eval(), fitted.limit
        self.pool = POOLS.index(fitted.config.pool)
        if config.alarm == "hold" and (lost := unknown(base.spec)):
            what = f"to hold a robot whose '{lost[0].name}' ({lost[0].kind}) is commanded and not measured"
            raise BuildError(what, "the same part in its state", "Config(alarm='note')")

    def start(self, keys: Sequence[Key]) -> State:
        """Nothing was asked, nothing raised."""
        rows = len(keys)
        own = {"asked": np.zeros(rows, np.int64), "alarm": np.zeros(rows, bool)}
        held = np.zeros((rows, self.spec.action_size), np.float32)
        return {"base": self.base.start(keys), "score": self.net.start(rows), "held": held, **own}

    @torch.no_grad()
    def act(self, obs: Observation, state: State, *, want: Sequence[str] = ()) -> tuple[ActionChunk, State]:
        """Extra "score" (B,), its "limit" (B,), "alarm" (B,): whether one was raised by now, and a note when it is; as
        long as the arm is held, of each chunk. A score that is no number raises one, too."""
        chunk, told, base = acted(self.base, obs, state["base"], want)
        s, score = self.net.step(told[:, self.pool].float(), state["score"])
        now, limit = s.cpu().numpy(), self.limit[np.minimum(state["asked"], len(self.limit) - 1)]
        before, held = state["alarm"], state["held"]
        alarm = before | ~(now <= limit)
        note = [f"it will fail: {x:.2f} > {y:.2f}" if a else "" for x, y, a in zip(now, limit, alarm & ~before)]
        if self.config.alarm == "hold":
            here = stay(self.spec, chunk.actions[:, :1], obs.state[:, -1])[:, 0]
            held = np.where((alarm & ~before)[:, None], here, held)
            actions = np.where(alarm[:, None, None], held[:, None], chunk.actions)
            chunk = replace(chunk, actions=actions, valid=chunk.valid | alarm[:, None])
            note = [f"{n}; held" if n else "held" * bool(a) for n, a in zip(note, alarm)]
        told_of = {"alarm": alarmed(chunk.extra, alarm), "note": noted(chunk.extra, note)}
        own = {"score": now, "limit": limit, **told_of}
        after = {"base": base, "score": score, "held": held, "asked": state["asked"] + 1, "alarm": alarm}
        return replace(chunk, extra={**chunk.extra, **own}), after


CARD = MethodCard(
    name=NAME,
    title="SAFE",
    arxiv="2506.09937",
    area="guard",
    seams=("Policy",),
    claim=Claim("on tasks that it did not learn from, failures score higher than successes as old", "auc_unseen"),
    needs=frozenset({fits.HIDDEN}),
)


def wrap(policy: Policy, config: Config | None = None, fitted: Fitted | None = None) -> Policy:
    """Round who tells what a hand feels. config: what was fitted unless given; of it only `alarm` can be another.
    BuildError without what was fitted, with another policy's, and for an arm that cannot be held."""
    felt(policy, NAME)
    if fitted is None:
        how = "fit(policy, rollouts), or: python -m mindhand.recipes.fit safe CHECKPOINT ROLLOUTS FOLDER, safe=FOLDER"
        raise BuildError("SAFE without a score", "what `fit` learned of this policy's rollouts", how)
    belongs(fitted.of, policy, NAME)
    config = config or fitted.config
    if replace(config, alarm=fitted.config.alarm) != fitted.config:
        raise BuildError(f"SAFE fitted with {fitted.config}", "the same but for `alarm`", f"fit it anew with {config}")
    return Safe(policy, config, fitted)


def probe(on: Any, off: Any) -> bool:
    """What is done is what the policy inside does, and a score of it runs on, compared with a limit."""
    obs = smoke_observation(on.spec)
    state, plain, seen = on.start(obs.keys), off.start(obs.keys), []
    for _ in range(2):
        chunk, state = on.act(obs, state)
        bare, plain = off.act(obs, plain)
        own = {n: chunk.extra[n] for n in ("score", "limit", "alarm") if n in chunk.extra}
        seen.append(own.get("score"))
        if len(own) < 3 or own["alarm"] < (own["score"] > own["limit"]) or (chunk.actions != bare.actions).any():
            return False
    return bool(seen[0] > 0 and seen[1] != seen[0])
