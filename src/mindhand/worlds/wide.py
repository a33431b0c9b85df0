"""Arithmetic beyond the robot's: what the mind alone is taught, to two digits. No simulator here.

None of it is in `scene`'s universe, no robot meets it, and no task asks for it; `declared.scene_hash` has it. Classes:
K-dev and K-test are in pretraining, X is nowhere. Answers are 0 .. 99.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from mindhand.core.errors import BadData

from .equations import Equation, Table

SPLITS = ("K-dev", "K-test", "X")
_N = range(100)


def _new(a: int, b: int) -> bool:
    return a > 9 or b > 9  # one-digit operands are the robot's universe


TABLES = (
    Table("wide sums", tuple(Equation(a, "+", b) for a in _N for b in _N if a + b < 100 and _new(a, b)),
          (("X", 480), ("K-test", 240)), 0),
    Table("wide differences", tuple(Equation(a, "-", b) for a in _N for b in range(a + 1) if b > 9 or a - b > 9),
          (("X", 480), ("K-test", 240)), 0),
    Table("wide products", tuple(Equation(a, "x", b) for a in range(13) for b in range(13)
                                 if a * b < 100 and _new(a, b)), (("X", 6), ("K-test", 6)), 0),
)  # fmt: skip


@cache
def _classes() -> dict[Equation, str]:
    return {e: split for table in TABLES for e, split in table.classes().items()}


@cache
def wide_equations(split: str) -> tuple[Equation, ...]:
    """All wide equations of one class, sorted."""
    if split not in SPLITS:
        raise BadData(f"split '{split}' of the wide equations", f"one of {SPLITS}", "robots' classes are in `scene`")
    return tuple(sorted(e for e, s in _classes().items() if s == split))


def written(e: Equation) -> str:
    """The same, worked out in steps of one digit where there are tens to carry: "27+45: 7+5=12. 2+4+1=7. 72".

    Three numbers are added from the left: "3+4+5: 3+4=7. 7+5=12. 12" (see `written_three`). A product has no steps."""
    (a1, a0), (b1, b0) = divmod(e.a, 10), divmod(e.b, 10)
    if e.op == "x" or not (a1 or b1):
        return f"{e.text}={e.answer}"
    if e.op == "+":
        carry = (a0 + b0) // 10
        tens = f"{a1}+{b1}{'+1' if carry else ''}={a1 + b1 + carry}"
        return f"{e.text}: {a0}+{b0}={a0 + b0}. {tens}. {e.answer}"
    borrow = a0 < b0
    ones = f"{a0 + 10 * borrow}-{b0}={a0 + 10 * borrow - b0}"
    return f"{e.text}: {ones}. {a1}-{b1}{'-1' if borrow else ''}={a1 - b1 - borrow}. {e.answer}"


def written_three(a: int, b: int, c: int) -> str:
    """The sum of three numbers from the left."""
    return f"{a}+{b}+{c}: {a}+{b}={a + b}. {a + b}+{c}={a + b + c}. {a + b + c}"


def parts(of: Equation | tuple[int, int, int]) -> tuple[Equation, ...]:
    """What is worked out on the way by `written` and `written_three`, each a sum of two numbers that is then known; of
    the tens what is carried is left out. Whoever holds a sum out must not let it be said as a part of another."""
    if not isinstance(of, Equation):
        a, b, c = of
        return Equation(a, "+", b), Equation(a + b, "+", c)
    (a1, a0), (b1, b0) = divmod(of.a, 10), divmod(of.b, 10)
    if of.op == "x" or not (a1 or b1):
        return ()
    borrow = of.op == "-" and a0 < b0
    return Equation(a0 + 10 * borrow, of.op, b0), Equation(a1, of.op, b1)


def declared() -> dict[str, Any]:
    """What the hash of the declaration covers."""
    return {"equations": sorted((e.text, s) for e, s in _classes().items())}
