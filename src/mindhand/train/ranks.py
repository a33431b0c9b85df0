"""Several processes train one model: each takes its share of every batch, gradients are averaged.

The same code runs under torchrun. On CPU, two ranks of one thread each beat one process with two threads.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.tensor import DTensor

from mindhand.core.batch import Batch, Target, Text
from mindhand.core.errors import BadData

T = TypeVar("T")


def rank() -> int:
    """This process's number; 0 where there is only one."""
    return dist.get_rank() if dist.is_initialized() else 0


def ranks() -> int:
    """How many processes train."""
    return dist.get_world_size() if dist.is_initialized() else 1


@contextmanager
def meet() -> Iterator[None]:
    """Join the processes that torchrun has started, each on its own device; where it has not, nothing."""
    if "RANK" not in os.environ or dist.is_initialized():
        yield
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def in_turn(work: Callable[[], T]) -> T:
    """What `work` gives, done by the first process, and then by the others, which find what it left."""
    if rank():
        dist.barrier()
    out = work()
    if ranks() > 1 and not rank():
        dist.barrier()
    return out


def dealt(batch: Batch) -> Batch:
    """This process's share of a batch that all have: every `ranks()`-th row, with their numbers (`Batch.each`), so that
    noise is theirs wherever they are. BadData where not all have as many rows: then means of means are no mean. A loss
    that weighs tokens alike does so within a process."""
    if ranks() == 1:
        return batch
    if len(batch) % ranks():
        wanted = f"a multiple of {ranks()}"
        raise BadData(f"{len(batch)} rows for {ranks()} processes", wanted, "change the rows of a step")
    return _every(batch, rank(), ranks())


def pieces(batch: Batch, count: int) -> list[Batch]:
    """A batch in so many, every `count`-th row in one of them; all rows keep their numbers. BadData where not all
    would have as many."""
    if count == 1:
        return [batch]
    if count < 1 or len(batch) % count:
        raise BadData(f"{len(batch)} rows in {count} pieces", "as many in each", "change the stage's pieces")
    return [_every(batch, k, count) for k in range(count)]


def _every(batch: Batch, first: int, step: int) -> Batch:
    known, rows = batch.each or range(len(batch)), range(first, len(batch), step)
    return replace(picked(batch, rows), each=tuple(known[r] for r in rows))


def picked(batch: Batch, rows: Sequence[int]) -> Batch:
    """These rows of a batch, with all their questions."""
    many = batch.questions
    at = torch.tensor(list(rows))
    asked = (at.unsqueeze(1) * many + torch.arange(many)).flatten()

    def some(x: Any) -> Any:
        if isinstance(x, torch.Tensor):
            return x[at if len(x) == len(batch) else asked]
        if isinstance(x, Mapping):
            return {k: some(v) for k, v in x.items()}
        if isinstance(x, Text | Target):
            return type(x)(**{f.name: some(getattr(x, f.name)) for f in fields(x)})
        return x

    return Batch(**{f.name: some(getattr(batch, f.name)) for f in fields(batch)})


def averaged(values: torch.Tensor) -> torch.Tensor:
    """The mean over processes of numbers that each has as many of."""
    if ranks() > 1:
        values = values.clone()
        dist.all_reduce(values)
    return values / ranks()


def average(parameters: Sequence[nn.Parameter], stop: bool) -> bool:
    """Average the gradients over ranks; returns whether any rank was asked to stop, so that all stop together.

    A parameter without a gradient on some rank (no sample of its kind there) counts as zero there; one without any
    on all ranks keeps none, so that no optimiser moves it. Gradients of parameters in shares are averaged already.
    """
    if ranks() == 1:
        return stop
    if any(isinstance(p, DTensor) for p in parameters):
        return bool(averaged(torch.tensor([float(stop)], device=parameters[0].device)) > 0)
    grads = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
    flags = torch.tensor([*(float(p.grad is not None) for p in parameters), float(stop)])
    flat = torch.cat([*(g.reshape(-1) for g in grads), flags])
    dist.all_reduce(flat)
    begin = 0
    for p, g, known in zip(parameters, grads, flat[-len(flags) :]):
        p.grad = (flat[begin : begin + g.numel()] / ranks()).view_as(g) if known else None
        begin += g.numel()
    return bool(flat[-1] > 0)


def end_with_parent() -> None:
    """Ask for SIGTERM when the parent process dies, by whatever means: what trains here then saves and stops instead
    of going on unseen. On Linux; elsewhere nothing."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def _enter(number: int, work: Callable[..., Any], count: int, meeting: str, what: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    end_with_parent()
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=number, world_size=count)
    try:
        work(*what)
    finally:
        dist.destroy_process_group()


def launch(work: Callable[..., Any], count: int, *what: Any) -> None:
    """Run `work(*what)` in `count` processes that form a group; in this process where count is 1.

    work must be a function of a module. Raises what a process raised, as torch.multiprocessing reports it.
    """
    if count == 1:
        work(*what)
        return
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        meeting = str(Path(folder) / "meeting")
        torch.multiprocessing.spawn(_enter, (work, count, meeting, what), nprocs=count)
