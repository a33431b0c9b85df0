"""Scenes of the obstacle course: of their level, to be done, seen, and not by one habit alone."""

import json
import math
from collections import Counter

import numpy as np
import pytest

from mindhand.core.errors import BadData
from mindhand.core.keys import Key
from mindhand.worlds import course, course_hand, course_ways
from mindhand.worlds.course import (
    BOARD,
    COLOUR,
    ENDS,
    FAMILY,
    INFLUENCE,
    KINDS,
    LEVELS,
    LIE,
    MOVED,
    OPENINGS,
    TIGHT,
    CourseScene,
    legs,
    nearest,
    open_sides,
    sample_course_task,
)
from mindhand.worlds.course_hand import Hand, gaps, highest, holding, opened
from mindhand.worlds.course_sight import hidden, seen
from mindhand.worlds.course_ways import CEILING, MARGIN, Way, bows, detours, measured, over, poses
from mindhand.worlds.declared import scene_hash
from mindhand.worlds.grips import GRIPS, in_reach
from mindhand.worlds.things import COLOURS

COUNT = 40


def key(index, level="across"):
    return Key("test", f"{FAMILY}/{level}", index)


SCENES = {level: [sample_course_task(key(i, level)) for i in range(COUNT)] for level in LEVELS}
EVERY = [(level, scene) for level, scenes in SCENES.items() for scene in scenes]


def test_a_key_is_a_scene_and_survives_json():
    for level in LEVELS:
        for i in (0, 7):
            assert sample_course_task(key(i, level)) == SCENES[level][i]
    for _, scene in EVERY:
        assert CourseScene.from_json(json.loads(json.dumps(scene.to_json()))) == scene
        assert 1 <= len(scene.obstacles) <= 3
        assert scene.split == "R" and len(scene.choices()) >= 2
    assert scene.moved([(0.0, 0.0, 0.0)] * len(scene.toys.toys)).obstacles == scene.obstacles
    for bad in ("", "R", "across/R", "far"):
        with pytest.raises(BadData, match="level"):
            sample_course_task(key(0, bad))


def test_obstacles_stand_as_the_level_says():
    for level, scene in EVERY:
        approach, ends, carry = nearest(scene, scene.boxes).min(1)
        assert ends >= ENDS
        if level == "clear":
            assert min(approach, ends, carry) >= INFLUENCE
        elif level == "near":
            assert TIGHT[0] <= carry <= TIGHT[1]
        else:
            assert carry < course.CLOSED


def test_every_scene_can_be_done():
    for _, scene in EVERY:
        way, boxes = legs(scene), scene.boxes
        assert all(in_reach(*at[:2]) for at in (way.grasp, way.put))
        straight = measured([Way(*way.approach)], way.empty, boxes)[0].gap >= MARGIN
        assert straight or detours(*way.approach, way.empty, boxes)
        some = detours(*way.carry, way.full, boxes)
        assert set(some) == open_sides(scene, boxes) and some
        for found in some.values():
            at = poses(found)
            assert gaps(at, way.full, boxes).min() >= MARGIN
            assert (at[:, 2] <= highest(at[:, 0], at[:, 1])).all() and at[:, 2].max() <= CEILING
            assert max(found.begin[2], found.end[2]) >= way.carry[0][2]


def test_obstacles_stand_apart_on_the_table_in_sight_and_hide_little():
    for _, scene in EVERY:
        toys = [(t.x, t.y, t.kind.reach, t.kind.height) for t in scene.toys.toys]
        assert not hidden(toys, scene.boxes)
        for o in scene.obstacles:
            assert seen(o.box)
            assert all(low <= v <= high for v, (low, high) in zip((*o.half, o.height), KINDS[o.kind]))
            if "above" in open_sides(scene, [o.box]) and o.height > 0.2:
                assert max(nearest(scene, [o.box])[2]) >= MARGIN  # nothing tall is carried over
            c, s = math.cos(o.yaw), math.sin(o.yaw)
            for x, y, r, _ in toys:
                u, v = c * (x - o.x) + s * (y - o.y), c * (y - o.y) - s * (x - o.x)
                assert math.hypot(max(abs(u) - o.half[0], 0), max(abs(v) - o.half[1], 0)) >= r + LIE - 1e-9
            corners = [o.y + s * a * o.half[0] + c * b * o.half[1] for a in (-1, 1) for b in (-1, 1)]
            assert min(corners) >= BOARD


def test_no_habit_passes_most_of_what_stands_across():
    sides = Counter(side for s in SCENES["across"] for side in open_sides(s, s.boxes))
    assert set(sides) == {"left", "right", "above"}
    assert sum(sides.values()) == COUNT and max(sides.values()) < 0.6 * COUNT and min(sides.values()) > 0.1 * COUNT
    shares = dict(OPENINGS)
    assert max(shares.values()) <= 0.4 and shares["left"] == shares["right"] and sum(shares.values()) == 1
    for s in SCENES["across"]:  # what is closed is not just barely closed
        assert open_sides(s, s.boxes, just=True) == open_sides(s, s.boxes)
    beside = Counter(side for s in SCENES["near"] for side in open_sides(s, s.boxes))
    assert 0.3 * COUNT <= beside["left"] <= 0.7 * COUNT and 0.3 * COUNT <= beside["right"] <= 0.7 * COUNT
    # Nor is it always carried the same way, or the same distance up.
    heads = [math.atan2(b[1] - a[1], b[0] - a[0]) for a, b in (legs(s).carry for s in SCENES["across"])]
    assert 0.3 <= np.mean([math.cos(h) > 0 for h in heads]) <= 0.7 and np.mean([math.sin(h) > 0 for h in heads]) >= 0.2


def test_an_obstacle_looks_like_no_toy():
    assert min(np.linalg.norm(np.subtract(COLOUR, c)) for c in COLOURS.values()) > 90


# ---- ways ----------------------------------------------------------------------------------------------

POST = (0.0, 0.0, 0.3, 0.012, 0.012, 0.25)
WALL = (0.0, 0.0, 0.0, 0.09, 0.01, 0.11)
HAND = holding("ball")


def test_bows_go_where_they_say():
    begin, end = (-0.1, 0.0, 0.1, 0.0), (0.1, 0.0, 0.1, 0.0)
    left, right = bows(begin, end)[:9], bows(begin, end)[9:]
    assert all(poses(w)[12, 1] > 0 for w in left) and all(
        poses(w)[12, 1] < 0 for w in right
    )  # of who goes to the right
    assert all(np.allclose(poses(w)[[0, -1]], (begin, end)) for w in (*left, *right))
    widths = [abs(w.bump[1]) for w in left]
    assert widths == sorted(widths)


def test_a_detour_is_the_least_that_keeps_the_margin():
    begin, end = (-0.1, -0.01, 0.1, 0.0), (0.1, -0.01, 0.1, 0.0)
    some = detours(begin, end, HAND, [POST])
    assert set(some) == {"left", "right"}  # it is too high to go over
    for side, sign in (("left", 1), ("right", -1)):
        assert MARGIN <= some[side].gap < MARGIN + course_ways.STEP
        assert some[side].bump[1] * sign > 0
    assert abs(some["right"].bump[1]) <= abs(some["left"].bump[1])  # the way is on its right already
    (straight,) = measured([Way(begin, end)], HAND, [POST])
    assert straight.gap == 0.0


def test_over_is_as_high_as_it_must_be():
    begin, end = (0.0, -0.1, 0.1, 0.0), (0.0, 0.1, 0.1, 0.0)
    way = over(begin, end, HAND, [WALL])
    assert way.begin[2] == way.end[2] == pytest.approx(WALL[5] - HAND.low + MARGIN, abs=1e-4)
    assert over(begin, end, HAND, [WALL, POST]) is None
    assert over(begin, end, HAND, []) == Way(begin, end)
    assert over((0.0, -0.1, 0.18, 0.0), end, HAND, [WALL]).begin[2] == 0.18  # never lower than it was
    far = (0.17, 0.1, 0.1, 0.0)
    assert over((0.17, -0.1, 0.1, 0.0), far, HAND, []) is None  # out of reach


def test_a_hand_is_as_wide_as_what_it_does():
    at = np.array([[0.0, 0.06, 0.1, 0.0]])
    low = (0.0, 0.0, 0.0, 0.01, 0.01, 0.08)
    assert gaps(at, opened(0.074), [low])[0, 0] < gaps(at, opened(0.02), [low])[0, 0]
    turned = np.array([[0.0, 0.06, 0.1, math.pi / 2]])  # its long side no longer towards the obstacle
    assert gaps(turned, HAND, [POST])[0, 0] > gaps(at, HAND, [POST])[0, 0]
    assert gaps(turned, HAND, [low])[0, 0] < gaps(turned, Hand(HAND.spread), [low])[0, 0]
    both = gaps(np.concatenate([at, at]), np.array([[*HAND], [*opened(0.074)]]), [POST, low])
    assert np.array_equal(both[0], gaps(at, HAND, [POST, low])[0])
    assert np.array_equal(both[1], gaps(at, opened(0.074), [POST, low])[0])
    assert GRIPS["ball"].up == -HAND.low


def test_the_hash_covers_it(monkeypatch):
    before = scene_hash()
    for module, name, value in ((course, "VERSION", "x"), (course, "INFLUENCE", 0.06), (course, "KINDS", {}),
                                (course_ways, "STEP", 0.02), (course_hand, "WRIST", (0.03, 0.1))):  # fmt: skip
        with monkeypatch.context() as patch:
            patch.setattr(module, name, value)
            assert scene_hash() != before
    assert MOVED == 0.01
