"""LeRobot v3.0: what is written is read, and nothing else is."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mindhand.core.errors import BadData, Refusal, SpecMismatch
from mindhand.core.keys import Key, Keys
from mindhand.core.spec import Camera, Part, Spec
from mindhand.data.episodes import Episode
from mindhand.data.lerobot_read import LeRobotReader
from mindhand.data.lerobot_write import LeRobotWriter
from tests.data.make import make_episode, point_spec, write


def equal(a: Episode, b: Episode) -> None:
    for name in ("instruction", "success", "key", "reasoning"):
        assert getattr(a, name) == getattr(b, name), name
    assert a.state.tobytes() == b.state.tobytes()
    assert a.action.tobytes() == b.action.tobytes()
    assert {k: v.tobytes() for k, v in a.labels.items()} == {k: v.tobytes() for k, v in b.labels.items()}
    assert set(a.images) == set(b.images)
    for role in a.images:
        assert (a.images[role] == b.images[role]).all()


WORDS = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"), max_size=12)


@st.composite
def specs(draw) -> Spec:
    joints = tuple(f"j{i}" for i in range(draw(st.integers(1, 4))))
    cameras = [
        Camera(role, h, w, (h, w))
        for role in draw(st.lists(st.sampled_from(["front", "wrist", "top"]), max_size=2, unique=True))
        for h, w in [(draw(st.integers(1, 9)), draw(st.integers(1, 9)))]
    ]
    part = Part("joint", "joint", joints, "rad")
    return Spec("arm", (part,), (part,), tuple(cameras), draw(st.sampled_from([5.0, 20.0, 50.0, 12.5])))


@st.composite
def episodes(draw, spec: Spec) -> Episode:
    length = draw(st.integers(1, 6))
    (rng,) = Keys.seeded(1, "episode", draw(st.integers(0, 1 << 30))).generators()
    key = draw(st.none() | st.builds(Key, WORDS, WORDS, st.integers(0, 99), st.integers(0, 9)))
    return Episode(
        images={c.role: rng.integers(0, 256, (length, *c.source, 3), dtype=np.uint8) for c in spec.cameras},
        state=rng.normal(size=(length, spec.state_size)).astype(np.float32),
        action=rng.normal(size=(length, spec.action_size)).astype(np.float32),
        instruction=draw(WORDS),
        reasoning=draw(st.lists(WORDS, min_size=length, max_size=length)),
        success=draw(st.none() | st.booleans()),
        key=key,
        labels={"gaze": np.where(rng.random((length, 2)) < 0.3, np.nan, 3.0), "depth": rng.random((length, 1))},
    )


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_round_trip(data):
    spec = data.draw(specs())
    written = data.draw(st.lists(episodes(spec), min_size=1, max_size=4))
    split = data.draw(st.integers(0, len(written)))  # reopened in the middle
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "set"
        for part in (written[:split], written[split:]):
            if part:
                write(path, part, spec, labels={"gaze": 2, "depth": 1}, file_mb=data.draw(st.sampled_from([1e-4, 100])))
        reader = LeRobotReader(path)
        assert reader.spec == spec
        assert reader.label("touch") is None
        assert len(reader) == sum(len(e) for e in written)
        for i, episode in enumerate(written):
            equal(reader.episode(i), episode)


def test_random_access(dataset):
    reader = LeRobotReader(dataset)
    whole = {
        role: np.concatenate([make_episode(i, 5 + i, task="pick" if i % 2 else "push").images[role] for i in range(5)])
        for role in reader.spec.roles
    }
    index = np.array([34, 0, 17, 17, 5, 4])
    for role in reader.spec.roles:
        assert (reader.images(role, index) == whole[role][index]).all()
        assert reader.images(role, []).shape == (0, *reader.spec.camera(role).source, 3)
    assert reader.instruction(5) == "pick the tile"
    assert reader.reasoning(5 + 4) == "step 1"
    for bad in (-1, 35):
        with pytest.raises(BadData):
            reader.images("front", [bad])
    with pytest.raises(SpecMismatch):
        reader.images("side", [0])


def test_files_roll_over_by_size(tmp_path):
    made = [make_episode(i) for i in range(12)]
    path = write(tmp_path / "set", made, file_mb=0.05)
    files = sorted((path / "data").rglob("*.parquet"))
    assert len(files) > 2
    counts = [pq.ParquetFile(f).num_row_groups for f in files]
    assert len(set(counts[:-1])) == 1  # all but the last are equally full: none was begun for what was left over
    assert counts[0] > 1
    assert all(f.stat().st_size < 0.06 * 2**20 for f in files)
    assert len(LeRobotReader(path).files) == len(files)
    equal(LeRobotReader(path).episode(5), made[5])


def test_layout_is_that_of_v3(dataset):
    assert {str(p.relative_to(dataset)) for p in dataset.rglob("*") if p.is_file()} == {
        "meta/info.json",
        "meta/stats.json",
        "meta/tasks.parquet",
        "meta/mindhand.json",
        "meta/episodes/chunk-000/file-000.parquet",
        "data/chunk-000/file-000.parquet",
    }
    info = json.loads((dataset / "meta/info.json").read_text())
    assert (info["codebase_version"], info["fps"], info["splits"]) == ("v3.0", 10, {"train": "0:5"})
    assert type(info["fps"]) is int
    table = pq.read_table(dataset / "data/chunk-000/file-000.parquet")
    assert list(info["features"]) == table.column_names
    assert table.schema.field("action").type == pa.list_(pa.float32(), 3)
    assert table["index"].to_pylist() == list(range(35))
    assert table["frame_index"].to_pylist()[5:11] == [0, 1, 2, 3, 4, 5]
    assert table["timestamp"].to_pylist()[6] == pytest.approx(0.1)
    tasks = pq.read_table(dataset / "meta/tasks.parquet")
    pandas = json.loads(tasks.schema.metadata[b"pandas"])
    assert [c["field_name"] for c in pandas["columns"]] == ["task_index", "__index_level_0__"]  # pandas needs both
    assert tasks[pandas["index_columns"][0]].to_pylist() == ["push the tile", "pick the tile"]
    episodes = pq.read_table(dataset / "meta/episodes/chunk-000/file-000.parquet")
    assert episodes["dataset_from_index"].to_pylist() == [0, 5, 11, 18, 26]
    assert episodes["dataset_to_index"].to_pylist() == [5, 11, 18, 26, 35]
    assert episodes["success"].to_pylist() == [False, True, True, False, True]


def test_stats_are_those_of_the_data(dataset):
    stats, reader = json.loads((dataset / "meta/stats.json").read_text()), LeRobotReader(dataset)
    assert stats["action"]["count"] == [35]
    for name, value in (("mean", reader.action.mean(0)), ("std", reader.action.std(0)), ("max", reader.action.max(0))):
        assert stats["action"][name] == pytest.approx(value.tolist(), rel=1e-5)
    pixels = np.concatenate([reader.episode(i).images["front"] for i in range(5)]) / 255
    got = np.array(stats["observation.images.front"]["mean"])
    assert got.shape == (3, 1, 1)
    assert got[:, 0, 0] == pytest.approx(pixels.mean((0, 1, 2)), rel=1e-9)
    std = np.array(stats["observation.images.front"]["std"])[:, 0, 0]
    assert std == pytest.approx(pixels.std((0, 1, 2)), rel=1e-9)
    assert set(stats["action"]) == {"min", "max", "mean", "std", "count", "q01", "q10", "q50", "q90", "q99"}


def test_writer_refuses_what_does_not_belong(dataset, tmp_path):
    other = replace(point_spec(), robot="other")
    with pytest.raises(SpecMismatch, match="other"):
        LeRobotWriter(dataset, other, scene="s1")
    with pytest.raises(BadData, match="scene"):
        LeRobotWriter(dataset, point_spec(), scene="s2")
    with pytest.raises(BadData, match="Hz"):
        LeRobotWriter(tmp_path / "new", point_spec(), fps=30)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letters.txt").write_text("mine")
    with pytest.raises(BadData, match=r"letters\.txt"):
        LeRobotWriter(tmp_path / "full", point_spec())
    with LeRobotWriter(dataset, point_spec(), scene="s1"), pytest.raises(BadData, match="another writer"):
        LeRobotWriter(dataset, point_spec(), scene="s1")
    with pytest.raises(BadData, match="no episode"), LeRobotWriter(tmp_path / "empty", point_spec()):
        pass


def test_commands_that_wrote_it_are_listed(tmp_path):
    path = write(tmp_path / "set", [make_episode(0)], command="first")
    write(path, [make_episode(1)], command="second")
    write(path, [make_episode(2)], command="second")
    assert LeRobotReader(path).about["commands"] == ["first", "second"]


# ---- every refusal of the reader, each built ----


def edit_info(path: Path, **changes) -> None:
    info = json.loads((path / "meta/info.json").read_text())
    (path / "meta/info.json").write_text(json.dumps(info | changes))


def edit_data(path: Path, name: str, change) -> None:
    """Rewrites a column of the data file: values -> values."""
    file = path / "data/chunk-000/file-000.parquet"
    table = pq.read_table(file)
    field = table.schema.get_field_index(name)
    values = change(table[name].to_pylist())
    pq.write_table(
        table.set_column(field, table.schema.field(name), pa.array(values, table.schema.field(name).type)), file
    )


def put(values: list, at: int, value) -> list:
    return [*values[:at], value, *values[at + 1 :]]


def nan_in(values: list) -> list:
    return put(values, 12, [float("nan"), *values[12][1:]])


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-200])


def features(path: Path, name: str, **changes) -> None:
    info = json.loads((path / "meta/info.json").read_text())
    info["features"][name] |= changes
    (path / "meta/info.json").write_text(json.dumps(info))


DATA, EPISODES = "data/chunk-000/file-000.parquet", "meta/episodes/chunk-000/file-000.parquet"
DAMAGE = {
    "older version": (lambda p: edit_info(p, codebase_version="v2.1"), "v2.1"),
    "no info": (lambda p: (p / "meta/info.json").unlink(), "info.json"),
    "never finalized": (lambda p: ((p / "meta/info.json").unlink(), (p / "incoming").mkdir()), "never finalized"),
    "info not JSON": (lambda p: truncate(p / "meta/info.json"), "not JSON"),
    "info incomplete": (lambda p: (p / "meta/info.json").write_text('{"codebase_version": "v3.0"}'), "lacks"),
    "no data": (lambda p: (p / DATA).unlink(), "no file data"),
    "data truncated": (lambda p: truncate(p / DATA), "truncated"),
    "no tasks": (lambda p: (p / "meta/tasks.parquet").unlink(), "tasks"),
    "no episodes": (lambda p: (p / EPISODES).unlink(), "0 episodes"),
    "episodes truncated": (lambda p: truncate(p / EPISODES), "truncated"),
    "episode lost": (lambda p: edit_info(p, total_episodes=6), "describes 5"),
    "frames lost": (lambda p: edit_info(p, total_frames=36), "36"),
    "NaN action": (lambda p: edit_data(p, "action", nan_in), r"'action' holds 1 NaN .* frame 1 of episode 2"),
    "NaN state": (lambda p: edit_data(p, "observation.state", nan_in), "NaN"),
    "index gap": (lambda p: edit_data(p, "index", lambda v: [i + (i > 7) for i in v]), "index of row 8 is 9"),
    "frame order": (lambda p: edit_data(p, "frame_index", lambda v: put(v, 3, 9)), "frame_index of row 3"),
    "episode mixed": (lambda p: edit_data(p, "episode_index", lambda v: put(v, 6, 0)), "episode_index"),
    "dropped frames": (lambda p: edit_data(p, "timestamp", lambda v: put(v, 3, 0.4)), "time stamps"),
    "unknown task": (lambda p: edit_data(p, "task_index", lambda v: put(v, 3, 5)), "task_index"),
    "other rate": (lambda p: edit_info(p, fps=30), "control rate"),
    "no camera": (lambda p: features(p, "observation.images.wrist", dtype="float32"), "no camera"),
    "other picture size": (lambda p: features(p, "observation.images.front", shape=[32, 32, 3]), "source size"),
    "other action size": (lambda p: features(p, "action", shape=[7]), r"\[3\]"),
    "names in another order": (
        lambda p: features(p, "action", names=["joint.y", "joint.x", "gripper.width"]),
        "dimension 0 is 'joint.y'",
    ),
    "no mandatory": (lambda p: features(p, "index", dtype="float32"), "'index'"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_refused(dataset, name):
    damage, message = DAMAGE[name]
    LeRobotReader(dataset)
    damage(dataset)
    with pytest.raises(BadData, match=message):
        LeRobotReader(dataset)


def test_rows_cut_off_are_refused(dataset):
    table = pq.read_table(dataset / DATA)
    pq.write_table(table.slice(0, 30), dataset / DATA)
    with pytest.raises(BadData, match="30 frames"):
        LeRobotReader(dataset)


def test_a_damaged_picture_is_refused(dataset):
    edit_data(dataset, "observation.images.front", lambda v: put(v, 9, {"bytes": v[9]["bytes"][:60], "path": ""}))
    edit_data(dataset, "observation.images.wrist", lambda v: put(v, 9, {"bytes": None, "path": None}))
    edit_data(dataset, "observation.images.wrist", lambda v: put(v, 10, {"bytes": v[10]["bytes"], "path": ""}))
    reader = LeRobotReader(dataset)
    with pytest.raises(BadData, match=r"frame 9 .* cannot be decoded"):
        reader.images("front", [9])
    with pytest.raises(BadData, match="holds no picture"):
        reader.images("wrist", [9])
    assert len(reader.images("wrist", [10])) == 1


def test_a_picture_of_another_size_is_refused(dataset):
    edit_data(
        dataset,
        "observation.images.front",
        lambda v: put(
            v, 9, {"bytes": pq.read_table(dataset / DATA)["observation.images.wrist"][9].as_py()["bytes"], "path": ""}
        ),
    )
    with pytest.raises(BadData, match=r"frame 9 is a picture of \(8, 8, 3\)"):
        LeRobotReader(dataset).images("front", [8, 9])


def test_foreign_sets_need_a_spec(dataset):
    (dataset / "meta/mindhand.json").unlink()
    with pytest.raises(BadData, match="another tool"):
        LeRobotReader(dataset)
    reader = LeRobotReader(dataset, point_spec())
    assert reader.episodes[0].key is None
    assert reader.spec == point_spec()
    with pytest.raises(BadData, match=r"holds data"):
        LeRobotWriter(dataset, point_spec())


def test_roles_can_be_mapped_and_are_never_guessed(dataset):
    (dataset / "meta/mindhand.json").unlink()
    spec = point_spec()
    renamed = replace(spec, cameras=(replace(spec.cameras[0], role="top"), spec.cameras[1]))
    with pytest.raises(BadData, match=r"role 'top'"):
        LeRobotReader(dataset, renamed)
    reader = LeRobotReader(dataset, renamed, cameras={"top": "observation.images.front"})
    assert (reader.images("top", [3]) == LeRobotReader(dataset, spec).images("front", [3])).all()


def test_another_spec_than_the_stored_one_is_refused(dataset):
    with pytest.raises(SpecMismatch, match="rate"):
        LeRobotReader(dataset, point_spec(rate=20.0))


def test_fingerprint_names_the_content(dataset, tmp_path):
    first = LeRobotReader(dataset).fingerprint()
    shutil.copytree(dataset, tmp_path / "copy")
    assert LeRobotReader(tmp_path / "copy").fingerprint() == first
    write(dataset, [make_episode(9)], scene="s1")
    assert LeRobotReader(dataset).fingerprint() != first


def test_all_problems_are_listed_without_refusing(dataset):
    edit_data(dataset, "action", nan_in)
    edit_data(dataset, "timestamp", lambda v: put(v, 3, 0.4))
    assert len(LeRobotReader(dataset, refuse=False).problems) == 2
    with pytest.raises(Refusal):
        LeRobotReader(dataset)
