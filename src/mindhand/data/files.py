"""JSON that a kill cannot leave half-written under its final name, and cheap identities of big files."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mindhand.core.errors import BadData
from mindhand.core.files import replacing, write_atomic

TAIL = 1 << 16


def write_json(path: Path, data: Any) -> None:
    """`data` as indented JSON under `path`, atomically and on disk when this returns."""
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        json.dump(data, file, indent=2, ensure_ascii=False)
        file.flush()
        os.fsync(file.fileno())


def read_json(path: Path, what: str) -> Any:
    """The JSON in `path`; a BadData that names `what` where it is absent or not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadData(f"{what}: no file {path}", "the file", "check the path") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise BadData(f"{what}: {path} is not JSON ({error})", "a whole JSON file", "restore or rewrite it") from error


def write_rows(file: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Rows as JSON lines, atomically."""
    write_atomic(file, "".join(json.dumps(r) + "\n" for r in rows))


def read_rows(file: Path) -> list[dict[str, Any]]:
    """The inverse of `write_rows`; nothing where there is no file."""
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def identity(path: Path) -> bytes:
    """Size, first and last 64 KiB of a file. Parquet footers and mp4 indices lie there and name the size and
    offset of every block, so a re-encoded or truncated file changes it without reading gigabytes."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        head = file.read(TAIL)
        file.seek(max(0, size - TAIL))
        return hashlib.blake2b(head + file.read(TAIL) + str(size).encode(), digest_size=16).digest()
