"""What a hand would do next on a table of toys: thoughts of the second task without a robot's data.

As for the first task (`moments`): what is to be done is a question about a picture, answered in the words of the
robot's reasoning (ChatVLA-2, 2505.21906, reuses its reasoning template likewise). The robot's own instruction asks the
same of class R alone. A toy that is in the hand is not on the table; no hand need be seen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mindhand.core.nouns import told
from mindhand.worlds.boards import Notice
from mindhand.worlds.desk.spec import HAND, SPEC
from mindhand.worlds.draw import Draw
from mindhand.worlds.placing import INSTRUCTIONS, STEPS, Missing, PlacingScene, item_class, placing_reasoning, possible
from mindhand.worlds.things import COLOURS, RELATIONS, Toy, ToyScene, things

from .samples import QA, Pixel

PLAN = "plan"
WAYS = (("take", 0.35), ("put", 0.30), ("done", 0.15), ("no target", 0.10), ("no reference", 0.10))
FULL = (("put", 1.0),)  # the same where a hand is seen that holds something
# And where one is that holds nothing.
EMPTY = (("take", 0.6), ("done", 0.2), ("no target", 0.10), ("no reference", 0.10))
OWN = 0.5  # share of the questions about items of class R that are the robot's instruction
FREE = (("", 0.3), (HAND[2], 0.6), (HAND[0], 0.1))  # what is told of a hand that holds nothing
KNOWN = ("R", "K")
SIZE = SPEC.camera("front").width  # pixels a side
_PLAIN = Notice(("",), "", "", "")  # what is on the board has nothing to do with it
Job = tuple[Toy, str, Toy]  # target, relation, reference


def plan(
    scene: ToyScene,
    seen: Sequence[Pixel],
    at: Callable[[Sequence[float]], Pixel],
    draw: Draw,
    phrases: Sequence[str],
    known: Sequence[str] = KNOWN,
    ways: Sequence[tuple[str, float]] = WAYS,
    held: Toy | None = None,
) -> QA | None:
    """A question with its answer; None where the table does not lend itself to one. seen: where each toy is; at: where
    a point of the table's frame is seen. known: the classes of relations, and of what may be missing. ways: what may be
    asked about. held: the toy that is put, where a hand is seen with it.

    "the ball goes left of the cup, hand open" -> "red ball left back. blue cup right front. take red ball."
    "the red ball goes left of the cup, hand full" -> "blue cup right front. put red ball left of blue cup."
    What lies there already: "red ball left of blue cup. done."
    What is missing is told: "red ball none. blue cup right front. none." or "ball left back. blue cup none. none."

    `QA.row` is what each sentence is about, as far as it is to be seen.
    """
    way, relations = draw.among(ways), [r for r, of in RELATIONS.items() if of in known]
    if way == "take":
        if not (pairs := _pairs(scene, relations)):
            return None
        how = draw.pick(sorted({r for _, r, _ in pairs}))
        a, how, b = draw.pick([p for p in pairs if p[1] == how])
        made = PlacingScene(scene, a, b, how, _PLAIN, "")
        said, row = (scene.said(a), scene.said(b)), (seen[a], seen[b], seen[a])
    elif way == "done":
        if not (pairs := _done(scene, relations)):
            return None
        a, how, b = draw.pick(pairs)
        made = PlacingScene(scene, a, b, how, _PLAIN, "")
        said, row = (scene.said(a), scene.said(b)), (seen[a],)
    elif way == "no reference":
        a, gone = draw.index(len(scene.toys)), _absent(scene, draw, known)
        if not (jobs := _jobs([scene.toys[a]], relations, [gone])):
            return None
        said, row = (scene.said(a), _called(scene, gone, draw)), (seen[a],)
        made = _with(scene, gone, a, len(scene.toys), draw.pick(jobs)[1], Missing("reference", said[1]))
    else:
        gone = held or _absent(scene, draw, known, False)
        if not (jobs := _jobs([gone], relations, scene.toys)):
            return None
        _, how, reference = draw.pick(jobs)
        b, put = scene.toys.index(reference), way == "put"
        # The colour of a toy that is seen in the hand need not be told.
        said = (gone.full if put and held is None else _called(scene, gone, draw), scene.said(b))
        made = _with(scene, gone, len(scene.toys), b, how, None if put else Missing("target", said[0]))
        # Where it goes is to be seen by what stands about: nothing stands there.
        row = (seen[b], _inside(at(made.goal()))) if put else (None, seen[b])
    answer = placing_reasoning(made, way if way in STEPS else "take")
    state = HAND[1] if way == "put" else draw.among(FREE)
    names = (made.toys.toys[k].thing for k in (made.target, made.reference))
    own = item_class(*names, made.relation) == "R" and draw.chance(OWN)
    question = draw.pick(INSTRUCTIONS if own else phrases).format(said[0], made.relation, said[1])
    if own:
        question = told(question, state or HAND[2])  # which a robot is never asked without
    elif state:
        question = told(question.rstrip("?"), state)
    return QA(PLAN, question, answer, row[-1] if way in ("take", "put") else None, row)


def _inside(point: Pixel) -> Pixel | None:
    return point if all(0 <= p < SIZE for p in point) else None


def _with(scene: ToyScene, toy: Toy, target: int, reference: int, relation: str, gone: Missing | None) -> PlacingScene:
    """What is asked about a toy that no picture shows: the last of the scene's."""
    return PlacingScene(ToyScene((*scene.toys, toy)), target, reference, relation, _PLAIN, "", gone)


def _pairs(scene: ToyScene, relations: Sequence[str]) -> list[tuple[int, str, int]]:
    """What could be done with two toys that lie there freely, and is not so already."""
    free = [k for k, t in enumerate(scene.toys) if t.held_by is None]
    return [
        (a, r, b)
        for a in free
        for b in free
        for r in relations
        if a != b and _can(scene.toys[a], r, scene.toys[b]) and r not in scene.relation(a, b)
    ]


def _done(scene: ToyScene, relations: Sequence[str]) -> list[tuple[int, str, int]]:
    """What could have been done with two toys that lie there, and is so already."""
    some = range(len(scene.toys))
    every = ((a, r, b) for a in some for b in some if a != b for r in scene.relation(a, b) if r in relations)
    return [(a, r, b) for a, r, b in every if _can(scene.toys[a], r, scene.toys[b]) and scene.toys[b].held_by is None]


def _can(a: Toy, how: str, b: Toy) -> bool:
    return a.thing != b.thing and possible(a.thing, b.thing, how)


def _jobs(targets: Sequence[Toy], relations: Sequence[str], references: Sequence[Toy]) -> list[Job]:
    """What could be done with these, every relation that can be as likely."""
    return [(a, r, b) for a in targets for r in relations for b in references if b.held_by is None and _can(a, r, b)]


def _absent(scene: ToyScene, draw: Draw, known: Sequence[str], holds: bool | None = None) -> Toy:
    """A toy that is not on the table; half of the time one of its name is, in another colour."""
    here = {(t.thing, t.colour) for t in scene.toys}
    names = [t.name for t in things(known, holds)]
    near = [t.thing for t in scene.toys if t.thing in names]
    thing = draw.pick(near) if near and draw.chance(0.5) else draw.pick(names)
    colours = [c for c in COLOURS if (thing, c) not in here]
    seen = [c for c in colours if c in {t.colour for t in scene.toys}]
    return Toy(thing, draw.pick(seen if seen and draw.chance(0.5) else colours), "plain", 0.0, 0.0, 0.0)


def _called(scene: ToyScene, toy: Toy, draw: Draw) -> str:
    """What is not there, by name alone only where no other has it."""
    here = toy.thing in {t.thing for t in scene.toys}
    return toy.full if here or draw.chance(0.5) else toy.thing
