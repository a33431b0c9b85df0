"""Where a mixture's tokens go: shares of experts, how even they are, and what they tell of the task.

Shares p (E,) sum to 1. A layer's load is even where its entropy is log E; its routing knows the task as far as the
mutual information of expert and task is above 0 (tasks alike, bits); two tasks share experts as far as their shares
overlap (1: the same routing, 0: other experts). 2505.21906 speaks of shared experts and publishes no such analysis.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from mindhand.core.errors import BadData

from .moe import MoE


class Traffic:
    """Counts of tokens by layer and expert, (L,E), while `counting`."""

    def __init__(self, model: nn.Module):
        self.layers = [m for m in model.modules() if isinstance(m, MoE)]
        if not self.layers:
            raise BadData("a model without a mixture of experts", "one with `moe.Upcycle`", "choose a policy with one")
        self.counts = np.zeros((len(self.layers), self.layers[0].config.experts))

    @contextmanager
    def counting(self) -> Iterator[Traffic]:
        """Count all tokens that pass meanwhile, those of padding too: ask one row at a time."""
        hooks = [m.scores.register_forward_hook(self._count(l, m)) for l, m in enumerate(self.layers)]
        try:
            yield self
        finally:
            for hook in hooks:
                hook.remove()

    def _count(self, l: int, layer: MoE):
        def hook(_: nn.Module, __: tuple, scores: Tensor) -> None:
            chosen = scores.detach().topk(layer.config.active, -1).indices.reshape(-1)
            self.counts[l] += torch.bincount(chosen, minlength=layer.config.experts).cpu().numpy()

        return hook

    @property
    def shares(self) -> np.ndarray:
        """(L,E), each layer's sum 1. BadData where nothing passed."""
        total = self.counts.sum(1, keepdims=True)
        if not total.all():
            raise BadData("a layer that no token passed", "some tokens", "ask the model something while counting")
        return self.counts / total


def evenness(shares: np.ndarray) -> float:
    """Entropy of (E,) over log E: 1 where all experts have as many tokens, 0 where one has all."""
    p = shares[shares > 0]
    return float(-(p * np.log(p)).sum() / np.log(len(shares)))


def told_apart(shares: Mapping[str, np.ndarray]) -> float:
    """Mutual information in bits of expert and task, tasks being alike: shares (E,) by task. At most log2 of the
    number of tasks: then every expert has one task's tokens alone."""
    p = np.stack(list(shares.values()))
    mean = np.broadcast_to(p.mean(0), p.shape)
    return float((p[p > 0] * np.log2(p[p > 0] / mean[p > 0])).sum() / len(p))


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    """What two tasks' shares (E,) have in common, 0 to 1."""
    return float(np.minimum(one, other).sum())
