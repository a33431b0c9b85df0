"""What the grid's finished cells say: a table of them, the differences that claims speak of, and the verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mindhand.core.errors import BadData
from mindhand.core.files import write_atomic
from mindhand.core.intervals import Interval
from mindhand.core.record import measure
from mindhand.data.files import read_json, read_rows
from mindhand.evaluate.claims import Finding, for_report, judge, rich_table
from mindhand.evaluate.page import Cell as Shown
from mindhand.evaluate.page import page, points, rate, table
from mindhand.evaluate.run import code
from mindhand.evaluate.scorecard import score
from mindhand.evaluate.scores import knew
from mindhand.evaluate.transfer import transfer

from .grid import LONGER, OWN, Cell, Grid, evidence, finished
from .router import routing_table, write_routing
from .variants import GRID

Rows = list[dict[str, Any]]
MEASURES = ("success", "choice", "rac")
COLUMNS = ("policy", "family", "steps", "trainings", "class", *MEASURES, "obeys another thought", "told", "transfer")
COSTS = ("policy", "family", "mind, parameters", "a token uses", "hand", "MFLOPs a chunk", "words", "ms a chunk")
KEPT = ("policy", "steps", "trainings", "success, K", "kept, worst part", "kept, mean")
PAIRED = ("difference", "family", "steps", "trainings", "class", "success, points")


def _each(rows: Sequence[Mapping[str, Any]], name: str) -> Interval | None:
    """The rate of a column over rows that have it, and their trainings."""
    some = [r for r in rows if r.get(name) is not None]
    return measure(some, name, "rate")[0] if some else None


def _of(grid: Grid, cells: Sequence[Cell], arm: str = "evaluation") -> Rows:
    return [{**row, "training": cell.training} for cell in cells for row in grid.rows(cell, arm)]


def lines(grid: Grid) -> list[tuple[list[str], list[tuple[Interval | None, float | None]]]]:
    """One line a variant, family, length and class of tasks: words, then intervals with their chance, as `COLUMNS`."""
    done, out = finished(grid), []
    for family, variant, longer in dict.fromkeys((c.family, c.variant, c.longer) for c in done):
        cells = [c for c in done if (c.family, c.variant, c.longer) == (family, variant, longer)]
        rows, given = [r for arm in OWN for r in _of(grid, cells, arm)], _of(grid, cells, "misled")
        for task in dict.fromkeys(r["task"] for r in rows):
            here = [r for r in rows if r["task"] == task]
            found: list[tuple[Interval | None, float | None]] = []
            for name in MEASURES:
                chance = [r[f"{name}_chance"] for r in here if f"{name}_chance" in r]
                found.append((_each(here, name), sum(chance) / len(chance) if chance else None))
            misled = [{**r, "rac": bool(r["rac"])} for r in given if r["task"] == task]  # who takes nothing obeys not
            found.append((_each(misled, "rac"), None))
            told = [r for r in _of(grid, cells, "told") if r["task"] == task]
            found += [(_each(told, "success"), None), (_transfer(grid, here, told, task), None)]
            words = [variant, family, f"{longer}x", str(len(cells)), task.partition("/")[2]]
            out.append((words, found))
    return out


def _transfer(grid: Grid, rows: Rows, told: Rows, task: str) -> Interval | None:
    """Transfer efficiency on the episodes that were told, too: what the VLM knew is what F0, whose mind it is, thought
    first."""
    asked = {r["key"] for r in told}
    base = [r for c in finished(grid) if c.variant == "F0" for r in grid.rows(c) if r["task"] == task]
    known = {r["key"]: knew(r) for r in base if r["key"] in asked}

    def by(some: Rows) -> list[list[bool]]:
        each = [{r["key"]: r["success"] for r in some if r["training"] == n} for n in {r["training"]: 0 for r in some}]
        return [[one[k] for k in known] for one in each if set(one) >= set(known)]

    s, t = by(rows), by(told)
    return transfer(s, t, list(known.values())) if known and s and len(s) == len(t) else None


def differences(grid: Grid, ours: str = "B7") -> list[tuple[list[str], Interval]]:
    """Success of ChatVLA-2 less that of every other variant, longest first, over trainings that both have: paired by
    scene, bootstrap over trainings and scenes."""
    done, out = [c for c in finished(grid) if GRID[c.variant].acts], []
    for family in dict.fromkeys(c.family for c in done):
        for variant in (v for v in GRID if v != ours):
            for longer in reversed(LONGER):
                theirs = [c for c in done if (c.family, c.variant, c.longer) == (family, variant, longer)]
                mine = [c for t in theirs if (c := replace(t, variant=ours, longer=1)) in done]
                theirs = [t for t in theirs if replace(t, variant=ours, longer=1) in mine]
                if not mine:
                    continue
                rows = [{**r, "arm": "on"} for r in _of(grid, mine)] + [{**r, "arm": "off"} for r in _of(grid, theirs)]
                for task in dict.fromkeys(r["task"] for r in rows):
                    found, _ = measure([r for r in rows if r["task"] == task], "success", "difference")
                    words = [f"{ours} less {variant}", family, f"{longer}x", str(len(mine)), task.partition("/")[2]]
                    out.append((words, found))
    return out


def costs(grid: Grid) -> list[list[Shown]]:
    """One line a policy and family, as `COSTS`: of its first training."""
    out: list[list[Shown]] = []
    for cell in finished(grid):
        folder = grid.root / cell.path
        if (folder / "cost.json").exists():
            c = read_json(folder / "cost.json", "cost")
            timed = (
                [r["ms"] for r in read_rows(folder / "latency.jsonl")] if (folder / "latency.jsonl").exists() else []
            )
            ms = f"{sum(timed) / len(timed):.0f}" if timed else None
            sizes = [f"{c[n]:,}" for n in ("stored", "active", "hand")]
            out.append([cell.variant, cell.family, *sizes, f"{c['flops'] / 1e6:.0f}", str(c["words"]), ms])
    return out


def kept(grid: Grid, family: str = "maths") -> tuple[list[list[Shown]], float | None]:
    """Open-world success beside what the VLM still knows, one line a variant and length as `KEPT`; and their rank
    correlation (Spearman's) over those lines, None for fewer than three."""
    base = score(read_rows(grid.root / "base.jsonl")) if (grid.root / "base.jsonl").exists() else None
    done, out, pairs = [c for c in finished(grid) if c.family == family and GRID[c.variant].acts], [], []
    for variant, longer in dict.fromkeys((c.variant, c.longer) for c in done) if base else ():
        cells = [c for c in done if (c.variant, c.longer) == (variant, longer)]
        cards = [score(read_rows(grid.root / c.path / "scorecard.jsonl")).retention(base) for c in cells]
        solved = [r["success"] for r in _of(grid, cells) if "/K-" in r["task"]]
        if not solved or not all(cards):
            continue
        k, least, mean = (float(np.mean(x)) for x in (
            solved, [min(c.values()) for c in cards], [np.mean([*c.values()]) for c in cards]))  # fmt: skip
        pairs.append((k, mean))
        out.append([variant, f"{longer}x", str(len(cells)), f"{k:.2f}", f"{least:.2f}", f"{mean:.2f}"])
    return out, ranked(pairs)


def ranked(pairs: Sequence[tuple[float, float]]) -> float | None:
    """Spearman's rank correlation; ties share their mean rank. None for fewer than three, or where one side is even."""
    if len(pairs) < 3:
        return None
    ranks = []
    for x in np.array(pairs).T:
        _, at, count = np.unique(x, return_inverse=True, return_counts=True)
        ranks.append((count.cumsum() - (count - 1) / 2)[at])
    return float(np.corrcoef(*ranks)[0, 1]) if min(np.ptp(r) for r in ranks) > 0 else None


def _short(found: tuple[Interval | None, float | None]) -> str:
    x, chance = found
    if x is None:
        return "-"
    beside = "" if chance is None else f", chance {chance:.2f}"
    return f"{x.value:.2f} ({x.low:.2f} to {x.high:.2f}){beside}"


@dataclass(frozen=True)
class Said:
    """What the finished cells say, computed once: `lines`, `differences`, and the findings on claims."""

    cells: Sequence[tuple[list[str], list[tuple[Interval | None, float | None]]]]
    pairs: Sequence[tuple[list[str], Interval]]
    claims: Sequence[Finding]
    costs: Sequence[list[Shown]]
    kept: tuple[Sequence[list[Shown]], float | None]


def said(grid: Grid) -> Said:
    """All of it. BadData where no cell is done."""
    if not finished(grid):
        raise BadData(f"no finished cell in {grid.root}", "some", "mindhand prove chatvla2 --queue --minutes 60")
    findings = judge(evidence(grid))  # which examines the base, too
    return Said(lines(grid), differences(grid), findings, costs(grid), kept(grid))


def show(found: Said, console: Console) -> None:
    """The tables, for the terminal."""
    cells = Table(*COLUMNS, title="The grid")
    for words, measured in found.cells:
        cells.add_row(*words, *(_short(x) for x in measured))
    pairs = Table(*PAIRED, title="Paired")
    for words, x in found.pairs:
        pairs.add_row(*words, Text(points(x)))
    others = []
    for title, columns, body in (("Costs", COSTS, found.costs), (beside(found), KEPT, found.kept[0])):
        others.append(Table(*columns, title=title))
        for row in body:
            others[-1].add_row(*("-" if x is None else str(x) for x in row))
    for one in (cells, pairs, *others, rich_table(found.claims)):
        console.print(one)


def beside(found: Said) -> str:
    """What heads the table of success beside retention."""
    rank = found.kept[1]
    return "Success in the open world beside what is kept" + ("" if rank is None else f", rank correlation {rank:.2f}")


def write_grid_report(grid: Grid, found: Said, file: Path) -> Path:
    """The same as one page."""
    body: list[list[Shown]] = [[*words, *(rate(x, chance) for x, chance in each)] for words, each in found.cells]
    pairs: list[list[Shown]] = [[*words, points(x)] for words, x in found.pairs]
    claims, columns, judged = for_report(found.claims)
    sections = [("Cells", table("", COLUMNS, body)), ("Differences", table("", PAIRED, pairs))]
    sections += [(beside(found), table("", KEPT, found.kept[0])), ("Costs", table("", COSTS, found.costs))]
    sections.append((claims, table("", columns, judged)))
    cells = finished(grid)
    for cell in cells:
        if (routed := grid.root / cell.path / "routing.jsonl").exists():
            rows = read_rows(routed)
            drawn = write_routing(rows, routed.with_suffix(".svg")).read_text()
            sections.append((f"Experts of {cell.path}", drawn + table("", *routing_table(rows))))
    older = sum(read_json(grid.root / c.path / "done.json", "cell").get("code") != code() for c in cells)
    lead = f"{len(cells)} cells of {grid.root.name}" + (f", {older} of them by older code" if older else "")
    write_atomic(file, page("ChatVLA-2, proven or not", lead, sections))
    return file
