"""What relabelling makes of a dataset: another one beside it, whole or not there, whose samples are tagged.

    <folder>/dataset         LeRobot: the episodes that were kept, as they were, and those that were added
    <folder>/samples.jsonl   what was proposed, a row each, and what became of it
    <folder>/report.json     of what and how it was made, and counts by reason

Meanwhile it lies in `.<folder>.begun`, beside the rows of every episode of the source that is finished, and goes on
from there when it was stopped (`gathered`).

What an added episode is made of is its first frame; the others say what followed. Whether an episode was added is told
by its key's protocol, which reaches no model.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mindhand.core.errors import BadData, Refusal
from mindhand.core.files import locked
from mindhand.core.progress import progress

from .episodes import Episode
from .files import read_json, read_rows, write_json, write_rows
from .lerobot_read import LeRobotReader
from .lerobot_write import LeRobotWriter
from .mixture import SampleSet
from .reader import Reader

if TYPE_CHECKING:
    from rich.console import Console

ADDED = "cf"  # protocol of the keys of episodes that were added
TAGS = ("original", ADDED)
BEGUN, ROWS = "begun.json", "rows"  # of what a folder is that is not finished; its rows so far, an episode a file


class Unanswered(Refusal):
    """Who is asked gives no answer now: what was made until then is kept, and gone on with."""


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
Row = dict[str, Any]
Tried = Callable[[int], Iterable[tuple[Row | None, Episode | None]]]  # a source's episode -> rows, and what was made


def gathered(
    folder: Path, writer: LeRobotWriter, numbers: Sequence[int], tried: Tried, console: Console | None = None
) -> list[Row]:
    """The rows of these episodes of a source, and what was made of each appended to the dataset, in order. Where
    `folder` holds some that are finished, it goes on behind them: the bytes are those of a run that nobody stopped, as
    far as `tried` is a function of the number. BadData where it is not."""
    writer.commit(full=True)  # what a kill interrupted, before anything else could share its file
    rows, there, held, done = [], 0, len(writer) + len(writer.staged()), 0
    for number in numbers:
        if not (file := _rows_file(folder, number)).exists():
            break
        told = read_json(file, f"what was begun in {folder}")
        if there + told["episodes"] > held:
            break
        rows, there, done = rows + told["rows"], there + told["episodes"], done + 1
    for number in writer.staged():
        if number >= there:
            writer.discard(number)
    committed = writer.keys()  # some perhaps of an episode that is not finished
    with progress(console, "relabel", len(numbers), done, "episodes") as tell:
        for n, number in enumerate(numbers[done:], done + 1):
            own, first = [], there
            for row, made in tried(number):
                own += [row] if row is not None else []
                if made is None:
                    continue
                if there >= len(committed):
                    writer.append(made)
                elif committed[there] != made.key:
                    what = f"episode {there} of {writer.path} is {committed[there]}, and now {made.key}"
                    raise BadData(what, "the same whenever it is made", "remove what was begun")
                there += 1
            write_json(_rows_file(folder, number), {"rows": own, "episodes": there - first})
            rows += own
            tell(n)
    return rows


def _rows_file(folder: Path, number: int) -> Path:
    return folder / ROWS / f"episode-{number:07d}.json"


def relabelled(folder: Path | str, of: Mapping[str, Any], make: Make) -> Relabelled:
    """What `make` writes into a folder, as "dataset" and whatever else, with its rows and its report, under `folder` in
    one step; or what lies there already, if it was made `of` the same (plain JSON). BadData if not. The folder that
    `make` is given is empty, or holds what it left when it was stopped. A Refusal leaves nothing, since it would come
    again, but for `Unanswered`.
    """
    folder = Path(folder).resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder.with_name(f".{folder.name}.lock")):
        if not folder.exists():
            with _begun(folder, of) as fresh:
                rows, report = make(fresh)
                write_rows(fresh / "samples.jsonl", rows)
                write_json(fresh / "report.json", {"of": of, **report})
        (folder / BEGUN).unlink(missing_ok=True)
        shutil.rmtree(folder / ROWS, ignore_errors=True)
    report = read_json(folder / "report.json", f"relabelled dataset {folder}")
    _require(folder, report["of"], of)
    return Relabelled(LeRobotReader(folder / "dataset"), read_rows(folder / "samples.jsonl"), report)


@contextmanager
def _begun(folder: Path, of: Mapping[str, Any]) -> Iterator[Path]:
    """The folder that becomes `folder` at a clean end."""
    fresh = folder.with_name(f".{folder.name}.begun")
    if not (fresh / BEGUN).exists():
        shutil.rmtree(fresh, ignore_errors=True)
        write_json(fresh / BEGUN, of)
    _require(fresh, read_json(fresh / BEGUN, f"what was begun in {fresh}"), of)
    try:
        yield fresh
    except Unanswered:
        raise
    except Refusal:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    os.rename(fresh, folder)


def _require(folder: Path, found: Mapping[str, Any], of: Mapping[str, Any]) -> None:
    if found != of:
        differ = [f"{k}: {found.get(k)} | {v}" for k, v in of.items() if found.get(k) != v]
        raise BadData(
            f"{folder} was made of something else: {differ}", "the same", "choose another folder, or remove it"
        )
