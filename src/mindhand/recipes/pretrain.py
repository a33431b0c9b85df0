"""The verb `mindhand pretrain`: nano, from pictures and words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console

from .nano import NanoPlan, exam_table, examine, pretrain_nano

PICTURES_A_MINUTE = 3600  # about what one core trains on while a second renders


def pretrain(run: Path, minutes: float | None, seed: int) -> int:
    """Pretrain in `run` (resuming) and take the exam. minutes: the length of the training, not a deadline."""
    torch.set_num_threads(1)
    console = Console()
    plan = replace(NanoPlan(), seed=seed)
    if minutes is not None:
        pictures = max(plan.rows, round(minutes * PICTURES_A_MINUTE))
        plan = replace(plan, pictures=pictures, pages=plan.pages * pictures // plan.pictures)
    vla = pretrain_nano(run, plan, console=console)
    console.print(exam_table(examine(vla), "what nano knows"))
    console.print(f"checkpoint: {run / 'checkpoint'}")
    return 0
