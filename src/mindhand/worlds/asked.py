"""Boards that somebody asks for: scanned digits, or an equation of one's own. Tasks with other words:

maths_matching/K-dev/scanned      the scene of the task without the word, its board in scanned digits that no
                                  training shows (signs by held-out hands)
maths_matching/asked/12+7         this equation, of any class or none, among tiles like those of class R
"""

from __future__ import annotations

from dataclasses import replace

from mindhand.core.errors import BadData
from mindhand.core.keys import Key, Keys

from . import scene
from .draw import Draw
from .equations import Equation
from .hands import SCAN_UNSEEN
from .scene import Font, MathsScene, sample_maths, write_board

SCANNED, ASKED = "scanned", "asked"
MOST = 99  # the largest answer: the tray has two places
PEN = Font(SCAN_UNSEEN, "", "HX", "-", ("x",))


def asked_equation(text: str) -> Equation:
    """An equation that somebody asks for, in words that they may use: "12 + 7", "3*4", "8x9=?". BadData for one that
    the tray or the board has no room for."""
    plain = text.replace(" ", "").rstrip("=?").replace("*", "x").replace("×", "x").replace("−", "-")
    found = Equation.parse(plain)
    if not 0 <= found.answer <= MOST or max(found.a, found.b) > MOST:
        raise BadData(f"{text}: {found.a}{found.op}{found.b}={found.answer}", f"numbers and an answer of 0 to {MOST}",
                      "ask for a smaller one")  # fmt: skip
    return found


def sample_task(key: Key) -> MathsScene:
    """The scene an episode's key names, of these tasks and of those of `scene.sample_task`."""
    family, *rest = key.task.split("/")
    words = [w for w in rest if w != SCANNED]
    if words[:1] == [ASKED] and len(words) == 2 and family == scene.FAMILY:
        made = sample_maths(Keys.of([key]), "R", equation=asked_equation(words[1]))
    else:
        made = scene.sample_task(replace(key, task="/".join([family, *words])))
    if SCANNED not in rest:
        return made
    board = write_board(Draw(Keys.of([key]).fold(SCANNED)), made.equation.text, [PEN])
    return replace(made, board=board)
