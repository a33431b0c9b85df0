"""Cells of the dial train, go on and become records and a chart; every part can be left out."""

import shutil
from dataclasses import replace

import pytest
import torch

from mindhand.core.errors import BadData, Refusal
from mindhand.core.keys import Keys
from mindhand.core.record import read_records, read_rows, write_record
from mindhand.data.files import write_rows
from mindhand.data.synthetic.vocabulary import train_words
from mindhand.recipes import dial
from mindhand.recipes.nano import PARTS, CorpusSource, NanoPlan, build_reader, corpus_of, pretrain_nano
from tests.house.tree import ROOT

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
    told = ("share", "loss", "core_seconds", "loss_on_the_way")  # no gates on the way of two steps
    assert set(named) == {f"dial/test-4000/{what}" for what in told}
    assert named["dial/test-4000/share"].value == 0.5 and named["dial/test-4000/share"].n == 4
    assert named["dial/test-4000/core_seconds"].value > 0 and named["dial/test-4000/loss"].value > 1
    drawn = str(dial.plot(read_records(drafts)))
    assert "4k pictures" in drawn and "without" not in drawn
    with pytest.raises(Refusal, match="no cell 'huge'"):
        dial.train_cell("huge", tmp_path)


def test_curves_are_of_stretches_and_of_gates_on_the_way(tmp_path):
    losses = [{"step": 20 * k, "text": float(k), "cpu": 1.0} for k in range(1, 46)]
    again = [{"step": 900, "text": 100.0}, {"step": 900, "gates": {"box": 0.5, "naming": 1.0, "planning": 0.0}}]
    write_rows(tmp_path / "metrics.jsonl", [*losses, {"step": 450, "gates": {"box": 0.0, "naming": 0.0}}, *again])
    loss, share = dial.curves(tmp_path)
    assert loss[0] == {"key": "step 60", "step": 60, "loss": 2.0} and loss[-1]["step"] == 900 and len(loss) == 15
    assert loss[-1]["loss"] == (43 + 44 + 100) / 3, "a step that was done again counts as it was done last"
    assert [(r["step"], r["share"]) for r in share] == [(450, 0.0), (900, 0.75)], "planning has no bar"
    assert dial.curves(tmp_path / "nothing") == ([], [])


def _recorded(folder, cells):
    """Records of these cells with made-up numbers."""
    for k, cell in enumerate(cells, 1):
        for what, field in (("share", "right"), ("loss", "loss"), ("core_seconds", "seconds"),
                            ("loss_on_the_way", "loss"), ("gates_on_the_way", "share")):  # fmt: skip
            rows = [{"key": f"{s}", "step": s, field: s % 20 == 0 if what == "share" else s / k} for s in (10, 20)]
            write_record(f"dial/{cell}/{what}", rows=rows, field=field, kind="rate" if what == "share" else "mean",
                         unit="1", chance=None, sources=[__file__], folder=folder)  # fmt: skip
    return read_records(folder), lambda r: read_rows(r, folder)


def test_the_page_shows_what_there_is(tmp_path):
    empty = dial.made({})
    assert list(empty) == [dial.PAGE] and "No cell has been trained yet" in empty[dial.PAGE]
    sizes = dial.made(*_recorded(tmp_path / "a", ["nano-4000", "nano-12000", "small-4000"]))
    assert sizes.keys() == {dial.PAGE, dial.PLOT} and "](dial.svg)" in sizes[dial.PAGE]
    assert "No cell" not in sizes[dial.PAGE] and sizes[dial.PAGE].count("| small-4000 |") == 1
    whole = dial.made(*_recorded(tmp_path / "b", ["nano-12000", *(f"without-{part}" for part in PARTS)]))
    assert whole.keys() == {dial.PAGE, dial.PLOT, dial.PARTED} and "](dial-parts.svg)" in whole[dial.PAGE]
    assert all(f">without {part}<" in whole[dial.PARTED] for part in PARTS) and "all parts" in whole[dial.PARTED]


def test_a_page_that_is_changed_missing_or_of_nothing_is_stale(tmp_path):
    _recorded(tmp_path / "results", ["nano-12000", "without-muon"])
    assert dial.draw(tmp_path) == [dial.PARTED, dial.PAGE, dial.PLOT] and dial.draw(tmp_path) == []
    (tmp_path / dial.PLOT).write_text("drawn by hand")
    (tmp_path / dial.PAGE).unlink()
    assert dial.draw(tmp_path) == [dial.PAGE, dial.PLOT]
    shutil.rmtree(tmp_path / "results")
    assert dial.draw(tmp_path) == [dial.PARTED, dial.PAGE, dial.PLOT]
    assert not (tmp_path / dial.PLOT).exists() and "No cell" in (tmp_path / dial.PAGE).read_text()


def test_the_page_of_this_checkout_is_what_the_records_give():
    records = read_records(ROOT / "results")
    found = dial.made(records, lambda r: read_rows(r, ROOT / "results"))
    assert dial.stale(found, ROOT) == [], "python -m mindhand.recipes.dial page"
    assert "](dial.md)" in (ROOT / "docs" / "architecture.md").read_text()
    if not any(name.startswith("dial/") for name in records):  # then nothing but the page's own word is shown by this
        assert "No cell has been trained yet" in (ROOT / dial.PAGE).read_text()
        assert not (ROOT / dial.PLOT).exists() and not (ROOT / dial.PARTED).exists()


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
    for name, seen in dial.BRIDGE.items():
        assert replace(dial.CELLS[name], seen="desk") == dial.CELLS["nano-36000"]
        assert dial.CELLS[name].seen == seen
    small = build_reader(dial.CELLS["small-4000"], train_words(True))
    assert 8e6 < sum(p.numel() for p in small.backbone.parameters()) < 9.5e6
    with torch.no_grad():
        losses = small.losses(
            CorpusSource(corpus_of(PLAN), train_words(True), (8, 16), 0).batch(small, 0)[1], Keys.seeded(4)
        )
    assert float(losses["text"].mean()) < 30
