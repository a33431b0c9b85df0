"""`open_dataset(path)`: the reader for whatever lies there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mindhand.core.spec import Spec

from . import hdf5, rlds
from . import lerobot_format as form
from .files import read_json
from .hdf5 import HDF5Reader
from .lerobot_read import LeRobotReader
from .lerobot_v21 import LeRobotV21
from .reader import Reader
from .rlds import RLDSReader


def open_dataset(
    path: Path | str,
    spec: Spec | None = None,
    *,
    cameras: Mapping[str, str] | None = None,
    refuse: bool = True,
) -> Reader:
    """The dataset at `path`: a LeRobot folder of v3.0, v2.1 or v2.0, a folder of ACT's or DexVLA's HDF5, or one of RLDS
    in TFRecords. Arguments and refusals as of `LeRobotReader`."""
    path = Path(path)
    made = LeRobotReader
    if (path / form.INFO).exists():
        info = read_json(path / form.INFO, f"dataset {path}")
        if isinstance(info, dict) and info.get("codebase_version") in LeRobotV21.versions:
            made = LeRobotV21
    elif hdf5.files(path):
        made = HDF5Reader
    elif (path / rlds.FEATURES).exists():
        made = RLDSReader
    return made(path, spec, cameras=cameras, refuse=refuse)
