"""What is wrong with the numbers of an opened dataset, and with the names of its dimensions, as refusals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from mindhand.core.errors import BadData
from mindhand.core.spec import Part

from . import lerobot_format as form

if TYPE_CHECKING:
    from .reader import Reader

TIME_TOLERANCE = 1e-4  # seconds; LeRobot's own


def value_problems(reader: Reader) -> list[BadData]:
    """Every wrong value of an opened dataset: numbering, time stamps, tasks, NaN. Empty for a good one."""
    problems: list[BadData] = []

    def problem(what: str, expected: str, do: str) -> None:
        problems.append(BadData(f"dataset {reader.path}: {what}", expected, do))

    n = len(reader)
    number = np.repeat(np.arange(len(reader.episodes)), reader.ends - reader.begins)
    frame = np.arange(n) - reader.begins[number]
    for name, got, want in (
        ("index", reader.index, np.arange(n)),
        ("episode_index", reader.episode_index, number),
        ("frame_index", reader.frame_index, frame),
    ):
        if (wrong := np.flatnonzero(got != want)).size:
            i = wrong[0]
            problem(f"{name} of row {i} is {got[i]}", f"{want[i]}: contiguous numbers", "convert it again")
    off = np.abs(reader.time.astype(np.float64) - frame / reader.fps) - TIME_TOLERANCE - frame / reader.fps * 1e-6
    if (wrong := np.flatnonzero(~(off <= 0))).size:
        i = wrong[0]
        problem(
            f"{wrong.size} time stamps are off, first {reader.time[i]} s at frame {frame[i]} of episode {number[i]}",
            f"{frame[i] / reader.fps:.4f} s at {reader.fps} frames/s",
            "frames were dropped or the rate is wrong: resample before training",
        )
    if ((reader.task_index < 0) | (reader.task_index >= len(reader.tasks))).any():
        problem("a task_index names no task", f"0..{len(reader.tasks) - 1}", "restore the tasks in meta")
    for name, x in ((form.STATE, reader.state), (form.ACTION, reader.action)):
        if (bad := np.argwhere(~np.isfinite(x))).size:
            i, d = bad[0]
            problem(
                f"'{name}' holds {len(bad)} NaN or infinite numbers, first in dimension {d} of frame {frame[i]} of "
                f"episode {number[i]}",
                "finite numbers",
                "remove that episode or repair its source; they are never replaced by zero",
            )
    return problems


def name_problem(what: str, names: Any, parts: Sequence[Part]) -> BadData | None:
    """Why dimensions that a dataset calls `names` are not those of `parts`; None where they are, or where nobody named
    each of them. names: a list, or LeRobot's older {group: list}; "part.dimension" and "dimension" alone will do."""
    groups = names.values() if isinstance(names, dict) else [names]
    said = [str(n) for group in groups if isinstance(group, list) for n in group]
    own = [(n, f"{p.name}.{n}") for p in parts for n in p.names]
    if len(said) != len(own) or all(s in mine for s, mine in zip(said, own)):
        return None
    d = next(d for d, (s, mine) in enumerate(zip(said, own)) if s not in mine)
    return BadData(
        f"{what} calls its dimensions {said}",
        f"those of the spec: {[full for _, full in own]} (dimension {d} is '{said[d]}' and not '{own[d][0]}')",
        "name them in the spec as the dataset does and in its order, if they mean the same; else take another spec",
    )


def matrix(column: pa.ChunkedArray, size: int) -> np.ndarray:
    """float32 (N, size) of scalars, fixed or variable lists; nulls become NaN, to be refused by name later."""
    column = column.combine_chunks()
    if pa.types.is_floating(column.type) or pa.types.is_integer(column.type):
        flat = column.to_numpy(zero_copy_only=False)
    else:
        if column.null_count or (pa.types.is_list(column.type) and set(np.diff(column.offsets.to_numpy())) - {size}):
            raise BadData("a vector of missing or changing length", f"{size} numbers a frame", "convert it again")
        flat = column.flatten().to_numpy(zero_copy_only=False)
    return np.ascontiguousarray(flat, np.float32).reshape(-1, size)
