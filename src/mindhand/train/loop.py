"""The loop: one for pretraining, co-training, fine-tuning and, with other sources and objectives, RL.

A step is a pure function of weights, optimiser state and step number: batches come from `source.batch(vla, step)`
and all noise from counters. Of several batches the losses are added before the optimiser's one step. A run that was
stopped therefore goes on bit for bit (on CPU). State is written atomically every `every` seconds and on Ctrl-C or
SIGTERM; metrics go to metrics.jsonl. Under torch.distributed the sources shard their batches, gradients are averaged,
and the first rank alone writes.
"""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from mindhand.core.batch import Batch
from mindhand.core.checkpoint import load_state, save_state
from mindhand.core.errors import BuildError, Refusal
from mindhand.core.folder import exists
from mindhand.core.keys import Keys
from mindhand.core.precision import half
from mindhand.core.progress import progress

from .ranks import average, rank, ranks
from .stage import Optimiser, Stage

if TYPE_CHECKING:
    from rich.console import Console


class Stopped(Refusal):
    """Training was asked to stop and has saved its state."""


class StopOnSignal:
    """While entered, SIGINT and SIGTERM set `stop` instead of tearing the run apart; a second SIGINT is obeyed."""

    def __init__(self) -> None:
        self.stop = False

    def __enter__(self) -> StopOnSignal:
        self.old: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self.old[number] = signal.signal(number, self._ask)
        return self

    def _ask(self, number: int, frame: Any) -> None:
        if self.stop and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.stop = True

    def __exit__(self, *_: object) -> None:
        for number, handler in self.old.items():
            signal.signal(number, handler)


def _backward(means: dict[str, torch.Tensor], stage: Stage, step: int) -> None:
    weighed = [stage.weights[n] * m for n, m in means.items() if n in stage.weights]
    if not weighed:
        return
    total = torch.stack(weighed).sum()
    if not bool(torch.isfinite(total)):
        values = {n: float(m.detach()) for n, m in means.items()}
        raise BuildError(f"the loss is not finite at step {step}: {values}", "a number", "lower the rate")
    total.backward()


def train_stage(
    vla: nn.Module,
    stage: Stage,
    folder: Path,
    *,
    every: float = 60.0,
    console: Console | None = None,
    watch: Callable[[int, nn.Module], None] | None = None,
) -> dict[str, float]:
    """Train `vla` through one stage in `folder`, resuming what is there; returns the last losses.

    vla has `losses(batch, keys) -> {name: (B,)}`. watch(step, vla) is called after every step (gates, pictures).
    Raises Stopped after saving when asked to stop, BuildError for a loss that is missing or not finite.
    """
    named = stage.trainable(vla)
    optimiser = stage.optimiser.build(vla, named)
    base = [g["lr"] for g in optimiser.param_groups]
    folder.mkdir(parents=True, exist_ok=True)
    step, spent, used = _resume(vla, optimiser, folder / "state", stage)
    first = rank() == 0
    last: dict[str, float] = {}
    clock = saved = time.monotonic()
    busy = time.process_time()

    def took() -> dict[str, float]:
        """On the clock, and of this process: not of waiting, nor of a pause."""
        return {"seconds": spent + time.monotonic() - clock, "cpu": used + time.process_time() - busy}

    vla.train()
    with (
        StopOnSignal() as signals,
        (folder / "metrics.jsonl").open("a") as log,
        progress(console if first else None, stage.name, stage.steps, step, "steps") as tell,
    ):
        while step < stage.steps:
            found = stage.source.batch(vla, step)
            optimiser.zero_grad(set_to_none=True)
            means: dict[str, list[torch.Tensor]] = {}
            for number, batch in enumerate([found] if isinstance(found, Batch) else found):
                keys = Keys.seeded(len(batch) * batch.questions, stage.seed, stage.name, step, *[number] * (number > 0))
                device = batch.task.device
                with torch.autocast(device.type, torch.bfloat16, enabled=stage.bf16 and half(device)):
                    rows = {n: r.mean() for n, r in vla.losses(batch, keys).items()}
                _backward(rows, stage, step)
                for name, mean in rows.items():
                    means.setdefault(name, []).append(mean.detach())
            if missing := set(stage.weights) - set(means):
                raise BuildError(
                    f"stage '{stage.name}' weighs the losses {sorted(missing)}, which the model does not compute",
                    f"losses among {sorted(means)}",
                    "correct the weights or the batch",
                )
            stop = average([p for _, p in named], signals.stop)
            norm = torch.nn.utils.clip_grad_norm_([p for _, p in named], stage.optimiser.clip)
            rate = stage.optimiser.rate(step, stage.steps)
            for group, lr in zip(optimiser.param_groups, base):
                group["lr"] = lr * rate
            optimiser.step()
            for objective in getattr(vla, "objectives", ()):
                objective.after_step(vla, step)
            step += 1
            now = time.monotonic()
            if first and (step % 20 == 0 or step == stage.steps):
                last = {n: round(float(torch.stack(m).mean()), 5) for n, m in means.items()}
                line = {"stage": stage.name, "step": step, **last, "norm": round(float(norm), 4), "rate": rate}
                log.write(json.dumps({**line, **{n: round(x, 2) for n, x in took().items()}}) + "\n")
                log.flush()
                tell(step, " ".join(f"{n} {x:.3f}" for n, x in last.items()))
            if watch is not None:
                watch(step, vla)
            stop = stop or (ranks() == 1 and signals.stop)
            if first and (stop or now - saved > every or step == stage.steps):
                _save(vla, optimiser, folder / "state", {"stage": stage.declared(), "step": step, **took()})
                saved = now
            if stop and step < stage.steps:
                raise Stopped(
                    f"stopped at step {step} of {stage.steps} of stage '{stage.name}'",
                    "to be resumed: nothing is lost",
                    f"run the same command again (state in {folder})",
                )
    return last


def _save(vla: nn.Module, optimiser: Any, folder: Path, where: Mapping[str, Any]) -> None:
    names = {id(p): n for n, p in vla.named_parameters()}
    moments = {names[id(p)]: dict(s) for p, s in optimiser.state.items()}
    model = {n: t.detach() for n, t in vla.state_dict().items()}
    save_state(folder, {**where, "model": model, "moments": moments})


def _resume(vla: nn.Module, optimiser: Any, folder: Path, stage: Stage) -> tuple[int, float, float]:
    """The step to go on from, and what came before it took: seconds on the clock and of this process."""
    if not exists(folder):
        return 0, 0.0, 0.0
    state = load_state(folder)
    was, now = state["stage"], stage.declared()
    was = {"name": was} if isinstance(was, str) else was  # an older state says no more
    if "optimiser" in was:  # nor of what optimisers have been told since
        was = {**was, "optimiser": {**asdict(Optimiser()), **was["optimiser"]}}
    if odd := [f"{k}: {x} | {now[k]}" for k, x in was.items() if x != now[k]]:
        raise BuildError(
            f"{folder} is of stage '{was['name']}', which differs (there | now):\n    " + "\n    ".join(odd),
            f"stage '{stage.name}' as it was begun",
            "use another folder, or the stage that is there",
        )
    vla.load_state_dict(state["model"])
    params = dict(vla.named_parameters())
    for name, moments in state["moments"].items():
        there = params[name].device
        optimiser.state[params[name]] = {k: v.clone().to(there) for k, v in moments.items()}
    return int(state["step"]), float(state["seconds"]), float(state["cpu"])
