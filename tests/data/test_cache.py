"""The frame cache: exactly what the model sees, made once, never stale."""

from __future__ import annotations

import fcntl
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from mindhand.core.errors import BadData
from mindhand.data import cache as module
from mindhand.data.cache import FrameCache
from mindhand.data.image import prepare
from mindhand.data.lerobot_read import LeRobotReader
from tests.data.make import make_episode, point_spec, write


def test_it_holds_what_the_model_sees(dataset, tmp_path):
    reader = LeRobotReader(dataset)
    cache = FrameCache.build(tmp_path / "cache", reader)
    assert len(cache.frames) == len(reader)
    index = np.array([34, 0, 7, 7])
    for camera in reader.spec.cameras:
        want = prepare(reader.images(camera.role, index), camera)
        assert (cache.images(camera.role, index) == want).all()
        assert isinstance(cache.arrays[camera.role], np.memmap)
        assert not cache.arrays[camera.role].flags.writeable
    assert cache.arrays["front"].shape == (35, 8, 8, 3)


def test_every_second_frame_of_each_episode(dataset, tmp_path):
    reader = LeRobotReader(dataset)
    cache = FrameCache.build(tmp_path / "cache", reader, every=2)
    assert cache.frames.tolist() == [0, 2, 4, 5, 7, 9, 11, 13, 15, 17, 18, 20, 22, 24, 26, 28, 30, 32, 34]
    assert (cache.images("wrist", [17, 4]) == reader.images("wrist", [17, 4])).all()
    for absent in (1, 16, 35, 99):
        with pytest.raises(BadData, match=f"frame {absent}"):
            cache.images("wrist", [4, absent])


def test_absent_and_stale_are_refused_and_rebuilt(dataset, tmp_path):
    folder, reader = tmp_path / "cache", LeRobotReader(dataset)
    with pytest.raises(BadData, match="no frame cache"):
        FrameCache.open(folder, reader)
    FrameCache.build(folder, reader)
    stamp = (folder / "front.npy").stat().st_mtime_ns
    FrameCache.open(folder, reader)
    FrameCache.build(folder, reader)
    assert (folder / "front.npy").stat().st_mtime_ns == stamp  # not decoded again
    with pytest.raises(BadData, match=r"every: 1 \| 2"):
        FrameCache.open(folder, reader, every=2)
    write(dataset, [make_episode(7)], scene="s1")
    grown = LeRobotReader(dataset)
    with pytest.raises(BadData, match="dataset"):
        FrameCache.open(folder, grown)
    assert len(FrameCache.build(folder, grown).frames) == 42
    assert (FrameCache.open(folder, grown).images("wrist", [40]) == grown.images("wrist", [40])).all()


def test_another_resize_is_another_cache(dataset, tmp_path):
    (dataset / "meta/mindhand.json").unlink()
    spec = point_spec()
    cropped = replace(spec, cameras=(replace(spec.cameras[0], crop=0.75, interpolation="bilinear"), spec.cameras[1]))
    FrameCache.build(tmp_path / "cache", LeRobotReader(dataset, spec))
    with pytest.raises(BadData, match="camera"):
        FrameCache.open(tmp_path / "cache", LeRobotReader(dataset, cropped))


def test_damage_is_refused_and_rebuilt(dataset, tmp_path):
    reader, folder = LeRobotReader(dataset), tmp_path / "cache"
    whole = np.array(FrameCache.build(folder, reader).arrays["front"])
    for damage in (lambda b: b[:-1], lambda b: b[:50], lambda b: b""):
        (folder / "front.npy").write_bytes(damage((folder / "front.npy").read_bytes()))
        with pytest.raises(BadData, match="damaged"):
            FrameCache.open(folder, reader)
        assert (FrameCache.build(folder, reader).arrays["front"] == whole).all()


class Stop(Exception):
    """What interrupts the build below."""


def test_a_killed_build_goes_on(dataset, tmp_path, monkeypatch):
    folder, asked = tmp_path / "cache", []
    reader = LeRobotReader(dataset)
    get = reader.images

    def dying(role, index):
        if len(asked) == 3:
            raise Stop
        asked.append((role, tuple(index)))
        return get(role, index)

    monkeypatch.setattr(module, "PIECE", 8)
    monkeypatch.setattr(reader, "images", dying)
    with pytest.raises(Stop):
        FrameCache.build(folder, reader)
    with pytest.raises(BadData, match="no frame cache"):
        FrameCache.open(folder, reader)
    monkeypatch.setattr(reader, "images", lambda role, index: asked.append((role, tuple(index))) or get(role, index))
    cache = FrameCache.build(folder, reader)
    decoded = [i for role, index in asked for i in index if role == "front"]
    assert decoded == list(range(35))  # every frame once, over both runs
    assert (cache.arrays["wrist"] == reader.images("wrist", np.arange(35))).all()
    assert {p.suffix for p in folder.iterdir()} == {".npy", ".json", ".lock"}


def test_processes_share_out_the_cameras(dataset, tmp_path):
    folder = tmp_path / "cache"
    folder.mkdir()
    with open(folder / "front.lock", "w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with ThreadPoolExecutor(1) as pool:
            mine = pool.submit(FrameCache.build, folder, LeRobotReader(dataset))
            while not (folder / "wrist.json").exists():
                assert not mine.done()
                time.sleep(0.01)
            assert not (folder / "front.npy.part").exists() and not mine.done()
            fcntl.flock(other, fcntl.LOCK_UN)
            assert len(mine.result().frames) == 35


def test_a_build_killed_at_its_last_step_leaves_no_wrong_manifest(dataset, tmp_path, monkeypatch):
    (dataset / "meta/mindhand.json").unlink()
    spec = point_spec()
    cropped = replace(spec, cameras=(replace(spec.cameras[0], crop=0.5), spec.cameras[1]))
    before, after = LeRobotReader(dataset, spec), LeRobotReader(dataset, cropped)
    folder = tmp_path / "cache"
    FrameCache.build(folder, before)
    write_json = module.write_json

    def dying(path, data):
        if path.name == "front.json":
            raise Stop
        write_json(path, data)

    monkeypatch.setattr(module, "write_json", dying)
    with pytest.raises(Stop):
        FrameCache.build(folder, after)
    with pytest.raises(BadData):  # the array is the cropped one by now, and of the same shape
        FrameCache.open(folder, before)


def test_a_part_of_another_dataset_is_not_continued(dataset, tmp_path):
    folder, reader = tmp_path / "cache", LeRobotReader(dataset)
    want = np.array(FrameCache.build(folder, reader).arrays["front"])
    note = {"of": json.loads((folder / "front.json").read_text()) | {"dataset": "another"}, "done": 20}
    np.save(folder / "part.npy", np.zeros_like(want))
    (folder / "part.npy").rename(folder / "front.npy.part")
    (folder / "front.progress.json").write_text(json.dumps(note))
    (folder / "front.json").unlink()
    assert (FrameCache.build(folder, reader).arrays["front"] == want).all()


def test_two_builders_decode_once(dataset, tmp_path):
    readers, count = [LeRobotReader(dataset) for _ in range(2)], []
    for reader in readers:
        get = reader.images
        reader.images = lambda role, index, get=get: count.append(len(index)) or get(role, index)
    threads = [threading.Thread(target=FrameCache.build, args=(tmp_path / "cache", r)) for r in readers]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sum(count) == 2 * 35
