"""Evaluate a checkpoint: a protocol's episodes, scores with chance levels, films, arms, one HTML report; or compare two
evaluations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from mindhand.core.checkpoint import load_checkpoint
from mindhand.core.errors import BadData, Refusal
from mindhand.core.files import write_atomic
from mindhand.core.intervals import Interval, wilson
from mindhand.core.seams import World
from mindhand.evaluate.arms import ARMS, LANGUAGE, ChangedWorlds, sensitivity
from mindhand.evaluate.compare import compare as contrast
from mindhand.evaluate.compare import comparison_section, comparison_table
from mindhand.evaluate.export import write_exports
from mindhand.evaluate.ledger import open_ktest
from mindhand.evaluate.page import Cell, page, rate, table
from mindhand.evaluate.protocol import CLEAN, Protocol, named
from mindhand.evaluate.report import label_of, summary, write_report
from mindhand.evaluate.run import evaluate as run_protocol
from mindhand.evaluate.run import film_of
from mindhand.evaluate.score import scored
from mindhand.model.store import load_vla
from mindhand.model.vla import VLA
from mindhand.worlds.desk.world import SPEC, DeskWorld
from mindhand.worlds.perturb import AXES, LEVELS, Perturbation
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
    console: Console | None = None,
) -> Rows:
    """Scored rows of a checkpoint under a protocol, its arm included; what `folder` already holds is not run again. A
    look at K-test is entered in the ledger first."""
    name = load_checkpoint(checkpoint, SPEC).fingerprint
    look = open_ktest(protocol, name, folder)
    if look is not None and console is not None:
        console.print(f"{look.text} (entered in the ledger)")
    rows = run_protocol(
        protocol,
        partial(load_policy, checkpoint),
        worlds(protocol.arm),
        folder,
        name=name,
        workers=workers,
        film=film_of(protocol, "front", films) if films else None,
        console=console,
    )
    return scored(rows)


def worlds(arm: str) -> Callable[[int], World]:
    """A maker of desks for an arm of a protocol: "clean", a perturbation ("camera3+light2"), one of `ARMS`, or both."""
    words = [] if arm == CLEAN else arm.split("+")
    told = [w for w in words if w in ARMS]
    perturb = Perturbation.parse("+".join(w for w in words if w not in ARMS) or CLEAN)
    if len(told) > 1:
        raise BadData(f"arm '{arm}'", f"at most one of {ARMS}", "evaluate one after the other")
    desk = partial(DeskWorld, perturb=perturb) if perturb else DeskWorld
    return ChangedWorlds(desk, told[0]) if told else desk


def perturbations(asked: Sequence[str]) -> list[str]:
    """What is asked for, spelled out: "camera" is camera1 to camera5, "all" every axis at every level."""
    out: list[str] = []
    for word in asked:
        axes = AXES if word == "all" else (word,) if word in AXES else ()
        out += [f"{axis}{level}" for axis in axes for level in LEVELS[1:]] or [str(Perturbation.parse(word))]
    return list(dict.fromkeys(out))


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


def perturbed_table(clean: Rows, changed: Mapping[str, Rows]) -> Beside:
    """Success and choice of every task under every perturbation, and their means over all that were tried, each as
    heavy."""
    shown = [(task, measure) for task in dict.fromkeys(r["task"] for r in clean) for measure in ("success", "choice")]

    def of(rows: Rows, task: str) -> Rows:
        return [r for r in rows if r["task"] == task]

    body: list[list[Cell]] = [
        [name, *(_rate(of(rows, t), m) for t, m in shown)] for name, rows in {"clean": clean, **changed}.items()
    ]
    means = [np.mean([np.mean([r[m] for r in of(rows, t)]) for rows in changed.values()]) for t, m in shown]
    body.append(["mean of the perturbed", *(f"{100 * x:.1f} %" for x in means)])
    columns = ["", *(f"{label_of(task)}: {measure}" for task, measure in shown)]
    return "Perturbed (the same scenes; levels 1 to 5)", columns, body


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
    perturb: Sequence[str],
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

    def arms(names: Sequence[str]) -> dict[str, Rows]:
        out = {}
        for name in names:
            console.print(f"arm: {name}")
            where = run / "arms" / name
            out[name] = rows_of(last, replace(p, arm=name), where, workers=workers, films=0, console=console)
        return out

    beside: list[Beside] = []
    if language or blind:
        beside.append(arms_table(rows, arms([*(LANGUAGE if language else ()), *(("dark",) if blind else ())])))
    if perturb:
        beside.append(perturbed_table(rows, arms(perturbations(perturb))))
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
