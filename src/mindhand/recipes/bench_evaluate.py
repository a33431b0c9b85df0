"""Records of what evaluations promise: a comparison that may stop at any pair errs as rarely as it says, and rows do
not depend on who computed them.

    mindhand bench evaluate                                        from a clean checkout
    python -m mindhand.recipes.bench_evaluate CHECKPOINT [FOLDER]  whether a policy's success hangs on the batch size
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from mindhand.core.keys import Keys
from mindhand.core.record import Record, write_record
from mindhand.core.sequential import LEVEL, simulate, simulated_pairs
from mindhand.evaluate.run import DECIDING

from .bench_desk import Row
from .determinism import batch_sizes, batch_success, worker_determinism

HOME = Path("runs/batch-sizes")  # what was evaluated, by the checkpoint's fingerprint
COMPARISONS, PAIRS = 20_000, 1000
SOURCES = ("mindhand.core.sequential", "mindhand.core.keys", Path(__file__))
RUNNING = (*DECIDING, "mindhand.recipes.determinism", Path(__file__))


def false_positives(comparisons: int = COMPARISONS, pairs: int = PAIRS) -> list[Row]:
    """Two equal policies (each solves half, scene by scene independently), judged after every pair.

    Expected of 20,000: 3.4 % rejected (95 % interval 3.1 to 3.6); at most 5 % however many pairs, rates and
    correlation.
    """
    return simulate(comparisons, 0.5, 0.5, pairs=pairs)


def repeated_mcnemar(comparisons: int = COMPARISONS, pairs: int = PAIRS) -> list[Row]:
    """The control: the same with the exact test of McNemar, made for one look, after every pair. Expected: 35 %."""
    most = np.full(pairs + 1, -1)  # wins of the loser, by discordant pairs, with which it rejects; -1 never
    row = np.ones(1)
    for m in range(1, pairs + 1):
        row = (np.append(row, 0) + np.append(0, row)) / 2
        most[m] = (2 * np.cumsum(row) <= LEVEL).sum() - 1
    keys, out = Keys.seeded(comparisons, "repeated McNemar"), []
    for begin in range(0, comparisons, 2000):  # so that memory stays small
        both = simulated_pairs(keys[begin : begin + 2000], 0.5, 0.5, 0.0, pairs)
        a, b = (x.cumsum(1, dtype=np.int32) for x in both)
        found = (np.minimum(a, b) <= most[a + b]).any(1)
        out += [{"key": f"comparison {begin + i}", "rejected": bool(x)} for i, x in enumerate(found)]
    return out


def pairs_until_decided(comparisons: int = COMPARISONS, pairs: int = PAIRS) -> list[Row]:
    """Two policies that solve 60 % and 40 %, scene by scene independently.

    Expected: 113 pairs on average, and none undecided after 1,000. A test of fixed size needs 105 for a power of
    80 %, 138 for 90 % and 168 for 95 % (`required`) if the 20 points are known beforehand; planned for 10 points it
    takes 405.
    """
    return simulate(comparisons, 0.6, 0.4, pairs=pairs)


def publish(folder: Path | None = None, comparisons: int = COMPARISONS, pairs: int = PAIRS) -> list[Record]:
    """Simulate, run and write the records (under results/, or as drafts under `folder`)."""
    return [*publish_sequential(folder, comparisons, pairs), *publish_determinism(folder)]


def _write(folder: Path | None, sources: Sequence[str | Path], name: str, rows: list[Row], field: str, kind: str,
           unit: str) -> Record:  # fmt: skip
    return write_record(
        f"evaluate/{name}", rows=rows, field=field, kind=kind, unit=unit, chance=None, sources=sources,
        command="mindhand bench evaluate", folder=folder,
    )  # fmt: skip


def publish_determinism(folder: Path | None = None) -> list[Record]:
    """Shares of episodes whose rows are the same, byte for byte with other workers, in what happened with other batch
    sizes."""
    return [
        _write(folder, RUNNING, "worker_determinism/same", worker_determinism(), "same", "rate", "1"),
        _write(folder, RUNNING, "batch_sizes/same", batch_sizes(), "same", "rate", "1"),
    ]


def publish_batch_success(checkpoint: Path, folder: Path | None = None, home: Path = HOME) -> Record:
    """By how much a checkpoint succeeds more often in batches of 16 rows than in batches of 8, episode by episode."""
    rows = batch_success(checkpoint, home)
    return _write(folder, RUNNING, "batch_sizes/success", rows, "success", "difference", "1")


def publish_sequential(folder: Path | None = None, comparisons: int = COMPARISONS, pairs: int = PAIRS) -> list[Record]:
    """The sequential test's errors, those of a control, and how long it takes."""
    write = partial(_write, folder, SOURCES)

    what, how = "sequential_false_positive_rate", (comparisons, pairs)
    return [
        write(f"{what}/any_look", false_positives(*how), "rejected", "rate", "1"),
        write(f"{what}/repeated_mcnemar", repeated_mcnemar(*how), "rejected", "rate", "1"),
        write("sequential_pairs/20_points", pairs_until_decided(*how), "pairs", "mean", "pairs"),
    ]


if __name__ == "__main__":
    print(publish_batch_success(Path(sys.argv[1]), *map(Path, sys.argv[2:3])).show())
