"""Children ask for large pages; a choice of the user's stands; the allocator takes the setting."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from mindhand.core.memory import TUNABLES, large_pages

SUM = "import os; x = [bytearray(1 << 20) for _ in range(64)]; print(os.environ['GLIBC_TUNABLES'], len(x))"


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's setting")
def test_children_ask_for_large_pages(monkeypatch):
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    large_pages()
    said = subprocess.run([sys.executable, "-c", SUM], capture_output=True, text=True, check=True)
    assert said.stdout.split() == [TUNABLES, "64"]
    assert said.stderr == ""  # a glibc that knows a tunable and dislikes its value says so


def test_a_choice_of_the_users_is_left_alone(monkeypatch):
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.hugetlb=0")
    large_pages()
    assert os.environ["GLIBC_TUNABLES"] == "glibc.malloc.hugetlb=0"
