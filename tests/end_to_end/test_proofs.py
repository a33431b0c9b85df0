"""Proofs on a handful of frames: cells train, resume, share a baseline, and become records only when all are there."""

from dataclasses import replace

import pytest
import torch
from rich.console import Console

from mindhand.core.errors import BadData
from mindhand.data.files import read_json, write_json, write_rows
from mindhand.data.robot import RobotFrames
from mindhand.data.synthetic.vocabulary import train_words
from mindhand.evaluate.protocol import HIDDEN, MATHS
from mindhand.methods.act.fast import plug as with_fast
from mindhand.methods.act.oft import plug as with_oft
from mindhand.methods.learn.rs_cl import plug as with_rs_cl
from mindhand.model.store import save_vla
from mindhand.model.vla import VLA
from mindhand.recipes import proofs as all_proofs
from mindhand.recipes.chatvla2 import blank
from mindhand.recipes.doctor import smoke_observation
from mindhand.recipes.nano import NanoPlan, build_reader
from mindhand.recipes.proofs import Proof, bench
from mindhand.recipes.proofs.bench import Arm, Bench, build, run_cell
from mindhand.recipes.rollouts import load_policy
from mindhand.worlds.desk.world import SPEC

QUIET = Console(quiet=True)


PROTOCOL = MATHS.only("maths_matching/R", episodes=1)
SHORT = {"demonstrations": 2, "every": 16, "steps": 2, "rows": 4}
TOKENS, FLOW = Bench("tokens", PROTOCOL, **SHORT), Bench("flow", PROTOCOL, **SHORT)
FAST = Proof("fast", TOKENS, (Arm("fast", with_fast),), trainings=3)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    reader = build_reader(NanoPlan("test", brief=False), train_words(True))
    save_vla(VLA(spec=SPEC, backbone=reader.backbone), home / "nano")
    return home


@pytest.fixture
def only_fast(monkeypatch):
    monkeypatch.setattr(all_proofs, "proofs", lambda: {"fast": FAST})
    monkeypatch.setattr(all_proofs, "_module", lambda name: bench)


def test_a_proof_is_of_its_method_on_its_base():
    with pytest.raises(BadData, match="its own first"):
        Proof("fast", TOKENS, (Arm("no-bpe", with_fast),))
    with pytest.raises(BadData, match="each once"):
        Proof("fast", TOKENS, (Arm("fast", with_fast), Arm("fast", with_fast)))
    with pytest.raises(BadData, match="the base on its card"):
        Proof("fast", FLOW, (Arm("fast", with_fast),))


@pytest.mark.parametrize("name", all_proofs.proofs())
def test_every_proof_builds_all_its_arms(home, tmp_path, name):
    proof = all_proofs.proofs()[name]
    made = [build(all_proofs.stand(proof, home / "nano", tmp_path), arm, 0) for arm in proof.all]
    assert len(made) >= 2 and proof.trainings >= 3


def test_what_differs_between_arms_is_the_change_alone(home, tmp_path):
    at = bench.Stand(FLOW, home / "nano", tmp_path)
    off, again, on = (build(at, arm, 0) for arm in (Arm("baseline"), Arm("baseline"), Arm("rs_cl", with_rs_cl)))
    other = build(at, Arm("baseline"), 1)
    first = off.state_dict()
    assert all(torch.equal(x, first[n]) for n, x in again.state_dict().items())
    shared = {n: x for n, x in on.state_dict().items() if n in first}
    assert set(shared) == set(first) and all(torch.equal(x, first[n]) for n, x in shared.items())
    assert any(not torch.equal(x, first[n]) for n, x in other.state_dict().items())


def test_a_cell_trains_acts_and_is_not_run_twice(home, tmp_path, monkeypatch):
    at = bench.Stand(TOKENS, home / "nano", tmp_path)
    monkeypatch.setattr(bench, "rows_of", _one_row)
    for arm in (Arm("baseline"), Arm("fast", with_fast), Arm("oft", with_oft)):
        run_cell(at, arm, 0, QUIET)
        assert at.done(arm.name, 0) and at.rows(arm.name, 0)[0]["success"] is True
        assert (at.folder(arm.name, 0) / "checkpoint" / "manifest.json").exists()
    assert at.root != bench.Stand(FLOW, home / "nano", tmp_path).root


def test_memories_train_on_runs_as_far_apart_as_queries(home, tmp_path, monkeypatch):
    """A step of each arm of MemoryVLA's proof, on one demonstration of two tasks."""
    proof = all_proofs.proofs()["memoryvla"]
    short = HIDDEN.only("hidden_state/back", "hidden_state/seen", episodes=1)
    small = replace(proof.bench, protocol=short, demonstrations=1, steps=1, rows=proof.bench.run)
    at = bench.Stand(small, home / "nano", tmp_path)
    monkeypatch.setattr(bench, "rows_of", _one_row)
    for arm in proof.arms:
        run_cell(at, arm, 0, QUIET)
        assert at.done(arm.name, 0)
    vla = build(at, proof.arms[0], 0)
    robot = RobotFrames(*bench.prepare(at, None), vla.backbone.words, at.bench.horizon, words_of=blank)
    batch = bench.stage(at, proof.arms[0], 0, vla, robot).source.batch(vla, 0)
    assert len(batch.step) == proof.bench.run and len(set(batch.episode.tolist())) == 1 and batch.step[0] == 0
    assert set(torch.diff(batch.step).tolist()) <= {HIDDEN.replan, 0}  # a short episode repeats its last


def test_what_is_apart_is_in_records_of_its_own(home, tmp_path, monkeypatch):
    with pytest.raises(BadData, match="not all"):
        Proof("fast", TOKENS, (Arm("fast", with_fast),), apart=("maths_matching/X",))
    proof = replace(all_proofs.proofs()["memoryvla"], trainings=1)
    monkeypatch.setattr(all_proofs, "proofs", lambda: {"memoryvla": proof})
    nano, run = home / "nano", tmp_path / "run"
    at = all_proofs.stand(proof, nano, run)
    for arm in proof.all:
        own = arm.name == "memoryvla"
        told = [(t, k, t.endswith("seen") or (own and k < 6)) for t in HIDDEN.tasks for k in range(8)]
        rows = [{"key": f"p/{t}/{k}/0", "task": t, "success": right} for t, k, right in told]
        folder = at.folder(arm.name, 0)
        (folder / "evaluation").mkdir(parents=True)
        write_rows(folder / "evaluation" / "rows.jsonl", rows)
        write_json(folder / "done.json", {})
    found = {r.name.removeprefix("proofs/memoryvla/"): r for r in all_proofs.publish(nano, run, tmp_path / "drafts")}
    assert found["effect"].value == found["method"].value == 0.75 and found["effect"].n == 24
    assert found["method"].chance == pytest.approx(0.096, abs=0.001) and found["over_no-past"].value == 0.75
    assert found["seen_effect"].value == 0 and found["seen_baseline"].value == 1 and found["seen_effect"].n == 8
    assert {"control_first-out", "seen_control_first-out", "seen_over_no-past"} <= set(found)
    assert all_proofs.table(("memoryvla",), nano, run).row_count == 2 * len(proof.all)


def _one_row(checkpoint, protocol, folder, **how):
    """One query of the policy that was saved, in place of an episode of some hundred steps."""
    vla, seen = load_policy(checkpoint), smoke_observation(SPEC)
    chunk, _ = vla.act(seen, vla.start(seen.keys))
    assert chunk.actions.shape[1:] == (8, SPEC.action_size)
    write_rows(folder / "rows.jsonl", [{"key": "a/b/0/0", "success": True}])


def fake(at, arm, training, right):
    """A cell that is done, with so many of ten episodes right."""
    folder = at.folder(arm, training)
    (folder / "evaluation").mkdir(parents=True)
    write_rows(folder / "evaluation" / "rows.jsonl", [{"key": f"p/t/{k}/0", "success": k < right} for k in range(10)])
    write_json(folder / "done.json", {})


def test_records_come_when_every_cell_is_there(home, tmp_path, only_fast):
    nano, run = home / "nano", tmp_path / "run"
    at = all_proofs.stand(FAST, nano, run)
    order = [str(c) for c in all_proofs.due(("fast",), nano, run)]
    assert order[:2] == ["fast/baseline/0", "fast/fast/0"] and len(order) == 6
    for n in range(3):
        fake(at, "baseline", n, 2)
        assert not [*all_proofs.publish(nano, run, tmp_path / "drafts")]
        fake(at, "fast", n, 6 + n)
    found = {r.name: r for r in all_proofs.publish(nano, run, tmp_path / "drafts")}
    assert set(found) == {"proofs/fast/baseline", "proofs/fast/method", "proofs/fast/effect"}
    assert found["proofs/fast/effect"].value == pytest.approx(0.5) and len(found["proofs/fast/effect"].trainings) == 3
    assert found["proofs/fast/method"].value == pytest.approx(0.7)
    assert read_json(tmp_path / "drafts" / "proofs" / "fast.json", "records")["records"]
    assert all_proofs.table(("fast",), nano, run).row_count == 2


def test_two_proofs_of_a_bench_share_its_baseline(home, tmp_path, monkeypatch):
    oft = Proof("oft", TOKENS, (Arm("oft", with_oft),), trainings=3)
    monkeypatch.setattr(all_proofs, "proofs", lambda: {"fast": FAST, "oft": oft})
    cells = [*all_proofs.due(("fast", "oft"), home / "nano", tmp_path)]
    assert len(cells) == 9 and sum(c.arm == "baseline" for c in cells) == 3
