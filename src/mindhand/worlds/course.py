"""The third task family: a toy is to be put somewhere while obstacles stand about, after SafeLIBERO (arXiv 2512.11891).

No simulator here. What is asked, and of which toys, is placing's own, of class R; what is new are one to three upright
boxes that are to be left alone. Levels are by how they stand to the way of a hand that does not know of them (`legs`):

    clear    none is nearer to the arm than `INFLUENCE`: as if there were none
    near     beside the way on which the toy is carried, so near that who errs by a centimetre hits one
    across   on that way, as high as the toy is carried, or higher

Nobody is told the level. Every scene can be done: the hand comes down and goes up with room to spare, and there is a
way to the toy and a way with it, straight, bowed or lifted (`course_ways`), that keeps `MARGIN` from all obstacles.
With something across just one of left, right and above is open (`open_sides`), none of them in most of the scenes. What
is tall is as high as the forearm, so that it is passed on the side of the arm's base.

What the arm reaches is seen: of each obstacle all up to 15 cm is in the front picture, and so is most of every toy
and of the place where one is to be put. What cannot be carried over may be taller than the picture shows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from mindhand.core.errors import BadData
from mindhand.core.keys import Key, Keys

from . import course_hand, course_sight, course_ways
from .course_hand import Box, Hand, gaps, holding, opened, turned_gap
from .course_sight import hidden, seen
from .course_ways import CEILING, MARGIN, SAMPLES, Pose, Way, detours, measured, poses
from .draw import Draw
from .grips import GRIPS, OPEN
from .placing import PlacingScene, sample_placing
from .things import Circle

VERSION = "course-1"  # bump when the sampler changes what it draws: it is part of the hash
FAMILY = "obstacle_course"
LEVELS = ("clear", "near", "across")
COLOUR = (56, 200, 206)  # of all obstacles, and of no toy
KINDS = {  # half length, half depth, height (m): from, to
    "post": ((0.011, 0.014), (0.011, 0.014), (0.27, 0.31)),
    "screen": ((0.030, 0.045), (0.006, 0.008), (0.27, 0.31)),
    "wall": ((0.070, 0.100), (0.008, 0.011), (0.105, 0.125)),
    "block": ((0.018, 0.026), (0.018, 0.026), (0.105, 0.125)),
}
OFTEN = (("post", 0.35), ("screen", 0.35), ("wall", 0.15), ("block", 0.15))  # beside a way, or far from it
COUNT = (3, 4)  # fewest and most toys
ROOM = ((-0.185, 0.185), (-0.155, 0.125))  # where obstacles' middles may stand: x, y
BOARD = -0.18  # y (m): obstacles end before the board
SHORT = {"clear": 0.09, "near": 0.12, "across": 0.17}  # m: a toy is carried no less far
INFLUENCE = 0.05  # m: what is farther away does not matter
TIGHT, LOOSE = (0.001, 0.008), (0.010, 0.030)  # m between a straight way and what is near it; on its other side
CLOSED = 0.002  # m: where there is no way with this margin either, a side is closed
LIE = 0.012  # m between an obstacle and a toy or another obstacle
ELSEWHERE = 0.03  # m that others keep from what a hand does that does not know of them
ENDS = 0.020  # m that obstacles keep from the hand where it comes down and goes up
START = 0.06  # m that they keep from the hand where it starts, which varies by a third of that
MOVED = 0.01  # m: no success where an obstacle was moved by more
HOME = (-0.225, -0.03, 0.15, 0.0)  # where the hand starts
LIFT, LOWEST = 0.08, 0.075  # how far a toy is lifted; no lower is it carried (m, of the tool point)
ABOVE, CORRIDOR, CLEAR = 0.067, 0.055, 0.018  # over a grip; half width of a way; over the toys on it
OPENINGS = (("above", 0.40), ("left", 0.30), ("right", 0.30))  # the side open where something stands across
TRIES, SPOTS = 12, 48  # of obstacles in a scene, of places for one


@dataclass(frozen=True)
class Obstacle:
    """A box that stands on the table: its middle (m), how it is turned (rad), half its length and half its depth (m,
    along its own x and y) and its height (m)."""

    kind: str
    x: float
    y: float
    yaw: float
    half: tuple[float, float]
    height: float

    @property
    def box(self) -> Box:
        """As the geometry has it."""
        long, deep = self.half
        return self.x, self.y, self.yaw, long, deep, self.height


@dataclass(frozen=True)
class CourseScene(PlacingScene):
    """A scene of placing with obstacles."""

    obstacles: tuple[Obstacle, ...] = ()

    @property
    def boxes(self) -> tuple[Box, ...]:
        """All obstacles, as they stand at first."""
        return tuple(o.box for o in self.obstacles)

    def to_json(self) -> dict[str, Any]:
        """Plain lists and dictionaries."""
        return {**super().to_json(), "obstacles": [asdict(o) for o in self.obstacles]}

    @staticmethod
    def from_json(d: dict[str, Any]) -> CourseScene:
        """The inverse of `to_json`."""
        rest = {k: v for k, v in d.items() if k != "obstacles"}
        stand = tuple(Obstacle(**{**o, "half": tuple(o["half"])}) for o in d["obstacles"])
        return CourseScene(**vars(PlacingScene.from_json(rest)), obstacles=stand)


def circles(scene: PlacingScene) -> list[Circle]:
    """What obstacles keep clear of and do not hide: the toys, and last the target where it is to be put."""
    (x, y, _), target = scene.goal(), scene.toys.toys[scene.target].kind
    toys = [(t.x, t.y, t.kind.reach, t.kind.height) for t in scene.toys.toys]
    return [*toys, (x, y, target.reach, target.height)]


# ---- ways ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Legs:
    """The straight parts of a hand's way in a scene, as it goes that knows of no obstacle; it goes down and up at
    `grasp` and `put`."""

    approach: tuple[Pose, Pose]
    grasp: Pose
    carry: tuple[Pose, Pose]
    put: Pose
    empty: Hand
    full: Hand

    @property
    def widest(self) -> Hand:
        """Open, with the toy: what is clear of that where the hand is lowest is clear of it above, too."""
        return Hand(self.empty.spread, self.full.radius, self.full.low)


def legs(scene: PlacingScene) -> Legs:
    """Of a scene of placing."""
    toy = scene.toys.toys[scene.target]
    grip, (gx, gy, gz) = GRIPS[toy.thing], scene.goal()
    x, y = grip.point(toy.x, toy.y, toy.yaw)
    yaw = grip.tool_yaw(toy.yaw)
    u, v = grip.point(gx, gy, toy.yaw - yaw)
    over = max(ABOVE + grip.up, _over(scene, HOME[:2], (x, y)) + 0.008)
    high = max(LOWEST, grip.up + max(LIFT, _over(scene, (x, y), (u, v))))
    return Legs(
        (HOME, (x, y, over, yaw)), (x, y, grip.up, yaw), ((x, y, high, yaw), (u, v, high, 0.0)),
        (u, v, gz + grip.up, 0.0), opened(OPEN), holding(toy.thing),
    )  # fmt: skip


def _over(scene: PlacingScene, a: Sequence[float], b: Sequence[float]) -> float:
    """The height (m) from which on no toy is in the way from a to b."""
    top, length = 0.0, math.dist(a, b)
    for k, t in enumerate(scene.toys.toys):
        along = ((t.x - a[0]) * (b[0] - a[0]) + (t.y - a[1]) * (b[1] - a[1])) / max(length**2, 1e-9)
        along = min(1.0, max(0.0, along))
        off = math.hypot(a[0] + along * (b[0] - a[0]) - t.x, a[1] + along * (b[1] - a[1]) - t.y)
        if k != scene.target and off < t.kind.reach + CORRIDOR:
            top = max(top, t.kind.height)
    return top + CLEAR


def nearest(scene: PlacingScene, obstacles: Sequence[Box]) -> np.ndarray:
    """(3,n): how near (m) a hand that does not know of them comes to each of the obstacles: as it approaches, where it
    comes down and goes up, as it carries."""
    way = legs(scene)
    some = ((poses(Way(*way.approach)), way.empty), (np.array([way.grasp, way.put]), way.widest),
            (poses(Way(*way.carry)), way.full))  # fmt: skip
    hands = np.concatenate([np.tile([*hand], (len(at), 1)) for at, hand in some])
    found = gaps(np.concatenate([at for at, _ in some]), hands, obstacles)
    return np.minimum.reduceat(found, [0, SAMPLES, SAMPLES + 2])


def open_sides(scene: PlacingScene, obstacles: Sequence[Box], just: bool = False) -> frozenset[str]:
    """The sides ("left", "right", "above") on which the toy can be carried past obstacles. just: also those on which it
    barely can."""
    way, how = legs(scene), CLOSED if just else MARGIN
    return frozenset(detours(*way.carry, way.full, obstacles, how))


# ---- sampling ------------------------------------------------------------------------------------------


class _Course:
    """Obstacles for a scene, as they are put up."""

    def __init__(self, draw: Draw, scene: PlacingScene):
        self.draw, self.scene, self.way = draw, scene, legs(scene)
        self.stand: list[Obstacle] = []
        self.circles = circles(scene)

    @property
    def boxes(self) -> list[Box]:
        return [o.box for o in self.stand]

    def make(self, kind: str, at: tuple[float, float], yaw: float) -> Obstacle:
        """One of a kind, sizes drawn."""
        long, deep, tall = (self.draw.uniform(*span) for span in KINDS[kind])
        return Obstacle(kind, *at, yaw, (long, deep), tall)

    def beside(self, along: float, aside: float) -> tuple[float, float]:
        """A point of the carrying way: so much of it gone, and so far to its left (m)."""
        a, b = self.way.carry
        dx, dy = b[0] - a[0], b[1] - a[1]
        far = math.hypot(dx, dy)
        return a[0] + along * dx - aside * dy / far, a[1] + along * dy + aside * dx / far

    @property
    def heading(self) -> float:
        """Of the carrying way (rad)."""
        a, b = self.way.carry
        return math.atan2(b[1] - a[1], b[0] - a[0])

    def somewhere(self, kind: str, away: float) -> bool:
        """One more anywhere, at least so far (m) from all that a hand does that does not know of it."""
        one, ((x0, x1), (y0, y1)) = self.make(kind, (0.0, 0.0), 0.0), ROOM
        some = [
            replace(one, x=self.draw.uniform(x0, x1), y=self.draw.uniform(y0, y1), yaw=self.draw.uniform(0.0, math.pi))
            for _ in range(SPOTS)
        ]
        some = self.roomy(some)
        near = nearest(self.scene, [o.box for o in some]).min(0)
        return any(self.put(o) for o, gap in zip(some, near) if gap >= away)

    def line(self, kind: str, sign: float, span: tuple[float, float]) -> bool:
        """One more to the left (1) or to the right (-1) of the way, as near to it as asked."""
        one, along = self.make(kind, (0.0, 0.0), self.draw.uniform(0.0, math.pi)), self.draw.uniform(0.3, 0.7)
        turn = one.yaw - self.heading
        least = abs(math.sin(turn)) * one.half[0] + abs(math.cos(turn)) * one.half[1] + self.draw.uniform(0.010, 0.015)
        places = (self.beside(along, sign * (least + 0.005 * k)) for k in range(16))
        some = self.roomy([replace(one, x=x, y=y) for x, y in places])
        near = gaps(poses(Way(*self.way.carry)), self.way.full, [o.box for o in some]).min(0)
        good = [o for o, gap in zip(some, near) if span[0] <= gap <= span[1]]
        return bool(good) and self.put(self.draw.pick(good))

    def fit(self, wanted: frozenset[str] | None = None) -> bool:
        """Whether the hand can come down and go up, and come to the toy, and carry it on just the sides wanted, by
        default on any."""
        if gaps(np.array([self.way.grasp, self.way.put]), self.way.widest, self.boxes).min() < ENDS:
            return False
        sides = open_sides(self.scene, self.boxes)
        if not sides if wanted is None else not sides == wanted == open_sides(self.scene, self.boxes, just=True):
            return False
        (approach,) = measured([Way(*self.way.approach)], self.way.empty, self.boxes)
        return approach.gap >= MARGIN or bool(detours(*self.way.approach, self.way.empty, self.boxes))

    def also(self, put: bool, wanted: frozenset[str] | None = None) -> None:
        """Take away again what was put up last, where it does not fit."""
        if put and not self.fit(wanted):
            self.stand.pop()

    def blocked(self) -> bool:
        """Whether the way leads right into something, also somewhat higher."""
        a, b = ((*p[:2], p[2] + 0.012, p[3]) for p in self.way.carry)
        (way,) = measured([Way(a, b)], self.way.full, self.boxes)
        return way.gap == 0.0

    def roomy(self, some: Sequence[Obstacle]) -> list[Obstacle]:
        """Those that would stand on the table, clear of toys and of other obstacles."""
        (x0, x1), (y0, y1) = ROOM
        circles = [(x, y, r) for x, y, r, _ in self.circles]
        circles += [(o.x, o.y, math.hypot(*o.half)) for o in self.stand]

        def good(one: Obstacle) -> bool:
            if not (x0 <= one.x <= x1 and y0 <= one.y <= y1) or one.y - math.hypot(*one.half) < BOARD:
                return False
            return all(_away(one.box, x, y) >= r + LIE for x, y, r in circles)

        return [one for one in some if good(one)]

    def put(self, one: Obstacle) -> bool:
        """Stand it there if that is on the table, in the picture, clear of toys, and hides none."""
        box = one.box
        if not self.roomy([one]) or not seen(box) or hidden(self.circles, [*self.boxes, box]):
            return False
        if turned_gap(np.array(HOME[:3]), np.array([0.0, 0.0, -1.0]), [box]) < START:
            return False
        self.stand.append(one)
        return True


def _away(box: Box, x: float, y: float) -> float:
    c, s = math.cos(box[2]), math.sin(box[2])
    u, v = c * (x - box[0]) + s * (y - box[1]), c * (y - box[1]) - s * (x - box[0])
    return math.hypot(max(abs(u) - box[3], 0.0), max(abs(v) - box[4], 0.0))


def _clear(course: _Course, kinds: Sequence[str], _: str) -> bool:
    """Obstacles far from all that a hand does, as many as fit."""
    return any([course.somewhere(kind, INFLUENCE) for kind in kinds])


def _near(course: _Course, kinds: Sequence[str], _: str) -> bool:
    """One beside the way; where they fit, the second on its other side, a third elsewhere."""
    left, right = course.draw.shuffled((1.0, -1.0))
    if not (course.line(kinds[0], left, TIGHT) and course.fit()):
        return False
    course.also(len(kinds) > 1 and course.line(kinds[1], right, LOOSE))
    course.also(len(kinds) > 2 and course.somewhere(kinds[2], ELSEWHERE))
    return True


def _across(course: _Course, kinds: Sequence[str], opening: str) -> bool:
    """Something on the way that leaves one side open."""
    draw, square = course.draw, course.heading + math.pi / 2
    along, turn = draw.uniform(0.4, 0.6), draw.uniform(-0.25, 0.25)
    sign = 1.0 if opening == "left" else -1.0  # of the side left open
    edge, second = draw.uniform(0.0, 0.02), draw.uniform(0.10, 0.13)
    if opening == "above":
        rows = [("wall", draw.uniform(-0.02, 0.02))]
    elif draw.chance(0.4):
        rows = [("post", draw.uniform(-0.01, 0.01))]
    elif draw.chance(0.5):
        rows = [("screen", edge - 0.035), ("post", edge - second)][: 1 + draw.index(2)]
    else:
        rows = [("post", 0.3 * edge - k * draw.uniform(0.05, 0.065)) for k in range(2 + draw.index(2))]
    for kind, aside in rows:
        if not course.put(course.make(kind, course.beside(along, sign * aside), square + turn)):
            return False
    wanted = frozenset({opening})
    if (opening == "above" and not course.blocked()) or not course.fit(wanted):
        return False
    course.also(len(rows) == 1 and len(kinds) > 1 and course.somewhere(kinds[1], ELSEWHERE), wanted)
    return True


_LEVELS = {"clear": _clear, "near": _near, "across": _across}


def sample_course(keys: Keys, level: str) -> CourseScene:
    """One scene of a level: a scene of placing, of class R with few toys, in which the target has some way to go, and
    obstacles. keys: one row."""
    plan, attempt = Draw(keys.fold("plan")), 0
    opening = plan.among(OPENINGS)
    kinds = [plan.among(OFTEN) for _ in range(1 + plan.index(3))]
    while True:
        scene = sample_placing(keys.fold("scene", attempt), "R", count=COUNT)
        a, b = legs(scene).carry
        if math.dist(a[:2], b[:2]) >= SHORT[level]:
            draw = Draw(keys.fold("obstacles", attempt))
            for _ in range(TRIES):
                course = _Course(draw, scene)
                if _LEVELS[level](course, kinds, opening):
                    return CourseScene(**vars(scene), obstacles=tuple(draw.shuffled(course.stand)))
        attempt += 1


def sample_course_task(key: Key) -> CourseScene:
    """The scene an episode's key names. Tasks: "obstacle_course/clear", "/near" and "/across"."""
    family, _, level = key.task.partition("/")
    if family != FAMILY or level not in LEVELS:
        raise BadData(f"task '{key.task}'", f"'{FAMILY}/<level>' with level one of {LEVELS}", "correct Key.task")
    return sample_course(Keys.of([key]), level)


def declared() -> dict[str, Any]:
    """Everything of this family that the hash of the declaration covers."""
    return {
        "version": VERSION,
        "levels": [LEVELS, SHORT, INFLUENCE, TIGHT, LOOSE, ELSEWHERE, OPENINGS, CLOSED, MOVED],
        "scenes": [KINDS, OFTEN, COUNT, ROOM, BOARD, LIE, ENDS, START],
        "ways": [HOME, LIFT, LOWEST, ABOVE, CORRIDOR, CLEAR, CEILING, MARGIN, course_ways.STEP, course_ways.BOWS],
        "looks": [COLOUR, course_sight.SEEN_TO, course_sight.HIDDEN],
        "hand": [course_hand.BODY, course_hand.PALM_HALF, course_hand.WRIST, course_hand.FOREARM],
    }
