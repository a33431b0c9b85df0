"""What a scene sampler draws: digits that catch a cheat, and free places on the table."""

from __future__ import annotations

from collections.abc import Sequence

from .draw import Draw
from .equations import OPERATORS, Equation

Span = tuple[float, float]


def cheats(e: Equation, prior: Sequence[int]) -> dict[str, list[int]]:
    """Digits that a policy with one wrong habit would take."""

    def digits(numbers: Sequence[int]) -> list[int]:
        return [int(c) for n in numbers if n >= 0 for c in str(n)]

    backwards = [int(str(n)[::-1]) for n in (e.a, e.b)]
    turned = [Equation(backwards[0], e.op, e.b), Equation(e.a, e.op, backwards[1])]
    return {
        "operand": digits([e.a, e.b]),
        "near": digits([e.answer - 1, e.answer + 1]),
        "operator": digits([Equation(e.a, op, e.b).answer for op in OPERATORS if op != e.op]),
        "reversed": digits([t.answer for t in turned if t != e]),
        "prior": list(prior),
    }


def distractors(draw: Draw, e: Equation, count: int, prior: Sequence[int]) -> list[tuple[int, str]]:
    """`count` different digits, none of them in the answer, each with the habit that would take it."""
    used, out = set(e.digits), []
    habits = cheats(e, prior)
    while len(out) < count:
        left = {why: [d for d in ds if d not in used] for why, ds in habits.items()}
        kinds = [why for why, ds in left.items() if ds]
        why = draw.pick(kinds) if kinds else "other"
        digit = draw.pick(left[why] if kinds else [d for d in range(10) if d not in used])
        used.add(digit)
        out.append((digit, why))
    return out


def layout(
    draw: Draw, count: int, area: tuple[Span, Span], apart: tuple[float, float], turn: float
) -> list[tuple[float, float, float]]:
    """`count` poses (x, y, yaw) in `area`, each two `apart` in x or in y, turned by at most `turn`.

    By rejection, started afresh when the table is full. The poses are exchangeable only if the caller shuffles
    what goes where: later ones lie nearer the border.
    """
    while True:
        out: list[tuple[float, float, float]] = []
        for _ in range(40 * count):
            x, y = draw.uniform(*area[0]), draw.uniform(*area[1])
            if all(abs(x - u) >= apart[0] or abs(y - v) >= apart[1] for u, v, _ in out):
                out.append((x, y, draw.uniform(-turn, turn)))
                if len(out) == count:
                    return out
