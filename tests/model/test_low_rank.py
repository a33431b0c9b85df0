"""Low-rank surgery: nothing changes at first, only what was added learns, and little is stored."""

import copy
import fnmatch

import pytest
import torch

from mindhand.core.errors import BuildError
from mindhand.model.fresh import Fresh
from mindhand.model.low_rank import ADDED, LoRA, LowRankConfig, LowRankExperts
from mindhand.model.moe import Upcycle

from .tiny import segments, vlm

EDITS = [LoRA(4), LowRankExperts(LowRankConfig(4, 2, 3)), LowRankExperts(LowRankConfig(3, 3, 2, 0.0))]


def logits(model, rows=None):
    found, *_ = segments(model)
    if rows is not None:
        found = [type(s)(s.name, s.x[rows], s.valid[rows], s.position[rows], s.tower) for s in found]
    return model.logits(model(found).hidden["reasoning"])


def added(model):
    return [(n, p) for n, p in model.named_parameters() if any(fnmatch.fnmatchcase(n, a) for a in ADDED)]


def moved(model):
    """The same with weights that were learned, in name only."""
    torch.manual_seed(1)
    with torch.no_grad():
        for _, p in added(model):
            p.normal_(std=0.3)
    return model


@pytest.mark.parametrize("edit", EDITS)
def test_the_function_is_kept_until_what_was_added_has_learned(edit):
    dense = vlm()
    changed = copy.deepcopy(dense)
    edit.apply(changed)
    a, b = logits(dense), logits(changed)
    assert (a - b).abs().max() <= 2e-6 * a.abs().max()
    assert (logits(moved(changed)) - a).abs().max() > 1e-2


@pytest.mark.parametrize("edit", EDITS)
def test_weights_are_added_by_name_and_by_seed(edit):
    dense, one, other = vlm(), vlm(), vlm()
    edit.apply(one)
    edit.apply(other)
    assert all(torch.equal(p, q) for p, q in zip(one.parameters(), other.parameters()))
    old = sum(p.numel() for p in dense.parameters())
    new = sum(p.numel() for _, p in added(one))
    assert old + new == sum(p.numel() for p in one.parameters()) and new > 0
    logits(one).square().mean().backward()
    learning = [n for n, p in added(one) if p.grad is not None and bool(p.grad.any())]
    assert learning  # the outward half; the inward one begins when that is no longer zero
    with pytest.raises(BuildError):
        edit.apply(one)


def test_residual_experts_store_less_than_copies():
    low, full, dense = vlm(), vlm(), vlm()
    LowRankExperts(LowRankConfig(8, 2, 1)).apply(low)
    Upcycle().apply(full)
    low, full, dense = (sum(p.numel() for p in m.towers["vlm"].layers[0].ffn.parameters()) for m in (low, full, dense))
    assert full > 8 * dense > 4 * low > 4 * dense


def test_a_token_hears_its_own_experts_alone_and_no_neighbour():
    model = vlm()
    LowRankExperts(LowRankConfig(4, 1, 3)).apply(model)
    moved(model)
    both, first = logits(model), logits(model, slice(0, 1))
    assert torch.allclose(both[:1], first, atol=1e-5)
    ffn = model.towers["vlm"].layers[0].ffn
    with torch.no_grad():
        ffn.router.weight.zero_()
        ffn.router.bias.copy_(torch.tensor([0.0, 9.0, 0.0, 0.0]))
        before = logits(model)
        ffn.low_down_out[1:] += 1.0  # of experts that nobody is sent to
        assert torch.equal(before, logits(model))
        ffn.low_down_out[0] += 1.0
        assert not torch.equal(before, logits(model))
    with pytest.raises(BuildError, match="3 of 2"):
        LowRankExperts(LowRankConfig(2, 3)).apply(vlm())


def test_what_is_forgotten_is_drawn_by_seed():
    known, one, other, third = vlm(), vlm(), vlm(), vlm(3)
    Fresh(1).apply(one)
    Fresh(2).apply(other)
    Fresh(1).apply(third)
    assert all(torch.equal(p, q) for p, q in zip(one.parameters(), third.parameters()))
    assert not torch.equal(one.embedding.weight, known.embedding.weight)
    assert not torch.equal(one.embedding.weight, other.embedding.weight)
