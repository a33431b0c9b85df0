"""Fit what a method must learn before it goes round a policy: from the demonstrations that the policy learned from, or
from its own rollouts, as the method asks.

python -m mindhand.recipes.fit taco runs/policy/checkpoint runs/demonstrations runs/policy/taco [every]
mindhand eval runs/policy/checkpoint --wrap taco=runs/policy/taco

python -m mindhand.recipes.monitor record runs/policy/checkpoint spatial-placing runs/policy/rollouts 60
python -m mindhand.recipes.fit safe runs/policy/checkpoint runs/policy/rollouts runs/policy/safe [1 WRAP ...]

Of demonstrations every so-many-th frame is read (1 unless given). Decoded frames are left in FOLDER's neighbour
"FOLDER-frames". Behind that stands what went round the policy in its rollouts, the first innermost.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from mindhand.core.errors import Refusal
from mindhand.core.nouns import smoke_observation
from mindhand.data.cache import FrameCache
from mindhand.data.opening import open_dataset
from mindhand.data.robot import FRONT, RobotFrames
from mindhand.methods import method, wrapped
from mindhand.model.store import load_vla
from mindhand.train.recorded import load_recorded


def fit(
    name: str, checkpoint: Path, data: Path, folder: Path, every: int = 1, console: Console | None = None,
    wraps: Sequence[str] = (),
) -> Any:  # fmt: skip
    """Fit a method on a policy's demonstrations, or on rollouts of it, and save it in `folder`. wraps: what went round
    it in these (`methods.wrapped`). SpecMismatch for demonstrations of another robot, BuildError for a method that
    learns nothing so, Refusal for `every` of rollouts, and for wraps of demonstrations."""
    found = method(name)
    if found.learns_from == "rollouts":
        if every != 1:
            raise Refusal(f"every {every}. of a policy's rollouts", "all of them", "leave it out")
        fitted = found.fit(wrapped(load_vla(checkpoint), wraps), load_recorded(data))
    elif wraps:
        raise Refusal(f"'{name}' fitted on demonstrations, round {[*wraps]}", "a policy as it is", "leave these out")
    else:
        fitted = found.fit(*_demonstrated(checkpoint, data, folder, every, console))
    fitted.save(folder)
    return fitted


def _demonstrated(checkpoint: Path, data: Path, folder: Path, every: int, console: Console | None) -> tuple[Any, Any]:
    """The policy, and its demonstrations as frames."""
    reader = open_dataset(data)
    policy = load_vla(checkpoint, reader.spec)
    obs = smoke_observation(policy.spec)
    horizon = policy.act(obs, policy.start(obs.keys))[0].actions.shape[1]
    cache = FrameCache.build(folder.with_name(f"{folder.name}-frames"), reader, every=every, console=console)
    camera = policy.see[0] if policy.see else FRONT
    return policy, RobotFrames(reader, cache, policy.backbone.words, horizon, camera)


if __name__ == "__main__":
    if len(sys.argv) < 5:
        raise Refusal(f"{len(sys.argv) - 1} words", "a method, a checkpoint, its data, a folder", "see fit.py")
    fit(sys.argv[1], *map(Path, sys.argv[2:5]), every=int([*sys.argv, "1"][5]), console=Console(), wraps=sys.argv[6:])
