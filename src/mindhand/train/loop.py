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
from mindhand.core.folder import exists, settled
from mindhand.core.keys import Keys
from mindhand.core.precision import half
from mindhand.core.progress import progress

from .ranks import average, averaged, pieces, rank, ranks
from .sharded import cut, in_shares, load_shares, read_where, save_shares, whole
from .stage import Optimiser, Stage

if TYPE_CHECKING:
    from rich.console import Console


MODEL, MOMENTS = "model.", "moments."  # what names of tensors in shares begin with


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
    tells: int = 20,
    console: Console | None = None,
    watch: Callable[[int, nn.Module], None] | None = None,
) -> dict[str, float]:
    """Train `vla` through one stage in `folder`, resuming what is there; returns the last losses.

    vla has `losses(batch, keys) -> {name: (B,)}`. watch(step, vla) is called after every step (gates, pictures).
    tells: so many steps to a line of metrics.jsonl.
    Raises Stopped after saving when asked to stop, BuildError for a loss that is missing or not finite.
    """
    named = stage.trainable(vla)
    optimiser = stage.optimiser.build(vla, named)
    base = [g["lr"] for g in optimiser.param_groups]
    folder.mkdir(parents=True, exist_ok=True)
    step, spent, used = _resume(vla, optimiser, folder / "state", stage)
    first, shares = rank() == 0, in_shares(vla)
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
                for piece in pieces(batch, stage.pieces):
                    keys = _keys(piece, stage.seed, stage.name, step, *[number] * (number > 0))
                    device = piece.task.device
                    with torch.autocast(device.type, torch.bfloat16, enabled=stage.bf16 and half(device)):
                        rows = {n: r.mean() / stage.pieces for n, r in vla.losses(piece, keys).items()}
                    _backward(rows, stage, step)
                    for name, share in rows.items():
                        means.setdefault(name, []).append(share.detach() * stage.pieces)
            if missing := set(stage.weights) - set(means):
                raise BuildError(
                    f"stage '{stage.name}' weighs the losses {sorted(missing)}, which the model does not compute",
                    f"losses among {sorted(means)}",
                    "correct the weights or the batch",
                )
            stop = average([p for _, p in named], signals.stop)
            norm = whole(torch.nn.utils.clip_grad_norm_([p for _, p in named], stage.optimiser.clip))
            rate = stage.optimiser.rate(step, stage.steps)
            for group, lr in zip(optimiser.param_groups, base):
                group["lr"] = lr * rate
            optimiser.step()
            for objective in getattr(vla, "objectives", ()):
                objective.after_step(vla, step)
            step += 1
            now = time.monotonic()
            if step % tells == 0 or step == stage.steps:
                told = averaged(torch.stack([torch.stack(m).mean() for m in means.values()]))
                last = {n: round(x, 5) for n, x in zip(means, told.tolist())}
                if first:
                    line = {"stage": stage.name, "step": step, **last, "norm": round(float(norm), 4), "rate": rate}
                    log.write(json.dumps({**line, **{n: round(x, 2) for n, x in took().items()}}) + "\n")
                    log.flush()
                    tell(step, " ".join(f"{n} {x:.3f}" for n, x in last.items()))
            if watch is not None:
                watch(step, vla)
            stop = stop or (ranks() == 1 and signals.stop)
            save = first and (stop or now - saved > every or step == stage.steps)
            if shares:  # all save when the first does
                save = bool(averaged(torch.tensor([float(save)], device=norm.device)) > 0)
            if save:
                _save(vla, optimiser, folder / "state", {"stage": stage.declared(), "step": step, **took()})
                saved = now
            if stop and step < stage.steps:
                raise Stopped(
                    f"stopped at step {step} of {stage.steps} of stage '{stage.name}'",
                    "to be resumed: nothing is lost",
                    f"run the same command again (state in {folder})",
                )
    return last


def _keys(batch: Batch, *words: str | int) -> Keys:
    """Counters of a batch's rows: those that they have in the whole batch, where several processes share it."""
    if batch.each is None:
        return Keys.seeded(len(batch) * batch.questions, *words)
    rows = [row * batch.questions + q for row in batch.each for q in range(batch.questions)]
    return Keys.seeded(max(rows) + 1, *words)[rows]


def _save(vla: nn.Module, optimiser: Any, folder: Path, where: Mapping[str, Any]) -> None:
    names = {id(p): n for n, p in vla.named_parameters()}
    moments = {names[id(p)]: dict(s) for p, s in optimiser.state.items()}
    model = {n: t.detach() for n, t in vla.state_dict().items()}
    if not in_shares(vla):
        save_state(folder, {**where, "model": model, "moments": moments})
        return
    save_shares(folder, _flat(model, moments), {**where, "moments": {n: sorted(some) for n, some in moments.items()}})


def _flat(model: Mapping[str, Any], moments: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Weights and moments as a state in shares names them."""
    return {
        **{f"{MODEL}{n}": x for n, x in model.items()},
        **{f"{MOMENTS}{n}.{k}": x for n, some in moments.items() for k, x in some.items()},
    }


def _resume(vla: nn.Module, optimiser: Any, folder: Path, stage: Stage) -> tuple[int, float, float]:
    """The step to go on from, and what came before it took: seconds on the clock and of this process."""
    if not exists(folder):
        return 0, 0.0, 0.0
    folder = settled(folder)
    where = read_where(folder)
    state = load_state(folder) if where is None else where
    was, now, usual = (json.loads(json.dumps(x)) for x in (state["stage"], stage.declared(), asdict(Optimiser())))
    was = {"name": was} if isinstance(was, str) else was  # an older state says no more
    if "optimiser" in was:  # nor of what optimisers have been told since
        was = {**was, "optimiser": {**usual, **was["optimiser"]}}
    if odd := [f"{k}: {x} | {now[k]}" for k, x in was.items() if x != now[k]]:
        raise BuildError(
            f"{folder} is of stage '{was['name']}', which differs (there | now):\n    " + "\n    ".join(odd),
            f"stage '{stage.name}' as it was begun",
            "use another folder, or the stage that is there",
        )
    params, model, moments = dict(vla.named_parameters()), vla.state_dict(), state["moments"]
    if where is None:
        vla.load_state_dict({n: cut(x, model[n]) if n in model else x for n, x in state["model"].items()})
    else:
        moments = {n: {k: torch.zeros_like(params[n]) if k != "step" else torch.zeros(()) for k in some}
                   for n, some in moments.items()}  # fmt: skip
        load_shares(folder, _flat(model, moments))  # into the model itself
    for name, some in moments.items():
        optimiser.state[params[name]] = {k: cut(x.detach(), params[name]).clone() for k, x in some.items()}
    return int(state["step"]), float(state["seconds"]), float(state["cpu"])
