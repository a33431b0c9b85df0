"""ACT's and DexVLA's HDF5, written here by hand: raw and encoded pictures, thoughts, holes and what nobody stated."""

from __future__ import annotations

import io
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mindhand.core.errors import BadData, BuildError, SpecMismatch
from mindhand.core.spec import Camera, Part, Spec
from mindhand.data.cache import FrameCache
from mindhand.data.doctor import doctor
from mindhand.data.hdf5 import HDF5Reader
from mindhand.data.opening import open_dataset
from mindhand.data.statistics import measure

h5py = pytest.importorskip("h5py", reason="needs the extra: pip install 'mindhand[hdf5]'")

ARM = (Part("arm", "joint", ("a", "b"), "rad"), Part("gripper", "gripper", ("width",), "1", polarity="open"))
SPEC = Spec("viper", ARM, ARM, (Camera("top", 16, 16, (16, 24), interpolation="bilinear", crop=0.9),), 50.0)
LENGTHS = (6, 9, 4)


def picture(episode: int, t: int) -> np.ndarray:
    """Plain red of a level that names the frame: no codec takes it for another, and red is not blue."""
    out = np.zeros((16, 24, 3), np.uint8)
    out[..., 0] = 40 + 60 * episode + 6 * t
    return out


def encoded(image: np.ndarray, kind: str) -> bytes:
    out = io.BytesIO()
    Image.fromarray(image).save(out, kind, **({"quality": 95} if kind == "jpeg" else {}))
    return out.getvalue()


def write_one(path: Path, number: int, how: str = "raw", dexvla: bool = True) -> None:
    n = LENGTHS[number]
    (rng,) = (np.random.Generator(np.random.Philox(number)),)
    pictures = [picture(number, t) for t in range(n)]
    with h5py.File(path, "w") as file:
        file.attrs["sim"], file.attrs["compress"] = False, how != "raw"
        file["observations/qpos"] = rng.normal(size=(n, 3))
        file["observations/qvel"] = rng.normal(size=(n, 3))
        file["action"] = rng.normal(size=(n, 3))
        if how == "raw":
            file["observations/images/top"] = np.stack(pictures)
        elif how == "bytes":
            kind = h5py.vlen_dtype(np.uint8)
            out = file.create_dataset("observations/images/top", (n,), kind)
            for t, p in enumerate(pictures):
                out[t] = np.frombuffer(encoded(p, "png"), np.uint8)
        else:
            data = [np.frombuffer(encoded(p, how), np.uint8) for p in pictures]
            longest = max(map(len, data)) + 7
            file["observations/images/top"] = np.stack([np.pad(x, (0, longest - len(x))) for x in data])
            file["compress_len"] = np.array([[len(x) for x in data]])
        if dexvla:
            file["language_raw"] = np.array([f"fold cloth {number % 2}".encode()])
            file["substep_reasonings"] = np.array([f"step {t // 3}".encode() for t in range(n)])


def written(path: Path, **options) -> Path:
    path.mkdir()
    for i in range(len(LENGTHS)):
        write_one(path / f"episode_{i}.hdf5", i, **options)
    return path


def level(image: np.ndarray) -> int:
    return round(float(image[..., 0].mean()))


@pytest.mark.parametrize("how", ["raw", "jpeg", "png", "bytes"])
def test_numbers_words_and_pictures(tmp_path, how):
    reader = open_dataset(written(tmp_path / "set", how=how), SPEC)
    assert isinstance(reader, HDF5Reader) and len(reader) == sum(LENGTHS)
    want = [picture(i, t) for i, n in enumerate(LENGTHS) for t in range(n)]
    order = np.random.Generator(np.random.Philox(1)).permutation(len(want))
    got = reader.images("top", order)
    assert got.shape == (len(want), 16, 24, 3)
    assert all(abs(level(p) - level(want[i])) <= 1 and p[..., 2].max() < 12 for p, i in zip(got, order))
    with h5py.File(tmp_path / "set/episode_1.hdf5") as file:
        assert np.allclose(reader.state[6:15], file["observations/qpos"][()])
        assert np.allclose(reader.action[6:15], file["action"][()])
    assert [reader.instruction(e.begin) for e in reader.episodes] == ["fold cloth 0", "fold cloth 1", "fold cloth 0"]
    assert reader.has_reasoning and reader.reasoning(6 + 4) == "step 1"
    assert reader.time[7] == np.float32(1 / 50)
    assert len(reader.episode(2)) == 4
    assert measure(reader.vectors(), SPEC).action.count == sum(LENGTHS)


def test_it_is_cached_and_examined_like_any_other(tmp_path):
    path = written(tmp_path / "set", how="jpeg")
    assert "states no units" in doctor(path).errors[0].what
    (path / "mindhand.json").write_text(json.dumps({"spec": SPEC.to_json()}))
    report = doctor(path, sheet=tmp_path / "sheet.png")
    assert not report.errors and report.sheet.exists()
    reader = open_dataset(path)
    cache = FrameCache.build(tmp_path / "cache", reader)
    assert (cache.images("top", [3, 11]) == reader.seen("top", [3, 11])).all()
    before = reader.fingerprint()
    write_one(tmp_path / "new.hdf5", 1, "raw")
    (tmp_path / "new.hdf5").replace(path / "episode_1.hdf5")
    assert open_dataset(path).fingerprint() != before


def test_what_the_format_does_not_say_is_said_beside_it(tmp_path):
    path = written(tmp_path / "set", dexvla=False)
    with pytest.raises(BadData, match="language_raw"):
        open_dataset(path, SPEC)
    renamed = replace(SPEC, cameras=(replace(SPEC.cameras[0], role="front"),))
    about = {
        "spec": renamed.to_json(),
        "task": "fold the cloth",
        "cameras": {"front": "observations/images/top"},
        "state": ["observations/qvel"],
        "colours": "bgr",
    }
    (path / "mindhand.json").write_text(json.dumps(about))
    reader = open_dataset(path)
    assert reader.instruction(0) == "fold the cloth" and not reader.has_reasoning
    assert level(reader.images("front", [0])[0]) == 0 and reader.images("front", [0])[0, 0, 0, 2] == 40
    with h5py.File(path / "episode_0.hdf5") as file:
        assert np.allclose(reader.state[:6], file["observations/qvel"][()])
    with pytest.raises(SpecMismatch):
        open_dataset(path, SPEC)
    for wrong, message in (({"colors": "bgr"}, "colors"), ({"colours": "red"}, "order 'red'")):
        (path / "mindhand.json").write_text(json.dumps({"spec": SPEC.to_json(), **wrong}))
        with pytest.raises(BadData, match=message):
            open_dataset(path)


def change(name: str, make):
    def damage(path: Path) -> None:
        with h5py.File(path / "episode_1.hdf5", "a") as file:
            old = file[name][()] if name in file else None
            del file[name]
            if (new := make(old)) is not None:
                file[name] = new

    return damage


def spoiled(x: np.ndarray) -> np.ndarray:
    x[4, 1] = np.nan
    return x


DAMAGE = {
    "episode missing": (lambda p: (p / "episode_1.hdf5").unlink(), "1 episodes are missing"),
    "no action": (change("action", lambda x: None), "has no 'action'"),
    "no state": (change("observations/qpos", lambda x: None), "has no 'observations/qpos'"),
    "no camera": (change("observations/images/top", lambda x: None), "has no 'observations/images/top'"),
    "other size": (change("action", lambda x: x[:, :2]), r"shape \(9, 2\)"),
    "action cut off": (change("action", lambda x: x[:-2]), r"shape \(7, 3\)"),
    "pictures cut off": (change("observations/images/top", lambda x: x[:-2]), r"are \(7, 16, 24, 3\)"),
    "thoughts cut off": (change("substep_reasonings", lambda x: x[:-2]), "7 thoughts for 9"),
    "other picture size": (change("observations/images/top", lambda x: x[:, ::2]), r"are \(9, 8, 24, 3\)"),
    "two instructions": (change("language_raw", lambda x: np.array([b"one", b"two"])), "2 instructions"),
    "words for numbers": (change("action", lambda x: np.full((9, 3), b"x")), "of |S1"),
    "NaN": (change("action", spoiled), "NaN"),
    "truncated": (
        lambda p: (p / "episode_1.hdf5").write_bytes((p / "episode_1.hdf5").read_bytes()[:-900]),
        "cannot be read",
    ),
    "not HDF5": (lambda p: (p / "episode_1.hdf5").write_bytes(b"no" * 400), "cannot be read"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_refused_or_left_out_and_counted(tmp_path, name):
    damage, message = DAMAGE[name]
    path = written(tmp_path / "set")
    damage(path)
    with pytest.raises(BadData, match=message):
        HDF5Reader(path, SPEC)
    rest = HDF5Reader(path, SPEC, skip=True)
    assert len(rest.episodes) == 2 and len(rest.skipped) == 1
    assert level(rest.images("top", [LENGTHS[0]])[0]) == level(picture(2, 0))


def test_a_picture_that_was_cut_off_is_refused(tmp_path):
    """Zeros behind a picture are padding; zeros in place of its end are not."""
    path = written(tmp_path / "set", how="jpeg")
    with h5py.File(path / "episode_0.hdf5", "a") as file:
        file["observations/images/top"][2, -60:] = 0
    reader = open_dataset(path, SPEC)
    assert len(reader.images("top", [1, 3])) == 2
    with pytest.raises(BadData, match="frame 2 ends before"):
        reader.images("top", [2])


def test_few_files_are_open_at_once(tmp_path, monkeypatch):
    def opened() -> int:
        return h5py.h5f.get_obj_count(h5py.h5f.OBJ_ALL, h5py.h5f.OBJ_FILE)

    monkeypatch.setattr("mindhand.data.lerobot_frames.OPEN", 1)
    before = opened()
    reader = open_dataset(written(tmp_path / "set"), SPEC)
    assert opened() == before
    for begin in reader.begins:
        reader.images("top", [begin])
        assert opened() == before + 1


def test_without_h5py_the_extra_is_named(tmp_path, monkeypatch):
    path = written(tmp_path / "set")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(BuildError, match=r"mindhand\[hdf5\]"):
        open_dataset(path, SPEC)
