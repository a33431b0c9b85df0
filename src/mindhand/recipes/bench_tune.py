"""The story of `mindhand tune`, walked with real weights: demonstrations of the desk, nano as it is shipped, a policy,
a page; then the same command again, and another one in the same folder.

That a policy beats the mean command and the last one again, open loop on episodes that it has never seen, is the least
that may be asked of it; no robot is moved (`tune_report`).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

import mindhand.data
import mindhand.model
import mindhand.train
from mindhand.core.checkpoint import load_checkpoint, smoke_differences
from mindhand.core.errors import Refusal
from mindhand.core.nouns import smoke_observation
from mindhand.core.record import Record, write_record
from mindhand.data.files import read_rows, write_rows
from mindhand.model.licence import licence_of
from mindhand.model.shipped import shipped
from mindhand.model.store import load_vla, smoke_arrays

from . import tune_cost, tune_report, tune_start
from .record import demonstrations
from .tune import Looks, tune_policy
from .tune_start import TunePlan

HOME, EPISODES = Path("runs/tune-story"), 24
PLAN, LOOKS = TunePlan(steps=400), Looks()
NEAR = 1e-5  # in units of commands: what a checkpoint may be off by when it is loaded
SOURCES = (
    Path(__file__), "mindhand.recipes.tune", tune_start, tune_report, tune_cost,
    mindhand.data, mindhand.model, mindhand.train,
)  # fmt: skip


def errors(run: Path) -> dict[str, float]:
    """The mean error of each predictor over held-out episodes, each dimension weighed by the mean command's; without
    those in which all commands are one."""
    rows = read_rows(run / "open_loop.jsonl")
    mean = {w: np.mean([r["error"] for r in rows if r["who"] == w], 0) for w in dict.fromkeys(r["who"] for r in rows)}
    moves = mean[tune_report.MEAN] > 1e-6
    return {who: float((x[moves] / mean[tune_report.MEAN][moves]).mean()) for who, x in mean.items()}


def walked(data: Path, run: Path, plan: TunePlan, looks: Looks, console: Console | None) -> list[dict[str, Any]]:
    """Rows: what must be so after each step of the story, whether it is, and the seconds of the first tuning."""
    begin = time.perf_counter()
    page = tune_policy(data, shipped(), run, plan, looks=looks, console=console)
    seconds = time.perf_counter() - begin
    found, off = load_checkpoint(run / "checkpoint", None), errors(run)
    vla = load_vla(run / "checkpoint")
    acts = smoke_arrays(vla, smoke_observation(found.spec))
    text = page.read_text()
    tune_policy(data, shipped(), run, plan, looks=looks, console=console)
    try:
        tune_policy(data, shipped(), run, replace(plan, seed=plan.seed + 1), looks=looks, console=console)
        refused = False
    except Refusal:
        refused = True
    told: Mapping[str, bool] = {
        "a page with what it does open loop, to words, and of the data": all(
            f">{head}<" in text for head in ("Open loop", "Language", "The data", "What the model sees")
        ),
        "a checkpoint that loads and acts as it did": not smoke_differences(found.smoke, acts, NEAR),
        "the backbone's licence with it": licence_of(run / "checkpoint").name == licence_of(shipped()).name != "",
        "nearer to what was done than the mean command": off[tune_report.TUNED] < off[tune_report.MEAN],
        "nearer to what was done than the last command again": off[tune_report.TUNED] < off[tune_report.LAST],
        "the same again is the same policy": load_checkpoint(run / "checkpoint", None).fingerprint == found.fingerprint,
        "another seed in this folder is refused": refused,
    }
    return [{"key": what, "passed": bool(ok), "seconds": seconds, **off} for what, ok in told.items()]


def publish(folder: Path | None = None, home: Path = HOME, plan: TunePlan = PLAN, looks: Looks = LOOKS) -> list[Record]:
    """Records tune/story/checks and tune/seconds/nano, of the first walk that was whole."""
    torch.set_num_threads(1)
    console = Console()
    data = demonstrations(home / "data", EPISODES, console=console)
    if (home / "run" / "checkpoint").exists():
        raise Refusal(f"{home / 'run'} has been walked", "a folder to begin in: seconds are counted", "remove it")
    rows = walked(data, home / "run", plan, looks, console)
    write_rows(home / "walked.jsonl", rows)
    how: dict[str, Any] = {
        "unit": "1", "chance": None, "sources": SOURCES, "command": "mindhand bench tune", "folder": folder,
    }  # fmt: skip
    return [
        write_record("tune/story/checks", rows=rows, field="passed", kind="rate", **how),
        write_record("tune/seconds/nano", rows=rows[:1], field="seconds", kind="mean", **{**how, "unit": "s"}),
    ]
