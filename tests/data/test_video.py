"""Datasets whose pictures lie in mp4 files: the right frame, found by time, in any order."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mindhand.core.errors import BadData
from mindhand.core.spec import Camera, Part, Spec
from mindhand.data.cache import FrameCache
from mindhand.data.doctor import doctor
from mindhand.data.episodes import Episode
from mindhand.data.lerobot_read import LeRobotReader
from tests.data.make import write

SPEC = Spec(
    robot="film",
    action=(Part("joint", "joint", ("x",), "rad"),),
    state=(Part("joint", "joint", ("x",), "rad"),),
    cameras=(Camera("front", 32, 32, (32, 32)),),
    rate=10.0,
)
LENGTHS = (5, 30, 8, 21)
KEY = "observation.images.front"
BLOCKS = 4  # a frame shows its number as BLOCKS x BLOCKS black and white squares: legible after any codec


def numbered(number: int) -> np.ndarray:
    bits = [(number >> b) & 1 for b in range(BLOCKS * BLOCKS)]
    squares = np.array(bits, np.uint8).reshape(BLOCKS, BLOCKS) * 200 + 25
    return squares.repeat(8, 0).repeat(8, 1)[..., None].repeat(3, 2)


def number_of(picture: np.ndarray) -> int:
    squares = picture.reshape(BLOCKS, 8, BLOCKS, 8, 3).mean((1, 3, 4)) > 125
    return sum(1 << i for i, on in enumerate(squares.reshape(-1)) if on)


def film(path: Path, pictures: list[np.ndarray], codec: str, gap: int, rate: int = 10) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=rate)
        stream.width = stream.height = 32
        stream.pix_fmt, stream.gop_size = "yuv420p", gap
        for picture in pictures:
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                out.mux(packet)
        for packet in stream.encode():
            out.mux(packet)


def filmed(path: Path, codec: str = "libx264", gap: int = 12, rate: int = 10) -> Path:
    """A dataset written inline, its pictures then moved into two mp4 files of two episodes each."""
    begins = np.cumsum([0, *LENGTHS])
    episodes = [
        Episode(
            images={"front": np.stack([numbered(i) for i in range(b, b + n)])},
            state=np.arange(n, dtype=np.float32)[:, None],
            action=np.zeros((n, 1), np.float32),
            instruction="look",
        )
        for b, n in zip(begins, LENGTHS)
    ]
    write(path, episodes, SPEC)
    data = path / "data/chunk-000/file-000.parquet"
    pq.write_table(pq.read_table(data).drop_columns([KEY]), data)
    table = pq.read_table(path / "meta/episodes/chunk-000/file-000.parquet")
    first = sum(LENGTHS[:2])
    columns = {
        "chunk_index": [0] * 4,
        "file_index": [0, 0, 1, 1],
        "from_timestamp": [0.0, LENGTHS[0] / 10, 0.0, LENGTHS[2] / 10],
    }
    for name, values in columns.items():
        table = table.append_column(f"videos/{KEY}/{name}", pa.array(values))
    pq.write_table(table, path / "meta/episodes/chunk-000/file-000.parquet")
    info = json.loads((path / "meta/info.json").read_text())
    info["video_path"] = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
    info["features"][KEY]["dtype"] = "video"
    (path / "meta/info.json").write_text(json.dumps(info))
    for number, (begin, end) in enumerate(((0, first), (first, sum(LENGTHS)))):
        pictures = [numbered(i) for i in range(begin, end)]
        film(path / f"videos/{KEY}/chunk-000/file-{number:03d}.mp4", pictures, codec, gap, rate)
    return path


@pytest.mark.parametrize(("codec", "gap"), [("libx264", 2), ("libx264", 250), ("mpeg4", 12)])
def test_every_frame_in_any_order(tmp_path, codec, gap):
    reader = LeRobotReader(filmed(tmp_path / "set", codec, gap))
    total = sum(LENGTHS)
    index = np.arange(total)
    assert [number_of(p) for p in reader.images("front", index)] == index.tolist()
    backwards = [number_of(reader.images("front", [i])[0]) for i in index[::-1]]
    assert backwards == index[::-1].tolist()
    shuffled = np.random.Generator(np.random.Philox(1)).permutation(np.repeat(index, 2))
    for part in np.split(shuffled, 8):
        assert [number_of(p) for p in reader.images("front", part)] == part.tolist()
    assert len(reader.episode(1).images["front"]) == LENGTHS[1]


def test_it_is_cached_like_any_other(tmp_path):
    reader = LeRobotReader(filmed(tmp_path / "set"))
    cache = FrameCache.build(tmp_path / "cache", reader, every=3)
    assert [number_of(p) for p in cache.arrays["front"]] == cache.frames.tolist()


def test_missing_truncated_and_foreign_films_are_refused(tmp_path):
    path = filmed(tmp_path / "set")
    film_path = path / f"videos/{KEY}/chunk-000/file-001.mp4"
    before, whole = LeRobotReader(path).fingerprint(), film_path.read_bytes()
    film_path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadData, match=r"cannot be opened|ends before"):
        LeRobotReader(path).images("front", [sum(LENGTHS) - 1])
    assert LeRobotReader(path).fingerprint() != before
    film(film_path, [numbered(i) for i in range(20)], "libx264", 12)
    with pytest.raises(BadData, match="ends before"):
        LeRobotReader(path).images("front", [sum(LENGTHS) - 1])
    film_path.unlink()
    with pytest.raises(BadData, match="no file videos"):
        LeRobotReader(path)


def test_another_frame_rate_is_refused(tmp_path):
    """Filmed at 12 frames a second and declared as 10: frames would slip without a word."""
    path = filmed(tmp_path / "set", rate=12)
    with pytest.raises(BadData, match="no frame at"):
        LeRobotReader(path).images("front", np.arange(5))


def test_another_picture_size_is_refused(tmp_path):
    path = filmed(tmp_path / "set")
    info = json.loads((path / "meta/info.json").read_text())
    info["features"][KEY]["shape"] = [3, 32, 32]
    info["features"][KEY]["names"] = ["channels", "height", "width"]
    (path / "meta/info.json").write_text(json.dumps(info))
    assert LeRobotReader(path).images("front", [0]).shape == (1, 32, 32, 3)  # channels first is told by the names
    small = [numbered(i)[::2, ::2] for i in range(60)]
    shutil.rmtree(path / "videos")
    for number in range(2):
        out = path / f"videos/{KEY}/chunk-000/file-{number:03d}.mp4"
        out.parent.mkdir(parents=True, exist_ok=True)
        with av.open(str(out), "w") as container:
            stream = container.add_stream("libx264", rate=10)
            stream.width = stream.height = 16
            for picture in small:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode())
    with pytest.raises(BadData, match=r"\(16, 16, 3\)"):
        LeRobotReader(path).images("front", [0])


def zeroed(file: Path) -> None:
    """Nothing where the frames of the second half were; the index at the end still names them."""
    data = bytearray(file.read_bytes())
    begin, end = data.find(b"mdat") + 4, data.find(b"moov") - 4
    data[(begin + end) // 2 : end] = bytes(end - (begin + end) // 2)
    file.write_bytes(data)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def one_too_few(file: Path) -> None:
    film(file, [numbered(i) for i in range(35, 63)], "libx264", 12)


DAMAGE = {
    "frames zeroed": (zeroed, "cannot be decoded"),
    "cut off": (cut, "truncated"),
    "one frame too few": (one_too_few, "ends before 2.8000 s"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_found_by_reader_cache_and_doctor(tmp_path, name):
    damage, message = DAMAGE[name]
    path = filmed(tmp_path / "set", gap=2)
    assert not [f for f in doctor(path).findings if f.check == "pictures" and f.severity == "error"]
    damage(path / f"videos/{KEY}/chunk-000/file-001.mp4")
    reader = LeRobotReader(path)
    assert number_of(reader.images("front", [3])[0]) == 3
    with pytest.raises(BadData, match=message):
        reader.images("front", np.arange(len(reader)))
    with pytest.raises(BadData, match=message):
        FrameCache.build(tmp_path / "cache", reader)
    (error,) = [f.what for f in doctor(path).findings if f.check == "pictures" and f.severity == "error"]
    assert message in error
    assert all(part in error for part in ("file-001.mp4", "expected:", "next step:"))


def test_a_table_that_does_not_say_where_films_lie_is_refused(tmp_path):
    path = filmed(tmp_path / "set")
    info = (path / "meta/info.json").read_text()
    (path / "meta/info.json").write_text(json.dumps(json.loads(info) | {"video_path": None}))
    with pytest.raises(BadData, match="no video_path"):
        LeRobotReader(path)
    (path / "meta/info.json").write_text(info)
    table = path / "meta/episodes/chunk-000/file-000.parquet"
    pq.write_table(pq.read_table(table).drop_columns([f"videos/{KEY}/from_timestamp"]), table)
    with pytest.raises(BadData, match="does not say where the video"):
        LeRobotReader(path)
