"""Proofs on a handful of frames: cells train, resume, share a baseline, and become records only when all are there."""

import json
import re
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from mindhand.core.checkpoint import load_checkpoint, load_state
from mindhand.core.errors import BadData, BuildError
from mindhand.core.nouns import smoke_observation
from mindhand.data.files import read_json, write_json, write_rows
from mindhand.data.lerobot_read import LeRobotReader
from mindhand.data.robot import RobotFrames
from mindhand.data.synthetic.vocabulary import train_words
from mindhand.evaluate.protocol import HEIGHTS, HIDDEN, MATHS, PLACING_CUE
from mindhand.methods import wrapped
from mindhand.methods.act.fast import plug as with_fast
from mindhand.methods.act.oft import plug as with_oft
from mindhand.methods.learn.rs_cl import plug as with_rs_cl
from mindhand.methods.reason.inspire import QUESTION
from mindhand.methods.run.flashvla import wrap as with_flash
from mindhand.model.store import load_vla, save_vla
from mindhand.model.vla import VLA
from mindhand.recipes import proofs as all_proofs
from mindhand.recipes.chatvla2 import address, blank
from mindhand.recipes.nano import NanoPlan, build_reader
from mindhand.recipes.proofs import Proof, bench
from mindhand.recipes.proofs import depthvla as of_depth
from mindhand.recipes.proofs.bench import Arm, Bench, build, run_cell
from mindhand.recipes.rollouts import load_policy, rows_of
from mindhand.worlds.cued import CUE, REVERSED
from mindhand.worlds.declared import scene_hash
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


def test_an_arm_that_wraps_acts_from_the_baselines_checkpoint(home, tmp_path, monkeypatch):
    """Whichever of both comes first trains it; the other finds it there."""
    at, asked, trained = bench.Stand(TOKENS, home / "nano", tmp_path), [], []

    def one_row(checkpoint, protocol, folder, wraps, **how):
        asked.append((checkpoint, tuple(wraps)))
        _one_row(checkpoint, protocol, folder)

    monkeypatch.setattr(bench, "rows_of", one_row)
    for arm in (Arm("flashvla", wrap=with_flash), Arm("baseline")):
        run_cell(at, arm, 0, QUIET)
        assert at.done(arm.name, 0)
        trained.append((at.folder("baseline", 0) / "robot" / "metrics.jsonl").read_text())
    base = at.folder("baseline", 0) / "checkpoint"
    assert asked == [(base, ("flashvla",)), (base, ())] and trained[0] == trained[1]
    assert not (at.folder("flashvla", 0) / "checkpoint").exists()
    with pytest.raises(BadData, match="wraps and changes"):
        Arm("both", with_fast, wrap=with_flash)


def test_rows_of_what_is_wrapped_are_another_policys(tmp_path):
    """And what cannot be wrapped is refused before an episode begins."""
    flash = {"flashvla": partial(wrapped, names=["flashvla"])}
    with pytest.raises(BuildError, match="'flashvla' round Rehearsed"):
        rows_of(Path("expert"), PROTOCOL, tmp_path / "a", workers=1, films=0, wraps=flash)
    rows = rows_of(Path("random"), PROTOCOL, tmp_path / "b", workers=1, films=0, wraps={"same": lambda p: p})
    assert read_json(tmp_path / "b" / "run.json", "a run")["policy"] == "random in same" and len(rows) == 1
    with pytest.raises(BadData, match="random in same"):
        rows_of(Path("random"), PROTOCOL, tmp_path / "b", workers=1, films=0)


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


def _one_row(checkpoint, protocol, folder, **how):
    """One query of the policy that was saved, in place of an episode of some hundred steps."""
    vla, seen = load_policy(checkpoint), smoke_observation(SPEC)
    chunk, _ = vla.act(seen, vla.start(seen.keys))
    assert chunk.actions.shape[1:] == (8, SPEC.action_size)
    write_rows(folder / "rows.jsonl", [{"key": "a/b/0/0", "success": True}])


def fake(at, arm, training, *right):
    """A cell that is done, with so many of ten episodes of each task right."""
    folder, tasks = at.folder(arm, training), at.bench.protocol.tasks
    (folder / "evaluation").mkdir(parents=True)
    rows = [
        {"key": f"p/{task}/{k}/0", "task": task, "success": k < many}
        for task, many in zip(tasks, right, strict=True) for k in range(10)
    ]  # fmt: skip
    write_rows(folder / "evaluation" / "rows.jsonl", rows)
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


def test_tasks_told_apart_have_records_of_their_own(home, tmp_path, monkeypatch):
    bench_of_two = Bench("tokens", PLACING_CUE.only(episodes=1), **SHORT)
    with pytest.raises(BadData, match="apart as 'hard'"):
        replace(FAST, bench=bench_of_two, apart={"hard": ("spatial_placing/R",)})
    proof = replace(FAST, bench=bench_of_two, apart={"": (REVERSED,), "cue": (CUE,)}, chance=0.2)
    monkeypatch.setattr(all_proofs, "proofs", lambda: {"fast": proof})
    monkeypatch.setattr(all_proofs, "_module", lambda name: bench)
    nano, run = home / "nano", tmp_path / "run"
    at = all_proofs.stand(proof, nano, run)
    for n in range(3):
        fake(at, "baseline", n, 5, 1)
        fake(at, "fast", n, 6, 4)
    found = {r.name.rpartition("/")[2]: r for r in all_proofs.publish(nano, run, tmp_path / "drafts")}
    values = {name: (round(r.value, 3), r.n) for name, r in found.items()}
    assert values == {
        "baseline": (0.1, 30), "method": (0.4, 30), "effect": (0.3, 30),
        "cue_baseline": (0.5, 30), "cue_method": (0.6, 30), "cue_effect": (0.1, 30),
    }  # fmt: skip
    assert all_proofs.table(("fast",), nano, run).row_count == 4
    guessed = {r.name.rpartition("/")[2]: r.chance for r in all_proofs.publish(nano, run, tmp_path / "drafts")}
    assert guessed["method"] == 0.2 and guessed["cue_method"] is None  # chance is of the tasks that decide
    # Where the tasks of the claim are not named, all of them decide it.
    both = replace(proof, apart={"cue": (CUE,)})
    assert len(all_proofs.rows_of(both, at, "fast")) == 60 and len(all_proofs.rows_of(both, at, "fast", "cue")) == 30


def test_a_bench_shows_what_it_is_told_to_and_lies_where_it_lay(home, tmp_path):
    def root(**more):
        return bench.Stand(replace(TOKENS, **more), home / "nano", tmp_path).root

    said = {"base": "tokens", "camera": "front", "horizon": 8, "run": 1, **SHORT}
    where = PROTOCOL.to_json(), asdict(SPEC), scene_hash()
    mind = load_checkpoint(home / "nano", None).fingerprint
    was = tmp_path / address(said, where, asdict(TOKENS.optimiser), mind)
    assert root() == root(shown=PROTOCOL.tasks) == was != root(shown=(CUE,))
    assert replace(TOKENS, shown=(CUE,)).demonstrated == (CUE,) and TOKENS.demonstrated == PROTOCOL.tasks
    with pytest.raises(BadData, match="no one world"):
        replace(TOKENS, shown=("metaworld/reach",))


def test_inspire_is_taught_its_answers_where_the_cue_holds(home, tmp_path, monkeypatch):
    """Every arm takes a step on its proof's own tasks; only those with questions say something."""
    proof = all_proofs.proofs()["inspire"]
    assert proof.bench.demonstrated == (CUE,) and set(proof.bench.protocol.tasks) == {CUE, REVERSED}
    assert proof.parts == {"": (REVERSED,), "cue": (CUE,)}
    at = bench.Stand(replace(proof.bench, **SHORT), home / "nano", tmp_path)
    taught, tested = {}, []

    def batched(frames, index, keys, *rest, **more):
        made = make(frames, index, keys, *rest, **more)
        taught.setdefault(arm.name, made.text["reasoning"])
        return made

    def tried(checkpoint, protocol, folder, **how):
        tested.append(protocol.tasks)
        return _one_row(checkpoint, protocol, folder, **how)

    make = RobotFrames.batch
    monkeypatch.setattr(RobotFrames, "batch", batched)
    monkeypatch.setattr(bench, "rows_of", tried)
    for arm in proof.all:
        run_cell(at, arm, 0, QUIET)
    assert {e.key.task for e in LeRobotReader(at.root / "demonstrations").episodes} == {CUE}
    assert tested == [(CUE, REVERSED)] * 3
    words = load_vla(home / "nano").backbone.words
    said = {n: [words.decode(i[v].tolist()) for i, v in zip(t.ids, t.valid)] for n, t in taught.items()}
    asked = [re.sub("<say>[a-z]*", "<say>", text) for text in said["inspire"]]
    assert all(text.count("<say>") == 2 and QUESTION.format("bowl") in text for text in asked)
    # The control is asked the same and learns something else; the base says nothing.
    assert asked == [re.sub("<say>[a-z]*", "<say>", text) for text in said["random"]]
    assert said["random"] != said["inspire"]
    assert not any("<ask>" in text for text in said["baseline"])


def test_two_proofs_of_a_bench_share_its_baseline(home, tmp_path, monkeypatch):
    oft = Proof("oft", TOKENS, (Arm("oft", with_oft),), trainings=3)
    monkeypatch.setattr(all_proofs, "proofs", lambda: {"fast": FAST, "oft": oft})
    cells = [*all_proofs.due(("fast", "oft"), home / "nano", tmp_path)]
    assert len(cells) == 9 and sum(c.arm == "baseline" for c in cells) == 3


# ---- DepthVLA --------------------------------------------------------------------------------------------

DEEP = Bench("flow", HEIGHTS.only(episodes=1), demonstrations=2, every=6, steps=2, rows=8)
BRIEF = replace(of_depth.TOWER, steps=40)


@pytest.fixture(scope="module")
def deep(home):
    """A bench of heights with its demonstrations, and a policy on them."""
    at = bench.Stand(DEEP, home / "nano", home / "deep")
    bench.prepare(at, QUIET)
    return at


def put(at, arm):
    """An arm's policy, fit to train, and its frames."""
    vla, (reader, pictures) = build(at, arm, 0), bench.prepare(at, QUIET)
    robot = bench.RobotFrames(reader, pictures, vla.backbone.words, 8, "front", words_of=bench.blank)
    bench.fit(vla, robot)
    return vla, robot


def learned(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_the_tower_is_trained_before_once_and_alone(deep, monkeypatch):
    at = deep
    monkeypatch.setattr(bench, "rows_of", _one_row)
    monkeypatch.setattr(of_depth, "HELD", 1)
    whole, less, late = (replace(a, before=a.before and BRIEF) for a in of_depth.ARMS)
    assert whole.before and not less.before and not late.before
    run_cell(at, whole, 0, QUIET)
    (before,) = (at.root / "before").iterdir()
    first, last = learned(before)[0]["depth"], learned(before)[-1]["depth"]
    assert last < first, "the tower's loss does not fall"
    assert learned(at.folder("depthvla", 0) / "robot")[-1]["depth"] < first

    start, state = build(at, whole, 0), load_state(before / "state")["model"]
    reached = {n.split(".")[0] for n, x in start.named_parameters() if not torch.equal(x, state[n])}
    assert reached == {"streams", "backbone", "objectives"}
    moved = {n for n, x in start.named_parameters() if not torch.equal(x, state[n])}
    assert all("towers.depth." in n for n in moved if n.startswith("backbone."))
    assert any(n.startswith("backbone.towers.depth.") for n in moved)

    (at.folder("depthvla", 0) / "done.json").unlink()
    stamp = (before / "metrics.jsonl").read_text()
    run_cell(at, whole, 0, QUIET)  # finds it, and learns nothing anew
    assert [*(at.root / "before").iterdir()] == [before] and (before / "metrics.jsonl").read_text() == stamp
    told = read_json(at.folder("depthvla", 0) / "done.json", "a cell")["measured"]
    assert set(told) == {f"depth_error{x}{y}" for x in ("", "_things") for y in ("", "_blind")}
    assert all(0 < x < 1 for x in told.values()) and told["depth_error_things_blind"] > told["depth_error_blind"]

    run_cell(at, less, 0, QUIET)
    assert [*(at.root / "before").iterdir()] == [before]
    assert "measured" not in read_json(at.folder("no-depth-loss", 0) / "done.json", "a cell")
    sizes = {sum(x.numel() for x in build(at, arm, 0).parameters()) for arm in of_depth.ARMS}
    assert len(sizes) == 1 and sizes != {sum(x.numel() for x in build(at, Arm("baseline"), 0).parameters())}


def test_without_its_loss_the_tower_s_head_learns_nothing(deep, tmp_path):
    whole, less, late = of_depth.ARMS
    for arm, learns in ((whole, True), (less, False), (late, True)):
        vla, robot = put(deep, arm)
        before = vla.objectives[0].head.weight.clone()
        bench.train_stage(vla, bench.stage(deep, arm, 0, vla, robot), tmp_path / arm.name, console=QUIET)
        assert torch.equal(before, vla.objectives[0].head.weight) != learns


def test_the_measure_knows_right_from_wrong(deep, monkeypatch):
    """Who tells the truth has no error, who tells twice as much an error of one."""
    monkeypatch.setattr(of_depth, "HELD", 1)
    vla, seen = put(deep, of_depth.ARMS[0])[0].eval(), []
    real = bench.RobotFrames.batch

    def kept(*args, **how):
        seen.append(real(*args, **how))
        return seen[-1]

    monkeypatch.setattr(bench.RobotFrames, "batch", kept)
    for factor, error in ((1.0, 0.0), (2.0, 1.0)):
        monkeypatch.setattr(
            of_depth.DepthLoss, "told", lambda own, ctx, f=factor: (f * seen[-1].targets["depth"].value).log()
        )
        told = of_depth.depth_error(vla, deep)
        assert told["depth_error"] == pytest.approx(error, abs=1e-5)
        assert np.isfinite([*told.values()]).all() and told["depth_error_blind"] > 0.001


def test_depth_of_other_cells_is_refused(deep, tmp_path):
    vla, robot = put(deep, of_depth.ARMS[0])
    robot.reader._labels["depth"] = robot.reader.label("depth")[:, :64]
    with pytest.raises(BadData, match="64 cells"):
        bench.train_stage(vla, bench.stage(deep, of_depth.ARMS[0], 0, vla, robot), tmp_path / "x", console=QUIET)
