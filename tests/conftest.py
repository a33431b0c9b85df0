"""Every test process computes on one thread, renders without a screen, and draws the same hypothesis examples."""

from __future__ import annotations

import os
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
if sys.platform == "linux":
    os.environ.setdefault("MUJOCO_GL", "egl")

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)
# Deadlines are timing asserts; fixed examples make a red run red again.
settings.register_profile("house", deadline=None, derandomize=True, database=None)
settings.load_profile("house")


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    """No test may leave runs/ behind in the checkout: each one starts in a folder of its own."""
    monkeypatch.chdir(tmp_path)
