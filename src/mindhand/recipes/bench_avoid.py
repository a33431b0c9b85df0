"""What AEGIS does for a hand that does not know of the obstacles: the expert of placing, on the obstacle course.

mindhand bench avoid        from a clean checkout; about 20 minutes on a quiet core

    bare        no shield
    aegis       told by `geometry` where obstacles stand
    seen        told by the depth and the labels of the front camera
    repulsion   a hand-made one: pushed off by what is near, instead of a barrier
    elsewhere   AEGIS told of another episode's obstacles: that it is told anything explains nothing

The expert looks at every step where the hand is, so what is measured is the shield's own doing; a policy that learned
may lose its way where it was never led.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import mindhand.core
import mindhand.kit.ellipsoids
import mindhand.methods.guard.aegis
import mindhand.worlds
from mindhand.core.keys import Key
from mindhand.core.nouns import Filtered, Observation
from mindhand.core.record import Record, write_record
from mindhand.core.seams import Filter, State
from mindhand.methods.guard.aegis import OBSTACLES, VALID, correct, sighted
from mindhand.worlds.course import FAMILY, LEVELS
from mindhand.worlds.desk.controls import careless
from mindhand.worlds.desk.senses import Senses
from mindhand.worlds.desk.spec import SPEC
from mindhand.worlds.desk.world import DeskWorld

from .bench_desk import Row, episode

SOURCES = (
    Path(__file__), mindhand.core, mindhand.kit.ellipsoids, mindhand.methods.guard.aegis,
    *sorted(p for p in Path(mindhand.worlds.__path__[0]).rglob("*.py") if p.name != "gym.py"),
)  # fmt: skip
ARMS = ("bare", "aegis", "seen", "repulsion", "elsewhere")
EPISODES = 100
EYE = "front"
SENSES = Senses(depth=(EYE,), segmentation=(EYE,))


@dataclass(frozen=True)
class Repulsion:
    """Filter: the commanded tool point is pushed away from every obstacle that is nearer to the gripper than `reach`
    (m), by what is missing to that: as near as two ellipsoids are along the line between their centres."""

    of: Any  # AEGIS, whose gripper it takes
    reach: float = 0.05

    def __call__(self, action: np.ndarray, now: Observation, state: State) -> tuple[Filtered, State]:
        """action (B,A) -> the same but for the tool point."""
        out = action.copy()
        for r in range(len(action)):
            _, centre, mine = self.of.pose(now.state[r, -1])
            for told in now.extras[OBSTACLES][r][now.extras[VALID][r]]:
                away = centre - told[:, 3]
                apart = float(np.linalg.norm(away))
                along = away / max(apart, 1e-6)
                half = sum(1 / np.linalg.norm(np.linalg.solve(s, along)) for s in (mine, told[:, :3]))
                out[r, self.of.at] += along * np.clip(self.reach - (apart - half), 0, self.reach)
        moved = (out != action).any(1)
        return Filtered(out, moved, tuple("pushed" if m else "" for m in moved)), state


def episodes(level: str, arm: str, count: int = EPISODES) -> list[Row]:
    """Episodes of a level, a row each: what the world says of them, and the share of steps that were "corrected"."""
    senses = SENSES if arm == "seen" else Senses()
    rows, aegis = [], correct(SPEC)
    shield: Filter = Repulsion(aegis) if arm == "repulsion" else aegis
    with closing(DeskWorld(1, senses=senses)) as desk, closing(DeskWorld(1)) as other:
        world = sighted(desk, (EYE,) if arm == "seen" else ())
        for i in range(count):
            world.reset([key := Key("bench-avoid", f"{FAMILY}/{level}", i)], [0])
            careless(desk, 0)
            told: dict[str, np.ndarray] = {}
            if arm == "elsewhere":
                away = sighted(other)
                away.reset([Key("bench-avoid", f"{FAMILY}/{level}", count + i)], [0])
                told = {**away.observe([0], ()).extras}
            rows.append(_driven(world, desk, key, None if arm == "bare" else shield, told))
    return rows


def _driven(world: Any, desk: DeskWorld, key: Key, shield: Filter | None, told: dict[str, np.ndarray]) -> Row:
    """An episode that was reset, with the share of its steps that the shield corrected."""
    state: State = {}
    corrected = []

    def act(step: int) -> np.ndarray:
        nonlocal state
        action = np.asarray(desk.expert([0]), np.float32)
        if shield is None:
            corrected.append(False)
            return action
        now = world.observe([0], ())
        out, state = shield(action, replace(now, extras={**now.extras, **told}), state)
        corrected.append(bool(out.intervened[0]))
        return out.action

    return {**episode(world, key, act), "corrected": float(np.mean(corrected))}


def publish(folder: Path | None = None, count: int = EPISODES, levels: Sequence[str] = LEVELS) -> list[Record]:
    """avoid/hits, avoid/success and avoid/corrected of every level and arm. Expected: without a shield nothing is hit
    at "clear", a fifth of "near" and all "across", where nothing succeeds; with AEGIS hardly anything is hit, and at
    "clear" nothing is corrected but for a step or two."""
    out = []
    for level in levels:
        for arm in ARMS:
            rows = episodes(level, arm, count)
            how: dict[str, Any] = {"rows": rows, "unit": "1", "chance": None, "sources": SOURCES, "folder": folder}
            for name, field, kind in (
                ("hits", "hit", "rate"), ("success", "success", "rate"), ("corrected", "corrected", "mean"),
            ):  # fmt: skip
                to = f"avoid/{name}/{level}_{arm}"
                out.append(write_record(to, field=field, kind=kind, command="mindhand bench avoid", **how))
    return out
