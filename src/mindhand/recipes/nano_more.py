"""Go on with nano as it is shipped: what its corpus has learned to ask since, at a gentle rate.

python -m mindhand.recipes.nano_more [PICTURES]     in runs/nano; resumes
mindhand bench nano && python -m mindhand.recipes.ship_nano runs/nano NOTE
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console

from mindhand.model.shipped import shipped

from .nano import pretrain_nano
from .pretrain import WHOLE

MORE = replace(WHOLE, pictures=32_000, pages=0, beside=0, rate=0.003, think=0.0, decay=0.9, seed=1)


def main(pictures: int, run: Path = Path("runs/nano")) -> None:
    """Train on so many pictures more."""
    pretrain_nano(run, replace(MORE, pictures=pictures), console=Console(), base=shipped())


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(int(sys.argv[1]) if sys.argv[1:] else MORE.pictures)
