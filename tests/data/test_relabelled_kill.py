"""Relabelling that is killed between two steps of writing: what is made in the end is the same to the byte."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from mindhand.core.errors import BadData
from mindhand.core.keys import Key
from mindhand.data.lerobot_write import LeRobotWriter
from mindhand.data.relabelled import ADDED, gathered, relabelled

from .make import make_episode, point_spec

OF = {"source": "two episodes"}
MB = 0.02  # so that an episode's samples lie in several files, and files hold several episodes'
tries: list[int] = []


class Killed(BaseException):
    """The process is gone: from here on nothing changes a file's name, not even clean-up code."""


def tried(number: int):
    """Each episode as it was, and as many samples as its number."""
    tries.append(number)
    whole = make_episode(number)
    yield None, whole
    for k in range(number + 1):
        made = replace(make_episode(10 * number + k, task="other", length=4), key=Key(ADDED, "pick", 10 * number + k))
        yield {"episode": number, "sample": k}, made
    yield {"episode": number, "sample": None}, None


def make(fresh: Path):
    with LeRobotWriter(fresh / "dataset", point_spec(), file_mb=MB) as writer:
        rows = gathered(fresh, writer, [0, 1], tried)
    return rows, {"counts": {"proposed": len(rows)}}


def run_until(folder: Path, stop: int, patch: pytest.MonkeyPatch) -> int:
    """Dies just before the `stop`-th change of a file's name; how many there were, if it got to the end, or else 0."""
    count, locks, opened = 0, [], os.open

    def dying(function):
        def called(*args, **how):
            nonlocal count
            count += 1
            if count > stop:
                raise Killed
            return function(*args, **how)

        return called

    with patch.context() as patched:
        patched.setattr(os, "open", lambda *a, **k: locks.append(opened(*a, **k)) or locks[-1])
        for where, name in ((os, "replace"), (os, "rename"), (Path, "unlink"), (shutil, "rmtree")):
            patched.setattr(where, name, dying(getattr(where, name)))
        try:
            relabelled(folder, OF, make)
        except Killed:
            for lock in locks:  # the system frees the locks of the dead
                with contextlib.suppress(OSError):
                    os.close(lock)
            return 0
    return count


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_what_was_killed_goes_on(tmp_path, monkeypatch):
    """At every third step, and at each of the last: no folder until it is whole, every byte as of a run that nobody
    killed, and no episode that was finished is tried again."""
    steps = run_until(tmp_path / "whole", 10**6, monkeypatch)
    whole, wanted = relabelled(tmp_path / "whole", OF, make), bytes_of(tmp_path / "whole")
    assert len(whole.reader.files) > 2 and len(whole.reader.episodes) == len(whole.rows) == 5 and steps > 40
    ends, spared = set(), set()
    for stop in sorted({*range(0, steps, 3), *range(steps - 4, steps)}):
        folder = tmp_path / str(stop)
        tries.clear()
        assert not run_until(folder, stop, monkeypatch)
        ends.add(folder.exists())
        began = len(tries)
        tries.clear()
        made = relabelled(folder, OF, make)
        assert bytes_of(folder) == wanted, f"killed at step {stop}"
        assert made.rows == whole.rows and not folder.with_name(f".{folder.name}.begun").exists()
        assert began + len(tries) <= 3, "but for the one that was not finished nothing is tried twice"
        spared.add(2 - len(tries))
    assert ends == {False, True} and spared == {0, 1, 2}


def test_what_is_not_the_same_again_is_refused(tmp_path, monkeypatch):
    """Where a committed sample of an episode that was stopped is now another one; and nothing of it is left."""
    real = tried

    def other(number):
        for row, made in real(number):
            yield row, made if row is None or made is None else replace(made, key=replace(made.key, seed=len(tries)))

    monkeypatch.setattr(sys.modules[__name__], "tried", other)
    refused = 0
    for stop in range(20, 60, 4):
        folder = tmp_path / str(stop)
        tries.clear()
        assert not run_until(folder, stop, monkeypatch)
        try:
            relabelled(folder, OF, make)
        except BadData as error:
            refused += "the same whenever it is made" in str(error)
            assert not folder.exists() and not folder.with_name(f".{folder.name}.begun").exists()
    assert refused
