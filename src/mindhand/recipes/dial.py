"""What pretraining buys: nano's gates and loss against its size, its pictures and its time, without each part, and from
pictures other than the desk's (gates are always taken on the desk).

python -m mindhand.recipes.dial                 trains what is missing in runs/dial (hours, resumable), then publishes
python -m mindhand.recipes.dial nano-4000       one cell, or several
python -m mindhand.recipes.dial page            draws docs/dial.md and its charts from the records anew
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from rich.console import Console

from mindhand.core import provenance, record
from mindhand.core.errors import BadData, Refusal
from mindhand.core.files import write_atomic
from mindhand.core.record import Record, read_records, write_record
from mindhand.data.files import read_rows, write_rows
from mindhand.data.synthetic.gates import BARS
from mindhand.evaluate.plot import Panel, Series, write_plot

from .bench_nano import PACKAGES, core_seconds
from .live import ITEMS as LIVE
from .nano import PARTS, NanoPlan, pretrain_nano
from .pretrain import WHOLE, gate_rows

HOME = Path("runs/dial")
PAGE, PLOT, PARTED = "docs/dial.md", "docs/dial.svg", "docs/dial-parts.svg"  # in the checkout
ITEMS = 200  # of every gate
SIZES = {"test": (4_000, 12_000, 36_000), "nano": (4_000, 12_000, 36_000), "small": (4_000, 12_000, 36_000)}
ABLATED = 12_000  # pictures of a pretraining without one of its parts


def _plan(size: str, pictures: int, without: tuple[str, ...] = ()) -> NanoPlan:
    pages = WHOLE.pages * pictures // WHOLE.pictures
    return replace(WHOLE, size=size, pictures=pictures, pages=pages, without=without)


BRIDGE = {"bridge-flat": "flat", "bridge-other-fonts": "other fonts"}  # the desk's own is nano-36000
CELLS = {f"{size}-{n}": _plan(size, n) for size, counts in SIZES.items() for n in counts} | {
    f"without-{part}": _plan("nano", ABLATED, (part,)) for part in PARTS
} | {name: replace(_plan("nano", 36_000), seen=seen) for name, seen in BRIDGE.items()}  # fmt: skip
CURVES = {"all parts": f"nano-{ABLATED}", **{f"without {part}": f"without-{part}" for part in PARTS}}
POINTS = 20  # of a curve


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


def curves(run: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """By step, of a finished cell: the text loss ("loss", of some `POINTS` stretches the mean) and the share right of
    the gated items that were taken on the way ("share")."""
    lines = read_rows(run / "metrics.jsonl")
    by_step = {r["step"]: r["text"] for r in lines if "text" in r}  # what was done again after a stop, once
    steps, losses = sorted(by_step), []
    many = -(-len(steps) // POINTS)
    for some in (steps[k : k + many] for k in range(0, len(steps), many or 1)):
        mean = sum(by_step[s] for s in some) / len(some)
        losses.append({"key": f"step {some[-1]}", "step": some[-1], "loss": mean})
    live = {r["step"]: [x for g, x in r["gates"].items() if BARS[g] is not None] for r in lines if "gates" in r}
    shares = [{"key": f"step {s}", "step": s, "share": sum(x) / len(x)} for s, x in sorted(live.items())]
    return losses, shares


def publish(home: Path = HOME, folder: Path | None = None) -> list[Record]:
    """Records dial/<cell>/share, loss and core_seconds of all finished cells, and loss_on_the_way and gates_on_the_way,
    whose rows are the curves. The shares are of all gated items alike."""
    out = []
    for name in CELLS:
        if not (home / name / "gates.jsonl").exists():
            continue
        rows = measured(home / name)
        losses, shares = curves(home / name)
        gated = [r for r in rows if "right" in r and BARS[r["gate"]] is not None]
        for what, some, field, kind, unit in (
            ("share", gated, "right", "rate", "1"),
            ("loss", [r for r in rows if "loss" in r], "loss", "mean", "nats"),
            ("core_seconds", [r for r in rows if "seconds" in r], "seconds", "mean", "core-s"),
            ("loss_on_the_way", losses, "loss", "mean", "nats"),
            ("gates_on_the_way", shares, "share", "mean", "1"),
        ):
            if not some:  # a training of fewer steps than tenths took no gates on its way
                continue
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


def _drawn(panels: Sequence[Panel]) -> str:
    with TemporaryDirectory() as folder:
        return write_plot(Path(folder) / "chart.svg", panels).read_text()


def plot(records: Mapping[str, Record]) -> str | None:
    """Share and loss against time, a line a size, as SVG; None without a record of a cell of any size."""

    def lines(what: str) -> tuple[Series, ...]:
        out = []
        for size, counts in SIZES.items():
            here = [n for n in counts if f"dial/{size}-{n}/{what}" in records]
            cells = [f"dial/{size}-{n}" for n in here]
            points = tuple((records[f"{c}/core_seconds"].value, records[f"{c}/{what}"].value) for c in cells)
            out.append(Series(size, points, tuple(f"{n // 1000}k pictures" for n in here)))
        return tuple(s for s in out if s.points)

    if not lines("share"):
        return None
    return _drawn(
        [
            Panel("gates", "seconds of one core", "share right", lines("share"), 0.0, 1.0),
            Panel("loss", "seconds of one core", "nats a token", lines("loss"), 0.0),
        ]
    )


def plot_parts(records: Mapping[str, Record], rows_of: Callable[[Record], list[dict[str, Any]]]) -> str | None:
    """Gates and loss against steps, with all parts and without each, as SVG; None where no part was left out, or
    nothing was taken on the way. rows_of: the rows of a record."""

    def lines(what: str, field: str) -> tuple[Series, ...]:
        known = {name: records.get(f"dial/{cell}/{what}") for name, cell in CURVES.items()}
        return tuple(Series(n, tuple((r["step"], r[field]) for r in rows_of(x))) for n, x in known.items() if x)

    shares, losses = lines("gates_on_the_way", "share"), lines("loss_on_the_way", "loss")
    if not shares or not losses or not any(f"dial/without-{part}/share" in records for part in PARTS):
        return None
    return _drawn(
        [
            Panel("gates on the way", "steps", "share right", shares, 0.0, 1.0),
            Panel("loss on the way", "steps", "nats a token", losses, 0.0),
        ]
    )


WORDS = """<!-- Made by `python -m mindhand.recipes.dial page` from records. -->

# What pretraining buys

nano's gates and loss against its size, its pictures and the time of one processor core; nano without each of its parts
(dense targets, the pointer, sums in words alone, Muon) for as many pictures; and, as a bridge to other eyes, pretrained
on flat pictures or without the fonts of robots' boards. Gates are taken on the rendered desk by all alike; the
loss is of what each was taught, so without sums in words it is of questions about pictures alone, which are harder. One
training each.
"""
NOTHING = "\nNo cell has been trained yet: `python -m mindhand.recipes.dial` trains them.\n"


def made(
    records: Mapping[str, Record], rows_of: Callable[[Record], list[dict[str, Any]]] = record.read_rows
) -> dict[str, str]:
    """The page and its charts, {path in the checkout: text}; without records of the dial a page that says so, alone."""
    cells = [name for name in CELLS if f"dial/{name}/share" in records]
    out = [WORDS] if cells else [WORDS, NOTHING]
    charts = {PLOT: plot(records), PARTED: plot_parts(records, rows_of)}
    told = {PLOT: "Gates and loss against time, a line a size", PARTED: "Gates and loss against steps, without parts"}
    out += [f"\n![{told[path]}]({Path(path).name})\n" for path, drawn in charts.items() if drawn]
    if cells:
        out.append("\n| pretraining | gated items right | loss, nats a token | one core |\n|---|---|---|---|\n")
        for cell in cells:
            said = [records[f"dial/{cell}/{what}"].show() for what in ("share", "loss", "core_seconds")]
            out.append(f"| {' | '.join([cell, *said])} |\n")
    return {PAGE: "".join(out), **{path: drawn for path, drawn in charts.items() if drawn}}


def stale(found: Mapping[str, str], root: Path) -> list[str]:
    """Paths in a checkout whose page or chart differs from the one made, is missing, or should not be there."""
    there = {path: (root / path).read_text() for path in (PAGE, PLOT, PARTED) if (root / path).exists()}
    return sorted(path for path in there.keys() | found.keys() if there.get(path) != found.get(path))


def draw(root: Path | None = None) -> list[str]:
    """Write what is stale of the page and its charts in a checkout (this code's unless given); returns the paths."""
    root = root or provenance.checkout(__file__)
    if root is None:
        raise BadData("no checkout, so no docs/", "mindhand's source", "clone it, and run it there")
    found = made(read_records(root / "results"), lambda r: record.read_rows(r, root / "results"))
    odd = stale(found, root)
    for path in odd:
        if path in found:
            write_atomic(root / path, found[path])
        else:
            (root / path).unlink()
    return odd


def main(names: Sequence[str]) -> None:
    """Train the named cells, all of them by default; then publish and draw what there is. "page": only draw."""
    torch.set_num_threads(1)
    console = Console()
    if [*names] != ["page"]:
        for name in names or CELLS:
            console.print(f"cell {name}")
            train_cell(name, console=console)
        for one in publish():
            console.print(f"  {one.name}: {one.show()}")
    console.print(f"drawn: {', '.join(draw()) or 'nothing new'}")


if __name__ == "__main__":
    main(sys.argv[1:])
