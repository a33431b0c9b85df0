"""What a world does not know is refused before the first episode, and "all" is what it knows."""

from __future__ import annotations

from pathlib import Path

import pytest

from mindhand.core.errors import BadData, Refusal
from mindhand.evaluate.protocol import COURSE, HEIGHTS, HIDDEN, MATHS, METAWORLD_10
from mindhand.recipes.evaluate import evaluate, require
from mindhand.recipes.places import axes_of
from mindhand.recipes.rollouts import perturbations
from mindhand.worlds.desk.world import DeskWorld
from mindhand.worlds.perturb import AXES


def asked(run: Path, protocol: str, **more) -> int:
    """The verb, for the expert, on one episode a task, unless told."""
    words = {"checkpoint": Path("expert"), "split": (), "episodes": 1, "language": False, "blind": False,
             "thoughts": False, "wrap": (), "shield": (), "perturb": (), "base": None, "compare": (), "against": None,
             **more}  # fmt: skip
    return evaluate(protocol=protocol, **words, workers=1, run=run)


@pytest.mark.parametrize(
    ("protocol", "more", "match"),
    [
        ("obstacle-course", {"perturb": ("layout",)}, r"cannot be perturbed in \['layout'\]"),
        ("height-reaching", {"perturb": ("noise1+light2",)}, r"cannot be perturbed in \['light'\]"),
        ("hidden-state", {"thoughts": True}, "no right thoughts"),
        ("height-reaching", {"language": True}, "nothing else to say here for 'hold the hand"),
        ("metaworld-mt10", {"perturb": ("all",)}, "nothing can be perturbed"),
        ("metaworld-mt10", {"perturb": ("noise2",)}, "cannot be perturbed"),
    ],
)
def test_nothing_is_run_before_an_arm_is_refused(protocol, more, match, tmp_path):
    with pytest.raises((BadData, Refusal), match=match):
        asked(tmp_path / "run", protocol, **more)
    assert not (tmp_path / "run").exists()


ARMS = {  # what an evaluation may run besides, by the word that asks for it
    "--language": {"language": True},
    "--blind": {"blind": True},
    "--thoughts": {"thoughts": True},
    "--perturb": {"perturb": ("camera1",)},
    "--base": {"base": Path("a VLM")},
}
RUN = {  # what says which evaluation is run
    "a checkpoint": {"checkpoint": Path("expert")},
    "--split": {"split": ("R",)},
    "--episodes": {"episodes": 1},
    "--wrap": {"wrap": ("flashvla",)},
    "--shield": {"shield": ("aegis",)},
    "--against": {"against": Path("b")},
}


@pytest.mark.parametrize("name", ARMS)
def test_a_race_runs_no_arms_and_says_so(name, tmp_path):
    """Before the other evaluation is read, which is not there."""
    with pytest.raises(Refusal, match=f"^--against together with {name}\n"):
        asked(tmp_path / "run", "maths-matching", against=tmp_path / "gone", **ARMS[name])
    with pytest.raises(Refusal, match="with --language, --blind"):
        asked(tmp_path / "run", "maths-matching", against=tmp_path / "gone", language=True, blind=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", [*RUN, *ARMS])
def test_a_comparison_runs_nothing_and_says_so(name, tmp_path):
    alone = {"checkpoint": None, "episodes": None, "compare": (tmp_path / "a", tmp_path / "b")}
    with pytest.raises(Refusal, match=f"^--compare together with {name}\n"):
        asked(tmp_path / "run", "maths-matching", **{**alone, **{**RUN, **ARMS}[name]})
    assert not (tmp_path / "run").exists()


def test_all_is_what_the_family_has():
    assert axes_of(MATHS.tasks) == AXES
    for protocol, axes in (
        (COURSE, ("camera", "start", "language", "light", "background", "noise")),
        (HEIGHTS, ("noise",)),
        (HIDDEN, ("start", "noise")),
    ):
        assert axes_of(protocol.tasks) == axes
        arms = perturbations(("all",), axes)
        assert arms == [f"{axis}{level}" for axis in axes for level in range(1, 6)]
    assert axes_of((*MATHS.tasks, *COURSE.tasks)) == axes_of(COURSE.tasks)
    assert axes_of(METAWORLD_10.tasks) == ()
    assert perturbations(("noise2", "noise", "light1+noise2"), axes) == [
        "noise2", "noise1", "noise3", "noise4", "noise5", "light1+noise2"
    ]  # fmt: skip


def test_what_is_known_is_let_through():
    require(MATHS.only("maths_matching/R"), ())
    some = MATHS.only("maths_matching/R", "maths_matching/X")
    require(some, ("swapped", "paraphrased", "blank", "told", "camera1+light5"))
    require(HIDDEN, ("swapped", "paraphrased", "start2"))


def test_one_world_is_opened_for_all_words_and_none_without(monkeypatch):
    """And the last arm of many is refused as the first is."""
    opened, made = [], DeskWorld.__init__

    def counted(self, *how, **more):
        opened.append(self)
        made(self, *how, **more)

    monkeypatch.setattr(DeskWorld, "__init__", counted)
    require(HIDDEN, ("start2", "noise1"))
    assert not opened
    require(HIDDEN, ("blank", "swapped", "paraphrased"))
    assert len(opened) == 1
    with pytest.raises(BadData, match="arm 'swapped': there is nothing else to say here"):
        require(HEIGHTS, ("noise1", "blank", "swapped"))
    with pytest.raises(Refusal, match="no right thoughts"):
        require(HIDDEN, ("blank", "told"))
    assert len(opened) == 2  # what a world cannot do is refused without one
