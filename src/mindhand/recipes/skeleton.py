"""Records of a demo from scratch: what it measured, computed from its rows and written under results/.

    mindhand bench skeleton        after a demo in runs/demo, from a clean checkout

One training of each policy: the interval is over episodes and says nothing of other trainings.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mindhand.data
import mindhand.evaluate
import mindhand.model
import mindhand.serve
import mindhand.train
import mindhand.worlds
from mindhand.core.errors import BadData
from mindhand.core.record import Record, write_record
from mindhand.data.files import read_rows
from mindhand.evaluate.scores import scored

KEPT = (
    "key",
    "task",
    "success",
    "success_chance",
    "choice",
    "choice_chance",
    "rac",
    "ocr",
    "maths",
    "digits",
    "why",
    "steps",
)
SPLITS = {"R": "in_domain", "K-dev": "k_dev", "X": "x"}
COMMAND = "mindhand demo --from-scratch"
PACKAGES = (mindhand.data, mindhand.evaluate, mindhand.model, mindhand.serve, mindhand.train, mindhand.worlds)


def finished(run: Path) -> Path:
    """The newest finished demo below `run`."""
    done = [p.parent.parent for p in run.glob("*/reasoning/evaluation/report.html")]
    done = [p.parent for p in done]
    if not done:
        raise BadData(f"no finished demo from scratch in {run}", "a run folder of it", COMMAND)
    return max(done, key=lambda p: (p / "reasoning/evaluation/report.html").stat().st_mtime)


def publish(run: Path = Path("runs/demo"), folder: Path | None = None) -> list[Record]:
    """Write the records of the demo in `run` (under results/, or as drafts under `folder`)."""
    at = finished(run)
    sources = (*PACKAGES, Path(__file__).parent)
    records = []

    def write(name: str, rows: list[dict[str, Any]], field: str, **how: Any) -> None:
        records.append(
            write_record(name, rows=rows, field=field, sources=sources, command=COMMAND, folder=folder, **how)
        )

    for arm, suffix in (("reasoning", ""), ("silent", "_without_reasoning"), ("blind", "_blind")):
        rows = scored(read_rows(at / arm / "evaluation" / "rows.jsonl"))
        rows = [{k: r[k] for k in KEPT if k in r} for r in rows]
        for split, name in SPLITS.items():
            some = [r for r in rows if r["task"].split("/")[1] == split]
            for field in ("success", "choice") if some else ():
                write(f"skeleton/{field}/{name}{suffix}", some, field, kind="rate", unit="1", chance=f"{field}_chance")
            for field in ("ocr", "maths") if some and arm == "reasoning" else ():
                write(f"skeleton/{field}/{name}", some, field, kind="mean", unit="points", chance=None)
    seconds = json.loads((at / "seconds.json").read_text())
    rows = [{"key": "demo", "seconds": sum(seconds.values()), **seconds}]
    write("skeleton/demo/seconds", rows, "seconds", kind="mean", unit="s", chance=None)
    return records
