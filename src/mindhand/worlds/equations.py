"""Equations, and how a table of them is split into knowledge classes. `scene.py` declares the tables."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from mindhand.core.errors import BadData

OPERATORS = ("+", "-", "x")


@dataclass(frozen=True, order=True)
class Equation:
    """`a op b`, op one of OPERATORS."""

    a: int
    op: str
    b: int

    @property
    def text(self) -> str:
        """ "3+4", "12-5", "3x4"."""
        return f"{self.a}{self.op}{self.b}"

    @property
    def answer(self) -> int:
        return {"+": self.a + self.b, "-": self.a - self.b, "x": self.a * self.b}[self.op]

    @property
    def digits(self) -> tuple[int, ...]:
        """The answer's decimal digits, most significant first."""
        return tuple(int(c) for c in str(self.answer))

    @property
    def mirror(self) -> Equation:
        """The commuted equation; itself for a difference."""
        return self if self.op == "-" else Equation(self.b, self.op, self.a)

    @staticmethod
    def parse(text: str) -> Equation:
        """The inverse of `text`."""
        match = re.fullmatch(r"(\d+)([+\-x])(\d+)", text)
        if not match:
            raise BadData(f"equation '{text}'", "digits, one of + - x, digits", 'write it as "12-5" or "3x4"')
        return Equation(int(match[1]), match[2], int(match[3]))


@dataclass(frozen=True)
class Table:
    """One run of equations and how many of them each class takes, in SPLITS order; the last class to be filled
    is K-dev, which takes what is left. `salt` fixes the assignment."""

    name: str
    items: tuple[Equation, ...]
    sizes: tuple[tuple[str, int], ...]
    salt: int

    def classes(self) -> dict[Equation, str]:
        """Every equation of the table with its class."""

        def rank(e: Equation) -> bytes:
            return hashlib.blake2b(f"{self.name}/{self.salt}/{e.text}".encode(), digest_size=8).digest()

        groups = sorted({tuple(sorted({e, e.mirror})) for e in self.items}, key=lambda g: rank(g[0]))
        room, out = dict(self.sizes), {}
        for group in groups:
            split = next((s for s, n in room.items() if n >= len(group)), "K-dev")
            room[split] = room.get(split, 0) - len(group)
            out.update(dict.fromkeys(group, split))
        return out
