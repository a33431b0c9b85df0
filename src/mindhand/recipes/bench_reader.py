"""How fast frames are read at random, beside LeRobot's reader on the same files in turns, and whether memory grows.

    python -m mindhand.recipes.bench_reader runs/lerobot [FOLDER]

from a clean checkout on a quiet machine, or with a FOLDER for drafts. What is read is what a step of training asks for:
both cameras' pictures as float32 in [0, 1], the state, and a chunk of 16 actions, in batches of 64 at random places.
Each in its own best configuration: LeRobot's dataset behind PyTorch's DataLoader, with the number of workers that is
fastest; ours by its frame cache, which decodes every picture once (`cache_seconds`), and, beside it, without.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor

import mindhand.data
from mindhand.core.keys import Keys
from mindhand.core.record import Record, write_record
from mindhand.data.cache import FrameCache
from mindhand.data.episodes import gather
from mindhand.data.files import read_json, write_json
from mindhand.data.opening import open_dataset
from mindhand.data.reader import Reader
from mindhand.model.vision import pixels

from . import lerobot_env, lerobot_side
from .record import demonstrations

SOURCES = (Path(__file__), lerobot_env, lerobot_side, mindhand.data)
EPISODES, HORIZON, ROWS, BATCHES, WARM, TURNS = 24, 16, 64, 12, 2, 5
WORKERS = (2, 1, 0)  # in this order: a decoder of films that was opened before a process forks fails in both
STORED = {"png": False, "h264": True}
SOAK, EVERY = 300.0, 5.0  # seconds
Pictures = Callable[[str, np.ndarray], np.ndarray]


def asked(frames: int, turn: int, batches: int = BATCHES + WARM) -> list[list[int]]:
    """So many batches of frames at random places."""
    drawn = Keys.seeded(1, "bench-reader", turn).integers(frames, batches * ROWS)[0]
    return drawn.reshape(batches, ROWS).tolist()


def batch(reader: Reader, pictures: Pictures, index: Sequence[int]) -> dict[str, Tensor]:
    """What a step asks for of these frames; pictures (n,1,3,h,w)."""
    at = np.asarray(index)
    end = reader.ends[np.searchsorted(reader.begins, at, "right") - 1]
    actions, valid = gather(reader.action, at, end, HORIZON)
    seen = {role: pixels(torch.from_numpy(pictures(role, at)).unsqueeze(1)) for role in reader.spec.roles}
    numbers = {"state": reader.state[at], "action": actions, "valid": valid}
    return {**seen, **{name: torch.from_numpy(x) for name, x in numbers.items()}}


def seconds(reader: Reader, pictures: Pictures, batches: Sequence[Sequence[int]]) -> float:
    """For all batches but the first `WARM`."""
    begin = 0.0
    for i, index in enumerate(batches, 1):
        batch(reader, pictures, index)
        if i == WARM:
            begin = time.perf_counter()
    return time.perf_counter() - begin


def turns(reader: Reader, cache: FrameCache, side: lerobot_env.Side, folder: Path) -> list[dict[str, Any]]:
    """A row a turn: frames, and seconds of the cache, of decoding anew, and of LeRobot by its fastest loader."""
    ahead = [k / reader.fps for k in range(HORIZON)]
    out = []
    for turn in range(TURNS):
        batches = asked(len(reader), turn)
        plan = {"path": str(reader.path.resolve()), "ahead": ahead, "batches": batches, "warm": WARM}
        write_json(folder / "plan.json", {**plan, "workers": WORKERS})
        mine = {"cache": seconds(reader, cache.images, batches), "decoded": seconds(reader, reader.seen, batches)}
        side.run("time", folder)
        theirs = read_json(folder / "times.json", "LeRobot's times")
        workers = min(theirs, key=theirs.get)
        frames = (len(batches) - WARM) * ROWS
        out.append({"key": f"turn {turn}", "frames": frames, **mine, "lerobot": theirs[workers], "workers": workers})
    return out


def soak(reader: Reader, cache: FrameCache, length: float = SOAK, every: float = EVERY) -> list[dict[str, Any]]:
    """Read for so many seconds, cached and decoded in turns; a row every so often: seconds, and resident bytes."""
    begin, out, n = time.monotonic(), [], 0
    while (now := time.monotonic() - begin) < length:
        for pictures in (cache.images, reader.seen):
            batch(reader, pictures, asked(len(reader), n, 1)[0])
        n += 1
        if now >= every * len(out):
            out.append({"key": f"{len(out)}", "seconds": now, "bytes": resident()})
    return out


def resident() -> int:
    """Bytes of this process that are in memory (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def growth(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """MB an hour between samples half a soak apart, which share none; the first fifth, in which things are made that
    stay, is left out."""
    rows = rows[len(rows) // 5 :]
    half = len(rows) // 2
    return [
        {"key": b["key"], "mb_per_hour": (b["bytes"] - a["bytes"]) / 1e6 / (b["seconds"] - a["seconds"]) * 3600}
        for a, b in zip(rows[:half], rows[half:])
    ]


def publish(lerobot: Path, folder: Path | None = None, length: float = SOAK) -> Record:
    """Records reader/... by how pictures are stored: frames_per_second (cache, decoded, lerobot), ratio_to_lerobot
    (cache, decoded), cache_seconds; and rss_growth_mb_per_hour, which is returned."""
    torch.set_num_threads(1)
    side, home = lerobot_env.lerobot_side(lerobot), lerobot / "reader"
    how: dict[str, Any] = {
        "unit": "1", "chance": None, "sources": SOURCES, "folder": folder,
        "command": "python -m mindhand.recipes.bench_reader runs/lerobot",
    }  # fmt: skip
    grown: list[dict[str, Any]] = []
    for name, video in STORED.items():
        reader = open_dataset(demonstrations(home / name, EPISODES, video=video))
        with TemporaryDirectory(dir=home) as aside:
            begin = time.perf_counter()
            cache = FrameCache.build(Path(aside) / "cache", reader)
            made = [{"key": name, "seconds": time.perf_counter() - begin, "frames": len(reader)}]
            rows = turns(reader, cache, side, Path(aside))
            write_record(
                f"reader/cache_seconds/{name}", rows=made, field="seconds", kind="mean", **{**how, "unit": "s"}
            )
            for who in ("cache", "decoded", "lerobot"):
                each = [{**r, "per_second": r["frames"] / r[who]} for r in rows]
                write_record(f"reader/frames_per_second_{name}/{who}", rows=each, field="per_second", kind="mean",
                             **{**how, "unit": "frames/s"})  # fmt: skip
            for who in ("cache", "decoded"):
                write_record(f"reader/ratio_to_lerobot_{name}/{who}", rows=rows, field=f"lerobot/{who}", kind="ratio",
                             **how)  # fmt: skip
            if video:
                grown = growth(soak(reader, cache, length))
    return write_record("reader/rss_growth_mb_per_hour/h264", rows=grown, field="mb_per_hour", kind="mean",
                        **{**how, "unit": "MB/h"})  # fmt: skip


if __name__ == "__main__":
    sys.exit(lerobot_env.proof(publish, sys.argv[1:]))
