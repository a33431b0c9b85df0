"""A hand that is told words: nothing of the mind reaches it but what was said, and where the mind looked.

What a knowing mind in front of a small policy achieves without any tuning of one to the other (as SayCan, 2204.01691,
or a planner's text parsed into a goal): the explanation that a gain of a VLA must beat. The last sentence of a thought
is the goal; its words become fixed random codes, by their places. Streams (the eyes) are the hand's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mindhand.core.errors import BuildError
from mindhand.core.keys import Keys
from mindhand.core.seams import Code, Context, Draw, LogProb, Noised

from . import fits
from .expert import ActionExpert, ExpertConfig, Projector
from .thinking import as_trunk


@cache
def _code(place: int, word: str, width: int) -> np.ndarray:
    return np.sign(Keys.seeded(1, "goal", place, word).normal(width)[0]).astype(np.float32)


def goal_codes(texts: Sequence[str], width: int) -> np.ndarray:
    """float32 (n, width): the mean of the codes of the last sentence's words; zeros where nothing is said.

    Words are the more alike the more words they share at the same places: what is said in other combinations than
    those learned is understood word by word."""
    out = np.zeros((len(texts), width), np.float32)
    for row, text in zip(out, texts):
        words = text.strip().rstrip(".").rpartition(". ")[2].split()
        if words:
            row[:] = np.mean([_code(i, w, width) for i, w in enumerate(words)], 0)
    return out


class Cascade(nn.Module):
    """Expert (core/seams.py): an `ActionExpert` that hears `goal_codes` of the thought in place of hidden states, and
    of the prompt nothing. Remembered thoughts must be such codes."""

    part_name = "cascade"

    def __init__(self, config: ExpertConfig):
        super().__init__()
        self.config = config
        self.hand = ActionExpert(config)
        # Codes of words are as wide as the trunk only by choice, and it hears nothing else of the mind.
        self.needs = (self.hand.needs - {fits.trunk(config.trunk)}) | {"reasoning"}
        self.provides = self.hand.provides - {fits.HEARS}

    @property
    def prompt(self) -> Projector:
        """The hand's."""
        return self.hand.prompt

    @property
    def thought(self) -> Projector:
        """The hand's."""
        return self.hand.thought

    def heard(self, ctx: Context) -> Context:
        """What the hand is told of it."""
        trunk = ctx.trunk
        if ctx.reasoning is None:
            if trunk.cache:  # a pass, and not what was remembered of one
                raise BuildError("thoughts as hidden states alone", "what was said, or goal codes", "train on codes")
            return ctx
        state = ctx.inputs.state
        assert state is not None
        said = torch.from_numpy(goal_codes(ctx.reasoning.texts, self.config.trunk)).to(state)
        return replace(ctx, trunk=as_trunk(torch.zeros_like(said), said, nn.ModuleDict()))

    def corrupt(self, code: Code, keys: Keys) -> Noised:
        """As `ActionExpert`."""
        return self.hand.corrupt(code, keys)

    def predict(self, ctx: Context, noised: Noised) -> Tensor:
        """As `ActionExpert`."""
        return self.hand.predict(self.heard(ctx), noised)

    def loss(self, ctx: Context, code: Code, keys: Keys) -> dict[str, Tensor]:
        """As `ActionExpert`."""
        return self.hand.loss(self.heard(ctx), code, keys)

    def draw(self, ctx: Context, samples: int, **how: Any) -> Draw:
        """As `ActionExpert`."""
        return self.hand.draw(self.heard(ctx), samples, **how)

    def log_prob(self, ctx: Context, draw: Draw) -> LogProb:
        """As `ActionExpert`."""
        return self.hand.log_prob(self.heard(ctx), draw)
