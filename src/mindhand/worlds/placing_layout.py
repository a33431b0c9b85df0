"""Where the toys of a placing scene lie: apart, in sight, and with room for the fingers around what can be lifted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .draw import Draw
from .grips import GRIPS, OPEN, PAD, in_reach, in_the_way
from .things import CLEAR, COLOURS, FIELD, GAP, MATERIALS, Circle, Thing, Toy, ToyScene, apart

TURN = 1.2  # rad: a toy that can be held one way round only lies so that the tool turns by at most this
SPOTS = 40  # tried for each toy
TURNS = 8  # tried for a toy that is to lie where another one does
BESIDE = 0.012  # m of table between a reference and the toy, or the open fingers, beside it
Pose = tuple[float, float, float]  # x, y (m), yaw (rad)


def beside(target: Thing, reference: Thing, relation: str) -> tuple[float, float]:
    """From a reference's middle to where a thing is put to one side of it (m): as near as its reach allows or, in front
    and behind, the fingers, which open that way."""
    along = relation in ("in front of", "behind")
    wide = max(target.reach, OPEN / 2 + PAD) if along else target.reach
    far = max(wide + reference.reach + BESIDE, CLEAR + BESIDE)
    return {"left of": (-far, 0.0), "right of": (far, 0.0), "in front of": (0.0, -far), "behind": (0.0, far)}[relation]


def _circle(thing: Thing, pose: Pose) -> Circle:
    return pose[0], pose[1], thing.reach, thing.height


def _blocked(thing: Thing, pose: Pose, others: Sequence[Circle]) -> bool:
    """Whether something is in the way of fingers around a thing."""
    held = GRIPS[thing.name]
    at = (*held.point(*pose), held.tool_yaw(pose[2]), held.up)
    return not in_reach(*at[:2]) or any(in_the_way(c, *at) for c in others)


def roomy(thing: Thing, pose: Pose, others: Sequence[tuple[Thing, Pose]]) -> bool:
    """Whether a thing may lie so among others: apart, in sight, and with room for fingers around all of them."""
    here, circles = _circle(thing, pose), [_circle(*other) for other in others]
    if not all(apart(here, c) for c in circles) or (thing.name in GRIPS and _blocked(thing, pose, circles)):
        return False
    return not any(t.name in GRIPS and _blocked(t, p, [here]) for t, p in others)


@dataclass(frozen=True)
class Layout:
    """Things and where each of them lies."""

    things: tuple[Thing, ...]
    poses: tuple[Pose, ...]

    def goal(self, a: int, b: int, relation: str) -> tuple[float, float]:
        """Where the middle of thing a goes (m) to lie so to thing b."""
        (x, y, _), container = self.poses[b], self.things[b]
        dx, dy = (0.0, 0.0) if relation == container.way else beside(self.things[a], container, relation)
        return x + dx, y + dy

    def free(self, a: int, b: int, relation: str) -> bool:
        """Whether thing a could be put so to thing b: in the field, in reach, touching nothing, and nothing in the way
        of the fingers, which let go with the tool at yaw 0. Not where it lies so already."""
        target, yaw, within = self.things[a], self.poses[a][2], relation == self.things[b].way
        x, y = self.goal(a, b, relation)
        if self._lies(a, self.poses[a], b, relation) or not inside(x, y):
            return False
        left = [k for k in range(len(self.things)) if k != a and not (within and k == b)]
        others = [_circle(self.things[k], self.poses[k]) for k in left]
        if any(math.hypot(c[0] - x, c[1] - y) < c[2] + target.reach + GAP for c in others):
            return False
        return not _blocked(target, (x, y, yaw - GRIPS[target.name].tool_yaw(yaw)), others)

    def swapped(self, draw: Draw, k: int, thing: Thing) -> Layout | None:
        """The same with another thing in the place of thing k, turned as it may be; None where it has no room there."""
        others = [pair for i, pair in enumerate(zip(self.things, self.poses)) if i != k]
        for _ in range(TURNS):
            pose = (*self.poses[k][:2], _yaw(draw, thing))
            if roomy(thing, pose, others):
                things, poses = zip(*others[:k], (thing, pose), *others[k:])
                return Layout(things, poses)
        return None

    def luck(self, a: int, b: int, relation: str) -> float:
        """How often thing a would come to lie so to thing b if it were put so to any thing that there is, free or not;
        into or onto one: to any container."""
        within = relation == self.things[b].way
        some = [k for k, t in enumerate(self.things) if k != a and (t.holds > 0 or not within)]
        if within:
            return 1 / len(some)
        spots = [self.goal(a, k, relation) for k in some]
        return sum(self._lies(a, (*p, 0.0), b, relation) for p in spots) / len(some)

    def _lies(self, a: int, there: Pose, b: int, relation: str) -> bool:
        pair = ((self.things[a], there), (self.things[b], self.poses[b]))
        toys = (Toy(t.name, next(iter(COLOURS)), MATERIALS[0], *pose) for t, pose in pair)
        return relation in ToyScene(tuple(toys)).relation(0, 1)


def inside(x: float, y: float) -> bool:
    """Whether a toy's middle may lie here."""
    return all(low <= v <= high for v, (low, high) in zip((x, y), FIELD))


def _yaw(draw: Draw, thing: Thing) -> float:
    held = GRIPS.get(thing.name)
    if held is None or held.ways != 2:
        return draw.uniform(-math.pi, math.pi)
    turned = draw.uniform(-TURN, TURN) - held.yaw + (math.pi if draw.chance(0.5) else 0.0)
    return math.remainder(turned, 2 * math.pi)


def spot(draw: Draw, thing: Thing, others: Sequence[tuple[Thing, Pose]]) -> Pose | None:
    """A place for a thing among others; None where none is found."""
    (x0, x1), (y0, y1) = FIELD
    for _ in range(SPOTS):
        pose = draw.uniform(x0, x1), draw.uniform(y0, y1), _yaw(draw, thing)
        if roomy(thing, pose, others):
            return pose
    return None


def lay(draw: Draw, things: Sequence[Thing]) -> Layout | None:
    """Places for all of these, in turn; None where one finds none."""
    out: list[tuple[Thing, Pose]] = []
    for thing in things:
        if (pose := spot(draw, thing, out)) is None:
            return None
        out.append((thing, pose))
    return Layout(tuple(things), tuple(pose for _, pose in out))
