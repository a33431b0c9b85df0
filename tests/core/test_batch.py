"""The nouns of training: one mask rules, padding changes nothing, and every unmasked target is refused."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mindhand.core.batch import Batch, Target, Text, masked_mean, masked_rows
from mindhand.core.errors import BadData


def text(rows: int = 2, n: int = 4) -> Text:
    valid = torch.ones(rows, n, dtype=torch.bool)
    valid[0, -1] = False
    supervised = valid.clone()
    supervised[:, 0] = False
    return Text(torch.arange(rows * n).reshape(rows, n), valid, supervised)


def batch(**other) -> Batch:
    given = {
        "order": ("image/front", "text"),
        "images": {"front": torch.zeros(2, 1, 4, 4, 3, dtype=torch.uint8)},
        "present": {"front": torch.ones(2, dtype=torch.bool)},
        "text": {"text": text()},
        "task": torch.tensor([0, 1]),
        "state": torch.zeros(2, 1, 3),
        "actions": torch.zeros(2, 5, 3),
        "action_valid": torch.ones(2, 5, dtype=torch.bool),
    }
    return Batch(**{**given, **other})


def test_a_batch_counts_its_rows():
    assert len(batch()) == 2
    packed = batch(text={"text": text(8)}, task=torch.zeros(8), questions=4)
    assert len(packed) == 2
    nothing = {"images": {}, "present": {}, "state": None, "actions": None, "action_valid": None}
    assert len(batch(**nothing)) == 2
    assert len(batch(**nothing, text={"text": text(8)}, task=torch.zeros(8), questions=4)) == 2


def test_what_is_not_valid_may_be_anything():
    mask = torch.tensor([[True] * 5, [False] * 5])
    actions = torch.zeros(2, 5, 3)
    actions[1] = torch.nan
    assert len(batch(actions=actions, action_valid=mask)) == 2
    actions[0, 0, 0] = torch.inf
    with pytest.raises(BadData, match="NaN or infinity"):
        batch(actions=actions, action_valid=mask)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"action_valid": None}, "actions without action_valid"),
        ({"actions": None}, "actions without action_valid"),
        ({"action_valid": torch.ones(2, 5)}, "action_valid is torch.float32"),
        ({"action_valid": torch.ones(2, 4, dtype=torch.bool)}, r"action_valid is torch.bool \(2, 4\)"),
        ({"text": {"text": text(3)}}, "text 'text' has 3 rows"),
        ({"questions": 2}, "text 'text' has 2 rows"),
        ({"task": torch.zeros(3)}, "task has shape"),
        ({"task": torch.zeros(2, 1)}, "task has shape"),
    ],
)
def test_batches_that_are_refused(change, why):
    with pytest.raises(BadData, match=why):
        batch(**change)


def test_texts_that_are_refused():
    good = text()
    with pytest.raises(BadData, match="three equal shapes"):
        Text(good.ids, good.valid[:, :3], good.supervised)
    first = good.supervised.clone()
    first[1, 0] = True
    with pytest.raises(BadData, match="first token"):
        Text(good.ids, good.valid, first)
    padded = good.supervised.clone()
    padded[0, -1] = True
    with pytest.raises(BadData, match="padded token"):
        Text(good.ids, good.valid, padded)
    empty = torch.zeros(2, 0, dtype=torch.bool)
    assert Text(torch.zeros(2, 0, dtype=torch.int64), empty, empty).ids.shape == (2, 0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a second device; validation reads values, so not meta")
def test_a_copy_on_a_device_is_whole():
    before = batch(targets={"box": Target(torch.ones(2, 4), torch.ones(2, dtype=torch.bool))})
    after = before.to("cuda")
    moved = [
        after.images["front"], after.present["front"], after.text["text"].ids, after.text["text"].supervised,
        after.task, after.state, after.actions, after.action_valid, after.targets["box"].value,
    ]  # fmt: skip
    assert all(x.is_cuda for x in moved)
    assert after.order == before.order
    assert not before.state.is_cuda


def test_masked_mean_by_hand():
    x = torch.tensor([[1.0, 2.0], [3.0, 100.0]])
    valid = torch.tensor([[True, True], [True, False]])
    assert masked_mean(x, valid) == 2.0
    assert masked_rows(x, valid).tolist() == [1.5, 3.0]
    # from the left: a row's mask covers all that the row holds
    assert masked_mean(x, torch.tensor([True, False])) == 1.5
    assert masked_rows(x.reshape(2, 1, 2), valid[:, :1]).tolist() == [1.5, 51.5]


@given(st.integers(0, 2**31 - 1))
def test_padding_changes_neither_value_nor_gradient(seed):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(3, 4, 2, generator=g)
    valid = torch.rand(3, 4, generator=g) < 0.6
    results = []
    for filler in (0.0, 1e30, float("nan"), float("inf")):
        y = torch.where(valid[..., None], x, torch.full_like(x, filler)).requires_grad_()
        value = masked_mean(y, valid) + masked_rows(y, valid).sum()
        value.backward()
        assert torch.isfinite(value)
        results.append((value.detach(), y.grad))
        assert (y.grad[~valid] == 0).all()
    for value, gradient in results[1:]:
        assert torch.equal(value, results[0][0])
        assert torch.equal(gradient, results[0][1])


def test_nothing_valid_is_zero_without_gradient():
    x = torch.full((2, 3), float("nan"), requires_grad=True)
    none = torch.zeros(2, 3, dtype=torch.bool)
    total = masked_mean(x, none) + masked_rows(x, none).sum()
    total.backward()
    assert total == 0
    assert (x.grad == 0).all()
