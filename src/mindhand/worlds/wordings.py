"""What else could be said to a robot, and what else it could think: for the arms of an evaluation (`evaluate.arms`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mindhand.core.keys import Key, Keys

from .draw import Draw
from .placing import INSTRUCTIONS as PLACING
from .placing import PlacingScene, placing_reasoning, possible
from .scene import INSTRUCTIONS, MathsScene, place_words, reasoning_text
from .things import RELATIONS

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


def placing_wordings(key: Key, scene: PlacingScene) -> dict[str, str]:
    """The same for toys: "swapped" has another one put, to any of them and in any way that it can be."""
    draw, names = Draw(Keys.of([key]).fold("wordings")), [t.thing for t in scene.toys.toys]
    others = [
        replace(scene, target=a, reference=b, relation=how, missing=None)
        for a in scene.choices() for b in range(len(names)) for how in RELATIONS
        if a != scene.target and a != b and names[a] != names[b] and possible(names[a], names[b], how)
    ]  # fmt: skip
    phrasings = [scene.worded(k) for k in range(len(PLACING))]
    paraphrased = draw.pick([p for p in phrasings if p != scene.instruction])
    return {"swapped": draw.pick(others).worded(), "paraphrased": paraphrased}


def misled(key: Key, scene: MathsScene, taken: Sequence[int] = ()) -> str:
    """What there is to think, but for its last sentence: that takes a tile of another digit than the answer's first, by
    the key always the same one; none, where all tiles are alike. scene: as it is now; `taken`: tiles in the tray."""
    draw, wanted = Draw(Keys.of([key]).fold("misled")), scene.equation.digits[0]
    others = [t for t in scene.tiles if t.digit != wanted]
    said = reasoning_text(scene, len(taken), taken).rstrip(".").rpartition(". ")[0]
    if not others:
        return f"{said}. none."
    other = draw.pick(others)
    return f"{said}. take {other.digit} {place_words(other.x, other.y)}."


def placing_misled(key: Key, scene: PlacingScene) -> str:
    """The same of toys: what would be right if another toy were meant, best one that is not named anyway."""
    draw = Draw(Keys.of([key]).fold("misled"))
    others = [k for k in scene.choices() if k != scene.target]
    free = [k for k in others if k != scene.reference]
    return placing_reasoning(replace(scene, target=draw.pick(free or others), missing=None), "take")
