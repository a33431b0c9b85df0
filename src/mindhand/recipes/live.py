"""The gates while a pretraining goes on: a few items of each, at every tenth of it. Nothing of the training changes."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from mindhand.data.synthetic.gates import BARS, take_gate
from mindhand.data.synthetic.toy_picture import tabletop
from mindhand.train.ranks import rank

ITEMS, TIMES = 20, 10  # of every gate; in a training


class LiveGates:
    """Called after every step of a training of so many: takes `items` of every gate at each tenth, in the first rank
    while the others wait, and adds a line {"stage", "step", "gates": {gate: share right}, "gates_cpu": seconds of this
    process} to `file`. A training of fewer steps than tenths takes none."""

    def __init__(self, file: Path, steps: int, items: int = ITEMS, console: Console | None = None):
        self.file, self.steps, self.items, self.console = file, steps, items, console
        self.at = {steps * k // TIMES for k in range(1, TIMES + 1)} if items and steps >= TIMES else set()

    def __call__(self, step: int, vla: Any) -> None:
        """Whether it is time, and if so the gates."""
        if step not in self.at or rank():
            return
        begin, found, modes = time.process_time(), {}, {m: m.training for m in vla.modules()}
        vla.eval()
        for gate in BARS:
            rows = take_gate(vla.answer, gate, self.items, tabletop)
            found[gate] = sum(r["right"] for r in rows) / len(rows)
        for module, was in modes.items():
            module.training = was
        line = {"stage": "pretrain", "step": step, "gates": found, "gates_cpu": round(time.process_time() - begin, 2)}
        with self.file.open("a") as log:
            log.write(json.dumps(line) + "\n")
        if self.console is not None:
            told = ", ".join(f"{gate.replace('_', ' ')} {share:.2f}" for gate, share in found.items())
            self.console.print(
                f"gates at step {step}, {self.items} items each: {told}", highlight=False, soft_wrap=True
            )
