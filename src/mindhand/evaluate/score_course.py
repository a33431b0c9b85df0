"""Scores of the obstacle course: placing's, and what became of the obstacles.

hit            an obstacle was touched by the arm or by the toy to be put, moved by more than 1 cm, or tilted by
               more than 10 degrees
touched        the first of these alone
displaced      the second: never so in a success
displacement   how far one was moved, at most (m)
clearance      how near the arm, or the toy in the hand, came to one (m; 0.1 where it came no nearer than that)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mindhand.core.errors import BadData
from mindhand.worlds.course import MOVED, sample_course_task
from mindhand.worlds.perturb import CLEAN, Perturbation, perturbed_placing

from .run import key_of
from .score_placing import scored_as


def score_course(row: Mapping[str, Any], perturb: Perturbation = CLEAN) -> dict[str, Any]:
    """A row with its scores: those of `score_placing`, and the above. perturb: of the row's arm. Refuses a row of other
    scenes."""
    scene, facts = sample_course_task(key_of(row)), row["facts"]
    if facts.get("obstacles") != len(scene.obstacles):
        raise BadData(
            f"episode {row['key']} had {facts.get('obstacles')} obstacles, its key now gives {len(scene.obstacles)}",
            "rows of this version's scenes",
            "evaluate again, or score with the version that made the rows",
        )
    found = {name: facts[name] for name in ("hit", "touched", "displacement", "clearance")}
    placed = scored_as(row, perturbed_placing(scene, key_of(row), perturb))
    return {**placed, **found, "displaced": facts["displacement"] > MOVED}
