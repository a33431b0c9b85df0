"""What has happened in a placing episode: which toy was chosen, whether it was lifted, and whether it lies as asked.

Success: the target was lifted and let go, lies still, and lies so to the reference as it was to; the reference was not
moved by more than 2 cm, nor any other toy by more than 3 cm. To one side: by the rule of `ToyScene.relation`, for
where both lie now. In and on: it rests within the container. It must have been lifted because a random arm that pushes
toys about would now and then push one to the right side of another, and because that is what "put" asks for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from mindhand.worlds.grips import GRIPS, HOLDERS
from mindhand.worlds.placing import PlacingScene, placing_reasoning
from mindhand.worlds.things import ToyScene

from .arm import FINGER_RANGE, PAD_INSET
from .arms import Arm
from .playground import ToyStage
from .spec import EMPTY, PLACING_LIMIT, SHUT, SPEC
from .stage import Stage

SLOW, CALM = 0.05, 4  # m/s; control steps in a row: what is dropped stands still for a moment where it turns round
MOVED = 0.01  # a toy pushed or lifted by this was moved
LIFTED = 0.01  # m above the table
PUSHED, SHOVED = 0.02, 0.03  # the most that the reference, another toy, may be moved
AROUND, LOW = 0.025, 0.032  # the gripper is around a toy: horizontally, and over where it would be gripped
HELD = 0.035  # and a toy is in the hand if its grip is no further above or below
LOOSE = 0.010  # m: a gap this much wider than the toy holds nothing; one that is held askew is as wide as that
SUNK = 0.006  # m: what stands on the table, or on something, is no further above or below
FRONT = SPEC.camera("front").height, SPEC.camera("front").width
SHIFTED = 1e-4  # a toy at rest that is further from where it last lay now lies elsewhere


def gap(gripper: float) -> float:
    """How far apart the pads are (m) when the gripper reads 0..1."""
    return 2 * (FINGER_RANGE[0] + (FINGER_RANGE[1] - FINGER_RANGE[0]) * gripper - PAD_INSET)


def opening(wide: float) -> float:
    """What the gripper reads when its pads are so far apart (m), 1 at most."""
    return min(1.0, (wide - gap(0.0)) / (gap(1.0) - gap(0.0)))


class PlacingJudge:
    """The running account of one row. `data()` and `load()` carry it through snapshots."""

    def __init__(self, scene: PlacingScene):
        self.scene = scene
        self.toys = scene.toys.toys
        self.start = [(t.x, t.y) for t in self.toys]
        self.rest = [(t.x, t.y, t.yaw) for t in self.toys]  # where each toy last lay
        self.step = "take"  # of `placing_reasoning`
        self.lifted = self.holds = self.within = self.success = self.released = False
        self.calm = 0
        self.approached = self.closed = self.moved = self.choice = -1
        self.choice_right: bool | None = None
        self.wide = True  # the gripper has been open since it last closed
        self.limit = PLACING_LIMIT  # control steps of an episode

    def grip_at(self, stage: Stage, k: int) -> tuple[float, float, float]:
        """Where toy k would be gripped now (m), upright or not."""
        body, g = stage.ids.tiles[k], GRIPS[self.toys[k].thing]
        turn, (x, y, z) = stage.data.xmat[body].tolist(), stage.data.xpos[body].tolist()
        return tuple(p + turn[i] * g.x + turn[i + 1] * g.y + turn[i + 2] * g.up for p, i in ((x, 0), (y, 3), (z, 6)))

    def gripped(self, stage: Stage) -> bool:
        """Whether the target is between two fingers, and they are no further apart than it is wide, and not shut."""
        wide = GRIPS[self.toys[self.scene.target].thing].width + LOOSE
        for arm in stage.arms:
            if (gripper := arm.gripper) <= EMPTY or gap(gripper) >= wide:
                continue
            at = self.grip_at(stage, self.scene.target)
            if all(abs(a - b) < d for a, b, d in zip(at, arm.tcp.tolist(), _HAND)):
                return True
        return False

    def update(self, stage: Stage) -> None:
        """Look once, after a control step. Plain floats: numpy costs more than it saves on six toys."""
        places = stage.positions.tolist()
        for arm in stage.arms:
            self._choose(stage, arm, places)
        held = self.gripped(stage)
        target = self.scene.target
        self.lifted |= held and places[target][2] > LIFTED
        self.released = not held
        for k, (x, y, _) in enumerate(places):
            if stage.still(k, SLOW, -1.0) and not (held and k == target):
                rx, ry, _ = self.rest[k]
                if abs(x - rx) > SHIFTED or abs(y - ry) > SHIFTED:
                    self.rest[k] = x, y, stage.tile_yaw(k)
        still = not held and stage.still(target, SLOW, -1.0)
        self.holds = still and self._holds(stage, places)
        self.calm = self.calm + 1 if self.holds else 0
        if held:
            self.step = "put"
        elif still and not (self.holds and self.lifted):
            self.step = "take"
        elif self.calm >= CALM:  # until then it is being let go, which is part of putting it
            self.step = "done"
        near = self.pushed() <= PUSHED and self.shoved() <= SHOVED
        self.success = self.lifted and self.calm >= CALM and near

    def _holds(self, stage: Stage, places: list[list[float]]) -> bool:
        """Whether the target, which lies still, lies as it was to: never where one of both is missing."""
        scene = self.scene
        if scene.missing is not None:
            return False
        (x, y, z), (u, v, w) = places[scene.target], places[scene.reference]
        container, upright = self.toys[scene.reference].kind, stage.data.xmat[stage.ids.tiles[scene.target], 8] > 0.9
        if scene.relation == container.way:
            holder, height = HOLDERS[container.name], z - w
            inside = math.hypot(x - u, y - v) < holder.room and height > container.holds - SUNK
            top = max(holder.rim, container.holds + SUNK)
            self.within = inside and height < top
            return self.within
        self.within = False
        # What lies on its side has its frame somewhere in the air.
        if upright and z > SUNK:
            return False
        pair = ((self.toys[scene.target], x, y), (self.toys[scene.reference], u, v))
        return scene.relation in ToyScene(tuple(replace(t, x=a, y=b) for t, a, b in pair)).relation(0, 1)

    # ---- what goes with a frame --------------------------------------------------------------------------

    @property
    def placed(self) -> int:
        """1 when the target lies as asked, else 0."""
        return int(self.step == "done")

    @property
    def now(self) -> PlacingScene:
        """The scene as it is: toys where they last lay."""
        return self.scene.moved(self.rest, self.scene.reference if self.within else None)

    def reasoning(self, stage: Stage) -> str:
        """The text of the sub-step that the row is in."""
        return placing_reasoning(self.now, self.step)

    def reasoning_with_boxes(self, stage: ToyStage) -> str:
        """The stated variant: with the boxes of target and reference in the front picture."""
        boxes = stage.boxes("front", FRONT)
        pair = tuple(boxes[self.scene.target].tolist()), tuple(boxes[self.scene.reference].tolist())
        return placing_reasoning(self.now, self.step, pair, FRONT[1])

    def target(self, stage: Stage) -> tuple[int, np.ndarray] | None:
        """The target while it does not lie as asked: index, and x, y, z, yaw of the tool that would grip it where it is
        (m, rad)."""
        if self.step == "done":
            return None
        k = self.scene.target
        yaw = GRIPS[self.toys[k].thing].tool_yaw(stage.tile_yaw(k))
        return k, np.array([*self.grip_at(stage, k), yaw])

    def goal(self, stage: Stage) -> np.ndarray | None:
        """x, y, z, yaw of what the reasoning speaks of: the target's grip or, with it in the hand, where its middle is
        to stand; None when it lies as asked."""
        if self.step == "put":
            return np.array([*self.now.goal(), 0.0])
        target = self.target(stage)
        return None if target is None else target[1]

    def geometry(self, stage: Stage) -> Mapping[str, Any]:
        """toys (n,4) x y z yaw."""
        yaws = [stage.tile_yaw(k) for k in range(stage.count)]
        return {"toys": np.column_stack([stage.positions, yaws])}

    # ---- what was moved ------------------------------------------------------------------------------------

    def pushed(self) -> float:
        """How far the reference lies from where it was (m)."""
        return self._away(self.scene.reference)

    def shoved(self) -> float:
        """How far any other toy lies from where it was, at most (m)."""
        others = set(range(len(self.toys))) - {self.scene.target, self.scene.reference}
        return max((self._away(k) for k in others), default=0.0)

    def _away(self, k: int) -> float:
        return math.hypot(self.rest[k][0] - self.start[k][0], self.rest[k][1] - self.start[k][1])

    def _choose(self, stage: Stage, arm: Arm, places: list[list[float]]) -> None:
        """Look at one hand; its gripper's last look is kept in `wide`, or for a second arm in `wide_right`."""
        wide, gripper = f"wide{arm.mount.suffix}", arm.gripper
        closes = vars(self).get(wide, True) and gripper <= SHUT
        vars(self)[wide] = gripper > SHUT
        if self.choice >= 0:
            return
        tx, ty, tz = arm.tcp.tolist()
        beside = []
        for k in self.scene.choices():
            x, y, z = self.grip_at(stage, k)
            beside.append((max(abs(x - tx), abs(y - ty)), tz - z, k))
        nearest, over, which = min(beside)
        if nearest < AROUND and over < LOW:
            self.approached = which if self.approached < 0 else self.approached
            self.closed = which if closes else -1
        gone = [max(abs(x - u), abs(y - v), z) for (x, y, z), (u, v) in zip(places, self.start)]
        self.moved = gone.index(max(gone)) if max(gone) > MOVED else -1
        self.choice = self.closed if self.closed >= 0 else self.moved
        if self.choice >= 0:
            self.choice_right = self.choice == self.scene.target

    def why(self) -> str:
        """Why it is no success yet, in a phrase; "" when it is one."""
        named = [t.full for t in self.toys]
        if self.success:
            return ""
        if self.choice < 0:
            return "took no toy"
        if not self.choice_right:
            return f"took {named[self.choice]}, wanted {named[self.scene.target]}"
        if not self.lifted:
            return f"did not lift {named[self.scene.target]}"
        if not self.released:
            return f"still holds {named[self.scene.target]}"
        if self.pushed() > PUSHED:
            return f"moved {named[self.scene.reference]}, the reference"
        if self.shoved() > SHOVED:
            return "moved a toy that was not asked for"
        return "not at rest" if self.holds else f"not {self.scene.relation} {named[self.scene.reference]}"

    def facts(self) -> dict[str, Any]:
        """Privileged facts, toys by index, -1 for none yet: `approached`, the first toy that the low gripper was
        around; `choice`, the first toy it closed upon ("closed") or that was pushed or lifted by 1 cm ("moved"),
        whichever came first, and whether it is the target (None without a choice); `toys`, how many there were to
        choose from; `lifted`, `released`, whether the relation `holds` now; how far the reference and the other toys
        were moved (m); and `why` it is no success, "" when it is one."""
        return {
            "approached": self.approached,
            "closed": self.closed,
            "moved": self.moved,
            "choice": self.choice,
            "choice_right": self.choice_right,
            "toys": len(self.scene.choices()),
            "lifted": self.lifted,
            "released": self.released,
            "holds": self.holds,
            "reference_moved": self.pushed(),
            "others_moved": self.shoved(),
            "why": self.why(),
        }

    def data(self) -> dict[str, Any]:
        """Plain values."""
        return {k: v for k, v in vars(self).items() if k not in ("scene", "toys", "start", "limit")}

    def load(self, data: dict[str, Any]) -> None:
        """The inverse of `data`."""
        vars(self).update({**data, "rest": [tuple(p) for p in data["rest"]]})


_HAND = (AROUND, AROUND, HELD)
