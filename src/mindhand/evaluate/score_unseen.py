"""Scores of the two families in which nothing is named or chosen: what chance would do, and why an episode failed.

    height_reaching   `/varied`: who takes every block for one of the same height is right where it is near enough
    hidden_state      who remembers nothing guesses at the gate, each time anew (`hidden.CHANCE`)

Of `/flat` and `/seen`, where there is nothing to see or to remember, such a policy could be right always: that says
nothing of a guesser, and no chance is given.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mindhand.worlds import heights, hidden
from mindhand.worlds.perturb import CLEAN, Perturbation

_SPAN = heights.HEIGHTS[1] - heights.HEIGHTS[0]
CHANCE = {
    f"{heights.FAMILY}/varied": 2 * heights.BAND / _SPAN,
    **{f"{hidden.FAMILY}/{kind}": chance for kind, chance in hidden.CHANCE.items() if chance < 1},
}


def score_unseen(row: Mapping[str, Any], perturb: Perturbation = CLEAN) -> dict[str, Any]:
    """A row with `why` ("" where it succeeded) and, where a guess is one, `success_chance`. perturb: of the row's arm;
    none of those that these families know changes what a guess gets."""
    out = {**row, "why": "" if row["success"] else str(row["facts"].get("why") or row["end"])}
    return out | ({"success_chance": CHANCE[row["task"]]} if row["task"] in CHANCE else {})
