"""Arms that learn from data of their own, on a handful of frames: CAST's experiment; and relabelling by name."""

from dataclasses import replace

import numpy as np
import pytest

from mindhand.core.errors import BadData, Refusal
from mindhand.data.lerobot_read import LeRobotReader
from mindhand.data.relabelled import ADDED
from mindhand.kit.atomic import COMMANDS
from mindhand.recipes import proofs as all_proofs
from mindhand.recipes.proofs import bench
from mindhand.recipes.proofs import cast as of_cast
from mindhand.recipes.proofs.bench import Arm, run_cell
from mindhand.recipes.relabel import relabel
from mindhand.worlds.biased import BIASED, OTHER

from ..contract.bases import recorded
from ..data.make import make_episode, write
from .tiny_bench import QUIET, make_home, one_row


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return make_home(tmp_path_factory.mktemp("home"))


def test_cast_trains_on_what_it_added_and_says_who_listens(home, tmp_path, monkeypatch):
    """A step of every arm. The atomic policy is told motions; the expert's samples come one to one; of each arm it is
    measured how far an exchanged instruction moves it, beside the baseline."""
    proof = all_proofs.proofs()["cast"]
    assert proof.bench.demonstrated == (BIASED,) and proof.parts == {"": (OTHER,), "biased": (BIASED,)}
    short = {"demonstrations": 1, "every": 16, "steps": 1, "rows": 8}
    at = bench.Stand(replace(proof.bench, **short), home / "nano", tmp_path)
    monkeypatch.setattr(bench, "rows_of", one_row)
    for name, few in (("SCENES", 1), ("POINTS", 1), ("SAMPLES", 2)):
        monkeypatch.setattr(of_cast, name, few)
    for arm in proof.all:
        run_cell(at, arm, 0, QUIET)
        assert at.done(arm.name, 0)
        rows = at.measured(arm.name, 0)
        assert [set(r) for r in rows] == ([{"key", *of_cast.UNITS}] if arm.measure else [])
        assert all(r["swap"] > 0 and r["bits"] <= 1 for r in rows)
    told, _, sets = of_cast.told(at, 0)
    assert told.instruction(0) in COMMANDS and not sets and at.folder("atomic", 0).exists()
    reader, cache, sets = of_cast.counterfactual(at, 0, atomic=False)
    assert [s.name for s in sets] == ["original", ADDED] and len(sets[1].rows) > 2
    assert len(sets[0].rows) == sets[1].weight * len(sets[1].rows) and (reader.frame_index[sets[1].rows] == 0).all()
    mixture = bench.source(at, 0, bench.build(at, Arm("baseline"), 0), None, sets).mixture
    drawn = [mixture.rows(step) for step in range(100)]
    assert np.mean([(b.set == 1).mean() for b in drawn]) == pytest.approx(0.5, abs=0.06)
    assert set(np.concatenate([b.index for b in drawn]).tolist()) <= set(cache.frames.tolist())
    words, _, _ = of_cast.paraphrased(at, 0)
    assert len({words.instruction(i) for i in range(len(words))}) == 5


def test_an_exchanged_instruction_tells_or_tells_nothing():
    rng = np.random.default_rng(0)
    alike, apart = rng.normal(0, 0.01, (400, 2, 8, 3)), np.array([0.0, 0.2]).reshape(2, 1, 1)
    assert -0.5 < np.mean([of_cast.information(x) for x in alike]) < 0.05
    assert of_cast.information(alike[0] + apart) > 0.99
    assert of_cast.information(np.zeros((2, 8, 3))) == pytest.approx(0.0)


def test_wordings_are_those_of_placing():
    said = [of_cast.worded("put the red ball in the bowl", k) for k in range(5)]
    assert said[0] == "put the red ball in the bowl" and len(set(said)) == 5
    assert all("red ball" in s and "in the bowl" in s for s in said) and of_cast.worded("wait", 3) == "wait"


def test_an_arm_with_data_of_its_own_has_no_other_stage():
    with pytest.raises(BadData, match="another stage"):
        Arm("it", data=of_cast.told, before=bench.Before(("*",), {"action": 1.0}, 1))
    with pytest.raises(BadData, match="wraps and changes"):
        Arm("it", data=of_cast.told, wrap=lambda policy: policy)


def test_demonstrations_are_told_anew_by_name(tmp_path):
    made = relabel("cast", recorded().path, tmp_path / "cast")
    assert made.added.any() and (tmp_path / "cast" / "samples.html").exists()
    assert LeRobotReader(tmp_path / "cast" / "dataset").fingerprint() == made.reader.fingerprint()
    with pytest.raises(Refusal, match="spatial_placing"):
        relabel("cast", write(tmp_path / "other", [make_episode(0)]), tmp_path / "none")
