"""The grid on a handful of frames: every variant trains a step, cells resume, and what is due follows from what is."""

import lzma
import shutil
import tarfile
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from rich.console import Console

from mindhand.core.checkpoint import load_checkpoint
from mindhand.core.errors import BadData, Refusal, SpecMismatch
from mindhand.core.keys import Keys
from mindhand.data.files import read_rows, write_json, write_rows
from mindhand.data.synthetic.vocabulary import train_words
from mindhand.evaluate import ledger
from mindhand.evaluate.protocol import MATHS, MATHS_SCANNED
from mindhand.model import shipped
from mindhand.model.cascade import Cascade, goal_codes
from mindhand.model.store import save_vla
from mindhand.model.vla import VLA
from mindhand.recipes import bench_sampling, derived, router
from mindhand.recipes import grid as grids
from mindhand.recipes import grid_records as records
from mindhand.recipes import prove as proofs
from mindhand.recipes.chatvla2 import ChatVLA2Plan, build, fit, frames, stages, train
from mindhand.recipes.cost import cost, idle
from mindhand.recipes.grid import (
    Cell,
    Grid,
    GridPlan,
    due,
    evidence,
    finished,
    open_ktest,
    order,
    run_cell,
    run_queue,
    trained,
)
from mindhand.recipes.grid_report import ranked, said, show, write_grid_report
from mindhand.recipes.kept import ENDING
from mindhand.recipes.latency import latency_rows
from mindhand.recipes.nano import NanoPlan, build_reader
from mindhand.recipes.record import demonstrations
from mindhand.recipes.rollouts import load_policy
from mindhand.recipes.router import routing_rows
from mindhand.recipes.variants import GRID, SAME, Variant
from mindhand.worlds.desk.spec import PANDA_SPEC
from mindhand.worlds.desk.world import SPEC

QUIET = Console(quiet=True)
RECIPE = ChatVLA2Plan(episodes=2, every=16, warmup=1, align=2, mixed=12, tune=2, rows=8, brief=False, digits=False)
PLAN = GridPlan(RECIPE, episodes=1, given=1, novel=1, items=1)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    demonstrations(home / "demos", RECIPE.episodes, workers=1, console=QUIET)
    reader = build_reader(NanoPlan("test", brief=False), train_words(True))
    save_vla(VLA(spec=SPEC, backbone=reader.backbone), home / "nano")
    return home


@dataclass(frozen=True)
class Verdict:
    """Of a claim, as `judge` gives it."""

    id: str
    verdict: str
    why: str = ""


def knowing(checkpoint, items, file, console=None):
    """A scorecard on which everything is known: an untrained VLM has nothing to keep, and claims refuse that."""
    rows = [{"key": f"scorecard-1/mix/{k}/0", "part": "mix", "expected": "duck", "right": k < 3, "likely": True,
             "chance": 0.25} for k in range(4)]  # fmt: skip
    write_rows(file, rows)
    return rows


@pytest.fixture
def grid(home, tmp_path, monkeypatch):
    short = replace(MATHS, steps=9, rows=1)
    monkeypatch.setattr(grids, "PROTOCOLS", {"maths": short})
    monkeypatch.setattr(grids, "BODY", {})
    monkeypatch.setattr(grids, "TRAININGS", 1)
    monkeypatch.setattr(grids, "mind_rows", knowing)
    monkeypatch.setattr(derived, "mind_rows", knowing)
    return Grid(PLAN, home / "nano", tmp_path)


@pytest.mark.parametrize("name", GRID)
def test_every_variant_learns(home, name):
    variant = GRID[name]
    vla = build(home / "nano", RECIPE, variant)
    robot = frames(home / "demos", home / "frames", RECIPE, vla, variant, None)
    fit(vla, robot)
    found = stages(vla, robot, RECIPE, variant)
    whole = [s.steps for s in found if s.name != "warm-up"]
    least = RECIPE.align + (0 if "fine-tuning" in variant.stages else RECIPE.tune)
    assert sum(whole) == (least if whole else 0) and [s.name for s in found] == [
        s for s in variant.stages if s != "fine-tuning"
    ]
    for stage in found:
        torch.manual_seed(0)
        batch = stage.source.batch(vla, 0)
        for part in batch if isinstance(batch, list) else [batch]:
            losses = vla.losses(part, Keys.seeded(len(part) * part.questions, 0))
            assert all(bool(torch.isfinite(x).all()) for x in losses.values())
            robots = bool(part.action_valid.any(1).sum()) if part.action_valid is not None else False
            texts = int((part.task == 0).sum())
            assert (stage.name == "warm-up") == (not robots) and (texts > 0) == (stage.name != "robot")
            sum(x.mean() for x in losses.values()).backward()


def test_an_anchored_mind_is_drawn_back_to_what_it_was(home):
    variant = GRID["B9-anchored"]
    vla = build(home / "nano", RECIPE, variant)
    robot = frames(home / "demos", home / "frames", RECIPE, vla, variant, None)
    fit(vla, robot)
    (stage,) = stages(vla, robot, RECIPE, variant)
    batch, keys = stage.source.batch(vla, 0), Keys.seeded(1, 0)

    def far():
        return vla.losses(batch, keys)["anchor"]

    assert far().shape == (len(batch),) and float(far().detach().max()) < 1e-9
    with torch.no_grad():
        vla.backbone.towers["vlm"].layers[0].ffn.down.weight += 0.05
    assert float(far().detach().min()) > 1e-5
    far().mean().backward()
    assert vla.backbone.towers["vlm"].layers[0].ffn.down.weight.grad.abs().max() > 0
    assert not any("still" in n for n in [*vla.state_dict(), *dict(vla.named_parameters())])


def test_stages_have_an_order():
    with pytest.raises(BadData, match="in that order"):
        Variant("odd", stages=("fine-tuning", "robot"))
    with pytest.raises(BadData, match="cascade"):
        Variant("odd", hand="cascade")
    with pytest.raises(BadData, match="a hand of tokens"):
        Variant("odd", hand="tokens")
    assert set(SAME.values()) <= set(GRID)


def test_a_cell_is_trained_evaluated_and_examined_once(grid, monkeypatch):
    monkeypatch.setattr(derived, "CURVE", (1, 2))
    monkeypatch.setattr(derived, "FEW", 1)
    for name in ("F1", "B1-recovered"):
        run_cell(grid, Cell("maths", name, 0))
    cells = [Cell("maths", "F1", 0), Cell("maths", "B1", 0)]
    again = Cell("maths", "B1-recovered", 0)
    assert again in finished(grid) and not grid.rows(again)  # its hand is another mind's
    assert {r["step"] for r in read_rows(grid.root / again.path / "curve.jsonl")} == {1, 2}
    assert [c for c in finished(grid) if c != again] == cells and all(c not in list(due(grid)) for c in cells)
    assert {r["task"] for r in grid.rows(cells[0])} == {"maths_matching/R", "maths_matching/K-dev"}
    assert {r["task"] for r in grid.rows(cells[0], "novel")} == {"maths_matching/X"}
    for arm in ("misled", "told"):
        assert [r["task"] for r in grid.rows(cells[0], arm)] == ["maths_matching/K-dev"]
        assert grid.rows(cells[1], arm) == []  # who does not think is told nothing
    assert isinstance(load_policy(grid.root / cells[0].path / "checkpoint").expert, Cascade)
    found = evidence(grid).cells
    assert set(found) == {"base", "B1", "B1-recovered"}
    assert len(found["B1"]["0"].episodes) == 2 and found["B1"]["0"].scorecard
    everything = said(grid)
    page = write_grid_report(grid, everything, grid.root / "report.html").read_text()
    assert "F1" in page and "C14" in page
    paid = cost(grid.root / cells[0].path / "checkpoint", grid.protocol("maths"))
    assert paid.stored == paid.active > 0 and paid.flops > 2 * paid.active and paid.hand > 0
    show(everything, QUIET)


def test_what_the_checkout_keeps_of_a_cell_is_not_run_again(grid, tmp_path, monkeypatch):
    here, cell = replace(grid, kept=tmp_path / "cells"), Cell("maths", "F0", 0)
    run_cell(here, cell)
    assert here.keep() == 1 and here.keep() == 0, "the same rows are other bytes"
    there = replace(here, run=tmp_path / "another machine")
    assert there.restore() == 1 and there.restore() == 0
    assert finished(there) == [cell] and trained(there) == [], "there are no weights to ask"
    assert there.rows(cell) == here.rows(cell) and there.rows(cell, "misled") == here.rows(cell, "misled")
    assert cell not in due(there) and open_ktest(there, ["F0"]) == 0
    (archive,) = tmp_path.glob(f"cells/**/*{ENDING}")
    archive.write_bytes(archive.read_bytes()[:-40])
    with pytest.raises(BadData, match="no finished cell"):
        replace(here, run=tmp_path / "a third").restore()
    made = tmp_path / "made.tar"
    with tarfile.open(made, "w") as tar:
        for name in ("done.json", "../scorecard.jsonl"):
            tar.add(grid.root / cell.path / name.removeprefix("../"), name)
    archive.write_bytes(lzma.compress(made.read_bytes()))
    with pytest.raises(BadData, match="no finished cell"):
        replace(here, run=tmp_path / "a fourth").restore()


def test_records_are_what_the_rows_say(grid, tmp_path, monkeypatch):
    scores = {"task": "maths_matching/K-dev", "choice_chance": 0.25, "maths": 2, "recognition": None}
    kept = {"part": "mix", "chance": 0.25}
    write_rows(grid.root / "base.jsonl", [{**kept, "key": str(k), "likely": k < 8} for k in range(10)])
    for variant, training, right in (("F0", 0, 5), ("B7", 0, 6), ("B7", 1, 8)):
        folder = grid.root / Cell("maths", variant, training).path
        for arm, more in (("evaluation", 0), ("misled", 0), ("told", 2)):
            rows = [
                {**scores, "key": f"k{k}", "success": k < right + more, "choice": k < 7, "rac": k < 9 or None, "ocr": 4}
                for k in range(10)
            ]
            (folder / arm).mkdir(parents=True)
            write_rows(folder / arm / "rows.jsonl", rows)
        write_rows(folder / "scorecard.jsonl", [{**kept, "key": str(k), "likely": k < right} for k in range(10)])
        write_json(folder / "cost.json", {"stored": 100 if variant == "F0" else 700})
        write_json(folder / "done.json", {})
    monkeypatch.setattr(grids, "scored", lambda rows, arm: rows)
    monkeypatch.setattr(grids, "TRAININGS", 2)
    monkeypatch.setattr(records, "judge", lambda evidence: [Verdict("C5", "reproduced"), Verdict("C9", "missing")])
    monkeypatch.setattr(records, "evidence", lambda grid: None)
    found = {r.name: r for r in records.publish(grid, tmp_path / "drafts")}
    at = "chatvla2/b7/maths/k-dev"
    assert found[f"{at}/success"].value == pytest.approx(0.7) and found[f"{at}/choice"].chance == 0.25
    assert found[f"{at}/rac"].n == 18 and found[f"{at}/cfr"].n == 20  # who took nothing has not followed
    assert found[f"{at}/te"].value == pytest.approx(0.7 / 0.9)
    assert found["chatvla2/b7/retention/mix"].value == pytest.approx((0.7 - 0.25) / (0.8 - 0.25))
    assert found["chatvla2/b7/cost/stored_over_dense"].value == 7
    verdicts = {n: r.value for n, r in found.items() if "/claims/" in n}
    assert verdicts == {"chatvla2/claims/verdicts/c5": 1}
    assert "chatvla2/f0/maths/k-dev/success" in found


def test_a_policy_that_keeps_its_thoughts_is_the_same_one(grid, monkeypatch):
    cell = Cell("maths", "B7-cached", 0)
    run_cell(grid, cell)
    ours = replace(cell, variant="B7")
    assert finished(grid) == [ours, cell]
    a, b = (load_policy(grid.root / c.path / "checkpoint") for c in (ours, cell))
    assert all(np.array_equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values()))
    assert (a.reasoner.keeps, b.reasoner.keeps) == (False, True)
    short = {name: replace(MATHS, steps=9, rows=1) for name in ("maths", "placing")}
    monkeypatch.setattr(router, "ITEMS", 1)
    routed = routing_rows(grid.root / ours.path / "checkpoint", short, grid.root / ours.path / "routing.jsonl")
    assert {r["task"] for r in routed} == {*router.ASKED, *router.ACTED} and {r["expert"] for r in routed} == {
        *range(8)
    }
    for task, shares in router.by_task(routed).items():
        assert np.allclose(shares.sum(1), 1), task
    assert "<svg" in write_grid_report(grid, said(grid), grid.root / "report.html").read_text()
    rows = latency_rows(grid.root / cell.path / "checkpoint", replace(grid.protocol("maths"), steps=32), 1)
    assert len(rows) == 2 and all(0 < r["reasoning_ms"] < r["ms"] for r in rows) and rows[0]["device"]
    write_rows(grid.root / cell.path / "latency.jsonl", rows)
    assert evidence(grid).cells["B7-cached"]["0"].latency == rows


def test_a_token_passes_through_as_much_as_its_experts_say(home):
    def sizes(name):
        mind = build(home / "nano", RECIPE, GRID[name]).backbone
        stored = sum(p.numel() for p in mind.parameters())
        return mind, stored, stored - idle(mind)

    mind, dense, active = sizes("F0")
    ffn = sum(p.numel() for layer in mind.towers["vlm"].layers for p in layer.ffn.parameters())
    assert active == dense
    mind, stored, active = sizes("B7")
    routers = sum(p.numel() for layer in mind.towers["vlm"].layers for p in layer.ffn.router.parameters())
    assert (stored, active) == (dense + 7 * ffn + routers, dense + ffn + routers)  # two of eight
    assert sizes("B5")[1:] == (dense + ffn, dense)  # one of two
    for name in ("B8a", "B7-low-rank"):
        assert len(set(sizes(name)[1:])) == 1


def test_ranks_correlate_whatever_the_scale():
    assert ranked([(0.0, 1.0), (0.1, 20.0), (0.2, 300.0)]) == pytest.approx(1)
    assert ranked([(0.0, 3.0), (0.1, 2.0), (0.2, 1.0)]) == pytest.approx(-1)
    assert ranked([(0.0, 1.0), (0.0, 2.0), (1.0, 1.0), (1.0, 2.0)]) == pytest.approx(0)  # ties share their rank
    assert ranked([(0.0, 1.0), (1.0, 2.0)]) is None and ranked([(0.5, 1.0), (0.5, 2.0), (0.5, 3.0)]) is None


def fake(grid: Grid, cell: Cell, rate: float, home) -> None:
    """A finished cell whose in-domain success is `rate` (of ten episodes)."""
    folder = grid.root / cell.path
    (folder / "evaluation").mkdir(parents=True)
    rows = [{"task": "maths_matching/R", "success": k < round(10 * rate)} for k in range(10)]
    write_rows(folder / "evaluation" / "rows.jsonl", rows)
    write_json(folder / "done.json", {})


def test_who_falls_behind_in_domain_is_given_more_steps(grid, home, monkeypatch):
    monkeypatch.setattr(grids, "scored", lambda rows, arm: rows)
    first = [c.variant for c in due(grid)][:6]
    assert first == list(grids.PILOT) and len({*order()}) == len([*order()])
    fake(grid, Cell("maths", "B7", 0), 0.9, home)
    fake(grid, Cell("maths", "B1", 0), 0.6, home)
    fake(grid, Cell("maths", "B3", 0), 0.9, home)
    left = list(due(grid))
    assert Cell("maths", "B1", 0, 2) in left and not [c for c in left if c.variant in ("B3", "B7") and not c.training]
    fake(grid, Cell("maths", "B1", 0, 2), 0.7, home)
    assert Cell("maths", "B1", 0, 5) in due(grid)
    fake(grid, Cell("maths", "B1", 0, 5), 0.7, home)  # the cap: what five times the steps do not give is reported
    assert not [c for c in due(grid) if c.variant == "B1" and not c.training]


def test_a_queue_without_time_begins_nothing(grid, monkeypatch):
    monkeypatch.setattr(grids, "prepare", lambda *_: None)
    assert run_queue(grid, 0.0, 1, QUIET) == 0


def test_the_verb_lists_refuses_and_shows(home, tmp_path, monkeypatch):
    def verb(*method, list=False, show=False):
        return proofs.prove(method, list, show, False, 1.0, home / "nano", 1, tmp_path)

    assert verb(list=True) == 0 and verb("fast", "chatvla2", show=True) == 0
    with pytest.raises(Refusal, match="no proof of"):
        verb("alchemy")
    with pytest.raises(BadData, match="no finished cell"):
        verb("chatvla2")
    monkeypatch.setattr(proofs, "proofs", dict)
    with pytest.raises(Refusal, match="no experiment for"):
        verb("fast")


def test_a_goal_is_understood_word_by_word():
    a, b, c, d = goal_codes(["9+7=16. take 6 left back.", "take 6 left back.", "take 6 left front.", ""], 64)
    assert np.array_equal(a, b) and not d.any()
    assert abs(b - c).max() > 0 and (b * c).sum() > 0.5 * (b * b).sum()


def test_a_second_body_crosses_and_no_claim_hears_of_it(grid, monkeypatch):
    monkeypatch.setattr(grids, "BODY", {"panda-maths": replace(MATHS, steps=9, rows=1)})
    cell = Cell("panda-maths", "F0", 0)
    assert cell in order()
    run_cell(grid, cell)
    checkpoint = grid.root / cell.path / "checkpoint"
    assert load_checkpoint(checkpoint, None).spec == PANDA_SPEC
    with pytest.raises(SpecMismatch):
        load_policy(checkpoint)
    assert [r["task"] for r in grid.rows(cell)] == ["maths_matching/R", "maths_matching/K-dev"]
    assert cost(checkpoint, grids.BODY["panda-maths"]).hand > 0
    assert set(evidence(grid).cells) == {"base"}
    assert any(words[1] == "panda-maths" for words, _ in said(grid).cells)
    monkeypatch.setattr(records, "BODY", grids.BODY)
    drafts = [r.name for r in records.publish(grid, str(grid.run / "drafts"))]
    assert "chatvla2/bridge/d/panda-maths/f0/r/success" in drafts
    assert not any(n.startswith("chatvla2/f0/maths") for n in drafts)


def test_demonstrations_of_a_robot_that_the_desk_does_not_have_are_refused(home, tmp_path):
    made = tmp_path / "demos"
    shutil.copytree(home / "demos", made)
    about = made / "meta" / "mindhand.json"
    about.write_text(about.read_text().replace('"desk-viperx"', '"my-own-arm"'))
    with pytest.raises(SpecMismatch, match="my-own-arm"):
        train(home / "nano", made, tmp_path / "frames", tmp_path / "run", RECIPE)


def test_weights_that_are_shipped_are_measured_and_others_in_their_place_anew(grid, tmp_path, monkeypatch):
    home = tmp_path / "weights"
    monkeypatch.setattr(shipped, "WEIGHTS", home)
    cell = Cell("maths", "shipped", 0)
    assert cell not in order()
    monkeypatch.setattr(grids, "SCANNED", {"maths": replace(MATHS_SCANNED, steps=9, rows=1)})
    policy = bench_sampling.policy("test", SPEC)
    for _ in range(2):
        with torch.no_grad():
            next(policy.expert.parameters()).add_(0.01)
        save_vla(policy, home / "nano-desk" / "checkpoint")
        assert cell in list(due(grid))
        run_cell(grid, cell)
        assert grid.done(cell) and [r["steps"] for r in grid.rows(cell, "scanned")] == [9]
    assert not (grid.root / "demonstrations").exists()  # nothing was trained
    made = [r.name for r in records.publish(grid, str(grid.run / "drafts"))]
    assert {"chatvla2/shipped/scanned_digits_success", "chatvla2/shipped/maths/r/success"} <= set(made)


def test_ktest_is_opened_of_what_is_named_and_every_look_is_written_down(grid, tmp_path, monkeypatch):
    monkeypatch.setattr(ledger, "default_ledger", lambda run: tmp_path / "ktest.jsonl")
    for name in ("F0-blind", "F0-deaf"):
        run_cell(grid, Cell("maths", name, 0))
    assert open_ktest(grid, ["F0-blind"], QUIET) == 1 and open_ktest(grid, ["F0"], QUIET) == 0
    assert len(ledger.looks(tmp_path / "ktest.jsonl")) == 3  # on its own terms, and with thoughts that are given
    assert open_ktest(grid, ["F0-blind"], QUIET) == 1 and len(ledger.looks(tmp_path / "ktest.jsonl")) == 3
    seen, shut = (Cell("maths", name, 0) for name in ("F0-blind", "F0-deaf"))
    for arm in ("evaluation", "told", "misled"):
        assert "maths_matching/K-test" in {r["task"] for r in grid.rows(seen, arm)}
        assert "maths_matching/K-test" not in {r["task"] for r in grid.rows(shut, arm)}
    assert "chatvla2/f0-blind/maths/k-test/success" in {r.name for r in records.publish(grid, str(tmp_path / "drafts"))}


@pytest.mark.parametrize("name", grids.CONTROLS)
def test_controls_act(grid, name):
    cell = Cell("maths", name, 0)
    assert cell in order()
    run_cell(grid, cell)
    assert len(grid.rows(cell)) == 2 and bool(grid.rows(cell, "told")) == GRID[name].words
