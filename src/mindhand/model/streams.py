"""Streams of a VLA: checked, started, run, and where their tokens stand in the trunk.

Each has a name, "0/Gaze", under which its state and its output go.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from mindhand.core.errors import BuildError
from mindhand.core.parts import Plan
from mindhand.core.seams import Context, Entry, Inputs, Segment, State, StreamOut, Trunk

from . import fits


def check_streams(streams: Iterable[Any], plan: Plan) -> None:
    """BuildError for one that does not say whom it feeds: its tokens would go to the wrong reader; and for keys and
    values that the expert does not read: they would go to none."""
    for s in streams:
        if getattr(s, "feeds", None) not in ("trunk", "expert", "expert.kv"):
            raise BuildError(
                f"stream {type(s).__name__} feeds {getattr(s, 'feeds', 'nobody')!r}",
                "feeds = 'trunk', 'expert' or 'expert.kv'",
                "say whom its tokens condition",
            )
        if s.feeds == "expert.kv" and plan.has("expert") and not plan.has(fits.KEYS_AND_VALUES):
            raise BuildError(
                f"stream {type(s).__name__} feeds 'expert.kv', which {plan.provided['expert']} does not read",
                f"an expert that provides '{fits.KEYS_AND_VALUES}'",
                "let it feed 'expert' with tokens, or exchange the expert",
            )


def _named(streams: Iterable[Any]) -> list[tuple[str, Any]]:
    return [(f"{i}/{type(s).__name__}", s) for i, s in enumerate(streams)]


def cameras(streams: Iterable[Any]) -> set[str]:
    """Roles of the cameras that they look through themselves: what each says as its `camera`, or its `cameras`."""
    return {role for s in streams for role in (getattr(s, "camera", None), *getattr(s, "cameras", ())) if role}


def start_streams(streams: Iterable[Any], rows: int) -> dict[str, State]:
    """Fresh states of all of them."""
    return {name: s.start(rows) for name, s in _named(streams)}


def run_streams(
    streams: Iterable[Any], inputs: Inputs, trunk: Trunk | None, states: Mapping[str, State]
) -> dict[str, StreamOut]:
    """Outputs of the streams to the trunk where `trunk` is None, and otherwise of the others."""
    due = [(name, s) for name, s in _named(streams) if (s.feeds == "trunk") == (trunk is None)]
    return {name: s(inputs, trunk, states[name]) for name, s in due}


def behind(start: Tensor | int, s: Segment) -> Tensor | int:
    """The next free position, (B,) or int, after a segment that says its own."""
    if not s.x.shape[1]:
        return start
    top = torch.where(s.valid, s.position.amax(-1), -1).amax(1) + 1
    return top.clamp_min(start) if isinstance(start, int) else torch.maximum(start, top)


def joined(before: Mapping[str, StreamOut], after: Mapping[str, StreamOut]) -> dict[str, StreamOut]:
    """Outputs of the streams to the trunk, whose segments are in it already, and those of the others."""
    return {**{name: replace(out, segments=()) for name, out in before.items()}, **after}


def entries(ctx: Context, samples: int = 1) -> list[list[Entry]]:
    """Keys and values of the streams that feed "expert.kv", by layer: what a pass takes as `extras`, as many times a
    row as there are samples. BuildError for a stream that does not give them for every layer of the trunk."""
    depth = len(ctx.trunk.cache)
    given = {name: out.entries for name, out in ctx.streams.items() if out.entries}
    for name, layers in given.items():
        if len(layers) != depth:
            raise BuildError(f"keys and values of stream {name} for {len(layers)} layers", f"{depth}", "one a layer")

    def wide(e: Entry) -> Entry:
        return Entry(e.name, *(x.repeat_interleave(samples, 0) for x in (e.k, e.v, e.valid))) if samples > 1 else e

    return [[wide(e) for layers in given.values() for e in layers[l]] for l in range(depth)] if given else []
