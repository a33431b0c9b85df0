"""What a query costs a robot that waits for it: one row at a time, and how much of it is thinking."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from mindhand.core import provenance
from mindhand.core.keys import Key
from mindhand.core.nouns import ActionChunk, Observation
from mindhand.core.seams import State, Trunk, Turn
from mindhand.evaluate.protocol import Protocol, keys
from mindhand.model.vla import VLA
from mindhand.serve.execute import run_episodes

from .places import place_of, worlds
from .rollouts import load_policy, robot_of

FIRST = 2  # queries of every episode that are not counted: caches are cold


class Timed:
    """A VLA as a policy that writes down how long each query took, and how long its words."""

    def __init__(self, vla: VLA):
        self.vla, self.spec, self.provides = vla, vla.spec, frozenset[str]()
        self.queries: list[tuple[float, float]] = []
        self._words, self._generate = 0.0, vla.backbone.generate
        vla.backbone.generate = self._write

    def _write(self, trunk: Trunk, turns: Sequence[Turn], **how: Any) -> tuple[Trunk, list[str]]:
        begin = time.perf_counter()
        out = self._generate(trunk, turns, **how)
        self._words += time.perf_counter() - begin
        return out

    def start(self, keys: Sequence[Key]) -> State:
        """The VLA's."""
        return self.vla.start(keys)

    def act(self, obs: Observation, state: State, *, want: Sequence[str] = ()) -> tuple[ActionChunk, State]:
        """The VLA's."""
        self._words, begin = 0.0, time.perf_counter()
        out = self.vla.act(obs, state, want=want)
        self.queries.append((time.perf_counter() - begin, self._words))
        return out


def latency_rows(checkpoint: Path, protocol: Protocol, episodes: int) -> list[dict[str, Any]]:
    """One row a query of the protocol's first episodes, on one thread: {"key", "ms", "reasoning_ms", "device"}."""
    torch.set_num_threads(1)
    robot = robot_of(checkpoint)
    policy = Timed(load_policy(checkpoint, place_of(protocol.tasks, robot)))
    world = worlds(protocol, robot)(1)
    machine = provenance.hardware()
    device = str(machine["gpu"] if policy.vla.device.type == "cuda" else machine["cpu"])
    out: list[dict[str, Any]] = []
    for key in keys(protocol)[:episodes]:
        policy.queries.clear()
        run_episodes(policy, world, [key], replan=protocol.replan, horizon_steps=protocol.steps, rows=1)
        for number, (whole, words) in enumerate(policy.queries[FIRST:], FIRST):
            times = {"ms": 1e3 * whole, "reasoning_ms": 1e3 * words}
            out.append({"key": f"{key}/{number}", **times, "device": device})
    return out
