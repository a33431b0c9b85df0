"""What a policy still does where scenes are perturbed: by axis, its levels pooled, against the same scenes clean; and
level by level."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from mindhand.core.errors import BadData
from mindhand.core.intervals import Interval, bootstrap
from mindhand.evaluate.page import Cell, points, rate
from mindhand.evaluate.report import Beside, Line, by_task, label_of
from mindhand.worlds.perturb import AXES, LEVELS, Perturbation

from .rollouts import Rows

MEASURES = ("success", "choice")  # that tables of arms show, where a world has them


def of_task(rows: Rows, task: str) -> Rows:
    """The rows of one task."""
    return [r for r in rows if r["task"] == task]


def measures_of(rows: Rows) -> list[str]:
    """Those of `MEASURES` that all rows have."""
    return [m for m in MEASURES if all(m in r for r in rows)]


def rates(line: Line, measures: Sequence[str]) -> list[Cell]:
    """Success and choice of a task."""
    return [rate(line.measures[m], line.chance.get(m)) for m in measures]


def by_axis(arms: Sequence[str]) -> dict[str, list[str]]:
    """The arms in which one axis alone is perturbed, by the axis' name: "camera", or with its levels where those are
    not all five."""
    out: dict[str, list[str]] = {}
    for axis in AXES:
        levels = {a: p[axis] for a in arms if set(p := Perturbation.parse(a).to_json()) == {axis}}
        if levels:
            said = ", ".join(str(level) for level in sorted(levels.values()))
            whole = sorted(levels.values()) == list(LEVELS[1:])
            out[axis if whole else f"{axis} (level{'s' * (len(levels) > 1)} {said})"] = list(levels)
    return out


def pooled(clean: Rows, arms: Sequence[Rows], measure: str) -> tuple[Interval, Interval]:
    """A rate over several arms, each as heavy, and what they differ by from clean. Bootstrap over scenes: what an arm
    does to a scene that another arm shows too is no further evidence. BadData where the episodes are others."""
    keys = [r["key"] for r in clean]
    if any([r["key"] for r in rows] != keys for rows in arms):
        raise BadData("arms of other episodes", "the clean arm's, in its order", "run the same protocol")
    scenes = np.array([[float(r[measure]) for r in rows] for rows in arms]).mean(0)
    return bootstrap(scenes), bootstrap(scenes - [float(r[measure]) for r in clean])


def axes_table(clean: Rows, changed: Mapping[str, Rows]) -> Beside:
    """A line an axis, and one for all that was tried: the rate over its levels, and its difference from clean."""
    measures, tasks = measures_of(clean), list(dict.fromkeys(r["task"] for r in clean))
    body: list[list[Cell]] = [["clean", *(c for line in by_task(clean) for m in measures for c in _both(line, m))]]
    for name, arms in {**by_axis(list(changed)), "mean of the perturbed": list(changed)}.items():
        cells: list[Cell] = []
        for task in tasks:
            some = [of_task(changed[arm], task) for arm in arms]
            for m in measures:
                found, less = pooled(of_task(clean, task), some, m)
                (line,) = by_task([r for rows in some for r in rows])
                cells += [rate(found, line.chance.get(m)), points(less, " points")]
        body.append([name, *cells])
    columns = ["", *(c for t in tasks for m in measures for c in (f"{label_of(t)}: {m}", "against clean"))]
    return "Perturbed, by axis (levels pooled; bootstrap over scenes, paired with clean)", columns, body


def _both(line: Line, measure: str) -> list[Cell]:
    return [*rates(line, [measure]), None]


def levels_table(clean: Rows, changed: Mapping[str, Rows]) -> Beside:
    """Success and choice of every task under every perturbation."""
    lines = {name: by_task(rows) for name, rows in {"clean": clean, **changed}.items()}
    measures = measures_of(clean)
    body = [[name, *(cell for line in some for cell in rates(line, measures))] for name, some in lines.items()]
    columns = ["", *(f"{line.label}: {m}" for line in lines["clean"] for m in measures)]
    return "Perturbed, one by one (the same scenes; levels 1 to 5)", columns, body
