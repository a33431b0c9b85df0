"""Gates and the scorecard of a VLM, a process an exam, several at a time; what is finished is kept."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from mindhand.core import provenance
from mindhand.core.checkpoint import load_checkpoint
from mindhand.core.progress import progress
from mindhand.data.files import read_rows, write_rows
from mindhand.data.synthetic.gates import BARS, take_gate
from mindhand.data.synthetic.toy_picture import tabletop
from mindhand.evaluate.scorecard import PARTS, VLAMind, take
from mindhand.model.store import load_vla
from mindhand.train.ranks import end_with_parent

Rows = list[dict[str, Any]]
DECIDING = (
    "mindhand.core",
    "mindhand.data.synthetic",
    "mindhand.evaluate.scorecard",
    "mindhand.model",
    "mindhand.worlds",
)  # what an answer follows from, and the item


def _take(checkpoint: Path, kind: str, name: str, count: int) -> Rows:
    torch.set_num_threads(1)
    vla = load_vla(checkpoint).eval()
    if kind == "part":
        return take(VLAMind(vla), name, count)
    return take_gate(vla.answer, name, count, tabletop)


def _exams(
    checkpoint: Path, kind: str, names: Sequence[str], count: int, folder: Path, workers: int, console: Console | None
) -> dict[str, Rows]:
    of = {"policy": load_checkpoint(checkpoint, None).fingerprint, "code": provenance.code_hash(DECIDING)}
    out: dict[str, Rows] = {}
    for name in names:
        file = folder / kind / f"{name}.jsonl"
        found = read_rows(file) if file.exists() else []
        if len(found) == count and of.items() <= found[0].items():
            out[name] = found
    left = [n for n in names if n not in out]
    with (
        ProcessPoolExecutor(workers, get_context("spawn"), end_with_parent) as pool,
        progress(console, f"{kind}s", len(names), len(out), "exams") as advance,
    ):
        jobs = {pool.submit(_take, checkpoint, kind, n, count): n for n in left}
        for job in as_completed(jobs):
            rows = [{**row, **of} for row in job.result()]
            write_rows(folder / kind / f"{jobs[job]}.jsonl", rows)
            out[jobs[job]] = rows
            advance(len(out))
    return {n: out[n] for n in names}


def gates(
    checkpoint: Path, count: int, folder: Path, *, workers: int = 2, console: Console | None = None
) -> dict[str, Rows]:
    """`count` items of every gate, answered by a checkpoint: rows by gate, one an item. Kept in `folder`, a file a
    gate, for these weights, this code and so many items."""
    return _exams(checkpoint, "gate", list(BARS), count, folder, workers, console)


def scorecard(
    checkpoint: Path, count: int, folder: Path, *, workers: int = 2, console: Console | None = None
) -> dict[str, Rows]:
    """The same of every part of the scorecard."""
    return _exams(checkpoint, "part", list(PARTS), count, folder, workers, console)
