"""Experiments of methods on a handful of frames: what each teaches, pretrains and measures besides."""

import json
import re
from dataclasses import replace
from functools import partial
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from mindhand.core.checkpoint import load_checkpoint, load_state
from mindhand.core.errors import BadData
from mindhand.core.keys import Key
from mindhand.data.lerobot_read import LeRobotReader
from mindhand.data.robot import RobotFrames
from mindhand.evaluate.protocol import HEIGHTS, HIDDEN
from mindhand.methods.reason.inspire import QUESTION
from mindhand.methods.run.flashvla import Config
from mindhand.methods.run.flashvla import wrap as with_flash
from mindhand.model.store import load_vla
from mindhand.recipes import proofs as all_proofs
from mindhand.recipes.chatvla2 import blank
from mindhand.recipes.proofs import bench
from mindhand.recipes.proofs import depthvla as of_depth
from mindhand.recipes.proofs import flashvla as of_flash
from mindhand.recipes.proofs import ript_vla as of_ript
from mindhand.recipes.proofs.bench import Arm, Bench, build, run_cell
from mindhand.worlds.cued import CUE, REVERSED

from .tiny_bench import PROTOCOL, QUIET, SHORT, TOKENS, make_home, one_row


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return make_home(tmp_path_factory.mktemp("home"))


def test_memories_train_on_runs_as_far_apart_as_queries(home, tmp_path, monkeypatch):
    """A step of each arm of MemoryVLA's proof, on one demonstration of two tasks."""
    proof = all_proofs.proofs()["memoryvla"]
    short = HIDDEN.only("hidden_state/back", "hidden_state/seen", episodes=1)
    small = replace(proof.bench, protocol=short, demonstrations=1, steps=1, rows=proof.bench.run)
    at = bench.Stand(small, home / "nano", tmp_path)
    monkeypatch.setattr(bench, "rows_of", one_row)
    for arm in proof.arms:
        run_cell(at, arm, 0, QUIET)
        assert at.done(arm.name, 0)
    vla = build(at, proof.arms[0], 0)
    robot = RobotFrames(*bench.prepare(at, None), vla.backbone.words, at.bench.horizon, words_of=blank)
    batch = bench.stage(at, proof.arms[0], 0, vla, robot).source.batch(vla, 0)
    assert len(batch.step) == proof.bench.run and len(set(batch.episode.tolist())) == 1 and batch.step[0] == 0
    assert set(torch.diff(batch.step).tolist()) <= {HIDDEN.replan, 0}  # a short episode repeats its last


def test_what_flashvla_saves_is_measured_beside_the_policy_as_it_is(home, tmp_path):
    """On some queries; where nothing is dropped and nothing used again, nothing is saved."""
    brief = replace(TOKENS, protocol=replace(PROTOCOL, steps=4 * PROTOCOL.replan))
    at = bench.Stand(brief, home / "nano", tmp_path)
    less, same = Config(kept=4), Config(kept=of_flash.ALL, reuse=False)
    vla = bench.learn(at, Arm("baseline"), 0, QUIET)
    (some,), (none,) = (of_flash.saved(vla, at, tmp_path, partial(with_flash, config=c)) for c in (less, same))
    assert set(some) == {"key", "flash_ms", "bare_ms", "flash_flops", "bare_flops", "reused"}
    assert none["flash_flops"] == none["bare_flops"] == some["bare_flops"] and none["reused"] == 0
    assert some["flash_flops"] < some["bare_flops"] and 0 <= some["reused"] <= 0.5
    x = torch.randn(2, 9, 5)
    kept = of_flash.at_random(less, 0, "image/front", x)
    assert kept.shape == (2, 4) and (kept.diff(dim=1) > 0).all() and kept[0].tolist() != kept[1].tolist()
    assert torch.equal(of_flash.at_random(less, 0, "image/front", x[1:]), kept[1:])
    assert of_flash.at_random(less, 1, "image/front", x) is None


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
        return one_row(checkpoint, protocol, folder, **how)

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


@pytest.mark.skipif(find_spec("metaworld") is None, reason="an extra")
def test_arms_that_act_go_on_from_the_baseline(home, tmp_path, monkeypatch):
    """Each for as many updates, in rollouts of a few steps; what was practised is measured."""
    proof = all_proofs.proofs()["ript_vla"]
    small = replace(proof.bench, protocol=proof.bench.protocol.only("metaworld/reach"), **SHORT)
    at = bench.Stand(small, home / "nano", tmp_path)
    monkeypatch.setattr(bench, "rows_of", lambda checkpoint, protocol, folder, **how: folder.mkdir(parents=True))
    monkeypatch.setattr(of_ript, "STEPS", 2)
    starts = (Key("demonstrations", "metaworld/reach", 0),)
    brief = replace(of_ript.PLAN, starts=starts, groups=1, many=2, tries=1, steps=8, rows=2, updates=1, queries=4)
    names = []
    for arm in proof.arms:
        if arm.name != "shown-again":
            loss = arm.after.keywords["loss"]
            plan = replace(brief, dynamic=False)
            arm = replace(arm, after=partial(of_ript.acting, loss=loss, plan=plan))
        run_cell(at, arm, 0, QUIET)
        (done,) = learned(at.folder(arm.name, 0) / "after")
        assert done["step"] == 2 and not (at.folder(arm.name, 0) / "robot").exists()
        names.append(load_checkpoint(at.folder(arm.name, 0) / "checkpoint", None).fingerprint)
        told = at.measured(arm.name, 0)
        assert [r["rollouts"] for r in told] == ([2, 2] if arm.measure else [])
    names.append(load_checkpoint(at.folder("baseline", 0) / "checkpoint", None).fingerprint)
    ript, shown, cloning, every, base = names
    assert ript == cloning == every == base != shown, "what never succeeds teaches nothing"


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
    monkeypatch.setattr(bench, "rows_of", one_row)
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
    told = at.measured("depthvla", 0)
    assert len(told) == len({r["key"] for r in told}) > 2
    mean = {name: sum(r[name] for r in told) / len(told) for name in whole.measure.metrics}
    assert all(0 < x < 1 for x in mean.values()) and mean["depth_error_things_blind"] > mean["depth_error_blind"]

    run_cell(at, less, 0, QUIET)
    assert [*(at.root / "before").iterdir()] == [before]
    assert not at.measured("no-depth-loss", 0)
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
        told = of_depth.depth_error(vla, deep, deep.root)
        assert all(r["depth_error"] == pytest.approx(error, abs=1e-5) == r["depth_error_things"] for r in told)
        assert all(np.isfinite([r[n] for n in of_depth.NAMES]).all() and r["depth_error_blind"] > 0.001 for r in told)


def test_depth_of_other_cells_is_refused(deep, tmp_path):
    vla, robot = put(deep, of_depth.ARMS[0])
    robot.reader._labels["depth"] = robot.reader.label("depth")[:, :64]
    with pytest.raises(BadData, match="64 cells"):
        bench.train_stage(vla, bench.stage(deep, of_depth.ARMS[0], 0, vla, robot), tmp_path / "x", console=QUIET)
