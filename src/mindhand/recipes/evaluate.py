"""Evaluate a checkpoint: a protocol's episodes, scores with chance levels, films, arms, one HTML report; or compare two
evaluations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from mindhand.core.checkpoint import load_checkpoint
from mindhand.core.errors import Refusal
from mindhand.core.files import write_atomic
from mindhand.core.intervals import Interval, wilson
from mindhand.core.seams import World
from mindhand.evaluate.arms import LANGUAGE, ChangedWorlds, sensitivity
from mindhand.evaluate.compare import compare as contrast
from mindhand.evaluate.compare import comparison_section, comparison_table
from mindhand.evaluate.export import write_exports
from mindhand.evaluate.ledger import open_ktest
from mindhand.evaluate.page import Cell, page, rate, table
from mindhand.evaluate.protocol import Protocol, named
from mindhand.evaluate.report import label_of, summary, write_report
from mindhand.evaluate.run import evaluate as run_protocol
from mindhand.evaluate.run import film_of
from mindhand.evaluate.score import scored
from mindhand.model.store import load_vla
from mindhand.model.vla import VLA
from mindhand.worlds.desk.world import SPEC, DeskWorld
from mindhand.worlds.scene import read_reasoning

from .stages import StageRows, kept_table, mind_rows, stages_of

Rows = list[dict[str, Any]]
Beside = tuple[str, Sequence[str], Sequence[Sequence[Cell]]]  # a table of the report: heading, columns, rows
ITEMS = 200  # of every part of the scorecard


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
    world: Callable[[int], World] = DeskWorld,
    console: Console | None = None,
) -> Rows:
    """Scored rows of a checkpoint under a protocol; what `folder` already holds is not run again. A look at K-test is
    entered in the ledger first."""
    name = load_checkpoint(checkpoint, SPEC).fingerprint
    look = open_ktest(protocol, name, folder)
    if look is not None and console is not None:
        console.print(f"{look.text} (entered in the ledger)")
    rows = run_protocol(
        protocol,
        partial(load_policy, checkpoint),
        world,
        folder,
        name=name,
        workers=workers,
        film=film_of(protocol, "front", films) if films else None,
        console=console,
    )
    return scored(rows)


def summary_table(rows: Sequence[Mapping[str, Any]], title: str) -> Table:
    """Success and choice by task, with intervals and chance."""
    out = Table("", "success", "choice", "acts as it says", "episodes", title=title)
    for line in summary(rows):

        def cell(name: str, line=line) -> str:
            found = line.measures.get(name)
            if found is None:
                return ""
            chance = line.chance.get(name)
            base = "" if chance is None else f", chance {chance:.2f}"
            return f"{found.value:.2f} ({found.low:.2f}..{found.high:.2f}{base})"

        out.add_row(line.label, cell("success"), cell("choice"), cell("rac"), str(line.measures["success"].n))
    return out


def arms_table(clean: Rows, changed: Mapping[str, Rows]) -> Beside:
    """What is done when something else is told or shown, and how much of it hangs on language."""
    body: list[list[Cell]] = []
    for task in dict.fromkeys(r["task"] for r in clean):
        some = {name: [r for r in rows if r["task"] == task] for name, rows in {"clean": clean, **changed}.items()}
        for name, rows in some.items():
            cells = [_rate(rows, m) for m in ("success", "choice")]
            body.append([f"{label_of(task)}, {name}", *cells])
        if told := [some[n] for n in ("blank", "swapped") if n in some]:
            found = [_points(sensitivity(some["clean"], told, m)) for m in ("success", "choice")]
            body.append([f"{label_of(task)}: hangs on language", *found])
    return "Told or shown something else", ["arm", "success", "choice"], body


def _rate(rows: Rows, measure: str) -> Cell:
    chance = [r[f"{measure}_chance"] for r in rows if f"{measure}_chance" in r]
    return rate(wilson(sum(bool(r[measure]) for r in rows), len(rows)), sum(chance) / len(rows) if chance else None)


def _points(found: Interval) -> str:
    return f"{100 * found.value:+.0f} points ({100 * found.low:+.0f} to {100 * found.high:+.0f})"


def by_stage(
    run: Path, base: Path, protocol: Protocol, folder: Path, *, workers: int, items: int, console: Console | None
) -> Beside:
    """The scorecard of the VLM that a training began with, and of every stage's, beside what each stage does."""
    out = [StageRows("the base", mind_rows(base, items, folder / "minds" / "base.jsonl", console), [])]
    for name, checkpoint in stages_of(run).items():
        mind = mind_rows(checkpoint, items, folder / "minds" / f"{name}.jsonl", console)
        where = folder if name == "all stages" else folder / "stages" / name
        rows = rows_of(checkpoint, protocol, where, workers=workers, films=0, console=console)
        out.append(StageRows(name, mind, rows))
    return kept_table(out)


def evaluate(
    checkpoint: Path | None,
    protocol: str,
    split: Sequence[str],
    episodes: int | None,
    language: bool,
    blind: bool,
    base: Path | None,
    compare: Sequence[Path],
    workers: int,
    run: Path,
) -> int:
    """The verb `mindhand eval`. checkpoint: a folder of one, or of a training, whose last stage is meant. base: the VLM
    that it began with; with it every stage is evaluated, and what its VLM knows. compare: two evaluations instead."""
    console = Console()
    if compare:
        return _compare(compare, run, console)
    if checkpoint is None:
        raise Refusal("nothing to evaluate", "a checkpoint, or --compare with two evaluations", "mindhand eval --help")
    stages = stages_of(checkpoint)
    last = stages["all stages"]
    p = named(protocol)
    family = p.tasks[0].split("/")[0]
    p = p.only(*(f"{family}/{s}" for s in split), episodes=episodes)
    rows = rows_of(last, p, run, workers=workers, console=console)
    console.print(summary_table(rows, f"{p.id}, {last}"))
    beside: list[Beside] = []
    if names := [*(LANGUAGE if language else ()), *(("dark",) if blind else ())]:
        changed = {}
        for name in names:
            world = ChangedWorlds(DeskWorld, name)
            console.print(f"arm: {name}")
            changed[name] = rows_of(
                last, p, run / "arms" / name, workers=workers, films=0, world=world, console=console
            )
        beside.append(arms_table(rows, changed))
    if base is not None:
        beside.append(by_stage(checkpoint, base, p, run, workers=workers, items=ITEMS, console=console))
    report = write_report(run, rows, rate_hz=SPEC.rate, title=f"{p.id}: {checkpoint}", beside=beside)
    write_exports(run, rows)
    console.print(f"report: {report}")
    return 0


def trainings(folder: Path) -> list[Path]:
    """One side of a comparison: an evaluation's folder, or a folder of such, one a training."""
    return [folder] if (folder / "run.json").exists() else sorted(f.parent for f in folder.glob("*/run.json"))


def _compare(sides: Sequence[Path], run: Path, console: Console) -> int:
    if len(sides) != 2:
        raise Refusal(f"--compare with {len(sides)} folders", "two evaluations, or folders of them", "name A and B")
    found = contrast(*(trainings(side) or [side] for side in sides))
    console.print(comparison_table(found))
    heading, columns, body = comparison_section(found)
    file = run / "comparison.html"
    run.mkdir(parents=True, exist_ok=True)
    write_atomic(file, page("Two policies compared", found.protocol, [(heading, table("", columns, body))]))
    console.print(f"report: {file}")
    return 0
