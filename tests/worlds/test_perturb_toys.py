"""Toys laid out otherwise: the task is the same, can be done, and is not given away; what changes grows."""

import math
from dataclasses import replace

import numpy as np
import pytest

from mindhand.core.errors import BadData
from mindhand.core.keys import Keys
from mindhand.worlds import perturb_toys
from mindhand.worlds.desk import families
from mindhand.worlds.desk.controls import mislead
from mindhand.worlds.desk.placing_controls import MISTAKES, mistaken
from mindhand.worlds.desk.spec import PLACING_LIMIT
from mindhand.worlds.desk.world import DeskWorld
from mindhand.worlds.grips import GRIPS
from mindhand.worlds.perturb import AXES, LEVELS, MAGNITUDES, Perturbation, perturbed_placing, span
from mindhand.worlds.perturb_toys import fair
from mindhand.worlds.placing_layout import TURN, roomy
from mindhand.worlds.things import BY_NAME, FIELD

from .test_placing import SCENES, key

SOME = [(task, i) for task in ("R", "K-dev", "X") for i in range(30)]


def laid(task, i, level):
    """A scene, and what a level makes of it."""
    return SCENES[task][i], perturbed_placing(SCENES[task][i], key(i, task), Perturbation(layout=level))


def moves(was, now):
    """How far (m) and by how much (degrees) the toys that there were lie otherwise."""
    named = {(t.thing, t.colour): t for t in now.toys.toys}
    pairs = [(t, named[t.thing, t.colour]) for t in was.toys.toys]
    turns = [abs(math.degrees(math.remainder(a.yaw - b.yaw, 2 * math.pi))) for a, b in pairs]
    return [math.hypot(a.x - b.x, a.y - b.y) for a, b in pairs], turns


def role(scene, k):
    toy = scene.toys.toys[k]
    return toy.thing, toy.colour, toy.material, scene.said(k)


@pytest.mark.parametrize("level", LEVELS[1:])
def test_the_task_stays_as_it_is_and_can_be_done(level):
    short = fewer = 0
    for task, i in SOME:
        was, now = laid(task, i, level)
        toys, layout = now.toys.toys, now.layout()
        assert (now.instruction, now.relation, now.writing) == (was.instruction, was.relation, was.writing)
        for a, b in ((now.target, was.target), (now.reference, was.reference)):
            assert role(now, a) == role(was, b)
        assert now.split == task
        assert now.relation not in now.toys.relation(now.target, now.reference)
        assert layout.free(now.target, now.reference, now.relation) and fair(now, was)
        lying = list(zip(layout.things, layout.poses))
        assert all(roomy(*pair, [p for p in lying if p is not pair]) for pair in lying)
        assert all(low <= v <= high for t in toys for v, (low, high) in zip((t.x, t.y), FIELD))
        assert all(abs(GRIPS[t.thing].tool_yaw(t.yaw)) < TURN + 1e-9 for t in toys if t.thing in GRIPS)
        new = [t for t in toys if (t.thing, t.colour) not in {(o.thing, o.colour) for o in was.toys.toys}]
        assert len({(t.thing, t.colour) for t in toys}) == len(toys) == len(was.toys.toys) + len(new)
        most = min(MAGNITUDES["layout"]["toys"][level], 6 - len(was.toys.toys))
        assert len(new) <= most
        fewer += len(new) < most
        assert not {t.thing for t in new} & set(was.instruction.split())
        assert task != "R" or all(BY_NAME[t.thing].known == "R" for t in new)
        far, turn = moves(was, now)
        low, high = span("layout", "shift", level)
        assert max(far) < high + 1e-9
        short += min(far) < low - 1e-9
        low, high = span("layout", "turn", level)
        assert low - 1e-6 < min(turn) and max(turn) < high + 1e-6
    assert short <= 1 and fewer <= 9


def test_what_cannot_be_done_or_comes_by_luck_is_not_fair():
    was = next(s for s in SCENES["R"] if s.relation == "left of" and len(s.toys.toys) >= 4)
    poses = [(t.x, t.y, t.yaw) for t in was.toys.toys]
    x, y, _ = was.goal()
    third = next(k for k in range(len(poses)) if k not in (was.target, was.reference))

    def with_(k, x, y):
        return was.moved([(x, y, 0.0) if j == k else p for j, p in enumerate(poses)])

    assert fair(was, was)
    assert not fair(with_(was.target, x, y), was)  # it lies so already
    assert not fair(with_(third, x, y), was)  # something else is where it is to go
    assert not fair(with_(was.reference, FIELD[0][0], 0.0), was)  # that would be outside the field
    done = with_(was.target, x, y)
    assert fair(with_(third, 0.0, 0.0), done)  # what could not be done before need not be


def test_luck_counts(monkeypatch):
    was, now = laid("R", 3, 4)
    monkeypatch.setattr(perturb_toys, "_luck", lambda scene: 0.6 if scene is now else 0.4)
    assert not fair(now, was)
    monkeypatch.setattr(perturb_toys, "_luck", lambda scene: 0.6)
    assert fair(now, was)  # it was so already


def test_a_namesake_of_what_is_named_never_joins(monkeypatch):
    i, was = next((i, s) for i, s in enumerate(SCENES["R"]) if len(s.toys.toys) == 3)
    named = [was.toys.toys[k].thing for k in (was.target, was.reference)]
    other = next(n for n in ("duck", "tree", "ring") if n not in named)
    monkeypatch.setattr(perturb_toys, "pools", lambda *_: ([BY_NAME[n] for n in (*named * 20, other)], []))
    now = perturbed_placing(was, key(i), Perturbation(layout=5))
    assert len(now.toys.toys) > 3
    assert [sum(t.thing == n for t in now.toys.toys) for n in named] == [
        sum(t.thing == n for t in was.toys.toys) for n in named
    ]


def test_who_is_not_told_is_left_to_guess_among_more():
    scenes = [laid(task, i, 5)[1] for task, i in SOME]
    chance = np.mean([1 / len(s.choices()) for s in scenes])
    assert chance < np.mean([1 / len(SCENES[task][i].choices()) for task, i in SOME]) - 0.07
    for guess in (
        lambda s: s.choices()[0],
        lambda s: min(s.choices(), key=lambda k: s.toys.toys[k].x),
        lambda s: max(s.choices(), key=lambda k: sum(t.thing == s.toys.toys[k].thing for t in s.toys.toys)),
    ):
        assert abs(np.mean([guess(s) == s.target for s in scenes]) - chance) < 0.13


def test_one_mistake_is_no_success_among_more_toys():
    with DeskWorld(1, Perturbation(layout=5)) as world:
        for what in MISTAKES:
            for i in range(40):
                world.reset([key(i)], [0])
                belief = mistaken(world.scene(0), what, Keys.of([key(i)]))
                if belief is not None and len(belief.toys.toys) > len(SCENES["R"][i].toys.toys):
                    break
            driver = mislead(world, 0, belief)
            for _ in range(PLACING_LIMIT):
                outcome = world.step(world.expert([0]), [0])
                assert not outcome.success[0]
                if driver.belief.success and driver.plan.phase == "rest":
                    break
            assert driver.belief.success and outcome.facts[0]["choice_right"] is (what != "target")
            assert outcome.facts[0]["toys"] == len(belief.choices())


def test_a_family_refuses_what_it_does_not_know(monkeypatch):
    assert families.FAMILIES["spatial_placing"].axes == AXES
    some = replace(families.FAMILIES["spatial_placing"], axes=("start",))
    monkeypatch.setitem(families.FAMILIES, "spatial_placing", some)
    with DeskWorld(1, Perturbation(camera=1)) as world, pytest.raises(BadData, match="camera"):
        world.reset([key(0)], [0])
