"""An evaluation that stops as soon as it is surely better or worse than another one, or surely alike."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from mindhand.core.errors import BadData
from mindhand.core.sequential import Verdict, paired
from mindhand.evaluate.compare import MARGIN, read_run
from mindhand.evaluate.page import points
from mindhand.evaluate.protocol import Protocol, keys
from mindhand.evaluate.report import label_of
from mindhand.evaluate.run import code

from .rollouts import RunRows, rows_of


@dataclass(frozen=True)
class Raced:
    """One task: the verdict on success ("A" is the policy that runs, "B" the one that ran), after so many of `of`
    episodes."""

    task: str
    verdict: Verdict
    of: int


def race(
    checkpoint: Path, protocol: Protocol, folder: Path, other: Path, *, workers: int = 2, run_rows: RunRows = rows_of
) -> list[Raced]:
    """Run each task of the protocol until success is surely higher or lower than in the finished evaluation `other`, or
    surely within `MARGIN` of it; at most all episodes. A false word is said in one of twenty tasks at most, however
    often one looks (`core.sequential`).

    Looks are a batch for every worker apart. The folder can be gone on with: the same evaluation without `other` runs
    what was left out. BadData where `other` is of another protocol or other code.
    """
    rival = read_run(other)
    for what, mine, theirs in (
        ("protocol", protocol.fingerprint(), rival.protocol.fingerprint()),
        ("code", code(), rival.about["code"]),
    ):
        if mine != theirs:
            raise BadData(f"{other} is of another {what} ({theirs})", f"{mine}", "evaluate that policy again")
    success = {row["key"]: row["success"] for row in rival.rows}
    step, out = protocol.rows * workers, []
    for task in protocol.tasks:
        mine = [k for k in keys(protocol) if k.task == task]
        for seen in range(step, len(mine) + step, step):
            rows = run_rows(checkpoint, protocol, folder, workers=workers, films=0, some=mine[:seen])
            a = [row["success"] for row in rows]
            verdict = paired(a, [success[row["key"]] for row in rows], margin=MARGIN, every=step)
            if verdict.word != "undecided":
                break
        out.append(Raced(task, verdict, len(mine)))
    return out


def race_table(raced: list[Raced], other: Path) -> Table:
    """For the terminal: what became certain, after how many episodes, and the difference by then."""
    table = Table("", "verdict", "episodes", "difference, points", title=f"success, against {other}")
    words = {"A": "better", "B": "worse", "alike": f"alike within {MARGIN:.0%}", "undecided": "undecided"}
    for r in raced:
        seen = f"{r.verdict.n} of {r.of}"
        table.add_row(label_of(r.task), words[r.verdict.word], seen, points(r.verdict.interval))
    return table
