"""Keys and counter noise: all randomness is a pure function of a key, never of hidden generator state.

An episode is named by a `Key`; whatever is random in it is drawn from `Keys`, a batch of 128-bit counters.
`keys.fold(x)` derives new, independent keys (per query, per sample, per layer), and a draw does not change
the keys it came from. Therefore the same episode is the same in any batch, on any worker, in any order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .errors import BadData


@dataclass(frozen=True, order=True)
class Key:
    """Names one episode: which protocol (no slash in it), which task, which index, which seed."""

    protocol: str
    task: str
    index: int
    seed: int = 0

    def __post_init__(self) -> None:
        if "/" in self.protocol:  # else two keys could print, and draw, alike
            raise BadData(f"protocol '{self.protocol}' with a slash", "a plain name", "put the slash into the task")

    def __str__(self) -> str:
        return f"{self.protocol}/{self.task}/{self.index}/{self.seed}"


def _digest(parent: bytes, word: str | int | bytes) -> bytes:
    tag = b"i" if isinstance(word, int | np.integer) else b"b" if isinstance(word, bytes) else b"s"
    body = word if isinstance(word, bytes) else str(word).encode()
    return hashlib.blake2b(parent + tag + body, digest_size=16).digest()


@dataclass(frozen=True)
class Keys:
    """B independent counters. `rows` are 16-byte digests."""

    rows: tuple[bytes, ...]

    @staticmethod
    def of(keys: Sequence[Key]) -> Keys:
        """One counter an episode."""
        return Keys(tuple(_digest(b"episode", str(k)) for k in keys))

    @staticmethod
    def seeded(rows: int, *words: str | int) -> Keys:
        """`rows` counters from plain words, for training: `Keys.seeded(B, run_seed, "step", step)`."""
        base = b"seeded"
        for word in words:
            base = _digest(base, word)
        return Keys(tuple(_digest(base, row) for row in range(rows)))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: Sequence[int] | np.ndarray | slice) -> Keys:
        picked = self.rows[rows] if isinstance(rows, slice) else tuple(self.rows[int(r)] for r in rows)
        return Keys(picked)

    def fold(self, *words: str | int) -> Keys:
        """New keys, one a row, independent of these and of any other words."""
        rows = self.rows
        for word in words:
            rows = tuple(_digest(row, word) for row in rows)
        return Keys(rows)

    def fold_each(self, words: Sequence[str | int]) -> Keys:
        """New keys, row i folded with `words[i]`: rows that are at different queries of their episodes."""
        if len(words) != len(self.rows):
            raise BadData(f"{len(words)} words for {len(self.rows)} keys", "one a row", "fold each row's own word")
        return Keys(tuple(_digest(row, word) for row, word in zip(self.rows, words)))

    def repeat(self, samples: int) -> Keys:
        """(B*S) keys, row-major: the S samples of row 0 first. Matches `Trunk.fork`."""
        return Keys(tuple(_digest(row, sample) for row in self.rows for sample in range(samples)))

    def uniform(self, *shape: int) -> np.ndarray:
        """(B, *shape) float64 in [0, 1)."""
        count = int(np.prod(shape, dtype=np.int64))
        if not self.rows:
            return np.zeros((0, *shape))
        raw = np.stack([np.random.Philox(key=np.frombuffer(r, np.uint64)).random_raw(count) for r in self.rows])
        return ((raw >> np.uint64(11)) * 2.0**-53).reshape(len(self), *shape)

    def normal(self, *shape: int) -> np.ndarray:
        """(B, *shape) float32 standard normal, by Box-Muller from the raw counter.

        numpy keeps the raw Philox stream stable between releases and promises nothing for
        `standard_normal`; an episode must not change because numpy did.
        """
        count = int(np.prod(shape, dtype=np.int64))
        u = self.uniform(2, count)
        z = np.sqrt(-2.0 * np.log1p(-u[:, 0])) * np.cos(2.0 * np.pi * u[:, 1])
        return z.astype(np.float32).reshape(len(self), *shape)

    def integers(self, high: int, *shape: int) -> np.ndarray:
        """(B, *shape) int64 in 0..high-1."""
        return np.minimum((self.uniform(*shape) * high).astype(np.int64), high - 1)

    def generators(self) -> list[np.random.Generator]:
        """One numpy generator a row, for code that draws sequentially (scene sampling, augmentation)."""
        return [np.random.Generator(np.random.Philox(key=np.frombuffer(r, np.uint64))) for r in self.rows]
