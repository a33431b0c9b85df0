"""The rows of an evaluation on disk: appended durably, one line an episode, and read back after any kill."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from mindhand.core.errors import BadData, Refusal
from mindhand.core.files import write_atomic


def plain(x: Any) -> Any:
    """Nested values with numpy's made Python's: what JSON can hold, and what equals itself after reading."""
    if isinstance(x, Mapping):
        return {str(k): plain(v) for k, v in x.items()}
    if isinstance(x, list | tuple):
        return [plain(v) for v in x]
    return x.tolist() if isinstance(x, np.generic | np.ndarray) else x


def line(row: Mapping[str, Any]) -> bytes:
    """One row as it is stored: the same bytes for the same row."""
    return (json.dumps(plain(row), sort_keys=True, allow_nan=False) + "\n").encode()


class Journal:
    """A file of JSON lines with one writer. `rows` are those that were there, by their "key".

    A last line that a kill cut short is dropped and its episode runs again; anything else that cannot be read is
    refused. A second process that opens the file is refused too.
    """

    def __init__(self, path: Path):
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.file: BinaryIO = open(path, "ab")  # noqa: SIM115  closed by close()
        try:
            self._lock()
            self.rows = self._read()
        except BaseException:
            self.file.close()
            raise

    def _lock(self) -> None:
        try:
            import fcntl
        except ImportError:  # no such lock on this system
            return
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Refusal(
                f"{self.path} is being written by another process",
                "one evaluation a folder",
                "wait, or use another --run",
            ) from None

    def _read(self) -> dict[str, dict[str, Any]]:
        data = self.path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            os.truncate(self.path, whole)
        out: dict[str, dict[str, Any]] = {}
        for number, text in enumerate(data[:whole].splitlines(), 1):
            try:
                row = json.loads(text)
                out.setdefault(row["key"], row)
            except (ValueError, KeyError, TypeError) as error:
                raise BadData(
                    f"{self.path}, line {number}: {error}", "one episode as JSON", "remove the line; it runs again"
                ) from error
        return out

    def append(self, row: Mapping[str, Any]) -> None:
        """Add one row; it is on the disk when this returns."""
        self.file.write(line(row))
        self.file.flush()
        os.fsync(self.file.fileno())
        self.rows[str(row["key"])] = plain(row)

    def sort(self, order: Sequence[str]) -> list[dict[str, Any]]:
        """Rewrite the file in this order, so that it does not tell how the work was shared out; returns the rows."""
        rows = [self.rows[key] for key in order]
        write_atomic(self.path, b"".join(map(line, rows)))
        return rows

    def close(self) -> None:
        """Let go of the file."""
        self.file.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
