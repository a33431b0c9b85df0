"""A model card: its numbers are those of the rows, what was not measured is said, and other weights are refused."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial

import pytest

from mindhand.core.checkpoint import load_checkpoint
from mindhand.core.errors import BadData
from mindhand.core.intervals import wilson
from mindhand.data.files import write_rows
from mindhand.evaluate.card import About, model_card, read_measured
from mindhand.evaluate.run import evaluate
from mindhand.model.hub import CARD, from_pretrained, require_card
from mindhand.model.store import save_vla
from mindhand.model.vla import VLA
from mindhand.recipes import hub, tiny
from tests.tiny_world import TinyWorld, Walker

from .tiny import PROTOCOL

ABOUT = About("me/point: it", "apache-2.0", "nano", "apache-2.0", 'my "own" demonstrations', "cc-by-4.0")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("policy") / "checkpoint"
    save_vla(VLA(spec=tiny.SPEC, backbone=tiny.vlm()), folder)
    return load_checkpoint(folder, None)


@pytest.fixture(scope="module")
def run(checkpoint, tmp_path_factory):
    """A whole evaluation with two arms and a scorecard: half of what the base knew of one part is lost."""
    folder, name = tmp_path_factory.mktemp("eval"), checkpoint.fingerprint
    evaluate(PROTOCOL, partial(Walker, wrong=0.25), TinyWorld, folder, name=name)
    for arm, wrong in (("blank", 0.9), ("paraphrased", 0.25)):
        evaluate(replace(PROTOCOL, arm=arm), partial(Walker, wrong=wrong), TinyWorld, folder / "arms" / arm, name=name)
    for who, right in (("base", 20), ("all stages", 10)):
        items = [{"part": "count", "right": i < right, "likely": i < right, "chance": 0.0} for i in range(20)]
        policy = {"policy": name if who != "base" else "another"}
        (folder / "minds").mkdir(exist_ok=True)
        write_rows(folder / "minds" / f"{who}.jsonl", [{**r, **policy} for r in items])
    return folder


def test_its_numbers_are_the_rows(checkpoint, run):
    found = read_measured(run, checkpoint.fingerprint)
    card = model_card(checkpoint, ABOUT, found)
    for task in PROTOCOL.tasks:
        some = [r for r in found.run.rows if r["task"] == task]
        w = wilson(sum(r["success"] for r in some), len(some))
        assert f"| {len(some)} | {w.value:.3f} ({w.low:.3f} to {w.high:.3f}) |" in card
        assert f"{sum(not r['success'] for r in some)} of {len(some)} failed" in card
    assert "| count | 1.000 | 0.500 (" in card and "| 0.50 |" in card
    assert card.count(", blank |") == len(PROTOCOL.tasks) == card.count("success lost without the right words")
    assert "Not measured" not in card
    for word in ("cc-by-4.0", 'my "own" demonstrations', tiny.SPEC.robot, checkpoint.fingerprint):
        assert word in card


def test_what_was_not_measured_is_said(checkpoint):
    card = model_card(checkpoint, ABOUT)
    assert card.count("Not measured") == 4
    require_card(card, checkpoint.folder)
    front = card.split("---\n")[1]
    facts = {n: json.loads(x) for n, _, x in (line.partition(": ") for line in front.splitlines())}
    assert facts["license"] == "apache-2.0" and facts["base_model"] == "nano"  # JSON, and so YAML


def test_an_evaluation_of_other_weights_is_refused(run):
    with pytest.raises(BadData, match="another"):
        read_measured(run, "another")


def test_the_command(checkpoint, run, tmp_path, capsys):
    told = [x for name in hub.TOLD for x in (f"--{name.replace('_', '-')}", str(getattr(ABOUT, name)))]
    asked = [str(checkpoint.folder), str(tmp_path / "it"), *told]
    assert hub.main([*asked, "--eval", str(run)]) == 0
    assert "success lost" in (tmp_path / "it" / CARD).read_text()
    assert from_pretrained(tmp_path / "it").spec == tiny.SPEC
    assert hub.main([*asked, "--eval", str(tmp_path)]) == 2
    assert "is no run of an evaluation" in capsys.readouterr().err
