"""`mindhand demo --from-scratch`: from nothing to a policy on the desk, in a quarter of an hour on two cores.

Records demonstrations of sums, pretrains nano on pictures and words, trains three policies that differ in one
thing each (they reason; they act without a word; their hand is blind) and evaluates them on equations from the
robot data (R), on equations that only the VLM has met (K-dev), and on some that nobody has met (X).
Everything resumes: run the same command again after a stop.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from mindhand.core.files import write_atomic
from mindhand.core.precision import half
from mindhand.data.files import read_rows, write_rows
from mindhand.evaluate.protocol import MATHS, Protocol
from mindhand.evaluate.report import by_task, write_report
from mindhand.model.store import load_vla
from mindhand.train.ranks import end_with_parent
from mindhand.worlds.declared import scene_hash
from mindhand.worlds.desk.world import SPEC

from .chatvla2 import ChatVLA2Plan, address, train
from .evaluate import summary_table
from .nano import NanoPlan, exam_table, examine, pretrain_nano
from .record import demonstrations
from .rollouts import rows_of
from .variants import BLIND, OURS, SILENT, Variant

SPLITS = ("R", "K-dev", "X")
TAUGHT = ("read", "solve", "calc", "tiles", "where", "next")  # what a brief pretraining asks


@dataclass(frozen=True)
class DemoPlan:
    """Sizes of a demo. The defaults take about `MINUTES` on two cores."""

    nano: NanoPlan = field(default_factory=lambda: NanoPlan(pictures=16_000, pages=11_000))
    maths: ChatVLA2Plan = field(default_factory=ChatVLA2Plan)
    episodes: int = 32  # evaluated, a split
    exam: int = 20  # items a kind and split

    def scaled(self, by: float) -> DemoPlan:
        """Everything that takes time, multiplied; sizes of models and batches stay."""

        def n(x: int, least: int = 1) -> int:
            return max(least, round(x * by))

        m = self.maths
        return replace(
            self,
            nano=replace(self.nano, pictures=n(self.nano.pictures, 32), pages=n(self.nano.pages, 32)),
            maths=replace(m, episodes=n(m.episodes, 4), warmup=n(m.warmup), align=n(m.align), tune=n(m.tune)),
            episodes=n(self.episodes, 2),
            exam=n(self.exam, 2),
        )


MINUTES = 15.0
QUICK = 1 / 200  # of the plan: every step is taken, nothing is learned


class Clock:
    """What each part of the demo took, kept over resumes."""

    def __init__(self, file: Path):
        self.file = file
        self.seconds: dict[str, float] = json.loads(file.read_text()) if file.exists() else {}

    def time(self, name: str, work: Callable[[], Any]) -> Any:
        """Run `work` and add its seconds to `name`, also when it is stopped."""
        begin = time.monotonic()
        try:
            return work()
        finally:
            self.seconds[name] = round(self.seconds.get(name, 0.0) + time.monotonic() - begin, 1)
            write_atomic(self.file, json.dumps(self.seconds, indent=1) + "\n")


def _pretrain(folder: Path, plan: DemoPlan) -> None:
    torch.set_num_threads(1)
    pretrain_nano(folder, plan.nano, console=Console(stderr=True))


def _train(
    nano: Path, demos: Path, cache: Path, folder: Path, plan: DemoPlan, variant: Variant, mind: Path | None
) -> None:
    torch.set_num_threads(1)
    train(nano, demos, cache, folder, plan.maths, variant, mind=mind, console=Console(stderr=True))


def _examine(folder: Path, plan: DemoPlan) -> None:
    torch.set_num_threads(1)
    write_rows(folder / "exam.jsonl", examine(load_vla(folder / "checkpoint"), SPLITS, plan.exam, TAUGHT))


def _evaluate(where: Path, protocol: Protocol, films: int) -> None:
    torch.set_num_threads(1)
    rows_of(where / "checkpoint", protocol, where / "evaluation", workers=1, films=films, console=Console(stderr=True))


Job = tuple[Callable[..., Any], tuple[Any, ...]]


def _in_turn(jobs: Sequence[Job]) -> None:
    for work, what in jobs:
        work(*what)


def together(jobs: Sequence[Job], workers: int = 2) -> None:
    """Run jobs in processes of their own, `workers` at a time. After an error or Ctrl-C none begins any more, and it is
    raised when those that run have ended."""
    waiting, running = list(jobs), set()
    with ProcessPoolExecutor(workers, get_context("spawn"), end_with_parent) as pool:
        while waiting or running:
            while waiting and len(running) < workers:  # what a pool has queued it may begin, even when it is shut down
                work, what = waiting.pop(0)
                running.add(pool.submit(work, *what))
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for job in done:
                job.result()


def run_demo(run: Path, plan: DemoPlan, console: Console) -> Path:
    """All of it in `run`; returns the report's path."""
    torch.set_num_threads(1)
    run.mkdir(parents=True, exist_ok=True)
    at = run / address(asdict(plan), scene_hash())
    at.mkdir(exist_ok=True)
    clock = Clock(at / "seconds.json")
    nano, demos, cache = at / "nano", at / "demonstrations", at / "frames"
    variants = (OURS, SILENT, BLIND)
    folders = {variant.name: at / variant.name for variant in variants}

    console.rule("1/4  demonstrations of sums")
    if not (demos / "meta" / "info.json").exists() or not (at / "recorded").exists():
        clock.time("record", lambda: demonstrations(demos, plan.maths.episodes, console=console))
        (at / "recorded").touch()
    console.rule("2/4  nano, a small VLM, from pictures and words")
    if not (nano / "checkpoint" / "manifest.json").exists():
        clock.time("pretrain", lambda: _pretrain(nano, plan))
    console.rule("3/4  three policies, in three stages each")

    def training(variant: Variant) -> list[Job]:
        if (folders[variant.name] / "checkpoint" / "manifest.json").exists():
            return []
        mind = folders[OURS.name] if variant == BLIND else None  # the blind hand is given the mind of the one that sees
        return [(_train, (nano / "checkpoint", demos, cache, folders[variant.name], plan, variant, mind))]

    if todo := [*training(OURS), *training(SILENT)]:
        clock.time("train two policies", lambda: together(todo))
    console.rule("4/4  evaluation, and a third policy: a blind hand")
    every = MATHS.only(*(f"maths_matching/{s}" for s in SPLITS), episodes=min(plan.episodes, MATHS.episodes))
    part = every.only("maths_matching/R", "maths_matching/K-dev")
    taken = [(folders[a.name], every if a == OURS else part, 3 if a == OURS else 0) for a in variants]
    ours, silent, blind = ((_evaluate, t) for t in taken)
    jobs: list[Job] = [(_in_turn, ([*training(BLIND), blind],)), ours, silent]
    minds = {"what nano knew": nano, "what it knows after all stages": folders[OURS.name]}
    jobs += [(_examine, (folder, plan)) for folder in minds.values() if not (folder / "exam.jsonl").exists()]
    clock.time("evaluate, and train the third", lambda: together(jobs))
    for title, folder in minds.items():
        console.print(exam_table(read_rows(folder / "exam.jsonl"), title))
    rows = {}
    for variant, (where, protocol, films) in zip(variants, taken):  # what is evaluated already is only read
        rows[variant.name] = rows_of(where / "checkpoint", protocol, where / "evaluation", films=films, console=console)
        console.print(summary_table(rows[variant.name], variant.name))
    page = write_report(
        folders[OURS.name] / "evaluation",
        rows[OURS.name],
        rate_hz=SPEC.rate,
        title="mindhand demo, from scratch: a robot reads the board",
        beside=[_variants(rows), _kept(nano, folders[OURS.name]), _clock(clock)],
    )
    return page


Beside = tuple[str, list[str], list[list[Any]]]  # a table of the report: heading, columns, rows


def _variants(rows: dict[str, list[dict[str, Any]]]) -> Beside:
    body = []
    for name, some in rows.items():
        for line in by_task(some):
            found = [line.measures[m] for m in ("success", "choice")]
            cells = [f"{m.value:.2f} ({m.low:.2f} to {m.high:.2f})" for m in found]
            body.append([name, line.label, *cells, f"{line.chance['choice']:.2f}", line.measures["success"].n])
    columns = ["policy", "part", "success", "choice", "chance of a choice", "episodes"]
    return "Three policies that differ in one thing", columns, body


def _kept(nano: Path, folder: Path) -> Beside:
    body = []
    for stage, file in (("pretraining", nano / "exam.jsonl"), ("all stages", folder / "exam.jsonl")):
        found = read_rows(file)
        for split in SPLITS:
            some = [r for r in found if r["split"] == split]
            if some:
                kinds = dict.fromkeys(r["kind"] for r in some)
                rate = {k: [r["right"] for r in some if r["kind"] == k] for k in kinds}
                body.append([stage, split, *(f"{sum(x) / len(x):.2f}" for x in rate.values())])
    return "What the VLM knew, and what it still knows", ["after", "part", *_kinds(nano)], body


def _kinds(nano: Path) -> list[str]:
    return list(dict.fromkeys(r["kind"] for r in read_rows(nano / "exam.jsonl")))


def _clock(clock: Clock) -> Beside:
    body = [[name, f"{s:.0f} s"] for name, s in clock.seconds.items()]
    return "Time", ["part", "seconds"], [*body, ["all", f"{sum(clock.seconds.values()):.0f} s"]]


def from_scratch(run: Path, minutes: float | None, seed: int, quick: bool = False) -> int:
    """`mindhand demo --from-scratch`. minutes: scales the plan, which takes `MINUTES`; quick: every step tiny."""
    console = Console()
    plan = DemoPlan()
    plan = replace(plan, nano=replace(plan.nano, seed=seed), maths=replace(plan.maths, seed=seed))
    plan = plan.scaled(QUICK if quick else (minutes or MINUTES) / MINUTES)
    if not quick and not half(torch.device("cpu")):
        console.print("This processor does not multiply bfloat16: expect twice as long (or give half the --minutes).")
    begin = time.monotonic()
    page = run_demo(run, plan, console)
    # In one line, whatever the console's width: a path that is broken cannot be opened.
    console.print(f"\n{time.monotonic() - begin:.0f} s in all. The report: {page.resolve()}", soft_wrap=True)
    if quick:
        console.print(
            "A quick one learns nothing: it shows that every step runs. For a robot that reads: mindhand demo"
        )
    return 0
