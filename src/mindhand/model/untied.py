"""Edit: an output head of its own. Qwen2-VL and Qwen2.5-VL of 7 billion parameters and more have one; the smaller ones
read words and write them by one table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn


@dataclass(frozen=True)
class Untied:
    """Give the backbone a head (V,D) that starts as its embedding, so nothing changes until either learns or is loaded.
    One that has a head keeps it: weights may be imported before a policy is made of them and lists its edits."""

    provides: ClassVar[frozenset[str]] = frozenset({"output head"})

    def apply(self, vla: nn.Module) -> None:
        """`vla` is a VLM or holds one as `backbone`."""
        backbone = getattr(vla, "backbone", vla)
        if backbone.head is None:
            count, width = backbone.embedding.weight.shape
            with torch.device(backbone.embedding.weight.device):
                backbone.head = nn.Linear(width, count, bias=False).to(backbone.embedding.weight.dtype)
            backbone.head.load_state_dict(backbone.embedding.state_dict())
