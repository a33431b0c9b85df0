"""What parts of a policy say of themselves so that others can rely on it: names for `needs` and `provides`, in one
place, because both sides must spell them alike. "slot/quality" is about the occupant of that slot (core/parts.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

HEARS = "expert/hears the mind"  # hidden states of the trunk may reach it, not words alone
SEES_ALL = "expert/attends to every tower"  # its tokens see all segments of the pass, in whatever tower
KEYS_AND_VALUES = "expert/reads keys and values"  # `StreamOut.entries`

# Of policies, for what goes round them (`Policy.provides`).
PROPOSES = "propose"  # several chunks on one prefix (core.acting.Proposer)
TRUNK = "trunk"  # it is a VLA: its backbone and its hand may be hooked while it is asked
HIDDEN = "hidden"  # it tells, where that is wanted, what the hand felt of the chunk that is taken (model/hearing.py)


def trunk(width: int) -> str:
    """Of a backbone whose language tower is that wide."""
    return f"backbone/{width} wide"


def tower(name: str, width: int) -> str:
    """Of a backbone, or of an edit, with one more tower of that name and width."""
    return f"backbone/tower {name}, {width} wide"


def layers(tower: str, paths: Iterable[str] = ("ffn.gate_up", "ffn.down")) -> frozenset[str]:
    """Claimed by an edit that leaves no plain linear layer there in every block of a tower; by default, in its FFN."""
    return frozenset(f"{path} of tower {tower}" for path in paths)


def numbers(size: int) -> str:
    """Of a codec of continuous chunks (B,H,size)."""
    return f"codec/{size} numbers a step"


def ids(codes: int, end: int | None = None) -> str:
    """Of a codec of so many ids; `end` is the one behind a chunk's last, None where all chunks are as long."""
    return f"codec/{codes} ids" + ("" if end is None else f", {end} ends a chunk")


def tokens(width: int) -> str:
    """Of an expert that reads tokens of streams, that wide."""
    return f"expert/tokens {width} wide"


def process(of: Any) -> str:
    """Of an expert that learned to walk back this process (model/diffusion.py): a sampler of another one would draw
    something else without a sign."""
    return f"expert/{of!r}"
