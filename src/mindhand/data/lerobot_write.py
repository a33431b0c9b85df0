"""Writing LeRobotDataset v3.0, an episode at a time, so that no kill loses more than one.

Two steps. *Staging*: an episode becomes one file in `incoming/` under its final name in one rename; any number of
processes may stage different episodes. *Committing*: the process that holds the writer moves staged episodes, in
order and without gaps, into new data files, then writes the episodes table, and last `info.json`, which is what
makes them count. Committed files are never touched again. Whatever a kill leaves between two steps is either
not counted yet (and picked up on reopening) or counted whole. Filmed pictures lie in an mp4 a camera beside each data
file, of the same number and the same episodes.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mindhand.core.errors import BadData
from mindhand.core.files import replacing
from mindhand.core.keys import Key
from mindhand.core.spec import Spec

from . import lerobot_film as film
from . import lerobot_format as form
from . import lerobot_stats as stats
from .episodes import Episode
from .files import read_json, write_json
from .lerobot_stage import about, stage, staged_files, staged_film, staged_path

FILE_MB = 100  # LeRobot's default size of a data file
COUNTED = ("episode_index", "index", "task_index")  # columns that commit adds


class LeRobotWriter:
    """Creates a dataset at `path`, or reopens one that mindhand wrote and appends to it.

        with LeRobotWriter("runs/demos", spec, scene=scene_hash, command="mindhand data record ...") as writer:
            writer.append(episode)

    Leaving the block finalizes; leaving it by an exception keeps what was staged for the next opening. `scene` is
    the hash of the scene declaration; appending from another scene, spec or robot type is refused. pictures:
    "source" stores them as captured; "model" is for worlds that crop and resize as the spec says before they show.
    labels {name: size}: what the episodes' `labels` hold. video: pictures become h264 (lerobot_film.py), with
    far fewer bytes and not quite the pictures that were given; by default they are PNG, exact. A data file and its
    films have `file_mb` MiB together, or one episode.
    """

    def __init__(
        self,
        path: Path | str,
        spec: Spec,
        *,
        fps: float | None = None,
        robot_type: str | None = None,
        pictures: form.Pictures = "source",
        labels: Mapping[str, int] | None = None,
        scene: str = "",
        command: str = "",
        video: bool = False,
        file_mb: float = FILE_MB,
    ):
        self.path, self.spec, self.file_mb = Path(path), spec, file_mb
        if fps is not None and fps != spec.rate:
            raise BadData(
                f"a dataset at {fps} frames/s of a robot commanded at {spec.rate} Hz",
                "one frame a control step",
                "set the spec's rate to that of the recorded frames",
            )
        self.robot_type, self.layout = robot_type or spec.robot, form.Layout(spec, pictures, dict(labels or {}), video)
        if not (self.path / form.MINE).exists() and (known := _strangers(self.path)):
            raise BadData(
                f"{self.path} holds {known[0]} and no {form.MINE}",
                "an empty folder, or a dataset written by mindhand",
                "choose another folder; a dataset of another tool is read, not appended to",
            )
        (self.path / form.INCOMING).mkdir(parents=True, exist_ok=True)
        self._lock = os.open(self.path, os.O_RDONLY)  # the folder itself: no lock file to forget
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.close()
            raise BadData(
                f"{self.path} is open in another writer", "one writer a dataset", "wait for it or end it"
            ) from None
        try:
            self._describe(scene, command)
            self._reopen()
        except BaseException:
            self.close()
            raise

    def _describe(self, scene: str, command: str) -> None:
        mine = self.path / form.MINE
        new: dict[str, Any] = {
            "format": form.OURS,
            "fingerprint": self.spec.fingerprint(),
            "scene": scene,
            "robot_type": self.robot_type,
            "pictures": self.layout.pictures,
            "labels": self.layout.labels,
            "video": self.layout.video,
            "commands": [command] if command else [],
            "spec": self.spec.to_json(),
        }
        if mine.exists():
            old = {"video": False} | read_json(mine, f"dataset {self.path}")
            Spec.from_json(old["spec"]).require(self.spec, f"dataset {self.path}", "the new episodes")
            for name in ("scene", "robot_type", "pictures", "labels", "video"):
                if old[name] != new[name]:
                    raise BadData(
                        f"dataset {self.path} was recorded with {name} '{old[name]}', not '{new[name]}'",
                        "one scene, one robot, one kind of pictures and labels in a dataset",
                        "record into another folder and mix the two when training",
                    )
            new["commands"] = old["commands"] + [c for c in new["commands"] if c not in old["commands"]]
        write_json(mine, new)

    def _reopen(self) -> None:
        """Reads what is committed and removes what a killed commit left uncounted."""
        info_path = self.path / form.INFO
        self.info: dict[str, Any] = (
            read_json(info_path, f"dataset {self.path}") if info_path.exists() else self._new_info()
        )
        self.tasks: list[str] = []
        self._keys: list[str | None] = []
        self._stats: list[dict[str, dict[str, Any]]] = []
        self._data_files, self._episode_files, total = 0, 0, self.info["total_episodes"]
        if total:
            table = pq.read_table(self.path / form.TASKS).sort_by("task_index")
            self.tasks = table["__index_level_0__"].to_pylist()[: self.info["total_tasks"]]
        while (file := self._episodes_path(self._episode_files)).exists():
            table = pq.read_table(file)
            if table["episode_index"][0].as_py() >= total:
                break
            self._keys += table["key"].to_pylist()
            self._stats += [_unflatten(row) for row in table.to_pylist()]
            last = table.slice(table.num_rows - 1).to_pylist()[0]
            self._data_files = last["data/chunk_index"] * form.CHUNK + last["data/file_index"] + 1
            self._episode_files += 1
        if len(self._keys) != total:
            raise BadData(
                f"dataset {self.path} counts {total} episodes and describes {len(self._keys)}",
                "an episodes table as long as info.json says",
                "restore meta/episodes from a copy; nothing here removes committed files",
            )
        for orphan in (self._episodes_path(self._episode_files), *self._later()):
            orphan.unlink(missing_ok=True)
        for number in self.staged():
            if number < total:
                self.discard(number)
        for part in self.path.rglob(".*.part"):
            part.unlink(missing_ok=True)

    def _later(self) -> Iterator[Path]:
        """Data files and films past the counted ones, last first: a kill amid their removal leaves no gap."""
        for at in (self._data_path, *(partial(self._film_path, role) for role in self.layout.filmed)):
            end = self._data_files
            while at(end).exists():
                end += 1
            yield from map(at, reversed(range(self._data_files, end)))

    def _data_path(self, number: int) -> Path:
        return self.path / form.path_of(form.DATA, *form.place(number))

    def _film_path(self, role: str, number: int) -> Path:
        return self.path / form.path_of(form.VIDEO, *form.place(number), video_key=form.IMAGES + role)

    def _episodes_path(self, number: int) -> Path:
        return self.path / form.path_of(form.EPISODES, *form.place(number))

    def _new_info(self) -> dict[str, Any]:
        return {
            "codebase_version": form.VERSION,
            "robot_type": self.robot_type,
            "total_episodes": 0,
            "total_frames": 0,
            "total_tasks": 0,
            "chunks_size": form.CHUNK,
            "data_files_size_in_mb": FILE_MB,
            "video_files_size_in_mb": 200,
            "fps": film.whole(self.spec.rate),
            "splits": {"train": "0:0"},
            "data_path": form.DATA,
            "video_path": form.VIDEO if self.layout.filmed else None,
            "features": form.features(self.layout),
        }

    def __len__(self) -> int:
        """Committed episodes."""
        return self.info["total_episodes"]

    def keys(self) -> list[Key | None]:
        """The keys of the committed episodes, in order."""
        return [form.key_of(text) for text in self._keys]

    def staged(self) -> dict[int, Key | None]:
        """Number and key of every episode that is staged and not committed; damaged files are removed."""
        out: dict[int, Key | None] = {}
        for number, file in staged_files(self.path):
            try:
                out[number] = form.key_of(about(pq.read_schema(file))["key"])
            except (pa.ArrowInvalid, OSError):
                file.unlink(missing_ok=True)
        return out

    def discard(self, number: int) -> None:
        """Removes a staged episode; a committed one cannot be removed."""
        staged_path(self.path, number).unlink(missing_ok=True)

    def append(self, episode: Episode) -> int:
        """Stages one episode after the last; commits when a data file's worth is staged. Returns its number."""
        files = staged_files(self.path)
        number = files[-1][0] + 1 if files else len(self)
        stage(self.path, number, episode, self.layout)
        self.commit(full=True)
        return number

    def commit(self, *, full: bool = False) -> int:
        """Moves the staged episodes, up to the first gap, into data files and counts them. Returns how many.

        `full`: only those that fill data files, so that the rest can share one with what is still to come."""
        groups: list[list[Path]] = []
        size = 0
        for i, (number, file) in enumerate(staged_files(self.path)):
            if number != len(self) + i:
                break
            size += file.stat().st_size
            if not groups or size > self.file_mb * 2**20:
                groups.append([])
                size = file.stat().st_size
            groups[-1].append(file)
        if full:
            groups = groups[:-1]
        if not groups:
            return 0
        rows: list[dict[str, Any]] = []
        tasks = {task: i for i, task in enumerate(self.tasks)}
        for number, group in enumerate(groups, start=self._data_files):
            self._write_data(number, group, rows, tasks)
        self._write_meta(rows, list(tasks))
        self._data_files, self._episode_files = self._data_files + len(groups), self._episode_files + 1
        for file in (f for group in groups for f in group):
            file.unlink()
        return len(rows)

    def _write_data(self, number: int, files: list[Path], rows: list[dict[str, Any]], tasks: dict[str, int]) -> None:
        """One data file of whole episodes, a row group each, and its films; adds a row an episode to `rows`."""
        for role in self.layout.filmed:
            with replacing(self._film_path(role, number)) as temporary:
                film.join(temporary, (staged_film(file, role) for file in files), self.spec.rate)
        first = begin = rows[-1]["dataset_to_index"] if rows else self.info["total_frames"]
        chunk, file_index = form.place(number)
        schema = form.schema(self.layout)
        staged = [name for name in schema.names if name not in COUNTED]
        with (
            replacing(self._data_path(number)) as temporary,
            pq.ParquetWriter(
                temporary, schema, compression="none", use_dictionary=[form.REASONING], write_statistics=False
            ) as out,
        ):
            for file in files:
                table = pq.read_table(file, columns=staged)
                told, episode = about(table.schema), len(self) + len(rows)
                length = table.num_rows
                whole = {
                    "episode_index": np.full(length, episode),
                    "index": begin + np.arange(length),
                    "task_index": np.full(length, tasks.setdefault(told["instruction"], len(tasks))),
                }
                numbers = told["stats"] | {name: stats.of_vector(x) for name, x in whole.items()}
                columns = {name: table[name] for name in table.column_names} | {
                    k: pa.array(v) for k, v in whole.items()
                }
                out.write_table(
                    pa.table([columns[name] for name in schema.names], schema=schema), row_group_size=length
                )
                rows.append(
                    {
                        "episode_index": episode,
                        "tasks": [told["instruction"]],
                        "length": length,
                        "data/chunk_index": chunk,
                        "data/file_index": file_index,
                        "dataset_from_index": begin,
                        "dataset_to_index": begin + length,
                        "meta/episodes/chunk_index": form.place(self._episode_files)[0],
                        "meta/episodes/file_index": form.place(self._episode_files)[1],
                        **self._films_row(chunk, file_index, begin - first, length),
                        "success": told["success"],
                        "key": told["key"],
                        **{f"stats/{f}/{name}": value for f, stat in numbers.items() for name, value in stat.items()},
                    }
                )
                begin += length

    def _films_row(self, chunk: int, file_index: int, begin: int, length: int) -> dict[str, Any]:
        """Where an episode lies in the films of its data file; begin: frames of that file before it."""
        at: dict[str, Any] = {"chunk_index": chunk, "file_index": file_index}
        at |= {"from_timestamp": begin / self.spec.rate, "to_timestamp": (begin + length) / self.spec.rate}
        keys = [form.IMAGES + role for role in self.layout.filmed]
        return {f"videos/{key}/{name}": value for key in keys for name, value in at.items()}

    def _write_meta(self, rows: list[dict[str, Any]], tasks: list[str]) -> None:
        """The episodes table, tasks and statistics of the new rows, and last info.json, which makes them count."""
        kinds = {name: _kind(value) for name, value in rows[0].items()} | {"success": pa.bool_(), "key": pa.string()}
        table = pa.table({name: pa.array([row[name] for row in rows], kind) for name, kind in kinds.items()})
        with replacing(self._episodes_path(self._episode_files)) as temporary:
            pq.write_table(table, temporary)
        with replacing(self.path / form.TASKS) as temporary:
            pq.write_table(form.tasks_table(tasks), temporary)
        per_episode = self._stats + [_unflatten(row) for row in rows]
        total = {feature: stats.combine([s[feature] for s in per_episode]) for feature in per_episode[0]}
        write_json(self.path / form.STATS, total)
        episodes = len(self) + len(rows)
        info = self.info | {
            "total_episodes": episodes,
            "total_frames": rows[-1]["dataset_to_index"],
            "total_tasks": len(tasks),
            "splits": {"train": f"0:{episodes}"},
        }
        write_json(self.path / form.INFO, info)
        self.info, self.tasks, self._stats = info, tasks, per_episode
        self._keys += [row["key"] for row in rows]

    def finalize(self) -> None:
        """Commits everything and closes the writer. Refuses where an episode is missing between staged ones, or
        where there is none at all."""
        self.commit()
        if left := staged_files(self.path):
            raise BadData(
                f"dataset {self.path}: episode {len(self)} is missing and {len(left)} later ones are staged",
                "every episode up to the last",
                "finish the recording with the same keys, then finalize",
            )
        if not len(self):
            raise BadData(f"dataset {self.path} has no episode", "at least one", "append an episode first")
        shutil.rmtree(self.path / form.INCOMING, ignore_errors=True)
        self.close()

    def close(self) -> None:
        """Releases the dataset without committing what is staged."""
        if self._lock >= 0:
            os.close(self._lock)
        self._lock = -1

    def __enter__(self) -> LeRobotWriter:
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        if kind is None and self._lock >= 0:
            self.finalize()
        else:
            self.close()


def _strangers(path: Path) -> list[str]:
    """Files that a first opening, killed at once, does not leave."""
    files = (p for p in path.rglob("*") if p.is_file() and not p.name.endswith(".part"))
    return sorted(str(f) for p in files if (f := p.relative_to(path)).parts[0] != form.INCOMING)


def _kind(value: Any) -> pa.DataType:
    """The type of a column from one value. Named, since inference looks for pandas anew at every number."""
    if isinstance(value, list):
        return pa.list_(_kind(value[0]))
    return {int: pa.int64(), float: pa.float64(), str: pa.string(), bool: pa.bool_(), type(None): pa.null()}[
        type(value)
    ]


def _unflatten(row: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """{feature: {name: numbers}} from the columns "stats/feature/name" of an episodes row."""
    out: dict[str, dict[str, Any]] = {}
    for column, value in row.items():
        if column.startswith("stats/"):
            feature, name = column.removeprefix("stats/").rsplit("/", 1)
            out.setdefault(feature, {})[name] = value
    return out
