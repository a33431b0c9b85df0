"""A recording that is killed: at every single step of an append and a commit, and at any moment."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from mindhand.core.errors import BadData
from mindhand.data.lerobot_read import LeRobotReader
from mindhand.data.lerobot_stage import staged_files
from mindhand.data.lerobot_write import LeRobotWriter
from tests.data.make import make_episode, point_spec, write

EXPECTED = 4  # episodes after a run that nobody kills


class Killed(BaseException):
    """The process is gone: from here on nothing changes a file's name, not even clean-up code."""


def run_until(path: Path, stop: int, patch: pytest.MonkeyPatch, file_mb: float = 100, video: bool = False) -> bool:
    """Runs `finish` and dies just before the `stop`-th change of a file's name; False if it got to the end."""
    count, locks = 0, []

    def dying(function):
        def wrapped(*args, **kwargs):
            nonlocal count
            count += 1
            if count > stop:
                raise Killed
            return function(*args, **kwargs)

        return wrapped

    opened = os.open
    with patch.context() as patched:
        patched.setattr(os, "open", lambda *a, **k: locks.append(opened(*a, **k)) or locks[-1])
        patched.setattr(os, "replace", dying(os.replace))
        patched.setattr(Path, "unlink", dying(Path.unlink))
        patched.setattr(shutil, "rmtree", dying(shutil.rmtree))
        try:
            finish(path, file_mb, video)
        except Killed:
            for lock in locks:  # the system frees the locks of the dead
                with contextlib.suppress(OSError):
                    os.close(lock)
            return True
    return False


def finish(path: Path, file_mb: float = 100, video: bool = False) -> None:
    """What a user runs, first or again."""
    writer = LeRobotWriter(path, point_spec(), file_mb=file_mb, video=video)
    staged = writer.staged()
    for number in range(len(writer), EXPECTED):
        if number not in staged:
            assert writer.append(make_episode(number)) == number
        if number == 1 and file_mb == 100:
            writer.commit()
    writer.finalize()


def check(path: Path, allowed: tuple[int, ...]) -> int:
    """A dataset that loads is whole: every episode it counts is the one that was recorded."""
    reader = LeRobotReader(path)
    assert len(reader.episodes) in allowed
    for i in range(len(reader.episodes)):
        assert reader.episode(i).action.tobytes() == make_episode(i).action.tobytes()
        assert (reader.episode(i).images["front"] == make_episode(i).images["front"]).all()
    return len(reader.episodes)


def test_killed_at_every_step(tmp_path, monkeypatch):
    seen = set()
    for stop in range(200):
        path = tmp_path / str(stop)
        if not run_until(path, stop, monkeypatch):
            break
        if (path / "meta/info.json").exists():
            seen.add(check(path, (2, EXPECTED)))
        else:
            with pytest.raises(BadData, match=r"never finalized|no meta/info\.json"):
                LeRobotReader(path)
            seen.add("refused")
        finish(path)
        assert check(path, (EXPECTED,))
        assert not (path / "incoming").exists()
        assert not list(path.rglob("*.part"))
        assert {p for p, _, _ in LeRobotReader(path).files} == set((path / "data").rglob("*.parquet"))
    else:
        raise AssertionError("it never finished")
    assert stop > 15
    assert seen == {"refused", 2, EXPECTED}  # each of the three really happened
    reference, resumed = LeRobotReader(path), LeRobotReader(tmp_path / "7")
    assert resumed.fingerprint() == reference.fingerprint()


def test_no_file_of_an_unfinished_commit_is_left(tmp_path, monkeypatch):
    """Killed while four data files are written; the next commit puts all into one."""
    for stop in range(200):
        path = tmp_path / str(stop)
        writer = LeRobotWriter(path, point_spec(), file_mb=100)
        for number in range(EXPECTED):
            writer.append(make_episode(number))
        writer.close()
        if not run_until(path, stop, monkeypatch, file_mb=1e-4):
            break
        finish(path)
        assert {p for p, _, _ in LeRobotReader(path).files} == set((path / "data").rglob("*.parquet"))
        check(path, (EXPECTED,))
    assert stop > 8


APPENDING = """
import sys
from tests.data.make import make_episode, point_spec
from mindhand.data.lerobot_write import LeRobotWriter
writer = LeRobotWriter(sys.argv[1], point_spec(), file_mb=0.05)
for number in range(len(writer) + len(writer.staged()), 100000):
    writer.append(make_episode(number))
    print(number, flush=True)
"""


def test_killed_at_any_moment(tmp_path):
    path, root = tmp_path / "set", Path(__file__).parents[2]
    counted = 0
    for attempt in range(3):
        child = subprocess.Popen([sys.executable, "-c", APPENDING, str(path)], cwd=root, stdout=subprocess.PIPE)
        for _ in range(11 + 4 * attempt):  # a commit comes every eight or so
            child.stdout.readline()
        time.sleep(0.003 * attempt)
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        for _, file in staged_files(path):
            pq.read_table(file)  # whole, or not there under this name
        reader = LeRobotReader(path)
        assert len(reader.episodes) > counted  # it went on where it stopped
        counted = len(reader.episodes)
        for i in (0, counted // 2, counted - 1):
            assert reader.episode(i).state.tobytes() == make_episode(i).state.tobytes()
    with LeRobotWriter(path, point_spec()) as writer:
        assert sorted(writer.staged()) == list(range(counted, counted + len(staged_files(path))))
    assert len(LeRobotReader(path).episodes) >= counted


def test_a_damaged_staged_file_is_recorded_again(tmp_path):
    writer = LeRobotWriter(tmp_path / "set", point_spec())
    for i in range(3):
        writer.append(make_episode(i))
    writer.close()
    file = staged_files(tmp_path / "set")[1][1]
    file.write_bytes(file.read_bytes()[:100])
    writer = LeRobotWriter(tmp_path / "set", point_spec())
    assert sorted(writer.staged()) == [0, 2]
    with pytest.raises(BadData, match="episode 1 is missing and 1 later"):
        writer.finalize()
    assert len(LeRobotReader(tmp_path / "set").episodes) == 1


def test_an_exception_keeps_what_was_staged(tmp_path):
    def recording() -> None:
        with LeRobotWriter(tmp_path / "set", point_spec()) as writer:
            writer.append(make_episode(0))
            raise KeyError

    with pytest.raises(KeyError):
        recording()
    with pytest.raises(BadData, match="never finalized"):
        LeRobotReader(tmp_path / "set")
    assert write(tmp_path / "set", [make_episode(1)])
    check(tmp_path / "set", (2,))
