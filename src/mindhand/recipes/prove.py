"""The verb `mindhand prove`: experiments that decide a claim: ChatVLA-2's own, the grid, and those of methods."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mindhand.core.card import fidelity
from mindhand.core.errors import Refusal
from mindhand.core.record import OLDER, older_code, read_records, results_folder
from mindhand.methods import catalogue
from mindhand.methods import method as named
from mindhand.model.shipped import shipped

from .bases import of_this_world
from .grid import Grid, GridPlan, due, finished, order, run_queue
from .grid_report import said, write_grid_report
from .grid_report import show as tables
from .pages import PAGES, settings, told
from .proofs import due as due_cells
from .proofs import proofs, run_proofs, table

HEART = "chatvla2"
ASKS = "does knowledge in the VLM reach the hand, and what in the recipe earns it?"


def grid_of(mind: Path, run: Path) -> Grid:
    """The grid in a run folder, which begins with what the checkout has kept of it."""
    home = results_folder()
    grid = Grid(GridPlan(), mind, run / HEART, home and home / "cells" / HEART)
    grid.restore()
    return grid


def known() -> Table:
    """The heart's proof and the catalogue, room by room."""
    records = read_records()
    table = Table("name", "seams", "reached", "claim", title="proofs", box=SIMPLE_HEAD, pad_edge=False)
    table.add_row(HEART, "", "", ASKS, end_section=True)
    area = ""
    for name, found in catalogue().items():
        c = found.card
        if c.area != area:
            area = c.area
            table.add_section()
            table.add_row(f"[bold]{area}[/]")
        levels = [level + (OLDER if older_code(r) else "") for level, r in fidelity(c, records).items()]
        table.add_row(f"  {name}", ", ".join(c.seams), ", ".join(levels) or "not yet", Text(c.claim.text))
    return table


def card(name: str, console: Console) -> None:
    """All that a method says of itself, and the records that show it."""
    found, records = named(name), read_records()
    c, parts = found.card, told(found)
    console.rule(f"{c.title} ({c.area}/{name}.py)")
    for label, text in parts.items():
        console.print(f"{label}: {text}" if label else text, highlight=False, markup=False)
    console.print(f"\nseams: {', '.join(c.seams)}; put into and compared with: {c.base}", markup=False)
    console.print(f"claim: {c.claim.text}", markup=False)
    for level, record in fidelity(c, records).items():
        console.print(f"{level}: {record.name} {record.show()}{OLDER if older_code(record) else ''}")
    for field, default, note in settings(found.module.Config):
        said = f"  {field}{f' = {default}' if default else ''}{f'  # {note}' if note else ''}"
        console.print(said, highlight=False, markup=False)
    console.print(f"page: {PAGES}/{name}.md")


def of_methods(
    names: tuple[str, ...], base: Path, queue: bool, minutes: float, workers: int, run: Path, console: Console
) -> int:
    """Run the cells of methods' proofs, or show what is known of them."""
    if without := sorted(set(names) - set(proofs())):
        raise Refusal(f"no experiment for {without} yet", f"some of {[HEART, *proofs()]}", "mindhand prove --show")
    if queue:
        count = run_proofs(names, base, run, minutes, workers, console)
        console.print(f"{count} cells finished now, {len([*due_cells(names, base, run)])} to go")
    console.print(table(names, base, run))
    return 0


def prove(
    method: Sequence[str],
    list: bool,
    show: bool,
    queue: bool,
    minutes: float,
    base: Path | None,
    workers: int,
    run: Path,
) -> int:
    """The verb. list: what there is; show: what a method says of itself. queue: run cells that are not done yet, of
    the grid or of methods' proofs, for `minutes`; without it what is done is shown. base: the VLM that everything
    begins with, by default nano as it is shipped."""
    console = Console()
    if list or not method:
        console.print(known())
        return 0
    if odd := sorted(set(method) - {HEART, *catalogue()}):
        raise Refusal(f"no proof of {odd}", f"some of {[HEART, *catalogue()]}", "mindhand prove --list")
    if show:
        for name in method:
            console.print(ASKS) if name == HEART else card(name, console)
        return 0
    mind = of_this_world(base or shipped())
    if methods := tuple(name for name in method if name != HEART):
        code = of_methods(methods, mind, queue, minutes, workers, run / "bench", console)
        if HEART not in method:
            return code
    grid = grid_of(mind, run)
    if queue:
        count = run_queue(grid, minutes, workers, console)
        left = sum(1 for _ in due(grid))
        console.print(f"{count} cells finished now, {len(finished(grid))} in all, {left} to go of {len([*order()])}")
        if grid.kept is not None:
            console.print(f"finished cells are kept in {grid.kept / grid.root.name}: commit them")
        if not finished(grid):
            return 0
    found = said(grid)
    tables(found, console)
    console.print(f"report: {write_grid_report(grid, found, grid.root / 'report.html')}")
    return 0
