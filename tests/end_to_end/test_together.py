"""Jobs side by side: after an error or Ctrl-C nothing begins any more."""

import os
import signal
from pathlib import Path

import pytest

from mindhand.core.errors import BadData
from mindhand.recipes.from_scratch import together


def done(file: Path) -> None:
    file.touch()


def fails(file: Path) -> None:
    done(file)
    raise BadData("this job", "one that works", "none")


def interrupts(file: Path) -> None:
    """What Ctrl-C does to the process that waits."""
    done(file)
    os.kill(os.getppid(), signal.SIGINT)


def test_all_jobs_run(tmp_path):
    together([(done, (tmp_path / n,)) for n in "abc"])
    assert {f.name for f in tmp_path.iterdir()} == set("abc")


@pytest.mark.parametrize(("first", "raised"), [(fails, BadData), (interrupts, KeyboardInterrupt)])
def test_nothing_begins_after_an_error_or_ctrl_c(tmp_path, first, raised):
    """Three wait: of a pool that is told to cancel, the first of them would begin yet."""
    was = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job has none
    try:
        with pytest.raises(raised):
            together([(first, (tmp_path / "a",)), *((done, (tmp_path / n,)) for n in "bcd")], workers=1)
    finally:
        signal.signal(signal.SIGINT, was)
    assert {f.name for f in tmp_path.iterdir()} == {"a"}
