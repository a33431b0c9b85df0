"""Scenes that tell by themselves what is asked for, and the same ones with the other thing asked for (after CAST's
claim, arXiv 2508.13446: where a picture all but determines the action, the instruction is not listened to).

No simulator here. Tasks of placing with one more word behind:

    spatial_placing/R/biased     a red ball, a blue ball and a bowl: where the bowl is white the red one is put into it,
                                 where it is black the blue one; never otherwise
    spatial_placing/R/other      the scene of the same index, where the other ball is asked for

So in the first the bowl's colour tells all that the instruction does, and who goes by it alone always takes the wrong
ball in the second. Which ball lies on which side is even, and so is the bowl's colour. Words but one, board and places
of a scene are its twin's.

Not in `declared.scene_hash`, since it declares nothing new to exist. Who changes what is drawn here raises the version
of the protocol (`evaluate.protocol.PLACING_BIASED`), which is in every key and in a bench's address.
"""

from __future__ import annotations

from dataclasses import replace

from mindhand.core.keys import Key, Keys

from . import cued
from .draw import Draw
from .placing import FAMILY, PlacingScene, sample_writing
from .things import MATERIALS, Toy, ToyScene

BIASED, OTHER = f"{FAMILY}/R/biased", f"{FAMILY}/R/other"
PAIRS = {"white": "red", "black": "blue"}  # the bowl's colour, and that of the ball that is then asked for


def sample_biased(keys: Keys) -> PlacingScene:
    """One scene whose bowl tells which ball is meant. keys: one row."""
    draw = Draw(keys.fold("biased"))
    poses = cued.lay_balls(draw).poses
    bowl = draw.pick(list(PAIRS))
    balls = draw.shuffled(list(PAIRS.values()))  # on the left, on the right
    toys = [Toy(t.name, colour, MATERIALS[0], *p) for t, colour, p in zip(cued.THINGS, [*balls, bowl], poses)]
    order = draw.shuffled(range(len(toys)))
    target, reference = order.index(balls.index(PAIRS[bowl])), order.index(2)
    scene = PlacingScene(
        ToyScene(tuple(toys[k] for k in order)), target, reference, "in", sample_writing(draw), instruction=""
    )
    return replace(scene, instruction=scene.worded())


def asked_otherwise(scene: PlacingScene) -> PlacingScene:
    """The scene with the other ball asked for."""
    other = replace(scene, target=next(k for k in scene.choices() if k != scene.target))
    return replace(other, instruction=other.worded())


def sample_task(key: Key) -> PlacingScene:
    """The scene an episode's key names, of these tasks and of those of `cued.sample_task`."""
    if key.task not in (BIASED, OTHER):
        return cued.sample_task(key)
    scene = sample_biased(Keys.of([replace(key, task=BIASED)]))
    return scene if key.task == BIASED else asked_otherwise(scene)
