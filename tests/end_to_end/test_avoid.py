"""What a shield does for a hand that knows of no obstacle: measured, with controls that do less."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mindhand.core.errors import BuildError
from mindhand.core.keys import Key
from mindhand.core.nouns import Observation
from mindhand.core.record import read_rows
from mindhand.data.files import read_json
from mindhand.evaluate.protocol import COURSE
from mindhand.methods.guard.aegis import OBSTACLES, VALID, correct
from mindhand.recipes import bench_avoid as bench
from mindhand.recipes.places import DESK, METAWORLD
from mindhand.recipes.proofs.aegis import ARMS
from mindhand.recipes.rollouts import rows_of, shield_of
from mindhand.worlds.desk.spec import SPEC


def test_arms_meet_the_same_scenes_and_become_records(tmp_path):
    found = {r.name: r for r in bench.publish(tmp_path, 1, ("across",))}
    assert set(found) == {
        f"avoid/{what}/across_{arm}" for what in ("hits", "success", "corrected") for arm in bench.ARMS
    }
    assert found["avoid/hits/across_bare"].value == 1 and found["avoid/corrected/across_bare"].value == 0
    assert found["avoid/corrected/across_aegis"].value > 0 and found["avoid/hits/across_aegis"].value == 0
    assert found["avoid/corrected/across_repulsion"].value > 0
    keys = {read_rows(r, tmp_path)[0]["key"] for r in found.values()}
    assert keys == {"bench-avoid/obstacle_course/across/0/0"}


def test_pushed_away_from_what_is_near_and_from_nothing_else():
    aegis = correct(SPEC)
    state = np.array([[[0.3, 0.0, 0.2, 0, 0, -1, 0, 1, 0, 1]]], np.float32)
    place, centre, _ = aegis.pose(state[0, 0])
    told, there = np.zeros((1, 8, 3, 4)), np.zeros((1, 8), bool)
    told[0, 0] = np.column_stack([0.02 * np.eye(3), centre + np.array([0, 0.1, 0])])

    def push(present: bool) -> np.ndarray:
        there[0, 0] = present
        extras = {OBSTACLES: told, VALID: there}
        now = Observation({}, state, {"instruction": ("go",)}, np.zeros((1, 1)), (Key("t", "t", 0),), extras=extras)
        out, _ = bench.Repulsion(aegis)(state[:, 0], now, {})
        assert bool(out.intervened[0]) == bool((out.action != state[:, 0]).any())
        return out.action[0, :3] - place

    assert not push(False).any()
    moved = push(True)
    assert moved[1] < -0.001 and np.abs(moved[[0, 2]]).max() < 1e-6
    told[0, 0, 1, 3] += 0.1
    assert not push(True).any()


SHORT = replace(COURSE.only(COURSE.tasks[-1], episodes=1), steps=60)


def test_what_stands_behind_a_policy_is_told_by_its_rows(tmp_path):
    """Of AEGIS by name, and of every arm of its proof: corrections are in the rows, which are another policy's."""
    how = {"workers": 1, "films": 0}
    (bare,) = rows_of(Path("expert"), SHORT, tmp_path / "bare", **how)
    assert not bare["interventions"]
    shields = {"aegis-by-name": shield_of(("aegis",), DESK), **{a.name: a.shield for a in ARMS}}
    for name, shield in shields.items():
        (row,) = rows_of(Path("random"), SHORT, tmp_path / name, **how, shield=shield)
        assert row["interventions"], name
        said = read_json(tmp_path / name / "run.json", "a run")["policy"]
        assert said == f"random behind {'aegis' if name == 'aegis-by-name' else name}"
        assert row["interventions"][0][1].startswith("Repulsion" if name == "repulsion" else "aegis")


def test_what_corrects_nothing_here_is_refused_before_an_episode(tmp_path):
    with pytest.raises(BuildError, match="'flashvla' as a filter"):
        shield_of(("flashvla",), DESK)
    with pytest.raises(BuildError, match="a shield for the action of"):
        shield_of(("aegis",), METAWORLD)
