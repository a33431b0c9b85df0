"""The reader's benchmark reads what it says, alike with a cache and without, and sees memory that grows."""

from __future__ import annotations

import numpy as np
import pytest

from mindhand.data.cache import FrameCache
from mindhand.data.lerobot_write import LeRobotWriter
from mindhand.data.opening import open_dataset
from mindhand.recipes import bench_reader as bench
from mindhand.recipes.lerobot_round_trip import LENGTHS, SPEC, episodes


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    path = tmp_path_factory.mktemp("reader")
    with LeRobotWriter(path / "it", SPEC) as writer:
        for e in episodes():
            writer.append(e)
    reader = open_dataset(path / "it")
    return reader, FrameCache.build(path / "cache", reader)


def test_a_batch_is_what_training_asks_for(opened):
    reader, cache = opened
    given, index = episodes(), [LENGTHS[0], 3, LENGTHS[0] - 1]
    for pictures in (cache.images, reader.seen):
        got = bench.batch(reader, pictures, index)
        assert got["front"].shape == (3, 1, 3, 48, 64)
        np.testing.assert_array_equal((got["front"][1, 0].permute(1, 2, 0) * 255).round(), given[0].images["front"][3])
        np.testing.assert_array_equal(got["action"][0, : LENGTHS[1]], given[1].action.astype(np.float32))
        assert got["valid"].sum(1).tolist() == [LENGTHS[1], LENGTHS[0] - 3, 1]
    assert bench.seconds(reader, cache.images, bench.asked(len(reader), 0)) > 0


def test_every_turn_asks_for_other_frames():
    a, b = (bench.asked(1000, turn) for turn in (0, 1))
    assert a == bench.asked(1000, 0) != b
    assert {len(x) for x in a} == {bench.ROWS} and max(map(max, a)) < 1000


def test_memory_that_grows_is_seen(opened):
    rows = bench.soak(*opened, length=0.3, every=0.05)
    assert len(rows) >= 4 and all(r["bytes"] > 1 << 20 for r in rows)
    steady = [{"key": str(i), "seconds": 5.0 * i, "bytes": 10**9} for i in range(20)]
    assert {r["mb_per_hour"] for r in bench.growth(steady)} == {0.0}
    leaking = [{**r, "bytes": r["bytes"] + int(1e6 * r["seconds"])} for r in steady]
    assert {round(r["mb_per_hour"]) for r in bench.growth(leaking)} == {3600}
