"""A model card: what a policy is, what it was made of, what was measured and what was not, and how it fails.

Every number is computed from rows of an evaluation's folder, of the same weights; what is not there is said not to have
been measured, with the command that would. The front matter is the Hugging Face hub's.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mindhand.core.checkpoint import Checkpoint
from mindhand.core.errors import BadData
from mindhand.core.intervals import Interval, wilson
from mindhand.data.files import read_rows
from mindhand.evaluate.arms import sensitivity
from mindhand.evaluate.compare import Run, read_run
from mindhand.evaluate.report import by_task, label_of
from mindhand.evaluate.scorecard import score

Rows = Sequence[Mapping[str, Any]]
LOST = 3  # kinds of failures that are named, a task


@dataclass(frozen=True)
class About:
    """What no file of a policy says: its name, licence, base model and data, with their licences."""

    name: str
    licence: str  # an identifier of the hub: apache-2.0
    base: str
    base_licence: str
    data: str
    data_licence: str


@dataclass(frozen=True)
class Measured:
    """An evaluation (`mindhand eval`): its run, arms by name, and the scorecard's rows of the base and of the policy,
    where it has them."""

    run: Run
    arms: Mapping[str, Rows]
    base: Rows
    mind: Rows


def read_measured(folder: Path, policy: str) -> Measured:
    """The evaluation in a folder. BadData where it is not whole, or of other weights than fingerprint `policy`."""
    run = read_run(folder)
    arms = {f.parent.name: read_run(f.parent) for f in sorted(folder.glob("arms/*/run.json"))}
    for one in (run, *arms.values()):
        if one.policy != policy:
            raise BadData(f"{one.folder} is of the weights {one.policy}", policy, "evaluate this policy")
    base, mind = (read_rows(folder / "minds" / f"{name}.jsonl") for name in ("base", "all stages"))
    if any(row.get("policy") != policy for row in mind):
        raise BadData(f"{folder}/minds knows other weights", policy, "evaluate this policy with --base")
    return Measured(run, {name: one.rows for name, one in arms.items()}, base, mind)


def _shown(x: Interval | None) -> str:
    return "-" if x is None else f"{x.value:.3f} ({x.low:.3f} to {x.high:.3f})"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _what(checkpoint: Checkpoint) -> str:
    """Its parts, their sizes, and the robot it is for."""
    sizes: Counter[str] = Counter()
    for name in checkpoint.tensors:
        if name not in checkpoint.tensors.tied:
            sizes[name.partition(".")[0]] += math.prod(checkpoint.tensors.shape(name))
    parts = [[slot, part["name"], f"{sizes[slot] / 1e6:.2f}"] for slot, part in checkpoint.config["slots"].items()]
    for stack, some in checkpoint.config["stacks"].items():
        if some:
            parts.append([stack, ", ".join(part["name"] for part in some), f"{sizes[stack] / 1e6:.2f}"])
    spec = checkpoint.spec
    cameras = ", ".join(f"{c.role} {c.height} x {c.width}" for c in spec.cameras)
    acts = "; ".join(f"{p.name} ({', '.join(p.names)}; {p.unit}, {p.mode})" for p in spec.action)
    return (
        _table(["slot", "part", "million numbers"], parts)
        + f"\n\nRobot: {spec.robot}, {spec.rate:g} steps a second. Cameras: {cameras}. Commands: {acts}. "
        "Another robot is refused when it is loaded."
    )


def _results(found: Measured) -> str:
    p = found.run.protocol
    lines = [
        [line.label, str(line.n), _shown(line.measures["success"]), _shown(line.measures.get("choice")),
         f"{line.chance['choice']:.2f}" if "choice" in line.chance else "-"]
        for line in by_task(found.run.rows)
    ]  # fmt: skip
    return (
        f"Protocol {p.id} ({p.fingerprint()}): {p.success}. 95 % Wilson intervals, of one training; *right first*: the "
        "first thing it takes is the right one.\n\n"
        + _table(["", "episodes", "success", "right first", "by chance"], lines)
    )


def _language(found: Measured) -> str:
    """What each arm does, and how much hangs on the instruction."""
    rows = []
    for task in dict.fromkeys(r["task"] for r in found.run.rows):
        clean = [r for r in found.run.rows if r["task"] == task]
        arms = {name: [r for r in some if r["task"] == task] for name, some in found.arms.items()}
        for name, some in arms.items():
            rows.append([f"{label_of(task)}, {name}", _shown(wilson(sum(r["success"] for r in some), len(some)))])
        told = [some for name, some in arms.items() if name in ("blank", "swapped") and some]
        if told:
            rows.append([f"{label_of(task)}: success lost without the right words", _shown(sensitivity(clean, told))])
    return _table(["told or shown something else", "success"], rows)


def _kept(found: Measured) -> str:
    """The scorecard of its VLM beside the base's."""
    base, now = score(found.base), score(found.mind)
    kept = now.retention(base)
    rows = []
    for part, value in now.written.items():
        some = [r for r in found.mind if r["part"] == part]
        left = f"{kept[part]:.2f}" if part in kept else "-"
        rows.append([part, f"{base.written[part]:.3f}", _shown(wilson(round(value * len(some)), len(some))), left])
    return _table(["part", "base", "this policy's VLM", "kept (1: all, format-neutral)"], rows)


def _failures(found: Measured) -> str:
    out = []
    for task in dict.fromkeys(r["task"] for r in found.run.rows):
        some = [r for r in found.run.rows if r["task"] == task]
        lost = Counter(str(r.get("why") or r["end"]) for r in some if not r["success"])
        named = ", ".join(f"{why} ({n})" for why, n in lost.most_common(LOST)) or "none"
        out.append(f"- {label_of(task)}: {lost.total()} of {len(some)} failed: {named}.")
    return "\n".join(out)


def model_card(checkpoint: Checkpoint, about: About, found: Measured | None = None) -> str:
    """The card as Markdown with the hub's front matter. found: what was measured of these weights."""
    front = {
        "license": about.licence,
        "library_name": "mindhand",
        "pipeline_tag": "robotics",
        "base_model": about.base,
        "tags": ["robotics", "vision-language-action", "mindhand"],
    }
    run = "mindhand eval CHECKPOINT"
    missing = "Not measured: `{}`."
    parts = {
        "What it is": _what(checkpoint),
        "How to use it": (
            "```python\nfrom mindhand.model.hub import from_pretrained\n\n"
            f'vla = from_pretrained("{about.name}")\n```\n\n`mindhand eval FOLDER/checkpoint` evaluates it.'
        ),
        "What it was made of": (
            f"Base model: {about.base} ({about.base_licence}). Data: {about.data} ({about.data_licence}). "
            f"These weights: {about.licence}."
        ),
        "What it does": missing.format(run) if found is None else _results(found),
        "Whether it listens": (
            _language(found) if found and found.arms else missing.format(f"{run} --language --blind")
        ),
        "What its VLM still knows": (
            _kept(found) if found and found.base and found.mind else missing.format(f"{run} --base VLM")
        ),
        "How it fails": missing.format(run) if found is None else _failures(found),
    }
    body = "".join(f"\n## {head}\n\n{text}\n" for head, text in parts.items())
    head = "".join(f"{name}: {json.dumps(value)}\n" for name, value in front.items())
    return f"---\n{head}---\n\n# {about.name}\n\nWeights {checkpoint.fingerprint}.\n{body}"
