"""A point world in a plane, with a camera, and scripted policies that act on its pictures: for tests that need a
real World and a real Policy and no simulator.

K coloured targets lie in the unit square; the instruction names a colour; the point moves by the commanded delta.
Touching a target ends the episode, with success where it has the named colour. Everything follows from the Key.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mindhand.core.errors import BadData
from mindhand.core.keys import Key, Keys
from mindhand.core.nouns import ActionChunk, Observation, Outcome, Reasoning
from mindhand.core.spec import Camera, Part, Spec

SIZE, STEP, TOUCH = 32, 0.04, 0.05
COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "yellow": (255, 255, 0)}
TIP = Part("tip", "position", ("x", "y"), "m", mode="delta", frame="table")
SPEC = Spec(
    robot="tiny-point",
    action=(TIP,),
    state=(Part("tip", "position", ("x", "y"), "m", frame="table"),),
    cameras=(Camera("top", SIZE, SIZE, source=(SIZE, SIZE)),),
    rate=10.0,
)


def keys(count: int, task: str = "touch/R", protocol: str = "tiny-1", seed: int = 0) -> list[Key]:
    """`count` episodes of one task. "touch/R" has 3 targets, "touch/X" 4; other tasks are refused by the world."""
    return [Key(protocol, task, i, seed) for i in range(count)]


class TinyWorld:
    """`rows` points. `rendered` counts pictures, `began` the keys that were reset, in order. Every STEP a control
    step at most. `limits`: as of a robot, {} for none."""

    spec = SPEC

    def __init__(self, rows: int = 8, limits: Mapping[str, Any] | None = None):
        self.rows: list[dict[str, Any] | None] = [None] * rows
        self.limits = dict(limits or {})
        self.rendered = 0
        self.began: list[Key] = []

    def reset(self, keys: Sequence[Key], rows: Sequence[int]) -> None:
        for key, r in zip(keys, rows, strict=True):
            count = {"touch/R": 3, "touch/X": 4}.get(key.task)
            if count is None:
                raise BadData(f"task '{key.task}'", "touch/R or touch/X", "correct Key.task")
            scene = Keys.of([key]).fold("scene")
            rng = scene.generators()[0]
            names = [list(COLOURS)[i] for i in rng.permutation(len(COLOURS))[:count]]
            corners = np.array([[0.15, 0.15], [0.85, 0.15], [0.15, 0.85], [0.85, 0.85]])
            places = corners[rng.permutation(4)[:count]] + rng.uniform(-0.1, 0.1, (count, 2))
            self.rows[r] = {"key": key, "names": names, "places": places, "goal": int(scene.integers(count)[0]),
                            "at": np.array([0.5, 0.5]), "steps": 0, "touched": -1}  # fmt: skip
            self.began.append(key)

    def step(self, actions: np.ndarray, rows: Sequence[int]) -> Outcome:
        out = [self._step(self._row(r), a) for r, a in zip(rows, np.asarray(actions, np.float64), strict=True)]
        success = np.array([o["choice"] >= 0 and o["choice_right"] for o in out])
        ended = np.array([o["choice"] >= 0 for o in out])
        return Outcome(success.astype(np.float32), success, ended, np.zeros(len(out), bool), tuple(out))

    def _step(self, row: dict[str, Any], action: np.ndarray) -> dict[str, Any]:
        row["at"] = np.clip(row["at"] + np.clip(action, -STEP, STEP), 0, 1)
        row["steps"] += 1
        distance = np.linalg.norm(row["places"] - row["at"], axis=1)
        if distance.min() < TOUCH:
            row["touched"] = int(distance.argmin())
        return {"choice": row["touched"], "choice_right": row["touched"] == row["goal"], "tiles": len(row["names"]),
                "steps": row["steps"]}  # fmt: skip

    def observe(self, rows: Sequence[int], cameras: Sequence[str] | None = None) -> Observation:
        roles = SPEC.roles if cameras is None else tuple(cameras)
        found = [self._row(r) for r in rows]
        return Observation(
            images={role: np.stack([self._picture(row) for row in found])[:, None] for role in roles},
            state=np.stack([row["at"] for row in found]).astype(np.float32)[:, None],
            text={"instruction": tuple(f"touch {row['names'][row['goal']]}" for row in found)},
            time=np.array([[row["steps"] / SPEC.rate] for row in found]),
            keys=tuple(row["key"] for row in found),
        )

    def wordings(self, row: int) -> dict[str, str]:
        names, goal = self._row(row)["names"], self._row(row)["goal"]
        return {"swapped": f"touch {names[goal - 1]}", "paraphrased": f"reach {names[goal]}"}

    def thoughts(self, row: int) -> dict[str, str]:
        names, goal = self._row(row)["names"], self._row(row)["goal"]
        return {
            "told": f"{len(names)} here. touch {names[goal]}.",
            "misled": f"{len(names)} here. touch {names[goal - 1]}.",
        }

    def _picture(self, row: dict[str, Any]) -> np.ndarray:
        self.rendered += 1
        out = np.full((SIZE, SIZE, 3), 40, np.uint8)
        for name, place in zip(row["names"], row["places"]):
            x, y = (int(v * (SIZE - 1)) for v in place)
            out[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2] = COLOURS[name]
        x, y = (int(v * (SIZE - 1)) for v in row["at"])
        out[y, x] = 255
        return out

    def snapshot(self, rows: Sequence[int]) -> list[bytes]:
        return [pickle.dumps(self._row(r)) for r in rows]

    def restore(self, rows: Sequence[int], snaps: Sequence[bytes]) -> None:
        for r, snap in zip(rows, snaps, strict=True):
            self.rows[r] = pickle.loads(snap)

    def expert(self, rows: Sequence[int]) -> np.ndarray:
        found = [self._row(r) for r in rows]
        way = np.stack([row["places"][row["goal"]] - row["at"] for row in found])
        return np.clip(way, -STEP, STEP).astype(np.float32)

    def geometry(self, rows: Sequence[int]) -> list[Mapping[str, Any]]:
        return [{"targets": self._row(r)["places"], "at": self._row(r)["at"]} for r in rows]

    def project(self, points: np.ndarray, camera: str, rows: Sequence[int]) -> np.ndarray:
        points = np.broadcast_to(points, (len(rows), *np.shape(points)[-2:]))
        return points[..., :2] * (SIZE - 1)

    def _row(self, r: int) -> dict[str, Any]:
        row = self.rows[r]
        if row is None:
            raise BadData(f"row {r} has no episode", "reset first", "reset it")
        return row


def seen(picture: np.ndarray, colour: str) -> np.ndarray | None:
    """Where a colour is in a picture (h,w,3): (x, y) in the unit square, or None."""
    at = np.argwhere((picture == COLOURS[colour]).all(-1))
    return None if not len(at) else at.mean(0)[::-1] / (SIZE - 1)


class Walker:
    """Looks for the named colour and walks there, with noise that follows from (Key, query). Its state counts the
    queries of each row, so an extra or a lost query shows in the path. With probability `wrong` (by Key) it means
    another colour, and says so."""

    spec = SPEC
    provides: frozenset[str] = frozenset()

    def __init__(self, horizon: int = 6, noise: float = 0.02, wrong: float = 0.0):
        self.horizon, self.noise, self.wrong = horizon, noise, wrong

    def start(self, keys: Sequence[Key]) -> dict[str, Any]:
        return {"keys": Keys.of(keys), "query": np.zeros(len(keys), np.int64), "last": [""] * len(keys)}

    def act(
        self, obs: Observation, state: dict[str, Any], *, want: Sequence[str] = ()
    ) -> tuple[ActionChunk, dict[str, Any]]:
        actions = np.zeros((len(obs), self.horizon, 2), np.float32)
        said = []
        for b in range(len(obs)):
            key = state["keys"][[b]]
            colour = obs.text["instruction"][b].split()[1]
            picture = obs.images["top"][b, -1]
            if key.fold("wrong").uniform()[0] < self.wrong:
                colour = next(c for c in COLOURS if c != colour and seen(picture, c) is not None)
            goal = seen(picture, colour)
            way = (goal if goal is not None else np.full(2, 0.5)) - obs.state[b, -1]
            noise = key.fold("query", int(state["query"][b])).normal(self.horizon, 2)[0] * self.noise
            actions[b] = np.clip(way, -STEP, STEP) + noise
            said.append(f"go to {colour}")
        thought = [s if s != before else "" for s, before in zip(said, state["last"])]
        after = {"keys": state["keys"], "query": state["query"] + 1, "last": said}
        return ActionChunk(actions, np.ones(actions.shape[:2], bool), Reasoning(tuple(thought))), after


class Leaning(Walker):
    """Leans towards what the other rows do: the policy that no executor can make independent."""

    def act(
        self, obs: Observation, state: dict[str, Any], *, want: Sequence[str] = ()
    ) -> tuple[ActionChunk, dict[str, Any]]:
        chunk, after = super().act(obs, state, want=want)
        return ActionChunk(chunk.actions + 0.5 * chunk.actions.mean(0), chunk.valid, chunk.reasoning), after


class Growing(Walker):
    """Keeps a counter common to all rows and a memory that grows: a state that cannot be told by row."""

    def start(self, keys: Sequence[Key]) -> dict[str, Any]:
        return {**super().start(keys), "count": 0, "memory": np.zeros((len(keys), 0, 2), np.float32)}

    def act(
        self, obs: Observation, state: dict[str, Any], *, want: Sequence[str] = ()
    ) -> tuple[ActionChunk, dict[str, Any]]:
        chunk, after = super().act(obs, state, want=want)
        memory = np.concatenate([state["memory"], obs.state[:, -1:]], 1)
        after |= {"count": state["count"] + 1, "memory": memory}
        drift = 0.01 * memory.mean(1, keepdims=True)  # acts on what it remembers
        return ActionChunk(chunk.actions + drift, chunk.valid, chunk.reasoning), after
