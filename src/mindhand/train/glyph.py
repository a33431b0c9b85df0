"""Objective: which glyph is centred in each cell of the picture, where in it, and how it looks. With it a small VLM
reads within minutes.

A linear head on the picture's hidden states after a middle layer; the data says what stands where. Without it the
prototype of the small VLM read nothing after 20 thousand pictures, with it 84 % after 12 thousand. A cell is coarser
than the words for places: without the second half "front" and "back" of a tile that was found stayed guesses.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mindhand.core.batch import Batch
from mindhand.core.keys import Keys
from mindhand.core.seams import Context
from mindhand.model.vision import pixels


class GlyphLoss(nn.Module):
    """Cross-entropy of targets "glyph" (B,cells), where empty cells weigh `empty`, since most are; the distance (sum of
    both, in cells) from targets "spot" (B,cells,2); and of `traits` (name: numbers a head says it with) the
    cross-entropy of classes (B,cells), or the distance from pairs (B,cells,2), where valid."""

    replaces: frozenset[str] = frozenset()
    needs: frozenset[str] = frozenset({"image"})
    provides: frozenset[str] = frozenset({"glyph"})
    weight: Tensor

    def __init__(
        self,
        width: int,
        classes: int,
        layer: int = 2,
        empty: float = 0.1,
        camera: str = "front",
        traits: Mapping[str, int] = {},
    ):
        super().__init__()
        self.want, self.camera = (layer,), camera
        self.sizes = {"glyph": classes, "spot": 2, **traits}
        self.head = nn.Linear(width, sum(self.sizes.values()))
        weight = torch.ones(classes)
        weight[0] = empty
        self.register_buffer("weight", weight, persistent=False)

    def loss(self, vla: Any, batch: Batch, ctx: Context, keys: Keys) -> dict[str, Tensor]:
        """{"glyph": (B,), "spot": (B,), trait: (B,)}, nothing where the batch has no such targets."""
        if "glyph" not in batch.targets:
            return {}
        return self.errors(ctx.trunk.layer(self.want[0], f"image/{self.camera}"), batch)

    def errors(self, hidden: Tensor, batch: Batch) -> dict[str, Tensor]:
        """The same of given hidden states (B,cells,D)."""
        said = self.head(hidden).float().split(list(self.sizes.values()), -1)
        out = {}
        for name, scores in zip(self.sizes, said):
            target = batch.targets[name]
            if target.value.ndim == 3:
                error = (scores - target.value).abs().sum(-1)
            else:
                error = F.cross_entropy(scores.transpose(1, 2), target.value, ignore_index=-1, reduction="none")
            weight = target.valid.float() * (self.weight[target.value] if name == "glyph" else 1.0)
            out[name] = (error * weight).sum(1) / weight.sum().clamp_min(1e-6) * len(error)
        return out

    def after_step(self, vla: Any, step: int) -> None:
        """Nothing to keep."""


class GlyphReader(nn.Module):
    """A vision tower with the glyph objective right behind it, and no trunk: a twelfth of the cost of a picture with
    its questions. Characters are learned first; all else that is asked stands on them."""

    def __init__(self, vision: nn.Module, glyph: GlyphLoss):
        super().__init__()
        self.vision, self.glyph = vision, glyph

    def losses(self, batch: Batch, keys: Keys) -> dict[str, Tensor]:
        """{"glyph": (B,), "spot": (B,), trait: (B,)}."""
        return self.glyph.errors(self.vision(pixels(batch.images[self.glyph.camera])).x, batch)
