"""What a hand would do next on a table of toys: thoughts of the second task without a robot's data.

As for the first task (`moments`): what is to be done is a question about a picture, answered in the words of the
robot's reasoning (ChatVLA-2, 2505.21906, reuses its reasoning template likewise). The robot's own instruction asks the
same of class R alone. No picture shows a hand here: a toy that is in it is not on the table.
"""

from __future__ import annotations

from collections.abc import Sequence

from mindhand.core.nouns import told
from mindhand.worlds.boards import Notice
from mindhand.worlds.desk.spec import HAND
from mindhand.worlds.draw import Draw
from mindhand.worlds.placing import INSTRUCTIONS, PlacingScene, item_class, placing_reasoning, possible, whereabouts
from mindhand.worlds.things import COLOURS, RELATIONS, Toy, ToyScene, things

from .questions import NONE
from .samples import QA, Pixel

PLAN = "plan"
WAYS = (("take", 0.55), ("put", 0.25), ("no target", 0.10), ("no reference", 0.10))
OWN = 0.5  # share of the questions about items of class R that are the robot's instruction
FREE = (("", 0.3), (HAND[2], 0.6), (HAND[0], 0.1))  # what is told of a hand that holds nothing
KNOWN = ("R", "K")
_PLAIN = Notice(("",), "", "", "")  # what is on the board has nothing to do with it
Job = tuple[Toy, str, Toy]  # target, relation, reference


def plan(
    scene: ToyScene, seen: Sequence[Pixel], draw: Draw, phrases: Sequence[str], known: Sequence[str] = KNOWN
) -> QA | None:
    """A question with its answer; None where the table does not lend itself to one. seen: where each toy
    is. known: the classes of relations, and of
    what may be missing.

    "the ball goes left of the cup, hand open" -> "red ball left back. blue cup right front. take red ball."
    "the red ball goes left of the cup, hand full" -> "blue cup right front. put red ball left of blue cup."
    What is missing is told: "red ball none." or "red ball left back. blue cup none."

    `QA.row` is what each sentence is about, as far as it is to be seen.
    """
    way, relations = draw.among(WAYS), [r for r, of in RELATIONS.items() if of in known]
    if way == "take":
        if not (pairs := _pairs(scene, relations)):
            return None
        how = draw.pick(sorted({r for _, r, _ in pairs}))
        a, how, b = draw.pick([p for p in pairs if p[1] == how])
        said, row, job = (
            (scene.said(a), scene.said(b)),
            (seen[a], seen[b], seen[a]),
            (scene.toys[a], how, scene.toys[b]),
        )
        answer = placing_reasoning(PlacingScene(scene, a, b, how, _PLAIN, ""), "take")
    elif way == "no reference":
        a = draw.index(len(scene.toys))
        other = _absent(scene, draw, known)
        found = _jobs([scene.toys[a]], relations, [other])
        if not found:
            return None
        job = draw.pick(found)
        said, row = (scene.said(a), _called(scene, other, draw)), (seen[a],)
        answer = f"{_full(job[0])} {whereabouts(job[0].x, job[0].y)}. {said[1]} {NONE}."
    else:
        found = _jobs([_absent(scene, draw, known, False)], relations, scene.toys)
        if not found:
            return None
        job = draw.pick(found)
        b = scene.toys.index(job[2])
        if way == "put":
            said, row = (_full(job[0]), scene.said(b)), (seen[b],)
            whole = ToyScene((*scene.toys, job[0]))
            answer = placing_reasoning(PlacingScene(whole, len(scene.toys), b, job[1], _PLAIN, ""), "put")
        else:
            said, row = (_called(scene, job[0], draw), scene.said(b)), ()
            answer = f"{said[0]} {NONE}."
    state = HAND[1] if way == "put" else draw.among(FREE)
    own = item_class(job[0].thing, job[2].thing, job[1]) == "R" and draw.chance(OWN)
    question = draw.pick(INSTRUCTIONS if own else phrases).format(said[0], job[1], said[1])
    if own:
        question = told(question, state or HAND[2])  # which a robot is never asked without
    elif state:
        question = told(question.rstrip("?"), state)
    return QA(PLAN, question, answer, seen[a] if way == "take" else None, row)


def _full(toy: Toy) -> str:
    return f"{toy.colour} {toy.thing}"


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
    return _full(toy) if here or draw.chance(0.5) else toy.thing
