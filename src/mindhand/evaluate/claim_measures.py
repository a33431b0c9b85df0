"""What is measured on evidence, with its spread over trainings and items.

Measure    one number of one training, from its rows: a rate, points, a share of what the base knew, milliseconds
Quantity   a measure of a cell, or of one cell against another
estimate   its value over trainings, with a 95 % interval
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from mindhand.core.errors import BadData
from mindhand.core.intervals import DRAWS, Interval
from mindhand.core.keys import Keys

from .claim_evidence import BASE, Evidence, Exam, Row

NUMBERS = (bool, int, float, np.bool_, np.integer, np.floating)
K = "{K}"  # in the task of a measure: the open-world split that is judged
KNOWN = 0.1  # of what can be known of a part, chance taken off: of a part that the base knows less, nothing can be kept


@dataclass(frozen=True)
class Measure:
    """What is measured on the rows of a training. `task` of the exam; K stands for the split that is judged.

    column: its mean; over the sum of column `per` where that is given. none: what a None in the column is, "left out"
    or "false". most: the largest value a row may have. On the scorecard, column is one of "right" (written), "likely"
    (the likeliest option), "gap" (likely less right) and "worst" (of right, the least part); see `_retention`.
    """

    exam: Exam
    column: str
    unit: Literal["rate", "points of 4", "kept", "ms"]
    task: str = ""
    per: str = ""
    none: Literal["", "left out", "false"] = ""
    most: float = 1.0


MEASURES: Mapping[str, Measure] = {
    "ID success": Measure("episodes", "success", "rate", "maths_matching/R"),
    "K success": Measure("episodes", "success", "rate", f"maths_matching/{K}"),
    "K choice": Measure("episodes", "choice", "rate", f"maths_matching/{K}"),
    "K OCR": Measure("episodes", "ocr", "points of 4", f"maths_matching/{K}", most=4),
    "K RAC": Measure("episodes", "rac", "rate", f"maths_matching/{K}", none="left out"),
    # Whoever takes no tile has not followed: else a policy that hardly ever moves would follow best.
    "K CFR": Measure("swapped", "rac", "rate", f"maths_matching/{K}", none="false"),
    "toy K success": Measure("episodes", "success", "rate", f"spatial_placing/{K}"),
    "toy K recognition": Measure("episodes", "recognition", "rate", f"spatial_placing/{K}"),
    "toy K spatial": Measure("episodes", "spatial", "rate", f"spatial_placing/{K}", none="left out"),
    "R": Measure("scorecard", "right", "kept"),
    "R by likelihood": Measure("scorecard", "likely", "kept"),
    "R worst part": Measure("scorecard", "worst", "kept"),
    "R gap": Measure("scorecard", "gap", "kept"),
    "ms a chunk": Measure("latency", "ms", "ms", most=math.inf),
    "share of reasoning": Measure("latency", "reasoning_ms", "rate", per="ms", most=math.inf),
}


@dataclass(frozen=True)
class Quantity:
    """A measure of a cell; with `versus`, less that of another cell, or over it (`ratio`)."""

    measure: str
    cell: str
    versus: str = ""
    ratio: bool = False

    @property
    def cells(self) -> tuple[str, ...]:
        """The cells it needs rows of."""
        base = (BASE,) if MEASURES[self.measure].exam == "scorecard" else ()
        return (*base, self.cell, *([self.versus] if self.versus else []))

    @property
    def unit(self) -> str:
        """ "%", "points", "points of 4", "x", "ms" or "", as `claim_kinds.shown` writes it."""
        unit = MEASURES[self.measure].unit
        if self.ratio:
            return "x"
        return {"rate": "points" if self.versus else "%", "kept": ""}.get(unit, unit)

    def __str__(self) -> str:
        against = f" {'over' if self.ratio else 'less'} {self.versus}" if self.versus else ""
        return f"{self.measure} of {self.cell}{against}"


@dataclass(frozen=True)
class Estimate:
    """The interval of a quantity (n = rows), the trainings that all its cells have, and the fewest items of one.
    `alone`: trainings that only some of the cells have; they are left out."""

    interval: Interval
    trainings: tuple[str, ...]
    items: int
    alone: tuple[str, ...] = ()


def _groups(measure: Measure, split: str, evidence: Evidence) -> list[tuple[Exam, str]]:
    """The groups of rows that a training must have."""
    if measure.exam != "scorecard":
        return [(measure.exam, measure.task.replace(K, split))]
    return [g for of in evidence.groups.get(BASE, {}).values() for g in of if g[0] == "scorecard"]


def _names(evidence: Evidence, cell: str, measure: Measure, split: str) -> list[str]:
    """The trainings of a cell that the measure can be taken of."""
    wanted = _groups(measure, split, evidence)
    column = "right" if measure.exam == "scorecard" else measure.column

    def has(row: Row) -> bool:
        # A policy that does not think has no OCR; one that never takes a tile has no RAC.
        return column in row and (measure.none != "left out" or row[column] is not None)

    return [
        name
        for name, of in evidence.groups.get(cell, {}).items()
        if wanted and all(any(map(has, of.get(g, ()))) for g in wanted)
    ]


def lacking(evidence: Evidence, quantity: Quantity, split: str) -> list[str]:
    """What there are no rows of, in words; [] where the quantity can be estimated."""
    measure, out, each = MEASURES[quantity.measure], [], []
    for cell in quantity.cells:
        each.append(set(_names(evidence, cell, measure, split)))
        if not any(evidence.groups.get(cell, {}).values()):
            out.append(f"no rows of {cell}")
        elif not each[-1]:
            task = f" {measure.task.replace(K, split)}".rstrip()
            out.append(f"no '{measure.column}' in {measure.exam}{task} of {cell}")
    if quantity.versus and not out and not each[-1] & each[-2]:
        out.append(f"no training that both {quantity.cell} and {quantity.versus} have")
    return out


def _column(rows: Sequence[Row], name: str, measure: Measure) -> np.ndarray:
    out = np.empty(len(rows))
    for i, row in enumerate(rows):
        x = row.get(name)
        if x is None and measure.none and name in row:
            x = math.nan if measure.none == "left out" else 0.0
        elif not isinstance(x, NUMBERS) or not 0 <= x <= measure.most:
            raise BadData(f"row {row.get('key')}: '{name}' is {x!r}", f"0 to {measure.most:g} in every row", "evaluate")
        out[i] = x
    return out


@lru_cache(maxsize=12)
def _counts(n: int, *words: str) -> np.ndarray:
    """float32 (DRAWS,n): how often each of n items is in each resample, the same for every cell that asks for it."""
    picked = Keys.seeded(1, "claims", "items", n, *words).integers(n, DRAWS, n)[0]
    flat = (picked + n * np.arange(DRAWS)[:, None]).ravel()
    return np.bincount(flat, minlength=DRAWS * n).reshape(DRAWS, n).astype(np.float32)


Drawn = tuple[float, np.ndarray]  # a training's number, and (DRAWS,) what resamples of its items give


def _sums(counts: np.ndarray, *columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(C,) sums of the columns and (C,DRAWS) of their resamples."""
    x = np.stack(columns, 1)
    return x.sum(0), (counts @ x.astype(np.float32)).T.astype(np.float64)


def _plain(rows: Sequence[Row], measure: Measure, *words: str) -> Drawn:
    """The mean of a column, or the ratio of two columns' sums."""
    above, counts = _column(rows, measure.column, measure), _counts(len(rows), *words)
    known = ~np.isnan(above)
    below = _column(rows, measure.per, measure) if measure.per else known
    (a, b), (many_a, many_b) = _sums(counts, np.where(known, above, 0), below)
    return float(a / b), many_a / np.maximum(many_b, 1e-9)


def _kept(rows: Sequence[Row], base: Sequence[Row], column: str, counts: np.ndarray) -> tuple[float, Drawn]:
    """What the base knows of a part, chance taken off, and how much of that is kept.

    Chance is the item's own. What is written has none, but where the question leaves only yes and no, or letters, to
    say: there a guesser who keeps to the form has the same as by likelihood.
    """
    measure = MEASURES["R"]
    chance = _column(rows, "chance", measure)
    if column == "right":
        chance = np.where([r["expected"] in ("yes", "no", "a", "b", "c") for r in rows], chance, 0.0)
    columns = _column(rows, column, measure), _column(base, column, measure), chance
    sums, many = (x / len(chance) for x in _sums(counts, *columns))
    (after, before, guess), (many_after, many_before, many_guess) = sums, many
    knew, many_knew = before - guess, np.maximum(many_before - many_guess, 1e-3)
    kept = max(0.0, after - guess) / knew if knew > 0 else 0.0
    return knew / max(1 - guess, 1e-9), (kept, np.maximum(0.0, many_after - many_guess) / many_knew)


def _retention(
    of: Mapping[tuple[Exam, str], list[Row]], base: Mapping[tuple[Exam, str], list[Row]]
) -> dict[str, Drawn]:
    """R_b = max(0, (score - chance) / (score of the base - chance)) of each part b, and R its mean over parts; "worst"
    the least. The parts are those that the base knows both ways, so that the gap compares the same."""
    parts: list[dict[str, Drawn]] = []
    for group in (g for g in base if g[0] == "scorecard"):
        counts = _counts(len(base[group]), *group)
        both = {c: _kept(of[group], base[group], c, counts) for c in ("right", "likely")}
        if min(knew for knew, _ in both.values()) >= KNOWN:
            parts.append({c: kept for c, (_, kept) in both.items()})
    if not parts:
        raise BadData(f"a base that knows below {KNOWN} of every part", "one that has something to keep", "train it")
    (right, rights), (likely, likelies) = (
        (np.array([p[c][0] for p in parts]), np.array([p[c][1] for p in parts])) for c in ("right", "likely")
    )
    return {
        "right": (float(right.mean()), rights.mean(0)),
        "likely": (float(likely.mean()), likelies.mean(0)),
        "gap": (float((likely - right).mean()), (likelies - rights).mean(0)),
        "worst": (float(right.min()), rights.min(0)),
    }


def _drawn(evidence: Evidence, measure: Measure, cell: str, name: str, split: str) -> tuple[Drawn, int]:
    """The number of one training, and of how many items."""
    of, wanted = evidence.groups[cell][name], _groups(measure, split, evidence)
    card = measure.exam == "scorecard"
    known, at = evidence.taken, (BASE if card else measure, wanted[0], cell, name)
    if at not in known and card:
        (base,) = evidence.groups[BASE].values()
        known[at] = _retention(of, base)
    elif at not in known:
        # Two policies' queries have nothing in common; their scenes have.
        own = (cell, name) if measure.exam == "latency" else ()
        known[at] = _plain(of[wanted[0]], measure, *wanted[0], *own)
    return known[at][measure.column] if card else known[at], sum(len(of[g]) for g in wanted)


def estimate(evidence: Evidence, quantity: Quantity, split: str) -> Estimate:
    """The mean over trainings, with a hierarchical bootstrap: trainings, then the items that all share.

    As `core.intervals.hierarchical` with the same items, for any number that a training's rows give: each training's
    is computed on the same resamples of items, and deviations between trainings are scaled by sqrt(k / (k - 1)).
    With three trainings that differ much the interval covers less than it says. Measured on two equal cells, 200
    items: it lies above 0 in 0.3, 1.5, 6, 8 % where trainings differ by a standard deviation of 0, 3, 6, 10 points
    (nominal 2.5). BadData where `lacking`.
    """
    if missing := lacking(evidence, quantity, split):
        raise BadData(f"{quantity}: {'; '.join(missing)}", "rows of every cell", "run them, or ask `lacking` first")
    measure = MEASURES[quantity.measure]
    cells = (quantity.cell, quantity.versus) if quantity.versus else (quantity.cell,)
    each = [_names(evidence, c, measure, split) for c in cells]
    names = sorted(set.intersection(*map(set, each)))
    values, resampled, items = [], [], []
    for name in names:
        found = [_drawn(evidence, measure, cell, name, split) for cell in cells]
        value, many = found[0][0]
        if quantity.versus:
            other, others = found[1][0]
            value = value / other if quantity.ratio else value - other
            many = many / others if quantity.ratio else many - others
        values.append(value)
        resampled.append(many)
        items.append(min(n for _, n in found))
    k, means = len(names), np.array(values)
    draws = np.mean(resampled, 0)
    if k > 1:
        pick = Keys.seeded(1, "claims", "trainings", k).integers(k, DRAWS, k)[0]
        draws = draws + math.sqrt(k / (k - 1)) * (means[pick].mean(1) - means.mean())
    value, (low, high) = float(means.mean()), np.quantile(draws, (0.025, 0.975))
    interval = Interval(value, float(min(low, value)), float(max(high, value)), sum(items), "hierarchical")
    return Estimate(interval, tuple(names), min(items), tuple(sorted(set().union(*each) - set(names))))
