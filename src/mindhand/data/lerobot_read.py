"""Reading LeRobotDataset v3.0, with pictures inline or in mp4 files, ours or others', without LeRobot.

A dataset that is truncated, of another version, not finite, or not what the spec says is refused. What is said about
v3.0 alone are the methods at the end; `lerobot_v21` says the same about its layout.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mindhand.core.errors import BadData
from mindhand.core.spec import Spec

from . import lerobot_format as form
from .files import read_json
from .lerobot_check import matrix, name_problem, value_problems
from .lerobot_frames import Clip, ParquetPictures, Pictures, VideoPictures
from .reader import EpisodeRow, Reader


class LeRobotReader(Reader):
    """Random access to a v3.0 dataset.

    spec: needed for datasets of other tools, where nothing on disk states units and frames; must equal the stored
    one where there is one. cameras {role: feature} maps roles to picture features of other names; by default role
    "front" is "observation.images.front". `refuse=False` collects wrong values in `problems` instead of raising
    the first one; a wrong structure always raises.
    """

    versions: ClassVar[tuple[str, ...]] = (form.VERSION,)
    open_ended: ClassVar[bool] = True  # rows past the last episode are of a commit that never finished

    def __init__(
        self,
        path: Path | str,
        spec: Spec | None = None,
        *,
        cameras: Mapping[str, str] | None = None,
        refuse: bool = True,
    ):
        self.path = Path(path)
        self.problems = []
        self._what = f"dataset {self.path}"
        self.info = self._read_info()
        self.layout = f"LeRobot {self.info['codebase_version']}"
        self.fps = float(self.info["fps"])
        self.features: dict[str, dict[str, Any]] = self.info["features"]
        self.about = {}
        self.spec = self._find_spec(spec)
        self.pictures = self.about.get("pictures", "source")
        named = {**self.about.get("cameras", {}), **(cameras or {})}
        self.camera_features = {role: named.get(role, form.IMAGES + role) for role in self.spec.roles}
        self._check_features()
        self.stored = {role: self.features[key]["dtype"] for role, key in self.camera_features.items()}
        self.tasks = self._read_tasks()
        self.episodes = self._read_episodes()
        self.files = self._locate()
        self._read_values()
        self.problems += value_problems(self)
        self._cameras = {role: self._open_pictures(key) for role, key in self.camera_features.items()}
        said = self.features.get(form.REASONING, {}).get("dtype") == "string"
        self._read_texts = self._thoughts if said else None
        names = [key for key in self.features if key.startswith(form.LABEL)]
        self._read_labels = {key.removeprefix(form.LABEL): partial(self._numbers, key) for key in names}
        self._labels = {}
        if refuse and self.problems:
            raise self.problems[0]

    # ---- structure: always refused ----

    def _read_info(self) -> dict[str, Any]:
        if not (self.path / form.INFO).exists():
            if (self.path / form.INCOMING).is_dir():
                raise BadData(
                    f"{self._what} was never finalized",
                    "a finished recording",
                    "run the recording again with the same keys (it resumes), or reopen it with LeRobotWriter and "
                    "call finalize()",
                )
            raise BadData(f"{self._what} has no {form.INFO}", "a LeRobotDataset folder", "check the path")
        info = read_json(self.path / form.INFO, self._what)
        version = info.get("codebase_version")
        if version not in self.versions:
            raise BadData(
                f"{self._what} is LeRobot {version}",
                f"{' or '.join(self.versions)}",
                "open it with mindhand.data.opening.open_dataset, which knows v2.0, v2.1 and v3.0; convert others once "
                "with LeRobot's own converters",
            )
        needed = ("fps", "features", "total_episodes", "total_frames", "data_path")
        if missing := [name for name in needed if name not in info]:
            raise BadData(f"{self._what}: info.json lacks {missing}", f"{list(needed)}", "restore meta/info.json")
        return info

    def _find_spec(self, given: Spec | None) -> Spec:
        mine = self.path / form.MINE
        if mine.exists():
            self.about = read_json(mine, self._what)
            stored = Spec.from_json(self.about["spec"])
            if given is not None:
                stored.require(given, self._what, "the spec asked for")
            return stored
        if given is None:
            raise BadData(
                f"{self._what} was written by another tool and states no units, frames or polarity",
                f"{form.MINE}, or a Spec from you",
                "write a Spec for this robot and pass it: LeRobotReader(path, spec)",
            )
        return given

    def _check_features(self) -> None:
        for name, dtype in form.MANDATORY.items():
            if self.features.get(name, {}).get("dtype") != dtype:
                raise BadData(
                    f"{self._what} has no feature '{name}' of {dtype}", "the features of v3.0", "convert it again"
                )
        for name, parts in ((form.STATE, self.spec.state), (form.ACTION, self.spec.action)):
            size = sum(p.size for p in parts)
            if name not in self.features:
                raise BadData(f"{self._what} has no feature '{name}'", f"one of {size} numbers", "see info.json")
            if list(self.features[name]["shape"]) != [size]:
                raise BadData(
                    f"{self._what}: '{name}' has shape {self.features[name]['shape']}",
                    f"[{size}] as the spec of '{self.spec.robot}' says",
                    "take the spec of this robot",
                )
            if complaint := name_problem(f"{self._what}: '{name}'", self.features[name].get("names"), parts):
                raise complaint
        if self.fps != self.spec.rate:
            raise BadData(
                f"{self._what} has {self.fps} frames/s",
                f"the control rate of the spec, {self.spec.rate} Hz",
                "state the rate at which these actions were commanded in the spec",
            )
        for role, key in self.camera_features.items():
            if self.features.get(key, {}).get("dtype") not in ("image", "video"):
                known = [k for k, f in self.features.items() if f["dtype"] in ("image", "video")]
                raise BadData(
                    f"{self._what} has no camera '{key}' for role '{role}'",
                    f"one of {known}",
                    "map the role to the right one, LeRobotReader(..., cameras={role: feature}), or take it out of "
                    "the spec; a missing camera is never filled with zeros",
                )
            want, got = (*form.picture_size(self.spec.camera(role), self.pictures), 3), self._picture_shape(key)
            if got != want:
                raise BadData(
                    f"{self._what}: pictures of '{key}' are {got}",
                    f"{want}, the {self.pictures} size of camera '{role}' in the spec",
                    "state the stored size as the camera's source, and how it is resized",
                )

    def _picture_shape(self, key: str) -> tuple[int, int, int]:
        shape, names = list(self.features[key]["shape"]), self.features[key].get("names") or []
        if len(names) == 3 and names[0] in ("channels", "channel"):
            shape = [*shape[1:], shape[0]]
        return tuple(shape)

    def _table(self, path: Path, columns: list[str] | None = None) -> pa.Table:
        try:
            return pq.read_table(path, columns=columns, memory_map=True)
        except FileNotFoundError:
            raise BadData(f"{self._what}: no file {path.relative_to(self.path)}", "it", "restore the copy") from None
        except (pa.ArrowInvalid, OSError) as error:
            raise BadData(
                f"{self._what}: {path.relative_to(self.path)} cannot be read ({error})",
                "a whole parquet file",
                "it is truncated or damaged: copy the dataset again",
            ) from error

    def _read_episodes(self) -> list[EpisodeRow]:
        total, rows = self.info["total_episodes"], sorted(self._rows(), key=lambda r: r["episode_index"])
        begin = 0
        for i, r in enumerate(rows):
            if r["episode_index"] != i or r["dataset_from_index"] != begin or r["length"] < 1:
                raise BadData(
                    f"{self._what}: episode row {i} is number {r['episode_index']} from frame {r['dataset_from_index']}"
                    f" with {r['length']} frames",
                    f"number {i} from frame {begin}: contiguous episodes",
                    "restore meta/episodes",
                )
            begin += r["length"]
            if r["dataset_to_index"] != begin:
                raise BadData(f"{self._what}: episode {i} ends at {r['dataset_to_index']}", f"{begin}", "restore it")
        if len(rows) != total or begin != self.info["total_frames"]:
            raise BadData(
                f"{self._what} describes {len(rows)} episodes and {begin} frames",
                f"{total} and {self.info['total_frames']} as info.json says",
                "a file of meta/episodes is missing: copy the dataset again",
            )
        if not rows:
            raise BadData(f"{self._what} is empty", "at least one episode", "record some")
        return [
            EpisodeRow(
                r["episode_index"],
                r["dataset_from_index"],
                r["dataset_to_index"],
                tuple(r["tasks"]),
                r.get("success"),
                form.key_of(r.get("key")) if self.about else None,
                r,
            )
            for r in rows
        ]

    def _locate(self) -> list[tuple[Path, int, int]]:
        """(path, first frame, frames) of every data file, in order."""
        out: list[tuple[Path, int, int]] = []
        for e in self.episodes:
            path = self._data_file(e)
            if out and out[-1][0] == path:
                out[-1] = (path, out[-1][1], out[-1][2] + len(e))
            else:
                out.append((path, e.begin, len(e)))
        return out

    def _read_values(self) -> None:
        names = [form.STATE, form.ACTION, *form.MANDATORY]
        tables = []
        for path, begin, count in self.files:
            table = self._table(path, names)
            unfinished = self.open_ended and path == self.files[-1][0]
            if table.num_rows < count or (table.num_rows != count and not unfinished):
                raise BadData(
                    f"{self._what}: {path.relative_to(self.path)} holds {table.num_rows} frames from {begin}",
                    f"{count} as the episodes table says",
                    "the file is another version's or truncated: copy the dataset again",
                )
            tables.append(table.slice(0, count))
        whole = pa.concat_tables(tables, promote_options="permissive")
        self.state = matrix(whole[form.STATE], self.spec.state_size)
        self.action = matrix(whole[form.ACTION], self.spec.action_size)
        self.time = whole["timestamp"].to_numpy().astype(np.float32)
        self.index = whole["index"].to_numpy()
        self.episode_index = whole["episode_index"].to_numpy()
        self.frame_index = whole["frame_index"].to_numpy()
        self.task_index = whole["task_index"].to_numpy()
        self.begins = np.array([e.begin for e in self.episodes])
        self.ends = np.array([e.end for e in self.episodes])

    def _open_pictures(self, key: str) -> Pictures:
        shape = self._picture_shape(key)
        if self.features[key]["dtype"] == "image":
            return ParquetPictures(self.files, key, shape)
        clips: list[Clip] = []
        for e in self.episodes:
            path, start = self._film(e, key)
            if not (clips and clips[-1].path == path) and not path.exists():
                raise BadData(f"{self._what}: no file {path.relative_to(self.path)}", "it", "copy the dataset again")
            clips.append(Clip(path, e.begin, e.end, start))
        return VideoPictures(clips, key, shape, self.fps)

    def _thoughts(self) -> tuple[np.ndarray, list[str]]:
        texts: dict[str, int] = {}
        codes = []
        for path, _, count in self.files:
            column = pq.read_table(path, columns=[form.REASONING], read_dictionary=[form.REASONING])[form.REASONING]
            for piece in column.slice(0, count).chunks:
                local = np.array(
                    [texts.setdefault(t or "", len(texts)) for t in piece.dictionary.to_pylist()], np.int64
                )
                codes.append(local[piece.indices.to_numpy()])
        return np.concatenate(codes), list(texts)

    def _numbers(self, key: str) -> np.ndarray:
        whole = pa.concat_tables([self._table(path, [key]).slice(0, count) for path, _, count in self.files])
        return matrix(whole[key], self.features[key]["shape"][0])

    # ---- where v3.0 has it ----

    def stated(self) -> dict[str, Any]:
        """What the dataset's own statistics say of each feature; BadData where it lacks them."""
        return read_json(self.path / form.STATS, self._what)

    def _read_tasks(self) -> list[str]:
        table = self._table(self.path / form.TASKS)
        text = next((c for c in ("__index_level_0__", "task") if c in table.column_names), None)
        if text is None or "task_index" not in table.column_names:
            raise BadData(f"{self._what}: tasks have columns {table.column_names}", "task and index", "restore it")
        return table.sort_by("task_index")[text].to_pylist()

    def _rows(self) -> list[dict[str, Any]]:
        """One dictionary an episode: episode_index, length, tasks, dataset_from_index, dataset_to_index and whatever
        else is known of it."""
        rows, total = [], self.info["total_episodes"]
        for file in sorted((self.path / "meta/episodes").glob("*/*.parquet")):
            try:
                names = [n for n in pq.read_schema(file).names if not n.startswith("stats/")]
            except (pa.ArrowInvalid, OSError):
                names = None
            # Rows past info.json belong to a commit that never finished.
            rows += [r for r in self._table(file, names).to_pylist() if r["episode_index"] < total]
        return rows

    def _data_file(self, e: EpisodeRow) -> Path:
        places = e.columns["data/chunk_index"], e.columns["data/file_index"]
        return self.path / form.path_of(self.info["data_path"], *places)

    def _film(self, e: EpisodeRow, key: str) -> tuple[Path, float]:
        """Where an episode's pictures are filmed, and at which second they begin."""
        names = [f"videos/{key}/{name}" for name in ("chunk_index", "file_index", "from_timestamp")]
        lacks = [] if self.info.get("video_path") else ["video_path"]
        if lacks := lacks or [n for n in names if e.columns.get(n) is None]:
            raise BadData(
                f"{self._what} does not say where the video of '{key}' lies: no {lacks[0]}",
                "video_path in info.json, file and time in the episodes table",
                "restore meta, or convert it again",
            )
        *at, start = (e.columns[name] for name in names)
        return self.path / form.path_of(self.info["video_path"], *at, video_key=key), start
