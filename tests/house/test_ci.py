"""What CI says at its end: how long each part took, also of the part that failed."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from .tree import ROOT

PARTS = re.findall(r"^step (\w+) \d+$", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)


@pytest.mark.skipif(not all(map(shutil.which, ("bash", "make", "timeout"))), reason="bash, make, timeout")
@pytest.mark.parametrize("fails", [None, "wheel"])
def test_every_part_has_its_wall_time(tmp_path: Path, fails: str | None):
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "run", tmp_path / ".ci")
    rules = [f"{part}:\n\t@{'exit 3' if part == fails else 'true'}\n" for part in PARTS]
    (tmp_path / "Makefile").write_text(f".PHONY: {' '.join(PARTS)}\n" + "".join(rules))
    done = subprocess.run(["bash", str(tmp_path / ".ci" / "run")], capture_output=True, text=True)
    assert (done.returncode == 0) == (fails is None)
    told = done.stdout.partition("== wall time\n")[2]
    ran = PARTS[: PARTS.index(fails) + 1] if fails else PARTS
    rows = [re.fullmatch(r" *(\w+) +\d+ s(  failed)?", line) for line in told.splitlines()]
    assert [(r[1], bool(r[2])) for r in rows if r] == [*((part, part == fails) for part in ran), ("all", False)]
    assert all(rows) and {"setup", "check", "wheel", "test"} <= set(PARTS)
