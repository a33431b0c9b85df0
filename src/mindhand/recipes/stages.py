"""What a training's stages do and know: success beside the VLM's scorecard, stage by stage, against the VLM that it
began with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from mindhand.core.checkpoint import load_checkpoint
from mindhand.core.errors import BadData
from mindhand.core.progress import progress
from mindhand.data.files import read_json, read_rows, write_rows
from mindhand.evaluate.page import Cell, rate
from mindhand.evaluate.report import by_task
from mindhand.evaluate.scorecard import PARTS, VLAMind, score, take
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
    """`items` of every part of the scorecard, answered by a checkpoint's VLM; kept in `file` for the same weights."""
    name = load_checkpoint(checkpoint, None).fingerprint
    if file.exists() and (found := read_rows(file)) and found[0]["policy"] == name and len(found) == items * len(PARTS):
        return found
    mind, rows = VLAMind(load_vla(checkpoint).eval()), []
    with progress(console, f"scorecard of {file.stem}", len(PARTS), 0, "parts") as advance:
        for done, part in enumerate(PARTS, 1):
            rows += [{**row, "policy": name} for row in take(mind, part, items)]
            advance(done)
    write_rows(file, rows)
    return rows


def kept_table(stages: list[StageRows]) -> tuple[str, list[str], list[list[Cell]]]:
    """(heading, columns, rows) for `write_report`: a line a stage. The first stage is the base that retention refers
    to: the least that is left of any part, chance taken off and whatever the format."""
    base = score(stages[0].mind)
    parts = list(base.neutral)
    body: list[list[Cell]] = []
    for stage in stages:
        now = score(stage.mind)
        kept: Mapping[str, float] = now.retention(base)
        worst = min(kept, key=lambda p: kept[p]) if kept else None
        cells: list[Cell] = [stage.name, *_episodes(stage)]
        cells += [f"{now.written[p]:.2f} / {now.neutral[p]:.2f}" for p in parts]
        cells.append(None if worst is None else f"{kept[worst]:.2f} ({worst})")
        body.append(cells)
    columns = ["after", "success", *parts, "least kept"]
    return "Success, and what the VLM still knows (written / likeliest option less chance)", columns, body


def _episodes(stage: StageRows) -> list[Cell]:
    lines = by_task(stage.episodes)
    said = [f"{line.label} {line.measures['success'].value:.2f}" for line in lines]
    return [", ".join(said) or None] if len(lines) != 1 else [rate(lines[0].measures["success"])]
