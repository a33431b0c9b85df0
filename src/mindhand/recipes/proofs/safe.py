"""SAFE round a flow policy: whether it knows, while that acts, that it will fail, also in tasks that it never saw.

Rollouts of each training's own policy, in scenes of their own, of eight tasks: scores learn from a part of those of
five, and are asked about the other ones and about three unseen tasks, others in each training (`monitor.rows`).
Controls, of the same rollouts: time alone, nearest neighbours, Mahalanobis distance, and SAFE's recurrent score. What
decides is the AUC on unseen tasks at the same age, where time alone has 0.5; "over_..." is by how much that of SAFE is
larger, failure by failure. False alarms on tasks that were seen are to be at most alpha. As an arm, an alarm holds the
hand where it is till the episode ends, so what it loses against the policy as it is are alarms that were false."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from mindhand.core.folder import exists
from mindhand.core.keys import Key
from mindhand.evaluate.protocol import METAWORLD_10
from mindhand.methods.guard.safe import fit, load, wrap
from mindhand.model.vla import VLA
from mindhand.train.recorded import Recorded, record

from .. import monitor
from ..monitor import CONFIG, METRICS, MONITORS
from ..places import worlds
from ..rollouts import Wrap
from . import Proof
from .bench import Arm, Bench, Measured, Stand
from .fast import TASKS

P = METAWORLD_10.only(*(f"metaworld/{task}" for task in (*TASKS, "door-open", "push")), episodes=20)
BENCH = Bench("flow", P, horizon=16)
ROLLOUTS = 60  # of each task
OWN, *CONTROLS = MONITORS  # SAFE-MLP first


def rollouts(vla: VLA, stand: Stand, training: int) -> Recorded:
    """What the policy of a training does in scenes that no evaluation shows, going on where it was stopped."""
    p, folder = stand.bench.protocol, stand.folder("safe", training) / "rollouts"
    keys = [Key("watched", task, i) for task in p.tasks for i in range(ROLLOUTS)]
    with closing(worlds(p)(p.rows)) as world:
        return record(vla, world, keys, folder, replan=p.replan, steps=p.steps, rows=p.rows)


def scored(vla: VLA, stand: Stand, training: int) -> Wrap:
    """SAFE that learned from all of these rollouts, and holds the hand; fitted once a training."""
    folder = stand.folder("safe", training) / "score"
    if not exists(folder):
        fit(vla, rollouts(vla, stand, training), CONFIG, seed=training).save(folder)
    return partial(wrap, config=replace(CONFIG, alarm="hold"), fitted=load(folder))


def _called(metric: str, which: str) -> str:
    return metric if which == OWN else f"{metric}_{which}"


def watched(vla: VLA, stand: Stand, folder: Path) -> list[dict[str, Any]]:
    """Episodes that nothing learned from, a row each: what each score knew of it, under the names of METRICS, SAFE's
    bare and the controls' with theirs behind, where it counts for that; and the alpha of their limits. Tasks are parted
    by the training's number."""
    training = int(folder.name)
    made, out = rollouts(vla, stand, training), {}
    for which in MONITORS:
        for r in monitor.rows(made, which, training, CONFIG):
            told = {n: r[n] for n in ("task", "seen", "failed", "alpha")}
            row = out.setdefault(str(r["key"]), {"key": str(r["key"]), **told})
            row |= {_called(m, which): r[field] for m, (_, field, _, of) in METRICS.items() if of(r)}
    for row in out.values():
        if "auc_unseen" in row:
            row |= {f"over_{c}": row["auc_unseen"] - row[_called("auc_unseen", c)] for c in CONTROLS}
    return [*out.values()]


WATCHED = Measured(
    watched,
    {_called(m, which): (kind, _called(m, which), "1") for which in MONITORS for m, (kind, *_) in METRICS.items()}
    | {f"over_{c}": ("mean", f"over_{c}", "1") for c in CONTROLS},
    {_called(m, which): chance for which in MONITORS for m, (_, _, chance, _) in METRICS.items() if chance is not None}
    | {f"over_{c}": 0.0 for c in CONTROLS},
)
PROOF = Proof("safe", BENCH, (Arm("safe", prepare=scored, measure=WATCHED),))
