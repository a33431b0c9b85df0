"""Look at K-test with rows of the grid: once a release, with what ships and what its table is made of.

python -m mindhand.recipes.ktest shipped        every look is a line of results/ktest.jsonl, to be committed
mindhand bench chatvla2                         writes the records, chatvla2/<row>/<family>/k-test/...

Resumes; the same weights again are the same look. Cells that only the checkout keeps have no weights to
look with: look before they are gone.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from mindhand.core.errors import Refusal
from mindhand.model.shipped import shipped

from .grid import open_ktest
from .prove import grid_of
from .variants import GRID


def main(variants: Sequence[str], run: Path = Path("runs/proofs")) -> None:
    """Of the grid's cells in `run` those of these variants. Refusal for none, for one that there is not, and where no
    cell of them is done."""
    if unknown := sorted(set(variants) - set(GRID)):
        raise Refusal(f"variants {unknown}", f"some of {sorted(GRID)}", "name them: mindhand prove chatvla2 --help")
    if not open_ktest(grid_of(shipped(), run), variants, Console()):
        raise Refusal(f"no cell of {list(variants)} that is done", "some variants", "mindhand prove chatvla2 --queue")


if __name__ == "__main__":
    main(sys.argv[1:])
