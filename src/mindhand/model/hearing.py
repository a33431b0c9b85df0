"""Where a hand is heard: what enters its last layer, the module named `leave`. These are its last hidden states, before
they become velocities, noise or scores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mindhand.core.errors import BuildError
from mindhand.core.seams import Context, Draw

from . import fits

LAST = "leave"
POOLS = ("first", "last", "mean")  # of what is heard of a chunk's tokens


def _last_layers(hand: nn.Module) -> list[nn.Module]:
    return [m for name, m in hand.named_modules() if name.split(".")[-1] == LAST]


def provided(hand: nn.Module | None) -> frozenset[str]:
    """What a VLA can tell by this hand: `fits.HIDDEN`, where there is one last layer."""
    return frozenset({fits.HIDDEN} if hand is not None and len(_last_layers(hand)) == 1 else ())


def last_layer(hand: nn.Module) -> nn.Module:
    """The one module of a hand that is named `leave`. BuildError where there is none, or several."""
    found = _last_layers(hand)
    if len(found) != 1:
        what = f"{type(hand).__name__} with {len(found)} layers named '{LAST}'"
        raise BuildError(
            what, "a hand with one last layer behind its hidden states", "choose flow, diffusion or tokens"
        )
    return found[0]


@contextmanager
def listening(hand: nn.Module) -> Iterator[list[Tensor]]:
    """While it is open, the list grows by what enters the hand's last layer, a call each: (N,H,W), or (N,W)."""
    calls: list[Tensor] = []
    handle = last_layer(hand).register_forward_pre_hook(lambda module, given: calls.append(given[0].detach()))
    try:
        yield calls
    finally:
        handle.remove()


def _said(calls: Sequence[Tensor], draw: Draw) -> tuple[Tensor, Tensor]:
    """Hidden states of the action tokens (N,n,W) of N rows and samples, and how many of them count (N,): those of the
    last call, the end of a walk from noise; of a hand that says tokens, one a call, up to the sample's own end."""
    rows, samples = draw.value.shape[:2]
    if not calls or len(calls[-1]) != rows * samples:
        have = len(calls[-1]) if calls else 0
        raise BuildError(f"{have} rows heard of {rows} x {samples} samples", "one a sample", "choose another hand")
    every = calls[-1] if calls[-1].ndim == 3 else torch.stack(list(calls), 1)
    count = torch.full((len(every),), every.shape[1], device=every.device)
    if draw.valid is not None and draw.valid.shape[-1] == every.shape[1]:
        count = draw.valid.flatten(0, 1).sum(1).to(count)
    return every.float(), count.clamp_min(1)


def last_hidden(calls: Sequence[Tensor], draw: Draw) -> Tensor:
    """float32 (B,S,W), one of each sample: at the first action token in the last call, the end of a walk from noise; of
    a hand that says tokens, behind the last before the sample's own end."""
    every, count = _said(calls, draw)
    at = torch.zeros_like(count) if calls[-1].ndim == 3 else count - 1
    return every[torch.arange(len(every), device=every.device), at].unflatten(0, draw.value.shape[:2])


def pooled(calls: Sequence[Tensor], draw: Draw) -> Tensor:
    """float32 (B,S,3,W) in the order of `POOLS`: the first and the last of a sample's action tokens that count, and
    their mean."""
    every, count = _said(calls, draw)
    rows = torch.arange(len(every), device=every.device)
    inside = torch.arange(every.shape[1], device=every.device) < count.unsqueeze(1)
    mean = torch.where(inside.unsqueeze(2), every, 0).sum(1) / count.unsqueeze(1)
    return torch.stack([every[:, 0], every[rows, count - 1], mean], 1).unflatten(0, draw.value.shape[:2])


def drawn(hand: Any, want: Sequence[str], ctx: Context, samples: int, **how: Any) -> tuple[Draw, dict[str, Any]]:
    """What a hand draws, and beside it, where that is wanted, what it felt: {"hidden": as of `pooled`}. how: of its
    `draw`. BuildError as of `last_layer`."""
    if fits.HIDDEN not in want:
        return hand.draw(ctx, samples, want=want, **how), {}
    with listening(hand) as calls:
        draw = hand.draw(ctx, samples, want=want, **how)
    return draw, {fits.HIDDEN: pooled(calls, draw)}
