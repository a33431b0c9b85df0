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
from mindhand.core.keys import Keys
from mindhand.core.seams import Context
from mindhand.model.eyes import look_scores


class LookLoss(nn.Module):
    """Cross-entropy of target "look" (B*Q,n): cells by answer token, where valid. `layer` holds the pointing head."""

    replaces: frozenset[str] = frozenset()
    needs: frozenset[str] = frozenset({"image", "text"})
    provides: frozenset[str] = frozenset({"look"})

    def __init__(self, layer: int, head: int = 0, camera: str = "front", segment: str = "reasoning"):
        super().__init__()
        self.want, self.layer, self.head, self.camera, self.segment = (layer,), layer, head, camera, segment

    def loss(self, vla: Any, batch: Batch, ctx: Context, keys: Keys) -> dict[str, Tensor]:
        """{"look": (B*Q,)}, nothing where the batch has no such target."""
        target = batch.targets.get("look")
        if target is None:
            return {}
        many, device = batch.questions, target.value.device
        total, count = torch.zeros(len(target.valid), device=device), 0
        for q in range(many):
            scores = self._scores(ctx, self.segment if many == 1 else f"{self.segment}@{q}")
            valid = target.valid[q::many, 1 : 1 + scores.shape[1]]
            cells = target.value[q::many, 1 : 1 + scores.shape[1]][valid]
            error = F.cross_entropy(scores[valid], cells, reduction="none")
            total = total.index_add(0, valid.nonzero()[:, 0] * many + q, error)
            count += len(error)
        return {"look": total * len(total) / max(count, 1)}

    def _scores(self, ctx: Context, segment: str) -> Tensor:
        return look_scores(ctx.trunk, self.layer, self.head, segment, self.camera)[:, :-1]

    def after_step(self, vla: Any, step: int) -> None:
        """Nothing to keep."""
