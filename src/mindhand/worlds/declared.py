"""One hash of all that is declared to exist and to be held out: in corpora, demonstrations and checkpoints."""

from __future__ import annotations

import hashlib
import json

from . import absent, boards, course, grips, hands, placing, scene, things, wide


def scene_hash() -> str:
    """12 hexadecimal digits that change when anything declared in these files does."""
    modules = (absent, boards, course, grips, hands, placing, scene, things, wide)
    everything = {m.__name__: m.declared() for m in modules}
    return hashlib.blake2b(json.dumps(everything, sort_keys=True).encode(), digest_size=6).hexdigest()
