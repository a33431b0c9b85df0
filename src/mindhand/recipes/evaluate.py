"""Evaluate a checkpoint: a protocol's episodes, scores with chance levels, films, arms, one HTML report; or compare two
evaluations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from mindhand.core.errors import Refusal
from mindhand.core.files import write_atomic
from mindhand.evaluate.arms import LANGUAGE, THOUGHTS, Changed, sensitivity
from mindhand.evaluate.compare import compare as contrast
from mindhand.evaluate.compare import comparison_section, comparison_table
from mindhand.evaluate.export import write_exports
from mindhand.evaluate.page import Cell, page, points, rate, table
from mindhand.evaluate.protocol import Protocol, keys, named
from mindhand.evaluate.report import Beside, by_task, label_of, summary, write_report
from mindhand.methods import label, wrapped

from .bases import of_this_world
from .perturbed import axes_table, levels_table, measures_of, of_task, rates
from .places import axes_of, place_of, worlds
from .race import race, race_table
from .rollouts import Rows, RunRows, is_control, perturbations, robot_of, rows_of, shield_of
from .stages import ALL, StageRows, kept_tables, mind_rows, stages_of

ITEMS = 200  # of every part of the scorecard
USUAL = ("R", "K-dev", "X")  # of a protocol that parts what is known, unless others are asked for


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
    measures = measures_of(clean)
    told = [changed[name] for name in ("blank", "swapped") if name in changed]
    for task in dict.fromkeys(r["task"] for r in clean):
        for name, rows in {"clean": clean, **changed}.items():
            for line in by_task(of_task(rows, task)):
                body.append([f"{line.label}, {name}", *rates(line, measures), rate(line.measures.get("rac"))])
        if told:
            some = [of_task(rows, task) for rows in told]
            found = [points(sensitivity(of_task(clean, task), some, m), " points") for m in measures]
            body.append([f"{label_of(task)}: hangs on language", *found, None])
    return "Told or shown something else, or given a thought", ["arm", *measures, "acts as it says"], body


def by_stage(
    run: Path, base: Path, protocol: Protocol, folder: Path, last: Rows, run_rows: RunRows, console: Console | None
) -> list[Beside]:
    """The scorecard of the VLM that a training began with, and of every stage's, beside what each stage does. last: the
    rows of its last stage."""
    out = [StageRows("the base", mind_rows(base, ITEMS, folder / "minds" / "base.jsonl", console), [])]
    for name, checkpoint in stages_of(run).items():
        mind = mind_rows(checkpoint, ITEMS, folder / "minds" / f"{name}.jsonl", console)
        rows = last
        if name != ALL:
            where = folder / "stages" / name
            rows = run_rows(checkpoint, protocol, where, films=0)
        out.append(StageRows(name, mind, rows))
    return kept_tables(out)


def evaluate(
    checkpoint: Path | None,
    protocol: str,
    split: Sequence[str],
    episodes: int | None,
    language: bool,
    blind: bool,
    thoughts: bool,
    wrap: Sequence[str],
    shield: Sequence[str],
    perturb: Sequence[str],
    base: Path | None,
    compare: Sequence[Path],
    against: Path | None,
    workers: int,
    run: Path,
) -> int:
    """The verb `mindhand eval`. checkpoint: a folder of one, or of a training, whose last stage is meant; or "expert",
    or "random" (`worlds.controls`). wrap: methods that go round the policy; shield: those that correct its
    commands. base: the VLM that it began with; with it every stage is evaluated, and what its VLM knows. compare: two
    evaluations instead. against: a finished evaluation; each task stops when it is surely better, worse or alike.
    Refusal of what either of these two would leave undone, before anything is run."""
    console = Console()
    more = {"--language": language, "--blind": blind, "--thoughts": thoughts, "--perturb": perturb, "--base": base}
    if compare:
        ran = {"a checkpoint": checkpoint, "--split": split, "--episodes": episodes, "--wrap": wrap, "--shield": shield}
        _refuse_beside("--compare", "two finished evaluations alone", {**ran, **more, "--against": against})
        return _compare(compare, run, console)
    if checkpoint is None:
        raise Refusal("nothing to evaluate", "a checkpoint, or --compare with two evaluations", "mindhand eval --help")
    if against is not None:
        _refuse_beside("--against", "the clean arm of one policy, which stops when it is certain", more)
    if base is not None:
        of_this_world(base)
    last = checkpoint if is_control(checkpoint) else stages_of(checkpoint)[ALL]
    p = named(protocol)
    p = p.only(*tasks_of(p, split), episodes=episodes)
    wraps = {label(wrap): partial(wrapped, names=tuple(wrap))} if wrap else {}
    behind = shield_of(shield, place_of(p.tasks, robot_of(last))) if shield else None
    run_rows = partial(rows_of, workers=workers, console=console, wraps=wraps, shield=behind)
    if against is not None:
        console.print(race_table(race(last, p, run, against, workers=workers, run_rows=run_rows), against))
        return 0
    told = [*(LANGUAGE if language else ()), *(("dark",) if blind else ()), *(THOUGHTS if thoughts else ())]
    altered = perturbations(perturb, axes_of(p.tasks))
    require(p, (*told, *altered))  # before the first episode, not behind the last clean one
    spec = place_of(p.tasks, robot_of(last)).spec
    rows = run_rows(last, p, run)
    console.print(summary_table(rows, f"{p.id}, {last}"))

    def arms(names: Sequence[str]) -> dict[str, Rows]:
        out = {}
        for name in names:
            console.print(f"arm: {name}")
            out[name] = run_rows(last, replace(p, arm=name), run / "arms" / name, films=0)
        return out

    beside: list[Beside] = []
    changed = arms(told)
    if told:
        beside.append(arms_table(rows, changed))
    if altered:
        perturbed = arms(altered)
        beside += [axes_table(rows, perturbed), levels_table(rows, perturbed)]
    if base is not None:
        beside.extend(by_stage(checkpoint, base, p, run, rows, run_rows, console))
    report = write_report(run, rows, rate_hz=spec.rate, title=f"{p.id}: {checkpoint}", beside=beside)
    write_exports(run, rows, spec=spec, arms=changed)
    console.print(f"report: {report}")
    return 0


def _refuse_beside(flag: str, runs: str, asked: Mapping[str, Any]) -> None:
    """Refusal of whatever is asked for, by its name, beside a flag that runs something else."""
    if ignored := [name for name, given in asked.items() if given]:
        names = ", ".join(ignored)
        raise Refusal(f"{flag} together with {names}", runs, f"leave out {names}, or evaluate without {flag}")


def require(protocol: Protocol, arms: Sequence[str]) -> None:
    """Refuse an arm that the protocol's world does not know, or in which some task has no other words: whether a task
    has is seen in its first episode, in one world for all arms."""
    for arm in arms:
        worlds(replace(protocol, arm=arm))
    words = dict.fromkeys(w for arm in arms for w in arm.split("+") if w in LANGUAGE)
    if words:
        first = {k.task: k for k in reversed(keys(protocol))}
        with closing(worlds(protocol)(1)) as world:
            for key in first.values():
                world.reset([key], [0])
                for word in words:
                    Changed(world, word).observe([0])


def tasks_of(protocol: Protocol, splits: Sequence[str]) -> list[str]:
    """The protocol's tasks of these splits (in Meta-World, of these names); a split that it has none of as a task that
    it has not. No splits: `USUAL`, or all tasks where it has none of those."""
    if not splits:
        return [t for t in protocol.tasks if t.split("/")[1] in USUAL] or list(protocol.tasks)
    family, out = protocol.tasks[0].split("/")[0], []
    for split in splits:
        some = [t for t in protocol.tasks if t.split("/")[1:2] == [split]]
        out += some or [f"{family}/{split}"]
    return out


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
