"""Datasets that mindhand films itself: what is written, how near it is, and that no kill leaves half of it."""

from __future__ import annotations

import io
import json
import tempfile
from pathlib import Path

import av
import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mindhand.core.errors import BadData
from mindhand.core.spec import Camera, Part, Spec
from mindhand.data import lerobot_film
from mindhand.data.episodes import Episode
from mindhand.data.lerobot_check import TIME_TOLERANCE
from mindhand.data.lerobot_read import LeRobotReader
from mindhand.data.lerobot_stage import staged_files, staged_film
from mindhand.data.lerobot_write import LeRobotWriter
from tests.data.make import make_episode, point_spec, write
from tests.data.test_kill import EXPECTED, finish, run_until

PSNR = 30.0  # dB, of every picture like `smooth`, however small: halved colour costs most of it


def film_spec(rate: float = 10.0, cameras: tuple[tuple[str, int, int], ...] = (("front", 32, 48),)) -> Spec:
    part = Part("joint", "joint", ("x",), "rad")
    return Spec("film", (part,), (part,), tuple(Camera(r, h, w, (h, w)) for r, h, w in cameras), rate)


def smooth(number: int, t: int, h: int, w: int) -> np.ndarray:
    """A shaded ground and a ball that moves, as a desk has them; `number` changes the light."""
    y, x = np.mgrid[0:h, 0:w]
    ground = np.stack([90 + 5 * (number % 8) + 40 * x / w, 110 + 40 * y / h, 100 + 20 * x / w], -1)
    ball = np.exp(-((x - w / 4 - 2 * t) ** 2 + (y - h / 2) ** 2) / (h / 6) ** 2)[..., None]
    return (ground * (1 - ball) + ball * np.array([210, 60, 50])).round().astype(np.uint8)


def filmable(number: int, length: int, spec: Spec) -> Episode:
    return Episode(
        images={c.role: np.stack([smooth(number, t, *c.source) for t in range(length)]) for c in spec.cameras},
        state=np.random.Generator(np.random.Philox(number)).normal(size=(length, 1)).astype(np.float32),
        action=np.full((length, 1), number, np.float32),
        instruction=f"look at {number % 3}",
    )


def sequential(path: Path) -> tuple[list[av.VideoFrame], np.ndarray]:
    """The frames of a film as PyAV decodes them from the beginning, and their pictures."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    return frames, np.stack([f.to_ndarray(format="rgb24") for f in frames])


def films(path: Path, role: str) -> list[Path]:
    return sorted((path / f"videos/observation.images.{role}").rglob("*.mp4"))


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Of the worst picture of (T,h,w,3)."""
    return float(10 * np.log10(255**2 / np.square(a.astype(float) - b).mean((1, 2, 3)).max()))


@settings(max_examples=8, deadline=None)
@given(st.data())
def test_round_trip(data):
    roles = data.draw(st.lists(st.sampled_from(["front", "wrist", "top"]), min_size=1, max_size=3, unique=True))
    sizes = st.sampled_from([(16, 16), (24, 40), (32, 18)])
    spec = film_spec(
        data.draw(st.sampled_from([5.0, 10.0, 12.5, 29.97, 30.0, 50.0])),
        tuple((role, *data.draw(sizes)) for role in roles),
    )
    lengths = data.draw(st.lists(st.integers(1, 7), min_size=1, max_size=5))
    made = [filmable(i, n, spec) for i, n in enumerate(lengths)]
    split = data.draw(st.integers(0, len(made)))  # reopened in the middle
    limit = data.draw(st.sampled_from([1e-4, 0.02, 100]))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "set"
        for part in (made[:split], made[split:]):
            if part:
                write(path, part, spec, video=True, file_mb=limit)
        reader = LeRobotReader(path)
        order = np.random.Generator(np.random.Philox(7)).permutation(len(reader))
        for role in roles:
            pictures = np.concatenate([sequential(file)[1] for file in films(path, role)])
            assert (reader.images(role, order) == pictures[order]).all()
            assert psnr(pictures, np.concatenate([e.images[role] for e in made])) > PSNR
        for episode, e in zip(reader.episodes, made):
            assert reader.state[episode.begin : episode.end].tobytes() == e.state.tobytes()
            assert reader.instruction(episode.begin) == e.instruction


def test_layout_is_that_of_v3(tmp_path):
    spec = film_spec(cameras=(("front", 32, 48), ("wrist", 16, 16)))
    lengths = (3, 4, 6, 5, 2)
    made = [filmable(i, n, spec) for i, n in enumerate(lengths)]
    path = write(tmp_path / "set", made[:3], spec, video=True)
    write(path, made[3:], spec, video=True)
    info = json.loads((path / "meta/info.json").read_text())
    assert info["video_path"] == "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
    assert info["features"]["observation.images.front"] == {
        "dtype": "video",
        "shape": [32, 48, 3],
        "names": ["height", "width", "channels"],
        "info": {
            "video.height": 32,
            "video.width": 48,
            "video.codec": "h264",
            "video.pix_fmt": "yuv420p",
            "video.is_depth_map": False,
            "video.fps": 10,
            "video.channels": 3,
            "has_audio": False,
        },
    }
    table = pq.read_table(path / "data/chunk-000/file-000.parquet")
    assert not [name for name in table.column_names if name.startswith("observation.images")]
    stats = json.loads((path / "meta/stats.json").read_text())
    assert np.array(stats["observation.images.wrist"]["mean"]).shape == (3, 1, 1)
    for role in spec.roles:
        rows = [e.columns for e in LeRobotReader(path).episodes]
        at = [
            [r[f"videos/observation.images.{role}/{name}"] for r in rows]
            for name in ("chunk_index", "file_index", "from_timestamp", "to_timestamp")
        ]
        assert at[:2] == [[0] * 5, [0, 0, 0, 1, 1]]
        assert at[2] == pytest.approx([0, 0.3, 0.7, 0, 0.5])
        assert at[3] == pytest.approx([0.3, 0.7, 1.3, 0.5, 0.7])
        assert [len(sequential(file)[0]) for file in films(path, role)] == [13, 7]
        for e, row in zip(made, rows):
            begin, file = (
                row[f"videos/observation.images.{role}/from_timestamp"],
                films(path, role)[int(e.action[0, 0] > 2)],
            )
            mine = sequential(file)[0][round(begin * 10) :][: len(e)]
            assert [f.time for f in mine] == pytest.approx(begin + np.arange(len(e)) / 10, abs=TIME_TOLERANCE)
            assert [bool(f.key_frame) for f in mine] == [t % 2 == 0 for t in range(len(e))]
            assert (mine[0].format.name, mine[0].width) == ("yuv420p", spec.camera(role).source[1])


def test_files_roll_over_by_size(tmp_path):
    spec = film_spec()
    path = write(tmp_path / "set", [filmable(i, 6, spec) for i in range(9)], spec, video=True, file_mb=0.02)
    data, filmed = sorted((path / "data").rglob("*.parquet")), films(path, "front")
    assert 2 < len(data) == len(filmed) < 9
    assert all(a.stat().st_size + b.stat().st_size < 0.02 * 2**20 for a, b in zip(data, filmed))


def test_rows_and_films_are_one_choice_of_a_dataset(tmp_path):
    spec = film_spec()
    path = write(tmp_path / "set", [filmable(0, 3, spec)], spec, video=True)
    with pytest.raises(BadData, match="recorded with video 'True', not 'False'"):
        LeRobotWriter(path, spec)
    inline = write(tmp_path / "inline", [filmable(0, 3, spec)], spec)
    mine = inline / "meta/mindhand.json"
    told = json.loads(mine.read_text())
    assert told.pop("video") is False
    mine.write_text(json.dumps(told))  # as it was written before there was a choice
    with pytest.raises(BadData, match="recorded with video 'False', not 'True'"):
        LeRobotWriter(inline, spec, video=True)
    write(inline, [filmable(1, 3, spec)], spec)
    assert len(LeRobotReader(inline).episodes) == 2


def test_odd_sizes_are_refused_before_anything_is_written(tmp_path):
    with pytest.raises(BadData, match=r"15x16 of camera 'front' .*\n.*even"):
        LeRobotWriter(tmp_path / "set", film_spec(cameras=(("front", 15, 16),)), video=True)
    assert not (tmp_path / "set").exists()


def refilmed(data: bytes, frames: int, **options: str) -> bytes:
    """The first frames of a film by another encoder's settings."""
    out = io.BytesIO()
    with av.open(io.BytesIO(data)) as film, av.open(out, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=10, options=options)
        stream.height, stream.width, stream.pix_fmt = 32, 48, "yuv420p"
        for _, frame in zip(range(frames), film.decode(video=0)):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame.to_ndarray(format="rgb24"), format="rgb24")))
        container.mux(stream.encode())
    return out.getvalue()


STAGED = {
    "of another encoder": (lambda data: refilmed(data, 4, g="2", bf="0", profile="baseline"), "another encoder"),
    "too short": (lambda data: refilmed(data, 3, g="2", bf="0"), "3 frames in its film and 4 in its table"),
    "cut off": (lambda data: data[: len(data) // 2], "cannot be read"),
}


@pytest.mark.parametrize("name", STAGED)
def test_a_film_that_does_not_belong_is_never_committed(tmp_path, monkeypatch, name):
    damage, message = STAGED[name]
    spec = film_spec()
    writer = LeRobotWriter(tmp_path / "set", spec, video=True)
    writer.append(filmable(0, 4, spec))
    encode = lerobot_film.encode
    with monkeypatch.context() as patched:
        patched.setattr(lerobot_film, "encode", lambda *a: damage(encode(*a)))
        writer.append(filmable(1, 4, spec))
    with pytest.raises(BadData, match=f"(?s)episode 1 .*{message}.*discard"):
        writer.commit()
    assert not (tmp_path / "set/meta/info.json").exists()
    assert not list((tmp_path / "set").rglob("*.mp4"))
    writer.discard(1)
    assert writer.append(filmable(1, 4, spec)) == 1
    writer.finalize()
    assert len(LeRobotReader(tmp_path / "set").episode(1)) == 4


def test_a_staged_episode_is_one_file(tmp_path):
    spec = film_spec(cameras=(("front", 32, 48), ("wrist", 16, 16)))
    writer = LeRobotWriter(tmp_path / "set", spec, video=True)
    writer.append(filmable(0, 4, spec))
    ((_, file),) = staged_files(tmp_path / "set")
    assert [p for p in (tmp_path / "set").rglob("*") if p.is_file() and "incoming" in p.parts] == [file]
    assert staged_film(file, "wrist")[1] == 4
    writer.close()


# ---- kills ----


def check(path: Path, whole: LeRobotReader) -> int:
    """What loads is whole: every episode it counts is the one that a recording in one go has."""
    reader = LeRobotReader(path)
    for i, e in enumerate(reader.episodes):
        got, want = reader.episode(i), whole.episode(i)
        assert got.action.tobytes() == make_episode(i).action.tobytes()
        assert all((got.images[role] == want.images[role]).all() for role in reader.spec.roles)
        assert len(e) == len(make_episode(i))
    return len(reader.episodes)


def only_what_counts(path: Path) -> None:
    """No file on disk that the dataset does not name."""
    reader = LeRobotReader(path)
    assert not list(path.rglob("*.part"))
    assert {p for p, _, _ in reader.files} == set((path / "data").rglob("*.parquet"))
    assert {clip.path for p in reader._cameras.values() for clip in p.clips} == set(path.rglob("*.mp4"))


@pytest.mark.parametrize(("file_mb", "each"), [(100, 1), (1e-4, 5)])  # two commits; a film an episode, every fifth step
def test_killed_at_every_step(tmp_path, monkeypatch, file_mb, each):
    finish(tmp_path / "whole", file_mb, video=True)
    whole, seen = LeRobotReader(tmp_path / "whole"), set()
    for stop in range(0, 200, each):
        path = tmp_path / str(stop)
        if not run_until(path, stop, monkeypatch, file_mb, video=True):
            break
        if (path / "meta/info.json").exists():
            seen.add(check(path, whole))
        else:
            with pytest.raises(BadData, match=r"never finalized|no meta/info\.json"):
                LeRobotReader(path)
            seen.add("refused")
        if stop % 2:  # and killed again while it is taken up, amid the removal of what the first one left
            run_until(path, stop % 7, monkeypatch, file_mb, video=True)
        finish(path, file_mb, video=True)
        assert check(path, whole) == EXPECTED
        only_what_counts(path)
    else:
        raise AssertionError("it never finished")
    assert stop > 20
    assert {"refused", EXPECTED} < seen
    assert LeRobotReader(path).fingerprint() == whole.fingerprint()


def test_films_of_an_unfinished_commit_are_made_anew(tmp_path):
    """Half a film under its final name, beside which no row counts: as a copy that was broken off leaves it."""
    path, spec = tmp_path / "set", point_spec()
    write(path, [make_episode(0)], spec, video=True)
    first = films(path, "front")[0]
    for number in (1, 2):
        first.with_name(f"file-{number:03d}.mp4").write_bytes(first.read_bytes()[:700])
    assert len(LeRobotReader(path).episodes) == 1
    write(path, [make_episode(1)], spec, video=True)
    only_what_counts(path)
    assert len(LeRobotReader(path).episode(1).images["front"]) == len(make_episode(1))
