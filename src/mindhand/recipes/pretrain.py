"""The verb `mindhand pretrain`: nano, from pictures and words, with its gates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from mindhand.core.intervals import Interval, wilson
from mindhand.core.progress import progress
from mindhand.data.files import write_rows
from mindhand.data.synthetic.gates import BARS, gate_items, take_gate
from mindhand.data.synthetic.toy_picture import tabletop
from mindhand.evaluate.gallery import Shown, write_gallery
from mindhand.evaluate.page import rate
from mindhand.model.vla import VLA

from .live import ITEMS as LIVE
from .nano import NanoPlan, pretrain_nano

PICTURES_A_MINUTE = 1400  # about what two cores train on, the pages before them included
WHOLE = replace(NanoPlan(), brief=False, pictures=384_000, pages=256_000, beside=16, rate=0.006, think=0.35, decay=0.7)
ITEMS, SHOWN = 200, 8  # of every gate, and in the gallery; a release is examined with a thousand


def pretrain(size: str, run: Path, minutes: float | None, seed: int) -> int:
    """Pretrain a model of this size in `run` (resuming) and take the gates. minutes: the length of the training, not a
    deadline; about that of nano, and of others what as many pictures take."""
    torch.set_num_threads(1)
    console = Console()
    plan = replace(WHOLE, size=size, seed=seed)
    if minutes is not None:
        pictures = max(plan.rows, round(minutes * PICTURES_A_MINUTE))
        plan = replace(plan, pictures=pictures, pages=plan.pages * pictures // plan.pictures)
    vla = pretrain_nano(run, plan, console=console, live=LIVE)
    rows = gate_rows(vla, ITEMS, console)
    write_rows(run / "gates.jsonl", rows)
    console.print(gate_table(rows))
    console.print(f"gallery: {gallery(vla, run / 'gallery.html', rows)}")
    console.print(f"checkpoint: {run / 'checkpoint'}")
    return 0


def gate_rows(vla: VLA, count: int, console: Console | None = None) -> list[dict[str, Any]]:
    """`count` items of every gate, answered: one row an item."""
    was, rows = vla.training, []
    vla.eval()
    with progress(console, "gates", len(BARS), 0, "gates") as advance:
        for done, gate in enumerate(BARS, 1):
            rows += take_gate(vla.answer, gate, count, tabletop)
            advance(done)
    vla.train(was)
    return rows


def _by_gate(rows: Sequence[dict[str, Any]]) -> dict[str, tuple[list[dict[str, Any]], Interval]]:
    """The rows of every gate that has some, and the share right."""
    out = {}
    for gate in BARS:
        if got := [r for r in rows if r["gate"] == gate]:
            out[gate] = got, wilson(sum(r["right"] for r in got), len(got))
    return out


def gallery(vla: VLA, file: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """A page with the first items of every gate, what was answered, and the rates of `rows` above."""
    shown, table = [], []
    for gate, (got, found) in _by_gate(rows).items():
        first = got[:SHOWN]
        shown += [
            Shown(gate, item.image, item.question, item.answer, row["said"], row["right"])
            for item, row in zip(gate_items(gate, len(first), tabletop), first)
        ]
        bar = BARS[gate]
        table.append([gate.replace("_", " "), rate(found, got[0]["chance"]), "-" if bar is None else f"{bar:.0%}"])
    size = sum(p.numel() for p in vla.backbone.parameters()) / 1e6
    lead = f"A mind of {size:.2f} million parameters, asked about pictures that it has never seen."
    return write_gallery(file, "What nano says", lead, shown, table)


def gate_table(rows: Sequence[dict[str, Any]]) -> Table:
    """Share right by gate with its interval, chance and bar."""
    table = Table("gate", "right", "chance", "bar", "", title="what nano knows")
    for gate, (got, w) in _by_gate(rows).items():
        bar = BARS[gate]
        passed = "" if bar is None else "passed" if w.value >= bar else "not yet"
        shown = "-" if bar is None else f"{bar:.2f}"
        table.add_row(gate, f"{w.value:.3f} ({w.low:.3f}..{w.high:.3f})", f"{got[0]['chance']:.2f}", shown, passed)
    return table
