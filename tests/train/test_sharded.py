"""Trainings in shares: the same curve, states for any number of processes, and a process that dies."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.multiprocessing import ProcessExitedException

from mindhand.core.errors import BadCheckpoint, BadData
from mindhand.core.folder import exists
from mindhand.core.keys import Keys
from mindhand.recipes import bench_sharded, tiny
from mindhand.recipes.bench_sharded import build, compared, stage
from mindhand.train import ranks
from mindhand.train.loop import train_stage
from mindhand.train.ranks import dealt, launch, rank
from mindhand.train.sharded import gathered, layers, recompute, shard

CLOSE = 2e-5  # mean over weights after six steps of rounding otherwise, at rates of 2e-4 and 2e-3


def test_two_processes_under_torchrun_have_the_curve_of_one(tmp_path: Path) -> None:
    rows = compared(tmp_path, steps=6)
    assert len(rows) == 6 and max(r["off"] for r in rows) < 2e-3, rows
    held = [json.loads((tmp_path / "several" / f"held-{k}.json").read_text())["numbers"] for k in range(2)]
    every = sum(p.numel() for p in build().parameters())
    assert sum(held) == every and max(held) < 0.6 * every, "a process holds more than its share"


def test_noise_is_the_rows_own_wherever_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control of the test above: rows with each other's noise have another curve."""
    deaf = replace(stage(2), source=Unnamed(stage(2).source))
    train_stage(build(), stage(2), tmp_path / "one", tells=1)
    launch(_curve, 2, tmp_path / "named", stage(2))
    launch(_curve, 2, tmp_path / "unnamed", deaf)
    one, named, unnamed = (_action(tmp_path / n) for n in ("one", "named", "unnamed"))
    assert abs(named - one) < 1e-4 < 1e-3 < abs(unnamed - one)


class Unnamed:
    """A source whose rows have forgotten which they are."""

    def __init__(self, of):
        self.of = of

    def batch(self, vla, step):
        return replace(self.of.batch(vla, step), each=None)


def _curve(folder: Path, of) -> None:
    train_stage(shard(build()), of, folder, tells=1)


def _action(folder: Path) -> float:
    return json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])["action"]


def test_a_state_goes_from_two_processes_to_one_and_to_two(tmp_path: Path) -> None:
    train_stage(build(), stage(6), tmp_path / "whole")
    launch(_part, 2, tmp_path / "part", 2)
    train_stage(alone := build(seed=5), stage(4), tmp_path / "part")  # other weights: all comes from the state
    assert all(type(p) is torch.nn.Parameter for p in alone.parameters())
    launch(_part, 2, tmp_path / "part", 6)
    end = build(seed=7)
    train_stage(end, stage(6), tmp_path / "part")  # nothing left to do: it only loads
    straight = build()
    train_stage(straight, stage(6), tmp_path / "whole")
    forgot = build()  # the control: the same steps by an optimiser that begins anew on the way
    train_stage(forgot, stage(2), tmp_path / "first")
    train_stage(forgot, replace(stage(4), source=Later(stage(6).source, 2)), tmp_path / "second")
    assert _apart(end, straight) < CLOSE < _apart(forgot, straight) / 4
    kept = torch.load(tmp_path / "part" / "gathered.pt", weights_only=True)
    for n, x in end.state_dict().items():
        assert torch.equal(kept[n], x), n
    share = next((tmp_path / "part" / "state").glob("*.safetensors"))
    share.write_bytes(share.read_bytes()[:-100])
    with pytest.raises(BadCheckpoint, match="begin anew"):
        train_stage(build(), stage(8), tmp_path / "part")


class Later:
    """A source from a step on."""

    def __init__(self, of, begin):
        self.of, self.begin = of, begin

    def batch(self, vla, step):
        return self.of.batch(vla, step + self.begin)


def _apart(a, b) -> float:
    off = [(x - y).abs().flatten() for x, y in zip(a.parameters(), b.parameters())]
    return float(torch.cat(off).mean())


def _part(folder: Path, steps: int) -> None:
    vla = shard(build(seed=3 if exists(folder / "state") else 0))
    train_stage(vla, stage(steps), folder)
    weights = gathered(vla)
    if rank() == 0:
        torch.save(weights, folder / "gathered.pt")


def test_another_stage_trains_other_parameters(tmp_path: Path) -> None:
    launch(_two_stages, 2, tmp_path)
    before, after = (torch.load(tmp_path / f"{n}.pt", weights_only=True) for n in ("before", "after"))
    moved = {n for n in before if not torch.equal(before[n], after[n])}
    assert moved and all(n.startswith("expert.") for n in moved)
    assert any(n.startswith("expert.blocks") for n in moved)


def _two_stages(folder: Path) -> None:
    vla = shard(build())
    train_stage(vla, stage(1), folder / "all")
    before = gathered(vla)
    train_stage(vla, replace(stage(2), train=("expert.*",)), folder / "hand")
    after = gathered(vla)
    if rank() == 0:
        torch.save(before, folder / "before.pt")
        torch.save(after, folder / "after.pt")


def test_what_is_computed_anew_has_the_same_gradient() -> None:
    grads = []
    for again in (False, True):
        vla = recompute(build()) if again else build()
        batch, keys = tiny.batches(vla.backbone)[0], Keys.seeded(tiny.ROWS, "again")
        sum(x.mean() for x in vla.losses(batch, keys).values()).backward()
        grads.append({n: p.grad for n, p in vla.named_parameters() if p.grad is not None})
    assert grads[0].keys() == grads[1].keys()
    assert all(torch.equal(grads[0][n], grads[1][n]) for n in grads[0])
    assert sum(p.numel() for m in layers(vla) for p in m.parameters()) > 0.5 * sum(p.numel() for p in vla.parameters())


def test_a_batch_in_pieces_has_the_gradient_of_the_whole(tmp_path: Path) -> None:
    curves = []
    for count in (1, 2):
        train_stage(build(), replace(stage(3), pieces=count), tmp_path / str(count), tells=1)
        lines = (tmp_path / str(count) / "metrics.jsonl").read_text().splitlines()
        curves.append([[json.loads(x)[n] for n in ("text", "action", "norm")] for x in lines])
    torch.testing.assert_close(*(torch.tensor(c) for c in curves), rtol=1e-3, atol=1e-4)
    with pytest.raises(BadData, match="4 rows in 3 pieces"):
        train_stage(build(), replace(stage(1), pieces=3), tmp_path / "three")


def test_rows_that_cannot_be_shared_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = tiny.batches(tiny.vlm())[0]
    assert dealt(batch) is batch
    monkeypatch.setattr(ranks, "ranks", lambda: 3)
    with pytest.raises(BadData, match="4 rows for 3 processes"):
        dealt(batch)
    monkeypatch.setattr(ranks, "ranks", lambda: 2)
    monkeypatch.setattr(ranks, "rank", lambda: 1)
    mine = dealt(batch)
    assert mine.each == (1, 3) and torch.equal(mine.actions, batch.actions[[1, 3]])
    assert torch.equal(mine.text["text"].ids, batch.text["text"].ids[[1, 3]])


def test_a_process_that_dies_ends_all_and_nothing_is_lost(tmp_path: Path) -> None:
    with pytest.raises(ProcessExitedException):
        launch(_dies, 2, tmp_path)
    assert exists(tmp_path / "state")
    launch(_part, 2, tmp_path, 6)
    lines = [json.loads(x) for x in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == 6


def _dies(folder: Path) -> None:
    def watch(step, vla):
        if step == 4 and rank() == 1:
            os._exit(3)

    train_stage(shard(build()), stage(6), folder, every=0.0, watch=watch)


def test_the_bench_writes_a_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"key": f"step/{k}", "off": 1e-5 * k} for k in range(1, 4)]
    monkeypatch.setattr(bench_sharded, "compared", lambda home: rows)
    (record,) = bench_sharded.publish(tmp_path)
    assert record.name == "scale/fsdp2/loss_difference" and abs(record.value - 2e-5) < 1e-9
