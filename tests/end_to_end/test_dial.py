"""Cells of the dial train, go on and become records and a chart; every part can be left out."""

from dataclasses import replace

import pytest
import torch

from mindhand.core.errors import BadData, Refusal
from mindhand.core.keys import Keys
from mindhand.core.record import read_records
from mindhand.data.synthetic.vocabulary import train_words
from mindhand.recipes import dial
from mindhand.recipes.nano import PARTS, CorpusSource, NanoPlan, build_reader, corpus_of, pretrain_nano

PLAN = NanoPlan(size="test", pictures=8, pages=4, rows=4, sheets=4, producers=0, ranks=1, brief=False)


def test_a_cell_is_trained_once_and_published(tmp_path, monkeypatch):
    monkeypatch.setattr(dial, "CELLS", {"test-4000": PLAN, "nano-4000": PLAN})
    monkeypatch.setattr(dial, "gate_rows", lambda vla, count, _: _rows(count))
    dial.train_cell("test-4000", tmp_path, items=4)
    before = (tmp_path / "test-4000" / "gates.jsonl").stat().st_mtime_ns
    dial.train_cell("test-4000", tmp_path, items=8)
    assert (tmp_path / "test-4000" / "gates.jsonl").stat().st_mtime_ns == before
    drafts = tmp_path / "drafts"
    named = {r.name: r for r in dial.publish(tmp_path, drafts)}
    assert set(named) == {f"dial/test-4000/{what}" for what in ("share", "loss", "core_seconds")}
    assert named["dial/test-4000/share"].value == 0.5 and named["dial/test-4000/share"].n == 4
    assert named["dial/test-4000/core_seconds"].value > 0 and named["dial/test-4000/loss"].value > 1
    drawn = dial.plot(dict(read_records(drafts)), tmp_path / "dial.svg").read_text()
    assert "4k pictures" in drawn and "without" not in drawn
    with pytest.raises(Refusal, match="no cell 'huge'"):
        dial.train_cell("huge", tmp_path)


def _same(a, b):
    return all(torch.equal(a[n], b[n]) for n in a)


def _rows(count):
    box = [{"key": f"b{k}", "gate": "box", "right": k % 2 == 0} for k in range(count)]
    return [*box, {"key": "u", "gate": "arithmetic_unseen", "right": True}]  # no bar: not in the share


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    return pretrain_nano(tmp_path_factory.mktemp("complete"), replace(PLAN, pages=0)).state_dict()


@pytest.mark.parametrize("part", PARTS)
def test_a_part_is_left_out_and_no_other(tmp_path, part, complete):
    assert not _same(complete, pretrain_nano(tmp_path / "bare", replace(PLAN, pages=0, without=(part,))).state_dict())
    plan = replace(PLAN, pictures=4, pages=4, without=(part,))
    pretrain_nano(tmp_path, plan)
    assert (tmp_path / "characters").exists() == (part != "dense")
    facts = 0 if part == "words" else corpus_of(plan).mix.facts
    words = train_words(True)
    found = CorpusSource(corpus_of(plan), words, (8, 16), 0, facts).batch(None, 0)
    assert len(found) == (1 if part == "words" else 2)


def test_nothing_else_can_be_left_out():
    with pytest.raises(BadData, match="without \\['eyes'\\]"):
        replace(PLAN, without=("eyes",))


def test_the_cells_differ_only_by_what_their_names_say():
    full = dial.CELLS["nano-12000"]
    for part in PARTS:
        assert replace(dial.CELLS[f"without-{part}"], without=()) == full
    assert replace(dial.CELLS["small-4000"], size="nano") == dial.CELLS["nano-4000"]
    small = build_reader(dial.CELLS["small-4000"], train_words(True))
    assert 8e6 < sum(p.numel() for p in small.backbone.parameters()) < 9.5e6
    with torch.no_grad():
        losses = small.losses(
            CorpusSource(corpus_of(PLAN), train_words(True), (8, 16), 0).batch(small, 0)[1], Keys.seeded(4)
        )
    assert float(losses["text"].mean()) < 30
