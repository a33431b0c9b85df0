"""Progress of long work: done, rate, time left; a bar in a terminal, lines in a log."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.console import Console

EVERY = 10.0  # seconds between two lines of a log


class Tell(Protocol):
    """Told how many are done by now, and the newest numbers in words."""

    def __call__(self, now: int, numbers: str = "") -> None: ...


@contextmanager
def progress(console: Console | None, what: str, total: int, done: int, unit: str) -> Iterator[Tell]:
    """Yields a function that is told how many of `total` are done by now, and numbers; silent without a console.

    The rate counts from `done`, what an earlier run left, so that a resumed run does not boast of it.
    """
    if console is None:
        yield lambda now, numbers="": None
        return
    begin = printed = time.monotonic()

    def rate(now: int) -> float:
        return (now - done) / max(time.monotonic() - begin, 1e-9)

    if not console.is_terminal:  # a log: a line now and then

        def tell(now: int, numbers: str = "") -> None:
            nonlocal printed
            if time.monotonic() - printed >= EVERY or now == total:
                left = (total - now) / max(rate(now), 1e-9)
                parts = (f"{what} {now}/{total}", numbers, f"{rate(now):.1f} {unit}/s", f"{left:.0f} s left")
                console.print("  ".join(filter(None, parts)), highlight=False, soft_wrap=True)
                printed = time.monotonic()

        yield tell
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[numbers]}"),
    )
    with Progress(*columns, console=console) as bars:
        task = bars.add_task(what, total=total, completed=done, rate="", numbers="")

        def move(now: int, numbers: str = "") -> None:
            bars.update(task, completed=now, rate=f"{rate(now):.1f} {unit}/s", numbers=numbers)

        yield move
