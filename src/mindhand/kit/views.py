"""The same picture seen a little otherwise: what was made for one picture, pixel by pixel, is seldom there in another.

Smaller with a border (Xie et al., 1711.01991), compressed as JPEG (Guo et al., 1711.00117), or a little closer. What a
picture shows moves by a few per cent, and extras that belong to its pixels (depth) do not move with it.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from PIL import Image

from mindhand.core.keys import Keys
from mindhand.core.nouns import Observation

KINDS = ("smaller", "jpeg", "closer")  # taken in turns
SMALLER, CLOSER, QUALITY = (0.85, 0.97), (0.90, 0.98), (60, 90)  # from, to


def _between(span: tuple[float, float], u: float) -> float:
    return span[0] + (span[1] - span[0]) * u


def view(picture: np.ndarray, kind: str, u: Sequence[float]) -> np.ndarray:
    """uint8 (h,w,3) -> the same size. u: three numbers in [0, 1): how much, and where."""
    h, w = picture.shape[:2]
    image = Image.fromarray(picture)
    if kind == "jpeg":
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=round(_between(QUALITY, u[0])))
        return np.asarray(Image.open(buffer).convert("RGB"))
    if kind == "smaller":
        share = _between(SMALLER, u[0])
        height, width = max(1, min(h - 1, round(share * h))), max(1, min(w - 1, round(share * w)))
        small = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
        top, left = round(u[1] * (h - height)), round(u[2] * (w - width))
        return np.pad(small, ((top, h - height - top), (left, w - width - left), (0, 0)), mode="edge")
    share = _between(CLOSER, u[0])
    top, left = u[1] * (1 - share) * h, u[2] * (1 - share) * w
    box = (left, top, left + share * w, top + share * h)
    return np.asarray(image.resize((w, h), Image.Resampling.BILINEAR, box=box))


def otherwise(obs: Observation, number: int, rows: np.ndarray, keys: Keys) -> Observation:
    """The `number`-th view of the rows (B,) bool; the others as they are. keys: a row each, of this query."""
    u, kind = keys.fold("view", number).uniform(3), KINDS[number % len(KINDS)]
    images = {role: x.copy() for role, x in obs.images.items()}
    for r in np.flatnonzero(rows):
        for x in images.values():
            x[r] = np.stack([view(frame, kind, u[r].tolist()) for frame in x[r]])
    return replace(obs, images=images)


def medoid(x: np.ndarray, among: np.ndarray) -> int:
    """The one of (n,m), of those that are True in (n,), that is nearest to all of these, each number in units of its
    own spread: a median that somebody said."""
    some = np.flatnonzero(among)
    scaled = x[some] / x[some].std(0).clip(1e-9)
    return int(some[np.abs(scaled[:, None] - scaled[None]).sum((1, 2)).argmin()])
