"""What the body knows, told in words: pi0.5 (2504.16054, section IV) writes the robot's state into the prompt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mindhand.core.errors import BuildError
from mindhand.core.nouns import Observation, told
from mindhand.core.seams import State


@dataclass(frozen=True)
class StateWords:
    """Transform: one dimension `at` of the newest state in one of `words`, one more than `edges` (ascending, in the
    state's own unit), behind the instruction. pi0.5 tells every dimension as one of 256 numbers; a small VLM is told
    what its words can speak of.
    """

    at: int
    edges: tuple[float, ...]
    words: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.words) != len(self.edges) + 1 or list(self.edges) != sorted(self.edges):
            raise BuildError(
                f"{len(self.words)} words for the edges {self.edges}", "ascending edges, one word more", "correct them"
            )

    def _say(self, instruction: str, value: float) -> str:
        return told(instruction, self.words[int(np.searchsorted(self.edges, value))])

    def train(self, sample: Mapping[str, Any], rng: np.random.Generator) -> dict[str, Any]:
        """sample: "instruction" (a string) and "state" (S,), as they are when acting."""
        return {**sample, "instruction": self._say(sample["instruction"], sample["state"][self.at])}

    def act(self, obs: Observation, state: State) -> tuple[Observation, State]:
        """The same, of every row's newest state."""
        now = obs.state[:, -1, self.at]
        said = tuple(self._say(text, value) for text, value in zip(obs.text["instruction"], now, strict=True))
        return obs.with_text("instruction", said), state
