"""Evaluation to rows: the same bytes for any number of workers, and through any kill."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from mindhand.core.errors import BadData, Refusal
from mindhand.core.record import write_record
from mindhand.evaluate import run as running
from mindhand.evaluate.journal import Journal
from mindhand.evaluate.protocol import keys
from mindhand.evaluate.run import evaluate, film_of, key_of, latencies
from tests.house.tree import ROOT

from . import tiny

WANTED = [str(k) for k in keys(tiny.PROTOCOL)]


def run(folder: Path, log: Path, workers: int = 1, **more):
    world = tiny.world(log, **more.pop("world", {}))
    return evaluate(tiny.PROTOCOL, tiny.walker, world, folder, name="walker", workers=workers, **more)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Path, list]:
    """One uninterrupted run in this process."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, run(folder / "run", folder / "log")


def test_rows_are_the_protocol_s_episodes_in_order(whole):
    folder, rows = whole
    assert [r["key"] for r in rows] == WANTED
    assert [str(key_of(r)) for r in rows] == WANTED
    assert [json.loads(line) for line in (folder / "run/rows.jsonl").read_text().splitlines()] == rows
    assert 0.5 < sum(r["success"] for r in rows) / len(rows) < 0.95
    assert not any("second" in name or "time" in name for r in rows for name in r)


@pytest.mark.parametrize("workers", [2, 8])
def test_any_number_of_workers_gives_the_same_bytes(workers, whole, tmp_path):
    folder, rows = whole
    assert run(tmp_path / "run", tmp_path / "log", workers) == rows
    assert (tmp_path / "run/rows.jsonl").read_bytes() == (folder / "run/rows.jsonl").read_bytes()
    assert sorted((tmp_path / "log").read_text().split()) == sorted(WANTED)


def test_a_policy_that_leans_on_its_neighbours_would_be_seen(whole, tmp_path):
    from tests.tiny_world import Leaning

    def leaning(folder: Path, order: int):
        protocol = replace(tiny.PROTOCOL, rows=order)
        return evaluate(protocol, Leaning, tiny.world(tmp_path / "log"), folder, name="leaning")

    a, b = leaning(tmp_path / "a", 4), leaning(tmp_path / "b", 5)
    assert [r["steps"] for r in a] != [r["steps"] for r in b]


CHILD = """
from pathlib import Path
from tests.evaluate.test_run import run
if __name__ == "__main__":
    run(Path("run"), Path("log"), {workers}, world={{"at": {at}}})
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_run_goes_on_without_losing_or_repeating_an_episode(workers, whole, tmp_path):
    folder, rows = whole
    code = CHILD.format(workers=workers, at=13)
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=_path(), capture_output=True, text=True)
    assert done.returncode != 0
    if workers == 2:  # a worker was killed: the run refuses, and says what to do
        assert "a worker died with exit code -9" in done.stderr
    kept = (tmp_path / "run/rows.jsonl").read_text().splitlines()
    assert 0 < len(kept) < len(rows)
    first = Counter((tmp_path / "log").read_text().split())
    (tmp_path / "log").unlink()
    assert run(tmp_path / "run", tmp_path / "log", 2) == rows
    second = (tmp_path / "log").read_text().split()
    assert not {json.loads(line)["key"] for line in kept} & set(second)
    assert set(first) | set(second) == set(WANTED)
    assert (tmp_path / "run/rows.jsonl").read_bytes() == (folder / "run/rows.jsonl").read_bytes()


def _path() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": str(ROOT)}


@pytest.mark.parametrize("cut", [1, 7, 10_000])
def test_a_line_cut_short_runs_again(cut, whole, tmp_path):
    folder, rows = whole
    data = (folder / "run/rows.jsonl").read_bytes()
    (tmp_path / "run").mkdir()
    for name in ("run.json", "timing.jsonl"):
        (tmp_path / "run" / name).write_bytes((folder / "run" / name).read_bytes())
    (tmp_path / "run/rows.jsonl").write_bytes(data[: len(data) - cut])
    assert run(tmp_path / "run", tmp_path / "log") == rows
    assert (tmp_path / "run/rows.jsonl").read_bytes() == data
    assert 0 < len((tmp_path / "log").read_text().split()) < len(rows)
    timing = (tmp_path / "run/timing.jsonl").read_text().splitlines()
    assert [json.loads(line)["key"] for line in timing] == WANTED


def test_a_finished_run_runs_nothing(whole, tmp_path):
    folder, rows = whole
    assert run(folder / "run", tmp_path / "log") == rows
    assert not (tmp_path / "log").exists()


def test_a_damaged_line_is_refused(whole, tmp_path):
    lines = (whole[0] / "run/rows.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "rows.jsonl").write_bytes(lines[0] + b"{broken\n" + lines[1])
    with pytest.raises(BadData, match="line 2"):
        Journal(tmp_path / "rows.jsonl")


def test_one_writer_a_folder(tmp_path):
    with Journal(tmp_path / "rows.jsonl"), pytest.raises(Refusal, match="another process"):
        Journal(tmp_path / "rows.jsonl")
    Journal(tmp_path / "rows.jsonl").close()


def test_a_folder_takes_one_policy_and_one_protocol(whole):
    folder = whole[0] / "run"
    with pytest.raises(BadData, match="another policy"):
        evaluate(tiny.PROTOCOL, tiny.walker, tiny.world(folder), folder, name="somebody else")
    with pytest.raises(BadData, match="another protocol"):
        evaluate(replace(tiny.PROTOCOL, replan=5), tiny.walker, tiny.world(folder), folder, name="walker")


def test_ctrl_c_keeps_what_was_finished(whole, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "run", tmp_path / "log", world={"at": 13, "how": "stop"})
    assert (tmp_path / "run/rows.jsonl").read_text()
    assert run(tmp_path / "run", tmp_path / "log") == whole[1]


def test_a_worker_s_refusal_arrives_whole(tmp_path):
    with pytest.raises(Refusal) as refusal:
        run(tmp_path / "a", tmp_path / "log", 2, world={"at": 2, "how": "refuse"})
    assert (refusal.value.what, refusal.value.expected, refusal.value.do) == ("the tiny world", "a larger one", "wait")
    with pytest.raises(Refusal, match="ArithmeticError"):
        run(tmp_path / "b", tmp_path / "log", 2, world={"at": 2, "how": "fail"})


def test_films_change_nothing_but_their_own_column(whole, tmp_path):
    import av

    rows = run(tmp_path / "run", tmp_path / "log", film=film_of(tiny.PROTOCOL, "top", 2, every=2))
    assert [{**r, "film": None} for r in rows] == whole[1]
    filmed = [r for r in rows if r["film"]]
    assert [r["index"] for r in filmed] == [0, 1, 0, 1]
    for r in filmed:
        with av.open(str(tmp_path / "run" / r["film"])) as film:
            assert sum(1 for _ in film.decode(video=0)) == len(range(0, r["steps"] + 1, 2)) + r["steps"] % 2


def test_latencies_and_records_come_from_the_rows(whole, tmp_path):
    folder, rows = whole
    found = latencies(folder / "run")
    assert found["queries"] == sum(r["queries"] for r in rows)
    assert 0 < found["p50"] <= found["p90"] <= found["p99"] <= found["max"]
    record = write_record(
        "test/tiny/walker", rows=rows, field="success", kind="rate", unit="1", chance=None,
        sources=["mindhand.evaluate.run"], folder=tmp_path,
    )  # fmt: skip
    assert record.value == sum(r["success"] for r in rows) / len(rows)


def test_a_run_does_not_go_on_with_other_code(tmp_path, monkeypatch):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "run", tmp_path / "log", world={"at": 13, "how": "stop"})
    monkeypatch.setattr(running, "code", lambda: "0123456789ab")
    with pytest.raises(BadData, match="begun with other code"):
        run(tmp_path / "run", tmp_path / "log")
    monkeypatch.undo()
    rows = run(tmp_path / "run", tmp_path / "log")
    assert len(rows) == len(WANTED)
    monkeypatch.setattr(running, "code", lambda: "0123456789ab")
    assert run(tmp_path / "run", tmp_path / "log") == rows, "what is complete is only read"


def test_some_episodes_now_and_the_others_later(whole, tmp_path):
    _, rows = whole
    few = keys(tiny.PROTOCOL)[3:9]
    assert run(tmp_path / "run", tmp_path / "log", some=few) == rows[3:9]
    assert run(tmp_path / "run", tmp_path / "log", some=few[::-1]) == rows[3:9], "nothing is run twice"
    assert len((tmp_path / "log").read_text().split()) == len(few)
    assert run(tmp_path / "run", tmp_path / "log") == rows
    assert sorted((tmp_path / "log").read_text().split()) == sorted(WANTED)
