"""Films of failures: which episodes fail is known when all have run, so those are played once more, from their keys.

An episode is a function of its key and the policy, so what is filmed is what was counted. That is checked: of an
episode that goes another way the second time there is no film, and its row says so.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from .run import Job, episodes, key_of
from .video import TYPES

DIFFERS = "played once more it went another way"
Row = Mapping[str, Any]


def first_failures(rows: Sequence[Row], each: int) -> list[Row]:
    """The first `each` failures of every task, in the order of the rows."""
    lost = [r for r in rows if not r["success"]]
    return [r for task in dict.fromkeys(r["task"] for r in lost) for r in [x for x in lost if x["task"] == task][:each]]


def _there(folder: Path, row: Row) -> str | None:
    """The film of an episode in a run folder, if it has one; relative to the folder."""
    name = row["key"].replace("/", "_")
    found = [f"films/{name}{suffix}" for suffix in TYPES if (folder / "films" / f"{name}{suffix}").exists()]
    return found[0] if found else row["film"]


def film_failures(job: Job, rows: Sequence[Row], each: int) -> list[dict[str, Any]]:
    """Film the first `each` failures of every task that have no film yet into the run folder; returns the rows with
    their films, and "replay" where one went another way. rows: as `evaluate` returned them; `job.film` says how to
    film, whatever its episodes. The folder's own rows stay as they are."""
    assert job.film is not None
    missing = {r["key"]: r for r in first_failures(rows, each) if _there(job.folder, r) is None}
    differs = set()
    if missing:
        some = [key_of(r) for r in missing.values()]
        with TemporaryDirectory(dir=job.folder) as aside:

            def done(row: Row, seconds: list[float]) -> None:
                if {**row, "film": None} != missing[row["key"]]:
                    differs.add(row["key"])
                elif row["film"]:
                    (job.folder / "films").mkdir(exist_ok=True)
                    os.replace(Path(aside) / row["film"], job.folder / row["film"])

            again = replace(job, film=replace(job.film, episodes=frozenset(some)), folder=Path(aside))
            episodes(again, job.policy(), job.world(job.protocol.rows), some, done)
    out = [{**r, "film": _there(job.folder, r)} for r in rows]
    return [{**r, "replay": DIFFERS} if r["key"] in differs else r for r in out]
