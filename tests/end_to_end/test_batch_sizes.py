"""Whether success hangs on the batch size is told by a given checkpoint, episode by episode."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest

from mindhand.core.record import read_rows
from mindhand.evaluate.protocol import HEIGHTS
from mindhand.model.store import save_vla
from mindhand.recipes import bench_evaluate, bench_sampling, determinism


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("policy")
    save_vla(bench_sampling.policy("test"), folder)
    return folder


def test_a_checkpoint_s_success_is_paired_by_episode(checkpoint, tmp_path, monkeypatch):
    small = replace(HEIGHTS.only(episodes=2), steps=8)
    few = partial(determinism.batch_success, protocol=small, sizes=(1, 2))
    monkeypatch.setattr(bench_evaluate, "batch_success", few)
    record = bench_evaluate.publish_batch_success(checkpoint, tmp_path / "results", tmp_path / "runs")
    assert (record.name, record.kind, record.n) == ("evaluate/batch_sizes/success", "difference", 4)
    assert record.value == 0.0  # nobody succeeds in 8 steps
    rows = read_rows(record, tmp_path / "results")
    assert {(r["arm"], r["rows"]) for r in rows} == {("off", 1), ("on", 2)}
    assert len({r["key"] for r in rows}) == 4 == len(rows) / 2
    (home,) = (tmp_path / "runs").iterdir()  # by the checkpoint's fingerprint
    assert {f.name for f in home.iterdir()} == {"1", "2"}
    again = (home / "2" / "timing.jsonl").read_bytes()
    assert few(checkpoint, tmp_path / "runs") and (home / "2" / "timing.jsonl").read_bytes() == again
