"""What pretraining buys: nano's gates and loss against its size, its pictures and its time, without each part, and from
pictures other than the desk's (gates are always taken on the desk).

python -m mindhand.recipes.dial                 trains what is missing in runs/dial (hours, resumable), then publishes
python -m mindhand.recipes.dial nano-4000       one cell, or several
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from mindhand.core.errors import Refusal
from mindhand.core.record import Record, read_records, write_record
from mindhand.data.files import read_rows, write_rows
from mindhand.data.synthetic.gates import BARS
from mindhand.evaluate.plot import Panel, Series, write_plot

from .bench_nano import PACKAGES, core_seconds
from .live import ITEMS as LIVE
from .nano import PARTS, NanoPlan, pretrain_nano
from .pretrain import WHOLE, gate_rows

HOME, PLOT = Path("runs/dial"), Path("docs/dial.svg")
ITEMS = 200  # of every gate
SIZES = {"test": (4_000, 12_000, 36_000), "nano": (4_000, 12_000, 36_000), "small": (4_000, 12_000)}
ABLATED = 12_000  # pictures of a pretraining without one of its parts


def _plan(size: str, pictures: int, without: tuple[str, ...] = ()) -> NanoPlan:
    pages = WHOLE.pages * pictures // WHOLE.pictures
    return replace(WHOLE, size=size, pictures=pictures, pages=pages, without=without)


BRIDGE = {"bridge-flat": "flat", "bridge-other-fonts": "other fonts"}  # the desk's own is nano-36000
CELLS = {f"{size}-{n}": _plan(size, n) for size, counts in SIZES.items() for n in counts} | {
    f"without-{part}": _plan("nano", ABLATED, (part,)) for part in PARTS
} | {name: replace(_plan("nano", 36_000), seen=seen) for name, seen in BRIDGE.items()}  # fmt: skip


def train_cell(
    name: str, home: Path = HOME, console: Console | None = None, items: int = ITEMS, live: int = LIVE
) -> None:
    """Pretrain one cell (or go on, or find it finished) and take its gates: `items` of each, `live` on the way."""
    if name not in CELLS:
        raise Refusal(f"no cell '{name}'", f"one of {tuple(CELLS)}", "correct it")
    vla = pretrain_nano(home / name, CELLS[name], console=console, live=live)
    if not (home / name / "gates.jsonl").exists():
        write_rows(home / name / "gates.jsonl", gate_rows(vla, items, console))


def measured(run: Path) -> list[dict[str, Any]]:
    """Rows of a finished cell: the items of its gates; as "loss" the text loss of its last steps, all of pictures and
    sums that it had not met before; and what it took."""
    lines = [r for r in read_rows(run / "metrics.jsonl") if "text" in r]
    loss = [{"key": f"step {r['step']}", "loss": r["text"]} for r in lines[-10:]]
    return [*read_rows(run / "gates.jsonl"), *loss, {"key": "cell", "seconds": core_seconds(run)}]


def publish(home: Path = HOME, folder: Path | None = None) -> list[Record]:
    """Records dial/<cell>/share, loss and core_seconds of all finished cells. The share is of all gated items alike."""
    out = []
    for name in CELLS:
        if not (home / name / "gates.jsonl").exists():
            continue
        rows = measured(home / name)
        for what, field, kind, unit in (
            ("share", "right", "rate", "1"),
            ("loss", "loss", "mean", "nats"),
            ("core_seconds", "seconds", "mean", "core-s"),
        ):
            some = [r for r in rows if field in r and (what != "share" or BARS[r["gate"]] is not None)]
            out.append(
                write_record(
                    f"dial/{name}/{what}",
                    rows=some,
                    field=field,
                    kind=kind,
                    unit=unit,
                    chance=None,
                    sources=(*PACKAGES, Path(__file__)),
                    command="python -m mindhand.recipes.dial",
                    folder=folder,
                )
            )
    return out


def plot(records: dict[str, Record], file: Path = PLOT) -> Path:
    """Share and loss against time, a line a size, and the ablations beside them."""

    def of(cell: str, what: str) -> tuple[float, float]:
        return records[f"dial/{cell}/core_seconds"].value, records[f"dial/{cell}/{what}"].value

    def lines(what: str) -> tuple[Series, ...]:
        out = []
        for size, counts in SIZES.items():
            here = [n for n in counts if f"dial/{size}-{n}/{what}" in records]
            points = tuple(of(f"{size}-{n}", what) for n in here)
            out.append(Series(size, points, tuple(f"{n // 1000}k pictures" for n in here)))
        for part in PARTS:
            if f"dial/without-{part}/{what}" in records:
                out.append(Series(f"nano without {part}", (of(f"without-{part}", what),)))
        return tuple(s for s in out if s.points)

    return write_plot(
        file,
        [
            Panel("gates", "seconds of one core", "share right", lines("share"), 0.0, 1.0),
            Panel("loss", "seconds of one core", "nats a token", lines("loss"), 0.0),
        ],
    )


def main(names: Sequence[str]) -> None:
    """Train the named cells, all of them by default; then publish and draw what there is."""
    torch.set_num_threads(1)
    console = Console()
    for name in names or CELLS:
        console.print(f"cell {name}")
        train_cell(name, console=console)
    for record in publish():
        console.print(f"  {record.name}: {record.show()}")
    console.print(f"plot: {plot(dict(read_records()))}")


if __name__ == "__main__":
    main(sys.argv[1:])
