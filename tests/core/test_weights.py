"""Weights back into modules, smoke predictions, training states."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from mindhand.core.checkpoint import (
    load_checkpoint,
    load_into,
    load_state,
    save_state,
    smoke_differences,
)
from mindhand.core.errors import BadCheckpoint, BadData

from .test_checkpoint import save


class Tied(nn.Module):
    def __init__(self, tie: bool = True):
        super().__init__()
        self.embed = nn.Embedding(5, 3)
        self.head = nn.Linear(3, 5, bias=False)
        if tie:
            self.head.weight = self.embed.weight
        self.register_buffer("count", torch.tensor(4))


def test_weights_return_to_their_module(tmp_path):
    before, after = Tied(), Tied()
    save(tmp_path / "c", tensors=before.state_dict())
    found = load_checkpoint(tmp_path / "c", None)
    assert found.tensors.tied == {"head.weight": "embed.weight"}
    load_into(after, found.tensors)
    assert torch.equal(after.embed.weight, before.embed.weight)
    assert after.head.weight is after.embed.weight


def test_float_weights_may_be_shipped_in_half_precision(tmp_path):
    module, half = nn.Linear(2, 2), nn.Linear(2, 2).bfloat16()
    load_into(module, half.state_dict())
    assert module.weight.dtype == torch.float32
    assert torch.equal(module.weight, half.weight.float())


def test_what_does_not_fit_is_listed_and_nothing_changes():
    module = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4))
    before = {k: v.clone() for k, v in module.state_dict().items()}
    wrong = {**module.state_dict(), "0.weight": torch.ones(3, 9), "1.bias": torch.ones(4, dtype=torch.int64)}
    del wrong["1.weight"]
    wrong["extra"] = torch.ones(1)
    wrong["0.bias"] = torch.ones(3)
    with pytest.raises(BadCheckpoint) as caught:
        load_into(module, wrong)
    text = str(caught.value)
    for line in (
        "- 1.weight (4, 3)",
        "+ extra",
        "! 0.weight: checkpoint (3, 9), module (3, 2)",
        "! 1.bias: checkpoint torch.int64",
    ):
        assert line in text
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())


def test_memory_that_is_not_there_or_tied_otherwise_is_refused():
    with torch.device("meta"):
        ghost = nn.Linear(2, 2)
    with pytest.raises(BadCheckpoint, match="meta"):
        load_into(ghost, nn.Linear(2, 2).state_dict())
    with pytest.raises(BadCheckpoint, match="one tensor with"):
        load_into(Tied(), Tied(tie=False).state_dict())


# ---- smoke ---------------------------------------------------------------------------------------------


def test_smoke_differences_name_what_moved():
    stored = {"a": np.array([1.0, 2.0], np.float32), "ids": np.array([1, 2]), "gone": np.zeros(1)}
    assert smoke_differences(stored, stored, 0.0) == []
    now = {"a": np.array([1.0, 2.1], np.float32), "ids": np.array([1, 3])}
    lines = smoke_differences(stored, now, 1e-3)
    assert [line.split(":")[0] for line in lines] == ["gone", "a", "ids"]
    assert "0.1" in lines[1]
    assert smoke_differences({"a": stored["a"]}, {"a": now["a"]}, 0.2) == []
    assert smoke_differences({"a": stored["a"]}, {"a": np.array([1.0, np.nan], np.float32)}, 9.0)
    assert smoke_differences({"a": stored["a"]}, {"a": np.zeros(3, np.float32)}, 9.0)


# ---- training state ------------------------------------------------------------------------------------


def test_an_optimizer_continues_bit_for_bit(tmp_path):
    def build():
        torch.manual_seed(0)
        net = nn.Linear(4, 4)
        return net, torch.optim.AdamW(net.parameters(), lr=torch.tensor(0.1), betas=(0.9, 0.95))

    def steps(net, opt, n):
        for i in range(n):
            opt.zero_grad()
            net(torch.full((1, 4), float(i + 1))).square().sum().backward()
            opt.step()

    net, opt = build()
    steps(net, opt, 3)
    state = {"model": net.state_dict(), "opt": opt.state_dict(), "losses": [0.1, float("inf")], "step": 3, "none": None}
    save_state(tmp_path / "s", state)
    steps(net, opt, 2)
    again, other = build()
    found = load_state(tmp_path / "s")
    assert found["losses"] == [0.1, float("inf")]
    assert found["none"] is None
    assert found["opt"]["param_groups"][0]["betas"] == (0.9, 0.95)
    again.load_state_dict(found["model"])
    other.load_state_dict(found["opt"])
    steps(again, other, 2)
    assert torch.equal(net.weight, again.weight)


def test_states_keep_types_and_refuse_what_they_cannot_keep(tmp_path):
    state = {
        "array": np.arange(4, dtype=np.uint64),
        "scalar array": np.array(2.5),
        "deep": {0: [1, (2.0, "x", True)], "#/'": torch.ones(2, dtype=torch.bfloat16)},
        "number": np.float64(0.1),
    }
    save_state(tmp_path / "s", state)
    found = load_state(tmp_path / "s")
    assert found["array"].dtype == np.uint64
    assert np.array_equal(found["array"], state["array"])
    assert found["scalar array"].shape == ()
    assert found["deep"][0] == [1, (2.0, "x", True)]
    assert torch.equal(found["deep"]["#/'"], state["deep"]["#/'"])
    assert found["number"] == 0.1
    for bad in (object(), b"bytes", {1.5: 2}, np.array(["text"]), {"x"}):
        with pytest.raises(BadData):
            save_state(tmp_path / "t", {"x": bad})
