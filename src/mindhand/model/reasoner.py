"""Reasoning in words, before every chunk: the default occupant of the reasoner slot."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mindhand.core.nouns import Observation, Reasoning
from mindhand.core.seams import State, Turn

from .words import SAY


def unread(text: str) -> None:
    """Reads thoughts of which nothing exact is known: no fields."""


@dataclass(frozen=True)
class ReasonerConfig:
    """limit: tokens a thought may have."""

    limit: int = 40


class WordsReasoner:
    """Writes one thought a query (2505.21906: the reasoning is regenerated with every chunk).

    `parse` reads a thought's fields from its text, or gives None where it does not have the form.
    """

    keeps = False
    needs: frozenset[str] = frozenset({"text"})
    provides: frozenset[str] = frozenset({"reasoning"})

    def __init__(self, config: ReasonerConfig, parse: Callable[[str], Mapping[str, Any] | None]):
        self.config, self.parse = config, parse

    def turns(self, sample: Mapping[str, Any]) -> list[Turn]:
        """One turn; `sample["reasoning"]` (strings) forces the text: interventions and teacher forcing."""
        given = sample.get("reasoning")
        return [Turn(SAY, self.config.limit, given=None if given is None else tuple(given))]

    def due(self, obs: Observation, state: State) -> np.ndarray:
        """Always."""
        return np.ones(len(obs), bool)

    def read(self, texts: Sequence[str]) -> Reasoning:
        """The texts and what could be parsed from each."""
        found = [self.parse(t) for t in texts]
        names = sorted({name for f in found if f for name in f})
        return Reasoning(tuple(texts), {n: tuple(f.get(n) if f else None for f in found) for n in names})

    def apply(self, obs: Observation, reasoning: Reasoning) -> Observation:
        """Words change no picture."""
        return obs


@dataclass(frozen=True)
class KeepingConfig:
    """limit: tokens a thought may have. every: queries after which it is thought anew in any case. at, edges: of the
    newest state, the dimension (the gripper's) and the values between which nothing has happened."""

    limit: int
    every: int
    at: int
    edges: tuple[float, ...]


class KeepingReasoner:
    """Thinks when something has happened, and acts on what it thought in between (OneTwoVLA, 2505.11917, which learns
    when to think; a hand that opened or closed on something is when a sub-step ends here).

    Words, not hidden states, are kept: with every query they meet the new pictures in one pass, which costs a
    fraction of writing them.
    """

    part_name = "keeping_reasoner"
    keeps = True
    needs: frozenset[str] = frozenset({"text"})
    provides: frozenset[str] = frozenset({"reasoning"})

    def __init__(self, config: KeepingConfig, parse: Callable[[str], Mapping[str, Any] | None]):
        self.config = config
        words = WordsReasoner(ReasonerConfig(config.limit), parse)
        self.turns, self.read, self.apply = words.turns, words.read, words.apply

    def due(self, obs: Observation, state: State) -> np.ndarray:
        """Where nothing was thought yet, or long ago, or the hand is not as it was then."""
        last, c = state["thoughts"], self.config

        def hand(x: np.ndarray) -> np.ndarray:
            return np.searchsorted(c.edges, x[:, c.at])

        old = state["query"] - last["query"] >= c.every
        return (last["query"] < 0) | old | (hand(obs.state[:, -1]) != hand(last["state"]))
