"""Objective: the mind learns to say the robot's actions, while a hand of its own carries them out.

The second half of knowledge insulation (pi0.5-KI, 2505.23705): the hand's gradient is stopped, and what the mind learns
of acting comes from words, actions as discrete tokens behind its thought, by cross-entropy. Nobody decodes them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from mindhand.core.batch import Batch
from mindhand.core.keys import Keys
from mindhand.core.seams import Codec, Context
from mindhand.model import fits
from mindhand.model.token_expert import TokenExpert


class SaidActions(nn.Module):
    """{"said": (B,)}: cross-entropy of the tokens of each row's chunk. codec: to as many ids as expert says;
    its embedding and read-out learn too, and are not stored."""

    replaces: frozenset[str] = frozenset()
    provides: frozenset[str] = frozenset({"said"})

    def __init__(self, codec: Codec, expert: TokenExpert):
        super().__init__()
        self.needs = frozenset({"text", fits.HEARS, fits.trunk(expert.config.trunk)})
        self.codec, self.expert = codec, expert

    def fit(self, batches: Iterator[Batch]) -> None:
        """The codec's statistics, over all chunks."""
        self.codec.fit(batches)

    def loss(self, vla: Any, batch: Batch, ctx: Context, keys: Keys) -> dict[str, Tensor]:
        """Nothing for a batch of remembered thoughts, which no word can go on from, or without actions. What streams
        tell the hand is not said: their tokens have its width."""
        if not ctx.trunk.cache or batch.actions is None or batch.action_valid is None:
            return {}
        code = self.codec.encode(batch.actions, batch.action_valid, batch.state)
        robot = batch.action_valid.any(1)
        each = self.expert.loss(replace(ctx, streams={}), code, keys)["action"]
        return {"said": each * len(robot) / robot.sum().clamp_min(1)}  # a mean over robot rows, as the hand's own

    def after_step(self, vla: Any, step: int) -> None:
        """Nothing to keep."""
