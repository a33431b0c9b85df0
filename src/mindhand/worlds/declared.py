"""One hash of all that is declared to exist and to be held out: in corpora, demonstrations and checkpoints."""

from __future__ import annotations

import hashlib
import json
from types import ModuleType

from . import absent, boards, course, grips, hands, heights, hidden, placing, scene, things, wide


def scene_hash() -> str:
    """12 hexadecimal digits that change when anything declared in these files does."""
    return _hash(absent, boards, course, grips, hands, placing, scene, things, wide)


def heights_hash() -> str:
    """The same of reaching over blocks, which shares nothing with the others: a change there is none here, nor the
    other way round."""
    return _hash(heights)


def hidden_hash() -> str:
    """The same of hidden state."""
    return _hash(hidden)


def _hash(*modules: ModuleType) -> str:
    everything = {m.__name__: m.declared() for m in modules}
    return hashlib.blake2b(json.dumps(everything, sort_keys=True).encode(), digest_size=6).hexdigest()
