"""Shipping nano: what every record lets through goes into the package whole, and nothing else touches what is there."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mindhand import cli
from mindhand.core.checkpoint import load_checkpoint
from mindhand.core.errors import Refusal
from mindhand.core.record import write_record
from mindhand.data.files import read_json, write_json
from mindhand.data.synthetic.gates import BARS
from mindhand.model import shipped
from mindhand.model.store import save_vla
from mindhand.model.vla import VLA
from mindhand.recipes import pretrain, ship_nano
from mindhand.recipes.bench_nano import ITEMS
from mindhand.recipes.pretrain import WHOLE
from mindhand.recipes.ship_nano import asset, quoted, ship
from mindhand.worlds.declared import scene_hash
from mindhand.worlds.desk.world import SPEC
from tests.house.tree import ROOT
from tests.model.tiny import vlm


def record(results: Path, name: str, policy: str, count: int = ITEMS, wrong: int = 0) -> None:
    """A record as the bench writes it, of `count` items of which `wrong` were not answered right."""
    measure = name in ("nano/model/parameters", "nano/pretrain/core_seconds")
    kind, field = ("mean", "count") if measure else ("rate", "right")
    said = {"said": "7", "question": "what is it?", "expected": "7", "gate": name.rpartition("/")[2], "chance": 0.1}
    rows = [
        {"key": f"{name}/{k}", "policy": policy, "right": k >= wrong, "count": 50_000, **said}
        for k in range(1 if measure else count)
    ]
    chance = None if measure else "chance"
    write_record(name, rows=rows, field=field, kind=kind, unit="1", chance=chance, sources=[__file__], folder=results)


def plan(run: Path, **changes: object) -> None:
    """The plan of a pretraining in `run`."""
    write_json(run / "plan.json", {**asdict(replace(WHOLE, seed=3)), **changes, "scene": scene_hash()})


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Path, Path, str]:
    """A pretraining, the records that let it through, and the fingerprint of its weights."""
    home = tmp_path_factory.mktemp("ship")
    save_vla(VLA(spec=SPEC, backbone=vlm().bfloat16()), home / "run" / "checkpoint")
    plan(home / "run")
    policy = load_checkpoint(home / "run" / "checkpoint", None).fingerprint
    for name in quoted():
        record(home / "results", name, policy)
    return home / "run", home / "results", policy


@pytest.fixture
def to(made, tmp_path, monkeypatch):
    """ship(...) into a temporary package, as a function of what differs; one picture a gate instead of eight."""
    run, results, _ = made
    monkeypatch.setattr(pretrain, "SHOWN", 1)

    def go(**given) -> Path:
        usual = {"results": results, "page": tmp_path / "docs" / "nano-gallery.html"}
        return ship(run, to=tmp_path / "weights", **{**usual, **given})

    return go


def test_what_is_shipped_is_whole_and_answers(made, to, tmp_path, monkeypatch, capsys):
    run, _, policy = made
    home = to()
    assert sorted(p.name for p in home.iterdir()) == ["LICENSE", "README.md", "checkpoint", "plan.json"]
    assert (home / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert {"manifest.json", "tokenizer.json"} <= {p.name for p in (home / "checkpoint").iterdir()}
    assert read_json(home / "plan.json", "plan") == read_json(run / "plan.json", "plan")
    told = (home / "README.md").read_text()
    for word in ("CC BY 4.0", "<ask>", "<say>", "--seed 3", scene_hash(), "1.000 (0.996 to 1.000)", "Apache-2.0"):
        assert word in told, word
    assert "The plan differs" not in told
    page = tmp_path / "docs" / "nano-gallery.html"
    assert "](../../docs/nano-gallery.html)" in told and page.read_text().count("<figure>") == len(BARS)
    assert [p.name for p in home.parent.iterdir()] == ["nano"], "something is left beside"

    monkeypatch.setattr(shipped, "WEIGHTS", home.parent)
    assert load_checkpoint(shipped.shipped(), None).fingerprint == policy
    Image.fromarray(np.zeros((60, 90, 3), np.uint8)).save(tmp_path / "board.png")
    assert cli.main(["chat", str(tmp_path / "board.png"), "--ask", "what is on the board?"]) == 0
    out, err = capsys.readouterr()
    assert out.count("\n") == 1 and f"{WHOLE.pictures:,} pictures" in err


def test_the_gallery_that_is_shipped_has_a_hundred_items():
    assert pretrain.SHOWN * len(BARS) >= 100


def test_the_row_of_assets_names_the_weights(made, to, monkeypatch):
    home = to()
    monkeypatch.setattr(ship_nano.provenance, "checkout", lambda _: home.parents[1])
    assert asset(home).startswith("| `weights/nano/checkpoint/*` | nano: ")
    assert asset(home).count("|") == 5 and "--seed 3" in asset(home)


@pytest.mark.parametrize(
    ("name", "how", "why"),
    [
        ("nano/gate/box", {"wrong": 101}, r"nano/gate/box: 0\.899, bar 0\.90"),
        ("nano/gate/naming", {"count": 999}, "nano/gate/naming: 999 items of 1000"),
        ("nano/gate/arithmetic_unseen", {"count": 20}, "arithmetic_unseen: 20 items of 1000"),
        ("nano/scorecard/mix_likely", {"policy": "another"}, "mix_likely: of the checkpoint another, and this is"),
        ("nano/pretrain/core_seconds", {"policy": "another"}, "core_seconds: of the checkpoint another"),
        ("nano/scorecard/maths", None, "nano/scorecard/maths: no record"),
        ("nano/model/parameters", None, "nano/model/parameters: no record"),
    ],
)
def test_records_that_ship_nothing(made, to, tmp_path, monkeypatch, name, how, why):
    _, results, policy = made
    home = to()
    (home / "mine").write_text("as it was")
    page = tmp_path / "docs" / "nano-gallery.html"
    page.write_text("as it was")
    records = ship_nano.read_records(results)
    if how is None:
        del records[name]
    else:
        record(tmp_path / "other", name, **{"policy": policy, **how})
        records |= ship_nano.read_records(tmp_path / "other")
    rows_of = ship_nano.read_rows
    monkeypatch.setattr(ship_nano, "read_records", lambda _: records)
    monkeypatch.setattr(
        ship_nano, "read_rows", lambda r, at: rows_of(r, tmp_path / "other" if how and r.name == name else at)
    )
    with pytest.raises(Refusal, match=why) as refused:
        to()
    assert "1 records" in str(refused.value), "only this one is wrong"
    assert (home / "mine").read_text() == page.read_text() == "as it was"
    assert [p.name for p in home.parent.iterdir()] == ["nano"]


def test_weights_that_are_too_large_together(to, tmp_path):
    other = tmp_path / "weights" / "other"
    other.mkdir(parents=True)
    (other / "weights.bin").write_bytes(bytes(10_000))
    home = to()
    small = shipped.shipped_bytes(home) + 10_000
    assert to(most=small) == home, "the weights that are replaced count twice"
    (home / "mine").write_text("as it was")
    with pytest.raises(Refusal, match=f"at most {small - 1:,}"):
        to(most=small - 1)
    assert (home / "mine").exists() and sorted(p.name for p in home.parent.iterdir()) == ["nano", "other"]
    home.rename(home.with_name(".nano.old"))  # shipping was killed between its two renames
    with pytest.raises(Refusal, match=f"at most {small - 1:,}"):
        to(most=small - 1)
    assert (home / "mine").exists() and sorted(p.name for p in home.parent.iterdir()) == ["nano", "other"]
    assert shipped.shipped_bytes(tmp_path / "nothing") == 0


def test_another_plan_than_the_commands_needs_a_note(made, to):
    run, *_ = made
    plan(run, pictures=300_000, ranks=8)
    with pytest.raises(Refusal, match=rf"pictures 300000 for {WHOLE.pictures}\n") as refused:
        to()
    assert "ranks" not in str(refused.value) and "in a note" in str(refused.value)
    told = (to(note="It went on with more pictures.") / "README.md").read_text()
    assert f"pictures 300000 for {WHOLE.pictures}" in told and "It went on with more pictures." in told
    plan(run)
