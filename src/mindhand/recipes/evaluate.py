"""Evaluate a checkpoint: a protocol's episodes, scores with chance levels, films, one HTML report."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from mindhand.core.checkpoint import load_checkpoint
from mindhand.core.errors import Refusal
from mindhand.evaluate.protocol import Protocol, named
from mindhand.evaluate.report import summary, write_report
from mindhand.evaluate.run import evaluate as run_protocol
from mindhand.evaluate.run import film_of
from mindhand.evaluate.score import scored
from mindhand.model.store import load_vla
from mindhand.model.vla import VLA
from mindhand.worlds.desk.world import SPEC, DeskWorld
from mindhand.worlds.scene import read_reasoning


def load_policy(checkpoint: Path) -> VLA:
    """A checkpoint as a policy of the desk; refuses one of another robot."""
    return load_vla(checkpoint, SPEC, parse=read_reasoning)


def rows_of(
    checkpoint: Path,
    protocol: Protocol,
    folder: Path,
    *,
    workers: int = 2,
    films: int = 3,
    console: Console | None = None,
) -> list[dict[str, Any]]:
    """Scored rows of a checkpoint under a protocol; what `folder` already holds is not run again."""
    rows = run_protocol(
        protocol,
        partial(load_policy, checkpoint),
        DeskWorld,
        folder,
        name=load_checkpoint(checkpoint, SPEC).fingerprint,
        workers=workers,
        film=film_of(protocol, "front", films) if films else None,
        console=console,
    )
    return scored(rows)


def summary_table(rows: Sequence[dict[str, Any]], title: str) -> Table:
    """Success and choice by task, with intervals and chance."""
    table = Table("", "success", "choice", "acts as it says", "episodes", title=title)
    for line in summary(rows):

        def cell(name: str, line=line) -> str:
            found = line.measures.get(name)
            if found is None:
                return ""
            chance = line.chance.get(name)
            base = "" if chance is None else f", chance {chance:.2f}"
            return f"{found.value:.2f} ({found.low:.2f}..{found.high:.2f}{base})"

        table.add_row(line.label, cell("success"), cell("choice"), cell("rac"), str(line.measures["success"].n))
    return table


def evaluate(
    checkpoint: Path,
    protocol: str,
    split: Sequence[str],
    episodes: int | None,
    language: bool,
    workers: int,
    run: Path,
) -> int:
    """The verb `mindhand eval`."""
    if language:
        raise Refusal(
            "the language arm is not built yet", "an evaluation of the instruction as given", "leave out --language"
        )
    console = Console()
    p = named(protocol)
    family = p.tasks[0].split("/")[0]
    p = p.only(*(f"{family}/{s}" for s in split), episodes=episodes)
    rows = rows_of(checkpoint, p, run, workers=workers, console=console)
    console.print(summary_table(rows, f"{p.id}, {checkpoint}"))
    page = write_report(run, rows, rate_hz=SPEC.rate, title=f"{p.id}: {checkpoint}")
    console.print(f"report: {page}")
    return 0
