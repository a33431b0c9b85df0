"""Sizes that come back. On a CPU a matrix product of a size never seen before is first compiled, for some milliseconds
each way; a mixture of experts asks for dozens of new sizes a step, and that was a fifth of the step (docs/log.md)."""

from __future__ import annotations


def steady(n: int) -> int:
    """The next number from `n` on with at most five significant bits: 16 an octave, at most 6 % more."""
    step = 1 << max(n.bit_length() - 5, 0)
    return -(-n // step) * step
