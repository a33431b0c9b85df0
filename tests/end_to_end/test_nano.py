"""nano's whole pretraining, tiny: it runs, is repeatable, and takes its gates."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mindhand.core.errors import BadData
from mindhand.core.keys import Keys
from mindhand.data.synthetic.gates import BARS, take_gate
from mindhand.data.synthetic.samples import ALL
from mindhand.data.synthetic.toy_picture import tabletop
from mindhand.data.synthetic.vocabulary import train_words
from mindhand.model.store import load_vla
from mindhand.recipes import bench_nano
from mindhand.recipes.nano import CorpusSource, NanoPlan, PageSource, build_reader, corpus_of, pretrain_nano, token_grid
from mindhand.recipes.pretrain import gallery, gate_rows, gate_table

PLAN = NanoPlan(size="test", pictures=24, pages=8, rows=4, producers=0, ranks=1, brief=False)


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


def test_what_it_knows_becomes_records(tmp_path, monkeypatch):
    monkeypatch.setattr(bench_nano, "BARS", {"box": 0.9})
    monkeypatch.setattr(bench_nano, "PARTS", {"mix": ("choice",)})
    monkeypatch.setattr(bench_nano, "gate_rows", lambda vla, count, _: take_gate(vla.answer, "box", count, tabletop))
    pretrain_nano(tmp_path, replace(PLAN, pictures=4, pages=0))
    named = {r.name for r in bench_nano.publish(tmp_path, tmp_path / "drafts", items=2, windows=1)}
    assert {"nano/gate/box", "nano/scorecard/mix", "nano/pretrain/core_seconds", "nano/model/parameters"} <= named
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
        pictures, facts = source.batch(vla, step)
        assert (len(pictures), len(facts)) == (16, 12) or len(pictures) in (4, 8)
        assert int(pictures.targets["glyph"].value.max()) < ALL
        losses = vla.losses(pictures, Keys.seeded(len(pictures), "t"))
        assert {"text", "glyph", "spot", "look"} <= set(losses)
        assert all(torch.isfinite(x).all() for x in losses.values())


def test_pages_show_characters_and_toys():
    glyphs = PageSource(0, 8, (8, 16), toys=True).batch(None, 0).targets["glyph"].value
    assert (glyphs[::2] < 26).all() and (glyphs[1::2] >= 26).any()
