"""What a policy's hand felt in its own episodes, and how they ended: recorded on disk, an episode a file.

    folder/about.json   of which policy, how it was asked
    folder/<hash>.npz   an episode: float16 "features" (T,3,W) of its T queries, and what it was ("about", as JSON)

An episode is a function of its key and the policy, and its file is written as it ends: a recording that was stopped
anywhere goes on with the episodes that it lacks. Nothing in it is pickled.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from mindhand.core.errors import BadData
from mindhand.core.files import locked, write_atomic
from mindhand.core.keys import Key
from mindhand.core.nouns import ActionChunk, Observation
from mindhand.core.progress import progress
from mindhand.core.seams import State, World
from mindhand.kit.probe import acted, felt, fingerprint
from mindhand.model.hearing import POOLS
from mindhand.serve.execute import EpisodeResult, run_episodes

ABOUT = "about.json"


@dataclass(frozen=True)
class Episode:
    """features: float16 (T,3,W), a query each, as `model.hearing.pooled` gives them; steps: control steps."""

    key: Key
    instruction: str
    success: bool
    steps: int
    features: np.ndarray

    def __len__(self) -> int:
        return len(self.features)


@dataclass(frozen=True)
class Recorded:
    """Episodes of one policy, of which `of` is the fingerprint, in the order of their keys."""

    of: str
    episodes: tuple[Episode, ...]

    @property
    def tasks(self) -> tuple[str, ...]:
        """Each once, sorted."""
        return tuple(sorted({e.key.task for e in self.episodes}))

    def only(self, keep: Callable[[Episode], bool]) -> Recorded:
        """Those that are to be kept."""
        return replace(self, episodes=tuple(e for e in self.episodes if keep(e)))


class Ear:
    """Policy: one as it is, and what was heard of it, {(key, query): float16 (3,W)}. A row that only fills the batch
    repeats the key of another before it, but not always what that one sees: the first row's is kept."""

    def __init__(self, base: Any):
        self.base, self.spec, self.provides = base, base.spec, frozenset[str]()
        self.heard: dict[tuple[Key, int], np.ndarray] = {}

    def start(self, keys: Sequence[Key]) -> State:
        """The policy's, and how often it was asked, by row."""
        return {"base": self.base.start(keys), "asked": np.zeros(len(keys), np.int64)}

    def act(self, obs: Observation, state: State, *, want: Sequence[str] = ()) -> tuple[ActionChunk, State]:
        """The policy's chunk."""
        chunk, told, base = acted(self.base, obs, state["base"], want)
        for key, query, x in zip(obs.keys, state["asked"].tolist(), told.cpu().numpy()):
            self.heard.setdefault((key, query), x)
        return chunk, {"base": base, "asked": state["asked"] + 1}

    def episode(self, result: EpisodeResult) -> Episode:
        """One that ended; it is forgotten here. BadData for a feature that float16 does not hold."""
        found = np.stack([self.heard[result.key, q] for q in range(result.queries)])
        for at in [at for at in self.heard if at[0] == result.key]:
            del self.heard[at]
        if not np.isfinite(found).all():
            raise BadData(f"hidden states of {result.key} beyond float16", "numbers up to 65504", "norm them before")
        return Episode(result.key, result.instruction, result.success, result.steps, found)


def record(
    policy: Any,
    world: World,
    keys: Sequence[Key],
    folder: Path,
    *,
    replan: int,
    steps: int,
    rows: int = 8,
    about: Mapping[str, Any] = {},
    console: Any = None,
) -> Recorded:
    """Run a policy in a world, what the folder lacks of these episodes, and return them. replan, steps, rows: as of
    `run_episodes`. about: plain JSON, of what else the recording is. BadData for a folder of another policy, of another
    way to ask it, or of something else; BuildError as of `kit.probe.felt`."""
    how = {"replan": replan, "steps": steps, "rows": rows, "pools": POOLS, **about}
    felt(policy, "recording")  # or its refusal, before anything is written
    mine = json.loads(json.dumps({"of": fingerprint(policy), **how}))
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder, wait=False) as alone:
        if not alone:
            raise BadData(f"{folder} is being written", "one recorder a folder", "wait for the other one")
        if not (folder / ABOUT).exists():
            write_atomic(folder / ABOUT, json.dumps(mine, indent=1) + "\n")
        if (found := json.loads((folder / ABOUT).read_text())) != mine:
            raise BadData(f"{folder} is a recording of {found}", f"{mine}", "use another folder, or remove this one")
        due, ear = [k for k in keys if not _file(folder, k).exists()], Ear(policy)
        with progress(console, "recording", len(keys), len(keys) - len(due), "episodes") as tell:
            count = len(keys) - len(due)

            def ended(result: EpisodeResult) -> None:
                nonlocal count
                write_atomic(_file(folder, result.key), _packed(ear.episode(result)))
                count += 1
                tell(count)

            run_episodes(ear, world, due, replan=replan, horizon_steps=steps, rows=rows, done=ended)
    wanted = set(keys)
    return load_recorded(folder).only(lambda e: e.key in wanted)


def load_recorded(folder: Path) -> Recorded:
    """All episodes that a folder holds. BadData where there is no recording, and for a file that is not whole."""
    if not (folder / ABOUT).exists():
        raise BadData(f"{folder} without {ABOUT}", "a recording", "python -m mindhand.recipes.monitor record ...")
    about = json.loads((folder / ABOUT).read_text())
    found = [_unpacked(file) for file in folder.glob("*.npz")]
    return Recorded(about["of"], tuple(sorted(found, key=lambda e: e.key)))


def _file(folder: Path, key: Key) -> Path:
    return folder / f"{hashlib.blake2b(str(key).encode(), digest_size=8).hexdigest()}.npz"


def _packed(episode: Episode) -> bytes:
    told = {n: x for n, x in vars(episode).items() if n not in ("key", "features")}
    out = io.BytesIO()
    np.savez(out, features=episode.features, about=np.array(json.dumps({"key": asdict(episode.key), **told})))
    return out.getvalue()


def _unpacked(file: Path) -> Episode:
    try:
        with np.load(file, allow_pickle=False) as stored:
            about, features = json.loads(str(stored["about"])), stored["features"]
        return Episode(**{**about, "key": Key(**about["key"])}, features=features)
    except (OSError, ValueError, KeyError, TypeError, BadZipFile) as error:
        raise BadData(f"{file}: no episode ({error!r})", "what `record` wrote", "remove it; record again") from error
