"""Datasets whose format states neither units nor what its numbers are: what somebody has to say of them, and how their
episodes become a `Reader`.

`mindhand.json` in the dataset's folder says it, as `Description` has it; only "spec" is always needed:

    {"spec": {...}, "state": ["observations/qpos"], "action": ["action"],
     "cameras": {"front": "observations/images/top"}, "instruction": "language_raw", "task": "put the cup away",
     "reasoning": "substep_reasonings", "colours": "rgb"}
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import numpy as np

from mindhand.core.errors import BadData
from mindhand.core.spec import Spec

from .files import read_json
from .image import decode
from .lerobot_check import value_problems
from .lerobot_frames import Recent, stack
from .reader import EpisodeRow, Reader

ABOUT = "mindhand.json"
Colours = Literal["rgb", "bgr"]


@dataclass(frozen=True)
class Description:
    """What a format does not say. state, action: the names of what is put together to make a vector, in the spec's
    order; cameras {role: name}; instruction and reasoning: names of texts; task: what was asked for where no text says
    it. colours: the order of a picture's channels once it is decoded as a viewer would. Names are the format's own.
    split: of what is divided; drop_last: whether the last frame of an episode, of no action, is left out."""

    spec: Spec
    state: tuple[str, ...]
    action: tuple[str, ...]
    cameras: Mapping[str, str]
    instruction: str
    reasoning: str
    task: str = ""
    colours: Colours = "rgb"
    split: str = "train"
    drop_last: bool = False

    def __post_init__(self) -> None:
        if self.colours not in get_args(Colours):
            raise BadData(f"colours in order '{self.colours}'", f"one of {get_args(Colours)}", "correct mindhand.json")


@dataclass(frozen=True)
class Piece:
    """One episode of T frames without its pictures: state (T,S), action (T,A); thoughts T texts, if any. name: how a
    person finds it."""

    name: str
    path: Path
    state: np.ndarray
    action: np.ndarray
    instruction: str
    thoughts: Sequence[str] | None = None
    columns: Mapping[str, Any] = field(default_factory=dict)


class ForeignReader(Reader, ABC):
    """Random access to a dataset of another tool; a layout says what its files are and how an episode is read.

    spec, cameras: as of `LeRobotReader`; what is not given is read from `mindhand.json`. `skip=True` leaves out
    episodes that cannot be read and lists why in `skipped`, instead of raising the first refusal.
    """

    layout: ClassVar[str]
    names: ClassVar[Mapping[str, Any]]  # what a description is where it says nothing; "camera" has a {role}

    def __init__(
        self,
        path: Path | str,
        spec: Spec | None = None,
        *,
        cameras: Mapping[str, str] | None = None,
        refuse: bool = True,
        skip: bool = False,
    ):
        self.path, self.problems, self.skipped = Path(path), [], []
        self._what = f"dataset {self.path}"
        self.told = self._describe(spec, cameras or {})
        self.spec, self.fps, self.about, self.pictures = self.told.spec, self.told.spec.rate, {}, "source"
        self.camera_features = dict(self.told.cameras)
        self.stored = {role: f"pictures of {self.layout}" for role in self.spec.roles}
        self._read_labels, self._labels = {}, {}
        self._skip = skip
        self._fill(list(self._sound()))
        self.problems += value_problems(self)
        if refuse and self.problems:
            raise self.problems[0]

    # ---- what a layout says ----

    @abstractmethod
    def _pieces(self) -> Iterator[Callable[[], Piece]]:
        """What reads each episode, in order."""

    @abstractmethod
    def _fetch(self, e: EpisodeRow, name: str) -> Any:
        """The pictures of an episode by frame: encoded bytes, or uint8 (h,w,3). `close()` is called in the end if it
        has one."""

    # ---- what all share ----

    def _describe(self, given: Spec | None, cameras: Mapping[str, str]) -> Description:
        file, said = self.path / ABOUT, {}
        if file.exists():
            said = dict(read_json(file, self._what))
        known = {f.name for f in fields(Description)}
        if odd := sorted(set(said) - known):
            raise BadData(f"{file} says {odd}", f"some of {sorted(known)}", "correct the names")
        stored = Spec.from_json(said.pop("spec")) if "spec" in said else None
        if stored is not None and given is not None:
            stored.require(given, self._what, "the spec asked for")
        spec = given or stored
        if spec is None:
            raise BadData(
                f"{self._what} is {self.layout}, which states no units, frames, polarity, rate or picture sizes",
                f'a Spec from you, as an argument or in {file}: {{"spec": ...}} (Spec.to_json)',
                "write a Spec for this robot: mindhand.core.spec",
            )
        named = {**said.pop("cameras", {}), **cameras}
        lists = {n: tuple(said.pop(n)) for n in ("state", "action") if n in said}
        default = {n: x for n, x in self.names.items() if n != "camera"}
        template = self.names["camera"]
        roles = {role: named.get(role, template.format(role=role)) for role in spec.roles}
        if odd := sorted(set(named) - set(spec.roles)):
            raise BadData(f"{self._what}: cameras for the roles {odd}", f"roles of the spec: {spec.roles}", "drop them")
        return Description(spec=spec, cameras=roles, **{**default, **said, **lists})

    def _sound(self) -> Iterator[Piece]:
        for read in self._pieces():
            try:
                piece = read()
                if self.told.drop_last:
                    piece = cut(piece)
                self._check(piece)
            except BadData as refusal:
                if not self._skip:
                    raise
                self.skipped.append(refusal)
            else:
                yield piece

    def _check(self, piece: Piece) -> None:
        sizes = {"state": (piece.state, self.spec.state_size), "action": (piece.action, self.spec.action_size)}
        for which, (x, size) in sizes.items():
            if x.dtype.kind not in "fiub":
                raise BadData(f"{piece.name}: {which} of {x.dtype}", "numbers", f"name what makes the {which}: {ABOUT}")
            if x.ndim != 2 or x.shape[1] != size or len(x) != len(piece.state) or not len(x):
                raise BadData(
                    f"{piece.name}: {which} {list(getattr(self.told, which))} of shape {x.shape}",
                    f"({len(piece.state) or 'T'}, {size}) as the spec of '{self.spec.robot}' says",
                    f"name what makes the {which} in {ABOUT}, or take the spec of this robot",
                )
            if self._skip and not np.isfinite(x).all():
                raise BadData(f"{piece.name}: {which} holds NaN or infinity", "finite numbers", "repair its source")
        if piece.thoughts is not None and len(piece.thoughts) != len(piece.state):
            raise BadData(
                f"{piece.name}: {len(piece.thoughts)} thoughts for {len(piece.state)} frames", "one a frame", "repair"
            )

    def _fill(self, pieces: Sequence[Piece]) -> None:
        if not pieces:
            why = f" ({len(self.skipped)} were left out, the first: {self.skipped[0].what})" if self.skipped else ""
            raise BadData(f"{self._what} holds no episode{why}", "at least one", "check the path")
        lengths = np.array([len(p.state) for p in pieces])
        self.ends = np.cumsum(lengths)
        self.begins = self.ends - lengths
        texts = list(dict.fromkeys(p.instruction for p in pieces))
        self.tasks = texts
        self.episodes = [
            EpisodeRow(i, int(a), int(b), (p.instruction,), None, None, {"name": p.name, "path": p.path, **p.columns})
            for i, (p, a, b) in enumerate(zip(pieces, self.begins, self.ends))
        ]
        self.files = []
        for p, e in zip(pieces, self.episodes):
            if self.files and self.files[-1][0] == p.path:
                self.files[-1] = (p.path, self.files[-1][1], self.files[-1][2] + len(e))
            else:
                self.files.append((p.path, e.begin, len(e)))
        self.state = np.concatenate([p.state for p in pieces]).astype(np.float32)
        self.action = np.concatenate([p.action for p in pieces]).astype(np.float32)
        self.index = np.arange(len(self.state))
        self.episode_index = np.repeat(np.arange(len(pieces)), lengths)
        self.frame_index = self.index - self.begins[self.episode_index]
        self.time = (self.frame_index / self.fps).astype(np.float32)
        self.task_index = np.array([texts.index(p.instruction) for p in pieces])[self.episode_index]
        self._read_texts = self._codes(pieces) if any(p.thoughts is not None for p in pieces) else None
        self.info = {
            f.name: getattr(self.told, f.name) for f in fields(Description) if f.name not in ("spec", "cameras")
        }
        self._cameras = {
            c.role: EpisodePictures(self, self.camera_features[c.role], (*c.source, 3), self.told.colours == "bgr")
            for c in self.spec.cameras
        }

    def _codes(self, pieces: Sequence[Piece]) -> Callable[[], tuple[np.ndarray, list[str]]]:
        """The thoughts, each distinct one kept once."""
        texts: dict[str, int] = {}
        said = (t for p in pieces for t in (p.thoughts if p.thoughts is not None else ("",) * len(p.state)))
        codes = np.fromiter((texts.setdefault(t, len(texts)) for t in said), np.int64)
        return lambda: (codes, list(texts))


class EpisodePictures:
    """One camera's pictures of a `ForeignReader`: a few episodes are open at once, and a picture is decoded when it is
    asked for. shape (h,w,3); flip: whether blue comes first."""

    def __init__(self, reader: ForeignReader, name: str, shape: tuple[int, int, int], flip: bool):
        self.episodes, self.begins, self.fetch = reader.episodes, reader.begins, reader._fetch
        self.name, self.shape, self.flip = name, shape, flip
        self._open = Recent()

    def _one(self, index: int) -> np.ndarray:
        e = self.episodes[int(np.searchsorted(self.begins, index, "right")) - 1]
        held = self._open.get_or(e.number, lambda: self.fetch(e, self.name), _close)
        what = f"{e.columns['name']}: frame {index - e.begin} of '{self.name}'"
        if index - e.begin >= len(held):
            raise BadData(f"{what}: it has {len(held)} pictures now", "what was there when it was opened", "open again")
        picture = held[index - e.begin]
        return picture if isinstance(picture, np.ndarray) else decode(bytes(picture), what)

    def get(self, index: Sequence[int] | np.ndarray) -> np.ndarray:
        """uint8 (n,h,w,3)."""
        index = np.asarray(index, np.int64)
        found = {int(i): self._one(int(i)) for i in np.unique(index)}
        pictures = stack([found[int(i)] for i in index], self.shape, index, f"camera '{self.name}'")
        return np.ascontiguousarray(pictures[..., ::-1]) if self.flip else pictures


def cut(piece: Piece) -> Piece:
    """The episode without its last frame."""
    thoughts = None if piece.thoughts is None else piece.thoughts[:-1]
    return replace(piece, state=piece.state[:-1], action=piece.action[:-1], thoughts=thoughts)


def _close(held: Any) -> None:
    if hasattr(held, "close"):
        held.close()


def text(x: Any, what: str) -> str:
    """Bytes or a string as a string; BadData naming `what` for anything else."""
    if isinstance(x, bytes | bytearray | memoryview):
        try:
            return bytes(x).decode()
        except UnicodeDecodeError as error:
            raise BadData(f"{what} is no UTF-8 ({error})", "text", "write it again") from error
    if not isinstance(x, str):
        raise BadData(f"{what} is {type(x).__name__} {x!r:.40}", "text", "name the feature that holds the words")
    return str(x)
