"""Reading ACT's HDF5 and what DexVLA adds to it: a file an episode, in one folder.

    /observations/qpos (T,S)  [/observations/qvel (T,S)]  /action (T,A)
    /observations/images/<camera>   uint8 (T,h,w,3), or a JPEG or PNG a frame: uint8 (T,longest) padded with zeros, with
                                    the attribute "compress" and /compress_len, or bytes of any length
    /language_raw (1,)  /substep_reasonings (T,)      DexVLA: the instruction, and a thought a frame

The format states no units, no rate and no names of dimensions: `foreign.Description`. Rows of /compress_len are in the
order of a list of cameras that nobody stored, so lengths are not taken from it: a JPEG has to end with its own mark.
Needs h5py: pip install 'mindhand[hdf5]'.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from mindhand.core.errors import BadData, BuildError

from .foreign import ForeignReader, Piece, text
from .reader import EpisodeRow

JPEG, END = b"\xff\xd8", b"\xff\xd9"
SUFFIXES = (".hdf5", ".h5")


def files(path: Path) -> list[Path]:
    """The HDF5 files of a folder, by the numbers in their names."""
    found = [p for p in path.iterdir() if p.suffix in SUFFIXES] if path.is_dir() else []
    return sorted(found, key=lambda p: (number(p), p.name))


def number(path: Path) -> int:
    """The number of an episode by its file's name, as ACT numbers them ("episode_7"); -1 of files with other names."""
    found = re.fullmatch(r"episode_?(\d+)", path.stem)
    return int(found[1]) if found else -1


class HDF5Reader(ForeignReader):
    """Random access to a folder of ACT's or DexVLA's HDF5; arguments as of `ForeignReader`. success and keys are not
    known. Episodes whose numbers have holes are refused."""

    layout: ClassVar[str] = "ACT HDF5"
    names: ClassVar[Mapping[str, Any]] = {
        "state": ("observations/qpos",),
        "action": ("action",),
        "camera": "observations/images/{role}",
        "instruction": "language_raw",
        "reasoning": "substep_reasonings",
    }

    def _pieces(self) -> Iterator[Callable[[], Piece]]:
        opened()
        there = files(self.path)
        before = None
        for path in there:
            if before is not None and number(path) not in (-1, number(before) + 1):
                yield partial(self._hole, before, path)
            before = path
            yield partial(self._piece, path)

    def _hole(self, before: Path, path: Path) -> Piece:
        lost = range(number(before) + 1, number(path))
        raise BadData(
            f"{self._what}: between {before.name} and {path.name} "
            + (f"{len(lost)} episodes are missing" if lost else "a number comes twice"),
            "episodes numbered one after the other",
            "copy the dataset again, number the files anew, or leave out what is missing: skip=True",
        )

    def _open(self, path: Path) -> Any:
        with whole(path):
            return opened().File(path, "r")

    def _values(self, file: Any, path: Path, name: str) -> Any:
        if name not in file or not hasattr(file[name], "shape"):
            there: list[str] = []
            file.visititems(lambda n, x: there.append(n) if hasattr(x, "shape") else None)
            raise BadData(
                f"{path} has no '{name}'", f"one of {there}", "name what this dataset calls it: mindhand.json"
            )
        return file[name]

    def _piece(self, path: Path) -> Piece:
        told, vectors = self.told, {}
        with self._open(path) as file, whole(path):
            for which in ("state", "action"):
                parts = [np.asarray(self._values(file, path, n)[()]) for n in getattr(told, which)]
                if {len(x) for x in parts} != {len(parts[0])} or any(x.ndim > 2 for x in parts):
                    raise BadData(f"{path}: {which} of shapes {[x.shape for x in parts]}", "(T,k) each", "name vectors")
                vectors[which] = np.concatenate([x.reshape(len(x), -1) for x in parts], 1)
            thoughts = None
            if told.reasoning in file:
                said = np.ravel(file[told.reasoning][()]).tolist()
                thoughts = [text(t, f"{path}: {told.reasoning}") for t in said]
            for role, name in told.cameras.items():
                shape, size = self._values(file, path, name).shape, self.spec.camera(role).source
                if shape[0] != len(vectors["state"]) or (len(shape) == 4 and shape[1:] != (*size, 3)):
                    raise BadData(
                        f"{path}: pictures of '{name}' are {shape}",
                        f"{(len(vectors['state']), *size, 3)}: one a frame, of the source size of camera '{role}'",
                        "state the stored size as the camera's source, or record the episode again",
                    )
            return Piece(str(path), path, **vectors, instruction=self._instruction(file, path), thoughts=thoughts)

    def _instruction(self, file: Any, path: Path) -> str:
        told = self.told
        if told.instruction not in file:
            if told.task:
                return told.task
            raise BadData(
                f"{path} has no '{told.instruction}'",
                "what the robot was asked to do, in words",
                'say it in mindhand.json: {"task": "..."}, or name the text that says it: {"instruction": "..."}',
            )
        said = np.ravel(file[told.instruction][()]).tolist()
        words = list(dict.fromkeys(text(t, f"{path}: {told.instruction}") for t in said))
        if len(words) != 1:
            raise BadData(f"{path}: {len(words)} instructions {words[:3]}", "one an episode", "split the episode")
        return words[0]

    def _fetch(self, e: EpisodeRow, name: str) -> Any:
        path = e.columns["path"]
        return _Camera(self._open(path), path, name)


class _Camera:
    """One camera of an open file, by frame."""

    def __init__(self, file: Any, path: Path, name: str):
        self.file, self.data, self.what = file, file[name], f"{path}: '{name}'"

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, t: int) -> np.ndarray | bytes:
        with whole(f"{self.what}: frame {t}"):
            x = self.data[t]
        if isinstance(x, np.ndarray) and x.ndim == 3 and x.dtype == np.uint8:
            return x
        if isinstance(x, np.ndarray) and (x.ndim != 1 or x.dtype != np.uint8):
            raise BadData(f"{self.what} is {x.dtype} {self.data.shape}", "uint8 (T,h,w,3) or encoded", "convert it")
        data = bytes(x).rstrip(b"\0") if isinstance(x, np.ndarray) else bytes(x)
        if data.startswith(JPEG) and not data.endswith(END):
            raise BadData(f"{self.what}: frame {t} ends before its picture does", "a whole JPEG", "copy the file again")
        return data

    def close(self) -> None:
        """Frees the file."""
        self.file.close()


@contextmanager
def whole(what: Path | str) -> Iterator[None]:
    """Says of what HDF5's own errors are."""
    try:
        yield
    except (OSError, RuntimeError, KeyError) as error:
        raise BadData(
            f"{what} cannot be read ({error})", "a whole HDF5 file", "it is truncated or damaged: copy it again"
        ) from error


def opened() -> Any:
    """h5py, or what to install."""
    try:
        import h5py
    except ImportError as error:
        raise BuildError("reading HDF5 without h5py", "h5py", "pip install 'mindhand[hdf5]'") from error
    return h5py
