"""Where tokens go is counted as it happens, and the numbers mean what they say."""

import numpy as np
import pytest
import torch

from mindhand.core.errors import BadData
from mindhand.model.moe import MoEConfig, Upcycle
from mindhand.model.routing import Traffic, evenness, overlap, told_apart

from .tiny import segments, vlm


def mixed(training: bool):
    model = vlm().train(training)
    Upcycle(MoEConfig(4, 2)).apply(model)
    return model


@pytest.mark.parametrize("training", [True, False])
def test_every_token_is_counted_as_often_as_experts_are_active(training):
    model = mixed(training)
    found, *_ = segments(model)
    with torch.no_grad():
        for layer in Traffic(model).layers:
            layer.router.weight.zero_()
            layer.router.bias.copy_(torch.tensor([0.0, 3.0, 2.0, 1.0]))
        with Traffic(model).counting() as traffic:
            model(found)
        tokens = sum(s.x.shape[0] * s.x.shape[1] for s in found)
        assert traffic.counts.tolist() == [[0, tokens, tokens, 0]] * len(traffic.layers)
        model(found)  # no longer counted
    assert traffic.counts.sum() == 2 * tokens * len(traffic.layers)
    assert np.allclose(traffic.shares[0], [0, 0.5, 0.5, 0])


def test_what_the_numbers_mean():
    one, other, even = np.array([1.0, 0, 0, 0]), np.array([0, 0, 0.5, 0.5]), np.full(4, 0.25)
    assert evenness(even) == pytest.approx(1) and evenness(one) == 0 and evenness(other) == pytest.approx(0.5)
    assert told_apart({"a": one, "b": other}) == pytest.approx(1) and told_apart({"a": even, "b": even}) == 0
    assert overlap(one, other) == 0 and overlap(even, even) == 1 and overlap(even, other) == pytest.approx(0.5)


def test_refusals():
    with pytest.raises(BadData, match="without a mixture"):
        Traffic(vlm())
    with pytest.raises(BadData, match="no token"):
        _ = Traffic(mixed(True)).shares
