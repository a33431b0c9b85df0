"""What a plan counts is what a step does: operations and bytes against a step of the same policy with real weights."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from mindhand.core.checkpoint import load_checkpoint
from mindhand.core.keys import Keys
from mindhand.data.cache import FrameCache
from mindhand.data.opening import open_dataset
from mindhand.model.described import described_vla
from mindhand.model.shipped import POLICY, shipped
from mindhand.recipes.chatvla2 import fit
from mindhand.recipes.tune import robot_frames, stage_of
from mindhand.recipes.tune_cost import Cost, Needs, costs, needs
from mindhand.recipes.tune_start import build, learns, start_of

from .test_tune import PLAN, demos, qwen

__all__ = ["demos", "qwen"]  # fixtures


def counted(demos, qwen, plan) -> list[Cost]:
    reader = open_dataset(demos)
    vla = build(start_of(qwen, reader.spec, demos), reader, plan, meta=True)
    assert all(p.is_meta for p in vla.parameters())
    return costs(vla, learns(vla, plan), reader, plan.rows)


@pytest.mark.parametrize("full", [False, True])
def test_operations_and_bytes_are_those_of_a_step(demos, qwen, tmp_path, full):
    """To a quarter, and rather too much than too little: of a trunk of two layers the first is asked for no gradient of
    what it is given, and is counted as the others."""
    plan = replace(PLAN, full=full)
    found, reader = counted(demos, qwen, plan), open_dataset(demos)
    vla = build(start_of(qwen, reader.spec, demos), reader, plan)
    robot = robot_frames(vla, reader, FrameCache.build(tmp_path, reader))
    fit(vla, robot)
    stage = stage_of(vla, robot, robot.cache.frames, plan)
    learned = sum(p.numel() for _, p in stage.trainable(vla))
    assert learned == sum(c.trained for c in found)
    assert sum(p.numel() for p in vla.parameters()) == sum(c.stored for c in found)
    batch = stage.source.batch(vla, 0)
    own = {p.untyped_storage()._cdata for p in vla.parameters()}
    kept: dict[int, int] = {}

    def pack(x):
        if (storage := x.untyped_storage())._cdata not in own:
            kept[storage._cdata] = storage.nbytes()
        return x

    vla.train()
    with FlopCounterMode(display=False) as count, torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        loss = vla.losses(batch, Keys.seeded(len(batch), 0))["action"].mean()
        bytes_kept = sum(kept.values())
        loss.backward()
    told = sum(c.operations or 0.0 for c in found), plan.rows * sum(c.kept or 0.0 for c in found)
    assert 0.9 < told[0] / count.get_total_flops() < 1.25
    assert 0.9 < told[1] / bytes_kept < 1.25


def test_what_is_frozen_needs_no_gradient_and_nothing_is_kept_for_it(demos, qwen):
    few, all_of_it = ({c.name: c for c in counted(demos, qwen, replace(PLAN, full=full))} for full in (False, True))
    assert few["eyes"].trained == 0 and few["eyes"].kept == 0 and all_of_it["eyes"].kept > 0
    assert few["eyes"].operations < 0.5 * all_of_it["eyes"].operations
    assert 0 < few["mind"].trained < all_of_it["mind"].trained
    assert needs(tuple(few.values())).fixed < needs(tuple(all_of_it.values())).fixed


def test_twice_the_rows_take_twice_the_operations_and_no_more_weights(demos, qwen):
    one, two = (counted(demos, qwen, replace(PLAN, rows=rows)) for rows in (4, 8))
    assert [2 * c.operations for c in one] == [c.operations for c in two]
    assert needs(one) == needs(two)


def test_rows_fill_a_gpu_and_not_more():
    need = Needs(fixed=10e9, row=1e9)
    assert [need.rows(card) for card in (8, 12, 16, 24)] == [0, 0, 3, 10]  # a tenth and 1 GB are left


def test_a_policy_with_a_mixture_and_eyes_of_its_hand_is_planned_too(demos):
    """What cannot be run without numbers is counted by its matrices; what the hand's eyes keep is said not to be."""
    vla = described_vla(load_checkpoint(shipped(POLICY), None))
    found = {c.name: c for c in costs(vla, ("*",), open_dataset(demos), 4)}
    assert sum(c.stored for c in found.values()) == sum(p.numel() for p in vla.parameters())
    assert found["hand"].operations > 0 and found["hand's eyes"].kept is None
