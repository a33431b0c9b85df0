"""Checkpoints: a folder that is all a policy needs, and refuses to be anything else. No pickle anywhere.

    config.json       {"slots": {slot: part}, "stacks": {stack: [part]}, ...}; a part is {"name", "config"},
                      resolved by name in a Registry; edits are the stack "edits", in order
    spec.json         the conventions it was trained with
    statistics.json   the statistics of its data, and the fingerprint of the spec they belong to
    smoke.npz         what it once predicted, and from what: `doctor` compares
    tokenizer.json    and other small files, where there are any
    weights-*.safetensors, manifest.json     core/folder.py

Wrappers and Filters belong to a deployment and are never stored. A training state (optimizer moments, step) is
a second kind of folder with the same guarantees.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .errors import BadCheckpoint, BadData
from .folder import Tensors, read_manifest, settled, write_folder
from .parts import NAME
from .seams import SLOTS, STACKS
from .spec import Spec

OWN = ("config.json", "spec.json", "statistics.json", "smoke.npz")
STORED = tuple(s for s in STACKS if s != "filters")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was found whole. `tensors` are read when asked for; `files` are those given besides."""

    folder: Path
    config: dict[str, Any]
    spec: Spec
    statistics: dict[str, Any]
    tensors: Tensors
    files: dict[str, bytes]
    smoke: dict[str, np.ndarray]
    fingerprint: str  # 12 hexadecimal digits over everything in the folder


def _json(value: Any, what: str) -> bytes:
    try:
        text = json.dumps(value, indent=1, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise BadCheckpoint(f"{what} is not plain JSON ({error})", "finite JSON values", "convert it first") from error
    if json.loads(text) != _tuples_as_lists(value):
        raise BadCheckpoint(f"{what} does not survive JSON", "dictionaries with string keys", "name every key")
    return (text + "\n").encode()


def _tuples_as_lists(x: Any) -> Any:
    if isinstance(x, Mapping):
        return {k: _tuples_as_lists(v) for k, v in x.items()}
    return [_tuples_as_lists(v) for v in x] if isinstance(x, list | tuple) else x


def _check_config(config: Mapping[str, Any]) -> None:
    def refuse(what: str, expected: str) -> None:
        raise BadCheckpoint(f"config: {what}", expected, "store what the policy is, not how it is run")

    parts = [(f"slot {k}", k in SLOTS, v) for k, v in config.get("slots", {}).items()]
    for stack, entries in config.get("stacks", {}).items():
        parts += [(f"{stack}[{i}]", stack in STORED, v) for i, v in enumerate(entries)] or [(stack, stack in STORED, 0)]
    if odd := sorted({"wrappers", "filters"} & set(config)):
        refuse(f"it holds {odd}", "no wrappers and no filters")
    for where, known, part in parts:
        if not known:
            refuse(f"a part in {where}", f"slots {list(SLOTS)}, stacks {list(STORED)}")
        if part and not (isinstance(part, Mapping) and set(part) == {"name", "config"} and _is_name(part["name"])):
            refuse(f"{where} is {part!r}"[:200], "{'name': a registered name, 'config': its fields}, no import path")


def _is_name(x: Any) -> bool:
    return isinstance(x, str) and NAME.fullmatch(x) is not None


def _pack(arrays: Mapping[str, np.ndarray]) -> bytes:
    """An .npz with fixed dates: the same arrays give the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name in sorted(arrays):
            body = io.BytesIO()
            try:
                np.lib.format.write_array(body, np.asarray(arrays[name]), allow_pickle=False)
            except ValueError as error:
                raise BadCheckpoint(f"smoke array '{name}': {error}", "plain numbers", "convert it") from error
            entry = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            file.writestr(entry, body.getvalue())
    return buffer.getvalue()


def save_checkpoint(
    folder: Path | str,
    *,
    tensors: Mapping[str, Tensor],
    config: Mapping[str, Any],
    spec: Spec,
    statistics: Mapping[str, Any],
    files: Mapping[str, bytes] = {},
    smoke: Mapping[str, np.ndarray] = {},
) -> None:
    """Write a checkpoint folder, atomically; an older one at the same place is kept until this one is whole.

    tensors {name: Tensor}, of any device; config as the module's docstring says; statistics a non-empty JSON
    dictionary; files {"tokenizer.json": bytes}; smoke {name: array}. BadCheckpoint for what could not be loaded.
    """
    _check_config(config)
    if not statistics:
        raise BadCheckpoint("no statistics", "those the actions were normalised with", "fit the codec, then save")
    if taken := sorted(set(files) & set(OWN)):
        raise BadCheckpoint(f"files {taken}", "names that a checkpoint does not use itself", "rename them")
    body = {
        **files,
        "config.json": _json(config, "config"),
        "spec.json": _json(spec.to_json(), "spec"),
        "statistics.json": _json({"spec": spec.fingerprint(), "statistics": statistics}, "statistics"),
        "smoke.npz": _pack(smoke),
    }
    write_folder(Path(folder), "checkpoint", body, tensors)


def load_checkpoint(folder: Path | str, expect_spec: Spec | None) -> Checkpoint:
    """Read a checkpoint folder, or refuse it: BadCheckpoint for a file missing, extra, truncated or damaged, for
    an unknown format, absent statistics or statistics of another spec; SpecMismatch, naming both sides and every
    difference, where its spec is not `expect_spec` (None: the caller takes the spec that the checkpoint has)."""
    folder = settled(folder)
    manifest = read_manifest(folder, "checkpoint")
    if absent := sorted(set(OWN) - set(manifest["files"])):
        raise BadCheckpoint(f"{folder}: no {absent}", f"all of {list(OWN)}", "save it again with save_checkpoint")
    try:
        config, stored, about = (json.loads((folder / name).read_text()) for name in OWN[:3])
        spec = Spec.from_json(stored)
        statistics, belongs = about["statistics"], about["spec"]
        with np.load(folder / "smoke.npz", allow_pickle=False) as file:
            smoke = {name: file[name] for name in file.files}
        _check_config(config)
    except (ValueError, KeyError, TypeError, AttributeError, OSError, zipfile.BadZipFile) as error:
        if isinstance(error, BadCheckpoint):
            raise
        raise BadCheckpoint(
            f"{folder}: unreadable ({error})", "what save_checkpoint writes", "save it again"
        ) from error
    if not statistics:
        raise BadCheckpoint(f"{folder}: no statistics", "those it was trained with", "save it again with them")
    if belongs != spec.fingerprint():
        raise BadCheckpoint(
            f"{folder}: statistics of spec {belongs} beside spec {spec.fingerprint()}",
            "statistics of this robot",
            "take both from one checkpoint",
        )
    if expect_spec is not None:
        spec.require(expect_spec, f"checkpoint {folder}", f"the {expect_spec.robot} it is to act for")
    files = {name: (folder / name).read_bytes() for name in manifest["files"] if not _is_own(name)}
    digest = hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()[:12]
    return Checkpoint(folder, config, spec, statistics, Tensors(folder, manifest), files, smoke, digest)


def _is_own(name: str) -> bool:
    return name in OWN or name.startswith("weights-")


def load_into(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copy tensors into a module of exactly these names and shapes. Floating dtypes may differ (weights are
    shipped in bfloat16); the module keeps its own. BadCheckpoint lists every difference and changes nothing."""
    own = module.state_dict(keep_vars=True)
    lines = [f"- {name} {tuple(own[name].shape)}: the checkpoint lacks it" for name in sorted(set(own) - set(tensors))]
    lines += [f"+ {name}: the module has no such place" for name in sorted(set(tensors) - set(own))]
    lazy = tensors if isinstance(tensors, Tensors) else None
    for name in sorted(set(own) & set(tensors)):
        here = own[name]
        shape = lazy.shape(name) if lazy else tuple(tensors[name].shape)
        dtype = lazy.dtype(name) if lazy else tensors[name].dtype
        if shape != tuple(here.shape):
            lines.append(f"! {name}: checkpoint {shape}, module {tuple(here.shape)}")
        elif dtype != here.dtype and not (dtype.is_floating_point and here.dtype.is_floating_point):
            lines.append(f"! {name}: checkpoint {dtype}, module {here.dtype}")
        elif here.is_meta:
            lines.append(f"! {name}: the module has no memory for it (device meta)")
    first: dict[tuple, str] = {}
    for name in sorted(set(own) & set(tensors)) if not lines else ():
        other = first.setdefault((own[name].data_ptr(), own[name].numel()), name)
        if other != name and own[name].numel() and not torch.equal(tensors[other], tensors[name]):
            lines.append(f"! {name}: one tensor with {other} in the module, another one in the checkpoint")
    if lines:
        shown = lines[:20] + ([f"... and {len(lines) - 20} more"] if len(lines) > 20 else [])
        raise BadCheckpoint(
            f"{len(lines)} tensors of the checkpoint do not fit {type(module).__name__}:\n    " + "\n    ".join(shown),
            "the same names and shapes on both sides",
            "build the module from the checkpoint's own config, with its edits, before loading",
        )
    with torch.no_grad():
        for name, here in own.items():
            here.copy_(tensors[name])


def smoke_differences(stored: Mapping[str, np.ndarray], now: Mapping[str, np.ndarray], tolerance: float) -> list[str]:
    """What differs between the stored smoke prediction and the one made now, a line an array; [] if none does.
    `tolerance` is absolute, in the arrays' own units."""
    out = [f"{name}: only {'stored' if name in stored else 'now'}" for name in sorted(set(stored) ^ set(now))]
    for name in sorted(set(stored) & set(now)):
        a, b = np.asarray(stored[name]), np.asarray(now[name])
        if a.shape != b.shape or a.dtype.kind != b.dtype.kind:
            out.append(f"{name}: stored {a.dtype} {a.shape}, now {b.dtype} {b.shape}")
        elif a.dtype.kind in "fc":
            gap = np.abs(a.astype(np.float64) - b.astype(np.float64))
            if not (gap <= tolerance).all():  # written so that NaN differs
                out.append(f"{name}: differs by up to {np.nanmax(gap, initial=0):.3g}, tolerance {tolerance:g}")
        elif not (a == b).all():
            out.append(f"{name}: {int((a != b).sum())} of {a.size} values differ")
    return out


# ---- training state ------------------------------------------------------------------------------------


def _split(x: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    """A nested value as JSON, with its tensors put aside. Everything but scalars and lists is tagged."""
    if isinstance(x, Tensor | np.ndarray):
        if isinstance(x, np.ndarray) and x.dtype.kind not in "biuf":
            raise BadData(f"state '{path}' is an array of {x.dtype}", "numbers", "convert it first")
        name = f"{len(tensors):06d}"
        tensors[name] = x if isinstance(x, Tensor) else torch.from_numpy(np.ascontiguousarray(x).reshape(x.shape))
        return {"tensor" if isinstance(x, Tensor) else "array": name}
    if isinstance(x, Mapping):
        if not all(isinstance(k, str | int) and not isinstance(k, bool) for k in x):
            raise BadData(f"state '{path}' has keys {list(x)[:3]}", "strings or integers", "rename them")
        return {"dict": [[k, _split(v, f"{path}/{k!r}", tensors)] for k, v in x.items()]}
    if isinstance(x, list | tuple):
        return {type(x).__name__: [_split(v, f"{path}/{i}", tensors) for i, v in enumerate(x)]}
    x = x.item() if isinstance(x, np.generic) else x
    if x is None or type(x) in (bool, int, float, str):
        return x
    raise BadData(f"state '{path}' is a {type(x).__name__}", "tensors, arrays, JSON scalars, lists", "convert it first")


def _join(x: Any, tensors: Mapping[str, Tensor]) -> Any:
    if not isinstance(x, dict):
        return x
    ((tag, body),) = x.items()
    if tag in ("tensor", "array"):
        return tensors[body] if tag == "tensor" else tensors[body].numpy()
    if tag == "dict":
        return {k: _join(v, tensors) for k, v in body}
    return {"list": list, "tuple": tuple}[tag](_join(v, tensors) for v in body)


def save_state(folder: Path | str, state: Mapping[str, Any]) -> None:
    """Write a training state, atomically: nested dictionaries, lists and tuples of tensors, arrays and JSON
    scalars (an optimizer's `state_dict()` as it is). BadData names what cannot be stored."""
    tensors: dict[str, Tensor] = {}
    body = _split(state, "", tensors)
    write_folder(Path(folder), "state", {"state.json": json.dumps(body).encode()}, tensors)


def load_state(folder: Path | str) -> dict[str, Any]:
    """The state that was saved, bit for bit, tensors on the CPU; BadCheckpoint if the folder is not whole."""
    folder = settled(folder)
    manifest = read_manifest(folder, "state")
    try:
        return _join(json.loads((folder / "state.json").read_text()), Tensors(folder, manifest))
    except (ValueError, KeyError, OSError) as error:
        if isinstance(error, BadCheckpoint):
            raise
        raise BadCheckpoint(
            f"{folder}: unreadable ({error})", "what save_state writes", "resume an older one"
        ) from error
