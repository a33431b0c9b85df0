"""Fit what a method must learn before it goes round a policy, from the demonstrations that the policy learned from.

python -m mindhand.recipes.fit taco runs/policy/checkpoint runs/demonstrations runs/policy/taco [every]
mindhand eval runs/policy/checkpoint --wrap taco=runs/policy/taco

Every so-many-th frame is read (1 unless given). Decoded frames are left in FOLDER's neighbour "FOLDER-frames".
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from mindhand.core.errors import Refusal
from mindhand.core.nouns import smoke_observation
from mindhand.data.cache import FrameCache
from mindhand.data.lerobot_read import LeRobotReader
from mindhand.data.robot import FRONT, RobotFrames
from mindhand.methods import method
from mindhand.model.store import load_vla


def fit(name: str, checkpoint: Path, data: Path, folder: Path, every: int = 1, console: Console | None = None) -> Any:
    """Fit a method on a policy's demonstrations and save it in `folder`. SpecMismatch for those of another robot,
    BuildError for a method that learns nothing so."""
    learns, reader = method(name).fit, LeRobotReader(data)
    policy = load_vla(checkpoint, reader.spec)
    obs = smoke_observation(policy.spec)
    horizon = policy.act(obs, policy.start(obs.keys))[0].actions.shape[1]
    cache = FrameCache.build(folder.with_name(f"{folder.name}-frames"), reader, every=every, console=console)
    camera = policy.see[0] if policy.see else FRONT
    fitted = learns(policy, RobotFrames(reader, cache, policy.backbone.words, horizon, camera))
    fitted.save(folder)
    return fitted


if __name__ == "__main__":
    if len(sys.argv) not in (5, 6):
        raise Refusal(f"{len(sys.argv) - 1} words", "a method, a checkpoint, demonstrations, a folder", "see fit.py")
    fit(sys.argv[1], *map(Path, sys.argv[2:5]), every=int([*sys.argv, "1"][5]), console=Console())
