"""The verb `mindhand bench`: what can be measured on this machine, into results/."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from mindhand.core.errors import Refusal
from mindhand.core.record import Record
from mindhand.model.shipped import shipped

from . import (
    bench_avoid,
    bench_catalogue,
    bench_desk,
    bench_evaluate,
    bench_nano,
    bench_others,
    bench_sampling,
    bench_sharded,
    bench_tune,
    checks,
    demo,
    grid_records,
    leaks,
    monitor,
    proofs,
    shield,
    skeleton,
)
from .prove import grid_of


def bench_grid() -> Sequence[Record]:
    """Of nano as it is shipped, at the grid's own plan."""
    return [*grid_records.publish(grid_of(shipped(), Path("runs/proofs")))]


def bench_proofs() -> Sequence[Record]:
    """Of nano as it is shipped."""
    return [*proofs.publish(shipped(), Path("runs/proofs/bench"))]


BENCHES: dict[str, tuple[str, Callable[[], Any]]] = {
    "absent": ("requests that cannot be met: who refuses, and who does not (15 minutes)", bench_desk.impossible),
    "chatvla2": ("records of the grid's cells that are done, and verdicts on claims", bench_grid),
    "demo": ("how long the demo of the shipped policy takes (3 minutes)", demo.publish),
    "checks": ("the unit checks of the methods' specifications: mechanism (a minute)", checks.publish),
    "avoid": ("a hand that knows of no obstacle, with AEGIS and without (20 minutes)", bench_avoid.publish),
    "catalogue": ("methods and pairs of parts: whether they build, learn and act (1 minute)", bench_catalogue.publish),
    "desk": ("the desk: expert, negative controls, steps a second (5 minutes)", bench_desk.maths_matching),
    "evaluate": (
        "what evaluations promise: errors of a test, the same rows for any workers (minutes)",
        bench_evaluate.publish,
    ),
    "leaks": ("what a policy chooses that cannot see, or is not told (25 minutes)", leaks.publish),
    "monitor": ("whether SAFE knows failures of the policy recorded in runs/proofs/monitor (minutes)", monitor.publish),
    "nano": ("records of the pretraining in runs/nano: gates, scorecard, size, time", bench_nano.publish),
    "course": ("the same where obstacles stand about (8 minutes)", bench_desk.obstacle_course),
    "others": ("the same of heights, and of what no picture shows (6 minutes)", bench_others.others),
    "panda": ("the desk with a Panda: expert, steps a second (4 minutes)", bench_desk.panda),
    "placing": ("the same of toys that are placed (6 minutes)", bench_desk.spatial_placing),
    "proofs": ("records of the methods' proofs in runs/proofs whose cells are all done", bench_proofs),
    "shield": ("whether AEGIS holds its constraint in 10,000 random states (3 minutes)", shield.publish),
    "sampling": ("what the best of several chunks costs against one (a minute)", bench_sampling.publish),
    "fsdp2": ("a training in shares of two processes beside that of one (a minute)", bench_sharded.publish),
    "tune": ("the story of mindhand tune, walked with nano as it is shipped (minutes)", bench_tune.publish),
    "skeleton": ("records of the newest demo from scratch in runs/demo", skeleton.publish),
}


def bench(name: Sequence[str], list: bool) -> int:
    """Measure the named things, all unless given; with `list`, say what there is."""
    console = Console()
    if unknown := sorted(set(name) - set(BENCHES)):
        raise Refusal(f"no bench {unknown}", f"some of {sorted(BENCHES)}", "mindhand bench --list")
    for one in name or BENCHES:
        about, work = BENCHES[one]
        console.print(f"{one}: {about}")
        if not list:
            for record in work():
                console.print(f"  {record.show()}")
    return 0
