"""A stage: which data, which parameters, which losses, how long. A recipe is a list of them."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from torch import nn

from mindhand.core.errors import BuildError
from mindhand.core.seams import Source

from .muon import MuonAdamW, split


@dataclass(frozen=True)
class Optimiser:
    """Muon for matrices whose name matches no `adam` pattern, AdamW for the rest; linear warm-up, then constant,
    then a decay to `floor` of the rate over the last `decay` share of the steps, in a line or half a cosine."""

    lr: float = 2e-3  # AdamW
    muon: float = 0.02  # 0: AdamW everywhere
    adam: tuple[str, ...] = ()  # patterns of parameter names that take AdamW in any case
    slow: tuple[tuple[str, float], ...] = ()  # (pattern, what its rate is multiplied by); the first hit wins
    warmup: int = 60
    decay: float = 0.5
    floor: float = 0.0
    clip: float = 1.0  # of the gradient's norm
    shape: Literal["linear", "cosine"] = "linear"  # of the decay

    def rate(self, step: int, steps: int) -> float:
        """What learning rates are multiplied by at a step."""
        start = steps * (1 - self.decay)
        left = 1.0 if step < start else (steps - step) / max(steps - start, 1)  # of the decay
        if self.shape == "cosine":
            left = (1 - math.cos(math.pi * left)) / 2
        fall = 1.0 if step < start else self.floor + (1 - self.floor) * left
        return min(1.0, (step + 1) / max(self.warmup, 1)) * fall

    def build(self, module: nn.Module, named: Sequence[tuple[str, nn.Parameter]]) -> MuonAdamW:
        """The optimiser over the named parameters."""
        always = {n for n, _ in named if self.muon == 0 or any(fnmatch.fnmatchcase(n, p) for p in self.adam)}
        speeds: dict[float, list[tuple[str, nn.Parameter]]] = {}
        for n, p in named:
            by = next((by for pattern, by in self.slow if fnmatch.fnmatchcase(n, pattern)), 1.0)
            speeds.setdefault(by, []).append((n, p))
        groups = []
        for by, some in speeds.items():
            matrices, rest = split(module, [(n, p) for n, p in some if n not in always])
            rest += [p for n, p in some if n in always]
            groups += [
                {"params": matrices, "lr": self.muon * by, "muon": True},
                {"params": rest, "lr": self.lr * by},
            ]
        return MuonAdamW([g for g in groups if g["params"]])


@dataclass(frozen=True)
class Stage:
    """One stage of training.

    train: patterns of parameter names that learn; everything else is frozen. weights: {loss: weight}; a loss that
    is computed and not named is not trained on, one that is named and not computed is an error.
    """

    name: str
    source: Source
    steps: int
    train: tuple[str, ...]
    weights: Mapping[str, float]
    optimiser: Optimiser = Optimiser()
    seed: int = 0
    bf16: bool = True  # where the machine computes in it
    pieces: int = 1  # a batch's rows pass in so many, one behind another, for less memory; their gradients add up

    def declared(self) -> dict[str, Any]:
        """What it must share with a state to go on from it: all but its length, and the source's data."""
        how = {"train": self.train, "weights": dict(self.weights), "optimiser": asdict(self.optimiser)}
        return {"name": self.name, "seed": self.seed, "bf16": self.bf16, **how}

    def trainable(self, module: nn.Module) -> list[tuple[str, nn.Parameter]]:
        """Named parameters that learn, after freezing the others. BuildError for a pattern that matches nothing."""
        named = list(module.named_parameters())
        for pattern in self.train:
            if not any(fnmatch.fnmatchcase(n, pattern) for n, _ in named):
                tops = sorted({n.split(".")[0] for n, _ in named})
                raise BuildError(
                    f"stage '{self.name}' trains '{pattern}', which matches no parameter",
                    f"patterns of names below {tops}",
                    "print module.named_parameters() and correct the pattern",
                )
        for n, p in named:
            p.requires_grad_(any(fnmatch.fnmatchcase(n, pattern) for pattern in self.train))
        return [(n, p) for n, p in named if p.requires_grad]
