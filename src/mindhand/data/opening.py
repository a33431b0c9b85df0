"""`open_dataset(path)`: the reader for whatever lies there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mindhand.core.errors import BadData
from mindhand.core.spec import Spec

from . import hdf5, rlds
from . import lerobot_format as form
from .files import read_json
from .hdf5 import HDF5Reader
from .lerobot_read import LeRobotReader
from .lerobot_v21 import LeRobotV21
from .reader import Reader
from .rlds import RLDSReader

# What is known, and by what it is told from the others.
KNOWN = {
    "LeRobot v3.0, v2.1 or v2.0": form.INFO,
    "ACT's or DexVLA's HDF5": "episode_0.hdf5, ...",
    "RLDS in TFRecords": f"{rlds.FEATURES}, {rlds.INFO}, <name>-<split>.tfrecord-00000-of-...",
}


def layout_of(path: Path) -> Any:
    """The class that reads a folder, None for one that nothing here does. BadData where it is told by a file that is
    damaged."""
    if (path / form.INFO).exists():
        info = read_json(path / form.INFO, f"dataset {path}")
        old = isinstance(info, dict) and info.get("codebase_version") in LeRobotV21.versions
        return LeRobotV21 if old else LeRobotReader
    if hdf5.files(path):
        return HDF5Reader
    if (path / rlds.FEATURES).exists():
        return RLDSReader
    begun = (path / form.INCOMING).is_dir() or (path / "meta").is_dir()  # and never finished, or damaged
    return LeRobotReader if begun else None


def _known(path: Path) -> bool:
    try:
        return layout_of(path) is not None
    except BadData:  # of one that is known
        return True


def open_dataset(
    path: Path | str,
    spec: Spec | None = None,
    *,
    cameras: Mapping[str, str] | None = None,
    refuse: bool = True,
) -> Reader:
    """The dataset at `path`, of any layout in `KNOWN`. Arguments and refusals as of `LeRobotReader`; BadData that lists
    what is known for a folder that is none."""
    path = Path(path)
    made = layout_of(path)
    if made is None:
        inside = sorted(p.name for p in path.iterdir()) if path.is_dir() else None
        below = [n for n in inside or () if (path / n).is_dir() and _known(path / n)]
        has = "is no folder" if inside is None else f"holds {inside[:6]}" if inside else "is empty"
        raise BadData(
            f"no dataset that is known lies at {path}: it {has}",
            "; or ".join(f"{name} ({how})" for name, how in KNOWN.items()),
            f"open one of the folders in it: {below[:6]}" if below else "check the path, or convert it to one of these",
        )
    return made(path, spec, cameras=cameras, refuse=refuse)
