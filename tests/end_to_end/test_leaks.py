"""A policy without sight, or without words, finds what a task gives away, and nothing else."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mindhand.core.errors import BadData
from mindhand.core.record import read_records
from mindhand.recipes import leaks
from mindhand.recipes.leaks import Asked, chooser, chosen, learn, rows, scenes
from mindhand.worlds import placing, scene
from mindhand.worlds.course import sample_course_task

MANY = 240


@pytest.fixture(scope="module")
def maths() -> list[Asked]:
    return scenes(scene.FAMILY, "R", MANY, "tested")


def planted(some: list[Asked], by: str) -> list[Asked]:
    """The same scenes, in which what is right is told by one thing alone."""
    out = []
    for k, a in enumerate(some):
        n, words = len(a.things), np.zeros_like(a.words)
        if by == "words":
            words[k % 2] = 1.0
            at = a.places[:, 0].argmin() if k % 2 else a.places[:, 0].argmax()
        else:
            at = int(a.things[:, :10].argmax(1).argmax())
        out.append(replace(a, words=words, right=np.arange(n) == at))
    return out


def rate(some: list[Asked], sense: str, monkeypatch: pytest.MonkeyPatch) -> float:
    monkeypatch.setattr(leaks, "EPOCHS", 50)
    monkeypatch.setattr(leaks, "ROWS", 32)
    model = learn(scene.FAMILY, sense, some[:160], some[160:200])
    return float(chosen(model, some[200:]).mean())


@pytest.mark.parametrize(("by", "sense"), [("words", "blind"), ("things", "unread")])
def test_a_leak_is_found_by_who_can_see_it(
    maths: list[Asked], by: str, sense: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert rate(planted(maths, by), sense, monkeypatch) > 0.7


@pytest.mark.parametrize(("by", "sense"), [("things", "blind"), ("words", "deaf")])
def test_what_is_not_sensed_is_not_found(
    maths: list[Asked], by: str, sense: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Words tell which end of the row is right: who sees the tiles alone is right in half at most.
    assert rate(planted(maths, by), sense, monkeypatch) < 0.65


def test_what_is_said_of_class_r_is_what_its_records_say() -> None:
    """Prose names them and copies no number."""
    said = (Path(__file__).parents[2] / "docs" / "decisions.md").read_text()
    found, open_ = read_records(), "desk/unread_choice/maths_matching"
    closed = f"{open_}_k_dev"
    for text in (said, leaks.leaks.__doc__):
        assert {open_, closed} <= set(re.findall(r"desk/\w+_choice/\w+", text))
    assert found[open_].low > 2 * found[open_].chance
    assert found[closed].low < found[closed].chance < found[closed].high


def test_obstacles_are_seen_and_never_taken() -> None:
    some = scenes("obstacle_course", "across", 8, "tested")
    for a in some:
        s = sample_course_task(a.key)
        toys, boxes = len(s.toys.toys), len(s.boxes)
        assert len(a.things) == toys + boxes <= leaks.MOST and boxes and not a.choices[toys:].any()
        assert a.right.sum() == 1 and a.right[s.target] and (a.things[:toys, -4:] == 0).all()
        assert np.allclose(a.places[toys:], [b[:2] for b in s.boxes]) and (a.things[toys:, -1] == 1).all()
    assert chosen(chooser("obstacle_course", "deaf", some[0]), some).shape == (8,)


@pytest.mark.parametrize("family", ["maths_matching", "spatial_placing"])
def test_to_do_and_to_refuse_are_all_there_is_to_choose(family: str) -> None:
    some = scenes(f"{family}/absent", "R", 12, "tested")
    for can, cannot in zip(some[::2], some[1::2]):  # twins: the same words, and something else lies there
        assert (can.words == cannot.words).all() and (can.board == cannot.board).all()
        assert can.right.argmax() == len(can.right) - 2 and cannot.right.argmax() == len(cannot.right) - 1
        assert can.things.shape == cannot.things.shape and not (can.things == cannot.things).all()
        for a in (can, cannot):
            assert a.choices.sum() == 2 and a.choices[-2:].all() and a.right.sum() == 1
    for sense in leaks.SENSES[f"{family}/absent"]:
        (row, *_) = rows(sense, chooser(f"{family}/absent", sense, some[0]), some, 0)
        assert row["choice_chance"] == 0.5


def test_what_is_missing_is_found_by_who_sees_both(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: refuse where no tile shows a seven. Who sees the tiles finds that; who hears words alone does not."""
    made = []
    for a in scenes("maths_matching/absent", "R", MANY, "tested"):
        seven, n = bool(a.things[:, 7].any()), len(a.right)
        made.append(replace(a, right=np.arange(n) == n - 1 - seven))
    for sense, found in (("unread", True), ("blind", False)):
        monkeypatch.setattr(leaks, "EPOCHS", 30)
        monkeypatch.setattr(leaks, "ROWS", 32)
        model = learn("maths_matching/absent", sense, made[:160], made[160:200])
        assert (chosen(model, made[200:]).mean() > 0.8) == found


def test_each_family_says_what_it_learns_from(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("SCENES", 6), ("HELD", 4), ("ASKED", 4), ("EPOCHS", 1), ("TRAININGS", 1)):
        monkeypatch.setattr(leaks, name, value)
    assert set(leaks.SPLITS) == set(leaks.SENSES)
    got = leaks.leaks("obstacle_course")
    assert set(got) == {(sense, level) for sense in ("blind", "deaf") for level in ("near", "across")}
    assert all(len(some) == 4 for some in got.values())


def test_only_what_can_be_chosen_is(maths: list[Asked]) -> None:
    some = scenes(placing.FAMILY, "R", 12, "tested")
    assert any(not a.choices.all() for a in some)
    only = [replace(a, choices=a.right) for a in some]
    for sense in leaks.SENSES[placing.FAMILY]:
        model = chooser(placing.FAMILY, sense, some[0])
        assert chosen(model, only).all()  # untrained, and yet: there is nothing else to take


def test_rows_tell_the_chance_of_a_guess(maths: list[Asked]) -> None:
    model = chooser(scene.FAMILY, "unread", maths[0])
    got = rows("unread", model, maths[:20], 1)
    for row, a in zip(got, maths, strict=False):
        assert row["choice_chance"] == pytest.approx(a.right.sum() / len(a.things))
        assert row["training"] == 1 and row["key"] == a.key


def test_scenes_of_another_use_are_others(maths: list[Asked]) -> None:
    again, other = scenes(scene.FAMILY, "R", 4, "tested"), scenes(scene.FAMILY, "R", 4, "other")
    assert all((a.places == b.places).all() for a, b in zip(again, maths, strict=False))
    assert not any(a.places.shape == b.places.shape and (a.places == b.places).all() for a, b in zip(again, other))


@pytest.mark.parametrize(("family", "sense"), [(placing.FAMILY, "unread"), ("sweeping", "blind")])
def test_refusals(maths: list[Asked], family: str, sense: str) -> None:
    with pytest.raises(BadData):
        chooser(family, sense, maths[0])
