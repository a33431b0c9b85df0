"""Whether who watches a policy knows that it will fail: SAFE and simpler scores, on rollouts of one policy.

python -m mindhand.recipes.monitor record runs/policy/checkpoint spatial-placing runs/proofs/monitor [60 [WRAP ...]]
mindhand bench monitor        from a clean checkout: records of what was recorded in runs/proofs/monitor

The first runs the policy, 60 episodes of each task of the protocol unless told, and can be stopped and gone on with; a
task of K-test is left out, since something learns from what is recorded. What goes round the policy meanwhile is named
as for `mindhand eval --wrap`, the first innermost. The second learns each score from a part of the episodes of some
tasks (seen), and asks it about their other ones and about tasks that it knows nothing of (unseen).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

import mindhand.core
import mindhand.evaluate.alarms
import mindhand.kit
import mindhand.methods.guard.safe
import mindhand.train.recorded
from mindhand.core.errors import BadData, Refusal
from mindhand.core.keys import Keys
from mindhand.core.record import Kind, Record, write_record
from mindhand.evaluate.alarms import Scored, ages, judged
from mindhand.evaluate.ledger import ktest_tasks
from mindhand.evaluate.protocol import Protocol, keys, named
from mindhand.evaluate.run import code
from mindhand.methods import wrapped
from mindhand.methods.guard.safe import Config, learn, limit_of, parted, scores
from mindhand.model.hearing import POOLS
from mindhand.train.recorded import ABOUT, Episode, Recorded, load_recorded, record

from .places import place_of, worlds
from .rollouts import load_policy

HOME = Path("runs/proofs/monitor")
CONFIG = Config()
SPLITS = 3  # of the tasks into seen and unseen
UNSEEN = 3 / 8  # of the tasks
ASKED = 0.3  # of a seen task's episodes: nothing learns from them
NEIGHBOURS = 5  # of k-NN
SHRINK = 0.1  # of the Mahalanobis distance's covariance, towards a ball
SOURCES = (
    Path(__file__), mindhand.core, mindhand.kit, mindhand.evaluate.alarms, mindhand.methods.guard.safe,
    mindhand.train.recorded,
)  # fmt: skip

Score = Callable[[Sequence[Episode]], list[np.ndarray]]  # s (T,) of each episode, of what was felt by then
Learn = Callable[[Sequence[Episode], Config, int], Score]  # from episodes of both kinds, by a seed


# ---- scores, of which some learn -----------------------------------------------------------------------------


def safe(some: Sequence[Episode], config: Config, seed: int) -> Score:
    """SAFE's, as the config has it."""
    return partial(scores, learn(some, config, seed), c=config)


def elapsed(some: Sequence[Episode], config: Config, seed: int) -> Score:
    """How often the policy was asked by now: what a score is worth that knows nothing but the time."""
    return lambda episodes: [np.arange(1.0, len(e) + 1) for e in episodes]


def neighbours(some: Sequence[Episode], config: Config, seed: int) -> Score:
    """How much farther the nearest features of successes are than those of failures, by cosine: the mean so far."""
    banks = [_unit(_felt([e for e in some if e.success == good], config)) for good in (True, False)]

    def away(x: np.ndarray, bank: np.ndarray) -> np.ndarray:
        k = min(NEIGHBOURS, len(bank))
        return 1 - np.partition(_unit(x) @ bank.T, -k, axis=1)[:, -k:].mean(1)

    return lambda episodes: [_so_far(away(x, banks[0]) - away(x, banks[1])) for x in _each(episodes, config)]


def mahalanobis(some: Sequence[Episode], config: Config, seed: int) -> Score:
    """How unlike those of successes features are, by their mean and covariance: the mean so far."""
    seen = _felt([e for e in some if e.success], config)
    mean, width = seen.mean(0), seen.shape[1]
    spread = (seen - mean).T @ (seen - mean) / len(seen)
    ball = np.eye(width) * max(np.trace(spread) / width, 1e-12)
    inverse = np.linalg.inv((1 - SHRINK) * spread + SHRINK * ball)
    return lambda episodes: [
        _so_far(np.einsum("ti,ij,tj->t", x - mean, inverse, x - mean)) for x in _each(episodes, config)
    ]


MONITORS: Mapping[str, tuple[Learn, Mapping[str, Any]]] = {  # and what of the config is theirs
    "safe-mlp": (safe, {"score": "mlp"}),
    "safe-lstm": (safe, {"score": "lstm"}),
    "time": (elapsed, {}),
    "knn": (neighbours, {}),
    "mahalanobis": (mahalanobis, {}),
}


def _each(episodes: Sequence[Episode], config: Config) -> list[np.ndarray]:
    return [e.features[:, POOLS.index(config.pool)].astype(np.float64) for e in episodes]


def _felt(episodes: Sequence[Episode], config: Config) -> np.ndarray:
    return np.concatenate(_each(episodes, config))


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=1, keepdims=True).clip(1e-12)


def _so_far(x: np.ndarray) -> np.ndarray:
    return np.cumsum(x) / np.arange(1, len(x) + 1)


# ---- what they know ------------------------------------------------------------------------------------------


def split(rollouts: Recorded, number: int) -> tuple[Recorded, Recorded, Recorded]:
    """Episodes that scores and limits are learned from; others of the same tasks; those of unseen tasks. Tasks and
    episodes are drawn by the split's number. BadData for a single task."""
    tasks = rollouts.tasks
    if len(tasks) < 2:
        raise BadData(f"rollouts of {len(tasks)} tasks", "two at least: some are kept unseen", "record more tasks")
    order = np.argsort(Keys.seeded(1, "monitor", "tasks", number).uniform(len(tasks))[0], kind="stable")
    unseen = {tasks[i] for i in order[: max(1, round(UNSEEN * len(tasks)))]}
    asked = set()
    for task in (t for t in tasks if t not in unseen):
        own = [e.key for e in rollouts.episodes if e.key.task == task]
        drawn = np.argsort(Keys.seeded(1, "monitor", "asked", number, task).uniform(len(own))[0], kind="stable")
        asked |= {own[i] for i in drawn[: round(ASKED * len(own))]}
    return (
        rollouts.only(lambda e: e.key.task not in unseen and e.key not in asked),
        rollouts.only(lambda e: e.key in asked),
        rollouts.only(lambda e: e.key.task in unseen),
    )


def rows(rollouts: Recorded, monitor: str, number: int, config: Config = CONFIG) -> list[dict[str, Any]]:
    """Of a split, a row an episode that nothing learned from (`evaluate.alarms.judged`), and whether its task was seen.
    Ages are those of the tasks' shortest successes in the whole recording."""
    known, asked, unseen = split(rollouts, number)
    made, own = MONITORS[monitor]
    c = replace(config, **own)
    some, calm = parted(known, c, number)
    score = made(some, c, number)
    longest = max(map(len, rollouts.episodes))
    limit = limit_of(score(calm), c, longest)
    age = ages([Scored(e.key, not e.success, np.zeros(len(e))) for e in rollouts.episodes])
    out = []
    for seen, part in ((True, asked.episodes), (False, unseen.episodes)):
        told = [Scored(e.key, not e.success, s) for e, s in zip(part, score(part))]
        out += [{**r, "seen": seen, "training": str(number), "alpha": c.alpha} for r in judged(told, limit, age)]
    return out


Row = dict[str, Any]
METRICS: Mapping[str, tuple[Kind, str, float | None, Callable[[Row], bool]]] = {  # kind, field, chance, of which rows
    "false_alarm_rate": ("rate", "alarmed", None, lambda r: r["seen"] and not r["failed"]),
    "false_alarm_rate_unseen": ("rate", "alarmed", None, lambda r: not r["seen"] and not r["failed"]),
    "detection_rate": ("rate", "alarmed", None, lambda r: r["seen"] and r["failed"]),
    "detection_rate_unseen": ("rate", "alarmed", None, lambda r: not r["seen"] and r["failed"]),
    "alarm_time": ("mean", "when", None, lambda r: r["seen"] and r["failed"] and r["alarmed"]),
    "alarm_time_unseen": ("mean", "when", None, lambda r: not r["seen"] and r["failed"] and r["alarmed"]),
    "auc_seen": ("mean", "above", 0.5, lambda r: r["seen"] and r["above"] is not None),
    "auc_unseen": ("mean", "above", 0.5, lambda r: not r["seen"] and r["above"] is not None),
}


def publish(folder: Path | None = None, home: Path = HOME, config: Config = CONFIG) -> list[Record]:
    """Records monitor/<metric>/<monitor>, of alarms with the alpha that bounds false ones on tasks that were seen; none
    where nothing was recorded in `home`. A training is a split of the tasks. Of SAFE's proof see `proofs/safe.py`.
    auc_*: over failures, the mean share of their task's successes that score lower at the same age; a failure of a task
    that nothing solved has none. alarm_time*: of failures that were found, the share of their queries before. A metric
    that no row has is left out. Expected of eight tasks at a policy that solves about half: auc_unseen above 0.7 and
    that of time, which is 0.5, false alarms below 0.25 at alpha 0.2, found before 0.7 of an episode."""
    if not (home / ABOUT).exists():
        return []
    rollouts, out = load_recorded(home), []
    how: dict[str, Any] = {"unit": "1", "sources": SOURCES, "command": "mindhand bench monitor", "folder": folder}
    for monitor in MONITORS:
        every = [r for n in range(SPLITS) for r in rows(rollouts, monitor, n, config)]
        for metric, (kind, field, chance, of) in METRICS.items():
            some = [r for r in every if of(r)]
            what = monitor if metric.startswith("auc") else f"{monitor}+alpha={config.alpha}"
            if some:
                to = f"monitor/{metric}/{what}"
                out.append(write_record(to, rows=some, field=field, kind=kind, chance=chance, **how))
    return out


def recorded(
    checkpoint: Path, protocol: Protocol, folder: Path, console: Console | None = None, wraps: Sequence[str] = ()
) -> Recorded:
    """Rollouts of a checkpoint, with what goes round it (`methods.wrapped`), under a protocol but for its tasks of
    K-test, going on where the folder stands. BadData where it has no others."""
    hidden = ktest_tasks(protocol)
    shown = [t for t in protocol.tasks if t not in hidden]
    if not shown:  # of no names `only` takes all
        raise BadData(f"{protocol.id}: tasks of K-test alone", "others: something learns from them", "name another")
    protocol = protocol.only(*shown)
    vla, world = wrapped(load_policy(checkpoint, place_of(protocol.tasks)), wraps), worlds(protocol)(protocol.rows)
    how = {"replan": protocol.replan, "steps": protocol.steps, "rows": protocol.rows}
    return record(
        vla, world, keys(protocol), folder, **how, about={"protocol": protocol.id, "code": code()}, console=console
    )


def main(words: Sequence[str]) -> None:
    """record CHECKPOINT PROTOCOL FOLDER [episodes of each task [what goes round it ...]]"""
    if len(words) < 4 or words[0] != "record":
        raise Refusal(f"{[*words]}", "record CHECKPOINT PROTOCOL FOLDER [episodes]", "see recipes/monitor.py")
    protocol, episodes = named(words[2]), int([*words, "60"][4])
    protocol = protocol.only(*protocol.tasks, episodes=episodes)
    found = recorded(Path(words[1]), protocol, Path(words[3]), Console(), words[5:])
    for task in found.tasks:
        ends = [e.success for e in found.episodes if e.key.task == task]
        Console().print(f"{task}: {sum(ends)} of {len(ends)} succeeded")


if __name__ == "__main__":
    main(sys.argv[1:])
