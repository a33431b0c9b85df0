"""Objective: the mind stays near what it was, layer by layer.

The hidden states of every token, at every layer of the trunk, are drawn towards those of a frozen copy on the same
batch (distillation on one's own inputs; as layer-wise anchoring in Anchor-Align, 2607.13429). It costs a second pass.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mindhand.core.batch import Batch, masked_rows
from mindhand.core.keys import Keys
from mindhand.core.seams import Context


class AnchorLoss(nn.Module):
    """{"anchor": (B,)}: mean squared distance of hidden states from those of `still`, in units of their own mean
    square, over tokens and layers. `still` is a VLA with the mind as it was; it is no part of this one: it is neither
    trained nor stored."""

    replaces: frozenset[str] = frozenset()
    needs: frozenset[str] = frozenset({"text"})
    provides: frozenset[str] = frozenset({"anchor"})

    def __init__(self, still: nn.Module):
        super().__init__()
        self.want = tuple(range(len(still.backbone.towers["vlm"].layers)))
        self._still = (still.eval(),)  # in a tuple: no child

    def loss(self, vla: Any, batch: Batch, ctx: Context, keys: Keys) -> dict[str, Tensor]:
        """Nothing for a batch of remembered thoughts: the mind learns nothing there."""
        if not ctx.trunk.cache or batch.questions > 1:
            return {}
        (still,) = self._still
        with torch.no_grad():
            was = still.to(vla.device).trunk(batch, vla.inputs(batch), self.want)
        rows, shared = [], [n for n in was.hidden if n in ctx.trunk.hidden]
        for l in self.want:
            for name in shared:
                now, then = ctx.trunk.layer(l, name).float(), was.layer(l, name).float()
                far = F.mse_loss(now, then, reduction="none").mean(-1)
                rows.append(masked_rows(far / then.square().mean().clamp_min(1e-6), was.valid[name]))
        return {"anchor": torch.stack(rows).mean(0)}

    def after_step(self, vla: Any, step: int) -> None:
        """Nothing to keep."""
