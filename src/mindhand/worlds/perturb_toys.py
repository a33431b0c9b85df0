"""Toys of a placing scene that lie elsewhere, and others among them: its perturbed layout. No simulator here.

What is asked stays as it is: target, reference, relation and words, so that an episode is paired with its clean one.
What a sampled scene promises holds here too, by the sampler's own checks: toys lie in the field, apart, in sight and
with room for fingers; the target does not lie as asked already, and can be put there; and whoever mistakes the
reference is right no more often.
"""

from __future__ import annotations

import math
import re
from dataclasses import replace

from mindhand.core.keys import Keys

from .draw import Draw
from .grips import GRIPS
from .placing import COUNT, LUCK, PlacingScene, pools, possible
from .placing_layout import TURN, Layout, Pose, inside, roomy, spot
from .things import COLOURS, MATERIALS, RELATIONS, Thing, Toy, ToyScene

ROUNDS, TRIES, JOINS = 400, 12, 40  # of all toys, of one, of another one
Span = tuple[float, float]


def rearranged(scene: PlacingScene, keys: Keys, shift: Span, turn: Span, more: int) -> PlacingScene:
    """The scene with every toy shifted (m) and turned (rad) by something between two bounds, each its own way, and so
    many more toys, as far as a scene may have them. keys: one row.

    A toy that can be held one way round only is turned no further than scenes have it. A table too full shifts less,
    or takes fewer.
    """
    return _joined(_shifted(scene, Draw(keys), shift, turn), Draw(keys.fold("toys")), more)


def fair(scene: PlacingScene, was: PlacingScene) -> bool:
    """Whether what could be done as the toys lay can still be, and is no easier to do by mistake."""
    return not _doable(was) or (_doable(scene) and _luck(scene) <= max(LUCK[0][0], _luck(was)))


def _doable(scene: PlacingScene) -> bool:
    names = (scene.toys.toys[k].thing for k in (scene.target, scene.reference))
    return possible(*names, scene.relation) and scene.layout().free(scene.target, scene.reference, scene.relation)


def _luck(scene: PlacingScene) -> float:
    return scene.layout().luck(scene.target, scene.reference, scene.relation)


# ---- the toys that there are ---------------------------------------------------------------------------


def _shifted(scene: PlacingScene, draw: Draw, shift: Span, turn: Span) -> PlacingScene:
    part = 1.0
    while part > 0.1:
        for _ in range(ROUNDS):
            poses = _moved(scene.layout(), draw, (part * shift[0], part * shift[1]), turn)
            if poses and fair(out := scene.moved(poses), scene):
                return out
        part *= 0.8
    return scene


def _moved(layout: Layout, draw: Draw, shift: Span, turn: Span) -> list[Pose]:
    """New poses for all, in turn; none where one finds none."""
    out: list[tuple[Thing, Pose]] = []
    for thing, pose in zip(layout.things, layout.poses):
        tries = (_elsewhere(draw, thing, pose, shift, turn) for _ in range(TRIES))
        good = (p for p in tries if inside(*p[:2]) and roomy(thing, p, out))
        if (found := next(good, None)) is None:
            return []
        out.append((thing, found))
    return [pose for _, pose in out]


def _elsewhere(draw: Draw, thing: Thing, pose: Pose, shift: Span, turn: Span) -> Pose:
    far, way = draw.uniform(*shift), draw.uniform(-math.pi, math.pi)
    by, held = draw.uniform(*turn) * (1 if draw.chance(0.5) else -1), GRIPS.get(thing.name)
    if held is not None and held.ways == 2 and abs(held.tool_yaw(pose[2] + by)) > TURN:
        by = -by
    yaw = math.remainder(pose[2] + by, 2 * math.pi)
    return pose[0] + far * math.cos(way), pose[1] + far * math.sin(way), yaw


# ---- others --------------------------------------------------------------------------------------------


def _joined(scene: PlacingScene, draw: Draw, more: int) -> PlacingScene:
    """More toys: such as scenes of this class have, of no kind that the instruction names, no two alike in name and
    colour. Their place in the list tells nothing of them."""
    named = set(re.findall(r"\w+", scene.instruction))
    about = {"K": "relation", "R": "object"}[RELATIONS[scene.relation]] if scene.split != "R" else ""
    pool = [t for t in pools(scene.split or "R", about)[0] if t.name not in named]
    out = scene
    for _ in range(min(more, COUNT[1] - len(scene.toys.toys))):
        tries = (_with(out, draw, draw.pick(pool)) for _ in range(JOINS))
        out = next((s for s in tries if s is not None and fair(s, scene)), out)
    order = draw.shuffled(range(len(out.toys.toys)))
    toys = ToyScene(tuple(out.toys.toys[k] for k in order))
    return replace(out, toys=toys, target=order.index(scene.target), reference=order.index(scene.reference))


def _with(scene: PlacingScene, draw: Draw, thing: Thing) -> PlacingScene | None:
    toys, layout = scene.toys.toys, scene.layout()
    free = [c for c in COLOURS if not any((t.thing, t.colour) == (thing.name, c) for t in toys)]
    material = MATERIALS[0] if draw.chance(0.6) else draw.pick(MATERIALS[1:])
    colour, pose = draw.pick(free), spot(draw, thing, list(zip(layout.things, layout.poses)))
    if pose is None:
        return None
    return replace(scene, toys=ToyScene((*toys, Toy(thing.name, colour, material, *pose))))
