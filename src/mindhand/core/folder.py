"""Folders that are whole or refused: every file is hashed, the manifest comes last, tensors lie in small shards.

    manifest.json             kind, format version, the size and SHA-256 of every other file, where tensors lie
    weights-00001.safetensors ... at most 15 MiB each, so that any host takes them; a larger tensor is cut
    whatever else the kind holds

A folder is built beside its place and moved there (`replacing_folder`). While an older one is replaced it is kept as
`.<name>.old`, which loads in its stead until the new one has its place: a kill at any moment leaves one that is whole.
One writer a folder.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from .errors import BadCheckpoint
from .files import sha256

FORMAT = 1
SHARD = 15 * 2**20
_HEADER = 4096  # room for a shard's own header, plus _ENTRY a tensor
_ENTRY = 160


def _beside(folder: Path, suffix: str) -> Path:
    return folder.with_name(f".{folder.name}.{suffix}")


def being_replaced(folder: Path) -> Path:
    """Where `replacing_folder` builds what is to become `folder`: for processes that build it together."""
    return _beside(Path(os.path.realpath(folder)), "new")


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """Yields an empty folder beside `folder`; at a clean end it becomes `folder`, on an error it is removed and an
    older one stays as it was. A link to a folder stays a link. Parents are made. For kills see the module's docstring.
    """
    folder = Path(os.path.realpath(folder))
    fresh, old = _beside(folder, "new"), _beside(folder, "old")
    folder.parent.mkdir(parents=True, exist_ok=True)
    if old.exists() and not folder.exists():
        os.rename(old, folder)  # an earlier writer was killed between its two renames
    for stale in (fresh, old):
        if stale.exists():
            shutil.rmtree(stale)
    fresh.mkdir()
    try:
        yield fresh
        if folder.exists():
            os.rename(folder, old)
        os.rename(fresh, folder)
    except BaseException:
        if old.exists() and not folder.exists():
            os.rename(old, folder)
        shutil.rmtree(fresh, ignore_errors=True)  # the error that is underway is the one to be told
        raise
    if old.exists():
        shutil.rmtree(old)


def _pieces(name: str, x: Tensor) -> Iterator[tuple[str, Tensor]]:
    """A tensor as it goes into shards: whole under its name, or cut into flat runs "name#0", "name#1", ..."""
    x = x.detach().cpu().contiguous()
    room = (SHARD - _HEADER - _ENTRY - len(name) - 8) // x.element_size()
    if x.numel() <= room:
        yield name, x.clone()  # safetensors refuses views that share memory
        return
    for i, part in enumerate(x.reshape(-1).split(room)):
        yield f"{name}#{i}", part.clone()


def _shards(tensors: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    held: dict[str, Tensor] = {}
    size = _HEADER
    for name in sorted(tensors):
        for key, x in _pieces(name, tensors[name]):
            need = x.nbytes + len(key.encode()) + _ENTRY
            if held and size + need > SHARD:
                yield held
                held, size = {}, _HEADER
            held[key] = x
            size += need
    if held:
        yield held


def _ties(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """{alias: name} of tensors that are the same memory seen the same way; each is stored once."""
    first: dict[tuple, str] = {}
    out = {}
    for name in sorted(tensors):
        x = tensors[name]
        if not x.numel():
            continue
        same = (x.device, x.data_ptr(), x.dtype, tuple(x.shape), x.stride())
        if (owner := first.setdefault(same, name)) != name:
            out[name] = owner
    return out


def _digest(manifest: Mapping[str, Any]) -> str:
    body = {k: v for k, v in manifest.items() if k != "self"}
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def as_bytes(tensors: Mapping[str, Tensor]) -> Iterator[bytes]:
    """Names, dtypes, shapes and values of tensors, in the order of their names, to be hashed."""
    for name, x in sorted(tensors.items()):
        yield f"{name} {x.dtype} {tuple(x.shape)}".encode()
        yield x.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def write_folder(folder: Path, kind: str, files: Mapping[str, bytes], tensors: Mapping[str, Tensor]) -> None:
    """Write a folder of `kind`, replacing an older one; see the module's docstring for what a kill leaves."""
    for name in files:
        if "/" in name or "\\" in name or name.startswith((".", "weights-")) or name == "manifest.json":
            raise BadCheckpoint(f"a file named '{name}'", "a plain name that is not taken", "rename the file")
    if cut := [n for n in tensors if "#" in n]:
        raise BadCheckpoint(f"a tensor named '{cut[0]}'", "a name without '#'", "rename the module")
    with replacing_folder(folder) as fresh:
        listed: dict[str, dict[str, Any]] = {}

        def put(name: str, data: bytes) -> None:
            (fresh / name).write_bytes(data)
            listed[name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}

        for name in sorted(files):
            put(name, files[name])
        ties = _ties(tensors)
        stored = {name: x for name, x in tensors.items() if name not in ties}
        places: dict[str, dict[str, Any]] = {
            name: {"shape": list(x.shape), "dtype": str(x.dtype).removeprefix("torch."), "pieces": []}
            for name, x in stored.items()
        }
        for i, shard in enumerate(_shards(stored), start=1):
            file = f"weights-{i:05d}.safetensors"
            put(file, save(shard))
            for key in shard:
                places[key.partition("#")[0]]["pieces"].append([file, key])
        manifest = {"format": FORMAT, "kind": kind, "files": listed, "tensors": places, "tied": ties}
        manifest["self"] = _digest(manifest)
        (fresh / "manifest.json").write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")


def settled(folder: Path | str) -> Path:
    """The folder to read: itself, or the one kept while it was being replaced."""
    folder = Path(os.path.realpath(folder))
    old = _beside(folder, "old")
    return old if old.exists() and not folder.exists() else folder


def exists(folder: Path | str) -> bool:
    """Whether there is a folder to load. `Path.exists` overlooks one whose replacement was killed half-way."""
    return settled(folder).is_dir()


def read_manifest(folder: Path, kind: str) -> dict[str, Any]:
    """The manifest of a folder that is whole, of this kind and a known format; else BadCheckpoint says why not."""
    again = "copy the folder again from where it was written, or train it again"

    def refuse(what: str, expected: str, do: str = again) -> None:
        raise BadCheckpoint(f"{folder}: {what}", expected, do)

    if not folder.is_dir():
        refuse("no such folder", f"a {kind} folder", "check the path")
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
        version, found = manifest["format"], manifest["kind"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadCheckpoint(f"{folder}: no readable manifest.json ({error!r})", f"a {kind} folder", again) from error
    if version != FORMAT:
        refuse(f"format {version}", f"format {FORMAT}", "load it with the mindhand that wrote it, or a newer one")
    if found != kind:
        refuse(f"this is a {found}", f"a {kind}", "give the other folder")
    if manifest.get("self") != _digest(manifest):
        refuse("manifest.json is damaged", "a manifest that has its own SHA-256")
    listed: dict[str, dict[str, Any]] = manifest["files"]
    here = {p.name for p in folder.iterdir()} - {"manifest.json"}
    if missing := sorted(set(listed) - here):
        refuse(f"{missing} missing", "every file of the manifest")
    if extra := sorted(here - set(listed)):
        refuse(f"{extra} not in the manifest", "only the files of the manifest", "move them elsewhere")
    for name, facts in listed.items():
        path = folder / name
        if (size := path.stat().st_size) != facts["bytes"]:
            refuse(f"{name} has {size} bytes", f"{facts['bytes']} bytes (the file is truncated or foreign)")
        if sha256(path) != facts["sha256"]:
            refuse(f"{name} is damaged", f"SHA-256 {facts['sha256'][:12]}...")
    return manifest


class Tensors(Mapping[str, Tensor]):
    """The tensors of a folder by name, each read from disk when it is asked for. Tied names give equal values."""

    def __init__(self, folder: Path, manifest: Mapping[str, Any]):
        self._folder, self._places, self.tied = folder, manifest["tensors"], dict(manifest["tied"])

    def __getitem__(self, name: str) -> Tensor:
        place = self._places[self.tied.get(name, name)]
        try:
            pieces = []
            for file, key in place["pieces"]:
                with safe_open(self._folder / file, framework="pt") as shard:
                    pieces.append(shard.get_tensor(key))
        except (OSError, SafetensorError) as error:
            raise BadCheckpoint(
                f"{self._folder}: tensor '{name}' cannot be read ({error})", "a whole shard", "copy the folder again"
            ) from error
        whole = pieces[0] if len(pieces) == 1 else torch.cat(pieces)
        shape, dtype = tuple(place["shape"]), getattr(torch, place["dtype"])
        if whole.dtype != dtype or whole.numel() != math.prod(shape):
            raise BadCheckpoint(
                f"{self._folder}: tensor '{name}' is {whole.dtype} with {whole.numel()} numbers",
                f"{dtype} {shape}",
                "copy the folder again",
            )
        return whole.reshape(shape)

    def __iter__(self) -> Iterator[str]:
        return iter(sorted({*self._places, *self.tied}))

    def __len__(self) -> int:
        return len(self._places) + len(self.tied)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor, without reading it."""
        return tuple(self._places[self.tied.get(name, name)]["shape"])

    def dtype(self, name: str) -> torch.dtype:
        """The dtype of a tensor, without reading it."""
        return getattr(torch, self._places[self.tied.get(name, name)]["dtype"])
