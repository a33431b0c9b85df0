"""Tokens that are dropped between two layers of the trunk (`core.seams.Keep`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mindhand.core.seams import Segment


def _take(x: Tensor, index: Tensor) -> Tensor:
    """x (B,n,...) at index (B,k) -> (B,k,...)."""
    return x.gather(1, index.reshape(index.shape + (1,) * (x.ndim - 2)).expand(-1, -1, *x.shape[2:]))


def prune(
    members: list[int],
    chosen: Mapping[int, Tensor | None],
    segments: Sequence[Segment],
    x: dict[str, Tensor],
    rope: dict[str, tuple[Tensor, Tensor]],
    task: dict[str, Tensor | None],
    valids: list[Tensor],
    sizes: list[int],
    kept: dict[str, Tensor],
) -> None:
    """Drop tokens of a tower's segments from here on; positions stay those of the tokens that remain."""
    tower = segments[members[0]].tower
    widths = [sizes[i] for i in members]

    def cut(whole: Tensor) -> Tensor:
        parts = whole.split(widths, 1)
        indices = [chosen[i] for i in members]
        return torch.cat([p if c is None else _take(p, c) for p, c in zip(parts, indices)], 1)

    batch = x[tower].shape[0]
    x[tower] = cut(x[tower])
    cos, sin = (cut(r.expand(batch, -1, -1, -1).squeeze(1)).unsqueeze(1) for r in rope[tower])
    rope[tower] = (cos, sin)
    given = task[tower]
    if given is not None:
        task[tower] = cut(given)
    for i in members:
        index = chosen[i]
        if index is not None:
            name = segments[i].name
            valids[i] = valids[i].gather(1, index)
            sizes[i] = index.shape[1]
            kept[name] = kept[name].gather(1, index) if name in kept else index
