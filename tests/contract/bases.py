"""Tiny policies that methods are put into: the bench's bases on random weights, the spec of the seam tests."""

from __future__ import annotations

import atexit
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from mindhand.core.batch import Batch
from mindhand.core.keys import Key
from mindhand.core.nouns import Filtered, Observation
from mindhand.data.cache import FrameCache
from mindhand.data.lerobot_read import LeRobotReader
from mindhand.data.lerobot_write import LeRobotWriter
from mindhand.data.record import GAZE, gaze, record_demonstrations
from mindhand.data.relabelled import Relabelled
from mindhand.data.robot import RobotFrames
from mindhand.methods import Method, method
from mindhand.model.vla import VLA
from mindhand.recipes.proofs import bench
from mindhand.train.recorded import Recorded, record
from mindhand.worlds.biased import BIASED
from mindhand.worlds.declared import scene_hash
from mindhand.worlds.desk.spec import SPEC as DESK
from mindhand.worlds.desk.world import DeskWorld

from ..data.make import make_episode, write
from ..model.tiny import vlm, words
from ..seams.build import batch, spec
from .reaching import Reaching

SPEC = spec()
ROWS, HORIZON = 6, 16


def _tiny(base: str) -> dict[str, Any]:
    torch.manual_seed(0)
    return bench.BASES[base](vlm(), SPEC, HORIZON)


BASES: dict[str, Callable[[], dict[str, Any]]] = {base: partial(_tiny, base) for base in bench.BASES}
flow, tokens = BASES["flow"], BASES["tokens"]


def examples(model: Any, seed: int = 0) -> Batch:
    """Robot rows, smooth, one of them cut short by its episode's end."""
    g = torch.Generator().manual_seed(seed)
    texts = ["what is on the board?", "pick"] * (ROWS // 2)
    t = torch.linspace(0, 1, HORIZON).view(1, -1, 1)
    actions = torch.rand(ROWS, 1, 3, generator=g) + t * torch.rand(ROWS, 1, 3, generator=g)
    valid = torch.ones(ROWS, HORIZON, dtype=torch.bool)
    valid[1, 2:] = False
    return batch(model, texts, ("image/front", "text"), seed, actions=actions, action_valid=valid)


def policy(parts: dict[str, Any]) -> VLA:
    """A VLA of these parts, with its statistics."""
    vla = VLA(spec=SPEC, **parts)
    some = [examples(vla.backbone, seed) for seed in range(8)]
    vla.codec.fit(iter(some))
    vla.state_scale.fit(torch.cat([b.state[:, -1] for b in some]))
    for p in vla.expert.parameters():  # leave zero starts, so that every path carries something
        if p.ndim > 1:
            torch.nn.init.normal_(p, std=p.shape[-1] ** -0.5)
    return vla


def leave(action: np.ndarray, now: Observation, state: dict[str, Any]) -> tuple[Filtered, dict[str, Any]]:
    """A filter that lets every command pass."""
    return Filtered(action, np.zeros(len(action), bool), ("",) * len(action)), state


def commands(steps: int = 4) -> Iterator[tuple[np.ndarray, Observation]]:
    """What filters of the desk meet, step by step: its hands point down, among what stands about; of the commands some
    lead into it, some away, and the last row's nowhere."""
    rng = np.random.default_rng(0)
    places = rng.uniform((0.2, -0.2, 0.15), (0.4, 0.2, 0.3), (ROWS, 3))
    told, there = np.zeros((ROWS, 8, 3, 4)), np.zeros((ROWS, 8), bool)
    there[:, :2] = True
    told[:, :2, :, :3] = 0.03 * np.eye(3)
    told[:, :2, :, 3] = places[:, None] + np.array([(0.0, 0.15, 0.0), (0.25, 0.0, 0.0)])
    keys, down = tuple(Key("contract", "filters", r) for r in range(ROWS)), np.array([0, 0, -1, 0, 1, 0, 1])
    ways = np.concatenate([rng.uniform(-0.05, 0.15, (ROWS - 1, 3)), np.zeros((1, 3))])
    for step in range(steps):
        now = np.concatenate([places + 0.002 * step, np.tile(down, (ROWS, 1))], 1).astype(np.float32)
        action = now + np.pad(ways, ((0, 0), (0, 7))).astype(np.float32)
        extras = {"obstacles": told, "obstacles/valid": there}
        time = np.full((ROWS, 1), step / DESK.rate)
        yield action, Observation({}, now[:, None], {"instruction": ("go",) * ROWS}, time, keys, extras=extras)


@cache
def frames(horizon: int = HORIZON) -> RobotFrames:
    """Frames of three short demonstrations of this robot, for a method that learns before it wraps."""
    home = TemporaryDirectory()
    atexit.register(home.cleanup)
    demos = write(Path(home.name) / "demos", [make_episode(i, spec=SPEC) for i in range(3)], SPEC)
    reader = LeRobotReader(demos)
    return RobotFrames(reader, FrameCache.build(Path(home.name) / "frames", reader), words(), horizon)


@cache
def rollouts(base: str) -> Recorded:
    """Of a base's own rollouts, half of which succeed, for a method that learns from such."""
    home = TemporaryDirectory()
    atexit.register(home.cleanup)
    keys = [Key("contract", f"reach/{task}", i) for task in ("near", "far") for i in range(20)]
    how = {"replan": HORIZON, "steps": Reaching.limit, "rows": 8}
    return record(policy(BASES[base]()).eval(), Reaching(8), keys, Path(home.name), **how)


@cache
def fitted(name: str) -> Any:
    """What a method learns of its base and the frames above, once: every base of that name has the same weights."""
    found = method(name)
    one = policy(BASES[found.card.base]()).eval()
    return found.fit(one, frames() if found.learns_from == "frames" else rollouts(found.card.base))


def around(found: Method, base: VLA) -> Any:
    """A method that wraps, round its base; with what it learned where it must learn first."""
    return found.wrap(base, fitted=fitted(found.card.name)) if found.learns else found.wrap(base)


@cache
def desk() -> DeskWorld:
    """A desk for what is recorded and relabelled."""
    world = DeskWorld(1)
    atexit.register(world.close)
    return world


@cache
def recorded() -> LeRobotReader:
    """A demonstration on the desk, whose scene tells by itself what is asked for."""
    home = TemporaryDirectory()
    atexit.register(home.cleanup)
    how = {"pictures": "model", "labels": GAZE, "scene": scene_hash()}
    with LeRobotWriter(Path(home.name) / "demos", DESK, **how) as writer:
        record_demonstrations(desk(), [Key("demonstrations", BIASED, 0)], writer, labels=gaze)
    return LeRobotReader(Path(home.name) / "demos")


@cache
def relabelled(name: str, again: int = 0) -> Relabelled:
    """What a method makes of it, in the `again`-th folder."""
    home = TemporaryDirectory()
    atexit.register(home.cleanup)
    return method(name).relabel(recorded(), Path(home.name) / f"{again}", desk())
