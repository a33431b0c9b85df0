"""nano's whole pretraining, tiny: it runs, is repeatable, and takes its gates."""

from __future__ import annotations

import io
import os
import signal
from dataclasses import replace

import pytest
import torch
from rich.console import Console

from mindhand import cli
from mindhand.core.errors import BadData
from mindhand.core.keys import Keys
from mindhand.data.files import read_json, read_rows, write_json, write_rows
from mindhand.data.synthetic.blend import BESIDE
from mindhand.data.synthetic.collate import collate_text
from mindhand.data.synthetic.gates import BARS, take_gate
from mindhand.data.synthetic.samples import ALL, TRAITS
from mindhand.data.synthetic.toy_picture import tabletop
from mindhand.data.synthetic.vocabulary import train_words
from mindhand.model.store import load_vla
from mindhand.recipes import bench_nano, exams, live, nano
from mindhand.recipes import pretrain as verb
from mindhand.recipes.nano import CorpusSource, NanoPlan, PageSource, build_reader, corpus_of, pretrain_nano, token_grid
from mindhand.recipes.pretrain import gallery, gate_rows, gate_table
from mindhand.train.glyph import GlyphLoss
from mindhand.train.loop import Stopped


class Quiet(torch.nn.Module):
    """A mind that answers nothing."""

    def answer(self, images, questions):
        return [[""] * len(q) for q in questions]


PLAN = NanoPlan(size="test", pictures=24, pages=8, rows=4, sheets=4, beside=2, producers=0, ranks=1, brief=False)


def test_it_trains_on_both_tables_and_takes_every_gate(tmp_path):
    vla = pretrain_nano(tmp_path, PLAN)
    assert len(vla.backbone.words) == len(train_words(True)) > len(train_words())
    rows = gate_rows(vla, 2)
    assert {r["gate"] for r in rows} == set(BARS) and len(rows) == 2 * len(BARS)
    assert gate_table(rows).row_count == len(BARS)
    page = gallery(vla, tmp_path / "gallery.html", gate_rows(vla, 8)).read_text()
    assert page.count("<figure>") == 8 * len(BARS) and "http" not in page.replace("http-equiv", "")
    again = load_vla(tmp_path / "checkpoint")
    assert all(torch.equal(a, b) for a, b in zip(vla.state_dict().values(), again.state_dict().values()))


def test_stopped_and_gone_on_with_it_is_the_same(tmp_path):
    whole = pretrain_nano(tmp_path / "whole", PLAN)

    def stop(step: int, vla: object) -> None:
        if step == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Stopped, match="step 3 of 6"):
        pretrain_nano(tmp_path / "parts", PLAN, watch=stop)
    parts = pretrain_nano(tmp_path / "parts", PLAN)
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), parts.state_dict().values()))
    lines = read_rows(tmp_path / "parts" / "metrics.jsonl")
    assert lines[-1]["step"] == 6 and lines[-1]["cpu"] > 0


def test_the_verb_takes_a_size(tmp_path, monkeypatch):
    monkeypatch.setattr(verb, "WHOLE", replace(PLAN, size="nano", pictures=4, pages=0))
    monkeypatch.setattr(verb, "ITEMS", 1)
    assert [cli.parse(["pretrain", *size]).size for size in ((), ("small",))] == ["nano", "small"]
    assert cli.main(["pretrain", "test", "--run", str(tmp_path), "--seed", "5"]) == 0
    assert {k: read_json(tmp_path / "plan.json", "plan")[k] for k in ("size", "seed")} == {"size": "test", "seed": 5}
    assert (tmp_path / "gallery.html").exists() and len(read_rows(tmp_path / "gates.jsonl")) == len(BARS)
    assert cli.main(["pretrain", "small", "--run", str(tmp_path), "--seed", "5"]) == 2
    with pytest.raises(SystemExit):
        cli.parse(["pretrain", "huge"])


def test_gates_on_the_way_change_no_weight(tmp_path, monkeypatch):
    monkeypatch.setattr(live, "BARS", {"naming": 0.97, "arithmetic_seen": 0.97, "desk_reading": 0.95})
    plan = replace(PLAN, pictures=40, pages=4)
    without = pretrain_nano(tmp_path / "without", plan)
    told = Console(record=True, file=io.StringIO(), width=200)
    monkeypatch.setattr(nano, "Console", lambda: told)
    modes = []
    taken = pretrain_nano(
        tmp_path / "with", plan, live=2, console=told, watch=lambda _, vla: modes.append(vla.training)
    )
    assert all(torch.equal(a, b) for a, b in zip(without.state_dict().values(), taken.state_dict().values()))
    assert modes == [True] * 10
    lines = read_rows(tmp_path / "with" / "metrics.jsonl")
    gates = [r for r in lines if "gates" in r]
    assert [r["step"] for r in gates] == [*range(1, 11)] and all(r["gates"].keys() == live.BARS.keys() for r in gates)
    assert {x for r in gates for x in r["gates"].values()} <= {0.0, 0.5, 1.0}
    assert "gates at step 4, 2 items each: naming 0." in told.export_text()
    assert not [r for r in read_rows(tmp_path / "without" / "metrics.jsonl") if "gates" in r]
    assert bench_nano.core_seconds(tmp_path / "with") > 0


def test_gates_are_taken_at_tenths_by_the_first_rank_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(live, "take_gate", lambda *_: [{"right": True}, {"right": False}])
    for steps, at in ((9, []), (25, [2, 5, 7, 10, 12, 15, 17, 20, 22, 25])):
        gates = live.LiveGates(tmp_path / str(steps), steps)
        for step in range(1, steps + 1):
            gates(step, Quiet())
        assert [r["step"] for r in read_rows(tmp_path / str(steps))] == at
    monkeypatch.setattr(live, "rank", lambda: 1)
    live.LiveGates(tmp_path / "second", 10)(10, Quiet())
    assert not (tmp_path / "second").exists()


def test_what_gates_on_the_way_took_counts_once(tmp_path):
    write_json(tmp_path / "plan.json", {"ranks": 4})
    gates = {"step": 2, "gates": {}, "gates_cpu": 10.0}
    lines = [{"step": 1, "cpu": 20.0}, gates, {"step": 3, "cpu": 50.0}]
    for more in ([], [gates]):  # taken again after a resumption: the seconds of before went with the state
        write_rows(tmp_path / "metrics.jsonl", [*lines, *more])
        assert bench_nano.core_seconds(tmp_path) == 4 * (50 - 10) + 10


def test_a_folder_is_of_one_plan_and_may_grow(tmp_path):
    plan = replace(PLAN, pictures=8, pages=0)
    pretrain_nano(tmp_path, plan)
    with pytest.raises(BadData, match=r"another plan(?s:.*)rate"):
        pretrain_nano(tmp_path, replace(plan, rate=0.02))
    with pytest.raises(BadData, match=r"another plan(?s:.*)seed"):
        pretrain_nano(tmp_path, replace(plan, seed=1))
    with pytest.raises(BadData, match=r"pictures: 8 \| 4"):  # it has learned more than that
        pretrain_nano(tmp_path, replace(plan, pictures=4))
    assert read_json(tmp_path / "plan.json", "plan")["rate"] == plan.rate
    pretrain_nano(tmp_path, replace(plan, pictures=12))
    assert [r["step"] for r in read_rows(tmp_path / "metrics.jsonl")] == [2, 3]


def test_what_it_knows_becomes_records(tmp_path, monkeypatch):
    monkeypatch.setattr(exams, "BARS", {"box": 0.9})
    monkeypatch.setattr(exams, "PARTS", {"mix": ("choice",)})
    vla = pretrain_nano(tmp_path, replace(PLAN, pictures=4, pages=0))
    named = {r.name for r in bench_nano.publish(tmp_path, tmp_path / "drafts", items=2, windows=1)}
    assert {"nano/gate/box", "nano/scorecard/mix", "nano/pretrain/core_seconds", "nano/model/parameters"} <= named
    box = read_rows(tmp_path / "exams-2" / "gate" / "box.jsonl")
    assert [{k: r[k] for k in r if k not in ("policy", "code")} for r in box] == take_gate(
        vla.eval().answer, "box", 2, tabletop
    )
    monkeypatch.setattr(exams, "_take", None)  # no longer asked: what is finished is kept
    assert exams.gates(tmp_path / "checkpoint", 2, tmp_path / "exams-2") == {"box": box}
    with pytest.raises(BadData, match="no finished pretraining"):
        bench_nano.publish(tmp_path / "nowhere")


def test_a_step_is_of_one_table_and_both_come_up():
    words, corpus = train_words(True), corpus_of(PLAN)
    vla = build_reader(PLAN, words)
    source = CorpusSource(corpus, words, token_grid(vla.backbone), 0)
    kinds = [{qa.kind for sample in corpus.batch(step) for qa in sample.questions} for step in range(24)]
    toys = ["point" in k or "amount" in k or "name" in k or "there" in k for k in kinds]
    assert 4 < sum(toys) < 22
    for step in (toys.index(True), toys.index(False)):
        pictures, alone = source.batch(vla, step)
        assert len(pictures) == len(alone) == 4 and alone.questions == corpus.mix.facts
        beside = [corpus.sample(step, row).questions[-BESIDE:] for row in range(4)]
        assert all(qa.kind == "calc" for some in beside for qa in some), "no sum is asked where a picture is shown"
        asked = {qa.question for some in beside for qa in some}
        assert len(asked) > 4 and not asked <= {qa.question for qa in corpus.facts(step, range(4 * corpus.mix.facts))}
        assert pictures.questions == len(corpus.sample(step, 0).questions)
        assert int(pictures.targets["glyph"].value.max()) < ALL
        losses = vla.losses(pictures, Keys.seeded(len(pictures), "t"))
        assert {"text", "glyph", "spot", "look", "hue", "pattern", "size"} <= set(losses)
        assert all(torch.isfinite(x).all() for x in losses.values())


def test_pages_show_characters_and_toys():
    glyphs = PageSource(0, 9, (8, 16), toys=True).batch(None, 0).targets["glyph"].value
    assert (glyphs[::3] < 26).all() and (glyphs[1::3] >= 26).any() and (glyphs[2::3] >= 26).any()


def test_pages_beside_pictures_teach_the_eye_and_are_others_than_its_own():
    """A batch of their own, a pure function of the step, that nothing is asked of; without dense targets none."""
    words, own = train_words(True), PageSource(0, 6, (8, 16), toys=True)
    vla, beside = build_reader(PLAN, words), replace(own, name="beside")
    source = CorpusSource(corpus_of(PLAN), words, (8, 16), 0, 0, beside)
    _, pages = source.batch(vla, 3)
    found, again, others = (x.images["front"] for x in (pages, beside.batch(vla, 3), own.batch(vla, 3)))
    assert torch.equal(found, again) and not (found == others).flatten(1).all(1).any()
    losses = vla.losses(pages, Keys.seeded(len(pages), "t"))
    assert set(losses) == {"glyph", "spot", *TRAITS}
    (gradient,) = torch.autograd.grad(sum(x.mean() for x in losses.values()), vla.backbone.vision.convs[0].weight)
    assert gradient.abs().sum() > 0


def test_questions_stand_by_length_so_that_little_is_padded():
    words, corpus = train_words(True), corpus_of(replace(PLAN, rows=8))
    source = CorpusSource(corpus, words, (8, 16), 0)
    step = next(k for k in range(20) if corpus.sample(k, 0).questions[0].kind not in ("next", "think"))
    pictures, *_ = source.batch(None, step)
    ask, say = (pictures.text[n].valid.sum(1).view(8, -1) for n in ("text", "reasoning"))
    assert ((ask + say).diff(dim=1) >= 0).all()
    asked = [s.questions for s in corpus.batch(step)]
    told = [sorted(len(words.encode(qa.question + qa.answer)) for qa in qas) for qas in asked]
    assert [len(t) for t in told] == [pictures.questions] * 8
    assert sorted(int(n) for n in (ask + say).flatten()) == sorted(
        len(words.encode(qa.question)) + len(words.encode(qa.answer)) + 4 for qas in asked for qa in qas
    )


def test_a_trait_is_learned_where_a_toy_is_and_nowhere_else():
    source, loss = PageSource(0, 8, (8, 16), toys=True), GlyphLoss(16, ALL, traits=TRAITS)
    batch = source.batch(None, 0)
    toy = batch.targets["hue"].valid
    hidden = torch.randn(8, 128, 16, requires_grad=True)
    found = loss.errors(hidden, batch)
    assert set(found) == {"glyph", "spot", *TRAITS}
    for name in TRAITS:
        (gradient,) = torch.autograd.grad(found[name].mean(), hidden, retain_graph=True)
        assert ((gradient.abs().sum(-1) > 0) == toy).all()
    # a head that says what the targets say is not corrected
    right = torch.zeros(8, 128, sum(loss.sizes.values()))
    spans = dict(zip(loss.sizes, right.split(list(loss.sizes.values()), -1)))
    for name in ("hue", "pattern"):
        spans[name].scatter_(-1, batch.targets[name].value.clamp_min(0).unsqueeze(-1), 50.0)
    spans["size"].copy_(batch.targets["size"].value)
    loss.head = torch.nn.Identity()
    assert all(float(loss.errors(right, batch)[name].max()) < 1e-6 for name in TRAITS)


def test_facts_packed_in_a_row_are_learned_as_facts_apart():
    words, corpus = train_words(True), corpus_of(PLAN)
    vla = build_reader(PLAN, words)
    facts = corpus.facts(0, range(12))
    many, apart = (vla.losses(collate_text(facts, words, q), Keys.seeded(12 // q))["text"] for q in (4, 1))
    assert (many - apart).abs().max() < 1e-5 and float(many.detach().mean()) > 1


@pytest.mark.parametrize("eye", [0.0, 1.0])
def test_the_eye_learns_at_its_own_rate_once_questions_are_asked(tmp_path, eye):
    plan = replace(PLAN, pictures=4, pages=0, eye=eye)
    before = build_reader(plan, train_words(True)).backbone.bfloat16().state_dict()
    after = pretrain_nano(tmp_path, plan).backbone.state_dict()
    same = {n.split(".")[0] for n in after if torch.equal(after[n], before[n].float())}
    changed = {n.split(".")[0] for n in after if not torch.equal(after[n], before[n].float())}
    assert "towers" in changed and ("vision" in changed) == (eye > 0) and ("vision" in same) >= (eye == 0)
