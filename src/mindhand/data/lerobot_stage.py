"""Staging: an episode becomes one file, in `incoming/`, under its final name in one rename.

Where pictures are filmed, a camera's column holds the whole mp4 of the episode in its first row.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mindhand.core.files import replacing

from . import lerobot_film as film
from . import lerobot_format as form
from . import lerobot_stats as stats
from .episodes import Episode
from .image import encode_png

_SHORT = {"state": form.STATE, "action": form.ACTION}


def staged_path(path: Path | str, number: int) -> Path:
    """Where the `number`-th episode of the dataset at `path` is staged."""
    return Path(path) / form.INCOMING / f"episode-{number:07d}.parquet"


def staged_files(path: Path | str) -> list[tuple[int, Path]]:
    """Number and file of every staged episode, in order."""
    files = (Path(path) / form.INCOMING).glob("episode-*.parquet")
    return sorted((int(file.stem.removeprefix("episode-")), file) for file in files)


def about(schema: pa.Schema) -> dict[str, Any]:
    """What a staged file says of its episode: instruction, success, key, stats."""
    return json.loads(schema.metadata[b"episode"])


def _vectors(x: np.ndarray) -> pa.Array:
    flat = pa.array(np.ascontiguousarray(x).reshape(-1))
    return flat if x.ndim == 1 or x.shape[1] == 1 else pa.FixedSizeListArray.from_arrays(flat, x.shape[1])


def _pictures(x: np.ndarray, layout: form.Layout) -> pa.Array:
    if layout.video:
        return pa.array([film.encode(x, layout.spec.rate), *[None] * (len(x) - 1)], pa.binary())
    return pa.array([{"bytes": encode_png(y), "path": f"frame-{i:06d}.png"} for i, y in enumerate(x)], form.IMAGE)


def staged_film(file: Path, role: str) -> tuple[bytes, int]:
    """The mp4 and the number of frames of a filmed camera in a staged file."""
    column = pq.read_table(file, columns=[form.IMAGES + role])[form.IMAGES + role]
    return column[0].as_py(), len(column)


def stage(path: Path | str, number: int, episode: Episode, layout: form.Layout) -> None:
    """Writes `episode` as the `number`-th of the dataset at `path`, atomically, without counting it yet.

    Safe from several processes for different numbers. A later `LeRobotWriter.commit` moves it in.
    """
    spec = layout.spec
    episode.require(spec, layout.picture_sizes(), layout.labels)
    frames = np.arange(len(episode), dtype=np.int64)
    timestamp = (frames / spec.rate).astype(np.float32)
    columns: dict[str, pa.Array] = {form.STATE: _vectors(episode.state), form.ACTION: _vectors(episode.action)}
    numbers = {name: stats.of_vector(getattr(episode, short)) for short, name in _SHORT.items()}
    for role in spec.roles:
        columns[form.IMAGES + role] = _pictures(episode.images[role], layout)
        numbers[form.IMAGES + role] = stats.of_pictures(episode.images[role])
    columns |= {form.LABEL + name: _vectors(x) for name, x in episode.labels.items()}
    columns[form.REASONING] = pa.array(list(episode.reasoning), pa.string())
    columns |= {"timestamp": pa.array(timestamp), "frame_index": pa.array(frames)}
    numbers |= {"timestamp": stats.of_vector(timestamp), "frame_index": stats.of_vector(frames)}
    told = {
        "instruction": episode.instruction,
        "success": episode.success,
        "key": form.key_text(episode.key),
        "stats": numbers,
    }
    table = pa.table(columns).replace_schema_metadata({"episode": json.dumps(told)})
    with replacing(staged_path(path, number)) as temporary:
        pq.write_table(table, temporary, compression="none", use_dictionary=[form.REASONING], write_statistics=False)
