"""What else could be said to a robot at the board: for the language arms of an evaluation (`evaluate.arms`)."""

from __future__ import annotations

from mindhand.core.keys import Key, Keys

from .draw import Draw
from .scene import INSTRUCTIONS

ELSEWHERE = (  # other things to do here; none of them is done by answering the board
    "leave the tiles where they are",
    "push all tiles to the back",
    "take the tiles out of the tray",
    "point at the board",
)


def wordings(key: Key, said: str) -> dict[str, str]:
    """For an episode in which `said` is the instruction: "swapped", that of something else, and "paraphrased", the same
    in other words. A function of the key."""
    draw = Draw(Keys.of([key]).fold("wordings"))
    return {"swapped": draw.pick(ELSEWHERE), "paraphrased": draw.pick([i for i in INSTRUCTIONS if i != said])}
