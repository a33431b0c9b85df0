"""Long work as a queue: resumable jobs, several processes, a clock. What is due is asked anew after every job."""

from __future__ import annotations

import _thread
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any

import torch
from rich.console import Console

from mindhand.core.errors import Refusal
from mindhand.train.loop import Stopped
from mindhand.train.ranks import end_with_parent


def _until(work: Callable[..., None], job: Any, until: float) -> bool:
    """A worker's part: one job, until the clock says so; whether it was finished."""
    torch.set_num_threads(1)
    timer = threading.Timer(max(0.0, until - time.time()), _thread.interrupt_main)
    timer.daemon = True
    timer.start()
    try:
        work(job, Console(stderr=True))
        return True
    except (Stopped, KeyboardInterrupt):
        return False
    finally:
        timer.cancel()


def run_jobs(
    due: Callable[[], Iterable[Any]],
    work: Callable[[Any, Console], None],
    minutes: float,
    workers: int,
    console: Console,
    *,
    before: Callable[[Any], object] | None = None,
) -> int:
    """Run what is due for so many minutes, `workers` jobs at a time; returns how many were finished.

    due: jobs that are not done, in their order (hashable, picklable; `str` names one). work: a function that can be
    pickled, goes on from wherever it was stopped, and is interrupted when time is up. before: called here for each job
    first, for what two workers would otherwise make side by side. A job that fails is reported and left out until the
    next time. Refusal where a worker's process dies.
    """
    until, count, tried = time.time() + 60 * minutes, 0, set()
    with ProcessPoolExecutor(workers, get_context("spawn"), end_with_parent) as pool:
        running: dict[Any, Any] = {}
        while True:
            while len(running) < workers and time.time() < until:
                job = next((j for j in due() if j not in tried), None)
                if job is None:
                    break
                tried.add(job)
                if before is not None:
                    before(job)
                console.print(f"begins: {job}")
                try:
                    running[pool.submit(_until, work, job, until)] = job
                except BrokenProcessPool as error:
                    what = "a worker's process died (out of memory, or killed)"
                    raise Refusal(what, "one that ends", "the same command goes on") from error
            if not running:
                return count
            for ended in wait(running, return_when=FIRST_COMPLETED).done:
                job, error = running.pop(ended), ended.exception()
                console.print(f"{'failed: ' + repr(error) if error else 'ended'}: {job}")
                count += error is None and ended.result()
