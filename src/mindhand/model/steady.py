"""Sizes that come back. On a CPU a matrix product of a size never seen before is first compiled, for some milliseconds
each way; a mixture of experts asks for dozens of new sizes a step, and that was a fifth of the step (docs/log.md)."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from mindhand.core.seams import Segment, text_position

FILL = "fill"


def steady(n: int) -> int:
    """The next number from `n` on with at most five significant bits: 16 an octave, at most 6 % more."""
    step = 1 << max(n.bit_length() - 5, 0)
    return -(-n // step) * step


def filled(segments: Sequence[Segment]) -> Segment:
    """Padding that brings the tokens of a pass to a size that comes back."""
    x, many = segments[0].x, sum(s.x.shape[1] for s in segments)
    rows, more = len(x), steady(many) - many
    nowhere = torch.zeros(rows, more, dtype=torch.bool, device=x.device)
    return Segment(FILL, x.new_zeros(rows, more, x.shape[2]), nowhere, text_position(nowhere, 0), task=segments[0].task)
