"""LeRobot v2.1, written here by hand as its own tools lay it out: read like v3.0, and refused where it has holes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mindhand.core.errors import BadData
from mindhand.data.cache import FrameCache
from mindhand.data.doctor import doctor
from mindhand.data.lerobot_v21 import LeRobotV21
from mindhand.data.opening import open_dataset
from mindhand.data.statistics import measure
from tests.data.test_video import KEY, LENGTHS, SPEC, film, number_of, numbered

TASKS = ("pick the tile", "put the tile down")
DATA = "data/chunk-000/episode_000001.parquet"
FILM = f"videos/chunk-000/{KEY}/episode_000001.mp4"


def lines(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))


def old(path: Path, rate: int = 10) -> Path:
    """Four filmed episodes of `LENGTHS` frames, without a spec; a state is its global frame, an action the next."""
    begins = np.cumsum([0, *LENGTHS])
    (path / "meta").mkdir(parents=True)
    (path / "data/chunk-000").mkdir(parents=True)
    episodes, stats = [], []
    for i, (begin, n) in enumerate(zip(begins, LENGTHS)):
        state = np.arange(begin, begin + n, dtype=np.float32)
        columns = {
            "observation.state": pa.FixedSizeListArray.from_arrays(pa.array(state), 1),
            "action": pa.FixedSizeListArray.from_arrays(pa.array(state + 1), 1),
            "timestamp": pa.array(np.arange(n, dtype=np.float32) / np.float32(10)),
            "frame_index": pa.array(np.arange(n)),
            "episode_index": pa.array(np.full(n, i)),
            "index": pa.array(np.arange(begin, begin + n)),
            "task_index": pa.array(np.full(n, i % 2)),
        }
        pq.write_table(pa.table(columns), path / f"data/chunk-000/episode_{i:06d}.parquet")
        film(
            path / f"videos/chunk-000/{KEY}/episode_{i:06d}.mp4",
            [numbered(j) for j in range(begin, begin + n)],
            "libx264",
            2,
            rate,
        )
        episodes.append({"episode_index": i, "tasks": [TASKS[i % 2]], "length": n})
        ends = {"min": [float(state[0])], "max": [float(state[-1])], "count": [n]}
        later = {"min": [float(state[0] + 1)], "max": [float(state[-1] + 1)], "count": [n]}
        stats.append({"episode_index": i, "stats": {"observation.state": ends, "action": later}})
    lines(path / "meta/episodes.jsonl", episodes)
    lines(path / "meta/episodes_stats.jsonl", stats)
    lines(path / "meta/tasks.jsonl", [{"task_index": i, "task": t} for i, t in enumerate(TASKS)])
    number = {"dtype": "int64", "shape": [1], "names": None}
    joint = {"dtype": "float32", "shape": [1], "names": {"motors": ["x"]}}
    features = {
        "observation.state": joint,
        "action": joint,
        KEY: {"dtype": "video", "shape": [32, 32, 3], "names": ["height", "width", "channels"]},
        "timestamp": {"dtype": "float32", "shape": [1], "names": None},
        **dict.fromkeys(("frame_index", "episode_index", "index", "task_index"), number),
    }
    info = {
        "codebase_version": "v2.1",
        "robot_type": "film",
        "total_episodes": len(LENGTHS),
        "total_frames": sum(LENGTHS),
        "total_tasks": 2,
        "chunks_size": 1000,
        "fps": 10,
        "splits": {"train": f"0:{len(LENGTHS)}"},
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
        "features": features,
    }
    (path / "meta/info.json").write_text(json.dumps(info))
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    return old(tmp_path_factory.mktemp("v21") / "set")


@pytest.fixture
def copy(made, tmp_path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "set"))


def test_it_is_read_like_v3(made, tmp_path):
    reader = open_dataset(made, SPEC)
    assert isinstance(reader, LeRobotV21) and reader.layout == "LeRobot v2.1"
    index = np.arange(sum(LENGTHS))
    assert [number_of(p) for p in reader.images("front", index)] == index.tolist()
    assert [number_of(p) for p in reader.images("front", index[::-7])] == index[::-7].tolist()
    assert (reader.state[:, 0] == index).all() and (reader.action[:, 0] == index + 1).all()
    assert [reader.instruction(e.begin) for e in reader.episodes] == [*TASKS, *TASKS]
    assert not reader.has_reasoning and reader.reasoning(3) == "" and reader.labels() == {}
    assert len(reader.episode(1)) == LENGTHS[1]
    assert measure(reader.vectors(), SPEC).state.max == sum(LENGTHS) - 1
    cache = FrameCache.build(tmp_path / "cache", reader, every=5)
    assert [number_of(p) for p in cache.images("front", cache.frames)] == cache.frames.tolist()


def test_the_doctor_reads_the_spec_beside_it(copy):
    assert "Spec from you" in str(doctor(copy).errors[0].what)
    (copy / "meta/mindhand.json").write_text(json.dumps({"spec": SPEC.to_json()}))
    report = doctor(copy)
    assert not report.errors
    assert {f.check for f in report.findings if f.severity == "warning"} == {"reasoning", "success"}
    assert "v2.1, 4 data files" in next(f.what for f in report.findings if f.check == "format")


def test_a_camera_of_another_name_is_mapped_beside_it(copy):
    info = json.loads((copy / "meta/info.json").read_text())
    info["features"]["observation.images.cam_high"] = info["features"].pop(KEY)
    (copy / "meta/info.json").write_text(json.dumps(info))
    (copy / f"videos/chunk-000/{KEY}").rename(copy / "videos/chunk-000/observation.images.cam_high")
    (copy / "meta/mindhand.json").write_text(json.dumps({"spec": SPEC.to_json()}))
    with pytest.raises(BadData, match="no camera"):
        open_dataset(copy)
    about = {"spec": SPEC.to_json(), "cameras": {"front": "observation.images.cam_high"}}
    (copy / "meta/mindhand.json").write_text(json.dumps(about))
    assert number_of(open_dataset(copy).images("front", [7])[0]) == 7


def edit_info(path: Path, **changes) -> None:
    info = json.loads((path / "meta/info.json").read_text())
    (path / "meta/info.json").write_text(json.dumps(info | changes))


def rename(path: Path, names) -> None:
    info = json.loads((path / "meta/info.json").read_text())
    info["features"]["action"]["names"] = names
    (path / "meta/info.json").write_text(json.dumps(info))


def edit_lines(path: Path, name: str, change) -> None:
    rows = [json.loads(line) for line in (path / name).read_text().splitlines()]
    lines(path / name, change(rows))


def cut(path: Path, keep: slice) -> None:
    table = pq.read_table(path / DATA)
    pq.write_table(table.take(np.arange(len(table))[keep]), path / DATA)


def grown(path: Path) -> None:
    last = path / "data/chunk-000/episode_000003.parquet"
    pq.write_table(pa.concat_tables([pq.read_table(last)] * 2), last)


def hole(path: Path) -> None:
    """A frame in the middle was lost, and everybody but the clock agrees that there never was one."""
    table = pq.read_table(path / DATA)
    time = table["timestamp"].to_numpy().copy()
    time[9:] += np.float32(0.1)
    at = table.column_names.index("timestamp")
    pq.write_table(table.set_column(at, "timestamp", pa.array(time)), path / DATA)


DAMAGE = {
    "no data file": (lambda p: (p / DATA).unlink(), "no file data/chunk-000/episode_000001"),
    "no film": (lambda p: (p / FILM).unlink(), "no file videos"),
    "no episodes": (lambda p: (p / "meta/episodes.jsonl").unlink(), "no file meta/episodes.jsonl"),
    "no tasks": (lambda p: (p / "meta/tasks.jsonl").unlink(), "no file meta/tasks.jsonl"),
    "an episode not listed": (lambda p: edit_lines(p, "meta/episodes.jsonl", lambda r: r[:1] + r[2:]), "episode row 1"),
    "the last not listed": (lambda p: edit_lines(p, "meta/episodes.jsonl", lambda r: r[:-1]), "describes 3 episodes"),
    "a line cut off": (
        lambda p: (p / "meta/episodes.jsonl").write_text((p / "meta/episodes.jsonl").read_text()[:-20]),
        "line 4 of meta/episodes.jsonl",
    ),
    "a task not listed": (lambda p: edit_lines(p, "meta/tasks.jsonl", lambda r: r[1:]), "tasks are numbered"),
    "frames lost at the end": (lambda p: cut(p, slice(0, -3)), "27 frames"),
    "frames too many": (grown, "42 frames"),
    "a hole in time": (hole, "time stamps are off"),
    "other rate": (lambda p: edit_info(p, fps=30), "control rate"),
    "other dimension": (lambda p: rename(p, {"motors": ["elbow"]}), "calls its dimensions"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_holes_are_refused(copy, name):
    damage, message = DAMAGE[name]
    damage(copy)
    with pytest.raises(BadData, match=message):
        open_dataset(copy, SPEC)


def test_a_film_of_another_rate_is_refused(tmp_path):
    with pytest.raises(BadData, match="no frame at"):
        open_dataset(old(tmp_path / "set", rate=12), SPEC).images("front", np.arange(5))


def test_statistics_that_are_missing_or_of_other_data_are_reported(copy):
    (copy / "meta/mindhand.json").write_text(json.dumps({"spec": SPEC.to_json()}))

    def warned() -> str:
        return next((f.what for f in doctor(copy).findings if f.check == "statistics"), "")

    assert warned() == ""
    whole = (copy / "meta/episodes_stats.jsonl").read_text()
    edit_lines(copy, "meta/episodes_stats.jsonl", lambda r: r[:2])
    assert "differ in [2, 3]" in warned()
    (copy / "meta/episodes_stats.jsonl").write_text(whole.replace('"max": [64.0]', '"max": [99.0]'))
    assert "of other data: max of 'action'" in warned()
    (copy / "meta/episodes_stats.jsonl").unlink()
    assert "no file meta/episodes_stats.jsonl" in warned()
    assert doctor(copy).exit_code == 0  # mindhand measures its own


def test_names_of_dimensions_may_be_bare_or_full_or_left_out(copy):
    for names in (["x"], ["joint.x"], {"motors": ["x"]}, None, ["motors", "of", "the", "arm"]):
        rename(copy, names)
        assert len(open_dataset(copy, SPEC)) == sum(LENGTHS)
