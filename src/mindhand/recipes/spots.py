"""Where a VLM points that says where a thing is to go: pixels between that and the spot, relation by relation.

python -m mindhand.recipes.spots [CHECKPOINT] [ITEMS]

Nothing stands at such a spot: it has to be worked out from the reference, the relation, and how large both things are.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from mindhand.core.checkpoint import load_checkpoint
from mindhand.data.synthetic.collate import collate_image_text
from mindhand.data.synthetic.samples import QA, ImageText
from mindhand.data.synthetic.toy_corpus import ToyCorpus
from mindhand.data.synthetic.toy_picture import tabletop
from mindhand.data.synthetic.toy_plans import PLAN
from mindhand.model.eyes import Gaze, GazeConfig
from mindhand.model.shipped import shipped
from mindhand.model.store import load_vla
from mindhand.model.vla import VLA
from mindhand.worlds.desk.world import SPEC
from mindhand.worlds.placing import read_placing
from mindhand.worlds.things import RELATIONS

from .nano import looking, token_grid

SEED, ROWS = 900_000, 50  # of items that no training has; at a time
CELL = 8.0  # pixels: what a hand's eye forgives (`RobotFrames.jitter`)


def items(count: int, seed: int = SEED) -> list[ImageText]:
    """Pictures with one question each, whose answer ends with where something is put; the spot is `QA.point`."""
    corpus = ToyCorpus(seed, tabletop, 1, 1, shares=((PLAN, 1.0),), written=False)
    every = (corpus.sample(step, 0) for step in itertools.count())
    asked = (replace(made, questions=made.questions[:1]) for made in every)
    return list(itertools.islice((a for a in asked if _puts(a.questions[0]) and a.questions[0].point), count))


def _puts(qa: QA) -> bool:
    said = read_placing(qa.answer)
    return said is not None and said["step"] == "put"


@torch.inference_mode()
def spot_rows(checkpoint: Path, count: int) -> list[dict[str, Any]]:
    """One row an item: its relation, that one's class, and the pixels between where the words point and the spot."""
    vlm, name = load_vla(checkpoint).backbone, load_checkpoint(checkpoint, None).fingerprint
    grid, camera = token_grid(vlm), SPEC.camera("front")
    look = GazeConfig(looking(vlm).layer, grid, (camera.height, camera.width), 8, SPEC.state_size)
    vla = VLA(spec=SPEC, backbone=vlm).eval()
    gaze, rows = Gaze(look), []
    asked = items(count)
    for begin in range(0, count, ROWS):
        some = asked[begin : begin + ROWS]
        batch = collate_image_text(some, vlm.words, grid)
        at = gaze.centre(gaze.point(vla.trunk(batch, vla.inputs(batch), gaze.want))).tolist()
        rows += [_row(begin + k, s.questions[0], p, name) for k, (s, p) in enumerate(zip(some, at))]
    return rows


def _row(k: int, qa: QA, at: Sequence[float], policy: str) -> dict[str, Any]:
    said = read_placing(qa.answer)
    assert said is not None and qa.point is not None
    off = float(np.hypot(at[0] - qa.point[0], at[1] - qa.point[1]))
    how = said["relation"]
    return {
        "key": f"{SEED}/{k}", "policy": policy, "relation": how, "known": RELATIONS[how],
        "pixels": round(off, 3), "near": off <= CELL,
    }  # fmt: skip


def main(checkpoint: Path, count: int) -> None:
    """A table on the terminal."""
    rows = spot_rows(checkpoint, count)
    table = Table(
        "relation", "class", "items", "median", "9 of 10", f"within {CELL:.0f} px", title="pixels off the spot"
    )
    for how in (*RELATIONS, ""):
        off = [r["pixels"] for r in rows if how in ("", r["relation"])]
        if off:
            near = np.mean([x <= CELL for x in off])
            shown = (f"{np.median(off):.1f}", f"{np.quantile(off, 0.9):.1f}", f"{near:.2f}")
            table.add_row(how or "all", RELATIONS.get(how, ""), str(len(off)), *shown)
    Console().print(table)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]) if sys.argv[1:] else shipped(), int(sys.argv[2]) if sys.argv[2:] else 400)
