"""Recording: clean labels under noise, failures kept, the same dataset for any number of workers."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from mindhand.core.errors import BadData, SpecMismatch
from mindhand.core.keys import Key
from mindhand.data.lerobot_read import LeRobotReader
from mindhand.data.lerobot_stage import staged_files
from mindhand.data.lerobot_write import LeRobotWriter
from mindhand.data.record import Noise, demonstrate, record_demonstrations, record_with_workers
from tests.data.make import point_spec
from tests.data.world import LAST, SPEC, PointWorld

KEYS = [Key("record", "reach", i) for i in range(12)]
NOISE = Noise(sd=0.04, size=2)


def place(world: PointWorld, row: int) -> dict[str, np.ndarray]:
    """A label: the goal, in pixels."""
    return {"goal": world.project(world.goal[[row]], "front", [row])[0]}


def record(path: Path, keys=KEYS, world=None, **options) -> LeRobotReader:
    with LeRobotWriter(path, SPEC, labels={"goal": 2}) as writer:
        record_demonstrations(world or PointWorld(4), keys, writer, noise=NOISE, labels=place, **options)
    return LeRobotReader(path)


def test_what_is_recorded_is_what_happened(tmp_path):
    reader = record(tmp_path / "set", rows=3)
    assert [e.key for e in reader.episodes] == KEYS
    for number, key in enumerate(KEYS):
        world, noise = PointWorld(1), NOISE.steps(key)
        world.reset([key], [0])
        episode = reader.episode(number)
        for t in range(len(episode)):
            seen = world.observe([0])
            assert episode.state[t].tobytes() == seen.state[0, -1].tobytes()
            assert (episode.images["front"][t] == seen.images["front"][0, -1]).all()
            assert episode.reasoning[t] == world.reasoning(0)
            assert episode.instruction == seen.text["instruction"][0]
            assert episode.labels["goal"][t] == pytest.approx(place(world, 0)["goal"])
            clean = world.expert([0])
            assert episode.action[t].tobytes() == clean[0].tobytes()  # the label is the command without the noise
            world.disturb([0], noise(t)[None])
            outcome = world.step(clean, [0])
            assert outcome.done[0] == (t == len(episode) - 1)
        assert episode.success == outcome.success[0]


def test_noise_moves_the_state_and_not_the_label(tmp_path):
    episodes = []
    demonstrate(
        PointWorld(1), [(0, KEYS[0])], lambda n, e: episodes.append(e), noise=Noise(0.05, share=1.0, size=2), rows=1
    )
    demonstrate(PointWorld(1), [(0, KEYS[0])], lambda n, e: episodes.append(e), noise=Noise(share=0.0, size=2), rows=1)
    noisy, clean = episodes
    assert (noisy.state[0] == clean.state[0]).all()
    assert (noisy.state[1] != clean.state[1]).all()
    assert (noisy.action[0] == clean.action[0]).all()


def test_failures_are_kept(tmp_path):
    reader = record(tmp_path / "set", world=PointWorld(2, patience=9))
    success = [e.success for e in reader.episodes]
    assert 0 < sum(success) < len(success)
    assert all(len(e) == 9 for e in reader.episodes if not e.success)


def test_noise_is_ornstein_uhlenbeck():
    noise = Noise(sd=0.012, theta=0.15, share=1.0, size=3)
    paths = []
    for i in range(60):
        steps = noise.steps(Key("unit", "noise", i))
        paths.append([steps(t) for t in range(200)])
    x = np.array(paths)[:, 40:]  # once it has spread
    assert x.std() == pytest.approx(0.012, rel=0.03)
    assert abs(x.mean()) < 1e-3
    assert (x[:, 1:] * x[:, :-1]).mean() / x.var() == pytest.approx(0.85, abs=0.02)
    across = np.corrcoef(x.reshape(-1, 3).T)
    assert np.abs(across - np.eye(3)).max() < 0.08
    assert (np.abs(np.array(paths)[:, 0]).mean()) < 0.008  # begins near nothing


def test_three_of_four_are_disturbed():
    still = [not np.any(Noise().steps(Key("unit", "noise", i))(0)) for i in range(400)]
    assert 70 <= sum(still) <= 130


def test_any_number_of_rows_and_workers_gives_the_same_dataset(tmp_path):
    one = record(tmp_path / "one", rows=1)
    four = record(tmp_path / "four", rows=4)
    with LeRobotWriter(tmp_path / "two", SPEC, labels={"goal": 2}) as writer:
        recorded = record_with_workers(partial(PointWorld, 3), KEYS, writer, noise=NOISE, rows=3, labels=place)
    assert recorded == len(KEYS)
    assert one.fingerprint() == four.fingerprint() == LeRobotReader(tmp_path / "two").fingerprint()
    for name in ("data/chunk-000/file-000.parquet", "meta/episodes/chunk-000/file-000.parquet", "meta/info.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


class Dying(PointWorld):
    """A world that stops after some resets, as if the power failed."""

    left = 7

    def reset(self, keys, rows) -> None:
        """Counts down."""
        self.left -= len(keys)
        if self.left < 0:
            raise InterruptedError
        super().reset(keys, rows)


def test_it_resumes_and_extends(tmp_path):
    whole = record(tmp_path / "whole")
    writer = LeRobotWriter(tmp_path / "set", SPEC, labels={"goal": 2})
    with pytest.raises(InterruptedError):
        record_demonstrations(Dying(2), KEYS, writer, noise=NOISE, rows=2, labels=place)
    writer.close()
    assert 0 < len(staged_files(tmp_path / "set")) < 7
    made = []

    class Counting(PointWorld):
        def reset(self, keys, rows) -> None:
            made.extend(keys)
            super().reset(keys, rows)

    again = record(tmp_path / "set", world=Counting(2))
    assert again.fingerprint() == whole.fingerprint()
    assert 5 < len(made) < len(KEYS)
    more = [*KEYS, *(Key("record", "reach", i) for i in range(50, 53))]
    assert [e.key for e in record(tmp_path / "set", more).episodes] == more
    assert len(record(tmp_path / "set", more).episodes) == 15  # nothing left to do


def test_staged_episodes_of_other_keys_are_not_taken(tmp_path):
    writer = LeRobotWriter(tmp_path / "set", SPEC, labels={"goal": 2})
    other = [Key("record", "reach", 99), *KEYS[1:3], *KEYS[7:9]]
    with pytest.raises(InterruptedError):
        record_demonstrations(type("Short", (Dying,), {"left": 4})(1), other, writer, noise=NOISE, labels=place)
    writer.close()
    assert len(staged_files(tmp_path / "set")) == 4
    assert [e.key for e in record(tmp_path / "set", KEYS[:3]).episodes] == KEYS[:3]


class Foreign(PointWorld):
    """The same world with another declaration."""

    spec = point_spec()


class Crashing(PointWorld):
    """A world whose process dies."""

    def step(self, actions, rows):
        """Dies."""
        os._exit(3)


def test_what_goes_wrong_in_a_worker_is_said(tmp_path):
    with LeRobotWriter(tmp_path / "set", SPEC) as writer:
        with pytest.raises(SpecMismatch, match="speak different conventions"):
            record_with_workers(Foreign, KEYS[:2], writer, noise=NOISE, workers=1)
        with pytest.raises(Exception, match="terminated abruptly"):
            record_with_workers(Crashing, KEYS[:2], writer, noise=NOISE, workers=1)
        record_demonstrations(PointWorld(), KEYS[:2], writer, noise=NOISE)
    assert len(LeRobotReader(tmp_path / "set").episodes) == 2


def test_wrong_use_is_refused(tmp_path):
    with LeRobotWriter(tmp_path / "set", SPEC) as writer:
        with pytest.raises(SpecMismatch):
            record_demonstrations(Foreign(), KEYS, writer, noise=NOISE)
        with pytest.raises(BadData, match="twice"):
            record_demonstrations(PointWorld(), [KEYS[0], KEYS[0]], writer, noise=NOISE)
        with pytest.raises(BadData, match="labels"):
            record_demonstrations(PointWorld(), KEYS[:1], writer, noise=NOISE, labels=place)
        record_demonstrations(PointWorld(), KEYS[:1], writer, noise=NOISE)
    assert len(LeRobotReader(tmp_path / "set")) <= LAST
