"""CAST's folder: whole or not there, and gone on with where making it was stopped. Killed at every step:
tests/data/test_relabelled_kill.py."""

from __future__ import annotations

import pytest

from mindhand.core.errors import BadData
from mindhand.core.keys import Key
from mindhand.data.lerobot_read import LeRobotReader
from mindhand.data.lerobot_write import LeRobotWriter
from mindhand.data.record import GAZE, gaze, record_demonstrations
from mindhand.data.relabelled import relabelled
from mindhand.methods.relabel import cast
from mindhand.methods.relabel.cast import Config
from mindhand.worlds.biased import BIASED
from mindhand.worlds.declared import scene_hash
from mindhand.worlds.desk.spec import SPEC as DESK

from ..contract.bases import SPEC, desk
from ..data.make import make_episode, write


def test_the_folder_is_whole_or_not_there(tmp_path):
    """What was stopped half-way goes on; what was refused leaves nothing; what is finished is read; what is of
    something else is refused, finished or begun."""
    ends = [KeyboardInterrupt(), BadData("a frame", "another", "record again"), None]

    def make(fresh):
        assert (fresh / "dataset").exists() == (len(ends) == 2), "what the interrupted one left, and no other"
        if not (fresh / "dataset").exists():
            write(fresh / "dataset", [make_episode(0, spec=SPEC)], SPEC)
        if (end := ends.pop(0)) is not None:
            raise end
        return [{"frame": 1}], {"counts": {"kept": 1}, "contradicted": [0]}

    with pytest.raises(KeyboardInterrupt):
        relabelled(tmp_path / "a", {"x": 1}, make)
    assert not (tmp_path / "a").exists()
    with pytest.raises(BadData, match=r"begun was made of something else.*x: 1 \| 2"):
        relabelled(tmp_path / "a", {"x": 2}, make)
    with pytest.raises(BadData, match="a frame"):
        relabelled(tmp_path / "a", {"x": 1}, make)
    assert not [p for p in tmp_path.iterdir() if p.is_dir()], "what was refused is left"
    (tmp_path / ".a.begun" / "dataset").mkdir(parents=True)  # of which nobody knows what it is
    first = relabelled(tmp_path / "a", {"x": 1}, make)
    again = relabelled(tmp_path / "a", {"x": 1}, lambda fresh: pytest.fail("it is there"))
    assert first.rows == again.rows == [{"frame": 1}] and again.report["counts"] == {"kept": 1}
    assert {p.name for p in (tmp_path / "a").iterdir()} == {"dataset", "samples.jsonl", "report.json"}
    with pytest.raises(BadData, match=r"x: 1 \| 2"):
        relabelled(tmp_path / "a", {"x": 2}, make)


def test_a_generation_that_was_stopped_goes_on(tmp_path):
    """In the middle of the last demonstration: the first is not tried again, and every byte is as of a run that
    nobody stopped."""
    reader, replayed = demonstrations(tmp_path / "demos"), []

    class Stopping:
        """The desk, whose steps run out."""

        def __init__(self, steps):
            self.left = steps

        def __getattr__(self, name):
            return getattr(desk(), name)

        def reset(self, keys, rows):
            replayed.append(keys[0].index)
            desk().reset(keys, rows)

        def step(self, actions, rows):
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
            return desk().step(actions, rows)

    config = Config(stride=16)
    world = Stopping(10**6)
    cast.relabel(reader, tmp_path / "whole", world, config)
    assert replayed == [0, 2]
    with pytest.raises(KeyboardInterrupt):
        cast.relabel(reader, tmp_path / "it", Stopping((10**6 - world.left) * 3 // 4), config)
    assert not (tmp_path / "it").exists() and len([*tmp_path.glob(".it.begun/rows/*.json")]) == 1
    replayed.clear()
    made = cast.relabel(reader, tmp_path / "it", Stopping(10**6), config)
    assert replayed == [2] and made.added.any()
    assert bytes_of(tmp_path / "it") == bytes_of(tmp_path / "whole")


def demonstrations(path) -> LeRobotReader:
    """Two that succeeded, and between them one that did not."""
    with LeRobotWriter(path, DESK, pictures="model", labels=GAZE, scene=scene_hash()) as writer:
        record_demonstrations(desk(), [Key("demonstrations", BIASED, i) for i in range(3)], writer, labels=gaze)
    return LeRobotReader(path)


def bytes_of(folder) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
