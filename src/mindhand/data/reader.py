"""An opened dataset, whatever it lies in: what training, caches, statistics and the doctor ask of one.

Everything that is not a picture is in memory after opening (about 150 bytes a frame); pictures are decoded on
request. What is particular to a layout on disk is in the class that opens it: `lerobot_read`, `lerobot_v21`, and what
`opening` lists besides.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mindhand.core.errors import BadData
from mindhand.core.keys import Key
from mindhand.core.spec import Spec

from . import lerobot_format as form
from .episodes import Episode
from .files import identity
from .image import prepare
from .lerobot_frames import Pictures, VideoPictures


@dataclass(frozen=True)
class EpisodeRow:
    """One line of the episodes table: frames begin..end-1; success and key are None in sets of other tools."""

    number: int
    begin: int
    end: int
    tasks: tuple[str, ...]
    success: bool | None
    key: Key | None
    columns: Mapping[str, Any]

    def __len__(self) -> int:
        return self.end - self.begin


class Reader:
    """Random access to a dataset of N frames.

    state float32 (N,S), action float32 (N,A); episode_index, frame_index, task_index, index int64 (N,); time float32
    (N,) in seconds since the episode began; begins and ends int64 (episodes,). tasks: the instructions that task_index
    names. files: (path, first frame, frames) of what holds the numbers, in order. pictures: whether they are stored as
    captured or as the model sees them. stored {role: how}, such as "video". problems: wrong values that were not
    refused.
    """

    layout: str  # "LeRobot v3.0"
    path: Path
    spec: Spec
    fps: float
    info: dict[str, Any]  # what the dataset says of itself
    about: dict[str, Any]  # what mindhand wrote beside it
    pictures: form.Pictures
    camera_features: dict[str, str]
    stored: dict[str, str]
    tasks: list[str]
    episodes: list[EpisodeRow]
    files: list[tuple[Path, int, int]]
    problems: list[BadData]
    state: np.ndarray
    action: np.ndarray
    time: np.ndarray
    index: np.ndarray
    episode_index: np.ndarray
    frame_index: np.ndarray
    task_index: np.ndarray
    begins: np.ndarray
    ends: np.ndarray
    _what: str
    _cameras: dict[str, Pictures]
    _read_texts: Callable[[], tuple[np.ndarray, list[str]]] | None  # codes (N,), and the distinct texts they name
    _read_labels: dict[str, Callable[[], np.ndarray]]
    _labels: dict[str, np.ndarray]

    def __len__(self) -> int:
        """Frames."""
        return self.episodes[-1].end

    def film_ends(self, role: str) -> list[int]:
        """The last frame, by global index, of each film of a camera; none where its pictures are inline."""
        pictures = self._cameras[role]
        last = {clip.path: clip.end - 1 for clip in pictures.clips} if isinstance(pictures, VideoPictures) else {}
        return list(last.values())

    def images(self, role: str, index: np.ndarray | list[int]) -> np.ndarray:
        """uint8 (n,h,w,3) as stored, of global frames `index`."""
        self.spec.camera(role)
        index = np.asarray(index, np.int64)
        if ((index < 0) | (index >= len(self))).any():
            raise BadData(f"{self._what}: frames {index.min()}..{index.max()}", f"0..{len(self) - 1}", "check them")
        return self._cameras[role].get(index)

    def seen(self, role: str, index: np.ndarray | list[int]) -> np.ndarray:
        """uint8 (n, height, width, 3): the same frames exactly as the model sees them, cropped and resized."""
        pictures = self.images(role, index)
        return prepare(pictures, self.spec.camera(role)) if self.pictures == "source" else pictures

    def instruction(self, index: int) -> str:
        """The task of a frame, in words."""
        return self.tasks[int(self.task_index[index])]

    @property
    def has_reasoning(self) -> bool:
        """Whether frames have thoughts at all; each may still be ""."""
        return self._read_texts is not None

    @cached_property
    def _texts(self) -> tuple[np.ndarray, list[str]]:
        return self._read_texts() if self._read_texts else (np.zeros(len(self), np.int64), [""])

    def reasoning(self, index: int) -> str:
        """The text of the sub-step a frame belongs to; "" where the dataset has none."""
        codes, texts = self._texts
        return texts[int(codes[index])]

    def labels(self) -> dict[str, np.ndarray]:
        """Every label by name."""
        return {name: x for name in self._read_labels if (x := self.label(name)) is not None}

    def label(self, name: str) -> np.ndarray | None:
        """float32 (N,k) of a label, NaN where a frame has none; None where the dataset has no such label."""
        if name not in self._labels:
            if name not in self._read_labels:
                return None
            self._labels[name] = self._read_labels[name]()
        return self._labels[name]

    def episode(self, number: int) -> Episode:
        """One whole episode, decoded."""
        e = self.episodes[number]
        index = np.arange(e.begin, e.end)
        return Episode(
            images={role: self.images(role, index) for role in self.spec.roles},
            state=self.state[e.begin : e.end],
            action=self.action[e.begin : e.end],
            instruction=self.instruction(e.begin),
            reasoning=[self.reasoning(i) for i in index],
            success=e.success,
            key=e.key,
            labels={name: x[e.begin : e.end] for name, x in self.labels().items()},
        )

    def vectors(self, numbers: Iterable[int] | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """State (T,S) and action (T,A) of each episode (by default of all), without decoding a picture."""
        for e in self.episodes if numbers is None else (self.episodes[int(n)] for n in numbers):
            yield self.state[e.begin : e.end], self.action[e.begin : e.end]

    def stated(self) -> dict[str, Any]:
        """What the dataset's own statistics say: {feature: {"min", "max", ...}}; empty where a layout has none."""
        return {}

    def fingerprint(self) -> str:
        """16 hexadecimal digits of what is on disk: all numbers, and head, tail and size of every file."""
        out = hashlib.blake2b(digest_size=8)
        out.update(json.dumps([self.info, self.spec.to_json(), self.camera_features], sort_keys=True).encode())
        for array in (self.state, self.action, self.task_index):
            out.update(np.ascontiguousarray(array).tobytes())
        videos = {c.path for p in self._cameras.values() if isinstance(p, VideoPictures) for c in p.clips}
        for path in [*(p for p, _, _ in self.files), *sorted(videos)]:
            out.update(str(path.relative_to(self.path)).encode() + identity(path))
        return out.hexdigest()
