"""One hash of all that is declared to exist and to be held out: in corpora, demonstrations and checkpoints."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from . import absent, boards, course, grips, hands, heights, placing, scene, things, wide


def scene_hash() -> str:
    """12 hexadecimal digits that change when anything declared in these files does."""
    modules = (absent, boards, course, grips, hands, placing, scene, things, wide)
    return _hash({m.__name__: m.declared() for m in modules})


def heights_hash() -> str:
    """The same of reaching over blocks, which shares nothing with the others: a change there is none here, nor the
    other way round."""
    return _hash(heights.declared())


def _hash(everything: dict[str, Any]) -> str:
    return hashlib.blake2b(json.dumps(everything, sort_keys=True).encode(), digest_size=6).hexdigest()
