"""Sequential draws from one counter key, for code that samples a scene or a motion step by step.

Only raw counter bits are used (`Keys.uniform`), never a numpy distribution: a scene must not change because
numpy did.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

from mindhand.core.errors import BadData
from mindhand.core.keys import Keys

T = TypeVar("T")
_BLOCK = 64


class Draw:
    """A stream of uniforms that is a pure function of one key row; equal keys give equal streams."""

    def __init__(self, keys: Keys):
        if len(keys) != 1:
            raise BadData(f"{len(keys)} keys for one scene", "exactly one row", "pass keys[[row]]")
        self._keys = keys
        self._block = 0
        self._left: list[float] = []

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """One float in [low, high)."""
        if not self._left:
            self._left = self._keys.fold("draw", self._block).uniform(_BLOCK)[0].tolist()[::-1]
            self._block += 1
        return low + (high - low) * self._left.pop()

    def index(self, count: int) -> int:
        """One integer in 0..count-1."""
        return min(int(self.uniform() * count), count - 1)

    def pick(self, items: Sequence[T]) -> T:
        """One item, all equally likely."""
        return items[self.index(len(items))]

    def among(self, shares: Sequence[tuple[T, float]]) -> T:
        """One of (item, share), each as often as its share says; the shares add up to 1."""
        at = self.uniform()
        for item, share in shares:
            if at < share:
                return item
            at -= share
        return shares[-1][0]

    def chance(self, probability: float) -> bool:
        """True with that probability."""
        return self.uniform() < probability

    def normal(self, sd: float = 1.0, clip: float = math.inf) -> float:
        """A centred normal number, clipped to +-`clip` (Box-Muller)."""
        radius = math.sqrt(-2.0 * math.log1p(-self.uniform()))
        return max(-clip, min(clip, sd * radius * math.cos(2.0 * math.pi * self.uniform())))

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """A copy in random order."""
        out = list(items)
        for i in range(len(out) - 1, 0, -1):
            j = self.index(i + 1)
            out[i], out[j] = out[j], out[i]
        return out
