"""The second task through the same recipe: a mind that knows toys, demonstrations of class R, three stages, an arm."""

import math
import re
from dataclasses import replace

import pytest
from rich.console import Console

from mindhand.core.errors import BadData, Refusal
from mindhand.data.lerobot_read import LeRobotReader
from mindhand.data.synthetic.vocabulary import train_words
from mindhand.evaluate.protocol import MATHS, PLACING
from mindhand.model.store import save_vla
from mindhand.model.vla import VLA
from mindhand.recipes.chatvla2 import ChatVLA2Plan, families_of, train
from mindhand.recipes.cotraining import Asked, beside, warm_up
from mindhand.recipes.nano import NanoPlan, build_reader
from mindhand.recipes.record import demonstrations
from mindhand.recipes.rollouts import rows_of
from mindhand.recipes.variants import OURS
from mindhand.worlds import placing, scene
from mindhand.worlds.desk.world import SPEC
from mindhand.worlds.placing import read_placing
from mindhand.worlds.things import BY_NAME, RELATIONS

QUIET = Console(quiet=True)
PLAN = ChatVLA2Plan(episodes=2, every=16, warmup=1, align=2, mixed=8, tune=2, rows=8)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    demonstrations(home / "demos", PLAN.episodes, "placing", workers=1, console=QUIET)
    for name, brief in (("whole", False), ("brief", True)):
        reader = build_reader(NanoPlan("test", brief=brief), train_words(not brief))
        save_vla(VLA(spec=SPEC, backbone=reader.backbone), home / name)
    return home


def test_toys_are_placed_by_the_same_recipe(home):
    checkpoint = train(home / "whole", home / "demos", home / "frames", home / "run", PLAN, OURS, console=QUIET)
    protocol = replace(PLACING.only("spatial_placing/R", episodes=1), steps=9, rows=1)
    (row,) = rows_of(checkpoint, protocol, home / "eval", workers=1, films=0)
    assert {"recognition", "spatial", "choice", "choice_chance"} <= set(row)


def test_one_policy_learns_both_families(home, tmp_path):
    demos = demonstrations(tmp_path / "demos", 2, "desk", workers=1, console=QUIET)
    assert families_of(LeRobotReader(demos)) == (scene.FAMILY, placing.FAMILY)
    checkpoint = train(home / "whole", demos, tmp_path / "frames", tmp_path / "run", PLAN, OURS, console=QUIET)
    for protocol in (MATHS, PLACING):
        short = replace(protocol.only(protocol.tasks[0], episodes=1), steps=9, rows=1)
        assert len(rows_of(checkpoint, short, tmp_path / short.name, workers=1, films=0)) == 1


def test_a_mind_that_has_never_heard_of_toys_is_refused(home):
    with pytest.raises(Refusal, match="never heard of toys"):
        train(home / "brief", home / "demos", home / "frames2", home / "run2", PLAN, OURS, console=QUIET)


def test_demonstrations_name_their_family(home):
    reader = LeRobotReader(home / "demos")
    assert families_of(reader) == (placing.FAMILY,)
    reader.episodes[0] = replace(reader.episodes[0], key=None)
    with pytest.raises(BadData, match="demonstrations of"):
        families_of(reader)


@pytest.mark.parametrize("words", [True, False])
def test_what_is_asked_beside_demonstrations_is_of_class_r(words):
    """Things and relations of class K are kept by what the VLM learned before, or not at all."""
    new = {t.name for t in BY_NAME.values() if t.known != "R"} | {r for r, of in RELATIONS.items() if of != "R"}
    corpus, sample = (
        warm_up((placing.FAMILY,), 1, 8, Asked(False, words)),
        beside((placing.FAMILY,), 2, 8, 16, Asked(False, words)),
    )
    asked = [qa for step in range(6) for s in (*corpus.batch(step)[:8], sample(step, 3)) for qa in s.questions]
    said = [re.sub(r"[?,.]|box the|box around", " ", f" {qa.question} {qa.answer} ") for qa in asked]
    toys = [s for s in said if any(f" {n} " in s for n in BY_NAME)]
    assert len(toys) > 60
    assert not [(s, n) for s in toys for n in new if f" {n} " in s and not (n == "on" and " on the table" in s)]
    thoughts = [qa for qa in asked if (read_placing(qa.answer) or {}).get("step")]
    assert bool(thoughts) == words
    assert len(sample(0, 0).questions) == 1


@pytest.mark.parametrize("family", [scene.FAMILY, placing.FAMILY])
def test_without_digits_there_is_none(family):
    """The paper's filter: with it no question and no answer of image-text holds a digit or an operator."""

    def said(digits):
        how = Asked(False, True, digits)
        corpus, sample = warm_up((family,), 1, 8, how), beside((family,), 2, 8, 16, how)
        asked = [qa for step in range(8) for s in (*corpus.batch(step)[:8], sample(step, 3)) for qa in s.questions]
        return [re.sub(r"<[xy]\d+>", "", f"{qa.question} {qa.answer}") for qa in asked]

    assert not [s for s in said(False) if re.search(r"[0-9+]", s)]
    assert [s for s in said(True) if re.search(r"[0-9+]", s)]


def test_of_sums_nothing_has_changed():
    corpus = warm_up((scene.FAMILY,), 1, 8, Asked(True, False))
    assert corpus.think == math.inf and corpus.mix.bare == 0
