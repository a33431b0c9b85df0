"""The demo of a shipped policy, on an untrained one: what is asked is shown, filmed and told, once."""

from __future__ import annotations

import json

import pytest

from mindhand.core.errors import BadData, Refusal
from mindhand.data.files import read_rows
from mindhand.evaluate.protocol import keys as key_list
from mindhand.model import shipped
from mindhand.model.store import save_vla
from mindhand.recipes import bench_sampling, demo
from mindhand.worlds.desk.spec import SPEC


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    save_vla(bench_sampling.policy("test", SPEC), folder / shipped.POLICY / "checkpoint")
    return folder


@pytest.fixture(autouse=True)
def untrained(weights, monkeypatch):
    monkeypatch.setattr(shipped, "WEIGHTS", weights)
    short = demo.replace(demo.MATHS, steps=9, rows=2)
    monkeypatch.setattr(demo, "MATHS", short)


def asked(run, **more):
    return demo.demo(run, **{"equation": (), "from_scratch": False, "minutes": None, "quick": True, "seed": 0, **more})


def test_boards_scans_and_toys_are_shown_and_filmed(tmp_path, capsys):
    assert asked(tmp_path / "run") == 0
    (report,) = (tmp_path / "run").glob("*/report.html")
    assert f"The report: {report}" in capsys.readouterr().out
    rows = read_rows(report.parent / "rows.jsonl")
    assert [r["task"] for r in rows] == list(demo.SHOWN)
    assert all((report.parent / r["film"]).stat().st_size > 1000 for r in rows)
    before = (report.parent / "timing.jsonl").read_bytes()
    assert asked(tmp_path / "run") == 0
    assert (report.parent / "timing.jsonl").read_bytes() == before  # nothing is run again


def test_an_equation_of_ones_own_stands_on_the_board(tmp_path, capsys):
    assert asked(tmp_path / "run", equation=("12 + 7", "3*9=?", "12+7"), quick=False) == 0
    (rows,) = (tmp_path / "run").glob("*/rows.jsonl")
    assert [json.loads(line)["task"] for line in rows.read_text().splitlines()] == [
        "maths_matching/asked/12+7", "maths_matching/asked/3x9",
    ]  # fmt: skip
    assert "asked/12+7" in capsys.readouterr().out


def test_other_seeds_show_other_boards():
    keys = [key_list(demo.protocol_of((), True, seed)) for seed in (0, 1)]
    assert not set(keys[0]) & set(keys[1])


def test_what_cannot_be_shown_is_refused(tmp_path, monkeypatch):
    with pytest.raises(BadData, match="0 to 99"):
        asked(tmp_path, equation=("60+60",))
    with pytest.raises(Refusal, match="--minutes without"):
        asked(tmp_path, minutes=3.0)
    with pytest.raises(Refusal, match="--equation with"):
        asked(tmp_path, equation=("1+2",), from_scratch=True)
    monkeypatch.setattr(shipped, "WEIGHTS", tmp_path / "none")
    with pytest.raises(Refusal, match="no weights of 'nano-desk'"):
        asked(tmp_path)


def test_its_time_is_a_record(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "EPISODES", 1)
    (made,) = demo.publish(tmp_path / "run", str(tmp_path / "drafts"))
    assert made.name == "demo/shipped/seconds" and made.value > 0
