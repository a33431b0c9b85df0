"""Tiny policies that methods are put into: the bench's bases on random weights, the spec of the seam tests."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from mindhand.core.batch import Batch
from mindhand.model.vla import VLA
from mindhand.recipes.proofs import bench

from ..model.tiny import vlm
from ..seams.build import batch, spec

SPEC = spec()
ROWS, HORIZON = 6, 16


def _tiny(base: str) -> dict[str, Any]:
    torch.manual_seed(0)
    return bench.BASES[base](vlm(), SPEC, HORIZON)


BASES: dict[str, Callable[[], dict[str, Any]]] = {base: partial(_tiny, base) for base in bench.BASES}
flow, tokens = BASES["flow"], BASES["tokens"]


def examples(model: Any, seed: int = 0) -> Batch:
    """Robot rows, smooth, one of them cut short by its episode's end."""
    g = torch.Generator().manual_seed(seed)
    texts = ["what is on the board?", "pick"] * (ROWS // 2)
    t = torch.linspace(0, 1, HORIZON).view(1, -1, 1)
    actions = torch.rand(ROWS, 1, 3, generator=g) + t * torch.rand(ROWS, 1, 3, generator=g)
    valid = torch.ones(ROWS, HORIZON, dtype=torch.bool)
    valid[1, 2:] = False
    return batch(model, texts, ("image/front", "text"), seed, actions=actions, action_valid=valid)


def policy(parts: dict[str, Any]) -> VLA:
    """A VLA of these parts, with its statistics."""
    vla = VLA(spec=SPEC, **parts)
    some = [examples(vla.backbone, seed) for seed in range(8)]
    vla.codec.fit(iter(some))
    vla.state_scale.fit(torch.cat([b.state[:, -1] for b in some]))
    for p in vla.expert.parameters():  # leave zero starts, so that every path carries something
        if p.ndim > 1:
            torch.nn.init.normal_(p, std=p.shape[-1] ** -0.5)
    return vla
