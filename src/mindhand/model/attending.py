"""Reasoning-following by attention: what a block hears of a thought is a mean of its tokens that the block weighs.

The paper's reasoning vector is the mean over the tokens of a thought, one for all blocks of the latter half
(2505.21906): which digit, and where, is as loud in it as every other word. Here each block, and the final layer, has
one learned query, and hears softmax(q K^T) V over the projected tokens, in the place of the projected mean. All else is
as in `latter`: norm, state, time, the linear layer behind, the adaLN of the blocks. So only the weights of the mean
differ, they are computed once a chunk, and queries of zero give all tokens the same weight.

Turned down: a cross-attention of the action's own tokens in every block (2410.24164 and others). It would be another
layer in half of the blocks, once a denoising step; what it gained could be its size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .attention import attend


class Attending(nn.Module):
    """So many (`count`) means of the tokens of a row, each weighted by a learned query, head by head."""

    def __init__(self, width: int, count: int, heads: int):
        super().__init__()
        if width % heads:
            raise ValueError(f"{heads} heads over tokens of width {width}: expected heads that divide it")
        self.heads = heads
        self.query = nn.Parameter(torch.zeros(count, width))
        self.key = nn.Linear(width, width, bias=False)

    def forward(self, tokens: Tensor, valid: Tensor) -> Tensor:
        """tokens (B,n,D), n at least 1, valid (B,n) -> (B,count,D). Padding has no weight; a row of nothing else is its
        mean."""
        rows = len(tokens)
        none = ~valid.any(1, keepdim=True)
        key = self._heads(self.key(tokens))
        query = self._heads(self.query.to(key.dtype).expand(rows, -1, -1))
        return attend(query, key, self._heads(tokens.to(key.dtype)), (valid | none).view(rows, 1, 1, -1))

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)
