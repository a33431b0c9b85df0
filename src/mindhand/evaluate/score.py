"""Scores of the paper's task: what was read, what was computed, what was meant, what was done (ChatVLA-2,
arXiv 2505.21906, section 5; its weights). Every score is computed an episode, so that an interval can follow.

    OCR /4     1 expression read; 1 tile digits and order; 2 operator
    maths /2   1 result; 1 tile chosen in text
    choice     the tile first closed upon (or moved) carries the digit then wanted
    success    the protocol's rule
    rac        reasoning -> act consistency: the tile taken is the tile named in the own text, or none and none is
    refused    the first thought says "none"
    false_take a tile was taken or moved where tiles of the answer are absent (`worlds.absent`), and only scored there:
               "none" is then the tile to be named, and no tile the one to be chosen

Texts are parsed exactly; a text without the exact form scores 0. Chance is what a policy gets that picks tiles
uniformly, without looking at them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mindhand.core.errors import BadData
from mindhand.worlds.absent import sample_maths_task
from mindhand.worlds.equations import Equation
from mindhand.worlds.perturb import CLEAN, Perturbation, perturbed_scene
from mindhand.worlds.scene import REFUSAL, MathsScene, place_words, read_reasoning

from .run import key_of

OCR, MATHS = 4, 2


@dataclass(frozen=True)
class Text:
    """How one thought scores: the points of the paper, and the tile it names. The weights are the paper's."""

    expression: bool
    tiles: bool
    operator: bool
    result: bool
    tile: bool

    @property
    def ocr(self) -> int:
        """0 to 4."""
        return self.expression + self.tiles + 2 * self.operator

    @property
    def maths(self) -> int:
        """0 to 2."""
        return self.result + self.tile


def score_text(text: str, scene: MathsScene) -> Text:
    """One first thought (nothing placed yet) against the scene it is about.

    expression: both operands as written. operator: as written; each counts by itself, so "3-4" on a board with
    "3+4" has its operands. tiles: every digit on the table, from left to right. result: the number after the "=".
    tile: digit and place of a tile that serves as the answer's first digit; of a scene that is `lacking`, "none". No
    points where the text has not the exact form, or speaks of a tile already placed or in the hand.
    """
    said = read_reasoning(text)
    if said is None or said["placed"] or said["step"] not in ("take", REFUSAL):
        return Text(False, False, False, False, False)
    e = Equation.parse(said["expression"])
    table = tuple(t.digit for t in sorted(scene.tiles, key=lambda t: t.x))
    serving = {(t.digit, place_words(t.x, t.y)) for t in (scene.tiles[i] for i in scene.candidates(0))}
    return Text(
        expression=(e.a, e.b) == (scene.equation.a, scene.equation.b),
        tiles=said["tiles"] == table,
        operator=e.op == scene.equation.op,
        result=said["answer"] == scene.equation.answer,
        tile=said["step"] == REFUSAL if scene.lacking else (said["digit"], said["place"]) in serving,
    )


def named_tiles(text: str, scene: MathsScene) -> tuple[int, ...] | None:
    """The tiles a thought may mean, by digit and place; () where no tile is so, None where it names none."""
    said = read_reasoning(text)
    if said is None or said["step"] != "take":
        return None
    fit = [i for i, t in enumerate(scene.tiles) if (t.digit, place_words(t.x, t.y)) == (said["digit"], said["place"])]
    return tuple(fit)


def choice_chance(scene: MathsScene) -> float:
    """A tile at random is one that serves as the first digit: acceptable / all; 0 where none should be taken."""
    return 0.0 if scene.lacking else len(scene.candidates(0)) / len(scene.tiles)


def success_chance(scene: MathsScene) -> float:
    """Tiles at random, without putting one back, serve as all digits in order: for two digits, acceptable ordered
    pairs / all ordered pairs."""
    digits, left = scene.equation.digits, Counter(t.digit for t in scene.tiles)
    ways = 1
    for d in digits:
        ways *= left[d]
        left[d] -= 1
    return ways / math.perm(len(scene.tiles), len(digits))


def why(row: Mapping[str, Any], scene: MathsScene) -> str:
    """Why an episode did not succeed, in a phrase; "" where it did. The world's own fact "why" goes first."""
    if row["success"]:
        return ""
    facts = row["facts"]
    if facts.get("why"):
        return str(facts["why"])
    if facts.get("choice", -1) < 0:
        return "took no tile"
    taken = scene.tiles[facts["choice"]].digit
    if not facts["choice_right"]:
        return f"took {taken}, wanted {scene.equation.digits[0]}"
    if facts.get("placed", 0) < len(scene.equation.digits):
        return f"took {taken}, which is right; placed {facts.get('placed', 0)} of {len(scene.equation.digits)}"
    return "all digits placed, and another tile in the tray"


def score(row: Mapping[str, Any], perturb: Perturbation = CLEAN) -> dict[str, Any]:
    """A row with its scores: `ocr`, `maths`, `parsed`, `refused` (of the first thought; absent for a policy that does
    not think), `choice`, `choice_chance`, `success_chance`, `rac` (True, False, or None where no tile was taken or
    the thought then in force does not say which), `digits`, `why`, and `false_take` where tiles are absent. perturb: of
    the arm that the row is of. Refuses a row of another task family."""
    scene, facts = perturbed_scene(sample_maths_task(key_of(row)), key_of(row), perturb), row["facts"]
    if facts.get("tiles") != len(scene.tiles):
        raise BadData(
            f"episode {row['key']} had {facts.get('tiles')} tiles, its key now gives {len(scene.tiles)}",
            "rows of this version's scenes",
            "evaluate again, or score with the version that made the rows",
        )
    out = dict(row)
    if row["thoughts"]:
        first, said = score_text(row["thoughts"][0][1], scene), read_reasoning(row["thoughts"][0][1])
        out |= {"ocr": first.ocr, "maths": first.maths, "parsed": said is not None, "refused": refuses(said)}
    out |= {
        "choice": bool(facts["choice_right"]),
        "choice_chance": choice_chance(scene),
        "success_chance": success_chance(scene),
        "digits": len(scene.equation.digits),
        "rac": _consistent(row, scene),
        "why": why(row, scene),
    }
    return out | {"false_take": facts["choice"] >= 0} if scene.lacking else out


def refuses(said: Mapping[str, Any] | None) -> bool:
    """Whether a thought, as it was read, says that nothing is to be taken."""
    return said is not None and said["step"] == REFUSAL


def _consistent(row: Mapping[str, Any], scene: MathsScene) -> bool | None:
    taken, when = row["facts"].get("choice", -1), row["chosen_at"]
    if taken < 0 or when is None:
        return True if row["thoughts"] and refuses(read_reasoning(row["thoughts"][-1][1])) else None
    # The thought in force when the tile was taken; it speaks of the tiles where they lay at first.
    before = [text for step, text in row["thoughts"] if step < when]
    if before and refuses(read_reasoning(before[-1])):
        return False
    named = named_tiles(before[-1], scene) if before else None
    return None if named is None else taken in named
