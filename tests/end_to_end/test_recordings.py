"""A folder is of one recording: the same goes on, a longer one too, and another is refused with nothing touched."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from mindhand.core.errors import BadData
from mindhand.core.keys import Key
from mindhand.data.lerobot_read import LeRobotReader
from mindhand.data.record import Noise
from mindhand.recipes import places
from mindhand.recipes.record import demonstrations, record


@pytest.fixture(scope="module")
def maths(tmp_path_factory) -> Path:
    """Two episodes of sums."""
    folder = tmp_path_factory.mktemp("maths") / "set"
    record("maths", 2, 1, folder)
    return folder


@pytest.fixture(params=["with its plan", "of an older version"])
def there(request, maths):
    """The same; what was recorded before there was a plan is told by its episodes."""
    plan = maths / places.RECORDING
    text = plan.read_text()
    if request.param != "with its plan":
        plan.unlink()
    yield maths
    plan.write_text(text)


def state(folder: Path) -> dict[Path, tuple[int, bytes]]:
    """All that is there."""
    return {f: (f.stat().st_mtime_ns, f.read_bytes()) for f in folder.rglob("*") if f.is_file()}


def refused(folder: Path, name: str, episodes: int) -> str:
    """What is said; nothing is touched."""
    before = state(folder)
    with pytest.raises(BadData) as error:
        record(name, episodes, 1, folder)
    assert state(folder) == before
    return str(error.value)


def test_other_tasks_another_seed_and_fewer_episodes_are_refused(there, monkeypatch):
    planned = (there / places.RECORDING).exists()
    assert ("tasks: ['maths_matching/R']" if planned else "another recording") in refused(there, "placing", 2)
    assert ("episodes: 2 | 1" if planned else "no such episode") in refused(there, "maths", 1)
    monkeypatch.setattr(places, "Key", partial(Key, seed=1))
    assert "maths_matching/R/0/1" in refused(there, "maths", 2)  # the last is the seed


def test_another_noise_is_refused(maths, monkeypatch):
    monkeypatch.setattr(places, "PLACES", (replace(places.DESK, noise=Noise(sd=0.1)),))
    assert "noise.sd: 0.012 | 0.1" in refused(maths, "maths", 2)


def test_one_that_was_stopped_before_its_first_episode_keeps_its_folder(tmp_path, monkeypatch):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(places, "record_with_workers", stopped)
    with pytest.raises(KeyboardInterrupt):
        record("maths", 2, 1, tmp_path / "set")
    assert "another plan" in refused(tmp_path / "set", "placing", 2)


def test_what_is_no_recording_of_ours_is_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    assert "an empty folder" in refused(tmp_path, "maths", 1)


def test_the_same_is_found_finished(there):
    before, data = LeRobotReader(there), {f: x for f, x in state(there).items() if f.suffix == ".parquet"}
    assert record("maths", 2, 1, there) == 0  # as the verb
    demonstrations(there, 2, workers=1)  # and as a recipe
    assert {f: x for f, x in state(there).items() if f.suffix == ".parquet"} == data
    assert (there / places.RECORDING).exists() and len(LeRobotReader(there).episodes) == 2
    assert np.array_equal(LeRobotReader(there).action, before.action)


def test_a_longer_one_goes_on(maths):
    before = LeRobotReader(maths)
    record("maths", 3, 1, maths)
    after = LeRobotReader(maths)
    assert [e.key.index for e in after.episodes] == [0, 1, 2]
    assert np.array_equal(after.action[: len(before.action)], before.action)
    assert "episodes: 3 | 2" in refused(maths, "maths", 2)


def test_filmed_they_are_the_same_but_for_pictures(maths, tmp_path):
    """Nearly the same pictures in a fraction of the bytes; and a folder has one kind."""
    record("maths", 2, 1, tmp_path, video=True)
    exact, filmed = LeRobotReader(maths), LeRobotReader(tmp_path)
    n = len(filmed.action)
    assert np.array_equal(exact.action[:n], filmed.action) and np.array_equal(exact.state[:n], filmed.state)
    for role in filmed.spec.roles:
        pairs = [x.images(role, [0, n - 1]).astype(float) for x in (exact, filmed)]
        assert 0 < np.abs(pairs[0] - pairs[1]).mean() < 6  # of 255
    sizes = [sum(len(x[1]) for x in state(f).values()) for f in (maths, tmp_path)]
    assert sizes[1] < sizes[0] / 2
    with pytest.raises(BadData, match="video 'True', not 'False'"):
        record("maths", 2, 1, tmp_path)
