"""The pictures of a LeRobot dataset by frame, from parquet structs or from mp4 files."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mindhand.core.errors import BadData

from .image import decode
from .lerobot_film import converted

T = TypeVar("T")
OPEN = 4  # files and row groups kept open at once
AHEAD = 1.0  # seconds a video is decoded forward before it seeks, until two of its key frames were met


class Recent(OrderedDict[Any, Any]):
    """The few things used last, by name."""

    def get_or(self, name: Any, make: Callable[[], Any], close: Callable[[Any], None] = lambda _: None) -> Any:
        """The thing of that name, made where it is not held; the one not used for longest makes room."""
        if name not in self:
            while len(self) >= OPEN:
                close(self.popitem(last=False)[1])
            self[name] = make()
        self.move_to_end(name)
        return self[name]


class Pictures(Protocol):
    """One camera's pictures. `get` returns uint8 (n,h,w,3) of global frame indices, in the order asked for."""

    def get(self, index: Sequence[int] | np.ndarray) -> np.ndarray: ...


def stack(pictures: list[np.ndarray], shape: tuple[int, int, int], index: np.ndarray, what: str) -> np.ndarray:
    """uint8 (n,h,w,3) of single pictures of frames `index`; BadData for one of another shape."""
    for i, picture in zip(index, pictures):
        if picture.shape != shape:
            raise BadData(
                f"{what}: frame {int(i)} is a picture of {picture.shape}",
                f"{shape} as the dataset and the spec say",
                "record the dataset again, or correct the declared size",
            )
    return np.stack(pictures) if pictures else np.empty((0, *shape), np.uint8)


class ParquetPictures:
    """Pictures inline in data files. files: (path, first global index, frames) in order; key: the column."""

    def __init__(self, files: Sequence[tuple[Path, int, int]], key: str, shape: tuple[int, int, int]):
        self.files, self.key, self.shape = list(files), key, shape
        self._begins = np.array([begin for _, begin, _ in files])
        self._open, self._groups = Recent(), Recent()

    def _file(self, number: int) -> tuple[pq.ParquetFile, np.ndarray]:
        path = self.files[number][0]

        def make() -> tuple[pq.ParquetFile, np.ndarray]:
            file = pq.ParquetFile(path, memory_map=True)
            rows = [file.metadata.row_group(g).num_rows for g in range(file.num_row_groups)]
            return file, np.cumsum([0, *rows])

        return self._open.get_or(number, make, lambda held: held[0].close())

    def _one(self, index: int) -> np.ndarray:
        number = int(np.searchsorted(self._begins, index, "right")) - 1
        path, begin, _ = self.files[number]
        file, starts = self._file(number)
        group = int(np.searchsorted(starts, index - begin, "right")) - 1
        what = f"{path.name}: frame {index} of '{self.key}'"

        def read() -> pa.ChunkedArray:
            try:
                return file.read_row_group(group, columns=[self.key])[self.key]
            except (pa.ArrowInvalid, OSError) as error:
                raise BadData(f"{what} cannot be read ({error})", "a whole data file", "restore the file") from error

        struct = self._groups.get_or((number, group), read)[index - begin - int(starts[group])].as_py()
        if struct is None or (struct["bytes"] is None and not struct["path"]):
            raise BadData(f"{what} holds no picture", "a picture a frame", "record the dataset again")
        if struct["bytes"] is not None:
            return decode(struct["bytes"], what)
        return decode(path.parents[2] / struct["path"], what)

    def get(self, index: Sequence[int] | np.ndarray) -> np.ndarray:
        """uint8 (n,h,w,3)."""
        index = np.asarray(index, np.int64)
        return stack([self._one(int(i)) for i in index], self.shape, index, f"camera '{self.key}'")


@dataclass(frozen=True)
class Clip:
    """Where an episode's pictures lie: frames begin..end-1 start at `start` seconds of `path`."""

    path: Path
    begin: int
    end: int
    start: float


class VideoPictures:
    """Pictures in mp4 files through PyAV. clips: one an episode, in order; fps of the dataset.

    A frame is found by its time stamp (clip start + frame / fps), never by counting, and must lie within a tenth
    of a frame of it: LeRobot's own tolerance (`lerobot_check.TIME_TOLERANCE`) is narrower, and other tools' mp4 round
    times to more than that. Frames asked for in order decode forward; a jump seeks to the key frame before it.
    """

    def __init__(self, clips: Sequence[Clip], key: str, shape: tuple[int, int, int], fps: float):
        self.clips, self.key, self.shape, self.fps = list(clips), key, shape, fps
        self._begins = np.array([clip.begin for clip in clips])
        self._open = Recent()

    def get(self, index: Sequence[int] | np.ndarray) -> np.ndarray:
        """uint8 (n,h,w,3)."""
        index = np.asarray(index, np.int64)
        out: dict[int, np.ndarray] = {}
        for i in np.unique(index):
            clip = self.clips[int(np.searchsorted(self._begins, i, "right")) - 1]
            video = self._open.get_or(clip.path, lambda clip=clip: _Video(clip.path), _Video.close)
            out[int(i)] = video.at(clip.start + (int(i) - clip.begin) / self.fps, 0.1 / self.fps)
        return stack([out[int(i)] for i in index], self.shape, index, f"camera '{self.key}'")


class _Video:
    """An open mp4 and where its decoder stands.

    A time not far ahead is decoded up to, any other is sought. Far is more than the longest way from one key frame to
    the next that was met so far, or a second. One thread decodes: more of them need several frames to begin with after
    each jump, and loaders have processes.
    """

    def __init__(self, path: Path):
        import av

        self.path = path
        try:
            self.container = av.open(str(path), options={"err_detect": "explode"})
        except (av.FFmpegError, OSError) as error:
            raise BadData(
                f"{path} cannot be opened as a video ({error})", "a whole mp4", "it is truncated or damaged: restore it"
            ) from error
        if not self.container.streams.video:
            self.container.close()
            raise BadData(f"{path} holds no video", "a whole mp4", "it is truncated or another file: restore it")
        self.stream = self.container.streams.video[0]
        self.stream.thread_type, self.stream.codec_context.thread_count = "NONE", 1
        self.stream.codec_context.options = {"err_detect": "explode"}  # instead of hiding what is damaged
        self._frames: Iterator[Any] = iter(())
        self._last: Any = None
        self._key, self._gap = None, 0.0  # the key frame met last since the jump; the longest way between two

    def close(self) -> None:
        """Frees the decoder."""
        self.container.close()

    def at(self, time: float, tolerance: float) -> np.ndarray:
        """uint8 (h,w,3): the frame shown at `time` seconds."""
        ahead = self._gap or AHEAD
        if self._last is None or not self._last.time - tolerance <= time <= self._last.time + ahead + tolerance:
            self._seek(time - tolerance)
        while self._last is None or self._last.time < time - tolerance:
            self._last = self._next(time)
        if self._last.time > time + tolerance:
            found, self._last = self._last.time, None
            raise BadData(
                f"{self.path} has no frame at {time:.4f} s, the next is at {found:.4f} s",
                f"a frame within {tolerance:.4f} s",
                "video and table disagree about the frame rate: record or convert again",
            )
        return converted(self._last, "rgb24").to_ndarray()

    def _seek(self, time: float) -> None:
        """To the key frame at or before `time` seconds."""
        import av

        ticks = max(0.0, time) / float(self.stream.time_base or 1)
        try:
            self.container.seek(int(ticks), stream=self.stream)
        except av.FFmpegError as error:
            raise self._damaged(time, error) from error
        self._frames, self._last, self._key = self.container.decode(self.stream), None, None

    def _next(self, time: float) -> Any:
        """The next frame on the way to `time`."""
        import av

        try:
            frame = next(self._frames)
        except StopIteration:
            self._last = None
            raise BadData(
                f"{self.path} ends before {time:.4f} s",
                "a frame for every row of the dataset",
                "the file is truncated or another dataset's: restore it",
            ) from None
        except av.FFmpegError as error:
            self._last = None
            raise self._damaged(time, error) from error
        if frame.is_corrupt or frame.time is None:
            self._last = None
            raise self._damaged(time, "a frame of it is damaged")
        if frame.key_frame:
            if self._key is not None:
                self._gap = max(self._gap, frame.time - self._key)
            self._key = frame.time
        return frame

    def _damaged(self, time: float, why: object) -> BadData:
        return BadData(
            f"{self.path} cannot be decoded at {time:.4f} s ({why})",
            "an undamaged video whose groups of pictures are closed",
            "restore the file from a copy, or encode it again; a damaged frame is never guessed",
        )
