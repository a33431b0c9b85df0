"""Public picture-question benchmarks, asked of a checkpoint's mind from a local file and scored by their own rules.

    python -m mindhand.recipes.public CHECKPOINT FILE --rule pope

FILE: a table (.tsv) as VLMEvalKit keeps them, or .json/.jsonl in LLaVA's forms (`evaluate/public.py`); nothing is
fetched. Pictures are squeezed to what the model sees; a question is read as `mindhand chat` reads it, however long.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from mindhand.core.errors import Refusal
from mindhand.core.record import measure
from mindhand.data.files import write_rows
from mindhand.evaluate.public import RULES, read_public, score_public, squeezed
from mindhand.evaluate.rules import together
from mindhand.evaluate.scorecard import VLAMind

from .chat import load_mind, worded

JOINED = {"mmbench": "right in all its rotations", "mme": "right in all of a picture"}  # rules.together


def ask_public(checkpoint: Path, file: Path, rule: str, images: Path | None = None) -> list[dict[str, Any]]:
    """Rows of `score_public`: every question of a benchmark's file, answered by a checkpoint's mind. images: the folder
    that picture paths are relative to (the file's unless given)."""
    items = read_public(file, images)  # before the weights: a file that cannot be asked is told at once
    vla = load_mind(checkpoint)
    mind, camera, words = VLAMind(vla), vla.spec.camera(vla.see[0]), vla.backbone.words

    def answer(pictures: np.ndarray, asked: list[list[str]]) -> list[list[str]]:
        return mind.answer(pictures, [[worded(q, words, longest=None)[0] for q in row] for row in asked])

    return score_public(squeezed(answer, camera.height, camera.width), items, rule)


def score_table(rows: Sequence[dict[str, Any]], rule: str) -> Table:
    """Scores with 95 % intervals and chance: of all rows, of each category where there are several, and of what the
    rule joins."""
    some = {"all": [*rows]}
    if len(named := dict.fromkeys(r["category"] for r in rows)) > 1:
        some |= {name or "(no category)": [r for r in rows if r["category"] == name] for name in named}
    if rule in JOINED:
        some[JOINED[rule]] = together(rows)
    field = "right" if "right" in rows[0] else "score"
    table = Table("", field, "95 % interval", "n", "chance", title=f"scored by the rule of {rule}")
    for name, part in some.items():
        found, _ = measure(part, field, "rate" if field == "right" else "mean")
        chance = sum(r["chance"] for r in part) / len(part)
        interval = f"{found.low:.3f} to {found.high:.3f}"
        table.add_row(name, f"{found.value:.3f}", interval, str(found.n), f"{chance:.3f}")
    return table


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code, 2 for a refusal."""
    line = ArgumentParser(prog="python -m mindhand.recipes.public", description="Score a public benchmark's file.")
    line.add_argument("checkpoint", type=Path, help="checkpoint folder")
    line.add_argument("file", type=Path, help=".tsv of VLMEvalKit, .json or .jsonl of LLaVA")
    line.add_argument("--rule", required=True, choices=sorted(RULES), help="the benchmark's family")
    line.add_argument("--images", type=Path, help="the folder of the pictures; the file's unless given")
    line.add_argument("--rows", type=Path, help="write what was said to every question there, as JSON lines")
    given = line.parse_args(argv)
    torch.set_num_threads(1)
    try:
        rows = ask_public(given.checkpoint, given.file, given.rule, given.images)
    except Refusal as refusal:
        print(f"mindhand: {refusal}", file=sys.stderr)
        return 2
    if given.rows is not None:
        write_rows(given.rows, rows)
    Console().print(score_table(rows, given.rule))
    return 0


if __name__ == "__main__":
    sys.exit(main())
