"""Tiny real specs and episodes, shared by the tests of the data package."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mindhand.core.keys import Key, Keys
from mindhand.core.spec import Camera, Part, Spec
from mindhand.data.episodes import Episode
from mindhand.data.lerobot_write import LeRobotWriter


def point_spec(source: tuple[int, int] = (16, 16), size: int = 8, rate: float = 10.0) -> Spec:
    """Two cameras: "front" averaged from `source` to size x size, "wrist" taken as it is."""
    return Spec(
        robot="point",
        action=(
            Part("joint", "joint", ("x", "y"), "m"),
            Part("gripper", "gripper", ("width",), "1", polarity="open"),
        ),
        state=(Part("joint", "joint", ("x", "y"), "m"),),
        cameras=(Camera("front", size, size, source, interpolation="area"), Camera("wrist", 8, 8, (8, 8))),
        rate=rate,
    )


def make_episode(index: int, length: int = 7, spec: Spec | None = None, task: str = "pick") -> Episode:
    """Keyed noise of the right shapes; a different length of reasoning texts every third frame."""
    spec = spec or point_spec()
    key = Key("unit", task, index)
    (rng,) = Keys.of([key]).generators()
    return Episode(
        images={c.role: rng.integers(0, 256, (length, *c.source, 3), dtype=np.uint8) for c in spec.cameras},
        state=rng.normal(size=(length, spec.state_size)),
        action=rng.normal(size=(length, spec.action_size)),
        instruction=f"{task} the tile",
        reasoning=[f"step {t // 3}" for t in range(length)],
        success=index % 3 != 0,
        key=key,
    )


def write(path: Path, episodes: list[Episode], spec: Spec | None = None, **options) -> Path:
    """A finished dataset."""
    with LeRobotWriter(path, spec or point_spec(), **options) as writer:
        for episode in episodes:
            writer.append(episode)
    return path
