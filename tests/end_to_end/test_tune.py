"""`mindhand tune`, the whole story with tiny weights: a dataset, a VLM of others, a policy, a page; stopped and gone on
with; and tuned again on more. What does not fit is refused by both names."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from mindhand import cli
from mindhand.core.checkpoint import load_checkpoint
from mindhand.core.errors import BadCheckpoint, BadData, SpecMismatch
from mindhand.core.keys import Key, Keys
from mindhand.core.spec import Camera, Part, Spec
from mindhand.data.episodes import Episode
from mindhand.data.files import read_rows
from mindhand.data.opening import open_dataset
from mindhand.model.licence import licence_of
from mindhand.model.shipped import shipped
from mindhand.model.store import load_vla
from mindhand.model.tower_hand import TowerHand
from mindhand.recipes import tune as recipe
from mindhand.recipes import tune_start
from mindhand.recipes.tiny import words
from mindhand.recipes.tune import Looks, TuneSource, show_plan, tune_policy
from mindhand.recipes.tune_start import TunePlan, parted
from mindhand.train.loop import Stopped
from tests.data.make import write

transformers = pytest.importorskip("transformers")
JOINT = Part("joint", "joint", ("x", "y"), "m")
SPEC = Spec("point", (JOINT,), (JOINT,), (Camera("front", 16, 16, (16, 16)), Camera("side", 8, 8, (8, 8))), 10.0)
PLAN = TunePlan(steps=4, rows=4, rank=2)
LOOKS = Looks(frames=4, items=1, act=(16, 4))


def episode(index: int, spec: Spec = SPEC, scale: float = 1.0, thoughts: bool = False) -> Episode:
    """A point walks to the left or to the right; a picture shows where it is."""
    (rng,) = Keys.of([Key("walk", "point", index)]).generators()
    side, length = (-1 if index % 2 else 1), 8 + index
    at = np.linspace(0, side, length)[:, None] + rng.normal(size=(length, 2)) * 0.05
    images = {c.role: rng.integers(20, 60, (length, *c.source, 3), dtype=np.uint8) for c in spec.cameras}
    for t, x in enumerate(at[:, 0]):
        images["front"][t, 8, int(np.clip(8 + 7 * x, 0, 15))] = 255
    said = [f"go {'left' if side < 0 else 'right'}"] * length if thoughts else [""] * length
    return Episode(
        images, at * scale, np.roll(at, -1, 0) * scale, f"to the {'left' if side < 0 else 'right'}.", said, True,
        Key("walk", "point", index), {},
    )  # fmt: skip


@pytest.fixture(scope="module")
def demos(tmp_path_factory) -> Path:
    """Eight episodes of two instructions, without thoughts."""
    return write(tmp_path_factory.mktemp("tune") / "demos", [episode(i) for i in range(8)], SPEC)


@pytest.fixture(scope="module")
def qwen(tmp_path_factory) -> Path:
    """A tiny Qwen2-VL as transformers saves it, with a tokenizer and a model card."""
    folder = tmp_path_factory.mktemp("theirs") / "tiny-qwen"
    torch.manual_seed(0)
    text = dict(
        vocab_size=len(words()), hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, rope_parameters={"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]},
    )  # fmt: skip
    eyes = dict(depth=1, num_heads=2, patch_size=4, embed_dim=16, hidden_size=32, mlp_ratio=2)
    config = transformers.Qwen2VLConfig(text_config=text, vision_config=eyes, tie_word_embeddings=True)
    transformers.Qwen2VLForConditionalGeneration(config).save_pretrained(folder)
    (folder / "tokenizer.json").write_bytes(words().to_bytes())
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# tiny")
    return folder


def listening() -> Console:
    return Console(file=io.StringIO(), width=160)


def heard(console: Console) -> str:
    return console.file.getvalue()


class Stopping(TuneSource):
    """A source that asks the training to stop, as Ctrl-C does, once it has given the second batch."""

    def batch(self, vla, step):
        if step == 1:
            import os
            import signal

            os.kill(os.getpid(), signal.SIGTERM)
        return super().batch(vla, step)


@pytest.fixture(scope="module")
def tuned(demos, qwen, tmp_path_factory) -> tuple[Path, str]:
    """A run that was stopped after two of four steps and gone on with by the same command; what it printed."""
    run, console = tmp_path_factory.mktemp("runs") / "mine", listening()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipe, "TuneSource", Stopping)
        with pytest.raises(Stopped):
            tune_policy(demos, qwen, run, PLAN, looks=LOOKS, console=console)
    assert not (run / "checkpoint").exists()
    page = tune_policy(demos, qwen, run, PLAN, looks=LOOKS, console=console)
    assert page == run / "report.html"
    return run, heard(console)


def test_the_whole_story(tuned, demos):
    """Doctor, licence, split, checkpoint, rows, page: all there, and true of each other."""
    run, printed = tuned
    assert (
        "the hand is new" in printed
        and "apache-2.0 (stated in README.md)" in printed
        and "what the model sees" in printed
    )
    plan = json.loads((run / "plan.json").read_text())
    held = plan["held_out"]
    assert 0 < len(held) < 8 and plan["steps"] == 4
    vla = load_vla(run / "checkpoint")
    assert isinstance(vla.expert, TowerHand) and vla.spec == SPEC and vla.expert.config.horizon == 10
    assert licence_of(run / "checkpoint").of == "tiny-qwen"
    card = load_checkpoint(run / "checkpoint", SPEC).files["README.md"].decode()
    assert card.startswith("---\nlicense: apache-2.0\n---") and f"{len(held)} of them held out" in card
    rows = read_rows(run / "open_loop.jsonl")
    assert sorted({r["episode"] for r in rows}) == held
    assert {r["who"] for r in rows} == {"tuned", "small ACT", "last command again", "mean command"}
    assert np.isfinite([r["error"] for r in rows]).all()
    arms = read_rows(run / "language.jsonl")
    assert {r["arm"] for r in arms} == {"blank", "swapped"} and all(min(r["moved"]) >= 0 for r in arms)
    html = (run / "report.html").read_text()
    for word in (
        "joint.x [m]",
        "small ACT",
        "swapped",
        "not measured",
        "data:image/png",
        "apache-2.0",
        "last command repeated",
    ):
        assert word in html
    assert "http" not in html.replace("http-equiv", "").replace("http://www.w3.org", "")


def test_a_stop_changes_nothing(tuned, demos, qwen, tmp_path):
    """A run that nobody stopped ends in the same weights, to the bit; the finished one, asked again, stays what it is;
    another plan is refused there."""
    run, _ = tuned
    tune_policy(demos, qwen, tmp_path / "straight", PLAN, looks=LOOKS)
    a, b = (load_vla(r / "checkpoint").state_dict() for r in (run, tmp_path / "straight"))
    assert all(torch.equal(x, b[n]) for n, x in a.items())
    was = (run / "checkpoint" / "manifest.json").read_bytes()
    tune_policy(demos, qwen, run, PLAN, looks=LOOKS)
    assert (run / "checkpoint" / "manifest.json").read_bytes() == was
    with pytest.raises(BadData, match="of another plan") as told:
        tune_policy(demos, qwen, run, replace(PLAN, seed=1), looks=LOOKS)
    assert "seed: 0 | 1" in str(told.value)


def test_two_processes_of_torchrun_tune_the_same_policy(tuned, demos, qwen, tmp_path):
    """In shares, rows dealt between both; behind the training one of them goes on alone."""
    call = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    call += ["--local-addr", "127.0.0.1", "-m", __name__, str(demos), str(qwen), str(tmp_path / "two")]
    done = subprocess.run(call, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("checkpoint:") == 1 and (tmp_path / "two" / "report.html").exists()
    one, two = (load_vla(folder / "checkpoint").state_dict() for folder in (tuned[0], tmp_path / "two"))
    base = tune_start.build(tune_start.start_of(qwen, SPEC, demos), open_dataset(demos), PLAN).state_dict()
    moved = [n for n in base if base[n].is_floating_point() and not torch.equal(base[n], one[n])]
    apart = sum(float((one[n] - two[n]).abs().sum()) for n in moved)
    assert moved and apart < 0.2 * sum(float((one[n] - base[n]).abs().sum()) for n in moved)


def test_what_is_frozen_stays_and_what_is_held_out_is_not_learned_from(tuned, demos, qwen, tmp_path):
    """By adapters the VLM's own weights are the folder's to the bit; and other commands in the held-out episodes make
    the same policy, statistics included."""
    from mindhand.model.imports import import_folder

    run, _ = tuned
    mine, theirs = load_vla(run / "checkpoint").backbone, import_folder(qwen).vlm()
    kept = {n.replace(".base.", "."): x for n, x in mine.state_dict().items() if "low_" not in n and "hand" not in n}
    own = theirs.state_dict()
    assert kept.keys() == own.keys() and all(torch.equal(x, own[n]) for n, x in kept.items())
    assert any(bool(x.any()) for n, x in mine.state_dict().items() if n.endswith("low_out"))
    held = json.loads((run / "plan.json").read_text())["held_out"]
    other = [replace(e, action=9 + e.action) if i in held else e for i, e in enumerate(map(episode, range(8)))]
    tune_policy(write(tmp_path / "other", other, SPEC), qwen, tmp_path / "run", PLAN, looks=LOOKS)
    for name in ("checkpoint", "act/checkpoint"):
        a, b = (load_vla(r / name) for r in (run, tmp_path / "run"))
        assert a.statistics() == b.statistics()
        assert all(torch.equal(x, b.state_dict()[n]) for n, x in a.state_dict().items())


def test_what_was_held_out_stays_so_when_more_is_recorded(tmp_path):
    """Of 2 to 60 episodes some are held out and some are not; none that was held out of many is learned from later."""
    reader = open_dataset(write(tmp_path / "it", [episode(i) for i in range(60)], SPEC))
    rows, sides = reader.episodes, {}
    for count in (2, 6, 40, 60):
        for seed in range(20):
            reader.episodes = rows[:count]
            held = parted(reader, replace(PLAN, seed=seed))
            assert min(3, count // 2) <= held.sum() < count
            sides[count, seed] = held
    for seed in range(20):
        assert (sides[40, seed] >= sides[60, seed][:40]).all()
    reader.episodes = rows[:1]
    with pytest.raises(BadData, match="of 1 episodes"):
        parted(reader, PLAN)


def test_a_policy_is_tuned_on_with_its_own_statistics(tuned, tmp_path):
    run, _ = tuned
    more = write(tmp_path / "more", [episode(i, scale=0.9) for i in range(8, 14)], SPEC)
    console = listening()
    tune_policy(more, run, tmp_path / "run", replace(PLAN, full=True), looks=LOOKS, console=console)
    before, after = (load_vla(r / "checkpoint") for r in (run, tmp_path / "run"))
    assert "its hand and its statistics are kept" in heard(console)
    assert before.statistics() == after.statistics() and len(before.edits) == len(after.edits)
    name = "backbone.towers.vlm.layers.0.attn.qkv.base.weight"
    assert not torch.equal(before.state_dict()[name], after.state_dict()[name])
    assert licence_of(tmp_path / "run" / "checkpoint") == licence_of(run / "checkpoint")


def test_another_robot_and_other_data_are_refused_by_both_names(tuned, demos, qwen, tmp_path):
    run, _ = tuned
    arm = replace(SPEC, robot="arm", action=(replace(JOINT, names=("x", "z")),))
    foreign = write(tmp_path / "foreign", [episode(i, arm) for i in range(6)], arm)
    with pytest.raises(SpecMismatch, match=f"checkpoint {run / 'checkpoint'}") as told:
        tune_policy(foreign, run / "checkpoint", tmp_path / "a", PLAN)
    assert f"dataset {foreign}" in str(told.value) and "'y' | 'z'" in str(told.value) and "begin with" in told.value.do
    far = write(tmp_path / "far", [episode(i, scale=57.3) for i in range(6)], SPEC)  # degrees for radians
    with pytest.raises(BadData, match=r"outside the statistics of .*joint\.x in"):
        tune_policy(far, run, tmp_path / "b", PLAN)
    info = demos / "meta" / "info.json"
    named = tmp_path / "named"
    shutil.copytree(demos, named)
    said = json.loads(info.read_text())
    said["features"]["action"]["names"] = ["joint.y", "joint.x"]
    (named / "meta" / "info.json").write_text(json.dumps(said))
    with pytest.raises(BadData, match="action"):
        tune_policy(named, qwen, tmp_path / "c", PLAN)


def test_what_is_missing_or_damaged_is_refused(demos, qwen, tmp_path):
    holes = tmp_path / "holes"
    shutil.copytree(demos, holes)
    for file in (holes / "data").rglob("*.parquet"):
        file.write_bytes(file.read_bytes()[:-100])
    console = listening()
    with pytest.raises(BadData, match="errors, the first"):
        tune_policy(holes, qwen, tmp_path / "a", PLAN, console=console)
    assert "error" in heard(console)
    weights = tmp_path / "weights"
    shutil.copytree(qwen, weights)
    (weights / "model.safetensors").unlink()
    with pytest.raises(BadCheckpoint, match="no weights"):
        tune_policy(demos, weights, tmp_path / "b", PLAN)
    with pytest.raises(BadCheckpoint, match="no weights"):
        show_plan(demos, weights, PLAN, listening())
    with pytest.raises(BadCheckpoint, match="neither a checkpoint nor"):
        tune_policy(demos, tmp_path / "nowhere", tmp_path / "c", PLAN)


def test_nano_goes_the_same_way_and_what_it_knows_is_asked(tmp_path):
    """Thoughts are learned where the demonstrations have them, by a mind that is examined before and after."""
    one = replace(SPEC, cameras=SPEC.cameras[:1])
    data = write(tmp_path / "demos", [episode(i, one, thoughts=True) for i in range(6)], one)
    tune_policy(data, shipped(), tmp_path / "run", replace(PLAN, steps=1), looks=LOOKS)
    vla = load_vla(tmp_path / "run" / "checkpoint")
    assert vla.reasoner is not None and vla.see == ("front",)
    html = (tmp_path / "run" / "report.html").read_text()
    assert (
        "What the VLM still knows" in html
        and "The least that is kept" in html
        and "Licence of the backbone nano: apache-2.0" in html
    )


def test_the_verb_plans_and_refuses(demos, qwen, capsys):
    assert cli.main(["tune", str(demos), "--from", str(qwen), "--plan"]) == 0
    out = capsys.readouterr().out
    assert "apache-2.0" in out and "hand's tower" in out and "141 GB" in out
    assert cli.main(["tune", str(demos / "nothing"), "--plan"]) == 2
    assert "no dataset" in capsys.readouterr().err


if __name__ == "__main__":  # what each process of torchrun does
    torch.set_num_threads(1)
    tune_policy(*map(Path, sys.argv[1:]), PLAN, looks=LOOKS, console=Console(width=160))
