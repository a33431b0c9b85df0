"""Is an evaluation the same for any number of workers, and when one of them was killed? A policy with random weights
that thinks and acts on the desk is run in every way, and its rows are compared byte for byte.

Across batch sizes it is not the same: sums of other lengths round otherwise. How many episodes end otherwise is a
record too (`batch_sizes`), and of a given checkpoint, whether it succeeds less often (`batch_success`)."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from mindhand.core.batch import Batch
from mindhand.core.checkpoint import load_checkpoint
from mindhand.core.errors import Refusal
from mindhand.core.keys import Key
from mindhand.core.nouns import smoke_observation
from mindhand.data.synthetic.vocabulary import train_words
from mindhand.evaluate.journal import line
from mindhand.evaluate.protocol import MATHS, Protocol, keys
from mindhand.evaluate.run import evaluate
from mindhand.model.store import save_vla
from mindhand.worlds.desk.world import SPEC, DeskWorld

from .chatvla2 import ChatVLA2Plan, build
from .nano import NanoPlan, build_reader
from .places import place_of, worlds
from .rollouts import load_policy
from .variants import OURS

Row = dict[str, Any]
PROTOCOL = replace(MATHS.only("maths_matching/R", "maths_matching/K-dev", episodes=12), steps=64, rows=4)
LEARNED = MATHS.only("maths_matching/R", "maths_matching/K-dev", episodes=100)  # of a policy that can do something
WORKERS = (2, 8)
ROWS = (4, 8, 16)  # batch sizes


def stranger(folder: Path) -> Path:
    """A policy of nano's size that has learned nothing: its checkpoint."""
    plan = NanoPlan()
    save_vla(build_reader(plan, train_words()), folder / "nano")
    policy = build(folder / "nano", ChatVLA2Plan(), OURS)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for p in policy.expert.parameters():  # what begins at zero would make every action the same
            torch.nn.init.normal_(p, std=0.05)
    states, actions = _driven()
    policy.state_scale.fit(states)
    task, valid = torch.ones(len(states), dtype=torch.int64), torch.ones(actions.shape[:2], dtype=torch.bool)
    policy.codec.fit([Batch((), {}, {}, {}, task, states.unsqueeze(1), actions, valid)])
    save_vla(policy.eval(), folder / "checkpoint", smoke=smoke_observation(SPEC))
    return folder / "checkpoint"


def _driven(steps: int = 96, chunk: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    """States (n,S) of an expert's episode and the chunks (n,H,A) that followed, for statistics."""
    with DeskWorld(1) as world:
        world.reset([Key("stranger", PROTOCOL.tasks[0], 0)], [0])
        states, actions = [], []
        for _ in range(steps):
            states.append(world.observe([0], ()).state[0, -1])
            actions.append(world.expert([0])[0])
            world.step(actions[-1][None], [0])
    done = torch.from_numpy(np.stack(actions))
    return torch.from_numpy(np.stack(states))[: steps - chunk], done.unfold(0, chunk, 1).mT[: steps - chunk]


@dataclass(frozen=True)
class Deadly:
    """A maker of desks in which the process dies once, when it is about to begin this episode."""

    at: Key
    mark: Path

    def __call__(self, rows: int) -> DeskWorld:
        """A desk of so many rows."""
        return _Deadly(rows, self)


class _Deadly(DeskWorld):
    def __init__(self, rows: int, how: Deadly):
        super().__init__(rows)
        self._how = how

    def reset(self, keys: Sequence[Key], rows: Sequence[int]) -> None:
        super().reset(keys, rows)
        if self._how.at in keys and not self._how.mark.exists():
            self._how.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)


def _differing(way: str, rows: Sequence[Mapping[str, Any]], first: Sequence[Mapping[str, Any]]) -> list[Row]:
    return [{"key": f"{a['key']}, {way}", "same": line(a) == line(b)} for a, b in zip(rows, first, strict=True)]


def worker_determinism(protocol: Protocol = PROTOCOL, workers: Sequence[int] = WORKERS) -> list[Row]:
    """One row an episode and way to run it. Expected: all the same."""
    out: list[Row] = []
    with TemporaryDirectory() as home:
        at = Path(home)
        policy = partial(load_policy, stranger(at))
        first = evaluate(protocol, policy, DeskWorld, at / "1", name="stranger")
        for count in workers:
            rows = evaluate(protocol, policy, DeskWorld, at / str(count), name="stranger", workers=count)
            out += _differing(f"{count} workers", rows, first)
        deadly = Deadly(keys(protocol)[len(first) // 2], at / "died")
        try:
            evaluate(protocol, policy, deadly, at / "killed", name="stranger", workers=2)
            raise AssertionError("the worker lived")
        except Refusal:  # as it should: what is missing runs now
            rows = evaluate(protocol, policy, deadly, at / "killed", name="stranger", workers=2)
        out += _differing("killed and gone on with", rows, first)
    return out


def batch_sizes(protocol: Protocol = PROTOCOL, sizes: Sequence[int] = ROWS) -> list[Row]:
    """One row an episode and batch size beside the first one: whether thoughts, steps and end are the same."""
    told = ("success", "end", "steps", "thoughts", "chosen_at")
    out: list[Row] = []
    with TemporaryDirectory() as home:
        found = _by_size(stranger(Path(home)), "stranger", protocol, sizes, Path(home))
    first = found[sizes[0]]
    for size in sizes[1:]:
        for a, b in zip(found[size], first, strict=True):
            out.append({"key": f"{a['key']}, {size} rows", "same": all(a[n] == b[n] for n in told)})
    return out


def batch_success(
    checkpoint: Path, home: Path, protocol: Protocol = LEARNED, sizes: tuple[int, int] = (8, 16)
) -> list[Row]:
    """A policy that has learned something: whether each episode succeeds in batches of either size, rows of a paired
    difference; the larger one is "on". Goes on with what `home` holds.

    Expected: near 0; an untrained policy, which never succeeds, cannot tell.
    """
    place = place_of(protocol.tasks)
    name = load_checkpoint(checkpoint, place.spec).fingerprint
    found = _by_size(checkpoint, name, protocol, sizes, home / name)
    return [
        {"key": r["key"], "task": r["task"], "arm": arm, "rows": size, "success": r["success"], "steps": r["steps"]}
        for arm, size in zip(("off", "on"), sizes) for r in found[size]
    ]  # fmt: skip


def _by_size(
    checkpoint: Path, name: str, protocol: Protocol, sizes: Sequence[int], home: Path
) -> dict[int, list[dict[str, Any]]]:
    """The rows of a checkpoint under the protocol with each batch size."""
    policy = partial(load_policy, checkpoint, place_of(protocol.tasks))
    return {
        size: evaluate(replace(protocol, rows=size), policy, worlds(protocol), home / str(size), name=name)
        for size in sizes
    }
