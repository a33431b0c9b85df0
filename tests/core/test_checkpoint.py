"""Checkpoint folders: whole or refused, whatever is done to them, and whenever the writer is killed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mindhand.core import folder as folders
from mindhand.core.checkpoint import (
    load_checkpoint,
    load_state,
    save_checkpoint,
    save_state,
)
from mindhand.core.errors import BadCheckpoint, SpecMismatch
from mindhand.core.spec import Camera, Part, Spec

SPEC = Spec(
    robot="toy",
    action=(Part("arm", "joint", ("a", "b"), "rad"), Part("grip", "gripper", ("g",), "1", polarity="open")),
    state=(Part("arm", "joint", ("a", "b"), "rad"),),
    cameras=(Camera("front", 8, 8, (8, 8)),),
    rate=10.0,
)
CONFIG = {
    "slots": {"expert": {"name": "flow", "config": {"width": 8, "steps": [1, 2]}}, "sampler": None},
    "stacks": {"streams": [], "edits": [{"name": "lora", "config": {"rank": 2}}]},
}
STATISTICS = {"action": {"mean": [0.0, 0.1, 0.2], "std": [1.0, 1.0, 0.5]}}


def tensors() -> dict[str, torch.Tensor]:
    shared = torch.arange(6.0).reshape(2, 3)
    return {
        "embed": shared,
        "head": shared,
        "transposed": shared.t(),
        "half": torch.linspace(-1, 1, 5).bfloat16(),
        "ids": torch.tensor([3, 1, 2]),
        "flag": torch.tensor([True, False]),
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 4),
    }


def save(folder: Path, **other) -> None:
    given = {
        "tensors": tensors(),
        "config": CONFIG,
        "spec": SPEC,
        "statistics": STATISTICS,
        "files": {"tokenizer.json": b"{}"},
        "smoke": {"chunk": np.arange(6, dtype=np.float32).reshape(1, 2, 3)},
    }
    save_checkpoint(folder, **{**given, **other})


def test_a_checkpoint_returns_what_was_saved(tmp_path):
    save(tmp_path / "c")
    found = load_checkpoint(tmp_path / "c", SPEC)
    assert found.config == CONFIG
    assert found.spec == SPEC
    assert found.statistics == STATISTICS
    assert found.files == {"tokenizer.json": b"{}"}
    assert found.smoke["chunk"].dtype == np.float32
    for name, x in tensors().items():
        assert found.tensors[name].dtype == x.dtype, name
        assert torch.equal(found.tensors[name], x), name
        assert found.tensors.shape(name) == tuple(x.shape)
    assert set(found.tensors) == set(tensors())


def test_the_same_content_is_the_same_folder(tmp_path):
    save(tmp_path / "a")
    save(tmp_path / "b", tensors=dict(reversed(tensors().items())))
    first, second = (load_checkpoint(tmp_path / x, None).fingerprint for x in "ab")
    assert first == second
    save(tmp_path / "b", statistics={"action": 1})
    assert load_checkpoint(tmp_path / "b", None).fingerprint != first


def test_tied_tensors_are_stored_once(tmp_path):
    save(tmp_path / "c")
    found = load_checkpoint(tmp_path / "c", None)
    assert found.tensors.tied == {"head": "embed"}
    assert "head" not in load_file(tmp_path / "c" / "weights-00001.safetensors")
    # A transposed view is the same memory and another tensor.
    assert "transposed" in load_file(tmp_path / "c" / "weights-00001.safetensors")


def test_shards_stay_small_and_large_tensors_are_cut(tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "SHARD", 20_000)
    many = {f"t{i:03d}": torch.full((37,), float(i)) for i in range(100)}
    big = {"big": torch.arange(30_000, dtype=torch.float32).reshape(30, 1000)}
    save(tmp_path / "c", tensors={**many, **big})
    shards = sorted((tmp_path / "c").glob("weights-*"))
    assert len(shards) > 7
    assert max(s.stat().st_size for s in shards) <= 20_000
    found = load_checkpoint(tmp_path / "c", None)
    assert torch.equal(found.tensors["big"], big["big"])
    assert all(torch.equal(found.tensors[k], v) for k, v in many.items())


def test_real_shards_are_at_most_15_mib(tmp_path):
    save_state(tmp_path / "s", {"x": torch.zeros(5 * 2**20), "y": torch.zeros(3, dtype=torch.int8)})
    sizes = [s.stat().st_size for s in (tmp_path / "s").glob("weights-*")]
    assert len(sizes) == 2
    assert max(sizes) <= 15 * 2**20


def test_every_flipped_byte_is_refused(tmp_path):
    save(tmp_path / "c")
    rng = np.random.default_rng(0)
    for file in sorted((tmp_path / "c").iterdir()):
        good = file.read_bytes()
        for at in {0, len(good) - 2, *rng.integers(len(good), size=12).tolist()}:
            file.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
            with pytest.raises(BadCheckpoint):
                load_checkpoint(tmp_path / "c", SPEC)
        file.write_bytes(good)
    load_checkpoint(tmp_path / "c", SPEC)


def test_truncated_missing_and_extra_files_are_refused(tmp_path):
    save(tmp_path / "c")
    for file in sorted((tmp_path / "c").iterdir()):
        good = file.read_bytes()
        file.write_bytes(good[: len(good) // 2])
        with pytest.raises(BadCheckpoint, match=r"truncated|manifest|damaged"):
            load_checkpoint(tmp_path / "c", None)
        file.unlink()
        with pytest.raises(BadCheckpoint, match=r"missing|manifest"):
            load_checkpoint(tmp_path / "c", None)
        file.write_bytes(good)
    (tmp_path / "c" / "extra.txt").write_text("x")
    with pytest.raises(BadCheckpoint, match=r"extra\.txt"):
        load_checkpoint(tmp_path / "c", None)
    with pytest.raises(BadCheckpoint, match="no such folder"):
        load_checkpoint(tmp_path / "nowhere", None)


def reseal(folder: Path, **change) -> None:
    """Change a folder the way a careful but wrong hand would: hashes and manifest made to agree again."""
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest.update(change)
    files = {}
    for path in sorted(folder.iterdir()):
        if path.name != "manifest.json":
            files[path.name] = {"bytes": path.stat().st_size, "sha256": folders.sha256(path)}
    manifest["files"] = files
    manifest["self"] = folders._digest(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_an_unknown_format_is_refused(tmp_path):
    save(tmp_path / "c")
    reseal(tmp_path / "c", format=2)
    with pytest.raises(BadCheckpoint, match="format 2"):
        load_checkpoint(tmp_path / "c", None)


def test_a_state_is_no_checkpoint_and_the_other_way(tmp_path):
    save(tmp_path / "c")
    save_state(tmp_path / "s", {"step": 1})
    with pytest.raises(BadCheckpoint, match="this is a state"):
        load_checkpoint(tmp_path / "s", None)
    with pytest.raises(BadCheckpoint, match="this is a checkpoint"):
        load_state(tmp_path / "c")


def test_statistics_that_are_absent_or_of_another_robot_are_refused(tmp_path):
    with pytest.raises(BadCheckpoint, match="no statistics"):
        save(tmp_path / "c", statistics={})
    save(tmp_path / "c")
    (tmp_path / "c" / "statistics.json").unlink()
    reseal(tmp_path / "c")
    with pytest.raises(BadCheckpoint, match=r"statistics\.json"):
        load_checkpoint(tmp_path / "c", None)
    other = Spec("other", SPEC.action, SPEC.state, SPEC.cameras, SPEC.rate)
    save(tmp_path / "c")
    save(tmp_path / "d", spec=other)
    shutil.copy(tmp_path / "d" / "statistics.json", tmp_path / "c" / "statistics.json")
    reseal(tmp_path / "c")
    with pytest.raises(BadCheckpoint, match="statistics of spec"):
        load_checkpoint(tmp_path / "c", None)


def test_another_spec_is_refused_and_both_sides_named(tmp_path):
    save(tmp_path / "c")
    other = Spec("toy", SPEC.action, SPEC.state, SPEC.cameras, rate=20.0)
    with pytest.raises(SpecMismatch, match=r"(?s)checkpoint .*rate: 10\.0 \| 20\.0"):
        load_checkpoint(tmp_path / "c", other)


@pytest.mark.parametrize(
    "config",
    [
        {"filters": [{"name": "shield", "config": {}}]},
        {"stacks": {"filters": [{"name": "shield", "config": {}}]}},
        {"wrappers": []},
        {"stacks": {"filters": []}},
        {"slots": {"nose": {"name": "flow", "config": {}}}},
        {"slots": {"expert": {"name": "mindhand.methods.act.flow", "config": {}}}},
        {"slots": {"expert": {"name": "flow"}}},
        {"slots": {"expert": "flow"}},
        {"slots": {"expert": {"name": "flow", "config": {"x": float("nan")}}}},
        {"model": {1: 2}},
        {"model": {"x": object()}},
    ],
)
def test_configs_that_no_loader_could_trust_are_refused(tmp_path, config):
    with pytest.raises(BadCheckpoint):
        save(tmp_path / "c", config=config)
    assert not (tmp_path / "c").exists()


def test_pickled_arrays_never_enter(tmp_path):
    with pytest.raises(BadCheckpoint, match="smoke array"):
        save(tmp_path / "c", smoke={"x": np.array([{}], object)})
    save(tmp_path / "c")
    np.savez(tmp_path / "c" / "smoke.npz", x=np.array([{}], object))
    reseal(tmp_path / "c")
    with pytest.raises(BadCheckpoint, match="unreadable"):
        load_checkpoint(tmp_path / "c", None)


def test_taken_names_are_refused(tmp_path):
    for name in ("config.json", "../x", "weights-1", "manifest.json", ".hidden"):
        with pytest.raises(BadCheckpoint):
            save(tmp_path / "c", files={name: b""})
    with pytest.raises(BadCheckpoint, match="#"):
        save(tmp_path / "c", tensors={"a#0": torch.zeros(1)})


# ---- kills ---------------------------------------------------------------------------------------------

KILLED = """
import os, sys, torch
from pathlib import Path
from mindhand.core.checkpoint import save_state, load_state
home, folder = Path(sys.argv[1]), Path(sys.argv[2])
def attempt(step):
    # Dies for real at the step-th time it touches the file system
    seen = 0
    def hook(event, args):
        nonlocal seen
        touches = event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree")
        if touches or (event == "open" and str(home) in str(args[0])):
            seen += 1
            if seen == step:
                os._exit(9)
    sys.addaudithook(hook)
    save_state(folder, {"step": 2, "x": torch.ones(3)})
    os._exit(0)
def value():
    state = load_state(folder)
    assert state["x"].tolist() == [float(state["step"] - 1)] * 3
    return state["step"]
for step in range(1, 100):
    if sys.argv[3] == "replace":
        save_state(folder, {"step": 1, "x": torch.zeros(3)})
    child = os.fork()
    if not child:
        attempt(step)
    dead = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        print(dead, value())
    except ValueError as refusal:
        print(dead, 0)
    if not dead:
        break
    if sys.argv[3] == "fresh":
        save_state(folder, {"step": 2, "x": torch.ones(3)})  # a later writer is not in the way of the leftovers
        assert value() == 2
        import shutil; shutil.rmtree(folder)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a forked writer")
@pytest.mark.parametrize("how", ["fresh", "replace"])
def test_a_kill_at_any_step_leaves_the_old_or_the_new(tmp_path, how):
    words = [sys.executable, "-c", KILLED, str(tmp_path), str(tmp_path / "s"), how]
    done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    lines = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
    assert lines[-1] == (0, 2)
    killed = [value for dead, value in lines if dead]
    assert len(killed) >= 6
    # never refused where an older one was there, never anything but nothing or the new where none was
    before = 1 if how == "replace" else 0
    assert set(killed) <= {before, 2}
    assert killed == sorted(killed)
    assert before in killed


def test_after_a_replacement_nothing_is_left_beside(tmp_path):
    save(tmp_path / "c")
    save(tmp_path / "c", statistics={"other": 1})
    assert [p.name for p in tmp_path.iterdir()] == ["c"]
    assert load_checkpoint(tmp_path / "c", None).statistics == {"other": 1}


def test_a_folder_whose_replacement_was_killed_is_still_there(tmp_path):
    save_state(tmp_path / "s", {"step": 1})
    os.rename(tmp_path / "s", tmp_path / ".s.old")  # the moment between the two renames
    assert folders.exists(tmp_path / "s")
    assert load_state(tmp_path / "s") == {"step": 1}
    save_state(tmp_path / "s", {"step": 2})
    assert [p.name for p in tmp_path.iterdir()] == ["s"]
    assert not folders.exists(tmp_path / "t")


def test_a_link_stays_a_link(tmp_path):
    save(tmp_path / "real")
    (tmp_path / "latest").symlink_to(tmp_path / "real")
    save(tmp_path / "latest", statistics={"other": 1})
    assert (tmp_path / "latest").is_symlink()
    assert load_checkpoint(tmp_path / "real", None).statistics == {"other": 1}


# ---- into a module -------------------------------------------------------------------------------------
