"""The verb `mindhand prove`: experiments that decide a claim. So far ChatVLA-2's own, the grid."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from mindhand.core.errors import Refusal
from mindhand.model.shipped import shipped

from .grid import Grid, GridPlan, due, finished, order, run_queue
from .grid_report import said, show, write_grid_report

PROOFS = {"chatvla2": "does knowledge in the VLM reach the hand, and what in the recipe earns it?"}


def prove(
    method: Sequence[str],
    list: bool,
    queue: bool,
    minutes: float,
    base: Path | None,
    workers: int,
    run: Path,
) -> int:
    """The verb. list: what there is. queue: run cells that are not done yet, for `minutes`; without it what is done is
    shown. base: the VLM that everything begins with, by default nano as it is shipped."""
    console = Console()
    if list or not method:
        table = Table("name", "asks", title="proofs")
        for name, asks in PROOFS.items():
            table.add_row(name, asks)
        console.print(table)
        return 0
    if odd := sorted(set(method) - set(PROOFS)):
        raise Refusal(f"no proof of {odd}", f"some of {sorted(PROOFS)}", "mindhand prove --list")
    grid = Grid(GridPlan(), base or shipped(), run / "chatvla2")
    if queue:
        count = run_queue(grid, minutes, workers, console)
        left = sum(1 for _ in due(grid))
        console.print(f"{count} cells finished now, {len(finished(grid))} in all, {left} to go of {len([*order()])}")
        if not finished(grid):
            return 0
    found = said(grid)
    show(found, console)
    console.print(f"report: {write_grid_report(grid, found, grid.root / 'report.html')}")
    return 0
