"""Reading RLDS as TFDS lays it out, without TensorFlow: an episode a record, each step's values one after the other.

    features.json  dataset_info.json  <name>-<split>.tfrecord-00000-of-00002 ...

Opening reads every record once, checks its checksum and keeps its numbers and where it lies; pictures are read again
when they are asked for, an episode at a time. Names are those of a step ("observation/state", "action"); what makes
state and action, and the spec, is said in `mindhand.json` (`foreign.Description`). RLDS leaves the action of a last
step undefined: say "drop_last" where it is.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from mindhand.core.errors import BadData

from .files import read_json
from .foreign import ABOUT, ForeignReader, Piece, text
from .reader import EpisodeRow
from .tfrecord import HEAD, TAIL, Values, parse_example, read_record, record_length

FEATURES, INFO = "features.json", "dataset_info.json"
STEPS = "steps/"
FLOATS = ("float32", "float64")
NUMBERS = (*FLOATS, "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
PICTURES = ("", "jpeg", "png")  # "": whatever it was given as, one of both


@dataclass(frozen=True)
class Leaf:
    """A feature as features.json has it. kind: "tensor", "image" or "text", or what TFDS calls it where that is none of
    these; shape: of one step, -1 where it changes; encoding: of a tensor's bytes or a picture's file."""

    kind: str
    shape: tuple[int, ...] = ()
    dtype: str = ""
    encoding: str = ""


def leaves(node: Mapping[str, Any], name: str = "") -> dict[str, Leaf]:
    """Every feature by its name in a record, from features.json."""
    if "featuresDict" in node:
        inner = node["featuresDict"].get("features", {})
        return {k: leaf for n, x in inner.items() for k, leaf in leaves(x, f"{name}/{n}" if name else n).items()}
    if "sequence" in node and name == STEPS[:-1]:
        return leaves(node["sequence"]["feature"], name)
    kind = next((k for k in ("tensor", "image", "text") if k in node), None)
    if kind is None:
        return {name: Leaf(str(node.get("pythonClassName", "unknown")).rpartition(".")[2])}
    told = node[kind]
    shape = tuple(int(d) for d in told.get("shape", {}).get("dimensions", ()))
    encoding = told.get("encodingFormat", "") if kind == "image" else told.get("encoding", "none")
    return {name: Leaf(kind, shape, "string" if kind == "text" else told.get("dtype", ""), encoding)}


class RLDSReader(ForeignReader):
    """Random access to a folder of RLDS in TFRecords; arguments as of `ForeignReader`. success and keys are not
    known. Instructions are those of an episode's steps, which have to agree."""

    layout: ClassVar[str] = "RLDS"
    names: ClassVar[Mapping[str, Any]] = {
        "state": ("observation/state",),
        "action": ("action",),
        "camera": "observation/{role}",
        "instruction": "language_instruction",
        "reasoning": "",
    }

    def _pieces(self) -> Iterator[Callable[[], Piece]]:
        told = read_json(self.path / FEATURES, self._what)
        self.leaves = leaves(told) if isinstance(told, dict) else {}
        if not any(name.startswith(STEPS) for name in self.leaves):
            raise BadData(
                f"{self._what}: {FEATURES} declares no steps, but {sorted(self.leaves)[:6]}",
                "RLDS as TFDS 4.5 or newer writes it: features of a data set of steps",
                "write it again with a newer TFDS, or convert it to LeRobot",
            )
        self._declared()
        for path, count in self._shards():
            yield from self._of_shard(path, count)

    # ---- what is declared ----

    def _leaf(self, name: str, kinds: Sequence[str]) -> tuple[str, Leaf]:
        """A feature's name in a record and what it is; of a step, or else of the episode."""
        full = next((n for n in (STEPS + name, name) if n in self.leaves), None)
        there = [n.removeprefix(STEPS) for n, leaf in self.leaves.items() if leaf.kind in kinds]
        if full is None:
            raise BadData(f"{self._what} has no feature '{name}'", f"one of {there}", f"name the right one in {ABOUT}")
        leaf = self.leaves[full]
        if leaf.kind not in kinds:
            raise BadData(f"{self._what}: '{name}' is of the kind '{leaf.kind}'", f"one of {there}", f"see {ABOUT}")
        return full, leaf

    def _declared(self) -> None:
        told = self.told
        self._vectors = {w: [self._leaf(n, ("tensor",)) for n in getattr(told, w)] for w in ("state", "action")}
        for name, leaf in (x for which in self._vectors.values() for x in which):
            if leaf.dtype not in NUMBERS:
                raise BadData(f"{self._what}: '{name}' is of '{leaf.dtype}'", f"one of {NUMBERS}", f"see {ABOUT}")
            if leaf.encoding not in ("none", "bytes", "zlib") or any(d < 1 for d in leaf.shape):
                raise BadData(
                    f"{self._what}: '{name}' has shape {leaf.shape} and encoding '{leaf.encoding}'",
                    "a fixed shape, and no encoding, bytes or zlib",
                    "name a feature that has, or convert the dataset to LeRobot",
                )
        self._films = {}
        for role, name in told.cameras.items():
            full, leaf = self._leaf(name, ("image",))
            want = (*self.spec.camera(role).source, 3)
            if leaf.encoding not in PICTURES or leaf.dtype not in ("", "uint8"):
                raise BadData(
                    f"{self._what}: '{name}' is {leaf.encoding} of {leaf.dtype}", f"{PICTURES[1:]}", "convert"
                )
            if len(leaf.shape) != 3 or any(d not in (-1, w) for d, w in zip(leaf.shape, want)):
                raise BadData(
                    f"{self._what}: pictures of '{name}' are {leaf.shape}",
                    f"{want}, the source size of camera '{role}' in the spec",
                    "state the stored size as the camera's source, and how it is resized",
                )
            self._films[name] = full
        self._texts_of = {}
        for which in ("instruction", "reasoning"):
            name = getattr(told, which)
            if name and not (which == "instruction" and told.task and STEPS + name not in self.leaves):
                full, leaf = self._leaf(name, ("text", "tensor"))
                if leaf.dtype != "string":
                    raise BadData(f"{self._what}: '{name}' is of '{leaf.dtype}'", "text", f"name the words in {ABOUT}")
                self._texts_of[which] = full

    def _shards(self) -> list[tuple[Path, int]]:
        """(file, records) of the split, as dataset_info.json and the files' names say."""
        info = read_json(self.path / INFO, self._what)
        splits = {s.get("name"): s for s in info.get("splits", ())} if isinstance(info, dict) else {}
        if (split := self.told.split) not in splits:
            raise BadData(
                f"{self._what} has no split '{split}'", f"one of {sorted(splits)}", f'{ABOUT}: {{"split": ...}}'
            )
        counts = [int(n) for n in splits[split].get("shardLengths", ())]
        pattern = re.compile(rf".*-{re.escape(split)}\.tfrecord-(\d+)-of-(\d+)")
        found = {int(m[1]): p for p in sorted(self.path.iterdir()) if (m := pattern.fullmatch(p.name))}
        if not found:
            raise BadData(
                f"{self._what} has no TFRecord of split '{split}'", "<name>-<split>.tfrecord-00000-of-...", "check it"
            )
        name = next(iter(found.values())).name.rpartition(".tfrecord-")[0]
        whole = f"{{}}.tfrecord-{{:05d}}-of-{len(counts):05d}"
        return [(found.get(i, self.path / whole.format(name, i)), n) for i, n in enumerate(counts)]

    # ---- records ----

    def _of_shard(self, path: Path, count: int) -> Iterator[Callable[[], Piece]]:
        offset, seen, size = 0, 0, path.stat().st_size if path.exists() else -1
        if size < 0:
            lost = BadData(f"{self._what}: no file {path.name} ({count} episodes)", "it", "copy the dataset again")
            yield partial(_refuse, lost)
            return
        while offset < size:
            try:
                length = record_length(path, offset)
            except BadData as refusal:  # nobody knows where the next one begins
                yield partial(_refuse, refusal)
                return
            yield partial(self._piece, path, offset)
            offset, seen = offset + HEAD + length + TAIL, seen + 1
        if seen != count:
            wrong = BadData(f"{path} holds {seen} episodes", f"{count} as {INFO} says", "copy the dataset again")
            yield partial(_refuse, wrong)

    def _piece(self, path: Path, offset: int) -> Piece:
        name = f"{path.name}, episode at byte {offset}"
        wanted = {n for which in self._vectors.values() for n, _ in which}
        wanted |= {*self._films.values(), *self._texts_of.values()}
        record = parse_example(read_record(path, offset), name, wanted)
        vectors = {}
        for which, parts in self._vectors.items():
            columns = [_vectors(record.get(n, []), leaf, f"{name}: '{n}'") for n, leaf in parts]
            if len({len(x) for x in columns}) != 1:
                raise BadData(f"{name}: {which} of {[x.shape for x in columns]}", "as many steps of each", "repair it")
            vectors[which] = np.concatenate(columns, 1)
        for full in self._films.values():
            if (n := len(record.get(full, []))) != len(vectors["state"]):
                raise BadData(f"{name}: {n} pictures of '{full}'", f"{len(vectors['state'])}, one a step", "repair it")
        said = {w: [text(x, f"{name}: '{n}'") for x in record.get(n, [])] for w, n in self._texts_of.items()}
        words = list(dict.fromkeys(said.get("instruction") or [self.told.task]))
        if len(words) != 1 or not words[0]:
            raise BadData(
                f"{name}: {len(words)} instructions {words[:3]}",
                "one, the same at all steps",
                f'split the episode, name another text in {ABOUT}, or say what all are for there: {{"task": "..."}}',
            )
        return Piece(name, path, **vectors, instruction=words[0], thoughts=said.get("reasoning"),
                     columns={"offset": offset})  # fmt: skip

    def _fetch(self, e: EpisodeRow, name: str) -> list[bytes]:
        full, what = self._films[name], e.columns["name"]
        record = parse_example(read_record(e.columns["path"], e.columns["offset"]), what, {full})
        return [bytes(x) for x in record.get(full, [])]


def _refuse(refusal: BadData) -> Piece:
    raise refusal


def _vectors(values: Values, leaf: Leaf, what: str) -> np.ndarray:
    """(T,k) of one feature's values over all steps; a copy, which holds no record."""
    size = int(np.prod(leaf.shape, dtype=np.int64))
    if leaf.encoding != "none":
        try:
            packed = [zlib.decompress(x) if leaf.encoding == "zlib" else x for x in values]
            values = np.concatenate([np.frombuffer(x, np.dtype(leaf.dtype)) for x in packed])
        except (ValueError, TypeError, zlib.error) as error:
            raise BadData(f"{what}: {error}", f"{leaf.encoding} of {leaf.dtype} a step", "copy it again") from error
    kind = "f" if leaf.dtype in FLOATS else "iub"
    if not isinstance(values, np.ndarray) or values.dtype.kind not in kind or not len(values) or len(values) % size:
        raise BadData(
            f"{what} holds {len(values)} {values.dtype if isinstance(values, np.ndarray) else 'bytes'}",
            f"{leaf.dtype} of shape {leaf.shape} a step, as {FEATURES} says",
            "the records are of another version: copy the dataset again",
        )
    return values.reshape(-1, size).astype(np.float32)
