"""Records of nano, computed from a pretraining in runs/nano: gates, scorecard, where it points, its size, what it took.

mindhand pretrain nano --run runs/nano && mindhand bench nano        from a clean checkout
"""

from __future__ import annotations

import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from rich.console import Console

import mindhand.data.synthetic
import mindhand.model
import mindhand.train
import mindhand.worlds
from mindhand.core.checkpoint import load_checkpoint
from mindhand.core.errors import BadData
from mindhand.core.keys import Keys
from mindhand.core.record import Record, write_record
from mindhand.data.files import read_json, read_rows
from mindhand.data.synthetic.compose import compose
from mindhand.data.synthetic.toy_corpus import ToyCorpus
from mindhand.data.synthetic.toy_picture import tabletop
from mindhand.model.store import load_vla
from mindhand.worlds.scene import sample_maths

from .bench_desk import Row, per_second
from .exams import gates, scorecard
from .spots import spot_rows

ITEMS, SHORT = 1000, 100  # of every gate and part; of every part, where the scorecard is timed
PACKAGES = (mindhand.data.synthetic, mindhand.model, mindhand.train, mindhand.worlds)


def composed_desk(k: int) -> None:
    """One composed picture of a desk with tiles, sampled too."""
    keys = Keys.seeded(1, "bench-composed", k)
    compose(sample_maths(keys, "K-dev"), keys)


def rendered_toys(k: int) -> None:
    """One rendered picture of a table of toys, sampled too."""
    keys = Keys.seeded(1, "bench-toys", k)
    tabletop(ToyCorpus(0, tabletop).table(0, k), keys)


def core_seconds(run: Path) -> float:
    """What the pretraining in `run` took: processor seconds of the first of its ranks, whose shares are alike, times
    the ranks; but for the gates on the way, which the first takes alone."""
    plan, total = read_json(run / "plan.json", "plan"), 0.0
    for file in sorted(run.rglob("metrics.jsonl")):
        lines = read_rows(file)
        taken = {r["step"]: r["gates_cpu"] for r in lines if "gates" in r}  # once a step, also where it was resumed
        trained = [r["cpu"] for r in lines if "cpu" in r]
        total += plan["ranks"] * trained[-1] - (plan["ranks"] - 1) * sum(taken.values()) if trained else 0.0
    return total


def publish(
    run: Path = Path("runs/nano"), folder: Path | None = None, items: int = ITEMS, windows: int = 12
) -> list[Record]:
    """Examine the checkpoint in `run` and write the records (under results/, or as drafts under `folder`)."""
    if not (run / "checkpoint" / "manifest.json").exists():
        raise BadData(f"no finished pretraining in {run}", "its checkpoint", f"mindhand pretrain --run {run}")
    torch.set_num_threads(1)
    console = Console()
    vla = load_vla(run / "checkpoint").eval()
    sources = (
        *PACKAGES,
        Path(__file__),
        "mindhand.recipes.nano",
        "mindhand.recipes.pretrain",
        "mindhand.recipes.spots",
    )
    records = []

    def write(name: str, rows: list[Row], field: str, kind: str, unit: str, chance: str | None = None) -> None:
        records.append(
            write_record(
                f"nano/{name}",
                rows=rows,
                field=field,
                kind=kind,
                unit=unit,
                chance=chance,
                sources=sources,
                command="mindhand bench nano",
                folder=folder,
            )
        )

    home = run / f"exams-{items}"
    for gate, rows in gates(run / "checkpoint", items, home, console=console).items():
        write(f"gate/{gate}", rows, "right", "rate", "1", "chance")
    for part, rows in scorecard(run / "checkpoint", items, home, console=console).items():
        write(f"scorecard/{part}", rows, "right", "rate", "1")
        write(f"scorecard/{part}_likely", rows, "likely", "rate", "1", "chance")
    spots = spot_rows(run / "checkpoint", items)
    for known in sorted({r["known"] for r in spots}):
        write(f"spots/{known.lower()}", [r for r in spots if r["known"] == known], "near", "rate", "1")
    with TemporaryDirectory() as short:  # as long as a grid's cell takes for it
        begin = time.monotonic()
        scorecard(run / "checkpoint", min(items, SHORT), Path(short), console=console)
        seconds = time.monotonic() - begin
    write("scorecard/seconds", [{"key": f"{SHORT} items a part", "seconds": seconds}], "seconds", "mean", "s")
    size = sum(p.numel() for p in vla.backbone.parameters())
    of = {"key": "nano", "policy": load_checkpoint(run / "checkpoint", None).fingerprint}
    write("model/parameters", [{**of, "parameters": size}], "parameters", "mean", "1")
    write("pretrain/core_seconds", [{**of, "seconds": core_seconds(run)}], "seconds", "mean", "core-s")
    for name, draw in (("composed_desk", composed_desk), ("rendered_toys", rendered_toys)):
        write(
            f"images_per_core_second/{name}",
            per_second(draw, windows, min(200, 10 * items)),
            "rate",
            "mean",
            "images/cpu-s",
        )
    return records
