"""Records of the catalogue: how many methods, and how many pairs of parts, are built, learn a step and act.

mindhand bench catalogue        from a clean checkout
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch

import mindhand.core
import mindhand.methods
import mindhand.model
import mindhand.train
from mindhand.core.record import Record, write_record

from .pairs import Tried, results, rows, tried

HERE = Path(__file__).parent
PACKAGES = (mindhand.core, mindhand.methods, mindhand.model, mindhand.train)
SOURCES = (*PACKAGES, *(HERE / f"{name}.py" for name in ("bench_catalogue", "covering", "pairs", "tiny")))


def publish(folder: Path | None = None, found: Iterable[Tried] | None = None) -> list[Record]:
    """Try every row of the covering array and write two records, whose n is the number of pairs and of methods. found:
    what came of the rows, where they were tried already. Expected: all of them work."""
    if found is None:
        torch.set_num_threads(1)
        found = map(tried, rows()[0])
    out = []
    for name, lines in zip(("pairs_tested", "methods"), results(found)):
        out.append(
            write_record(
                f"catalogue/{name}/works",
                rows=lines,
                field="works",
                kind="rate",
                unit="1",
                chance=None,
                sources=SOURCES,
                command="mindhand bench catalogue",
                folder=folder,
            )
        )
    return out
