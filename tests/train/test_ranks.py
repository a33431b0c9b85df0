"""Gradients of several processes are averaged; what no process has learned from is not moved."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from mindhand.train.ranks import average, launch, rank
from tests.processes import runs


def _work(folder):
    own, shared, idle = (nn.Parameter(torch.zeros(2)) for _ in range(3))
    shared.grad = torch.tensor([1.0, 3.0]) * (rank() + 1)
    if rank() == 0:
        own.grad = torch.tensor([4.0, -4.0])
    stop = average([own, shared, idle], stop=rank() == 1)
    torch.save((own.grad, shared.grad, idle.grad, stop), folder / f"{rank()}.pt")


def test_average_over_two_processes(tmp_path):
    launch(_work, 2, tmp_path)
    for number in range(2):
        own, shared, idle, stop = torch.load(tmp_path / f"{number}.pt", weights_only=True)
        assert torch.equal(own, torch.tensor([2.0, -2.0]))
        assert torch.equal(shared, torch.tensor([1.5, 4.5]))
        assert idle is None
        assert stop is True


def _linger(folder):
    (folder / f"{rank()}.pid").write_text(str(os.getpid()))
    time.sleep(60)


@pytest.mark.skipif(sys.platform != "linux", reason="asks the Linux kernel")
def test_processes_end_with_a_parent_that_was_killed(tmp_path):
    call = (
        f"from pathlib import Path; from {__name__} import _linger, launch; launch(_linger, 2, Path({str(tmp_path)!r}))"
    )
    parent = subprocess.Popen([sys.executable, "-c", call], cwd=Path(__file__).parents[2])
    until = time.monotonic() + 60
    while len(found := [p for p in tmp_path.glob("*.pid") if p.read_text()]) < 2 and time.monotonic() < until:
        assert parent.poll() is None
        time.sleep(0.1)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    pids = [p.read_text() for p in found]
    while any(map(runs, pids)) and time.monotonic() < until:
        time.sleep(0.1)
    assert len(pids) == 2
    assert not any(map(runs, pids))
