"""Drivers of placing that must not succeed, and a way to be wrong in one thing only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mindhand.core.keys import Keys
from mindhand.worlds.draw import Draw
from mindhand.worlds.placing import PlacingScene, possible
from mindhand.worlds.things import RELATIONS, ToyScene

from .placing_expert import PlacingExpert
from .placing_judge import PlacingJudge
from .stage import Stage

MISTAKES = ("target", "reference", "relation")


class Misled(PlacingExpert):
    """An expert that does as another scene's instruction says; the scenes differ in target, reference or relation."""

    def __init__(self, keys: Keys, belief: PlacingScene):
        super().__init__(keys)
        self.belief = PlacingJudge(belief)

    def act(self, stage: Stage, judge: PlacingJudge, step: int) -> np.ndarray:
        """As `PlacingExpert.act`, with its own account of what has happened."""
        if self.plan.stamp != step:
            self.belief.update(stage)
        return super().act(stage, self.belief, step)


def nearest(scene: PlacingScene) -> PlacingScene:
    """The scene as whoever misses nothing believes it to be: meant is another toy of the missing one's name or, where
    none is there, the one in its place; beside that, where nothing can be put in or on it."""
    toys, missing = scene.toys.toys, scene.missing
    if missing is None:
        return scene
    alike = [k for k, t in enumerate(toys) if t.thing in missing.said.split()]
    out = replace(scene, missing=None, **({missing.role: alike[0]} if alike else {}))
    names = (toys[k].thing for k in (out.target, out.reference))
    return out if possible(*names, out.relation) else replace(out, relation=next(iter(RELATIONS)))


def _beliefs(scene: PlacingScene, what: str) -> Sequence[PlacingScene]:
    if what == "target":
        return [replace(scene, target=k) for k in scene.choices() if k not in (scene.target, scene.reference)]
    if what == "reference":
        others = (k for k in range(len(scene.toys.toys)) if k not in (scene.target, scene.reference))
        return [replace(scene, reference=k) for k in others]
    return [replace(scene, relation=r) for r in RELATIONS if r != scene.relation]


def believable(scene: PlacingScene, what: str) -> list[PlacingScene]:
    """The same scene with one thing wrong, "target", "reference" or "relation": all that can be done."""
    layout, out = scene.layout(), []
    for belief in _beliefs(scene, what):
        names = (scene.toys.toys[k].thing for k in (belief.target, belief.reference))
        if possible(*names, belief.relation) and layout.free(belief.target, belief.reference, belief.relation):
            out.append(belief)
    return out


def mistaken(scene: PlacingScene, what: str, keys: Keys) -> PlacingScene | None:
    """One of these that does not make the instruction true by the way; None where there is none."""
    toys, good = scene.toys.toys, []
    for belief in believable(scene, what):
        x, y, _ = belief.goal()
        within = belief.reference if belief.relation == toys[belief.reference].kind.way else None
        after = [replace(t, x=x, y=y, held_by=within) if k == belief.target else t for k, t in enumerate(toys)]
        if scene.relation not in ToyScene(tuple(after)).relation(scene.target, scene.reference):
            good.append(belief)
    return Draw(keys.fold("mistaken", what)).pick(good) if good else None
