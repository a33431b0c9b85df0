"""DepthVLA's tower beside a hand that must see how high a block is, one camera and no depth at the test.

What decides is success where heights vary; where all are alike ("flat") there is nothing for it to add. Controls: the
same towers and parameters without pretraining and loss, or any gain could be that of a larger policy; and the loss
without pretraining, which has as many steps as all others, or it could be that of more of them. Turned down for these
two: a frozen tower, which hardly matters in the paper, and true depth as input.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from mindhand.core.keys import Key, Keys
from mindhand.data.cache import FrameCache
from mindhand.data.lerobot_read import LeRobotReader
from mindhand.data.lerobot_write import LeRobotWriter
from mindhand.data.record import record_demonstrations
from mindhand.data.robot import RobotFrames
from mindhand.evaluate.protocol import HEIGHTS
from mindhand.methods.see.depthvla import DEPTH, DepthLoss, plug
from mindhand.model.vla import VLA

from ..chatvla2 import blank
from ..nano import token_grid
from ..places import place_of
from . import Proof
from .bench import Arm, Before, Bench, Measured, Stand

VARIED, FLAT = HEIGHTS.tasks
BENCH = Bench("flow", HEIGHTS.only(episodes=60), demonstrations=80, every=2, horizon=16)
LOSS = {DEPTH: 1.0}
TOWER = Before(("streams.*", f"backbone.towers.{DEPTH}.*", "objectives.*"), LOSS, 500)
HELD, EVERY, ROWS = 8, 6, 32  # episodes of each task that nobody learned from, every so-many-th frame, rows a batch


def depth_error(vla: VLA, stand: Stand, folder: Path) -> list[dict[str, Any]]:
    """Of frames held out, a row each, the mean of |d_hat - d| / d over cells ("depth_error"; to be below 0.15, which a
    still camera over a table makes easy), and that of who sees nothing and tells each cell's mean over the
    demonstrations ("depth_error_blind"). The same of cells that are at least 1 cm off that mean, with a block or an arm
    in them, as "depth_error_things" and "depth_error_things_blind"; frames without such a cell are left out."""
    place, b = place_of(stand.bench.protocol.tasks), stand.bench
    keys = [Key("held-out", task, i) for task in b.protocol.tasks for i in range(HELD)]
    with TemporaryDirectory() as made:
        how = {"pictures": "model", "labels": place.labels, "scene": place.scene()}
        with place.world(1) as world, LeRobotWriter(Path(made) / "data", place.spec, **how) as writer:
            record_demonstrations(world, keys, writer, noise=place.noise, labels=place.look)
        reader = LeRobotReader(Path(made) / "data")
        frames = FrameCache.build(Path(made) / "frames", reader, every=EVERY)
        robot = RobotFrames(reader, frames, vla.backbone.words, b.horizon, b.camera, words_of=blank)
        return _errors(vla, robot, np.nanmean(LeRobotReader(stand.root / "demonstrations").label(DEPTH), 0))


@torch.no_grad()
def _errors(vla: VLA, robot: RobotFrames, usual: np.ndarray) -> list[dict[str, Any]]:
    (own,), found = [o for o in vla.objectives if isinstance(o, DepthLoss)], []
    for index in np.array_split(robot.cache.frames, -(-len(robot.cache.frames) // ROWS)):
        batch = robot.batch(index, Keys.seeded(len(index)), grid=token_grid(vla.backbone)).to(vla.device)
        target, told = batch.targets[DEPTH], own.told(vla.context(batch)).float().exp()
        blind = torch.from_numpy(usual).to(told).expand_as(told)
        things = ((target.value - blind).abs() > 0.01) & target.valid
        for i, frame in enumerate(index.tolist()):
            if bool(things[i].any()):
                off = {n: (x[i] / target.value[i] - 1).abs() for n, x in (("", told), ("_blind", blind))}
                row = {f"depth_error{n}": float(x[target.valid[i]].mean()) for n, x in off.items()}
                row |= {f"depth_error_things{n}": float(x[things[i]].mean()) for n, x in off.items()}
                found.append({"key": f"frame/{frame}", **row})
    return found


NAMES = ("depth_error", "depth_error_blind", "depth_error_things", "depth_error_things_blind")
ERRORS = Measured(depth_error, {name: ("mean", name, "1") for name in NAMES})
ARMS = (
    Arm("depthvla", plug, LOSS, before=TOWER, measure=ERRORS),
    Arm("no-depth-loss", plug),
    Arm("no-pretraining", plug, LOSS, measure=ERRORS),
)
PROOF = Proof("depthvla", BENCH, ARMS, apart={"": (VARIED,), "flat": (FLAT,)})
