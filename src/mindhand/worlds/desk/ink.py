"""One glyph as pixels, however it came about."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Ink:
    """A glyph's bitmap: coverage float32 (h,w) in 0..1, and where its top left corner lies from the pen, which
    stands at the glyph's middle on the middle of the line; its advance. Pixels."""

    cover: np.ndarray
    left: int
    top: int
    advance: float
