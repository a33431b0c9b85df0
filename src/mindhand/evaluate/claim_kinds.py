"""Kinds of claim: where a number must lie, and what its interval must not reach. One rule gives every verdict.

A Test holds a quantity against two ranges, one that reproduces and one that refutes. A difference above a bound, an
order of two cells, equality within a margin and a share between two bounds differ in their ranges alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from mindhand.core.intervals import Interval

from .claim_measures import Estimate, Quantity

Verdict = Literal["reproduced", "undecided", "refuted", "missing"]
LEAST = 3  # trainings
ITEMS = 100  # of each training: with fewer, a bootstrap of trues and falses says too little
RULE = (
    "A test is reproduced where the estimate lies in the reproducing range and the 95 % interval reaches no value of "
    "the refuting range. It is refuted where the estimate lies in the refuting range and the interval reaches no value "
    "of the reproducing range. A bound counts as reached. Equality, and whatever has no refuting range, is reproduced "
    f"where the whole interval lies in the reproducing range. With fewer than {LEAST} trainings, or {ITEMS} items of "
    "one, it is undecided. A claim is reproduced where all its tests are, refuted where one is, missing where a cell "
    "that it needs has no rows, and else undecided; one without a test is undecided."
)


@dataclass(frozen=True)
class Range:
    """The numbers from low to high; the bounds belong to it if `closed`."""

    low: float = -math.inf
    high: float = math.inf
    closed: bool = True

    def __contains__(self, x: float) -> bool:
        return self.low <= x <= self.high if self.closed else self.low < x < self.high

    def reached(self, found: Interval) -> bool:
        """The interval has a value of the range, or touches it."""
        return found.low <= self.high and found.high >= self.low

    def holds(self, found: Interval) -> bool:
        """The whole interval lies in the range."""
        return found.low in self and found.high in self

    def show(self, unit: str) -> str:
        """ "at least 30.0 points"."""
        low, high = (number(x, unit) for x in (self.low, self.high))
        if self.high == math.inf:
            return f"{'at least' if self.closed else 'above'} {low}{_after(unit)}"
        if self.low == -math.inf:
            return f"{'at most' if self.closed else 'below'} {high}{_after(unit)}"
        return f"{low} to {high}{_after(unit)}"


def at_least(x: float) -> Range:
    """x or more."""
    return Range(low=x)


def at_most(x: float) -> Range:
    """x or less."""
    return Range(high=x)


def above(x: float) -> Range:
    """More than x."""
    return Range(low=x, closed=False)


def below(x: float) -> Range:
    """Less than x."""
    return Range(high=x, closed=False)


def within(margin: float) -> Range:
    """Less than the margin from 0, on both sides."""
    return Range(-margin, margin, closed=False)


@dataclass(frozen=True)
class Test:
    """A quantity, the range that reproduces and the range that refutes. whole: the interval must lie within the
    reproducing range, not only outside the refuting one."""

    __test__ = False  # no test of pytest's

    quantity: Quantity
    reproduces: Range
    refutes: Range | None = None
    whole: bool = False

    def verdict(self, found: Estimate) -> Verdict:
        """By RULE."""
        at = found.interval
        if len(found.trainings) < LEAST or found.items < ITEMS:
            return "undecided"
        if self.refutes and at.value in self.refutes and not self.reproduces.reached(at):
            return "refuted"
        sure = not self.refutes.reached(at) if self.refutes and not self.whole else self.reproduces.holds(at)
        return "reproduced" if sure and at.value in self.reproduces else "undecided"

    def said(self, found: Estimate) -> str:
        """The number, what it is held against, and what stands in the way of a verdict."""
        unit, verdict = self.quantity.unit, self.verdict(found)
        asks = f"{self.reproduces.show(unit)} reproduces"
        if self.refutes:
            asks += f", {self.refutes.show(unit)} refutes"
        short = []
        if len(found.trainings) < LEAST:
            short.append(f"{len(found.trainings)} of {LEAST} trainings")
        if found.items < ITEMS:
            short.append(f"{found.items} of {ITEMS} items")
        if found.alone:
            asks += f"; without training {', '.join(found.alone)}, which not all have"
        return f"{self.quantity} is {shown(found.interval, unit)} [{asks}]: {', '.join(short) or verdict}"


def ahead(measure: str, cell: str, behind: str) -> Test:
    """A cell is above another: a difference at 0 or below refutes."""
    return Test(Quantity(measure, cell, behind), above(0), at_most(0))


def equal(measure: str, cell: str, other: str, margin: float, refutes: Range | None = None) -> Test:
    """Two cells differ by less than a margin, with the whole interval."""
    return Test(Quantity(measure, cell, other), within(margin), refutes, whole=True)


def together(verdicts: list[Verdict]) -> Verdict:
    """The verdict of a claim from those of its tests, by RULE."""
    if "refuted" in verdicts:
        return "refuted"
    return "reproduced" if verdicts and set(verdicts) == {"reproduced"} else "undecided"


def number(x: float, unit: str) -> str:
    """A number in its unit, without it: rates and their differences in hundredths."""
    if unit in ("%", "points"):
        return f"{100 * x:.1f}"
    return f"{x:.1f}" if unit in ("ms", "x") else f"{x:.2f}"


def _after(unit: str) -> str:
    return {"": "", "x": "×"}.get(unit, f" {unit}")


def shown(found: Interval, unit: str) -> str:
    """ "41.0 points (35.2 to 46.1)"."""
    low, high = number(found.low, unit), number(found.high, unit)
    return f"{number(found.value, unit)}{_after(unit)} ({low} to {high})"
