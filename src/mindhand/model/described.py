"""Models described without weights, on device meta: shapes that take no memory and no time, for what is to be planned.

Beside `store.load_vla` and `imports.import_folder`, which load; what they refuse of weights is not looked at here.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from mindhand.core.checkpoint import Checkpoint
from mindhand.core.errors import BadCheckpoint

from .imports import Imported, family_of
from .store import described
from .transformers_folder import AGAIN, INDEX, WHOLE, read_json
from .untied import Untied
from .vla import VLA


def described_vla(found: Checkpoint) -> VLA:
    """The model that a checkpoint describes, with its edits, on device meta."""
    with torch.device("meta"):
        return described(found)


def described_folder(folder: Path) -> Imported:
    """What a folder of transformers holds, its tensors left out: by its config.json and the heads of its files.
    BadCheckpoint for a model_type that is not known, and for files that are missing or no safetensors."""
    config = read_json(folder / "config.json")
    family, fields = family_of(config, folder)
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
