"""RLDS in TFRecords, written here by hand: numbers, words and pictures of each step, holes and unknown features."""

from __future__ import annotations

import io
import json
import tracemalloc
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mindhand.core.errors import BadData
from mindhand.core.spec import Camera, Part, Spec
from mindhand.data.cache import FrameCache
from mindhand.data.doctor import doctor
from mindhand.data.opening import open_dataset
from mindhand.data.rlds import RLDSReader
from tests.data.test_tfrecord import example, record, sequence

TCP = (Part("tcp", "position", ("x", "y", "z"), "m", frame="base"),)
GRIP = (Part("gripper", "gripper", ("width",), "1", polarity="open"),)
SPEC = Spec("widow", (*TCP, *GRIP), TCP, (Camera("image", 16, 24, (16, 24)),), 5.0)
LENGTHS = (4, 7, 3, 5)
SHARDS = ((0, 1), (2, 3))


def tensor(shape: tuple[int, ...], dtype: str = "float32", encoding: str = "none") -> dict:
    told = {"shape": {"dimensions": [str(d) for d in shape]} if shape else {}, "dtype": dtype, "encoding": encoding}
    return {"pythonClassName": "tensorflow_datasets.core.features.tensor_feature.Tensor", "tensor": told}


def image(shape: tuple[int, ...], encoding: str = "png") -> dict:
    told = {"shape": {"dimensions": [str(d) for d in shape]}, "dtype": "uint8", "encodingFormat": encoding}
    return {"pythonClassName": "tensorflow_datasets.core.features.image_feature.Image", "image": told}


def several(features: dict) -> dict:
    return {
        "pythonClassName": "tensorflow_datasets.core.features.features_dict.FeaturesDict",
        "featuresDict": {"features": features},
    }


TEXT = {"pythonClassName": "tensorflow_datasets.core.features.text_feature.Text", "text": {}}
STEP = {
    "action": tensor((4,)),
    "is_first": tensor((), "bool"),
    "language_instruction": TEXT,
    "observation": several({"state": tensor((3,)), "image": image((16, 24, 3)), "depth": image((16, 24, 1))}),
    "ragged": {"pythonClassName": "x.Sequence", "sequence": {"feature": tensor(()), "length": "-1"}},
}


def declared(step: dict = STEP) -> dict:
    steps = {
        "pythonClassName": "tensorflow_datasets.core.features.dataset_feature.Dataset",
        "sequence": {"feature": several(step), "length": "-1"},
    }
    return several({"steps": steps, "episode_metadata": several({"file_path": TEXT})})


def picture(episode: int, t: int) -> np.ndarray:
    return np.full((16, 24, 3), (60 * episode + 5 * t + 9, 0, 200), np.uint8)


def png(x: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(x).save(out, "png")
    return out.getvalue()


def values(number: int) -> dict:
    """The features of one episode's record."""
    n = LENGTHS[number]
    rng = np.random.Generator(np.random.Philox(number))
    return {
        "episode_metadata/file_path": [b"somewhere"],
        "steps/action": rng.normal(size=n * 4).astype(np.float32),
        "steps/is_first": (np.arange(n) == 0).astype(np.int64),
        "steps/language_instruction": [f"task {number % 2}".encode()] * n,
        "steps/observation/state": rng.normal(size=n * 3).astype(np.float32),
        "steps/observation/image": [png(picture(number, t)) for t in range(n)],
    }


def shard(path: Path, number: int) -> Path:
    return path / f"widow-train.tfrecord-{number:05d}-of-{len(SHARDS):05d}"


def written(path: Path, step: dict = STEP, change=lambda number, x: x) -> Path:
    path.mkdir()
    (path / "features.json").write_text(json.dumps(declared(step)))
    split = {"name": "train", "shardLengths": [str(len(s)) for s in SHARDS], "numBytes": "1"}
    (path / "dataset_info.json").write_text(json.dumps({"name": "widow", "splits": [split]}))
    for i, numbers in enumerate(SHARDS):
        shard(path, i).write_bytes(b"".join(record(example(change(n, values(n)))) for n in numbers))
    return path


def test_numbers_words_and_pictures(tmp_path):
    reader = open_dataset(written(tmp_path / "set"), SPEC)
    assert isinstance(reader, RLDSReader) and len(reader) == sum(LENGTHS) and len(reader.files) == 2
    assert np.array_equal(reader.action, np.concatenate([values(i)["steps/action"].reshape(-1, 4) for i in range(4)]))
    assert np.array_equal(reader.episode(1).state, values(1)["steps/observation/state"].reshape(-1, 3))
    assert [reader.instruction(e.begin) for e in reader.episodes] == ["task 0", "task 1", "task 0", "task 1"]
    want = [picture(i, t) for i, n in enumerate(LENGTHS) for t in range(n)]
    order = np.random.Generator(np.random.Philox(1)).permutation(len(want))
    assert all((p == want[i]).all() for p, i in zip(reader.images("image", order), order))
    assert not reader.has_reasoning and reader.time[5] == np.float32(0.2)


def test_it_is_cached_and_examined_like_any_other(tmp_path):
    path = written(tmp_path / "set")
    assert "states no units" in doctor(path).errors[0].what
    (path / "mindhand.json").write_text(json.dumps({"spec": SPEC.to_json(), "reasoning": "language_instruction"}))
    assert not doctor(path).errors
    reader = open_dataset(path)
    assert reader.has_reasoning and reader.reasoning(5) == "task 1"
    cache = FrameCache.build(tmp_path / "cache", reader)
    assert (cache.images("image", [6])[0] == picture(1, 2)).all()


def test_vectors_are_put_together_by_name(tmp_path):
    """An action of three features, one of them whole bytes and one compressed; a camera and words of other names."""
    step = {k: v for k, v in STEP.items() if k not in ("action", "language_instruction")}
    step["action"] = several(
        {"move": tensor((2,)), "lift": tensor((), "float64", "bytes"), "open": tensor((1,), "bool", "zlib")}
    )

    def change(number: int, x: dict) -> dict:
        a, n = x.pop("steps/action").reshape(-1, 4), LENGTHS[number]
        x.pop("steps/language_instruction")
        x["steps/action/move"] = a[:, :2].reshape(-1)
        x["steps/action/lift"] = [np.float64(v).tobytes() for v in a[:, 2]]
        x["steps/action/open"] = [zlib.compress(np.array([t % 2 == 0]).tobytes()) for t in range(n)]
        return x

    path = written(tmp_path / "set", step, change)
    front = replace(SPEC, cameras=(replace(SPEC.cameras[0], role="front"),))
    about = {
        "spec": front.to_json(),
        "action": ["action/move", "action/lift", "action/open"],
        "cameras": {"front": "observation/image"},
        "task": "open the drawer",
        "drop_last": True,
    }
    (path / "mindhand.json").write_text(json.dumps(about))
    reader = open_dataset(path)
    assert len(reader) == sum(LENGTHS) - len(LENGTHS) and reader.instruction(0) == "open the drawer"
    want = values(1)["steps/action"].reshape(-1, 4)[:-1]
    assert np.allclose(reader.episode(1).action[:, :3], want[:, :3])
    assert reader.episode(1).action[:, 3].tolist() == [1, 0, 1, 0, 1, 0]
    assert (reader.images("front", [3])[0] == picture(1, 0)).all()


def test_a_sequence_example_is_read_too(tmp_path):
    path = written(tmp_path / "set")
    for i, numbers in enumerate(SHARDS):
        data = b""
        for number in numbers:
            x, n = values(number), LENGTHS[number]
            lists = {
                name: list(v.reshape(n, -1)) if isinstance(v, np.ndarray) else [[b] for b in v]
                for name, v in x.items()
                if name.startswith("steps/")
            }
            data += record(sequence({"episode_metadata/file_path": [b"x"]}, lists))
        shard(path, i).write_bytes(data)
    reader = open_dataset(path, SPEC)
    assert np.array_equal(reader.episode(2).action, values(2)["steps/action"].reshape(-1, 4))
    assert (reader.images("image", [4])[0] == picture(1, 0)).all()


def bytes_of(path: Path, change) -> None:
    path.write_bytes(bytes(change(bytearray(path.read_bytes()))))


def flip(at: int):
    def change(data: bytearray) -> bytearray:
        data[at] ^= 1
        return data

    return change


def spoiled(number: int, x: dict, **changes) -> dict:
    return {**x, **changes} if number == 1 else x


def first_record(path: Path) -> None:
    """A file cut off between two records: whole by itself."""
    size = len(record(example(values(2))))
    bytes_of(shard(path, 1), lambda d: d[:size])


RECORDS = {
    "actions cut off": ({"steps/action": np.zeros(24, np.float32)}, r"shape \(6, 4\)"),
    "actions not whole": ({"steps/action": np.zeros(27, np.float32)}, "holds 27 float32"),
    "integers for floats": ({"steps/action": np.zeros(28, np.int64)}, "holds 28 int64"),
    "no actions": ({"steps/action": []}, "holds 0 bytes"),
    "a picture too few": ({"steps/observation/image": [png(picture(1, t)) for t in range(6)]}, "6 pictures"),
    "two instructions": ({"steps/language_instruction": [b"one"] * 3 + [b"two"] * 4}, "2 instructions"),
    "no instruction": ({"steps/language_instruction": []}, "instructions"),
    "no words": ({"steps/language_instruction": [b"\xff\xfe"] * 7}, "no UTF-8"),
}
FILES = {
    "a wrong checksum": (lambda p: bytes_of(shard(p, 1), flip(-9)), "wrong checksum", 3),
    "a wrong length": (lambda p: bytes_of(shard(p, 1), flip(1)), "length of the record", 2),
    "truncated": (lambda p: bytes_of(shard(p, 1), lambda d: d[:-40]), "ends inside the record", 3),
    "cut off between records": (first_record, "holds 1 episodes", 3),
    "a shard missing": (lambda p: shard(p, 1).unlink(), "no file widow-train.tfrecord-00001-of-00002", 2),
}


@pytest.mark.parametrize("name", RECORDS)
def test_records_that_are_not_as_declared_are_refused_or_left_out(tmp_path, name):
    changes, message = RECORDS[name]
    path = written(tmp_path / "set", change=lambda n, x: spoiled(n, x, **changes))
    with pytest.raises(BadData, match=message):
        open_dataset(path, SPEC)
    rest = RLDSReader(path, SPEC, skip=True)
    assert len(rest.episodes) == 3 and len(rest.skipped) == 1
    assert (rest.images("image", [LENGTHS[0]])[0] == picture(2, 0)).all()


@pytest.mark.parametrize("name", FILES)
def test_damaged_files_are_refused_or_left_out(tmp_path, name):
    damage, message, left = FILES[name]
    path = written(tmp_path / "set")
    damage(path)
    with pytest.raises(BadData, match=message):
        open_dataset(path, SPEC)
    rest = RLDSReader(path, SPEC, skip=True)
    assert len(rest.episodes) == left and len(rest.skipped) == 1


def step(**changes) -> dict:
    return {**STEP, **{k: v for k, v in changes.items() if k in STEP},
            "observation": several({**STEP["observation"]["featuresDict"]["features"],
                                    **{k: v for k, v in changes.items() if k not in STEP}})}  # fmt: skip


DECLARED = {
    "unknown dtype": (step(action=tensor((4,), "bfloat16")), "of 'bfloat16'"),
    "unknown encoding": (step(action=tensor((4,), "float32", "rot13")), "encoding 'rot13'"),
    "changing size": (step(state=tensor((-1,))), "has shape (-1,)"),
    "state a picture": (step(state=image((16, 24, 3))), "kind 'image'"),
    "ragged": (step(action=STEP["ragged"]), "kind 'Sequence'"),
    "other picture size": (step(image=image((32, 32, 3))), "(32, 32, 3)"),
    "depth for a picture": (step(image=image((16, 24, 1))), "(16, 24, 1)"),
    "unknown picture": (step(image=image((16, 24, 3), "webp9")), "webp9"),
    "words are numbers": (step(language_instruction=tensor((), "int64")), "of 'int64'"),
}


@pytest.mark.parametrize("name", DECLARED)
def test_what_cannot_be_read_is_refused_by_name(tmp_path, name):
    features, message = DECLARED[name]
    path = written(tmp_path / "set", features)
    with pytest.raises(BadData) as caught:
        open_dataset(path, SPEC)
    assert message in str(caught.value) and caught.value.do


def test_another_spec_and_what_is_not_there(tmp_path):
    path = written(tmp_path / "set")
    with pytest.raises(BadData, match=r"state .* of shape \(4, 3\)"):
        open_dataset(path, replace(SPEC, state=SPEC.action))
    (path / "mindhand.json").write_text(json.dumps({"spec": SPEC.to_json(), "split": "val"}))
    with pytest.raises(BadData, match=r"no split 'val'[\s\S]*train"):
        open_dataset(path)
    (path / "mindhand.json").write_text(json.dumps({"spec": SPEC.to_json(), "state": ["observation/qpos"]}))
    with pytest.raises(BadData, match=r"no feature 'observation/qpos'[\s\S]*observation/state"):
        open_dataset(path)
    (path / "features.json").write_text('{"type": "an.older.FeaturesDict", "content": "{}"}')
    with pytest.raises(BadData, match="declares no steps"):
        open_dataset(path)


def test_memory_is_that_of_an_episode_and_not_of_the_set(tmp_path):
    """Three megabytes in four records: reading them all holds one of them at a time, and keeps none."""
    noise = [np.random.Generator(np.random.Philox(i)).bytes(1 << 18) for i in range(3)]

    def change(number: int, x: dict) -> dict:
        return {**x, "episode_metadata/file_path": [noise[number % 3]] * 3}

    path = written(tmp_path / "set", change=change)
    size = sum(shard(path, i).stat().st_size for i in range(2))
    assert size > 3 << 20
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    reader = open_dataset(path, SPEC)
    kept = tracemalloc.get_traced_memory()[0] - before
    reader.images("image", reader.begins)
    held, peak = (x - before for x in tracemalloc.get_traced_memory())
    tracemalloc.stop()
    assert kept < 1 << 18 and held < 1 << 18
    assert peak < 0.7 * size  # one record, and what its checksum takes
