"""Shipping a policy: what goes into the package acts as it did, says what was measured of it, and of nothing else."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
import torch

from mindhand.core.checkpoint import load_checkpoint
from mindhand.core.errors import Refusal, SpecMismatch
from mindhand.core.nouns import smoke_observation
from mindhand.core.record import write_record
from mindhand.data.files import read_json, write_json
from mindhand.model.store import load_vla, save_vla, smoke_arrays
from mindhand.recipes import bench_sampling
from mindhand.recipes.chatvla2 import ChatVLA2Plan
from mindhand.recipes.ship_policy import ROW, card, measured, ship
from mindhand.recipes.variants import GRID
from mindhand.worlds.declared import scene_hash
from mindhand.worlds.desk.spec import SPEC


@pytest.fixture
def run(tmp_path):
    """A training's folder, of a policy that has learned nothing."""
    save_vla(bench_sampling.policy("test", SPEC), tmp_path / "run" / "checkpoint")
    about = {"plan": asdict(ChatVLA2Plan()), "variant": asdict(GRID["B9-insulated"]), "scene": scene_hash()}
    write_json(tmp_path / "run" / "plan.json", about)
    return tmp_path / "run"


def test_it_acts_as_its_own_smoke_says_and_takes_half_of_the_room(run, tmp_path):
    home = ship(run, to=tmp_path / "weights")
    there = load_checkpoint(home / "checkpoint", None)
    learned = {n for n, _ in load_vla(home / "checkpoint").named_parameters()}
    assert all(there.tensors[n].dtype == torch.bfloat16 for n in learned)
    again = smoke_arrays(load_vla(home / "checkpoint"), smoke_observation(SPEC))
    assert np.array_equal(again["actions"], there.smoke["actions"])
    assert "not measured yet" in (home / "README.md").read_text() and (home / "LICENSE").exists()


def test_what_is_too_large_or_of_another_world_is_refused_and_nothing_changes(run, tmp_path):
    ship(run, to=tmp_path / "weights")
    before = (tmp_path / "weights/nano-desk/README.md").read_bytes()
    with pytest.raises(Refusal, match="bytes of weights"):
        ship(run, to=tmp_path / "weights", most=1000)
    write_json(run / "plan.json", {**read_json(run / "plan.json", "plan"), "scene": "another"})
    with pytest.raises(SpecMismatch, match="other things are declared"):
        ship(run, to=tmp_path / "weights")
    assert (tmp_path / "weights/nano-desk/README.md").read_bytes() == before


def test_its_card_quotes_records_of_these_weights_alone(run, tmp_path):
    home = ship(run, to=tmp_path / "weights")
    mine = load_checkpoint(home / "checkpoint", None).fingerprint

    def record(name: str, policy: str) -> None:
        rows = [{"key": f"k{i}", "training": policy, "success": i > 0} for i in range(4)]
        how = {"unit": "1", "chance": 0.25, "sources": [__file__], "folder": tmp_path / "results"}
        write_record(f"{ROW}/{name}", rows=rows, field="success", kind="rate", **how)

    record("maths/r/success", mine)
    record("scanned_digits_success", mine)
    told = card(home, "nano-desk", measured(mine, tmp_path / "results"))
    assert told.count("0.750 (") == 2 and "sums, R, as in its demonstrations" in told and "K-test" not in told
    record("placing/r/success", "another")
    with pytest.raises(Refusal, match="of other weights"):
        measured(mine, tmp_path / "results")
