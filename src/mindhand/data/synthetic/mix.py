"""How often each kind of question is asked, and how that changes in the course of a training."""

from __future__ import annotations

from dataclasses import dataclass

from mindhand.core.errors import BadData
from mindhand.worlds.draw import Draw

from .questions import KINDS

Shares = tuple[tuple[str, float], ...]  # (kind, share), shares adding up to 1


@dataclass(frozen=True)
class Mix:
    """A curriculum of two phases. Each skill needs 8-20 thousand questions of its own before it moves, hence no
    skill that must work has less than a twelfth of the full phase; reading comes first, the others stand on it."""

    early: Shares  # up to `until`
    full: Shares  # from then on
    until: float = 0.25  # share of the training
    joined: float = 0.25  # share of the steps whose questions are two in one
    thoughts: float = 0.5  # share of the steps that ask for thoughts, once they are asked for
    facts: int = 0  # asked in words alone beside every picture, at a fraction of its cost
    bare: float = 0.5  # share of the scenes without the answer's tiles: there the board cannot be answered by them

    def __post_init__(self) -> None:
        for shares in (self.early, self.full):
            kinds = [k for k, _ in shares]
            if odd := set(kinds) - set(KINDS):
                raise BadData(f"a mix with {sorted(odd)}", f"kinds among {KINDS}", "correct the mix")
            if len(set(kinds)) != len(kinds) or min(s for _, s in shares) < 0:
                raise BadData(f"a mix {shares}", "every kind once, no share below 0", "correct the mix")
            if abs(sum(s for _, s in shares) - 1) > 1e-6:
                raise BadData(f"shares that add up to {sum(s for _, s in shares):.3f}", "1", "correct the mix")
        for name in ("until", "joined", "thoughts", "bare"):
            if not 0 <= getattr(self, name) <= 1:
                raise BadData(f"{name}={getattr(self, name)}", "a share in [0, 1]", "correct the mix")

    def shares(self, progress: float) -> Shares:
        """What is asked at this part of the training, 0 at its beginning and 1 at its end."""
        return self.early if progress < self.until else self.full

    def kinds(self, draw: Draw, count: int, progress: float) -> tuple[str, ...]:
        """`count` kinds for one picture. One uniform moves a comb over the shares: every kind keeps its share
        exactly, and no kind comes twice on a picture before its share reaches 1/count."""
        shares = self.shares(progress)
        first = draw.uniform() / count
        out, at, top = [], 0, shares[0][1]
        for tooth in (first + i / count for i in range(count)):
            while tooth >= top and at < len(shares) - 1:
                at += 1
                top += shares[at][1]
            out.append(shares[at][0])
        return tuple(out)


_EVEN: Shares = (
    ("read", 0.10), ("where", 0.10), ("solve", 0.15), ("tiles", 0.10), ("calc", 0.15),
    ("which", 0.10), ("answer", 0.10), ("colour", 0.10), ("count", 0.05), ("exist", 0.05),
)  # fmt: skip
PRETRAIN = Mix(
    early=(
        ("read", 0.35), ("where", 0.15), ("tiles", 0.15), ("calc", 0.15),
        ("which", 0.05), ("colour", 0.05), ("count", 0.05), ("exist", 0.05),
    ),
    full=(
        ("read", 0.10), ("where", 0.10), ("solve", 0.12), ("tiles", 0.22), ("calc", 0.08),
        ("which", 0.09), ("answer", 0.10), ("colour", 0.08), ("count", 0.06), ("exist", 0.05),
    ),
)  # fmt: skip
COTRAIN = Mix(early=_EVEN, full=_EVEN, until=0.0)
