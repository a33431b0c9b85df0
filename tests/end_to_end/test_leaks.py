"""A policy without sight, or without words, finds what a task gives away, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mindhand.core.errors import BadData
from mindhand.recipes import leaks
from mindhand.recipes.leaks import Asked, chooser, chosen, learn, rows, scenes
from mindhand.worlds import placing, scene

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
