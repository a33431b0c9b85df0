"""The verb `mindhand train`: a recipe's stages, from demonstrations and a VLM to a policy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console

from mindhand.core.errors import Refusal
from mindhand.model.shipped import shipped

from .chatvla2 import ChatVLA2Plan
from .chatvla2 import train as train_chatvla2
from .variants import BLIND, OURS, SILENT

RECIPES = {"chatvla2": OURS, "chatvla2-silent": SILENT, "chatvla2-blind": BLIND}


def train(recipe: str, data: Path, base: Path | None, run: Path, minutes: float | None, seed: int) -> int:
    """Train `recipe` on the demonstrations in `data`, starting from the VLM checkpoint `base` (by default nano as it is
    shipped); resumes in `run`. minutes scales the stages: the plan's own length is about six."""
    if recipe not in RECIPES:
        raise Refusal(f"no recipe '{recipe}'", f"one of {sorted(RECIPES)}", "mindhand train chatvla2 --help")
    torch.set_num_threads(1)
    plan, by = replace(ChatVLA2Plan(), seed=seed), (minutes or 6.0) / 6.0
    plan = replace(plan, **{n: max(1, round(getattr(plan, n) * by)) for n in ("warmup", "align", "tune")})
    console = Console()
    checkpoint = train_chatvla2(base or shipped(), data, run / "frames", run, plan, RECIPES[recipe], console=console)
    console.print(f"checkpoint: {checkpoint}")
    return 0
