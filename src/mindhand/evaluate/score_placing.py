"""Scores of spatial placing: what was recognised, what was understood of the relation, what was done (ChatVLA-2,
arXiv 2505.21906, table 2: "recognition" and "spatial", a share each).

    recognition   the thought names target and reference, and where both lie
    spatial       the thought names the relation, and the reference it is to (said once the target is in the hand)
    choice        the toy first closed upon (or moved) is the target
    success       the protocol's rule
    rac           reasoning -> act consistency: the toy taken is the toy named in the own text, or none and none is
    refused       the first thought says "none" at its end
    false_take    a toy was taken or moved where one of both is missing (`worlds.absent`), and only scored there: it is
                  recognised by "none" instead of a place then, and no toy is the choice
    new           of what is not of class R: "object", the target or the reference, or "relation"

Texts are parsed exactly. Chance of a choice is one of the toys that can be lifted; chance of success is that of who
sees the table and was told nothing: any toy put so to any other, whatever can be done there being equally likely.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from typing import Any

from mindhand.core.errors import BadData
from mindhand.worlds.absent import sample_placing_task
from mindhand.worlds.perturb import CLEAN, Perturbation, perturbed_placing
from mindhand.worlds.placing import ROLES, PlacingScene, possible, read_placing, whereabouts
from mindhand.worlds.scene import REFUSAL
from mindhand.worlds.things import BY_NAME, RELATIONS, ToyScene

from .run import key_of
from .score import refuses


def _where(scene: PlacingScene, role: str) -> tuple[str, str | None]:
    """What a thought calls the target, or the reference, and where it says that it lies: nowhere, if it is missing."""
    if scene.missing is not None and scene.missing.role == role:
        return scene.missing.said, None
    toy = scene.toys.toys[getattr(scene, role)]
    return toy.full, whereabouts(toy.x, toy.y)


def recognised(said: Mapping[str, Any] | None, scene: PlacingScene) -> bool:
    """Whether a parsed thought of step "take", or "none" where one is missing, names target and reference and their
    places."""
    if said is None or said["step"] != ("take" if scene.missing is None else REFUSAL):
        return False
    return all((said[role], said[f"{role}_place"]) == _where(scene, role) for role in ROLES)


def understood(said: Mapping[str, Any] | None, scene: PlacingScene) -> bool:
    """Whether a parsed thought of step "put" names the relation and the reference."""
    wanted = scene.relation, scene.toys.toys[scene.reference].full
    return said is not None and said["step"] == "put" and (said["relation"], said["reference"]) == wanted


def new(scene: PlacingScene) -> str:
    """What of an item robot data do not show: "relation", "object" (target or reference), or "" where they show all."""
    if RELATIONS[scene.relation] != "R":
        return "relation"
    return "object" if any(BY_NAME[scene.called(role).split()[-1]].known != "R" for role in ROLES) else ""


def success_chance(scene: PlacingScene) -> float:
    """Of all (target, reference, relation) that can be done on this table, the share that makes the instruction true:
    what was asked for, and what amounts to the same; 0 where one of both is missing."""
    if scene.missing is not None:
        return 0.0
    layout, toys = scene.layout(), scene.toys.toys
    asked = scene.target, scene.reference, scene.relation

    def right(a: int, b: int, relation: str) -> bool:
        if a != scene.target:
            return False
        x, y, _ = replace(scene, reference=b, relation=relation).goal()
        put = replace(toys[a], x=x, y=y, held_by=b if relation == toys[b].kind.way else None)
        after = ToyScene(tuple(put if k == a else toy for k, toy in enumerate(toys)))
        return scene.relation in after.relation(scene.target, scene.reference)

    doable = [
        item
        for item in product(scene.choices(), range(len(toys)), RELATIONS)
        if item[0] != item[1]
        and (item == asked or (possible(toys[item[0]].thing, toys[item[1]].thing, item[2]) and layout.free(*item)))
    ]
    return sum(right(*item) for item in doable) / len(doable)


def score_placing(row: Mapping[str, Any], perturb: Perturbation = CLEAN) -> dict[str, Any]:
    """A row with its scores: `recognition`, `parsed`, `refused` (of the first thought) and `spatial` (of the first that
    says "put", None where none does), all absent for a policy that does not think; `choice`, `choice_chance`, `rac`
    (None where no toy was taken or the thought then in force does not say which), `success_chance`, `why`, `new` where
    something is, and `false_take` where one of both is missing. perturb: of the row's arm."""
    return scored_as(row, perturbed_placing(sample_placing_task(key_of(row)), key_of(row), perturb))


def scored_as(row: Mapping[str, Any], scene: PlacingScene) -> dict[str, Any]:
    """The same of a row whose scene is known."""
    facts = row["facts"]
    if facts.get("toys") != len(scene.choices()):
        raise BadData(
            f"episode {row['key']} had {facts.get('toys')} toys to take, its key now gives {len(scene.choices())}",
            "rows of this version's scenes",
            "evaluate again, or score with the version that made the rows",
        )
    out = dict(row)
    thoughts = [(step, read_placing(text)) for step, text in row["thoughts"]]
    if thoughts:
        first = thoughts[0][1]
        out |= {"recognition": recognised(first, scene), "parsed": first is not None, "refused": refuses(first)}
        put = [said for _, said in thoughts if said is not None and said["step"] == "put"]
        out["spatial"] = understood(put[0], scene) if put else None
    if scene.missing is not None:
        out["false_take"] = facts["choice"] >= 0
    if found := new(scene):
        out["new"] = found
    return out | {
        "choice": bool(facts["choice_right"]),
        "choice_chance": 1 / len(scene.choices()) if scene.missing is None else 0.0,
        "success_chance": success_chance(scene),
        "rac": _consistent(row, thoughts, scene),
        "why": "" if row["success"] else str(facts.get("why") or row["end"]),
    }


def _consistent(row: Mapping[str, Any], thoughts: list[tuple[int, Any]], scene: PlacingScene) -> bool | None:
    taken, when = row["facts"].get("choice", -1), row["chosen_at"]
    if taken < 0 or when is None:
        return True if thoughts and refuses(thoughts[-1][1]) else None
    before = [said for step, said in thoughts if step < when]
    if before and refuses(before[-1]):
        return False
    named = before[-1]["target"] if before and before[-1] is not None else None
    return None if named is None else named == scene.toys.toys[taken].full
