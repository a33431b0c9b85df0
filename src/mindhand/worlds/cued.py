"""Scenes in which a colour goes along with a place, and the same ones with that turned round (after InSpire's claim,
arXiv 2505.13888: what merely goes along with success in training misleads a policy that does not look).

No simulator here. Tasks of placing with one more word behind:

    spatial_placing/R/cue        "put the red ball in the bowl": one ball has a warm colour, one a cold one, one lies
                                 left and one right, and in nine scenes of ten the warm one is on the left
    spatial_placing/R/reversed   the scene of the same index, its balls' colours exchanged: in nine of ten it is right

So the colour that is said tells the side in both, and who never looks is right in nine of ten of the first and in one
of ten of the second. One scene in ten contradicts the cue, or nothing in the demonstrations would say that colour and
not the side is what is meant. Where along its side a ball lies has to be seen in any case; a ball is held any way
round, so nothing else has to be. Words, board and places of a scene are its twin's.

Not in `declared.scene_hash`, since it declares nothing new to exist. Who changes what is drawn here raises the version
of the protocol (`evaluate.protocol.PLACING_CUE`), which is in every key and in a bench's address.
"""

from __future__ import annotations

import math
from dataclasses import replace

from mindhand.core.keys import Key, Keys

from .draw import Draw
from .placing import FAMILY, PlacingScene, sample_placing_task, sample_writing
from .placing_layout import Layout, roomy
from .things import BY_NAME, MATERIALS, Toy, ToyScene

CUE, REVERSED = f"{FAMILY}/R/cue", f"{FAMILY}/R/reversed"
WARM, COLD = ("red", "orange", "yellow"), ("green", "blue", "purple")
NEITHER = ("white", "black")  # the bowl's
AGREE = 0.9  # share of the scenes in which warm is left
SPOTS = {  # x, y (m): where the left ball, the right ball and the bowl may lie
    "left": ((-0.150, -0.085), (0.010, 0.065)),
    "right": ((0.050, 0.125), (0.010, 0.065)),
    "bowl": ((-0.030, 0.030), (-0.100, -0.085)),
}
THINGS = tuple(BY_NAME[name] for name in ("ball", "ball", "bowl"))


def sample_cued(keys: Keys) -> PlacingScene:
    """One scene with the cue; which ball is meant is even. keys: one row."""
    draw = Draw(keys.fold("cued"))
    poses = lay_balls(draw).poses
    balls = [draw.pick(WARM), draw.pick(COLD)]
    colours = [*(balls if draw.chance(AGREE) else reversed(balls)), draw.pick(NEITHER)]
    toys = [Toy(t.name, colour, MATERIALS[0], *pose) for t, colour, pose in zip(THINGS, colours, poses)]
    order = draw.shuffled(range(len(toys)))
    target, reference = order.index(draw.index(2)), order.index(2)
    scene = PlacingScene(
        ToyScene(tuple(toys[k] for k in order)), target, reference, "in", sample_writing(draw), instruction=""
    )
    return replace(scene, instruction=scene.worded())


def lay_balls(draw: Draw) -> Layout:
    """Two balls and the bowl, each with room for fingers, and either ball free to go into it."""
    while True:
        poses = [(draw.uniform(*x), draw.uniform(*y), draw.uniform(-math.pi, math.pi)) for x, y in SPOTS.values()]
        placed = list(zip(THINGS, poses))
        layout = Layout(THINGS, tuple(poses))
        good = all(roomy(t, p, placed[:k] + placed[k + 1 :]) for k, (t, p) in enumerate(placed))
        if good and all(layout.free(ball, 2, "in") for ball in (0, 1)):
            return layout


def turned_round(scene: PlacingScene) -> PlacingScene:
    """The scene with its balls' colours exchanged: the same words now mean the ball on the other side."""
    toys = list(scene.toys.toys)
    other = next(k for k in scene.choices() if k != scene.target)
    was, now = toys[scene.target].colour, toys[other].colour
    toys[scene.target], toys[other] = replace(toys[scene.target], colour=now), replace(toys[other], colour=was)
    return replace(scene, toys=ToyScene(tuple(toys)), target=other)


def sample_task(key: Key) -> PlacingScene:
    """The scene an episode's key names, of these tasks and of those of `placing.sample_placing_task`."""
    if key.task not in (CUE, REVERSED):
        return sample_placing_task(key)
    scene = sample_cued(Keys.of([replace(key, task=CUE)]))
    return scene if key.task == CUE else turned_round(scene)
