"""What a training's stages do and know: success beside the VLM's scorecard, stage by stage, against the VLM that it
began with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from mindhand.core.checkpoint import load_checkpoint
from mindhand.core.errors import BadData
from mindhand.core.intervals import Interval, quotient, wilson
from mindhand.core.progress import progress
from mindhand.data.files import read_json, read_rows, write_rows
from mindhand.evaluate.page import Cell, chart, rate
from mindhand.evaluate.plot import Panel, Series, draw_panels
from mindhand.evaluate.report import Beside, by_task, label_of
from mindhand.evaluate.scorecard import DIGEST, PARTS, VLAMind, score, take
from mindhand.model.store import load_vla

LAST = "checkpoint"  # of a training: its last stage's
ALL = "all stages"  # what the last stage is called


@dataclass(frozen=True)
class StageRows:
    """One stage: its name, the scorecard's rows and the episodes' (none for a VLM that has no hand yet)."""

    name: str
    mind: list[dict[str, Any]]
    episodes: list[dict[str, Any]]


def stages_of(run: Path) -> dict[str, Path]:
    """The checkpoints that the stages of a training left in `run`, by name, in their order; "all stages" is the last.
    A folder that is a checkpoint itself has one."""
    if (run / "manifest.json").exists():
        return {ALL: run}
    if not (run / LAST / "manifest.json").exists():
        raise BadData(f"{run} is no checkpoint and no finished training", "a folder with a checkpoint", "train first")
    earlier = read_json(run / "plan.json", "plan").get("stages", [])
    return {**{name: run / name / LAST for name in earlier}, ALL: run / LAST}


def mind_rows(checkpoint: Path, items: int, file: Path, console: Console | None = None) -> list[dict[str, Any]]:
    """`items` of every part of the scorecard, answered by a checkpoint's VLM; kept in `file` for the same weights and
    the same items (`DIGEST`)."""
    name = load_checkpoint(checkpoint, None).fingerprint
    found, of = read_rows(file), {"policy": name, "items": DIGEST}
    if len(found) == items * len(PARTS) and all(of.items() <= row.items() for row in found):
        return found
    mind, rows = VLAMind(load_vla(checkpoint).eval()), []
    with progress(console, f"scorecard of {file.stem}", len(PARTS), 0, "parts") as advance:
        for done, part in enumerate(PARTS, 1):
            rows += [{**row, "policy": name} for row in take(mind, part, items)]
            advance(done)
    write_rows(file, rows)
    return rows


def kept_tables(stages: list[StageRows]) -> list[Beside]:
    """What `write_report` shows beside success. A line a stage: what it does in every task, and the least that is left
    of any part of what the VLM knew; two lines a stage: every part, written, and by the likeliest option; and success
    against what is left. The first stage is the base that this refers to: chance is taken off, items are the same."""
    parts = list(dict.fromkeys(r["part"] for r in stages[0].mind))
    tasks = list(dict.fromkeys(r["task"] for stage in stages for r in stage.episodes))
    body: list[list[Cell]] = []
    known: list[list[Cell]] = []
    drawn: dict[str, list[tuple[float, float, str]]] = {task: [] for task in tasks}
    for stage in stages:
        part, kept = least_kept(stage.mind, stages[0].mind)
        lines = {task: by_task([r for r in stage.episodes if r["task"] == task]) for task in tasks}
        done = [rate(lines[t][0].measures["success"], lines[t][0].chance.get("success")) if lines[t] else None
                for t in tasks]  # fmt: skip
        said = None if kept is None else f"{kept.value:.2f} ({kept.low:.2f} to {kept.high:.2f}), {part}"
        body.append([stage.name, *done, said])
        some = {p: [r for r in stage.mind if r["part"] == p] for p in parts}
        for how, column in (("written", "right"), ("likeliest option", "likely")):
            hits = {p: wilson(sum(r[column] for r in rows), len(rows)) for p, rows in some.items()}
            chance = {p: sum(r["chance"] for r in rows) / len(rows) if column == "likely" else None
                      for p, rows in some.items()}  # fmt: skip
            known.append([f"{stage.name}, {how}", *(rate(hits[p], chance[p]) for p in parts)])
        for task in tasks:
            if lines[task] and kept is not None:
                drawn[task].append((kept.value, lines[task][0].measures["success"].value, stage.name))
    out: list[Beside] = [
        ("Success, and the least that is kept of what the VLM knew",
         ["after", *(f"{label_of(t)}: success" for t in tasks), "least kept"], body),
        ("What the VLM still knows (chance in red)", ["after", *parts], known),
    ]  # fmt: skip
    series = tuple(
        Series(label_of(task), tuple(p[:2] for p in points), tuple(p[2] for p in points))
        for task, points in drawn.items() if points
    )  # fmt: skip
    if series:
        kept_axis, title = "least kept of any part (1: all)", "Success against what is kept, stage by stage"
        panel = Panel(title, kept_axis, "success", series, 0.0, 1.0, (0.0, 1.0))
        out.append((title, chart(draw_panels([panel], title))))
    return out


def least_kept(
    now: Sequence[Mapping[str, Any]], base: Sequence[Mapping[str, Any]]
) -> tuple[str | None, Interval | None]:
    """Of which part of the scorecard least is left, and how much, with its interval over the items, which are the same;
    (None, None) where the base knew too little of all."""
    kept = score(now).retention(score(base))
    if not kept:
        return None, None
    part = min(kept, key=lambda p: kept[p])

    def above(rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
        some = [r for r in rows if r["part"] == part]
        return np.array([[r["likely"] - np.mean([x["chance"] for x in some]) for r in some]])

    found = quotient(above(now), above(base))
    value, low, high = (max(0.0, x) for x in (found.value, found.low, found.high))  # less than nothing is not kept
    return part, replace(found, value=value, low=low, high=high)
