"""A VLM goes on only where the same scenes and phrasings are declared as where it was pretrained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mindhand import cli
from mindhand.core.checkpoint import load_checkpoint
from mindhand.core.errors import SpecMismatch
from mindhand.data.files import read_json, write_json
from mindhand.data.synthetic import questions, toy_questions
from mindhand.model.store import save_vla
from mindhand.model.vla import VLA
from mindhand.recipes import bases
from mindhand.recipes.bases import FILE, declared, of_this_world
from mindhand.recipes.chatvla2 import ChatVLA2Plan, build
from mindhand.recipes.nano import NanoPlan, pretrain_nano
from mindhand.recipes.variants import OURS
from mindhand.worlds.declared import scene_hash
from mindhand.worlds.desk.world import SPEC
from tests.model.tiny import vlm


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("nano")
    pretrain_nano(run, NanoPlan(size="test", pictures=4, pages=0, rows=4, producers=0, ranks=1))
    return run / "checkpoint"


def test_a_pretraining_keeps_what_was_declared(base):
    assert json.loads(load_checkpoint(base, None).files[FILE]) == declared()
    assert declared()["scene"] == scene_hash() == read_json(base.parent / "plan.json", "plan")["scene"]
    assert of_this_world(base) == base and build(base, ChatVLA2Plan(), OURS).expert is not None


def test_other_scenes_are_refused_wherever_a_base_is_taken(base, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bases, "scene_hash", lambda: "0123456789ab")
    with pytest.raises(SpecMismatch, match=rf"scene {scene_hash()}, here 0123456789ab\)"):
        build(base, ChatVLA2Plan(), OURS)
    run = ["--run", str(tmp_path / "run")]
    for verb in (
        ["prove", "chatvla2", "--base", str(base), *run],
        ["prove", "fast", "--queue", "--base", str(base), *run],
        ["eval", "expert", "--base", str(base), *run],
        ["train", "chatvla2", "--base", str(base), "--data", str(tmp_path / "none"), *run],
    ):
        assert cli.main(verb) == 2, verb
        assert "0123456789ab" in capsys.readouterr().err, verb


@pytest.mark.parametrize("phrases", [questions.PHRASES, toy_questions.PHRASES])
def test_other_phrasings_are_refused(base, monkeypatch, phrases):
    kind = next(iter(phrases))
    monkeypatch.setitem(phrases, kind, (*phrases[kind], "and another way"))
    with pytest.raises(SpecMismatch, match="phrases") as refused:
        of_this_world(base)
    assert "scene " not in str(refused.value).splitlines()[0].replace(str(base), "")


def test_of_one_without_the_file_the_plan_beside_tells(tmp_path):
    checkpoint = tmp_path / "checkpoint"
    save_vla(VLA(spec=SPEC, backbone=vlm()), checkpoint)
    assert of_this_world(checkpoint) == checkpoint
    write_json(tmp_path / "plan.json", {"scene": scene_hash()})
    assert of_this_world(checkpoint) == checkpoint
    write_json(tmp_path / "plan.json", {"scene": "an older one"})
    with pytest.raises(SpecMismatch, match="scene an older one"):
        of_this_world(checkpoint)
