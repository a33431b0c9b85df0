"""Drivers that must not succeed: what the world's judge is tested and measured against."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np

from mindhand.core.keys import Key, Keys
from mindhand.worlds.draw import Draw
from mindhand.worlds.placing import PlacingScene
from mindhand.worlds.sampling import Span
from mindhand.worlds.scene import AREA, PLACES, MathsScene

from .expert import Expert
from .heights_expert import HeightsExpert
from .heights_judge import HeightsJudge
from .judge import NEAR, Judge
from .kinematics import to_rot6d, tool_down
from .placing_controls import Misled
from .placing_expert import PlacingExpert
from .spec import SHUT
from .stage import Stage
from .world import DeskWorld


class Stubborn(Expert):
    """An expert that puts the tiles of `order` into the places in turn, whatever the board says."""

    def __init__(self, keys: Keys, order: Sequence[int]):
        super().__init__(keys)
        self.order, self.done = list(order), []

    def act(self, stage: Stage, judge: Judge, step: int) -> np.ndarray:
        """As `Expert.act`, with its own belief about what is wanted and done."""
        left = self.order[len(self.done) :]
        if left and stage.gripper > SHUT:
            x, y, z = stage.positions[left[0]].tolist()
            px, py = PLACES[len(self.done)]
            if max(abs(x - px), abs(y - py)) < NEAR and z < 0.014:
                self.done.append(left.pop(0))
        scene = SimpleNamespace(candidates=lambda *_: tuple(left[:1]))
        belief = SimpleNamespace(
            scene=scene, rest=judge.rest, success=False, taken=self.done, placed=len(self.done), digits=self.order
        )
        return super().act(stage, belief, step)


def insist(world: DeskWorld, row: int, order: Sequence[int]) -> Stubborn:
    """Let `world.expert` of this row place the tiles of `order`, until the row is reset. Not kept in snapshots."""
    driver = Stubborn(Keys.of([world.observe([row], ()).keys[0]]), order)
    world._row(row).expert = driver
    return driver


def wrong_order(scene: MathsScene, keys: Keys) -> tuple[int, ...]:
    """Tiles to place whose first digit is wrong: any that does not serve, the second as the answer has it."""
    unfit = [k for k, t in enumerate(scene.tiles) if t.digit != scene.equation.digits[0]]
    first = Draw(keys.fold("wrong")).pick(unfit)
    return (first, *(k for k in scene.order()[1:] if k != first))


def nearest_order(scene: MathsScene) -> tuple[int, ...]:
    """Tiles to place for an answer whose tiles are not all there: for each digit one that shows it or, by number, the
    nearest."""
    out: list[int] = []
    for digit in scene.equation.digits:
        left = [k for k in range(len(scene.tiles)) if k not in out]
        out.append(min(left, key=lambda k: abs(scene.tiles[k].digit - digit)))
    return tuple(out)


def mislead(world: DeskWorld, row: int, belief: PlacingScene) -> Misled:
    """Let `world.expert` of this row, which places toys, do as another scene's instruction says, until the row is
    reset. Not kept in snapshots."""
    driver = Misled(Keys.of([world.observe([row], ()).keys[0]]), belief)
    world._row(row).expert = driver
    return driver


def careless(world: DeskWorld, row: int) -> PlacingExpert:
    """Let `world.expert` of this row, of the obstacle course, go as if there were no obstacles, until the row is reset.
    Not kept in snapshots."""
    driver = PlacingExpert(Keys.of([world.observe([row], ()).keys[0]]))
    world._row(row).expert = driver
    return driver


class Presuming(HeightsExpert):
    """Holds the hand over a block as if that were `top` (m) high, whatever it is."""

    def __init__(self, keys: Keys, top: float):
        super().__init__(keys)
        self.top = top

    def _top(self, judge: HeightsJudge) -> float:
        return self.top


def presume(world: DeskWorld, row: int, top: float) -> Presuming:
    """Let `world.expert` of this row, over a block, be blind to its height, until the row is reset. Not kept in
    snapshots."""
    driver = Presuming(Keys.of([world.observe([row], ()).keys[0]]), top)
    world._row(row).expert = driver
    return driver


class Wanderer:
    """Random: the tool, pointing down, wanders between places, gripper at random. `field`: x and y of the places (m),
    by default those over the tiles and the tray."""

    def __init__(self, key: Key, field: tuple[Span, Span] = (AREA[0], (PLACES[0][1], AREA[1][1]))):
        self._draw, self._left, self._action = Draw(Keys.of([key]).fold("wander")), 0, np.zeros(10)
        self._field = field

    def act(self) -> np.ndarray:
        """The next action (10,)."""
        if self._left == 0:
            d = self._draw
            x, y = (d.uniform(*span) for span in self._field)
            position = np.array([x, y, d.uniform(0.011, 0.08)]) - Stage.base
            self._action = np.concatenate([position, to_rot6d(tool_down(d.uniform(-0.5, 0.5))), [d.uniform()]])
            self._left = 4 + d.index(17)
        self._left -= 1
        return self._action
