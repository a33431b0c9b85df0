"""`mindhand demo`: the policy that comes with the package reads boards, places tiles and toys, and is filmed.

Sums of class K-dev, which no demonstration has shown, in print and in scanned digits that no training has shown; toys
and relations of class K-dev; or the equations that somebody asks for. `--from-scratch` is another story: from nothing
to such a policy (`from_scratch`).
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from mindhand.core.checkpoint import load_checkpoint
from mindhand.core.errors import Refusal
from mindhand.core.record import Record, write_record
from mindhand.data.files import read_rows
from mindhand.evaluate.protocol import MATHS, Protocol
from mindhand.evaluate.report import write_report
from mindhand.model.shipped import POLICY, shipped
from mindhand.worlds import placing, scene
from mindhand.worlds.asked import ASKED, SCANNED, asked_equation

from .chatvla2 import address
from .from_scratch import from_scratch as learn
from .rollouts import rows_of
from .skeleton import PACKAGES

SHOWN = (f"{scene.FAMILY}/K-dev", f"{scene.FAMILY}/K-dev/{SCANNED}", f"{placing.FAMILY}/K-dev")
EPISODES = 4  # of each task; of an equation that is asked for, 1


def protocol_of(equation: Sequence[str], quick: bool, seed: int) -> Protocol:
    """What is shown. equation: sums that are asked for ("12+7"), instead of `SHOWN`; quick: one episode of each task.
    BadData for a sum that the tray or the board has no room for."""
    asked = [asked_equation(text) for text in equation]
    tasks = tuple(dict.fromkeys(f"{scene.FAMILY}/{ASKED}/{e.text}" for e in asked)) or SHOWN
    return replace(
        MATHS, name="demo", version=1, tasks=tasks, episodes=1 if equation or quick else EPISODES, seed=seed,
        success="every digit of the answer, or the toy, lies in its place, and nothing else has been put anywhere",
    )  # fmt: skip


def show(run: Path, checkpoint: Path, protocol: Protocol, console: Console) -> Path:
    """Act, and write a report with a film of every episode; what is there already is not run again."""
    policy = load_checkpoint(checkpoint, None)
    folder = run / address(protocol.to_json(), policy.fingerprint)
    rows = rows_of(checkpoint, protocol, folder, films=protocol.episodes, console=console)
    console.print(_said(rows))
    title = "mindhand demo: a robot that does what it reads"
    return write_report(folder, rows, rate_hz=policy.spec.rate, title=title)


def _said(rows: Sequence[dict[str, Any]]) -> Table:
    """An episode a line: what was asked, what it thought first, whether it was done."""
    table = Table("task", "asked", "thought first", "control steps", "done", title="what it did")
    for row in rows:
        thought = row["thoughts"][0][1] if row["thoughts"] else "-"
        done = "[green]yes[/]" if row["success"] else "[red]no[/]"
        table.add_row(row["task"].partition("/")[2], row["instruction"], thought, str(row["steps"]), done)
    return table


def demo(run: Path, equation: Sequence[str], from_scratch: bool, minutes: float | None, quick: bool, seed: int) -> int:
    """The verb. Refusal of an equation for a policy that is yet to learn, and of minutes for one that has learned."""
    console = Console()
    if from_scratch:
        if equation:
            raise Refusal("--equation with --from-scratch", "one of them", "ask the policy that is shipped")
        return learn(run, minutes, seed, quick)
    if minutes is not None:
        raise Refusal("--minutes without --from-scratch", "both", "mindhand demo --from-scratch --minutes 15")
    torch.set_num_threads(1)
    begin = time.monotonic()
    page = show(run, shipped(POLICY), protocol_of(equation, quick, seed), console)
    # In one line, whatever the console's width: a path that is broken cannot be opened.
    console.print(f"\n{time.monotonic() - begin:.0f} s in all. The report: {page.resolve()}", soft_wrap=True)
    return 0


def publish(run: Path = Path("runs/proofs/demo"), folder: str | None = None) -> list[Record]:
    """The record of how long it takes, from a run of its own in `run`, which is cleared. folder: drafts of records."""
    shutil.rmtree(run, ignore_errors=True)
    begin = time.monotonic()
    demo(run, (), False, None, False, 0)
    seconds = round(time.monotonic() - begin, 1)
    (file,) = run.glob("*/rows.jsonl")
    rows = read_rows(file)
    made = {"key": "demo", "seconds": seconds, "episodes": len(rows), "done": sum(r["success"] for r in rows)}
    how = {"sources": (*PACKAGES, Path(__file__).parent), "command": "mindhand bench demo", "folder": folder}
    return [
        write_record("demo/shipped/seconds", rows=[made], field="seconds", kind="mean", unit="s", chance=None, **how)
    ]
