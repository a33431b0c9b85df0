"""FlashVLA round the policy of bins that it finds, on FAST's bench: what it loses, and what a query then costs.

Nothing is trained for it. Controls: pruning alone, reuse alone, and pruning that keeps as many tokens at random. What
it saves is measured in one run, query by query beside the policy as it is, at batch 1: time, which counts the
decomposition, and operations, in which a query that is answered by the last chunk has none. Attention scores as a
third way to prune are left out: whoever chooses tokens does not see who looks at whom (docs/walk.md)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from mindhand.core.keys import Key
from mindhand.core.nouns import ActionChunk, Observation
from mindhand.core.seams import Policy, State
from mindhand.evaluate.protocol import keys
from mindhand.methods.run.flashvla import Config, wrap
from mindhand.model.vla import VLA
from mindhand.serve.execute import run_episodes

from ..places import worlds
from ..rollouts import Wrap
from . import Proof
from .bench import Arm, Measured, Stand
from .fast import BENCH

ALL = 10**6  # tokens of a picture: none is dropped
WATCHED = 2  # episodes of every task that are timed
FIRST = 2  # queries of each that are not: caches are cold


def at_random(c: Config, l: int, name: str, attention: Tensor) -> Tensor | None:
    """As many tokens as `keep`, by digits of their states that mean nothing: a row's are a function of the row."""
    if l != c.layer or not name.startswith("image/"):
        return None
    score = (attention.float().sum(-1) * 1e4).frac().abs()
    return score.topk(min(c.kept, attention.shape[1]), 1).indices.sort(1).values


class _Beside:
    """Policy: the one round the VLA, with the VLA asked the same beside it, each first in turns."""

    provides: frozenset[str] = frozenset()

    def __init__(self, vla: VLA, flash: Policy):
        self.both = {"flash": flash, "bare": vla}
        self.spec = vla.spec
        self.seen: list[dict[str, float]] = []

    def start(self, keys: Sequence[Key]) -> State:
        return {name: p.start(keys) for name, p in self.both.items()}

    def act(self, obs: Observation, state: State, *, want: Sequence[str] = ()) -> tuple[ActionChunk, State]:
        row, after, chunks = {}, {}, {}
        for name in sorted(self.both, reverse=len(self.seen) % 2 == 1):
            begin = time.perf_counter()
            chunks[name], after[name] = self.both[name].act(obs, state[name], want=want)
            row[f"{name}_ms"] = 1e3 * (time.perf_counter() - begin)
        self.seen.append({**row, "reused": float(chunks["flash"].extra["reused"].mean())})
        return chunks["flash"], after


def _operations(policy: Policy, obs: Observation) -> int:
    """Of one full query. The decomposition is none that is counted."""
    with FlopCounterMode(display=False) as counter:
        policy.act(obs, policy.start(obs.keys))
    return counter.get_total_flops()


def saved(vla: VLA, stand: Stand, folder: Path, around: Wrap = wrap) -> list[dict[str, Any]]:
    """Episodes, a row each: means over queries of the time with it and without ("flash_ms", "bare_ms"), of operations
    likewise ("flash_flops", "bare_flops"), and the share of queries that were "reused"."""
    threads, p = torch.get_num_threads(), stand.bench.protocol
    policy, out = _Beside(vla, around(vla)), []
    torch.set_num_threads(1)
    try:
        with closing(worlds(p)(1)) as world:
            for key in (k for k in keys(p) if k.index < WATCHED):
                policy.seen.clear()
                run_episodes(policy, world, [key], replan=p.replan, horizon_steps=p.steps, rows=1)
                world.reset([key], [0])
                obs = world.observe([0])
                flops = {f"{n}_flops": _operations(one, obs) for n, one in policy.both.items()}
                timed = policy.seen[FIRST:] or policy.seen
                row = {n: sum(q[n] for q in timed) / len(timed) for n in timed[0]}
                flops["flash_flops"] *= 1 - row["reused"]
                out.append({"key": str(key), **row, **flops})
    finally:
        torch.set_num_threads(threads)
    return out


SAVED = Measured(
    saved,
    {
        "latency": ("quotient", "flash_ms/bare_ms", "1"),
        "operations": ("quotient", "flash_flops/bare_flops", "1"),
        "reused": ("mean", "reused", "1"),
    },
)
ARMS = (
    Arm("flashvla", wrap=wrap, measure=SAVED),
    Arm("pruning", wrap=partial(wrap, config=Config(reuse=False))),
    Arm("reuse", wrap=partial(wrap, config=Config(kept=ALL))),
    Arm("random", wrap=partial(wrap, config=Config(reuse=False), chosen=at_random)),
)
PROOF = Proof("flashvla", BENCH, ARMS)
