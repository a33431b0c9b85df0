"""LeRobotDataset v3.0 as it lies on disk: names, paths, features and schemas, shared by writer and reader.

    meta/info.json  meta/stats.json  meta/tasks.parquet  meta/episodes/chunk-000/file-000.parquet
    data/chunk-000/file-000.parquet  [videos/{key}/chunk-000/file-000.mp4]

Ours beside it: `meta/mindhand.json` (spec, what wrote it), the per-frame string feature `reasoning`, float
features `label.<name>`, and the columns `success` and `key` of the episodes table. Episodes that are recorded and
not yet committed lie in `incoming/`; nothing else reads them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pyarrow as pa

from mindhand.core.keys import Key
from mindhand.core.spec import Camera, Spec

from . import lerobot_film as film

VERSION = "v3.0"
OURS = 1  # version of meta/mindhand.json
INFO, STATS, TASKS, MINE = "meta/info.json", "meta/stats.json", "meta/tasks.parquet", "meta/mindhand.json"
DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
EPISODES = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
INCOMING = "incoming"
CHUNK = 1000  # files a folder

STATE, ACTION, IMAGES = "observation.state", "action", "observation.images."
REASONING, LABEL = "reasoning", "label."
MANDATORY = {
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


Pictures = Literal["source", "model"]  # stored as captured, or already cropped and resized as the spec says


def picture_size(camera: Camera, pictures: Pictures) -> tuple[int, int]:
    """Height and width of a stored picture."""
    return camera.source if pictures == "source" else (camera.height, camera.width)


@dataclass(frozen=True)
class Layout:
    """What decides the columns of a dataset: its spec, how pictures are stored, {label: size}, and whether pictures are
    h264 video in files of their own instead of PNG in the rows."""

    spec: Spec
    pictures: Pictures = "source"
    labels: Mapping[str, int] = field(default_factory=dict)
    video: bool = False

    def __post_init__(self) -> None:
        for role, size in self.picture_sizes().items() if self.video else ():
            film.require_even(role, *size)

    def picture_sizes(self) -> dict[str, tuple[int, int]]:
        """{role: height, width} of stored pictures."""
        return {c.role: picture_size(c, self.pictures) for c in self.spec.cameras}

    @property
    def filmed(self) -> tuple[str, ...]:
        """Roles whose pictures are video."""
        return self.spec.roles if self.video else ()


def features(layout: Layout) -> dict[str, dict[str, Any]]:
    """The `features` of info.json, in the order of the columns."""
    spec = layout.spec
    out: dict[str, dict[str, Any]] = {
        STATE: {"dtype": "float32", "shape": [spec.state_size], "names": spec.state_names()},
        ACTION: {"dtype": "float32", "shape": [spec.action_size], "names": spec.action_names()},
    }
    for camera in spec.cameras:
        size = picture_size(camera, layout.pictures)
        told = {"shape": [*size, 3], "names": ["height", "width", "channels"]}
        out[IMAGES + camera.role] = (
            {"dtype": "video", **told, "info": film.about(*size, spec.rate)}
            if layout.video
            else {"dtype": "image", **told}
        )
    out |= {LABEL + name: {"dtype": "float32", "shape": [k], "names": None} for name, k in layout.labels.items()}
    out[REASONING] = {"dtype": "string", "shape": [1], "names": None}
    return out | {name: {"dtype": dtype, "shape": [1], "names": None} for name, dtype in MANDATORY.items()}


def column(feature: dict[str, Any]) -> pa.DataType:
    """The parquet type of a feature: a scalar for shape [1], a fixed list for a vector, a struct for a picture."""
    if feature["dtype"] == "image":
        return IMAGE
    scalar = {"float32": pa.float32(), "int64": pa.int64(), "string": pa.string()}[feature["dtype"]]
    return scalar if list(feature["shape"]) == [1] else pa.list_(scalar, feature["shape"][0])


def schema(layout: Layout) -> pa.Schema:
    """The schema of a data file, in the order of `features`; what is filmed has no column."""
    kept = {name: feature for name, feature in features(layout).items() if feature["dtype"] != "video"}
    return pa.schema([(name, column(feature)) for name, feature in kept.items()])


def place(count: int) -> tuple[int, int]:
    """(chunk_index, file_index) of the count-th file."""
    return divmod(count, CHUNK)


def path_of(template: str, chunk: int, file: int, **names: str) -> str:
    """A path template filled in."""
    return template.format(chunk_index=chunk, file_index=file, **names)


def tasks_table(tasks: list[str]) -> pa.Table:
    """tasks.parquet: the task is the pandas index of the table, and readers of pandas need to be told so."""
    table = pa.table({"task_index": pa.array(range(len(tasks)), pa.int64()), "__index_level_0__": tasks})
    text = {"pandas_type": "unicode", "numpy_type": "object", "metadata": None}
    number = {"pandas_type": "int64", "numpy_type": "int64", "metadata": None}
    pandas = {
        "index_columns": ["__index_level_0__"],
        "column_indexes": [{"name": None, "field_name": None, **text, "metadata": {"encoding": "UTF-8"}}],
        "columns": [
            {"name": "task_index", "field_name": "task_index", **number},
            {"name": None, "field_name": "__index_level_0__", **text},
        ],
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.2.0",
    }
    return table.replace_schema_metadata({"pandas": json.dumps(pandas)})


def key_text(key: Key | None) -> str | None:
    """A Key as one string, or None."""
    return None if key is None else json.dumps([key.protocol, key.task, key.index, key.seed])


def key_of(text: str | None) -> Key | None:
    """The inverse of `key_text`."""
    return None if text is None else Key(*json.loads(text))
