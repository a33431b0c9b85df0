"""Objective: one attention head looks at what is being said.

The scores of one head of a late layer, over the picture's cells, are trained to fall on the cell that the next
token speaks of. The head stays an ordinary head: what it reads there flows on through the layer. Without such
supervision the prototype of the small VLM could not say where things are after ten CPU-minutes; with it, in two.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mindhand.core.batch import Batch
from mindhand.core.seams import Context


class LookLoss(nn.Module):
    """Cross-entropy of target "look" (B*Q,n): cells by answer token, where valid. `layer` holds the pointing head."""

    replaces: frozenset[str] = frozenset()
    needs: frozenset[str] = frozenset({"image", "text"})
    provides: frozenset[str] = frozenset({"look"})

    def __init__(self, layer: int, head: int = 0, camera: str = "front", segment: str = "reasoning"):
        super().__init__()
        self.want, self.layer, self.head, self.camera, self.segment = (layer,), layer, head, camera, segment

    def scores(self, trunk: Any, name: str) -> Tensor:
        """The head's scores (B,n,cells) of one segment's tokens over the picture's cells."""
        q = trunk.queries[self.layer][name]
        k = next(e.k for e in trunk.cache[self.layer] if e.name == f"image/{self.camera}")
        group = self.head * k.shape[1] // q.shape[1]
        return torch.matmul(q[:, self.head], k[:, group].transpose(-1, -2)).float() * q.shape[-1] ** -0.5

    def loss(self, vla: Any, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        """{"look": (B*Q,)}, nothing where the batch has no such target."""
        target = batch.targets.get("look")
        if target is None:
            return {}
        many = batch.questions
        names = [self.segment] if many == 1 else [f"{self.segment}@{q}" for q in range(many)]
        scores = torch.stack([self.scores(ctx.trunk, n) for n in names], 1).flatten(0, 1)[:, :-1]
        valid = target.valid[:, 1:]
        error = F.cross_entropy(scores[valid], target.value[:, 1:][valid], reduction="none")
        rows = valid.nonzero()[:, 0]
        total = torch.zeros(len(valid), device=error.device).index_add(0, rows, error)
        return {"look": total * len(valid) / max(len(rows), 1)}

    def after_step(self, vla: Any, step: int) -> None:
        """Nothing to keep."""
