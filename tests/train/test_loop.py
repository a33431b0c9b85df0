"""The loop: exact resume, freezing, stops, refusals."""

import json
import signal
from dataclasses import dataclass, replace

import pytest
import torch

from mindhand.core.checkpoint import load_state, save_state
from mindhand.core.errors import BuildError
from mindhand.train.loop import Stopped, train_stage
from mindhand.train.muon import MuonAdamW, orthogonal
from mindhand.train.stage import Optimiser, Stage
from tests.model.test_vla import batch, build


@dataclass(frozen=True)
class Twenty:
    """A source of twenty batches."""

    def batch(self, vla, step):
        return batch((True, step % 2 == 0), seed=step % 20)


STAGE = Stage(
    "both", Twenty(), 8, ("*",), {"text": 1.0, "action": 1.0, "aim/front": 0.5}, Optimiser(warmup=2), seed=3
)  # fmt: skip


def weights(vla):
    return {n: t.clone() for n, t in vla.state_dict().items()}


def run(vla, stage, folder, **more):
    return train_stage(vla, stage, folder, **more)


def test_learns(tmp_path):
    vla = build()
    stage = replace(STAGE, steps=60, optimiser=Optimiser(lr=5e-3, muon=0.02, warmup=3))
    run(vla, stage, tmp_path)
    lines = [json.loads(x) for x in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == 60 and lines[-1]["action"] < 0.7 * lines[0]["action"]


def test_a_stopped_run_goes_on_bit_for_bit(tmp_path):
    """2N steps equal N steps, a stop by signal, and N more in a fresh process's objects."""
    whole = build()
    run(whole, STAGE, tmp_path / "whole")
    part = build()

    def ask(step, vla):
        if step == 5:
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Stopped, match="step 5 of 8"):
        run(part, STAGE, tmp_path / "part", watch=ask)
    fresh = build(seed=9)  # other weights: everything must come from the state
    run(fresh, STAGE, tmp_path / "part")
    a, b = weights(whole), weights(fresh)
    assert a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)
    run(fresh, STAGE, tmp_path / "part")  # a finished stage trains no further
    assert all(torch.equal(a[n], t) for n, t in weights(fresh).items())
    for other in ({"name": "other"}, {"seed": 4}, {"train": ("expert.*",)}, {"optimiser": Optimiser(warmup=3)},
                  {"weights": {**STAGE.weights, "text": 2.0}}, {"bf16": False}):  # fmt: skip
        with pytest.raises(BuildError, match=rf"stage 'both', which differs(?s:.*){next(iter(other))}: "):
            run(fresh, replace(STAGE, **other), tmp_path / "part")
    run(fresh, replace(STAGE, steps=9), tmp_path / "part")  # a longer one goes on
    assert any(not torch.equal(a[n], t) for n, t in weights(fresh).items())


def test_a_state_from_before_a_choice_is_of_its_default(tmp_path):
    run(build(), replace(STAGE, steps=2), tmp_path)
    state = load_state(tmp_path / "state")
    del state["stage"]["optimiser"]["shape"]
    save_state(tmp_path / "state", state)
    cosine = replace(STAGE, optimiser=replace(STAGE.optimiser, shape="cosine"))
    with pytest.raises(BuildError, match="optimiser: "):
        run(build(), cosine, tmp_path)
    run(build(), replace(STAGE, steps=3), tmp_path)


def test_patterns_freeze_the_rest(tmp_path):
    vla = build()
    before = weights(vla)
    run(vla, replace(STAGE, train=("expert.*", "streams.*"), weights={"action": 1.0}), tmp_path)
    moved = {n for n, t in weights(vla).items() if not torch.equal(t, before[n])}
    assert moved and all(n.startswith(("expert.", "streams.")) for n in moved)
    with pytest.raises(BuildError, match="matches no parameter"):
        run(vla, replace(STAGE, train=("hand.*",)), tmp_path / "x")


def test_unknown_and_broken_losses_are_refused(tmp_path):
    with pytest.raises(BuildError, match="depth"):
        run(build(), replace(STAGE, weights={"depth": 1.0}), tmp_path)
    vla = build()
    with torch.no_grad():
        vla.expert.leave.weight.fill_(float("nan"))
    with pytest.raises(BuildError, match="not finite at step 0"):
        run(vla, STAGE, tmp_path / "nan")


@pytest.mark.parametrize("shape", [(1, 8, 20), (2, 20, 8), (3, 8, 8)])
def test_muon_orthogonalises(shape):
    x = orthogonal(torch.randn(*shape, generator=torch.Generator().manual_seed(0)))
    s = torch.linalg.svdvals(x)
    assert float(s.min()) > 0.5 and float(s.max()) < 1.4


def test_adam_half_equals_pytorch():
    torch.manual_seed(0)
    a = torch.nn.Linear(4, 3)
    b = torch.nn.Linear(4, 3)
    b.load_state_dict(a.state_dict())
    mine = MuonAdamW([{"params": list(a.parameters()), "lr": 0.01}])
    theirs = torch.optim.AdamW(b.parameters(), lr=0.01, betas=(0.9, 0.98), weight_decay=0.0)
    x = torch.randn(5, 4)
    for _ in range(5):
        for m, o in ((a, mine), (b, theirs)):
            o.zero_grad()
            m(x).square().sum().backward()
            o.step()
    assert torch.allclose(a.weight, b.weight, atol=1e-6)


def test_the_optimiser_s_state_is_where_its_parameters_are():
    p = torch.nn.Parameter(torch.zeros(4, 3, device="meta"))
    p.grad = torch.zeros_like(p)
    optimiser = MuonAdamW([{"params": [p], "lr": 1e-3, "muon": True}])
    optimiser.step()
    assert {x.device.type for x in optimiser.state[p].values()} == {"meta"}


def test_the_rate_warms_up_and_decays():
    o = Optimiser(warmup=10, decay=0.5, floor=0.1)
    assert o.rate(0, 100) == pytest.approx(0.1) and o.rate(30, 100) == 1.0
    assert o.rate(75, 100) == pytest.approx(0.55) and o.rate(99, 100) < 0.13


def test_the_state_of_another_model_is_refused(tmp_path):
    run(build(), replace(STAGE, steps=1), tmp_path)
    state = load_state(tmp_path / "state")
    name = next(n for n, x in state["model"].items() if x.ndim > 1)
    for other in ({**state["model"], "more": torch.zeros(1)}, {**state["model"], name: state["model"][name][:1]}):
        save_state(tmp_path / "state", {**state, "model": other})
        with pytest.raises(RuntimeError, match=f"more|{name}"):
            run(build(), STAGE, tmp_path)
