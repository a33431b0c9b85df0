"""What else could be said to a robot: for the language arms of an evaluation (`evaluate.arms`)."""

from __future__ import annotations

from dataclasses import replace

from mindhand.core.keys import Key, Keys

from .draw import Draw
from .placing import INSTRUCTIONS as PLACING
from .placing import PlacingScene, possible
from .scene import INSTRUCTIONS
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
        replace(scene, target=a, reference=b, relation=how)
        for a in scene.choices() for b in range(len(names)) for how in RELATIONS
        if a != scene.target and a != b and names[a] != names[b] and possible(names[a], names[b], how)
    ]  # fmt: skip
    phrasings = [scene.worded(k) for k in range(len(PLACING))]
    paraphrased = draw.pick([p for p in phrasings if p != scene.instruction])
    return {"swapped": draw.pick(others).worded(), "paraphrased": paraphrased}
