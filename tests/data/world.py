"""A 2-D point world: a tiny real World with an expert, whose joints can be disturbed."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mindhand.core.keys import Key, Keys
from mindhand.core.nouns import Observation, Outcome
from mindhand.core.spec import Camera, Part, Spec

SPEC = Spec(
    robot="point",
    action=(Part("joint", "joint", ("x", "y"), "m"),),
    state=(Part("joint", "joint", ("x", "y"), "m"),),
    cameras=(Camera("front", 16, 16, (16, 16)),),
    rate=10.0,
)
LAST = 40


class PointWorld:
    """A point is commanded to positions; it reaches nine tenths of the way each step. The expert walks towards a
    goal drawn by the key and the episode ends within 0.05 of it; success needs the end before `patience` steps."""

    spec = SPEC

    def __init__(self, rows: int = 4, patience: int = LAST):
        self.patience = patience
        self.keys: list[Key | None] = [None] * rows
        self.at, self.goal = np.zeros((rows, 2)), np.zeros((rows, 2))
        self.noise, self.steps = np.zeros((rows, 2)), np.zeros(rows, int)

    def reset(self, keys: Sequence[Key], rows: Sequence[int]) -> None:
        for key, row in zip(keys, rows):
            self.keys[row], self.steps[row], self.noise[row] = key, 0, 0.0
            place = Keys.of([key]).fold("place").uniform(4)[0] * 2 - 1
            self.at[row], self.goal[row] = place[:2], place[2:]

    def expert(self, rows: Sequence[int]) -> np.ndarray:
        rows = list(rows)
        away = self.goal[rows] - self.at[rows]
        far = np.linalg.norm(away, axis=1, keepdims=True)
        return (self.at[rows] + away * np.minimum(1.0, 0.15 / np.maximum(far, 1e-9))).astype(np.float32)

    def disturb(self, rows: Sequence[int], joint_noise: np.ndarray) -> None:
        self.noise[list(rows)] = joint_noise

    def step(self, actions: np.ndarray, rows: Sequence[int]) -> Outcome:
        rows = list(rows)
        self.at[rows] += 0.9 * (actions.astype(np.float64) + self.noise[rows] - self.at[rows])
        self.noise[rows] = 0.0
        self.steps[rows] += 1
        ended = np.linalg.norm(self.goal[rows] - self.at[rows], axis=1) < 0.05
        truncated = ~ended & (self.steps[rows] >= self.patience)
        return Outcome(ended.astype(np.float32), ended, ended, truncated)

    def observe(self, rows: Sequence[int], cameras: Sequence[str] | None = None) -> Observation:
        rows = list(rows)
        images = {}
        if cameras is None or "front" in cameras:
            picture = np.full((len(rows), 1, 16, 16, 3), 40, np.uint8)
            for i, row in enumerate(rows):
                for place, channel in ((self.goal[row], 0), (self.at[row], 1)):
                    u, v = np.clip(((place + 1.5) / 3 * 16).astype(int), 0, 15)
                    picture[i, 0, v, u, channel] = 255
            images["front"] = picture
        return Observation(
            images=images,
            state=self.at[rows].astype(np.float32)[:, None],
            text={"instruction": tuple(f"go {'left' if self.goal[r, 0] < 0 else 'right'}" for r in rows)},
            time=self.steps[rows, None] / self.spec.rate,
            keys=tuple(k for k in (self.keys[r] for r in rows) if k is not None),
        )

    def geometry(self, rows: Sequence[int]) -> list[Mapping[str, Any]]:
        far = np.linalg.norm(self.goal - self.at, axis=1)
        return [{"far": float(far[r])} for r in rows]

    def reasoning(self, row: int) -> str:
        return "far away" if self.geometry([row])[0]["far"] > 0.5 else "nearly there"

    def project(self, points: np.ndarray, camera: str, rows: Sequence[int]) -> np.ndarray:
        return (points[..., :2] + 1.5) / 3 * 16

    def snapshot(self, rows: Sequence[int]) -> list[bytes]:
        return [pickle.dumps((self.keys[r], self.at[r], self.goal[r], self.noise[r], self.steps[r])) for r in rows]

    def restore(self, rows: Sequence[int], snaps: Sequence[bytes]) -> None:
        for row, snap in zip(rows, snaps):
            self.keys[row], self.at[row], self.goal[row], self.noise[row], self.steps[row] = pickle.loads(snap)
