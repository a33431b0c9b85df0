"""A local folder as transformers writes it: config.json and safetensors, whole or refused. Nothing is downloaded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mindhand.core.errors import BadCheckpoint

WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
DTYPES = torch.float32, torch.bfloat16, torch.float16
AGAIN = "download the folder again, all of it"


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; BadCheckpoint where there is none."""
    try:
        found = json.loads(path.read_text())
        if isinstance(found, dict):
            return found
        raise ValueError(f"a {type(found).__name__}")
    except (OSError, ValueError) as error:
        raise BadCheckpoint(
            f"{path}: no readable JSON object ({error})", "what save_pretrained writes", AGAIN
        ) from error


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """All tensors by their names. BadCheckpoint for missing or damaged files, for shards that hold other tensors than
    the index says, and for numbers that are no plain floats: quantized weights mean something else than they say."""
    if not (folder / INDEX).exists():
        if not (folder / WHOLE).exists():
            here = sorted(p.name for p in folder.glob("*.safetensors"))
            wanted = f"{WHOLE}, or shards with {INDEX}"
            raise BadCheckpoint(f"{folder}: no weights to read, but {here or 'no .safetensors'}", wanted, AGAIN)
        return _shard(folder / WHOLE, None)
    if (folder / WHOLE).exists():
        raise BadCheckpoint(f"{folder}: {WHOLE} beside {INDEX}", "one of them", "take the stale one out")
    places = read_json(folder / INDEX).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(f, str) and Path(f).name == f for f in places.values()):
        raise BadCheckpoint(f"{folder / INDEX}: no weight_map of names to files", "what save_pretrained writes", AGAIN)
    files = sorted(set(places.values()))
    if missing := [f for f in files if not (folder / f).exists()]:
        raise BadCheckpoint(f"{folder}: shards {missing} are missing", f"all {len(files)} of {INDEX}", AGAIN)
    out: dict[str, Tensor] = {}
    for file in files:
        out.update(_shard(folder / file, {name for name, place in places.items() if place == file}))
    return out


def _shard(path: Path, names: set[str] | None) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as shard:
            found = {name: shard.get_tensor(name) for name in shard.keys()}  # noqa: SIM118, it is no mapping
    except (OSError, SafetensorError) as error:
        raise BadCheckpoint(f"{path} cannot be read ({error})", "a whole safetensors file", AGAIN) from error
    if names is not None and (odd := sorted(names ^ set(found))):
        raise BadCheckpoint(
            f"{path}: {odd[:5]} are in it or in {INDEX} alone", "the tensors that the index says", AGAIN
        )
    if odd := {name: x.dtype for name, x in found.items() if x.dtype not in DTYPES}:
        name, dtype = next(iter(odd.items()))
        raise BadCheckpoint(
            f"{path}: '{name}' is {dtype}, and {len(odd) - 1} more are no plain floats",
            f"one of {[str(d) for d in DTYPES]}",
            "take weights that are not quantized",
        )
    return found


class Fields:
    """The fields of a config.json, or of a part of it; each is asked for, and one that is missing or means something
    that we do not build is refused."""

    def __init__(self, data: Mapping[str, Any], where: str):
        self._data, self._where = data, where

    def __contains__(self, name: str) -> bool:
        return self._data.get(name) is not None

    def _get(self, name: str, default: Any, kinds: tuple[type, ...], what: str) -> Any:
        x = self._data.get(name)
        x = default if x is None else x
        if not isinstance(x, kinds) or isinstance(x, bool):
            has = f"{name} is {x!r}" if name in self else f"no {name}"
            raise BadCheckpoint(f"{self._where}: {has}", what, "check the model_type, and the folder's version")
        return x

    def count(self, name: str, default: int | None = None) -> int:
        """A positive integer."""
        if (x := self._get(name, default, (int,), "a positive integer")) < 1:
            raise BadCheckpoint(f"{self._where}: {name} is {x}", "a positive integer", "check the folder")
        return x

    def number(self, name: str, default: float | None = None) -> float:
        """A number."""
        return float(self._get(name, default, (int, float), "a number"))

    def counts(self, name: str) -> tuple[int, ...]:
        """Integers."""
        x = self._get(name, None, (list, tuple), "a list of integers")
        if not all(type(i) is int for i in x):
            raise BadCheckpoint(f"{self._where}: {name} is {x!r}", "a list of integers", "check the folder")
        return tuple(x)

    def part(self, name: str) -> Fields:
        """A nested object."""
        return Fields(self._get(name, None, (dict,), "an object"), f"{self._where}, {name}")

    def only(self, name: str, *allowed: Any) -> None:
        """Refuse a field that is there and is none of these."""
        x = self._data.get(name)
        if x is not None and x not in allowed:
            raise BadCheckpoint(
                f"{self._where}: {name} is {x!r}",
                f"one of {list(allowed)}",
                "no other is built here: take another model",
            )

    def rope(self, theta: float | None = None) -> tuple[float, Fields]:
        """theta (by default the given one) and what else is said of rotary positions, as transformers says it now or
        said it before. Only unscaled ones are known."""
        place = next((n for n in ("rope_parameters", "rope_scaling") if n in self), None)
        how = Fields({}, self._where) if place is None else self.part(place)
        for name in ("rope_type", "type"):
            how.only(name, "default", "mrope")
        return (how if "rope_theta" in how else self).number("rope_theta", theta), how
