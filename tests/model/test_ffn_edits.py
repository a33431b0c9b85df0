"""Wider FFNs and FFNs of a task: the function is kept at first, and what was added can become something else."""

import copy

import pytest
import torch

from mindhand.core.errors import BuildError
from mindhand.model.ffn_edits import PerTask, Widen
from mindhand.model.moe import MoEConfig, Upcycle
from mindhand.model.trunk import FFN

from .tiny import segments, vlm


def logits(model, task=None):
    found, *_ = segments(model)
    if task is not None:
        found = [type(s)(s.name, s.x, s.valid, s.position, s.tower, task) for s in found]
    return model.logits(model(found).hidden["reasoning"])


@pytest.mark.parametrize("edit,task", [(Widen(2), None), (Widen(5), None), (PerTask(), torch.tensor([0, 1]))])
def test_the_function_is_kept(edit, task):
    dense = vlm()
    changed = copy.deepcopy(dense)
    edit.apply(changed)
    a, b = logits(dense), logits(changed, task)
    assert (a - b).abs().max() <= 2e-6 * a.abs().max()


def test_a_wide_ffn_costs_what_active_experts_cost():
    narrow, wide, moe = vlm(), vlm(), vlm()
    Widen(2).apply(wide)
    Upcycle(MoEConfig(8, 2)).apply(moe)
    inner = [m.towers["vlm"].layers[0].ffn.down.in_features for m in (narrow, wide)]
    assert inner[1] == 2 * inner[0] == moe.towers["vlm"].layers[0].ffn.config.active * inner[0]


def apart(model: torch.nn.Module) -> float:
    """How far the two copies of a layer's neurons are from one another after a step."""
    logits(model).square().mean().backward()
    ffn = model.towers["vlm"].layers[0].ffn
    assert isinstance(ffn, FFN)
    with torch.no_grad():
        ffn.gate_up.weight -= 0.1 * ffn.gate_up.weight.grad
    gate, _ = ffn.gate_up.weight.detach().chunk(2)
    one, other = gate.chunk(2)
    return float((one - other).abs().max())


def test_copies_of_a_neuron_part_only_where_their_shares_differ():
    model, equal = vlm(), vlm()
    Widen(2).apply(model)
    Widen(2).apply(equal)
    with torch.no_grad():
        for layer in equal.towers["vlm"].layers:
            halves = layer.ffn.down.weight.chunk(2, 1)
            layer.ffn.down.weight.copy_(torch.cat([sum(halves) / 2] * 2, 1))
    assert apart(model) > 1e-6 > 1e-8 > apart(equal)


def test_a_task_has_its_own_ffn():
    model = vlm()
    PerTask().apply(model)
    with torch.no_grad():
        model.towers["vlm"].layers[0].ffn.each[1].down.weight += 0.1
    same, robot = logits(model, torch.tensor([0, 0])), logits(model, torch.tensor([0, 1]))
    assert torch.equal(same[0], robot[0]) and (same[1] - robot[1]).abs().max() > 1e-3
    with pytest.raises(BuildError, match="without a task"):
        logits(model)


@pytest.mark.parametrize("edit", [Widen(2), PerTask(), Upcycle()])
def test_an_ffn_is_replaced_once(edit):
    model = vlm()
    PerTask().apply(model)
    with pytest.raises(BuildError, match="layer 0"):
        edit.apply(model)
    with pytest.raises(BuildError, match="1 times"):
        Widen(1).apply(vlm())
