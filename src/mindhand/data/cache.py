"""The frame cache: every picture decoded, cropped and resized once, then memory-mapped.

One `<role>.npy` a camera, uint8 (frames, height, width, 3), exactly what the model sees. Processes that open the
same cache share it in the page cache. Beside it `<role>.json` says of which dataset, by which camera and from
which frames it was made; anything else refuses to open, and is made anew by `build`.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mindhand.core.errors import BadData
from mindhand.core.files import locked
from mindhand.core.progress import progress
from mindhand.core.spec import Camera

from .files import read_json, write_json
from .reader import Reader

if TYPE_CHECKING:
    from rich.console import Console

VERSION = 1  # of the layout and of `image.prepare`: raise it when either changes a pixel
PIECE = 256  # frames decoded between two notes of progress
# A first look at a page of a map costs more than copying it. Caches up to so many bytes have all their pages mapped
# when they are opened (Linux 5.14 and later: MADV_POPULATE_READ), which a batch of 64 frames took 7 of its 9 ms for.
WHOLE, POPULATE = 4 << 30, 22


class FrameCache:
    """An opened cache over `reader`. frames int64 (n,): the global indices it holds, every `every`-th of an episode.

    Make it with `build` (which also resumes and rebuilds) or `open` (which refuses what is absent or stale).
    """

    def __init__(self, frames: np.ndarray, arrays: dict[str, np.ndarray]):
        self.frames, self.arrays = frames, arrays

    def rows(self, index: Sequence[int] | np.ndarray) -> np.ndarray:
        """Where global frames lie in the arrays; BadData for a frame that is not cached."""
        index = np.asarray(index, np.int64)
        rows = np.minimum(np.searchsorted(self.frames, index), len(self.frames) - 1)
        if (missing := index[self.frames[rows] != index]).size:
            raise BadData(
                f"frame {missing[0]} is not in the frame cache",
                "one of `cache.frames`",
                "sample from `cache.frames`, or build the cache with every=1",
            )
        return rows

    def images(self, role: str, index: Sequence[int] | np.ndarray) -> np.ndarray:
        """uint8 (n, height, width, 3) of global frames, as the model sees them."""
        return self.arrays[role][self.rows(index)]

    @staticmethod
    def open(directory: Path | str, reader: Reader, *, every: int = 1) -> FrameCache:
        """The finished cache in `directory`; BadData where a camera is absent, stale or damaged."""
        frames, fingerprint = _frames(reader, every), reader.fingerprint()
        arrays = {}
        for camera in reader.spec.cameras:
            want = _manifest(fingerprint, camera, every, len(frames))
            arrays[camera.role] = _open_one(Path(directory), camera, want)
            _map_all(arrays[camera.role])
        return FrameCache(frames, arrays)

    @staticmethod
    def build(directory: Path | str, reader: Reader, *, every: int = 1, console: Console | None = None) -> FrameCache:
        """Opens what is there and decodes the rest. A killed build goes on where it stopped. Processes that build the
        same cache share out its cameras, and wait for each other."""
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        frames, fingerprint = _frames(reader, every), reader.fingerprint()
        left = list(reader.spec.cameras)
        for wait in (False, True):  # at first those that nobody else is at
            for camera in list(left):
                want = _manifest(fingerprint, camera, every, len(frames))
                with locked(directory / f"{camera.role}.lock", wait) as mine:
                    if not mine:
                        continue
                    left.remove(camera)
                    try:
                        _open_one(directory, camera, want)
                    except BadData:
                        _build_one(directory, reader, camera, frames, want, console)
        return FrameCache.open(directory, reader, every=every)


def _frames(reader: Reader, every: int) -> np.ndarray:
    if every < 1:
        raise BadData(f"every {every}-th frame", "1 or more", "1 caches all")
    return np.flatnonzero(reader.frame_index % every == 0)


def _manifest(fingerprint: str, camera: Camera, every: int, rows: int) -> dict[str, Any]:
    shape = [rows, camera.height, camera.width, 3]
    made = {"version": VERSION, "dataset": fingerprint, "camera": asdict(camera), "every": every, "shape": shape}
    return json.loads(json.dumps(made))


def _open_one(directory: Path, camera: Camera, want: dict[str, Any]) -> np.ndarray:
    array, manifest = directory / f"{camera.role}.npy", directory / f"{camera.role}.json"
    if not manifest.exists():
        raise BadData(f"no frame cache of camera '{camera.role}' in {directory}", "one", "build it: FrameCache.build")
    have = read_json(manifest, f"frame cache {directory}")
    if have != want:
        differ = [f"{k}: {have.get(k)} | {want[k]}" for k in want if have.get(k) != want[k]]
        raise BadData(
            f"the frame cache {array} is stale (cached | wanted):\n    " + "\n    ".join(differ),
            "a cache of this dataset, this camera and these frames",
            "build it anew: FrameCache.build",
        )
    try:
        pictures = np.load(array, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise BadData(f"the frame cache {array} is damaged ({error})", "a whole file", "build it anew") from error
    if pictures.dtype != np.uint8 or list(pictures.shape) != want["shape"]:
        raise BadData(f"the frame cache {array} holds {pictures.shape}", f"{want['shape']}", "build it anew")
    return pictures


def _map_all(pictures: Any) -> None:
    if sys.platform == "linux" and pictures.nbytes <= WHOLE:
        with contextlib.suppress(OSError):  # a wish: older kernels do not know it
            pictures._mmap.madvise(POPULATE)


def _build_one(
    directory: Path,
    reader: Reader,
    camera: Camera,
    frames: np.ndarray,
    want: dict[str, Any],
    console: Console | None,
) -> None:
    final, manifest = directory / f"{camera.role}.npy", directory / f"{camera.role}.json"
    part, note = directory / f"{camera.role}.npy.part", directory / f"{camera.role}.progress.json"
    manifest.unlink(missing_ok=True)  # first: a new array must never stand beside an old manifest
    done, out = 0, None
    if part.exists() and note.exists():
        noted = read_json(note, f"frame cache {directory}")
        if noted["of"] == want:
            out, done = np.lib.format.open_memmap(part, mode="r+"), noted["done"]
    if out is None:
        out = np.lib.format.open_memmap(part, mode="w+", dtype=np.uint8, shape=tuple(want["shape"]))
    with progress(console, f"decode {camera.role}", len(frames), done, "frames") as advance:
        for begin in range(done, len(frames), PIECE):
            index = frames[begin : begin + PIECE]
            out[begin : begin + len(index)] = reader.seen(camera.role, index)
            out.flush()
            write_json(note, {"of": want, "done": begin + len(index)})
            advance(begin + len(index))
    del out
    os.replace(part, final)
    write_json(manifest, want)
    note.unlink(missing_ok=True)
