"""Any World as a gymnasium environment: one row, one task, gymnasium's rules for seeds and endings."""

from __future__ import annotations

import string
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from mindhand.core.errors import BadData
from mindhand.core.keys import Key
from mindhand.core.seams import World

_LONGEST = 512  # characters of an instruction


class WorldEnv(gymnasium.Env[dict[str, Any], np.ndarray]):
    """Row `row` of `world`, episodes of `task` ("maths_matching/R").

    Observation: "state" float32 (S,), one uint8 (h,w,3) a camera role, "instruction" text. Action float32 (A,) in
    the spec's units, between `low` and `high` (A,) where given, else unbounded. `reset(seed=n)` begins the episode
    Key("gym", task, n); without a seed the next one follows from the generator of the last seed;
    options {"key": Key} begins any other. info holds the world's facts: privileged, not for a policy.
    """

    def __init__(
        self, world: World, task: str, *, low: np.ndarray | None = None, high: np.ndarray | None = None, row: int = 0
    ):
        self.world, self.task, self.row = world, task, row
        self.metadata = {"render_modes": ["rgb_array"], "render_fps": round(world.spec.rate)}
        self.render_mode = "rgb_array"
        spec = world.spec
        size = (spec.action_size,)
        free = np.full(size, np.inf, np.float32)
        self.action_space = spaces.Box(
            -free if low is None else np.asarray(low, np.float32),
            free if high is None else np.asarray(high, np.float32),
        )
        cameras = {c.role: spaces.Box(0, 255, (c.height, c.width, 3), np.uint8) for c in spec.cameras}
        text = spaces.Text(max_length=_LONGEST, min_length=0, charset=string.printable)
        state = spaces.Box(-np.inf, np.inf, (spec.state_size,), np.float32)
        if taken := {"state", "instruction"} & set(cameras):
            raise BadData(f"a camera called {sorted(taken)}", "other role names", "rename the camera")
        self.observation_space = spaces.Dict({**cameras, "state": state, "instruction": text})

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Begin an episode; info names its key."""
        super().reset(seed=seed)
        index = int(self.np_random.integers(2**31)) if seed is None else seed
        key = (options or {}).get("key") or Key("gym", self.task, index)
        self.world.reset([key], [self.row])
        return self._see(), {"key": str(key)}

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """One control step."""
        out = self.world.step(np.asarray(action, np.float32)[None], [self.row])
        facts = dict(out.facts[0]) if out.facts else {}
        info = {**facts, "success": bool(out.success[0])}
        return self._see(), float(out.reward[0]), bool(out.ended[0]), bool(out.truncated[0]), info

    def render(self) -> np.ndarray:
        """The first camera's picture."""
        role = self.world.spec.roles[0]
        return self.world.observe([self.row], [role]).images[role][0, -1]

    def close(self) -> None:
        """Close the world, where it can be closed."""
        if callable(close := getattr(self.world, "close", None)):
            close()

    def _see(self) -> dict[str, Any]:
        seen = self.world.observe([self.row])
        pictures = {role: x[0, -1] for role, x in seen.images.items()}
        return {**pictures, "state": seen.state[0, -1], "instruction": seen.text["instruction"][0]}
