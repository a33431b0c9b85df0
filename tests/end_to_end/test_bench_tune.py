"""The walk of tune's story sees what is whole, and a policy that has learned nothing yet."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mindhand.core.errors import Refusal
from mindhand.recipes import bench_tune as bench
from mindhand.recipes.record import demonstrations
from mindhand.recipes.tune import Looks
from mindhand.recipes.tune_start import TunePlan

PLAN, LOOKS = TunePlan(steps=1, rows=2, rank=2), Looks(frames=2, items=1, act=(16, 4))


def test_a_walk_of_one_step_is_whole_and_has_learned_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "EPISODES", 8)
    demonstrations(tmp_path / "data", 8, workers=1)
    found = bench.publish(tmp_path / "drafts", tmp_path, PLAN, LOOKS)
    passed = {r["key"]: r["passed"] for r in bench.read_rows(tmp_path / "walked.jsonl")}
    assert {what for what, ok in passed.items() if not ok} == {what for what in passed if what.startswith("nearer")}
    assert found[0].value == pytest.approx(5 / 7) and found[1].value > 0
    with pytest.raises(Refusal, match="has been walked"):
        bench.publish(tmp_path / "drafts", tmp_path, replace(PLAN, seed=3), LOOKS)
