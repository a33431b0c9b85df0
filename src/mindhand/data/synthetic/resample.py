"""Drawings seen small: shrunk as a graphics card does it, by halving, then read between pixels."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

Taps = tuple[np.ndarray, np.ndarray]  # pixels (4,N), counted row by row, and how much of each (4,N)


def taps(x: np.ndarray, y: np.ndarray, shape: tuple[int, ...]) -> Taps:
    """Where to read a drawing of `shape` (height, width) at points (N,), x right and y down from its top left corner
    in its pixels: between the four nearest middles, and never beyond its border."""
    x, y = np.clip(x - 0.5, 0, shape[1] - 1), np.clip(y - 0.5, 0, shape[0] - 1)
    left, top = np.minimum(x.astype(np.intp), shape[1] - 2), np.minimum(y.astype(np.intp), shape[0] - 2)
    a, b = (x - left).astype(np.float32), (y - top).astype(np.float32)
    corner = top * shape[1] + left
    pixels = np.stack([corner, corner + 1, corner + shape[1], corner + shape[1] + 1])
    return pixels, np.stack([(1 - a) * (1 - b), a * (1 - b), (1 - a) * b, a * b])


def _half(a: np.ndarray) -> np.ndarray:
    height, width = (n // 2 for n in a.shape)
    a = a[: 2 * height, : 2 * width]
    return (a[::2, ::2] + a[::2, 1::2] + a[1::2, ::2] + a[1::2, 1::2]) / 4


@lru_cache(maxsize=16)
def _enlarged(small: tuple[int, int], large: tuple[int, int]) -> Taps:
    y, x = ((np.arange(n) + 0.5) * m / n for m, n in zip(small, large))
    return taps(*(g.ravel() for g in np.meshgrid(x, y)), small)


def read(a: np.ndarray, where: Taps) -> np.ndarray:
    """A drawing (h,w), or several (n,h,w) whose pixels are counted on, read at N taps: (N,)."""
    pixels, share = where
    return np.einsum("kn,kn->n", a.ravel()[pixels], share)


def shrunk(a: np.ndarray, blur: float) -> np.ndarray:
    """float32 (h,w) -> what is left of a drawing when one pixel of a picture covers `blur` >= 1 of its own: halved as
    often as that allows, and mixed with the next halving by what remains (trilinear filtering)."""
    level = max(0.0, math.log2(blur))
    for _ in range(int(level)):
        a = _half(a)
    if (rest := level - int(level)) == 0.0:
        return a
    small = _half(a)
    return (1 - rest) * a + rest * read(small, _enlarged(small.shape, a.shape)).reshape(a.shape)
