"""Progress with rate and time left: a live bar on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class Meter:
    """`begin`, then `update(step, numbers)`, then `end`. `quiet` prints nothing (tests)."""

    def __init__(self, console: Console | None = None, *, quiet: bool = False, every: float = 10.0):
        self.console, self.quiet, self.every = console or Console(), quiet, every
        self.bar: Progress | None = None

    def begin(self, name: str, total: int, done: int = 0) -> None:
        """A new run of `total` steps of which `done` are behind us."""
        self.name, self.total, self.first, self.clock = name, total, done, time.monotonic()
        self.printed = self.clock
        if not self.quiet and self.console.is_terminal:
            self.bar = Progress(
                TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
                TextColumn("{task.fields[numbers]}"), console=self.console,
            )  # fmt: skip
            self.task = self.bar.add_task(name, total=total, completed=done, numbers="")
            self.bar.start()

    def update(self, step: int, numbers: Mapping[str, float]) -> None:
        """Where we are and the newest numbers."""
        now = time.monotonic()
        rate = (step - self.first) / max(now - self.clock, 1e-9)
        text = " ".join(f"{k} {v:.3f}" for k, v in numbers.items()) + f"  {rate:.1f}/s"
        if self.bar is not None:
            self.bar.update(self.task, completed=step, numbers=text)
        elif not self.quiet and (now - self.printed >= self.every or step == self.total):
            left = (self.total - step) / max(rate, 1e-9)
            self.console.print(f"{self.name} {step}/{self.total}  {text}  {left:.0f} s left", highlight=False)
            self.printed = now

    def end(self) -> None:
        """Take the bar down."""
        if self.bar is not None:
            self.bar.stop()
            self.bar = None
