"""Method cards: what a method claims, where it plugs in, and how far its claim is proven.

How far is never written by hand: `fidelity` reads it off the records.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from .errors import BadData
from .parts import NAME
from .record import Record
from .seams import SEAMS, SLOTS, STACKS

AREAS = ("see", "reason", "act", "learn", "run", "guard", "relabel", "agents", "judge")
BASES = ("flow", "tokens", "oft")  # policies of the bench that a method is put into
LEVELS = ("mechanism", "parity", "effect")
TRAININGS = 3  # fewer say nothing about the next one


@dataclass(frozen=True)
class Claim:
    """What a method's proof must show: `metric` of the record proofs/<method>/<metric> is "higher" or "lower"
    with the method than without it. `text` says it in one sentence."""

    text: str
    metric: str
    direction: Literal["higher", "lower"] = "higher"

    def holds(self, record: Record) -> bool:
        """Whether the whole interval lies on the claimed side of no effect: 0 for a difference (which needs at
        least 3 trainings), 1 for a ratio, chance for a rate or a mean."""
        if record.kind == "difference" and len(record.trainings) < TRAININGS:
            return False
        none = {"difference": 0.0, "ratio": 1.0, "quotient": 1.0}.get(record.kind, record.chance)
        if none is None:
            return False
        return record.low > none if self.direction == "higher" else record.high < none


@dataclass(frozen=True)
class MethodCard:
    """One method of the catalogue. name: its file's; arxiv: "2501.09747", or "" where there is no paper; area:
    its room; seams: names of slots, stacks or protocols of core/seams.py; base: of `BASES`, what it is put into and
    compared with; needs and provides as for `resolve`."""

    name: str
    title: str
    arxiv: str
    area: str
    seams: tuple[str, ...]
    claim: Claim
    base: str = "flow"
    needs: frozenset[str] = frozenset()
    provides: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        def refuse(what: str, expected: str) -> None:
            raise BadData(f"card '{self.name}': {what}", expected, "correct CARD in the method's file")

        known = (*SLOTS, *STACKS, *(s.__name__ for s in SEAMS))
        if not NAME.fullmatch(self.name):
            refuse("this name", "the file's name, [a-z][a-z0-9_]*")
        if not self.title.strip():
            refuse("no title", "the method's name as its paper writes it")
        if self.arxiv and not re.fullmatch(r"\d{4}\.\d{4,5}", self.arxiv):
            refuse(f"arxiv '{self.arxiv}'", "an id such as 2501.09747, without version, or ''")
        if self.area not in AREAS:
            refuse(f"area '{self.area}'", f"one of {list(AREAS)}")
        if self.base not in BASES:
            refuse(f"base '{self.base}'", f"one of {list(BASES)}")
        if isinstance(self.seams, str) or not self.seams or not set(self.seams) <= set(known):
            refuse(f"seams {self.seams!r}", f"a tuple of some of {list(known)}")
        if not isinstance(self.claim, Claim) or not self.claim.text.strip():
            refuse("no claim", "Claim(text, metric, direction)")
        if not NAME.fullmatch(self.claim.metric) or self.claim.direction not in ("higher", "lower"):
            refuse(f"claim {self.claim.direction} '{self.claim.metric}'", "'higher' or 'lower', and a metric's name")
        for what in ("needs", "provides"):
            if not isinstance(getattr(self, what), frozenset):
                refuse(f"{what} is a {type(getattr(self, what)).__name__}", "a frozenset of names")


def fidelity(card: MethodCard, records: Mapping[str, Record]) -> dict[str, Record]:
    """The levels a card has reached, each with the record that shows it; {} where nothing does.

    mechanism: checks/<name>/unit, a rate over the numbered unit checks, is 1. parity: checks/<name>/parity, a
    rate over reference numbers, is 1. effect: proofs/<name>/<metric> holds the claim.
    """
    evidence = {level: records.get(f"checks/{card.name}/{word}") for level, word in zip(LEVELS, ("unit", "parity"))}
    out = {k: r for k, r in evidence.items() if r is not None and r.kind == "rate" and r.value == 1.0}
    proof = records.get(f"proofs/{card.name}/{card.claim.metric}")
    if proof is not None and card.claim.holds(proof):
        out["effect"] = proof
    return out
