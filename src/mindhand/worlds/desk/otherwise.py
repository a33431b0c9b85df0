"""What else could be asked for where a row is, by what its camera sees, and an expert who then does it.

Scene facts of a simulator, in the place of a VLM that looks at the picture and proposes (as in CAST, 2508.13446).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mindhand.worlds.placing import PlacingScene

from .controls import mislead
from .placing_controls import believable
from .sense_views import IDS, look
from .world import DeskWorld


@dataclass(frozen=True, eq=False)
class Ask:
    """An instruction that was not given. at (3,) m: where what it asks for is gripped, in the frame of the robot's
    state; visible: whether all that it names is seen; possible: whether it can be done; belief: the scene it means."""

    instruction: str
    at: np.ndarray
    visible: bool
    possible: bool
    belief: Any


@dataclass(frozen=True)
class SceneFacts:
    """Asks of a row that places toys: every other toy that a gripper can lift, put as was asked to the same reference.
    camera: whose picture decides what is visible; least: so many pixels of a toy must be seen."""

    camera: str = "front"
    least: int = 12

    def asks(self, world: DeskWorld, row: int) -> list[Ask]:
        """In the order of the toys; none where a toy is missing, and none in a row of another family."""
        scene, stage = world.scene(row), world._stages[row]
        if not isinstance(scene, PlacingScene) or scene.missing is not None:
            return []
        c = world.spec.camera(self.camera)
        labels = look(stage, world._drawn, self.camera, (c.height, c.width)).labels
        judge: Any = world._row(row).judge
        mount = stage.arms[0].mount
        good = {belief.target for belief in believable(scene, "target")}
        out = []
        for k in scene.choices():
            if k not in (scene.target, scene.reference):
                other = replace(scene, target=k)
                seen = all((labels == IDS[f"toy {i}"]).sum() >= self.least for i in (k, scene.reference))
                at = mount.local(np.array(judge.grip_at(stage, k)))
                out.append(Ask(other.worded(), at, seen, k in good, replace(other, instruction=other.worded())))
        return out

    def drive(self, world: DeskWorld, row: int, ask: Ask) -> None:
        """Let `world.expert` of this row do what is asked for, from wherever it is, until the row is reset."""
        mislead(world, row, ask.belief)

    def things(self, world: DeskWorld, row: int) -> np.ndarray:
        """Where all toys stand now: (n,3) m."""
        return np.asarray(world.geometry([row])[0]["toys"])[:, :3]
