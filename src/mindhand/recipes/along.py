"""What a mind would say along an expert's way: the cheapest look at it, before any hand is trained on it.

python -m mindhand.recipes.along CHECKPOINT [episodes]      a table by task and by what is to be done

The scripted expert drives; at every query of the protocol the VLM alone is asked what it would think there, and its
words are compared with the right ones. A fault here is one of pretraining, and no hand on a frozen mind can mend it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from mindhand.core.intervals import wilson
from mindhand.data.files import write_rows
from mindhand.evaluate.protocol import MATHS, PLACING, Protocol, keys
from mindhand.model.state_words import StateWords
from mindhand.model.store import load_vla
from mindhand.model.vla import VLA
from mindhand.worlds.desk.spec import EMPTY, HAND, SHUT
from mindhand.worlds.desk.world import SPEC, DeskWorld

EPISODES, LIMIT = 20, 40  # of each task; words of a thought
SPLITS = ("R", "K-dev")


def deed(thought: str) -> str:
    """Its last sentence: what is to be done."""
    return thought.strip().rstrip(".").rpartition(". ")[2]


def along(vla: VLA, protocol: Protocol, episodes: int = EPISODES) -> list[dict[str, Any]]:
    """One row a query: {"key", "task", "step", "todo" (the first word of the right deed), "question", "expected",
    "said", "right", "deed" (whether the last sentence is)}."""
    words, rows = StateWords(SPEC.part("gripper", "state").start, (EMPTY, SHUT), HAND), []
    tasks = [t for t in protocol.tasks if t.partition("/")[2] in SPLITS]
    camera = vla.see[0]
    with DeskWorld(rows=1) as world:
        for key in keys(protocol.only(*tasks, episodes=episodes)):
            world.reset([key], [0])
            for step in range(protocol.steps):
                if step % protocol.replan == 0:
                    obs, _ = words.act(world.observe([0]), {})
                    asked, right = obs.text["instruction"][0], world.thoughts(0)["told"]
                    said = vla.answer(np.ascontiguousarray(obs.images[camera][:, -1]), [[asked]], LIMIT)[0][0].strip()
                    rows.append({
                        "key": f"{key}/{step}", "task": key.task, "step": step, "todo": deed(right).split()[0],
                        "question": asked, "expected": right, "said": said, "right": said == right,
                        "deed": deed(said) == deed(right),
                    })  # fmt: skip
                if world.step(world.expert([0]), [0]).done[0]:
                    break
    return rows


def along_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Shares right by task and by what is to be done. Queries of an episode are not independent: intervals are too
    narrow, and stand here for a first look."""
    table = Table("task", "to do", "queries", "all of it", "the deed", title="along an expert's way")
    for task, todo in dict.fromkeys((r["task"], r["todo"]) for r in rows):
        some = [r for r in rows if (r["task"], r["todo"]) == (task, todo)]
        shares = (wilson(sum(r[what] for r in some), len(some)) for what in ("right", "deed"))
        table.add_row(task, todo, str(len(some)), *(f"{w.value:.2f} ({w.low:.2f}..{w.high:.2f})" for w in shares))
    return table


def main(checkpoint: Path, episodes: int = EPISODES) -> None:
    """Both families; rows go beside the checkpoint."""
    torch.set_num_threads(1)
    vla = load_vla(checkpoint).eval()
    rows = [row for protocol in (MATHS, PLACING) for row in along(vla, protocol, episodes)]
    write_rows(checkpoint.parent / "along.jsonl", rows)
    Console().print(along_table(rows))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *(int(n) for n in sys.argv[2:]))
