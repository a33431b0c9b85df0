"""One hash of all that is declared to exist and to be held out: in corpora, demonstrations and checkpoints."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from types import ModuleType

from . import absent, boards, course, grips, hands, hidden, placing, scene, things, wide


def scene_hash() -> str:
    """12 hexadecimal digits that change when anything declared in these files does."""
    return _hash((absent, boards, course, grips, hands, placing, scene, things, wide))


def hidden_hash() -> str:
    """The same of hidden state, which shares no scene, corpus or demonstration with the others."""
    return _hash((hidden,))


def _hash(modules: Sequence[ModuleType]) -> str:
    everything = {m.__name__: m.declared() for m in modules}
    return hashlib.blake2b(json.dumps(everything, sort_keys=True).encode(), digest_size=6).hexdigest()
