"""An evaluation in the forms of others: LeRobot's eval_info.json, and the result file of AllenAI's harness.

Names, units and nesting are what these versions write, and what they read back:

    eval_info.json   huggingface/lerobot 0.6.2 at 7427f31801f9: src/lerobot/scripts/lerobot_eval.py (`eval_policy_all`,
                     `eval_main`); read by scripts/ci/parse_eval_metrics.py and src/lerobot/scripts/lerobot_train.py
    *_aggregate.json allenai/vla-evaluation-harness v0.4.0 + 22 commits at e1ee9adf6439: src/vla_eval/results/merge.py
                     and collector.py; read by cli/smoke.py, by `print_merge_summary` and, number by number, tracking.py

A run folder holds no rewards, no seconds of an episode and no crashed episode. What stands there instead:

    sum and maximum of rewards    1.0 where the episode succeeded, else 0.0: the reward is 1 in the step that succeeds
                                  and 0 in all others, and an episode ends with success
    eval_s, eval_ep_s             seconds of the whole evaluation, all interruptions left out, loading included; a
                                  part that was killed outright is not counted
    elapsed_sec                   seconds the policy took to answer, without the world's: less than their clock shows
    failure_reason, num_errors    null and 0: the harness means crashes by them, and a run that has one is refused.
                                  How an episode ended is beside them, in `end` and `why`
    predicted_video_paths         empty; harness_version is "mindhand-" and our version, never one of theirs
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mindhand.core.errors import BadData
from mindhand.core.files import write_atomic
from mindhand.core.intervals import bootstrap, wilson
from mindhand.core.spec import Spec

from .arms import sensitivity
from .ledger import ktest_tasks, opening_of
from .protocol import Protocol, keys
from .run import latencies
from .scores import POINTS, RATES

LANGUAGE = ("blank", "swapped")  # the arms that tell how much hangs on language
FILLED = {
    "elapsed_sec": "seconds the policy took to answer; the world's are not in it",
    "failure_reason": "always null: an evaluation with a crashed episode is refused; see end and why",
    "mean_success": "over all episodes of all tasks, as the harness has it; compare tasks, not this",
}
Row = Mapping[str, Any]


@dataclass(frozen=True)
class _Run:
    """A finished run folder: rows in the protocol's order, seconds of each query by the episode's key."""

    folder: Path
    about: Mapping[str, Any]
    protocol: Protocol
    rows: list[Row]
    seconds: Mapping[str, list[float]]

    def by_task(self) -> dict[str, list[Row]]:
        """The rows of each task, in the protocol's order."""
        return {task: [r for r in self.rows if r["task"] == task] for task in self.protocol.tasks}


def _lines(file: Path) -> dict[str, dict[str, Any]]:
    """Lines of JSON by their "key"."""
    if not file.exists():
        raise BadData(f"no {file}", "the folder of an evaluation", "give the folder that holds run.json")
    out: dict[str, dict[str, Any]] = {}
    for number, text in enumerate(file.read_bytes().splitlines(), 1):
        try:
            row = json.loads(text)
            out.setdefault(row["key"], row)
        except (ValueError, KeyError, TypeError) as error:
            where = f"{file}, line {number}: {error}"
            raise BadData(where, "one episode as JSON", "run the same evaluation again") from error
    return out


def _load(folder: Path | str, scored: Sequence[Row] | None = None) -> _Run:
    folder = Path(folder)
    try:
        about = json.loads((folder / "run.json").read_text())
        lacks = {"protocol", "policy", "commit", "versions", "hardware", "seconds"} - set(about)
    except (FileNotFoundError, ValueError, TypeError) as error:
        raise BadData(f"{folder / 'run.json'}: {error}", "the folder of an evaluation", "evaluate first") from error
    if lacks:
        raise BadData(f"{folder / 'run.json'} lacks {sorted(lacks)}", "what `evaluate` writes", "evaluate again")
    protocol = Protocol.from_json(about["protocol"])
    wanted = [str(k) for k in keys(protocol)]
    rows, timing = _lines(folder / "rows.jsonl"), _lines(folder / "timing.jsonl")
    if missing := [k for k in wanted if k not in rows or k not in timing]:
        raise BadData(
            f"{folder} lacks {len(missing)} of {len(wanted)} episodes, {missing[0]} first",
            "every episode of the protocol: what is missing is not missing at random",
            "run the same evaluation again; it goes on where it stopped",
        )
    if scored is not None:
        told = {r["key"]: r for r in scored}
        same = ("success", "steps", "end")
        if odd := [k for k in wanted if k not in told or any(told[k].get(n) != rows[k].get(n) for n in same)]:
            raise BadData(f"scores that are not of {folder}: {odd[0]}", "its own rows, scored", "score its rows again")
        rows = told
    return _Run(folder, about, protocol, [rows[k] for k in wanted], {k: timing[k]["seconds"] for k in wanted})


def _films(run: _Run, rows: Sequence[Row]) -> list[str]:
    """The films of some rows that are there, relative to the run folder."""
    return [r["film"] for r in rows if r.get("film") and (run.folder / r["film"]).exists()]


def lerobot_info(folder: Path | str) -> dict[str, Any]:
    """The content of LeRobot's eval_info.json: {"per_task": [...], "per_group": {...}, "overall": {...}}.

    A group is family and split ("maths_matching/K-dev"), task_id the place of a task in its group; "overall" pools
    all groups, because its readers look there. `pc_success` is per cent, the order of `successes` that of the
    episodes' indices, films relative to the run folder. Refuses an unfinished evaluation.
    """
    run = _load(folder)

    def pooled(rows: Sequence[Row], **clock: float) -> dict[str, Any]:
        rate = sum(r["success"] for r in rows) / len(rows)
        return {
            "avg_sum_reward": rate, "avg_max_reward": rate, "pc_success": 100 * rate, "n_episodes": len(rows), **clock,
            "video_paths": _films(run, rows), "predicted_video_paths": [],
        }  # fmt: skip

    groups: dict[str, list[Row]] = {}
    tasks: list[dict[str, Any]] = []
    for task, rows in run.by_task().items():
        group = "/".join(task.split("/")[:2])
        rewards = [float(r["success"]) for r in rows]
        metrics = {
            "sum_rewards": rewards, "max_rewards": list(rewards), "successes": [bool(r["success"]) for r in rows],
            "video_paths": _films(run, rows), "predicted_video_paths": [],
        }  # fmt: skip
        place = sum(t["task_group"] == group for t in tasks)
        tasks.append({"task_group": group, "task_id": place, "metrics": metrics})
        groups.setdefault(group, []).extend(rows)
    seconds = float(run.about["seconds"])
    return {
        "per_task": tasks,
        "per_group": {group: pooled(rows) for group, rows in groups.items()},
        "overall": pooled(run.rows, eval_s=seconds, eval_ep_s=seconds / len(run.rows)),
    }


def _metrics(row: Row) -> dict[str, Any]:
    """What was measured of an episode; what could not be (no tile taken, nothing thought) is absent."""
    return {name: row[name] for name in (*RATES, *POINTS) if row.get(name) is not None}


def _means(rows: Sequence[Row]) -> dict[str, Any]:
    """mean_<metric> as the harness rounds it, and the exact value of each with its interval."""
    measured = [_metrics(r) for r in rows]
    out: dict[str, Any] = {}
    intervals = {}
    for name in (*RATES, *POINTS):
        if known := [m[name] for m in measured if name in m]:
            out[f"mean_{name}"] = round(sum(known) / len(known), 4)
            found = wilson(sum(known), len(known)) if name in RATES else bootstrap(known)
            intervals[f"mean_{name}"] = asdict(found)
    return {**out, "decode_errors": sum(r["errors"] for r in rows), "interval": intervals}


def _hangs(rows: Sequence[Row], told: Sequence[Sequence[Row]]) -> dict[str, Any]:
    """How much less is done with blank or swapped instructions, of each measure that all have."""
    if not told:
        return {}
    keys = {r["key"] for r in rows}
    arms = [[r for r in arm if r["key"] in keys] for arm in told]
    measured = [m for m in ("success", "choice") if all(m in r for some in (rows, *arms) for r in some)]
    return {"language_sensitivity": {m: asdict(sensitivity(rows, arms, m)) for m in measured}}


def _episode(row: Row, seconds: Sequence[float]) -> dict[str, Any]:
    return {
        "eid": row["key"], "episode_id": row["index"], "metrics": _metrics(row), "steps": row["steps"],
        "elapsed_sec": round(sum(seconds), 3), "failure_reason": None,
        # Ours from here on.
        "end": row["end"], "why": row.get("why"), "prompt": row["instruction"], "queries": row["queries"],
        "decode_errors": row["errors"],
        "interventions": row["interventions"], "notes": row.get("notes", []), "film": row.get("film"),
    }  # fmt: skip


def _contract(protocol: Protocol, spec: Spec) -> str:
    return hashlib.sha256(f"{protocol.fingerprint()} {spec.fingerprint()}".encode()).hexdigest()[:12]


def harness_result(
    folder: Path | str,
    rows: Sequence[Row] | None = None,
    *,
    spec: Spec | None = None,
    arms: Mapping[str, Sequence[Row]] = {},
    created: datetime | None = None,
) -> dict[str, Any]:
    """The content of the harness' aggregate file, with more keys than it has: per episode `prompt`, `interventions`,
    `notes`, `end`, `why`, `queries`, `decode_errors`, `film`; per task and overall `interval` (95 %), `decode_errors`
    (decodings that had to be replaced) and, where these arms were run, `language_sensitivity` {success, choice}: the
    points of a rate that are lost with blank or swapped instructions (`arms.sensitivity`); overall `protocol` {name,
    version, hash}, `contract_hash` (of the protocol and of the robot's spec, None where no spec is given), `policy`,
    `commit`, `versions`, `hardware`, `latency` (ms of a query of the whole batch), `filled` (which numbers are not what
    the harness means by them) and, where K-test was looked at, `ktest` (None: not through the ledger).

    rows: the folder's own, scored, for metrics beside success. spec: of the robot that acted. arms: rows of the same
    episodes told something else, scored, by the arm. created: when, with a time zone; now unless given.
    mean_* are shares from 0 to 1, rounded to four digits as theirs. Refuses an unfinished evaluation.
    """
    run = _load(folder, rows)
    p, about = run.protocol, run.about
    told = [arms[name] for name in LANGUAGE if name in arms]
    tasks = []
    for task, some in run.by_task().items():
        episodes = [_episode(r, run.seconds[r["key"]]) for r in some]
        steps = sum(r["steps"] for r in some) / len(some)
        tasks.append({"task": task, "episodes": episodes, "num_episodes": len(some), "avg_steps": steps,
                      "num_errors": 0, **_means(some), **_hangs(some, told)})  # fmt: skip
    overall, version = _means(run.rows), about["versions"].get("mindhand", "unknown")
    keyed = {name: "mean" for name in (*RATES, *POINTS) if f"mean_{name}" in overall}
    # Theirs is how the run was asked for; the seed is read from its "params".
    config = {
        "benchmark": f"mindhand:{p.id}", "mode": "sync", "name": p.id, "episodes_per_task": p.episodes,
        "max_steps": p.steps, "tasks": list(p.tasks),
        "params": {"seed": p.seed, "replan": p.replan, "rows": p.rows, "success": p.success,
                   "images": about["protocol"]["images"]},
    }  # fmt: skip
    body: dict[str, Any] = {
        "benchmark": p.id, "mode": "sync", "harness_version": f"mindhand-{version}",
        "created_at": (created or datetime.now(UTC)).isoformat(), "tasks": tasks, "config": config,
        "eval_id": f"{about['policy']}-{p.id}-{p.fingerprint()}", "seed": p.seed, "metric_keys": keyed, **overall,
        "num_episodes_total": len(run.rows),
        "protocol": {"name": p.name, "version": p.version, "hash": p.fingerprint()},
        "contract_hash": None if spec is None else _contract(p, spec), "policy": about["policy"],
        "commit": about["commit"], "versions": about["versions"], "hardware": about["hardware"],
        "latency": {"unit": "ms", **latencies(run.folder)}, "filled": FILLED,
        **_hangs(run.rows, told),
    }  # fmt: skip
    if ktest_tasks(p):
        look = opening_of(run.folder)
        body["ktest"] = None if look is None else {
            "opened_before": look.before, "opened_before_for_this_checkpoint": look.before_checkpoint,
            "time": look.time, "line": look.hash,
        }  # fmt: skip
    return body


def write_exports(
    folder: Path | str,
    rows: Sequence[Row] | None = None,
    *,
    spec: Spec | None = None,
    arms: Mapping[str, Sequence[Row]] = {},
) -> tuple[Path, Path]:
    """Write folder/eval_info.json and folder/<protocol>_aggregate.json, named as LeRobot and the harness name them;
    returns both. rows, spec, arms: see `harness_result`."""
    folder = Path(folder)
    info, result = lerobot_info(folder), harness_result(folder, rows, spec=spec, arms=arms)
    safe = re.sub(r"[^\w.-]", "_", result["benchmark"])  # as the harness makes a file's name of it
    files = folder / "eval_info.json", folder / f"{safe}_aggregate.json"
    for file, content in zip(files, (info, result)):
        write_atomic(file, json.dumps(content, indent=2, allow_nan=False) + "\n")
    return files
