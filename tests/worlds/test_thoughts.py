"""What is right to think, and what is not: of every family, in every moment of an episode."""

from __future__ import annotations

import numpy as np
import pytest

from mindhand.core.keys import Key, Keys
from mindhand.recipes.places import read_thought
from mindhand.worlds import placing, scene
from mindhand.worlds.desk.families import FAMILIES
from mindhand.worlds.desk.world import DeskWorld
from mindhand.worlds.equations import Equation
from mindhand.worlds.scene import place_words, sample_maths
from mindhand.worlds.wordings import misled, placing_misled


@pytest.mark.parametrize("family", [scene.FAMILY, placing.FAMILY])
def test_the_wrong_thought_names_one_other_thing_throughout(family: str) -> None:
    with DeskWorld(1) as world:
        for index in range(2):
            world.reset([Key("thoughts", f"{family}/R", index)], [0])
            named = set()
            while True:
                said = world.thoughts(0)
                told, wrong = (read_thought(said[n]) for n in ("told", "misled"))
                assert said["told"] == world.reasoning(0) and told is not None
                assert wrong is not None and wrong["step"] == "take"
                named.add(wrong.get("digit", wrong.get("target")))
                outcome = world.step(world.expert([0]), [0])
                if outcome.done[0]:
                    break
            assert outcome.success[0] and len(named) == 1
            now = world.scene(0)
            if family == scene.FAMILY:
                assert named.isdisjoint(now.equation.digits[:1])
            else:
                assert named.isdisjoint({f"{now.toys.toys[now.target].colour} {now.toys.toys[now.target].thing}"})


def test_other_things_are_there_and_differ_by_key() -> None:
    for i in range(60):
        key = Key("thoughts", "maths_matching/K-dev", i)
        s = scene.sample_task(key)
        found = read_thought(misled(key, s))
        assert found is not None and found["expression"] == s.equation.text
        assert (found["digit"], found["place"]) in {(t.digit, place_words(t.x, t.y)) for t in s.tiles}
        key = Key("thoughts", "spatial_placing/R", i)
        p = placing.sample_placing_task(key)
        found = read_thought(placing_misled(key, p))
        toys = [f"{t.colour} {t.thing}" for t in p.toys.toys]
        assert found is not None and toys.index(found["target"]) in p.choices() and found["target"] != toys[p.target]
    s = scene.sample_task(Key("thoughts", "maths_matching/R", 3))
    assert len({misled(Key("thoughts", "maths_matching/R", i), s) for i in range(20)}) > 1


def test_where_all_tiles_are_alike_none_is_named() -> None:
    s = sample_maths(Keys.seeded(1, "alike"), "R", equation=Equation(5, "+", 6))
    alike = np.array([t.digit == 1 for t in s.tiles])
    s = scene.MathsScene(
        s.equation, s.split, tuple(t for t, a in zip(s.tiles, alike, strict=True) if a), s.tile_font, s.board
    )
    assert misled(Key("thoughts", "maths_matching/R", 0), s).endswith(". none.")


def test_every_family_can_be_misled() -> None:
    assert all(callable(f.misled) for f in FAMILIES.values())


@pytest.mark.parametrize("task", ["maths_matching/R/absent", "spatial_placing/R/absent-target"])
def test_who_should_refuse_is_misled_into_taking(task: str) -> None:
    with DeskWorld(1) as world:
        world.reset([Key("thoughts", task, 0)], [0])
        told, wrong = (read_thought(world.thoughts(0)[n]) for n in ("told", "misled"))
        assert told is not None and wrong is not None
        assert (told["step"], wrong["step"]) == ("none", "take")
