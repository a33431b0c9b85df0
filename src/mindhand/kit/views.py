"""The same picture seen a little otherwise: what was made for one picture, pixel by pixel, is seldom there in another.

Smaller with a border (Xie et al., 1711.01991), compressed as JPEG (Guo et al., 1711.00117), or a little closer. What a
picture shows moves by a few per cent, and extras that belong to its pixels (depth) do not move with it. Whoever attacks
a policy that is asked about such views can differentiate through them (`several`).
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from mindhand.core.keys import Keys
from mindhand.core.nouns import ActionChunk, Observation
from mindhand.core.seams import State

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


def _smooth(x: Tensor, kind: str, u: Sequence[float]) -> Tensor:
    """(n,3,h,w) as `view` makes it, with gradients and without its rounding; of a JPEG the picture itself."""
    h, w = x.shape[2:]
    if kind == "jpeg":
        return x
    if kind == "smaller":
        share = _between(SMALLER, u[0])
        height, width = max(1, min(h - 1, round(share * h))), max(1, min(w - 1, round(share * w)))
        small = F.interpolate(x, (height, width), mode="bilinear", antialias=True)
        top, left = round(u[1] * (h - height)), round(u[2] * (w - width))
        return F.pad(small, (left, w - width - left, top, h - height - top), mode="replicate")
    share = _between(CLOSER, u[0])
    rows, columns = (
        at * (1 - share) * n + (torch.arange(n, device=x.device) + 0.5) * share for n, at in ((h, u[1]), (w, u[2]))
    )
    y, x_ = torch.meshgrid(2 * rows / h - 1, 2 * columns / w - 1, indexing="ij")
    grid = torch.stack([x_, y], -1).to(x.dtype).expand(len(x), h, w, 2)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)


def several(x: Tensor, count: int, keys: Keys) -> list[Tensor]:
    """Pixels (1,T,3,h,w) in [0, 1], and so many views of them, each drawn as `otherwise` draws them. Exactly what is
    seen after rounding, with gradients of what a view is nearly (Athalye et al., 1802.00420). keys: one row."""
    out = [x]
    for number in range(count):
        kind, u = KINDS[number % len(KINDS)], keys.fold("view", number).uniform(3)[0].tolist()
        near, frames = _smooth(x[0], kind, u), (x[0].detach() * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
        there = np.stack([view(frame, kind, u) for frame in frames])
        exact = torch.from_numpy(there).permute(0, 3, 1, 2).to(x) / 255
        out.append((near + (exact - near).detach()).unsqueeze(0))
    return out


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


def voted(told: Sequence[tuple[ActionChunk, State, np.ndarray]], due: np.ndarray) -> np.ndarray:
    """Of the answers to all views, the first of them to what is there: which one counts, (B,). Not the first in rows
    that are due and where most go somewhere: there the one of these that is nearest to the others."""
    going = ~np.stack([still for _, _, still in told], 1)
    thawed = due & (2 * going.sum(1) > len(told))
    every = np.stack([chunk.actions for chunk, _, _ in told], 1).reshape(len(due), len(told), -1)
    return np.array([medoid(x, g) if t else 0 for x, g, t in zip(every, going, thawed)])
