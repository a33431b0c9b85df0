"""A Panda's demonstrations, policies and records: the body is what the spec says."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO

import numpy as np
import pytest
from rich.console import Console

from mindhand.core.errors import BadData, SpecMismatch
from mindhand.data.lerobot_read import LeRobotReader
from mindhand.evaluate.protocol import named
from mindhand.model.store import save_vla
from mindhand.recipes import bench_desk, bench_sampling
from mindhand.recipes import record as verb
from mindhand.recipes.bench import BENCHES
from mindhand.recipes.places import DESK, PANDA, place_of, worlds
from mindhand.recipes.rollouts import load_policy, robot_of, rows_of
from mindhand.worlds.desk.spec import PANDA_POS, PANDA_SPEC, SPEC
from mindhand.worlds.desk.world import DeskWorld
from mindhand.worlds.gym import WorldEnv

MATHS = "maths_matching/R"


def test_demonstrations_say_which_arm_they_are_of(tmp_path, monkeypatch):
    monkeypatch.setattr(verb, "Console", lambda: Console(file=StringIO()))
    assert verb.record("panda-maths", 1, 1, tmp_path / "demos") == 0
    reader = LeRobotReader(tmp_path / "demos")
    assert reader.spec == PANDA_SPEC
    assert place_of([MATHS], reader.spec.robot) is PANDA
    assert place_of([MATHS]) is DESK
    with pytest.raises(BadData, match=r"noise\.size"):
        verb.record("maths", 1, 1, tmp_path / "demos")


def test_a_policy_is_evaluated_with_its_own_arm(tmp_path):
    save_vla(bench_sampling.policy("test", PANDA_SPEC), tmp_path / "policy")
    assert robot_of(tmp_path / "policy") == "desk-panda"
    small = replace(named("maths-matching").only(MATHS, episodes=1), steps=16)
    (row,) = rows_of(tmp_path / "policy", small, tmp_path / "rows", workers=1, films=0)
    assert row["steps"] == 16
    with worlds(small, "desk-panda")(1) as world:
        assert world.spec == PANDA_SPEC
    with pytest.raises(SpecMismatch, match="desk-panda"):
        load_policy(tmp_path / "policy", DESK)
    save_vla(bench_sampling.policy("test", SPEC), tmp_path / "other")
    with pytest.raises(SpecMismatch, match="desk-panda"):
        load_policy(tmp_path / "other", PANDA)


def test_its_world_is_a_gymnasium_environment():
    env = WorldEnv(DeskWorld(1, body="panda"), MATHS, low=PANDA.low, high=PANDA.high)
    seen, _ = env.reset(seed=1)
    assert env.action_space.contains(np.clip(seen["state"], PANDA.low, PANDA.high))
    assert abs(seen["state"][0] + PANDA_POS[0] - -0.225) < 0.021
    env.close()


def test_every_record_is_of_its_rows(tmp_path):
    assert BENCHES["panda"][1] is bench_desk.panda
    made = {r.name: r for r in bench_desk.panda(str(tmp_path), episodes=1, windows=2, seconds=0.01)}
    assert set(made) == {
        "desk/expert_success/panda_maths_matching", "desk/expert_success/panda_spatial_placing",
        "desk/steps_per_second/panda_two_cameras",
    }  # fmt: skip
    assert all(r.value == 1.0 for n, r in made.items() if "expert" in n)
