"""What relabelling makes of a dataset: another one beside it, whole or not there, whose samples are tagged.

    <folder>/dataset         LeRobot: the episodes that were kept, as they were, and those that were added
    <folder>/samples.jsonl   what was proposed, a row each, and what became of it
    <folder>/report.json     of what and how it was made, and counts by reason

What an added episode is made of is its first frame; the others say what followed. Whether an episode was added is told
by its key's protocol, which reaches no model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mindhand.core.errors import BadData
from mindhand.core.files import locked
from mindhand.core.folder import replacing_folder

from .files import read_json, read_rows, write_json, write_rows
from .lerobot_read import LeRobotReader
from .mixture import SampleSet
from .reader import Reader

ADDED = "cf"  # protocol of the keys of episodes that were added
TAGS = ("original", ADDED)


@dataclass(frozen=True)
class Relabelled:
    """A dataset with tags. rows: what was proposed; report: counts, and under "contradicted" the frames of it that no
    sample begins with. One that nothing was done to has neither."""

    reader: Reader
    rows: Sequence[Mapping[str, Any]] = ()
    report: Mapping[str, Any] | None = None

    @property
    def added(self) -> np.ndarray:
        """bool (N,), of frames: whether their episode was added."""
        mine = [e.key is not None and e.key.protocol == ADDED for e in self.reader.episodes]
        return np.array(mine, bool)[self.reader.episode_index]

    def sets(self, frames: np.ndarray, ratio: float = 1.0) -> list[SampleSet]:
        """For a `Mixture`, of these frames: all original ones that their words do not contradict, and the first ones of
        what was added, of which `ratio` come for each of the others. BadData where `frames` lacks one of these."""
        added, first = self.added, self.reader.frame_index == 0
        bad = np.zeros(len(self.reader), bool)
        bad[list((self.report or {}).get("contradicted", ()))] = True
        if lacking := np.setdiff1d(np.flatnonzero(added & first), frames).size:
            raise BadData(f"{lacking} added samples that are not among the frames", "all first frames", "cache them")
        out = [SampleSet("original", "robot", frames[~added[frames] & ~bad[frames]])]
        if len(more := frames[(added & first)[frames]]):
            out.append(SampleSet(ADDED, "robot", more, weight=ratio * len(out[0].rows) / len(more)))
        return out


class Told(Reader):
    """An opened dataset whose frames are told in other words, one text a frame; all else is the dataset's."""

    def __init__(self, reader: Reader, words: Sequence[str]):
        if len(words) != len(reader):
            raise BadData(f"{len(words)} texts for {len(reader)} frames", "one a frame", "say all of them")
        vars(self).update(vars(reader))  # nothing is read again
        self._words = words

    def instruction(self, index: int) -> str:
        """What a frame is told."""
        return self._words[int(index)]


Make = Callable[[Path], tuple[list[dict[str, Any]], dict[str, Any]]]  # folder -> rows, report


def relabelled(folder: Path | str, of: Mapping[str, Any], make: Make) -> Relabelled:
    """What `make` writes into an empty folder, as "dataset" and whatever else, with its rows and its report, under
    `folder` in one step; or what lies there already, if it was made `of` the same (plain JSON). BadData if not."""
    folder = Path(folder).resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder.with_name(f".{folder.name}.lock")):
        if not folder.exists():
            with replacing_folder(folder) as fresh:
                rows, report = make(fresh)
                write_rows(fresh / "samples.jsonl", rows)
                write_json(fresh / "report.json", {"of": of, **report})
    report = read_json(folder / "report.json", f"relabelled dataset {folder}")
    if report["of"] != of:
        differ = [f"{k}: {report['of'].get(k)} | {v}" for k, v in of.items() if report["of"].get(k) != v]
        raise BadData(f"{folder} was made of something else: {differ}", "the same", "choose another folder")
    return Relabelled(LeRobotReader(folder / "dataset"), read_rows(folder / "samples.jsonl"), report)
