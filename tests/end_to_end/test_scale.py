"""Recipes at full size: their numbers on the meta device, and every phase trained on a tiny VLM by the same code."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import pytest
import torch

from mindhand.recipes import scale, tiny
from mindhand.recipes.cost import idle
from mindhand.train.loop import train_stage
from mindhand.train.stage import Optimiser

SMALL = {
    "chatvla2-2b": partial(scale.chatvla2_2b, hand="test"),
    "pi0": partial(scale.pi0, width=16, ffn=32),
    "openvla-oft": scale.openvla_oft,
}


class Same:
    """The same rows at every step: a robot's, or image-text where there is no robot."""

    def __init__(self, made: scale.Scaled, texts: bool):
        robot, words = tiny.batches(made.vla.backbone)
        horizon = made.vla.expert.config.horizon
        actions = robot.actions.repeat(1, -(-horizon // robot.actions.shape[1]), 1)[:, :horizon]
        valid = torch.ones(actions.shape[:2], dtype=torch.bool)
        self.rows = words if texts else replace(robot, actions=actions, action_valid=valid)

    def batch(self, vla, step):
        return self.rows


@pytest.mark.parametrize("name", scale.RECIPES)
def test_every_phase_trains_what_it_says_and_nothing_else(name, tmp_path):
    made = SMALL[name](tiny.SPEC, tiny.vlm())
    robot = Same(made, False).rows
    made.vla.codec.fit(iter([robot]))
    made.vla.state_scale.fit(robot.state[:, -1])
    for phase in made.phases:
        short = replace(phase, steps=4, optimiser=replace(phase.optimiser, warmup=1))
        stage = short.stage(Same(made, phase.texts is None))
        before = {n: p.detach().clone() for n, p in made.vla.named_parameters()}
        losses = train_stage(made.vla, stage, tmp_path / phase.name)
        assert set(phase.weights) <= set(losses) and all(math.isfinite(x) for x in losses.values())
        learns = {n for n, _ in stage.trainable(made.vla)}
        moved = {n for n, p in made.vla.named_parameters() if not torch.equal(p, before[n])}
        assert moved and moved <= learns
        if phase.train == ("expert.*",):
            assert not any(n.startswith("backbone.") for n in moved)


@pytest.mark.parametrize(
    ("name", "stored", "used"), [("chatvla2-2b", 11.28, 4.34), ("pi0", 3.24, 3.24), ("openvla-oft", 8.49, 8.49)]
)
def test_full_size_without_weights(name, stored, used):
    with torch.device("meta"):
        made = scale.RECIPES[name]()
    count = sum(p.numel() for p in made.vla.parameters())
    assert count / 1e9 == pytest.approx(stored, abs=0.01)
    assert (count - idle(made.vla)) / 1e9 == pytest.approx(used, abs=0.01)
    assert {p.device.type for p in made.vla.parameters()} == {"meta"}
    assert scale.dry(name).row_count == len(made.phases)


def test_the_paper_s_rate_falls_in_half_a_cosine():
    rate = scale.chatvla2_2b(tiny.SPEC, tiny.vlm(), "test").phases[1].optimiser
    steps = 50_000
    assert rate.rate(0, steps) == pytest.approx(1 / 3000, rel=1e-3)
    assert rate.rate(steps // 2, steps) == pytest.approx(0.55)
    assert rate.rate(steps - 1, steps) == pytest.approx(0.1, abs=1e-4)
    line = Optimiser(warmup=0, decay=1.0, floor=0.1)
    assert rate.rate(steps * 3 // 4, steps) < line.rate(steps * 3 // 4, steps)


def test_a_recipe_that_is_none(capsys):
    assert scale.main(["pi1"]) == 2
    assert "chatvla2-2b" in capsys.readouterr().err
