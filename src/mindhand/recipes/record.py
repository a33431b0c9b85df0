"""`mindhand data record`: demonstrations by name."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from mindhand.core.errors import BadData

from . import chatvla2


def record(task: str, episodes: int, workers: int, run: Path) -> int:
    """The verb. Refuses a task that nobody demonstrates."""
    if task not in chatvla2.TASKS:
        raise BadData(f"no demonstrations of '{task}'", f"one of {sorted(chatvla2.TASKS)}", "check the spelling")
    console = Console()
    folder = chatvla2.record(run, episodes, task, workers=workers, console=console)
    console.print(f"{episodes} episodes in {folder}; look them over: mindhand data doctor {folder}")
    return 0
