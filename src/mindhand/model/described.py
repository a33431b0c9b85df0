"""Models described without weights, on device meta: shapes that take no memory and no time, for what is to be planned.

Beside `store.load_vla` and `imports.import_folder`, which load; what they refuse of weights is not looked at here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from mindhand.core.checkpoint import Checkpoint
from mindhand.core.errors import BadCheckpoint

from .imports import FAMILIES, Imported
from .reasoner import unread
from .store import PARTS
from .transformers_folder import AGAIN, INDEX, WHOLE, Fields, read_json
from .untied import Untied
from .vla import VLA
from .words import Words


def described_vla(found: Checkpoint) -> VLA:
    """The model that a checkpoint describes, with its edits, on device meta."""
    words = Words.from_bytes(found.files["tokenizer.json"])

    def build(stored: Mapping[str, Any]) -> Any:
        return PARTS.build(stored, words=words, spec=found.spec, parse=unread)

    slots, stacks = found.config["slots"], found.config["stacks"]
    with torch.device("meta"):
        return VLA(
            spec=found.spec,
            **{slot: build(stored) for slot, stored in slots.items()},
            **{stack: [build(s) for s in stored] for stack, stored in stacks.items()},
            see=found.config["see"],
        )


def described_folder(folder: Path) -> Imported:
    """What a folder of transformers holds, its tensors left out: by its config.json and the heads of its files.
    BadCheckpoint for a model_type that is not known, and for files that are missing or no safetensors."""
    config = read_json(folder / "config.json")
    kind = config.get("model_type")
    if kind not in FAMILIES:
        raise BadCheckpoint(
            f"{folder}: model_type {kind!r}", f"one of {sorted(FAMILIES)}", "take a model of a kind that is known"
        )
    family, fields = FAMILIES[kind], Fields(config, str(folder / "config.json"))
    own = any(n.endswith("lm_head.weight") for n in _names(folder)) and config.get("tie_word_embeddings") is False
    edits = (*family.edits(fields), *([Untied()] if own else []))
    return Imported(family.config(fields), edits, {}, family.hand(fields), folder)


def _names(folder: Path) -> set[str]:
    """Names of all tensors."""
    files = [WHOLE]
    if (folder / INDEX).exists():
        files = sorted({str(f) for f in dict(read_json(folder / INDEX).get("weight_map") or {}).values()})
    if missing := [f for f in files if not (folder / f).exists()]:
        raise BadCheckpoint(f"{folder}: no weights to read: {missing} missing", f"{WHOLE}, or all shards", AGAIN)
    names: set[str] = set()
    for file in files:
        try:
            with safe_open(folder / file, framework="pt") as shard:
                names.update(shard.keys())
        except (OSError, SafetensorError) as error:
            raise BadCheckpoint(
                f"{folder / file} cannot be read ({error})", "a whole safetensors file", AGAIN
            ) from error
    return names
