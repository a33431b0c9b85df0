"""What a VLM to begin with was pretrained on: the hashes of what was declared then, kept with its weights."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from mindhand.core.checkpoint import load_checkpoint
from mindhand.core.errors import SpecMismatch
from mindhand.data.files import read_json
from mindhand.data.synthetic import questions, toy_questions
from mindhand.worlds.declared import scene_hash

FILE = "declared.json"  # of a pretraining's checkpoint


def declared() -> dict[str, str]:
    """By name, hashes of what exists and of how it is asked for, as this code has them."""
    asked = json.dumps([questions.PHRASES, toy_questions.PHRASES], sort_keys=True)
    return {"scene": scene_hash(), "phrases": hashlib.blake2b(asked.encode(), digest_size=6).hexdigest()}


def of_this_world(checkpoint: Path) -> Path:
    """`checkpoint`, if what it was pretrained on is what is declared here; SpecMismatch names both where it is not:
    what is held out now may have been shown then. One that says nothing (no file, no plan.json beside) is taken."""
    kept, beside = load_checkpoint(checkpoint, None).files.get(FILE), checkpoint.parent / "plan.json"
    if kept is not None:
        had = json.loads(kept)
    else:  # pretrainings from before the file; their plans have the scenes' hash
        plan = read_json(beside, "plan") if beside.exists() else {}
        had = {"scene": plan["scene"]} if isinstance(plan, dict) and "scene" in plan else {}
    now = declared()
    if odd := [f"{name} {x}, here {now.get(name)}" for name, x in had.items() if x != now.get(name)]:
        raise SpecMismatch(
            f"{checkpoint} was pretrained where other things are declared ({'; '.join(odd)})",
            "a VLM of the same scenes and phrasings: else what was held out may have been taught",
            "pretrain one with this version (mindhand pretrain), or take the version that it was pretrained with",
        )
    return checkpoint
