"""The record of datasets that go from us to LeRobot and from LeRobot to us, checked frame by frame.

    python -m mindhand.recipes.lerobot_round_trip runs/lerobot [FOLDER]

from a clean checkout, or with a FOLDER for drafts. `LeRobotWriter` writes episodes of two cameras into several files,
as PNG and as h264; LeRobot, in its own environment (`lerobot_env.py`), loads and decodes them. LeRobot records the same
episodes as images, h264 and AV1; `LeRobotReader` reads them. What is exact must be exact, chunks at the ends of
episodes included; a filmed frame must be the right one, near to what was filmed.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import mindhand.data
from mindhand.core.keys import Key, Keys
from mindhand.core.record import Record, write_record
from mindhand.core.spec import Camera, Part, Spec
from mindhand.data.episodes import Episode, gather
from mindhand.data.files import read_json, write_json
from mindhand.data.lerobot_read import LeRobotReader
from mindhand.data.lerobot_write import LeRobotWriter

from . import lerobot_env, lerobot_side

SOURCES = (Path(__file__), lerobot_env, lerobot_side, mindhand.data)
JOINTS = Part("joint", "joint", ("a", "b", "c"), "rad")
SPEC = Spec(
    "trip", (JOINTS,), (JOINTS,), (Camera("front", 48, 64, (48, 64)), Camera("wrist", 32, 32, (32, 32))), 10.0
)  # fmt: skip
LENGTHS = (9, 5, 8, 1, 7, 6)  # frames of the episodes; LeRobot itself cannot film the one of a single frame
TASKS = ("pick the tile", "put it down")  # in turns
AHEAD = 4  # steps of a chunk that is asked for with every frame
FILE_MB = 0.03  # so that episodes lie in several files
LOSS = 6.0  # mean levels by which a filmed frame may differ from what was filmed
DECODED = 2  # levels by which two decoders may differ in a pixel: they round colours differently
OURS = {"png": False, "h264": True}  # name: whether it is filmed
THEIRS: dict[str, str | None] = {"their-image": None, "their-h264": "h264", "their-av1": "libsvtav1"}
Rows = list[dict[str, Any]]


def episodes() -> list[Episode]:
    """Two cameras whose pictures are smooth, as films are, and of which each differs from the others of its episode by
    far more than a film loses."""
    out = []
    for i, length in enumerate(LENGTHS):
        key = Key("round-trip-1", "smooth", i)
        (rng,) = Keys.of([key]).generators()
        images = {}
        for k, c in enumerate(SPEC.cameras):
            y, x = np.mgrid[: c.height, : c.width]
            t = np.arange(length)[:, None, None]
            levels = (20 + 20 * t + 40 * x / c.width, 40 + 40 * (i % 4) + 40 * y / c.height + 0 * t, 90 + 80 * k)
            images[c.role] = np.stack(np.broadcast_arrays(*levels), -1).astype(np.uint8)
        state, action = (rng.normal(size=(length, 3)) for _ in range(2))
        out.append(Episode(images, state, action, TASKS[i % 2], success=True, key=key))
    return out


def filmed(got: np.ndarray, given: np.ndarray) -> bool:
    """Whether every frame of (T,h,w,3) is near to the one that was filmed, and nearest to it of its episode."""
    apart = np.abs(got[:, None].astype(np.float32) - given[None]).mean((2, 3, 4))
    return bool((apart.diagonal() < LOSS).all() and (apart.argmin(1) == np.arange(len(got))).all())


def checks(whole: Mapping[str, Any], given: Sequence[Episode], film: bool) -> Iterator[tuple[str, bool]]:
    """(what, whether) of all frames as a reader gives them. whole: "state", "action", "task", "episode_index",
    "frame_index", "timestamp", "index" (N,...), and pictures by role."""
    yield "frames", len(whole["state"]) == sum(map(len, given))
    yield "index", np.array_equal(whole["index"], np.arange(len(whole["state"])))
    begin = 0
    for i, e in enumerate(given):
        at = slice(begin, begin := begin + len(e))
        yield f"{i}/state", whole["state"][at].tobytes() == e.state.tobytes()
        yield f"{i}/action", whole["action"][at].tobytes() == e.action.tobytes()
        yield f"{i}/task", [*whole["task"][at]] == [e.instruction] * len(e)
        yield f"{i}/episode", bool((whole["episode_index"][at] == i).all())
        yield f"{i}/frame", np.array_equal(whole["frame_index"][at], np.arange(len(e)))
        yield f"{i}/time", np.allclose(whole["timestamp"][at], np.arange(len(e)) / SPEC.rate, atol=1e-6)
        for role, pictures in e.images.items():
            got = whole[role][at]
            fits = got.shape == pictures.shape
            yield f"{i}/{role}", fits and (filmed(got, pictures) if film else np.array_equal(got, pictures))


def theirs(folder: Path, name: str) -> dict[str, Any]:
    """What LeRobot gave of a dataset (`lerobot_side.read`), named as `checks` does."""
    with np.load(folder / f"{name}.npz") as found:
        out = {n.removeprefix("observation.").removeprefix("images."): x for n, x in found.items()}
    return out


def ours(reader: LeRobotReader) -> dict[str, Any]:
    """The same of our reader."""
    every = np.arange(len(reader))
    names = {n: getattr(reader, n) for n in ("state", "action", "index", "episode_index", "frame_index")}
    task = [reader.instruction(int(i)) for i in every]
    return {**names, "timestamp": reader.time, "task": task, **{r: reader.images(r, every) for r in SPEC.roles}}


def to_lerobot(side: lerobot_env.Side, folder: Path, given: Sequence[Episode]) -> Rows:
    """Ours, as LeRobot reads them."""
    rows = []
    ahead = [k / SPEC.rate for k in range(AHEAD)]
    for name, film in OURS.items():
        with LeRobotWriter(folder / name, SPEC, video=film, file_mb=FILE_MB) as writer:
            for e in given:
                writer.append(e)
        plan = {"datasets": {f"{name}-read": str(folder / name)}, "ahead": {}}
        plan["datasets"][f"{name}-ahead"], plan["ahead"][f"{name}-ahead"] = str(folder / name), ahead
        write_json(folder / "plan.json", plan)
        side.run("read", folder)
        about = read_json(folder / f"{name}-read.json", "what LeRobot counts")
        found = [
            ("files", len(LeRobotReader(folder / name).files) > 2),
            ("counts", about == {"episodes": len(given), "frames": sum(LENGTHS), "lengths": [*LENGTHS]}),
            *checks(theirs(folder, f"{name}-read"), given, film),
        ]
        chunk = theirs(folder, f"{name}-ahead")
        end = np.repeat(np.cumsum(LENGTHS), LENGTHS)
        actions, valid = gather(np.concatenate([e.action for e in given]), np.arange(len(end)), end, AHEAD)
        found.append(("chunks", np.array_equal(chunk["action"], actions)))
        found.append(("padding", np.array_equal(chunk["action_is_pad"], ~valid)))
        rows += [{"key": f"to LeRobot/{name}/{what}", "passed": bool(ok)} for what, ok in found]
    return rows


def from_lerobot(side: lerobot_env.Side, folder: Path, given: Sequence[Episode]) -> Rows:
    """Theirs, as we read them; filmed ones are also held against what LeRobot's own decoder gives."""
    cameras = {c.role: [c.height, c.width] for c in SPEC.cameras}
    how = {"fps": int(SPEC.rate), "tasks": [e.instruction for e in given], "cameras": cameras}
    datasets = {f"{name}-read": str(folder / name) for name in THEIRS}
    plan = {
        "write": {name: {"video": codec, **how} for name, codec in THEIRS.items()},
        "datasets": datasets,
        "ahead": {},
    }
    write_json(folder / "plan.json", plan)
    for name in THEIRS:
        for i, e in enumerate(given):
            np.savez(folder / f"{name}-given-{i}.npz", state=e.state, action=e.action, **e.images)
    side.run("write", folder)
    side.run("read", folder)
    rows = []
    for name, codec in THEIRS.items():
        mine, its = ours(LeRobotReader(folder / name, SPEC)), theirs(folder, f"{name}-read")
        found = [*checks(mine, given, codec is not None)]
        for role in SPEC.roles:
            apart = np.abs(mine[role].astype(np.int16) - its[role])
            found.append((f"decoded/{role}", int(apart.max()) <= (DECODED if codec else 0)))
        rows += [{"key": f"from LeRobot/{name}/{what}", "passed": bool(ok)} for what, ok in found]
    return rows


def rows_of(side: lerobot_env.Side) -> Rows:
    """Every check of both ways, a row each."""
    folder = side.folder / "trip"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    given = episodes()
    rows = [*to_lerobot(side, folder, given), *from_lerobot(side, folder, [e for e in given if len(e) > 1])]
    return [{**row, "ran": json.dumps(side.versions, sort_keys=True)} for row in rows]


def publish(lerobot: Path, folder: Path | None = None) -> Record:
    """lerobot/round_trip/checks: the share of checks that passed. Expected: all of them."""
    return write_record(
        "lerobot/round_trip/checks",
        rows=rows_of(lerobot_env.lerobot_side(lerobot)),
        field="passed",
        kind="rate",
        unit="1",
        chance=None,
        sources=SOURCES,
        command="python -m mindhand.recipes.lerobot_round_trip runs/lerobot",
        folder=folder,
    )


if __name__ == "__main__":
    sys.exit(lerobot_env.proof(publish, sys.argv[1:]))
