"""`mindhand data record`: demonstrations by name."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from mindhand.core.errors import BadData
from mindhand.data.files import read_json
from mindhand.data.lerobot_format import MINE
from mindhand.data.record import Thought, own_words
from mindhand.worlds.desk.world import DeskWorld
from mindhand.worlds.metaworld_spec import MT10, TASKS, task_of

from . import chatvla2
from .places import demonstrate

RECORDED = {  # by name: the tasks that are demonstrated in turn
    **{name: (task,) for name, task in chatvla2.TASKS.items()},
    "placing-boxes": (chatvla2.TASKS["placing"],),
    **{f"metaworld-{name}": (task_of(name),) for name in TASKS},
    "metaworld-mt10": tuple(map(task_of, MT10)),
    "metaworld-mt50": tuple(map(task_of, TASKS)),
}


def boxed(world: DeskWorld, row: int) -> str:
    """What the world says, with the boxes of what is named."""
    return world.reasoning_with_boxes(row)


THOUGHTS: dict[str, Thought] = {"placing-boxes": boxed}  # of those that are not recorded with the world's own words


def record(task: str, episodes: int, workers: int, run: Path) -> int:
    """The verb. Refuses a task that nobody demonstrates, and a folder of other thoughts."""
    if task not in RECORDED:
        raise BadData(f"no demonstrations of '{task}'", f"one of {sorted(RECORDED)}", "check the spelling")
    before = read_json(run / MINE, f"dataset {run}")["commands"] if (run / MINE).exists() else []
    if any((name in THOUGHTS) != (task in THOUGHTS) for name in (c.split()[3] for c in before)):
        raise BadData(f"{run} holds demonstrations with other thoughts ({before[0]})", "one kind of thoughts in a "
                      "dataset: their episodes are the same", "record into another folder")  # fmt: skip
    console, command = Console(), f"mindhand data record {task} --episodes {episodes}"
    folder = demonstrate(run, RECORDED[task], episodes, command=command, workers=workers, console=console,
                         thought=THOUGHTS.get(task, own_words))  # fmt: skip
    console.print(f"{episodes} episodes in {folder}; look them over: mindhand data doctor {folder}")
    return 0
