"""Progress is told in a log too, and not too often."""

from __future__ import annotations

import io

from rich.console import Console

from mindhand.core import progress as p


def told(total: int, every: float, monkeypatch) -> list[str]:
    monkeypatch.setattr(p, "EVERY", every)
    file = io.StringIO()
    with p.progress(Console(file=file), "record", total, 2, "episodes") as advance:
        for now in range(3, total + 1):
            advance(now)
    return file.getvalue().splitlines()


def test_a_log_gets_lines(monkeypatch):
    lines = told(5, 0.0, monkeypatch)
    assert [line.split()[1] for line in lines] == ["3/5", "4/5", "5/5"]
    assert all("episodes/s" in line and line.endswith("s left") for line in lines)
    assert [line.split()[1] for line in told(50, 60.0, monkeypatch)] == ["50/50"]


def test_numbers_stand_in_the_line(monkeypatch):
    monkeypatch.setattr(p, "EVERY", 0.0)
    file = io.StringIO()
    with p.progress(Console(file=file, width=200), "warm-up", 2, 0, "steps") as tell:
        tell(1, "text 0.250")
    assert file.getvalue().startswith("warm-up 1/2  text 0.250  ")


def test_no_console_no_word():
    with p.progress(None, "record", 3, 0, "episodes") as advance:
        advance(3)
