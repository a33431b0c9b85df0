"""Cells of the grid that go on from another cell's training: one that keeps its thoughts, one that recovers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from mindhand.core.batch import Batch
from mindhand.core.nouns import smoke_observation
from mindhand.data.files import write_rows
from mindhand.model.reasoner import KeepingConfig, KeepingReasoner
from mindhand.model.store import load_vla, save_vla
from mindhand.model.vla import VLA
from mindhand.train.loop import train_stage
from mindhand.train.stage import Optimiser, Stage
from mindhand.worlds import scene
from mindhand.worlds.desk.spec import EMPTY, SHUT

from .cotraining import Asked, warm_up
from .nano import CorpusSource, looking, token_grid
from .places import read_thought
from .stages import mind_rows

FEW = 70  # steps of 32 pictures that recovery sees again and again: 1 % of what nano was pretrained on
CURVE = (25, 50, 100, 200)  # steps of recovery after which the scorecard is taken


def keeping(checkpoint: Path, folder: Path, every: int) -> Path:
    """The same policy, which thinks only when something has happened, or after `every` queries."""
    policy = load_vla(checkpoint, parse=read_thought)
    gripper = policy.spec.part("gripper", "state").start
    how = KeepingConfig(policy.reasoner.config.limit, every, gripper, (EMPTY, SHUT))
    policy.reasoner = KeepingReasoner(how, read_thought)
    save_vla(policy, folder / "checkpoint", smoke=smoke_observation(policy.spec))
    return folder / "checkpoint"


class Few:
    """Source: the first `count` batches of another one, again and again."""

    def __init__(self, source: CorpusSource, count: int):
        self.source, self.count = source, count

    def batch(self, vla: Any, step: int) -> Sequence[Batch]:
        """The batches of a step."""
        return self.source.batch(vla, step % self.count)


def recovered(checkpoint: Path, folder: Path, items: int, seed: int, console: Console | None = None) -> Path:
    """A mind after some steps on a little image-text (claim C2): what comes back so fast was never lost. The scorecard
    on the way is in `folder`/curve.jsonl, a row an item with its "step"."""
    whole = load_vla(checkpoint)
    backbone = whole.backbone
    vla = VLA(spec=whole.spec, backbone=backbone, objectives=[looking(backbone)])
    corpus = warm_up((scene.FAMILY,), seed + 1, FEW, Asked(brief=False, words=False))
    source = CorpusSource(corpus, backbone.words, token_grid(backbone), facts=0)
    curve: list[dict[str, Any]] = []
    try:
        for until in CURVE:
            gentle = Optimiser(lr=2.5e-4, muon=0.0025, warmup=20, adam=("*.ffn.*",), decay=0.0)
            weights = {"text": 1.0, "look": 0.5}
            stage = Stage("recovery", Few(source, FEW), until, ("backbone.*",), weights, gentle, seed=seed)
            train_stage(vla, stage, folder / stage.name, console=console)
            at = folder / f"after-{until}"
            save_vla(VLA(spec=whole.spec, backbone=vla.backbone), at)
            card = "scorecard" if until == CURVE[-1] else at.name  # the last is the cell's own
            curve += [{**row, "step": until} for row in mind_rows(at, items, folder / f"{card}.jsonl", console)]
    finally:
        source.close()
    write_rows(folder / "curve.jsonl", curve)
    return folder / f"after-{CURVE[-1]}"
