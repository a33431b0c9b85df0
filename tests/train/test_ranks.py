"""Gradients of several processes are averaged; what no process has learned from is not moved."""

from __future__ import annotations

import torch
from torch import nn

from mindhand.train.ranks import average, launch, rank


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
