"""The verb `mindhand train`: a recipe's stages, from demonstrations and a VLM to a policy."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from rich.console import Console

from mindhand.core.errors import Refusal
from mindhand.model.shipped import shipped

from .chatvla2 import ChatVLA2Plan
from .chatvla2 import train as train_chatvla2
from .variants import BLIND, GRID, OURS, SILENT, Variant


@dataclass(frozen=True)
class Recipe:
    """A variant, sizes of its stages, and the minutes that these take on two cores."""

    variant: Variant
    plan: ChatVLA2Plan = field(default_factory=ChatVLA2Plan)
    minutes: float = 6.0


RECIPES = {
    "chatvla2": Recipe(OURS),
    "chatvla2-silent": Recipe(SILENT),
    "chatvla2-blind": Recipe(BLIND),
    "nano-desk": Recipe(  # of demonstrations of sums and of toys, `mindhand data record desk`: the shipped policy's
        GRID["B9-insulated"],
        ChatVLA2Plan(episodes=1360, brief=False, digits=False, align=500, tune=8000),
        33.0,
    ),
}


def train(recipe: str, data: Path, base: Path | None, run: Path, minutes: float | None, seed: int) -> int:
    """Train `recipe` on the demonstrations in `data`, starting from the VLM checkpoint `base` (by default nano as it is
    shipped); resumes in `run`. minutes scales the stages (`Recipe.minutes`: what the recipe's own plan takes)."""
    if recipe not in RECIPES:
        raise Refusal(f"no recipe '{recipe}'", f"one of {sorted(RECIPES)}", "mindhand train chatvla2 --help")
    torch.set_num_threads(1)
    made = RECIPES[recipe]
    plan, by = replace(made.plan, seed=seed), (minutes or made.minutes) / made.minutes
    plan = replace(plan, **{n: max(1, round(getattr(plan, n) * by)) for n in ("warmup", "align", "tune")})
    console = Console()
    checkpoint = train_chatvla2(base or shipped(), data, run / "frames", run, plan, made.variant, console=console)
    console.print(f"checkpoint: {checkpoint}")
    return 0
