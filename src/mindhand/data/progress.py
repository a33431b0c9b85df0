"""One progress bar for long work: done, rate, time left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


@contextmanager
def progress(console: Console | None, what: str, total: int, done: int, unit: str) -> Iterator[Callable[[int], None]]:
    """Yields a function that is told how many of `total` are done by now; silent without a console.

    The rate counts from `done`, what an earlier run left, so that a resumed run does not boast of it.
    """
    if console is None:
        yield lambda _: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bars:
        task = bars.add_task(what, total=total, completed=done, rate="")

        def advance(now: int) -> None:
            elapsed = bars.tasks[task].elapsed or 0.0
            rate = f"{(now - done) / elapsed:.1f} {unit}/s" if elapsed > 0 else ""
            bars.update(task, completed=now, rate=rate)

        yield advance
