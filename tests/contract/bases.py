"""Tiny policies that methods are put into: real parts, random weights, the spec of the seam tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from mindhand.core.batch import Batch
from mindhand.methods.act.oft import plug
from mindhand.model.bins import BinCodec
from mindhand.model.codec import ChunkCodec
from mindhand.model.reasoner import ReasonerConfig, WordsReasoner
from mindhand.model.token_expert import TokenConfig, TokenExpert
from mindhand.model.tower_hand import TOWER, AddTower, TowerHand, TowerHandConfig
from mindhand.model.vla import VLA

from ..model.tiny import vlm
from ..seams.build import batch, spec

SPEC = spec()
ROWS, HORIZON = 6, 16


def _common() -> dict[str, Any]:
    torch.manual_seed(0)
    return {"backbone": vlm(), "reasoner": WordsReasoner(ReasonerConfig(limit=0), lambda text: {})}


def flow() -> dict[str, Any]:
    """A hand in a tower of the trunk, by flow matching."""
    parts = _common()
    width = parts["backbone"].width
    config = TowerHandConfig(SPEC.action_size, HORIZON, SPEC.state_size, width)
    return {
        **parts,
        "expert": TowerHand(config),
        "codec": ChunkCodec(SPEC),
        "edits": [AddTower(TOWER, width, 2 * width)],
    }


def tokens() -> dict[str, Any]:
    """A hand of tokens, one a number, in bins."""
    parts = _common()
    config = TokenConfig(256, HORIZON * SPEC.action_size, SPEC.state_size, parts["backbone"].width)
    return {**parts, "expert": TokenExpert(config), "codec": BinCodec(SPEC)}


def oft() -> dict[str, Any]:
    """A hand that regresses a chunk in one pass."""
    return plug(tokens(), SPEC, film=False)


BASES: dict[str, Callable[[], dict[str, Any]]] = {"flow": flow, "tokens": tokens, "oft": oft}


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
