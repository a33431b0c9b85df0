"""The K-test ledger: every look counts once, and no line of it can be changed, lost or written twice."""

from __future__ import annotations

import getpass
import json
import multiprocessing
import os
import subprocess
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mindhand.core import provenance
from mindhand.core.errors import BadData, Refusal
from mindhand.evaluate import ledger as module
from mindhand.evaluate.ledger import default_ledger, ktest_tasks, looks, open_ktest, opening_of
from mindhand.evaluate.protocol import MATHS
from mindhand.evaluate.run import evaluate

from . import tiny

KTEST = MATHS.only("maths_matching/K-test", "maths_matching/R")


def enter(folder: Path, run: str, checkpoint: str = "aaa", protocol=KTEST, **how):
    how = {"who": "Ada", **how}
    return open_ktest(protocol, checkpoint, folder / run, ledger=folder / "results/ktest.jsonl", **how)


@pytest.fixture
def four(tmp_path) -> Path:
    """A folder with four openings by two checkpoints; returns the ledger."""
    for i, checkpoint in enumerate(("aaa", "bbb", "aaa", "aaa")):
        enter(tmp_path, f"run{i}", checkpoint)
    return tmp_path / "results/ktest.jsonl"


def test_every_look_is_a_line_that_knows_those_before(four):
    found = looks(four)
    assert [(a.before, a.before_checkpoint) for a in found] == [(0, 0), (1, 0), (2, 1), (3, 2)]
    assert [a.after for a in found] == ["start", *(a.hash for a in found[:-1])]
    last = found[-1]
    assert (last.who, last.checkpoint, last.episodes) == ("Ada", "aaa", MATHS.episodes)
    assert last.tasks == ("maths_matching/K-test",)  # R is in the protocol and no business of the ledger's
    assert (last.protocol, last.fingerprint) == (MATHS.id, KTEST.fingerprint())
    assert last.time.endswith("Z") and len(last.time) == 20
    root = provenance.checkout(module.__file__)
    assert last.commit == (provenance.commit(root) if root else "unknown")
    assert str(four.parent.parent).encode() not in four.read_bytes()


def test_what_a_report_says(four, tmp_path):
    assert [a.text for a in looks(four)] == [
        "K-test had not been opened before",
        "K-test was opened once before, not for this checkpoint",
        "K-test was opened 2 times before, 1 of them for this checkpoint",
        "K-test was opened 3 times before, 2 of them for this checkpoint",
    ]
    assert enter(tmp_path, "run4", "ccc").text == "K-test was opened 4 times before, none of them for this checkpoint"
    (other := tmp_path / "other").mkdir()
    enter(other, "a")
    assert enter(other, "b").text == "K-test was opened once before, for this checkpoint"


def test_going_on_with_a_run_is_the_same_look(four, tmp_path):
    bytes_before = four.read_bytes()
    assert enter(tmp_path, "run2", who="Grace") == looks(four)[2] == opening_of(tmp_path / "run2")
    assert four.read_bytes() == bytes_before


def test_nothing_is_entered_where_nothing_is_looked_at(tmp_path):
    assert ktest_tasks(MATHS.only("maths_matching/K-dev")) == ()
    assert ktest_tasks(replace(MATHS, tasks=("maths/K-test/2", "maths/K-tests"))) == ("maths/K-test/2",)
    assert enter(tmp_path, "run", protocol=MATHS.only("maths_matching/K-dev")) is None
    assert not list(tmp_path.iterdir())
    assert looks(tmp_path / "results/ktest.jsonl") == () and looks(tmp_path / "ktest.jsonl") == ()
    assert opening_of(tmp_path / "run") is None


def test_a_folder_takes_one_checkpoint_and_one_protocol(four, tmp_path):
    before = four.read_bytes()
    with pytest.raises(BadData, match="was entered for checkpoint aaa"):
        enter(tmp_path, "run0", "bbb")
    with pytest.raises(BadData, match="was entered for checkpoint aaa"):
        enter(tmp_path, "run0", protocol=KTEST.only(episodes=3))
    # Rows of another policy: evaluate will refuse to go on, so nothing would be looked at.
    evaluate(tiny.PROTOCOL, tiny.walker, tiny.world(tmp_path / "log"), tmp_path / "rows", name="walker")
    with pytest.raises(BadData, match="another protocol"):
        enter(tmp_path, "rows")
    assert four.read_bytes() == before and not (tmp_path / "rows/ktest.json").exists()


FIELDS = ("time", "who", "checkpoint", "protocol", "fingerprint", "tasks", "episodes", "commit", "before",
          "before_checkpoint", "run", "after", "hash")  # fmt: skip


@pytest.mark.parametrize("number", [0, 1, 3])
@pytest.mark.parametrize("name", FIELDS)
def test_an_edited_field_is_refused(name, number, four):
    lines = [json.loads(text) for text in four.read_text().splitlines()]
    assert set(lines[number]) == set(FIELDS)
    value = lines[number][name]
    lines[number][name] = value + 1 if isinstance(value, int) else ["x"] if isinstance(value, list) else value[:-1]
    four.write_bytes(b"".join(module.line(text) for text in lines))
    with pytest.raises(BadData, match=f"line {number + 1}"):
        looks(four)


def test_an_edit_with_a_new_hash_is_refused_by_the_next_line(four):
    lines = [json.loads(text) for text in four.read_text().splitlines()]
    lines[1]["who"] = "nobody"
    lines[1]["hash"] = module._seal(lines[1])
    four.write_bytes(b"".join(module.line(text) for text in lines))
    with pytest.raises(BadData, match="line 3 does not follow"):
        looks(four)


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> bytes:
    """A ledger of two openings."""
    folder = tmp_path_factory.mktemp("two")
    for run in ("a", "b"):
        enter(folder, run)
    return (folder / "results/ktest.jsonl").read_bytes()


@given(data=st.data())
def test_any_changed_byte_is_refused(data, two):
    text = bytearray(two)
    text[data.draw(st.integers(0, len(two) - 1))] ^= data.draw(st.integers(1, 255))
    with TemporaryDirectory() as folder:
        file = Path(folder) / "ktest.jsonl"
        file.write_bytes(two)
        assert len(looks(file)) == 2
        file.write_bytes(text)
        with pytest.raises(BadData):
            looks(file)
        with pytest.raises(BadData):
            open_ktest(KTEST, "aaa", Path(folder) / "run", ledger=file, who="Ada")
        assert [p.name for p in Path(folder).iterdir()] == ["ktest.jsonl"] and file.read_bytes() == text


@pytest.mark.parametrize("order", [(1, 2, 3), (0, 2, 3), (0, 1, 3), (0, 2, 1, 3), (0, 0, 1, 2, 3), (0, 1, 2, 3, 3)])
def test_a_line_removed_moved_or_doubled_is_refused(order, four, tmp_path):
    lines = four.read_bytes().splitlines(keepends=True)
    four.write_bytes(b"".join(lines[i] for i in order))
    with pytest.raises(BadData, match="does not follow"):
        looks(four)
    with pytest.raises(BadData, match="does not follow"):
        enter(tmp_path, "run9")


def test_the_last_line_is_missed_by_its_run(four, tmp_path):
    four.write_bytes(b"".join(four.read_bytes().splitlines(keepends=True)[:3]))
    assert len(looks(four)) == 3  # a chain that ends early is whole; its end is held from outside
    with pytest.raises(BadData, match="lacks the line"):
        enter(tmp_path, "run3")
    enter(tmp_path, "run4")
    with pytest.raises(BadData, match="lacks the line"):
        enter(tmp_path, "run3")


def test_lines_of_the_last_commit_are_missed(four, tmp_path):
    def git(*words: str) -> None:
        subprocess.run(
            ["git", "-C", tmp_path, "-c", "user.name=t", "-c", "user.email=t@t", "-c", "commit.gpgsign=false", *words],
            check=True,
        )

    git("init", "-q")
    git("add", "results")
    git("commit", "-qm", "ledger")
    whole = four.read_bytes()
    enter(tmp_path, "run4")
    assert len(looks(four)) == 5  # lines may follow
    four.write_bytes(b"".join(whole.splitlines(keepends=True)[:3]))
    with pytest.raises(BadData, match="does not begin with the 4 lines"):
        looks(four)
    four.unlink()
    with pytest.raises(BadData, match="does not begin with the 4 lines"):
        enter(tmp_path, "run5")
    four.parent.rmdir()
    with pytest.raises(BadData, match="does not begin with the 4 lines"):
        looks(four)


def test_line_ends_that_git_turned_are_the_same_lines(four, tmp_path):
    found = looks(four)
    four.write_bytes(four.read_bytes().replace(b"\n", b"\r\n"))
    assert looks(four) == found
    assert enter(tmp_path, "run4").before == 4 and len(looks(four)) == 5


def test_a_line_cut_short_is_refused_and_says_what_to_do(four):
    whole = four.read_bytes()
    four.write_bytes(whole[:-30])
    with pytest.raises(BadData, match="line 4 is cut short") as refusal:
        looks(four)
    assert "no episode of it ran" in refusal.value.do


@pytest.mark.parametrize("text", [b"\n", b"[]\n", b"null\n", b"3\n", b"{}\n", b"{nonsense\n", b"\xff\xfe\n"])
def test_what_is_no_line_is_refused(text, four):
    four.write_bytes(four.read_bytes() + text)
    with pytest.raises(BadData, match="line 5"):
        looks(four)


def test_a_key_given_twice_is_refused(four):
    four.write_bytes(four.read_bytes().replace(b'{"after"', b'{"who": "nobody", "after"', 1))
    with pytest.raises(BadData, match="line 1"):
        looks(four)


def test_a_damaged_receipt_is_refused(four, tmp_path):
    receipt = tmp_path / "run0/ktest.json"
    text = receipt.read_text()
    for bad in ("{", "[]", '{"run": 1}', text.replace("Ada", "Bob")):
        receipt.write_text(bad)
        with pytest.raises(BadData):
            enter(tmp_path, "run0")
        with pytest.raises(BadData):
            opening_of(tmp_path / "run0")
    assert len(looks(four)) == 4


def test_a_kill_between_line_and_receipt_does_not_count_twice(four, tmp_path, monkeypatch):
    class Kill(BaseException):
        pass

    real = module.write_atomic

    def killed(path, data):
        if '"line": null' not in data:
            raise Kill
        real(path, data)

    monkeypatch.setattr(module, "write_atomic", killed)
    with pytest.raises(Kill):
        enter(tmp_path, "run4")
    assert len(looks(four)) == 5 and opening_of(tmp_path / "run4") is None
    monkeypatch.setattr(module, "write_atomic", real)
    assert enter(tmp_path, "run4") == looks(four)[4] == opening_of(tmp_path / "run4")
    assert len(looks(four)) == 5


def test_a_line_that_does_not_fit_is_taken_back(four, tmp_path, monkeypatch):
    whole, real = four.read_bytes(), os.write
    monkeypatch.setattr(module.os, "write", lambda handle, text: real(handle, text[:40]))
    with pytest.raises(Refusal, match="only a part"):
        enter(tmp_path, "run4")
    assert four.read_bytes() == whole
    monkeypatch.undo()
    assert enter(tmp_path, "run4").before == 4


def _many(folder: Path, name: int, times: int, gate) -> None:
    gate.wait()
    for i in range(times):
        enter(folder, f"run{name}-{i}", f"checkpoint{name}")
        enter(folder, "shared", "shared")  # all go on with the same run


def test_processes_at_once_all_end_up_in_the_chain(tmp_path):
    context = multiprocessing.get_context("spawn")
    gate = context.Barrier(3)
    crew = [context.Process(target=_many, args=(tmp_path, name, 5, gate)) for name in range(3)]
    for one in crew:
        one.start()
    for one in crew:
        one.join()
    assert [one.exitcode for one in crew] == [0, 0, 0]
    found = looks(tmp_path / "results/ktest.jsonl")
    assert [a.before for a in found] == list(range(16))
    for name in range(3):
        mine = [a.before_checkpoint for a in found if a.checkpoint == f"checkpoint{name}"]
        assert mine == list(range(5))
    assert sum(a.checkpoint == "shared" for a in found) == 1


def test_without_the_lock_two_writers_would_be_seen(tmp_path, monkeypatch):
    enter(tmp_path, "run0")

    @contextmanager
    def open_door(folder: Path):
        yield True

    real = module._append

    def interrupted(file: Path, text: bytes) -> None:
        monkeypatch.setattr(module, "_append", real)
        enter(tmp_path, "run1")  # another process, between this one's reading and its writing
        real(file, text)

    monkeypatch.setattr(module, "locked", open_door)
    monkeypatch.setattr(module, "_append", interrupted)
    enter(tmp_path, "run2")
    with pytest.raises(BadData, match="line 3 does not follow"):
        looks(tmp_path / "results/ktest.jsonl")


def test_who_is_git_s_name_else_the_login(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "user.name")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "Zoë\u2028Ångström")
    assert enter(tmp_path, "a", who=None).who == "Zoë\u2028Ångström" == looks(tmp_path / "results/ktest.jsonl")[0].who
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "")
    monkeypatch.setattr(getpass, "getuser", lambda: "login")
    assert enter(tmp_path, "b", who=None).who == "login"
    monkeypatch.setenv("PATH", "")

    def nobody() -> str:
        raise OSError("no such user")

    monkeypatch.setattr(getpass, "getuser", nobody)
    assert module._who(tmp_path) == "unknown"
    assert len(looks(tmp_path / "results/ktest.jsonl")) == 2


def test_where_the_ledger_is(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "checkout", lambda path: tmp_path / "checkout")
    assert default_ledger("runs/eval") == tmp_path / "checkout/results/ktest.jsonl"
    monkeypatch.setattr(provenance, "checkout", lambda path: None)
    assert default_ledger("runs/eval") == default_ledger("runs/other") == tmp_path / "runs/ktest.jsonl"
    look = open_ktest(KTEST, "aaa", "runs/eval", who="Ada")
    assert looks("runs/ktest.jsonl") == (look,) and look.commit == "unknown"


@settings(max_examples=20)
@given(st.lists(st.tuples(st.text(min_size=1, max_size=12), st.text(max_size=12)), min_size=1, max_size=4))
def test_any_name_comes_back_as_it_was_given(openings):
    with TemporaryDirectory() as folder:
        given_back = [enter(Path(folder), f"run{i}", c, who=w) for i, (w, c) in enumerate(openings)]
        found = looks(Path(folder) / "results/ktest.jsonl")
        assert list(found) == given_back
        assert [(a.who, a.checkpoint) for a in found] == openings
        assert [opening_of(Path(folder) / f"run{i}") for i in range(len(openings))] == given_back
