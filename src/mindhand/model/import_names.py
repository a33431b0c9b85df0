"""Names of somebody else's weights, one by one, as names of ours. A name that is not listed is refused."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mindhand.core.errors import BadCheckpoint


@dataclass(frozen=True)
class Names:
    """The names of a kind of model, without "weight" or "bias".

    of: what models; drop: prefixes that are left out, one after the other, where a name has them; once: theirs to
    ours; layers: theirs of what holds numbered layers to ours, and the names within one; fused: what becomes one
    matrix, in the order of its rows; flat: of ours, convolutions whose stride is their kernel, which are linear here.
    """

    of: str
    drop: Sequence[str]
    once: Mapping[str, str]
    layers: Mapping[str, tuple[str, Mapping[str, str]]]
    fused: Sequence[tuple[str, ...]]
    flat: str = ""

    def place(self, name: str) -> tuple[str, str]:
        """The name of ours, and the last word of theirs before "weight" or "bias". BadCheckpoint for another."""
        short = name
        for prefix in self.drop:
            short = short.removeprefix(prefix)
        what, _, kind = short.rpartition(".")
        at, table, rest = "", self.once, what
        for theirs, (ours, inner) in self.layers.items():
            if found := re.fullmatch(rf"{re.escape(theirs)}\.(\d+)\.(.+)", what):
                at, table, rest = f"{ours}.{found[1]}.", inner, found[2]
        if kind not in ("weight", "bias") or rest not in table:
            known = f"a state dictionary of {self.of}"
            raise BadCheckpoint(f"unknown tensor '{name}'", known, "check the model_type in its config.json")
        return f"{at}{table[rest]}.{kind}", rest.rpartition(".")[2]


def renamed(theirs: Mapping[str, Tensor], names: Names) -> dict[str, Tensor]:
    """Their tensors under our names. Tensors are shared where nothing is fused.

    An output head "head.weight" that equals the embedding is left out: it is that table. BadCheckpoint for a name that
    is unknown, for two that are one of ours, and for a part of what is fused without the others."""
    ours: dict[str, Tensor] = {}
    parts: dict[str, dict[str, Tensor]] = {}
    for name, x in theirs.items():
        place, part = names.place(name)
        held = parts.setdefault(place, {}) if any(part in order for order in names.fused) else ours
        key = place if held is ours else part
        if key in held:
            raise BadCheckpoint(f"two tensors for '{place}'", "one", f"take '{name}' or the other out")
        held[key] = x.flatten(1) if place == f"{names.flat}.weight" else x
    for place, found in parts.items():
        order = next(order for order in names.fused if found.keys() <= set(order))
        if missing := set(order) - found.keys():
            raise BadCheckpoint(f"{place} misses {sorted(missing)}", "all shards of the model", "load them all")
        ours[place] = torch.cat([found[part] for part in order])
    head, embedding = ours.get("head.weight"), ours.get("embedding.weight")
    if head is not None and embedding is not None and torch.equal(head, embedding):
        del ours["head.weight"]
    return ours
