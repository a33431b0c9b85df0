"""How well a running score tells failures from successes, and its alarms: by episode, as rows for records.

A failed episode mostly lasts until its time is up, so how long one lasts tells how it ends, and whatever grows with
time looks like knowledge. Scores are therefore compared at the same age: nothing counts that a task's shortest success
did not live to see.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mindhand.core.errors import BadData
from mindhand.core.keys import Key


@dataclass(frozen=True)
class Scored:
    """An episode: whether it failed, and its score (T,) at each query, of what had been seen by then."""

    key: Key
    failed: bool
    score: np.ndarray


def auc(failures: Sequence[float], successes: Sequence[float]) -> float:
    """The chance that a failure scores higher than a success, a tie being a half (the area under the ROC curve; Mann
    and Whitney 1947). BadData where there is none of either."""
    return float(np.mean(placed(failures, successes)))


def placed(failures: Sequence[float], successes: Sequence[float]) -> np.ndarray:
    """Of each failure the share of successes that score lower, a tie being a half; their mean is the AUC."""
    bad, good = np.asarray(failures, np.float64), np.asarray(successes, np.float64)
    if not bad.size or not good.size or np.isnan(bad).any() or np.isnan(good).any():
        raise BadData(f"{bad.size} failures and {good.size} successes", "one of each, in numbers", "run more episodes")
    above, same = bad[:, None] > good, bad[:, None] == good
    return (above + 0.5 * same).mean(1)


def ages(episodes: Sequence[Scored]) -> dict[str, int]:
    """By task, how many queries its shortest success took: the age at which scores are compared. Of a task without
    any, its shortest episode's."""
    out = {}
    for task in sorted({e.key.task for e in episodes}):
        own = [e for e in episodes if e.key.task == task]
        out[task] = min(len(e.score) for e in ([e for e in own if not e.failed] or own))
    return out


def raised(score: np.ndarray, limit: np.ndarray) -> int:
    """The first query at which a score (T,) exceeds the limit (L,), whose last holds for all after it; -1 for none. A
    score that is no number exceeds any."""
    over = ~(score <= limit[np.minimum(np.arange(len(score)), len(limit) - 1)])
    return int(over.argmax()) if over.any() else -1


def judged(episodes: Sequence[Scored], limit: np.ndarray, age: Mapping[str, int] = {}) -> list[dict[str, Any]]:
    """A row an episode: key, task, failed, queries; alarmed, whether the limit was ever exceeded, and `when`, the share
    of its queries before that (None without); early, its largest score by the age of its task (`ages` of these episodes
    unless given); above, of a failure, the share of its own task's successes whose `early` is lower (None without any,
    and of a success). Their mean is the AUC within tasks, so that no task is told from another by it."""
    age = {**ages(episodes), **age}
    early = [float(e.score[: age[e.key.task]].max()) for e in episodes]
    out = []
    for e, x in zip(episodes, early):
        others = [y for o, y in zip(episodes, early) if o.key.task == e.key.task and not o.failed]
        at = raised(e.score, limit)
        above = float(placed([x], others)[0]) if e.failed and others else None
        told = {"key": e.key, "task": e.key.task, "failed": e.failed, "queries": len(e.score)}
        when = at / len(e.score) if at >= 0 else None
        out.append({**told, "alarmed": at >= 0, "when": when, "early": x, "above": above})
    return out
