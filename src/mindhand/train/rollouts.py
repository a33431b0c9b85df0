"""Rollouts as a Source: the policy that learns acts, and what came of it is what it learns from.

An iteration is a collection and so many updates. What is collected depends on the weights at its beginning and on
nothing else, and lies on disk before the first update:

    folder/<iteration>/meta.json   starts tried, groups kept, rewards, control steps; where the next one goes on
    folder/<iteration>/*.npy       a line a query: what was seen, drawn and how likely it was

so a training that was stopped anywhere goes on bit for bit. Starts whose rollouts all end alike are passed over
(dynamic sampling, 2505.17016): others are tried until there are enough groups.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mindhand.core.batch import Batch, Target
from mindhand.core.errors import BadData, Refusal
from mindhand.core.files import write_atomic
from mindhand.core.keys import Key, Keys
from mindhand.core.nouns import ActionChunk, Observation
from mindhand.core.progress import progress
from mindhand.core.red_team import refuse_attacked
from mindhand.core.seams import Draw, State, Turn, World
from mindhand.kit.groups import Grouped, contrast, leave_one_out
from mindhand.model.asking import taught
from mindhand.model.vla import VLA
from mindhand.model.words import SAY
from mindhand.serve.execute import EpisodeResult, run_episodes

Columns = dict[str, Any]  # of queries
SAID = ("instruction", "thought")  # of a query, texts
Played = tuple[list[EpisodeResult], dict[tuple[Key, int], dict[str, Any]]]  # and `Seen.queries`
KEPT = 3  # iterations whose queries stay on disk: a training goes on from a state of one of the last


@dataclass(frozen=True)
class RolloutPlan:
    """starts: episodes' keys, tried in an order drawn anew whenever all were; groups: B, of `many` rollouts (K) each;
    tries: starts that an iteration may spend. replan, steps: as of `run_episodes`; rows: of the world at once.
    temperature: of what is drawn. dynamic: False takes every group, also one without contrast. spared: how often a
    start is passed over whose last rollouts all succeeded, before it is tried again. updates: steps an iteration, of
    `queries` rows."""

    starts: tuple[Key, ...]
    groups: int = 8
    many: int = 8
    tries: int = 32
    replan: int = 8
    steps: int = 500
    rows: int = 16
    temperature: float = 1.0
    dynamic: bool = True
    spared: int = 3
    updates: int = 32
    queries: int = 32

    def __post_init__(self) -> None:
        if not self.starts or len(set(self.starts)) != len(self.starts):
            raise BadData(f"{len(self.starts)} starts", "one at least, each once", "name the keys of episodes")
        if self.many < 2 or not 1 <= self.groups <= self.tries or min(self.updates, self.queries, self.rows) < 1:
            raise BadData(
                f"{self.groups} groups of {self.many} in {self.tries} tries", "2 of each group", "see the plan"
            )


Players = Callable[[VLA, Mapping[Key, Key], RolloutPlan], Played]


@dataclass
class Seen:
    """Policy: a VLA that draws, and what it saw and drew at each query of each rollout, {(key, query): {...}}. A row
    that only fills the batch repeats the key of one before it, but not always what that one sees: the first counts."""

    vla: VLA
    temperature: float
    queries: dict[tuple[Key, int], dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.spec, self.provides = self.vla.spec, frozenset[str]()

    def start(self, keys: Sequence[Key]) -> State:
        """The VLA's."""
        return self.vla.start(keys)

    @torch.no_grad()
    def act(self, obs: Observation, state: State, *, want: Sequence[str] = ()) -> tuple[ActionChunk, State]:
        """The second proposal: of tokens, the first is the likeliest and is not drawn."""
        refuse_attacked(obs, "rollouts to learn from")
        how = {"temperature": self.temperature, "want": ("draw", "chain", "context")}
        found, after = self.vla.propose(obs, state, 2, **how)
        draw: Draw = found.extra["draw"]
        logged = {n: x[:, 1:] for n, x in draw.logged.items()}
        valid = torch.ones_like(draw.value[..., :1], dtype=torch.bool) if draw.valid is None else draw.valid
        chain = tuple(x[:, 1:] for x in draw.chain)
        one = replace(draw, value=draw.value[:, 1:], chain=chain, logged=logged, extra={}, valid=valid[:, 1:])
        density = self.vla.expert.log_prob(found.extra["context"], one)
        chunk = found.pick(np.ones(len(obs), np.int64))
        kept = {f"image.{role}": x[:, 0] for role, x in obs.images.items()}
        kept |= {f"present.{role}": x for role, x in obs.present.items()}
        kept |= {f"extra.{name}": x for name, x in obs.extras.items()}
        kept |= {f"logged.{name}": x[:, 0].cpu().numpy() for name, x in logged.items()}
        kept |= {"state": obs.state[:, -1], "actions": chunk.actions, "action_valid": chunk.valid}
        drawn = {"value": one.value, "valid": one.valid, "log_prob": density.value, "mask": density.mask}
        if chain:
            times = torch.tensor(draw.times).expand(len(obs), 1, -1)
            drawn |= {"chain": torch.stack(chain, 2), "times": times}
        kept |= {name: x[:, 0].cpu().numpy() for name, x in drawn.items()}
        thoughts = [""] * len(obs) if chunk.reasoning is None else chunk.reasoning.texts
        for r, key in enumerate(obs.keys):
            said = {"instruction": obs.text["instruction"][r], "thought": thoughts[r]}
            line = {**{n: x[r].copy() for n, x in kept.items()}, **said}
            self.queries.setdefault((key, int(state["query"][r])), line)
        return chunk, after


def play(vla: VLA, of: Mapping[Key, Key], plan: RolloutPlan, world: World) -> Played:
    """Rollouts {its key: its start's}, `rows` of one world at once."""
    policy = Seen(vla, plan.temperature)
    how = {"replan": plan.replan, "horizon_steps": plan.steps, "rows": plan.rows}
    return run_episodes(policy, Grouped(world, of), [*of], **how), policy.queries


class Rollouts:
    """Source of batches that hold, beside what a hand is conditioned on, `logged`: "value" as it was drawn (`redrawn`),
    "log_prob" (B,M) then, and of the whole rollout "advantage" (B,) and "reward" (B,). Who acts computes in float32;
    train so too (Stage.bf16 False), or the first ratios are not 1. where: a world of `rows` rows, or whoever else
    plays, such as `train.fleet.Fleet`."""

    def __init__(self, plan: RolloutPlan, where: World | Players, folder: Path, seed: int = 0, console: Any = None):
        self.plan, self.folder, self.seed, self.console = plan, folder, seed, console
        self.players: Players = partial(play, world=where) if isinstance(where, World) else where
        self._at: tuple[int, dict[str, Any]] = (-1, {})

    def batch(self, vla: VLA, step: int) -> Batch:
        """Of a step; collects at an iteration's first."""
        number, update = divmod(step, self.plan.updates)
        data = self._iteration(vla, number)
        count, want = len(data["advantage"]), self.plan.queries
        epoch, first = divmod(update * want, count)
        order = [_shuffled(count, self.seed, number, epoch + e) for e in range(-(-(first + want) // count))]
        return batch_of(vla, data, np.concatenate(order)[first : first + want])

    def metas(self) -> list[dict[str, Any]]:
        """What came of every iteration so far, in order: a training's curve, in rollouts and in control steps."""
        return [json.loads(f.read_text()) for f in sorted(self.folder.glob("*/meta.json"))]

    def _iteration(self, vla: VLA, number: int) -> dict[str, Any]:
        if self._at[0] == number:
            return self._at[1]
        folder = self.folder / f"{number:05d}"
        if not (folder / "meta.json").exists():
            was = vla.training
            vla.eval()
            self._collect(vla, number, folder)
            vla.train(was)
            for old in sorted(self.folder.glob("[0-9]*"))[:-KEPT]:
                for file in old.glob("*.npy"):
                    file.unlink()
        meta = json.loads((folder / "meta.json").read_text())
        if absent := [n for n in meta["arrays"] if not (folder / f"{n}.npy").exists()]:
            raise BadData(f"{folder} without {absent[0]}.npy", "what was collected", "train anew in an empty folder")
        data: dict[str, Any] = {n: np.load(folder / f"{n}.npy", mmap_mode="r") for n in meta["arrays"]}
        self._at = number, {**data, **meta["said"]}
        return self._at[1]

    def _starts(self, count: int, cursor: int, easy: dict[str, int]) -> tuple[list[Key], int]:
        """The next ones to be tried, and where to go on. easy: how often those were passed over, and once more, whose
        last rollouts all succeeded."""
        p, out = self.plan, []
        while len(out) < count:
            order = _shuffled(len(p.starts), self.seed, "starts", cursor // len(p.starts))
            start = p.starts[order[cursor % len(p.starts)]]
            cursor += 1
            if easy.get(str(start), p.spared + 1) <= p.spared:
                easy[str(start)] += 1
            else:
                out.append(start)
        return out, cursor

    def _collect(self, vla: VLA, number: int, folder: Path) -> None:
        p, begin = self.plan, time.monotonic()
        before: dict[str, Any] = {"cursor": 0, "easy": {}}
        if number:
            before = json.loads((self.folder / f"{number - 1:05d}" / "meta.json").read_text())
        cursor, easy = before["cursor"], before["easy"]
        lines: list[dict[str, Any]] = []
        rewards: list[list[float]] = []
        groups = steps = 0
        with progress(self.console, f"rollouts {number}", p.groups, 0, "groups") as tell:
            while groups < p.groups and len(rewards) < p.tries:
                tried, wave = len(rewards), max(1, p.rows // p.many)
                starts, cursor = self._starts(min(wave, p.tries - tried), cursor, easy)
                named = [(tried + i) * p.many + k for i in range(len(starts)) for k in range(p.many)]
                of = {Key(f"rollout-{self.seed}", (s := starts[n // p.many - tried]).task, n, number): s for n in named}
                found, queries = self.players(vla, of, p)
                reward = np.array([r.success for r in found], np.float32).reshape(-1, p.many)
                worth, differ = leave_one_out(reward), contrast(reward)
                for i, start in enumerate(starts):
                    easy.pop(str(start), None)
                    if reward[i].all():
                        easy[str(start)] = 1
                    if groups == p.groups or (p.dynamic and not differ[i]):
                        continue
                    for k, r in enumerate(found[i * p.many : (i + 1) * p.many]):
                        whole = {"advantage": worth[i, k], "reward": reward[i, k], "episode": groups * p.many + k}
                        lines += [{**queries[r.key, q], **whole, "step": q} for q in range(r.queries)]
                    groups += 1
                rewards += reward.tolist()
                steps += sum(r.steps for r in found)
                tell(groups, f"success {np.mean(rewards):.3f}")
        if not groups:
            raise Refusal(
                f"{len(rewards)} starts, no two rollouts of one end differently (success {np.mean(rewards):.3f})",
                "a policy that succeeds sometimes",
                "train it further, begin with easier starts, or raise the temperature",
            )
        meta = {"cursor": cursor, "easy": easy, "groups": groups, "rewards": rewards, "control_steps": steps}
        self._write(folder, lines, {**meta, "seconds": round(time.monotonic() - begin, 2)})

    def _write(self, folder: Path, lines: list[dict[str, Any]], meta: dict[str, Any]) -> None:
        """All arrays, then what says that they are whole."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        columns = gathered(lines)
        said = {name: columns.pop(name) for name in SAID}
        for name, x in columns.items():
            np.save(folder / f"{name}.npy", x)
        write_atomic(folder / "meta.json", json.dumps({**meta, "arrays": [*columns], "said": said}))


def gathered(lines: Sequence[Mapping[str, Any]]) -> Columns:
    """What was kept of queries, a list or an array a name."""
    columns = {name: [line[name] for line in lines] for name in lines[0]}
    return {name: x if name in SAID else _stacked(x) for name, x in columns.items()}


def batch_of(vla: VLA, columns: Columns, index: np.ndarray) -> Batch:
    """Some queries as a batch, conditioned as they were when they were asked."""
    x = {n: torch.from_numpy(np.ascontiguousarray(a[index])) for n, a in columns.items() if n not in SAID}
    said = {n: [columns[n][i] for i in index] for n in SAID}

    def under(what: str) -> dict[str, torch.Tensor]:
        return {n.removeprefix(what): v for n, v in x.items() if n.startswith(what)}

    words = vla.backbone.words
    text = {"text": words.questions(said["instruction"])}
    if vla.reasoner is not None:
        text["reasoning"] = taught(words, [Turn(SAY, given=tuple(said["thought"]))])
    whole = torch.ones(len(index), dtype=torch.bool)
    logged = {n: Target(v, whole) for n, v in under("logged.").items()}
    logged |= {"value": Target(x["value"], x["valid"]), "log_prob": Target(x["log_prob"], x["mask"])}
    logged |= {n: Target(x[n], whole) for n in ("advantage", "reward", "chain", "times") if n in x}
    return Batch(
        order=(*(f"image/{role}" for role in vla.see), *text),
        images={role: v.unsqueeze(1) for role, v in under("image.").items()},
        present=under("present."),
        text=text,
        task=torch.ones(len(index), dtype=torch.int64),
        state=x["state"].unsqueeze(1),
        actions=x["actions"],
        action_valid=x["action_valid"],
        episode=x["episode"],
        step=x["step"],
        targets={f"extra/{n}": Target(v, whole) for n, v in under("extra.").items()},
        logged=logged,
    )


def redrawn(batch: Batch, sampler: Any = None) -> Draw:
    """What was drawn at a batch's queries, one sample a row, as `Expert.log_prob` takes it. sampler: the policy's."""
    logged = dict(batch.logged)
    value, chain, times = (logged.pop(n, None) for n in ("value", "chain", "times"))
    rest = {n: t.value.unsqueeze(1) for n, t in logged.items() if n not in ("log_prob", "advantage", "reward")}
    states = () if chain is None else tuple(chain.value.unsqueeze(1).unbind(2))
    when = () if times is None else tuple(times.value[0].tolist())
    return Draw(value.value.unsqueeze(1), states, when, rest, sampler=sampler, valid=value.valid.unsqueeze(1))


def _shuffled(count: int, *words: str | int) -> np.ndarray:
    """A permutation by a counter."""
    return np.argsort(Keys.seeded(1, "rollouts", *words).uniform(count)[0], kind="stable")


def _stacked(rows: list[np.ndarray]) -> np.ndarray:
    """(N,...) of arrays whose first dimension may differ: shorter ones end in zeros."""
    if not np.ndim(rows[0]):
        return np.array(rows)
    out = np.zeros((len(rows), max(len(x) for x in rows), *rows[0].shape[1:]), rows[0].dtype)
    for line, x in zip(out, rows):
        line[: len(x)] = x
    return out
