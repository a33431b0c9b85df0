"""Sizes that come back: few of them, and little more than was asked for."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from mindhand.model.moe import MoE, MoEConfig
from mindhand.model.steady import steady
from mindhand.model.trunk import FFN


@given(st.integers(0, 1 << 40))
def test_a_steady_size_is_a_little_larger_and_stays(n):
    more = steady(n)
    assert n <= more <= n * 17 / 16 and steady(more) == more


def test_there_are_few_steady_sizes():
    assert len({steady(n) for n in range(1, 1 << 14)}) == 31 + 9 * 16 + 1


def test_experts_are_asked_for_steady_sizes_only():
    moe, seen = MoE(MoEConfig(4, 2), FFN(8, 16)), []
    moe.inner.register_forward_hook(lambda module, given, out: seen.append(len(out)))
    torch.manual_seed(0)
    for n in (1, 7, 150, 333):
        moe(torch.randn(1, n, 8))
    assert all(steady(n) == n for n in seen) and max(seen) > 32
