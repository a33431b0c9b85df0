"""Groups of rollouts from one start: what each is worth beside the others, the clipped update, and a World of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mindhand.core.keys import Key
from mindhand.core.nouns import Observation


def leave_one_out(rewards: np.ndarray) -> np.ndarray:
    """A_k = R_k - the mean of the others (RLOO, 2402.14740): (G,K), K > 1 -> float32 (G,K), each group's sum 0."""
    many = rewards.shape[1]
    return ((rewards - rewards.mean(1, keepdims=True)) * many / (many - 1)).astype(np.float32)


def contrast(rewards: np.ndarray) -> np.ndarray:
    """Whether a group's rollouts differ in reward: (G,K) -> bool (G,). The others teach nothing."""
    return rewards.min(1) < rewards.max(1)


def clipped(new: Tensor, old: Tensor, advantage: Tensor, mask: Tensor, clip: float) -> Tensor:
    """PPO's clipped surrogate (1707.06347, eq. 7), to be made small. new, old (B,M) log-probabilities, mask bool (B,M),
    advantage (B,) -> (B,), scaled so that its mean over rows is the mean over all tokens of the mask."""
    ratio = torch.where(mask, new - old, torch.zeros_like(new)).exp()
    a = advantage.unsqueeze(1)
    gain = torch.minimum(ratio * a, ratio.clamp(1 - clip, 1 + clip) * a)
    lost = -torch.where(mask, gain, torch.zeros_like(gain)).sum(1)
    return lost * len(lost) / mask.sum().clamp_min(1)


class Grouped:
    """World: rollouts with keys of their own, from starts that several of them share; a policy's noise is by the
    rollout's key. A start is made once and then restored, as long as it stays among those of the last `reset`s."""

    def __init__(self, world: Any, starts: Mapping[Key, Key], kept: int = 64):
        self.world, self.starts, self.kept = world, starts, kept
        self._made: dict[Key, bytes] = {}
        self._keys: dict[int, Key] = {}

    def __getattr__(self, name: str) -> Any:  # all the rest is the world's: spec, step, limits, ...
        return getattr(self.world, name)

    def reset(self, keys: Sequence[Key], rows: Sequence[int]) -> None:
        """Row by row, each at its rollout's start."""
        for key, row in zip(keys, rows):
            start, self._keys[row] = self.starts[key], key
            if start in self._made:
                self.world.restore([row], [self._made[start]])
                continue
            self.world.reset([start], [row])
            while len(self._made) >= self.kept:
                del self._made[next(iter(self._made))]
            (self._made[start],) = self.world.snapshot([row])

    def observe(self, rows: Sequence[int], cameras: Sequence[str] | None = None) -> Observation:
        """The world's, under the rollouts' keys."""
        return replace(self.world.observe(rows, cameras), keys=tuple(self._keys[r] for r in rows))
