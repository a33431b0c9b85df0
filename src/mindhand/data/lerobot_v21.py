"""Reading LeRobotDataset v2.1 and v2.0: a parquet file an episode, an mp4 file an episode and camera.

    meta/info.json  meta/episodes.jsonl  meta/tasks.jsonl  meta/episodes_stats.jsonl (v2.0: meta/stats.json)
    data/chunk-000/episode_000000.parquet  [videos/chunk-000/{key}/episode_000000.mp4]

Everything else is as in v3.0 (`lerobot_read`). `meta/mindhand.json` beside it may hold the spec ({"spec": ...}).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from mindhand.core.errors import BadData

from .lerobot_read import LeRobotReader
from .reader import EpisodeRow

EPISODES, TASKS, STATS = "meta/episodes.jsonl", "meta/tasks.jsonl", "meta/episodes_stats.jsonl"


class LeRobotV21(LeRobotReader):
    """Random access to a v2.1 or v2.0 dataset; arguments, arrays and refusals as of `LeRobotReader`."""

    versions: ClassVar[tuple[str, ...]] = ("v2.1", "v2.0")
    open_ended: ClassVar[bool] = False

    def _lines(self, name: str, *needed: str) -> list[dict[str, Any]]:
        path, rows = self.path / name, []
        if not path.exists():
            raise BadData(f"{self._what}: no file {name}", "it", "restore the copy")
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            if not line.strip():
                continue
            try:
                rows.append(json.loads(line))
                missing = [n for n in needed if n not in rows[-1]]
            except (json.JSONDecodeError, TypeError):
                missing = list(needed)
            if missing:
                raise BadData(
                    f"{self._what}: line {number} of {name} has no {missing}",
                    f"JSON with {list(needed)}",
                    "it is truncated or damaged: copy the dataset again",
                )
        return rows

    def _read_tasks(self) -> list[str]:
        rows = sorted(self._lines(TASKS, "task_index", "task"), key=lambda r: r["task_index"])
        if [r["task_index"] for r in rows] != list(range(len(rows))):
            raise BadData(f"{self._what}: tasks are numbered {[r['task_index'] for r in rows]}", "0, 1, ...", "restore")
        return [r["task"] for r in rows]

    def _rows(self) -> list[dict[str, Any]]:
        rows = sorted(self._lines(EPISODES, "episode_index", "tasks", "length"), key=lambda r: r["episode_index"])
        ends = np.cumsum([0, *(r["length"] for r in rows)]).tolist()
        return [{**r, "dataset_from_index": a, "dataset_to_index": b} for r, a, b in zip(rows, ends, ends[1:])]

    def _of_episode(self, template: str, number: int, **names: str) -> Path:
        chunk = number // self.info.get("chunks_size", 1000)
        return self.path / template.format(episode_chunk=chunk, episode_index=number, **names)

    def _data_file(self, e: EpisodeRow) -> Path:
        return self._of_episode(self.info["data_path"], e.number)

    def _film(self, e: EpisodeRow, key: str) -> tuple[Path, float]:
        if not self.info.get("video_path"):
            raise BadData(
                f"{self._what} does not say where the video of '{key}' lies", "video_path in info.json", "restore it"
            )
        return self._of_episode(self.info["video_path"], e.number, video_key=key), 0.0

    def stated(self) -> dict[str, Any]:
        """As of `LeRobotReader`, from the statistics of each episode."""
        if self.info["codebase_version"] == "v2.0":
            return super().stated()
        rows = self._lines(STATS, "episode_index", "stats")
        if (found := sorted(r["episode_index"] for r in rows)) != list(range(len(self.episodes))):
            lost = sorted(set(range(len(self.episodes))) ^ set(found))
            raise BadData(f"{STATS} and the episodes differ in {lost[:6]}", "one line an episode", "measure them again")
        out: dict[str, Any] = {}
        for name in set.intersection(*(set(r["stats"]) for r in rows)):
            ends = {n: np.array([np.ravel(r["stats"][name][n]) for r in rows]) for n in ("min", "max")}
            out[name] = {"min": ends["min"].min(0).tolist(), "max": ends["max"].max(0).tolist()}
        return out
