"""What the seam tests share: one spec, one batch, one observation, and a VLA round the tiny models."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from mindhand.core.batch import Batch
from mindhand.core.keys import Key
from mindhand.core.nouns import Observation
from mindhand.core.spec import Camera, Part, Spec
from mindhand.methods.act.oft import OFT, Config
from mindhand.model.codec import ChunkCodec
from mindhand.model.reasoner import ReasonerConfig, WordsReasoner
from mindhand.model.vla import VLA

from ..model.tiny import vlm

TEXTS = ("what is on the board?", "pick")
HORIZON = 4  # of the tiny expert


def close(a: torch.Tensor, b: torch.Tensor, tol: float = 2e-5) -> None:
    """Equal shapes, and no element further apart than `tol`."""
    assert a.shape == b.shape
    assert (a - b).abs().max() < tol, float((a - b).detach().abs().max())


def spec() -> Spec:
    """Three action dimensions, the last a gripper; five of state; one camera of 32 x 32 pixels."""
    joint = Part("joint", "joint", ("x", "y"), "rad")
    return Spec(
        robot="point",
        action=(joint, Part("gripper", "gripper", ("width",), "1", polarity="open")),
        state=(joint, Part("force", "other", ("x", "y", "z"), "N")),
        cameras=(Camera("front", 32, 32, (32, 32)),),
        rate=10.0,
    )


def batch(model: Any, texts=TEXTS, order=("text",), seed: int = 0, **more: Any) -> Batch:
    """Robot rows, one a text, whole chunks; `more` replaces or adds fields."""
    g = torch.Generator().manual_seed(seed)
    rows = len(texts)
    fields: dict[str, Any] = {
        "order": order,
        "images": {"front": torch.randint(0, 256, (rows, 1, 32, 32, 3), dtype=torch.uint8, generator=g)},
        "present": {"front": torch.ones(rows, dtype=torch.bool)},
        "text": {"text": model.words.questions(texts)},
        "task": torch.ones(rows, dtype=torch.int64),
        "state": torch.rand(rows, 1, 5, generator=g),
        "actions": torch.rand(rows, HORIZON, 3, generator=g),
        "action_valid": torch.ones(rows, HORIZON, dtype=torch.bool),
    }
    return Batch(**{**fields, **more})


def observation(texts=TEXTS, episodes=None, seed: int = 0) -> Observation:
    """One control step of as many rows."""
    rng = np.random.default_rng(seed)
    rows = len(texts)
    return Observation(
        images={"front": rng.integers(0, 256, (rows, 1, 32, 32, 3), dtype=np.uint8)},
        state=rng.random((rows, 1, 5), np.float32),
        text={"instruction": tuple(texts)},
        time=np.zeros((rows, 1)),
        keys=tuple(Key("seams", "point", i) for i in (episodes or range(rows))),
    )


def oft() -> OFT:
    """A hand of this spec's size that regresses a chunk in one pass."""
    return OFT(Config(HORIZON, 3, 5, 32))


def vla(hand: Any = None, backbone: Any = None, **parts: Any) -> VLA:
    """A VLA whose statistics are fitted on the batch above. A hand that follows words has a reasoner that says none."""
    model = vlm() if backbone is None else backbone
    if "reasoning" in getattr(hand, "needs", ()):
        parts.setdefault("reasoner", WordsReasoner(ReasonerConfig(limit=0), lambda text: {}))
    made = VLA(spec=spec(), backbone=model, expert=hand, codec=parts.pop("codec", ChunkCodec(spec())), **parts)
    example = batch(model)
    made.codec.fit(iter([example]))
    assert example.state is not None
    made.state_scale.fit(example.state.flatten(0, 1))
    return made
