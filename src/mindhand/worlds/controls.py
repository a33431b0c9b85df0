"""Policies that learn nothing: the scripted expert and chance. What an evaluation is checked with before a learned
policy is: the first should come near the expert's own rate, the second near nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mindhand.core.acting import State, World
from mindhand.core.errors import BadData
from mindhand.core.keys import Key, Keys
from mindhand.core.nouns import ActionChunk, Observation
from mindhand.core.spec import Spec

LONGEST = 4000  # control steps; a world decides or truncates an episode long before


class Rehearsed:
    """The expert of a world as a Policy, chunks and all.

    An expert looks at every step and at what no policy may see. But an episode is a function of its key and the
    actions: so this one plays each through in a world of its own, `twin`, and then tells what it did there. Where the
    episode that is acted in goes another way (noise, a filter), it is of no use.
    """

    provides: frozenset[str] = frozenset()
    name = "expert"

    def __init__(self, twin: World, horizon: int):
        self.spec, self._twin, self._horizon = twin.spec, twin, horizon
        self._played: dict[Key, np.ndarray] = {}  # (T,A)

    def start(self, keys: Sequence[Key]) -> State:
        """Nothing is kept but what was played."""
        return {}

    def act(self, obs: Observation, state: State, *, want: Sequence[str] = ()) -> tuple[ActionChunk, State]:
        """The actions from now on; after the end the last one again."""
        steps = np.rint(obs.time[:, -1] * self.spec.rate).astype(int)
        chunks = []
        for key, now in zip(obs.keys, steps.tolist()):
            if key not in self._played:
                self._played[key] = self._play(key)
            way = self._played[key]
            chunks.append(way[np.minimum(now + np.arange(self._horizon), len(way) - 1)])
        actions = np.stack(chunks)
        return ActionChunk(actions, np.ones(actions.shape[:2], bool)), state

    def _play(self, key: Key) -> np.ndarray:
        self._twin.reset([key], [0])
        way: list[np.ndarray] = []
        while len(way) < LONGEST:
            action = np.asarray(self._twin.expert([0]), np.float32)
            way.append(action[0])
            if self._twin.step(action, [0]).done[0]:
                return np.stack(way)
        raise BadData(f"{key} is not decided after {LONGEST} steps", "a world that ends its episodes", "limit them")


class Chance:
    """Actions between `low` and `high` (A,), each as likely, by key and time."""

    provides: frozenset[str] = frozenset()
    name = "random"

    def __init__(self, spec: Spec, horizon: int, low: np.ndarray, high: np.ndarray):
        self.spec, self._horizon, self._low, self._high = spec, horizon, low, high

    def start(self, keys: Sequence[Key]) -> State:
        """Nothing is kept."""
        return {}

    def act(self, obs: Observation, state: State, *, want: Sequence[str] = ()) -> tuple[ActionChunk, State]:
        """A chunk of them."""
        steps = np.rint(obs.time[:, -1] * self.spec.rate).astype(int)
        draws = Keys.of(obs.keys).fold("chance").fold_each(steps.tolist()).uniform(self._horizon, len(self._low))
        actions = (self._low + draws * (self._high - self._low)).astype(np.float32)
        return ActionChunk(actions, np.ones(actions.shape[:2], bool)), state
