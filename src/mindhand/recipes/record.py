"""`mindhand data record`: demonstrations by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from rich.console import Console

from mindhand.core.errors import BadData

from . import maths


class Recorder(Protocol):
    """Records `episodes` demonstrations into `folder`, resuming what lies there; returns the folder."""

    def __call__(self, folder: Path, episodes: int, *, workers: int = 2, console: Console | None = None) -> Path: ...


RECORDERS: Mapping[str, Recorder] = {"maths": maths.record}


def record(task: str, episodes: int, workers: int, run: Path) -> int:
    """The verb. Refuses a task that nobody demonstrates."""
    if task not in RECORDERS:
        raise BadData(f"no demonstrations of '{task}'", f"one of {sorted(RECORDERS)}", "check the spelling")
    console = Console()
    folder = RECORDERS[task](run, episodes, workers=workers, console=console)
    console.print(f"{episodes} episodes in {folder}; look them over: mindhand data doctor {folder}")
    return 0
