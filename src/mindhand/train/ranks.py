"""Several processes train one model: each takes its share of every batch, gradients are averaged.

The same code runs under torchrun. On CPU, two ranks of one thread each beat one process with two threads.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn


def rank() -> int:
    """This process's number; 0 where there is only one."""
    return dist.get_rank() if dist.is_initialized() else 0


def ranks() -> int:
    """How many processes train."""
    return dist.get_world_size() if dist.is_initialized() else 1


def average(parameters: Sequence[nn.Parameter], stop: bool) -> bool:
    """Average the gradients over ranks; returns whether any rank was asked to stop, so that all stop together.

    A parameter without a gradient on some rank (no sample of its kind there) counts as zero there; one without any
    on all ranks keeps none, so that no optimiser moves it.
    """
    if ranks() == 1:
        return stop
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
