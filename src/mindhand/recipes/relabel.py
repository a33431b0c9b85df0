"""Tell demonstrations anew: a dataset in, a dataset with more in it out, and a page that shows what was made of what.

python -m mindhand.recipes.relabel cast runs/demonstrations runs/cast [checkpoint]

The checkpoint is of a policy that makes what is added (of CAST an atomic one, trained on `commanded` frames); without
one the world's expert does. FOLDER/samples.html is to be looked at; decoded frames are made by whoever trains.
"""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path

from rich.console import Console

from mindhand.core.errors import Refusal
from mindhand.data.opening import open_dataset
from mindhand.data.relabelled import Relabelled
from mindhand.methods import method
from mindhand.model.store import load_vla
from mindhand.worlds.placing import FAMILY

from .places import place_of


def relabel(
    name: str, data: Path, folder: Path, checkpoint: Path | None = None, console: Console | None = None
) -> Relabelled:
    """Relabel demonstrations of placing by a method, in their own world. Refusal for those of other families, of whose
    scenes nobody says what else could be asked for; BuildError for a method that relabels nothing."""
    made, reader = method(name).relabel, open_dataset(data)
    tasks = tuple(dict.fromkeys(e.key.task for e in reader.episodes if e.key is not None))
    if not tasks or any(task.partition("/")[0] != FAMILY for task in tasks):
        raise Refusal(f"demonstrations of {list(tasks)}", f"tasks of '{FAMILY}'", "record some: mindhand data record")
    place = place_of(tasks)
    policy = None if checkpoint is None else load_vla(checkpoint, reader.spec)
    with closing(place.world(1)) as world:
        return made(reader, folder, world, policy=policy, noise=place.noise, console=console)


if __name__ == "__main__":
    if len(sys.argv) not in (4, 5):
        raise Refusal(f"{len(sys.argv) - 1} words", "a method, demonstrations, a folder", "see relabel.py")
    relabel(sys.argv[1], *map(Path, sys.argv[2:]), console=Console())
