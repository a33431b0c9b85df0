"""A mind is asked where an expert is, and its words are compared with the right ones."""

from dataclasses import replace

from mindhand.data.synthetic.vocabulary import train_words
from mindhand.evaluate.protocol import MATHS, PLACING
from mindhand.model.store import save_vla
from mindhand.recipes.along import along, along_table, deed, main
from mindhand.recipes.nano import NanoPlan, build_reader


def test_what_is_said_is_compared_with_what_is_right_to_think(monkeypatch):
    vla = build_reader(NanoPlan("test", brief=False), train_words(True)).eval()

    def rows():
        return [r for p in (MATHS, PLACING) for r in along(vla, replace(p, steps=40), 1)]

    first = rows()
    assert len(first) == 4 * 5 and not any(r["right"] or r["deed"] for r in first)
    assert {r["task"] for r in first} >= {"maths_matching/R", "spatial_placing/K-dev"}
    assert first[0]["todo"] == "take" and "hand open" in first[0]["question"]
    truths = iter([r["expected"] for r in first])
    monkeypatch.setattr(vla, "answer", lambda *_: [[next(truths)]])
    assert all(r["right"] and r["deed"] for r in rows()) and along_table(first).row_count >= 4


def test_a_deed_is_the_last_sentence():
    assert deed("9+7=16. tiles 63. take 6 middle front.") == "take 6 middle front"
    assert deed("none") == "none"


def test_rows_go_beside_the_checkpoint(tmp_path, capsys):
    vla = build_reader(NanoPlan("test", brief=False), train_words(True))
    save_vla(vla, tmp_path / "checkpoint")
    main(tmp_path / "checkpoint", 1)
    assert (tmp_path / "along.jsonl").read_text().count("\n") > 10 and "the deed" in capsys.readouterr().out
