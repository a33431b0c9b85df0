"""`mindhand data record`: demonstrations by name."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from mindhand.core.errors import BadData
from mindhand.worlds.metaworld_spec import MT10, TASKS, task_of

from . import chatvla2
from .places import demonstrate

RECORDED = {  # by name: the tasks that are demonstrated in turn
    **{name: (task,) for name, task in chatvla2.TASKS.items()},
    "desk": (chatvla2.TASKS["maths"], chatvla2.TASKS["placing"]),
    "placing-boxes": (chatvla2.TASKS["placing"],),
    **{f"panda-{name}": (chatvla2.TASKS[name],) for name in ("maths", "placing")},
    **{f"metaworld-{name}": (task_of(name),) for name in TASKS},
    "metaworld-mt10": tuple(map(task_of, MT10)),
    "metaworld-mt50": tuple(map(task_of, TASKS)),
}


ROBOTS = {"panda-maths": "desk-panda", "panda-placing": "desk-panda"}  # those of another arm than the usual one
BOXED = ("placing-boxes",)  # whose thoughts hold the boxes of what they name


def demonstrations(
    folder: Path,
    episodes: int,
    task: str = "maths",
    *,
    workers: int = 2,
    console: Console | None = None,
    video: bool = False,
) -> Path:
    """Demonstrations by name with injected noise; resumes, and finds finished what is finished. Refuses a task that
    nobody demonstrates, and a folder of another recording."""
    if task not in RECORDED:
        raise BadData(f"no demonstrations of '{task}'", f"one of {sorted(RECORDED)}", "check the spelling")
    command = f"mindhand data record {task} --episodes {episodes}" + " --video" * video
    return demonstrate(folder, RECORDED[task], episodes, command=command, workers=workers, console=console,
                       thoughts="boxes" if task in BOXED else "own", video=video, robot=ROBOTS.get(task))  # fmt: skip


def record(task: str, episodes: int, workers: int, run: Path, video: bool = False) -> int:
    """The verb."""
    console = Console()
    folder = demonstrations(run, episodes, task, workers=workers, console=console, video=video)
    console.print(f"{episodes} episodes in {folder}; look them over: mindhand data doctor {folder}")
    return 0
