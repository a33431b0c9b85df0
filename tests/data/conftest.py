"""The dataset that several tests read."""

from pathlib import Path

import pytest

from tests.data.make import make_episode, write


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Five episodes of different lengths, two tasks."""
    return write(
        tmp_path / "demos", [make_episode(i, 5 + i, task="pick" if i % 2 else "push") for i in range(5)], scene="s1"
    )
