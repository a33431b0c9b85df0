"""The seams of whoever acts: policies, filters, worlds and tools. Importable without torch, as their nouns are.

`core/seams.py` lists them with the others, and is where to import them from with torch at hand.
Letters: B rows, A action, S samples, R worlds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from .keys import Key
from .nouns import ActionChunk, Filtered, Observation, Outcome, Proposals
from .spec import Spec

State = dict[str, Any]  # explicit policy state: look-ahead, server batching and replay can branch it


@runtime_checkable
class Policy(Protocol):
    """A VLA, a scripted expert, a remote server, a wrapper. `provides` names optional abilities ("propose")."""

    spec: Spec
    provides: frozenset[str]

    def start(self, keys: Sequence[Key]) -> State: ...
    def act(self, obs: Observation, state: State, *, want: Sequence[str] = ()) -> tuple[ActionChunk, State]: ...


@runtime_checkable
class Proposer(Protocol):
    """A Policy that can draw several chunks."""

    def propose(
        self,
        obs: Observation,
        state: State,
        samples: int,
        *,
        noise: np.ndarray | None = None,
        temperature: float = 1.0,
        want: Sequence[str] = (),
    ) -> tuple[Proposals, State]: ...


@runtime_checkable
class Filter(Protocol):
    """Stack, once per CONTROL step: shield, limits, tactile refinement, watchdog. action float32 (B,A)."""

    def __call__(self, action: np.ndarray, now: Observation, state: State) -> tuple[Filtered, State]: ...


@runtime_checkable
class World(Protocol):
    """Rows of worlds; a learned world model is one too. Rendering happens only in `observe`."""

    spec: Spec

    def reset(self, keys: Sequence[Key], rows: Sequence[int]) -> None: ...
    def step(self, actions: np.ndarray, rows: Sequence[int]) -> Outcome: ...
    def observe(self, rows: Sequence[int], cameras: Sequence[str] | None = None) -> Observation: ...
    def snapshot(self, rows: Sequence[int]) -> list[bytes]: ...
    def restore(self, rows: Sequence[int], snaps: Sequence[bytes]) -> None: ...
    def expert(self, rows: Sequence[int]) -> np.ndarray: ...
    def geometry(self, rows: Sequence[int]) -> list[Mapping[str, Any]]: ...
    def project(self, points: np.ndarray, camera: str, rows: Sequence[int]) -> np.ndarray: ...


@dataclass(frozen=True)
class ToolSpec:
    """A tool's name, one sentence, and its arguments as a JSON schema."""

    name: str
    about: str
    schema: Mapping[str, Any]


@dataclass(frozen=True)
class ToolResult:
    """What came of a call: ok, content, and why not."""

    ok: bool
    content: Any = None
    error: str = ""


@runtime_checkable
class Tool(Protocol):
    """Agents: a skill (policy and verifier) or a function."""

    spec: ToolSpec

    def __call__(self, **args: Any) -> ToolResult: ...
