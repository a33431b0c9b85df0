"""Rows with their scores, whatever the task family."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mindhand.worlds import course, heights, hidden, placing, scene
from mindhand.worlds.perturb import Perturbation

from .arms import perturbation_of
from .protocol import CLEAN
from .score import MATHS, OCR, score
from .score_course import score_course
from .score_placing import score_placing
from .score_unseen import score_unseen

# What reports and exports show of scored rows, where a family has it: shares, and points with how many there are.
RATES = ("success", "choice", "false_take", "refused", "rac", "parsed", "recognition", "spatial", "hit", "displaced")
POINTS = {"ocr": OCR, "maths": MATHS}
SCORERS: Mapping[str, Callable[[Mapping[str, Any], Perturbation], dict[str, Any]]] = {
    scene.FAMILY: score,
    placing.FAMILY: score_placing,
    course.FAMILY: score_course,
    heights.FAMILY: score_unseen,
    hidden.FAMILY: score_unseen,
}


def scored(rows: Sequence[Mapping[str, Any]], arm: str = CLEAN) -> list[dict[str, Any]]:
    """Every row with its scores; one of a family that has none as it is. arm: the protocol's, which says how the
    scenes were perturbed."""
    perturb = perturbation_of(arm)

    def one(row: Mapping[str, Any]) -> dict[str, Any]:
        scorer = SCORERS.get(row["task"].partition("/")[0])
        return dict(row) if scorer is None else scorer(row, perturb)

    return [one(row) for row in rows]


def knew(row: Mapping[str, Any]) -> bool:
    """Whether the first thought of a scored episode was right: the answer of a sum, or both toys and where they lie."""
    return row.get("maths") == 2 or bool(row.get("recognition"))
