"""A World in the spec of the seam tests: points that a wind carries along a line, half of them to where they belong.
How an episode ends follows from its key and from what is done, and is seen in its pictures before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mindhand.core.keys import Key, Keys
from mindhand.core.nouns import Observation, Outcome

from ..seams.build import spec


class Reaching:
    """A success is a point beyond 1 when it is told so; time is up for one that the wind takes the other way."""

    spec, limit = spec(), 96

    def __init__(self, rows: int):
        self.rows: list[dict[str, Any]] = [{} for _ in range(rows)]

    def reset(self, keys: Sequence[Key], rows: Sequence[int]) -> None:
        for key, r in zip(keys, rows, strict=True):
            keys_ = Keys.of([key])
            wind = float((1 if key.index % 2 else -1) * (0.012 + 0.02 * keys_.uniform()[0]))
            self.rows[r] = {"key": key, "wind": wind, "x": 0.0, "step": 0, "noise": keys_.fold("noise")}

    def step(self, actions: np.ndarray, rows: Sequence[int]) -> Outcome:
        for r, action in zip(rows, actions, strict=True):
            row = self.rows[r]
            row["x"] = float(np.clip(row["x"] + row["wind"] + 1e-3 * np.tanh(action[0]), -1, 1.01))
            row["step"] += 1
        done = np.array([self.rows[r]["x"] > 1 for r in rows])
        return Outcome(done.astype(np.float32), done, done, np.zeros(len(rows), bool))

    def observe(self, rows: Sequence[int], cameras: Sequence[str] | None = None) -> Observation:
        some = [self.rows[r] for r in rows]
        x = np.array([row["x"] for row in some])
        noise = np.concatenate([row["noise"].fold(row["step"]).uniform(5) for row in some])
        picture = np.clip(128 + 100 * x, 0, 255).astype(np.uint8)
        state = np.stack([x, *noise.T[1:]], 1).astype(np.float32)[:, None]
        return Observation(
            images={"front": np.tile(picture[:, None, None, None, None], (1, 1, 32, 32, 3))},
            state=state,
            text={"instruction": tuple("pick" if row["key"].task.endswith("near") else "what is" for row in some)},
            time=np.array([[row["step"] / self.spec.rate] for row in some]),
            keys=tuple(row["key"] for row in some),
        )
