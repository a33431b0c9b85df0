"""Two policies side by side, from their run folders: the same scenes, the same code, or a refusal.

A side is one training or several of one method. What is compared is success and, where the task has one, choice: the
first separates hands, the second minds. Every task and measure by itself, each at 95 %: on ten lines, two equal
policies differ somewhere in up to four comparisons of ten.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mindhand.core.errors import BadData
from mindhand.core.intervals import Interval, mcnemar
from mindhand.core.record import measure
from mindhand.core.sequential import Verdict, paired, required

from .page import Cell, rate
from .protocol import Protocol, keys
from .report import label_of
from .run import key_of
from .scores import scored

if TYPE_CHECKING:
    from rich.table import Table

MARGIN = 0.03  # a difference of rates that does not matter, as for a speed-up
# What decides an episode's outcome besides the policy: physics, scenes, arithmetic. Not transformers, which was only
# there: it converts weights before they have a fingerprint, and no episode calls it.
VERSIONS = ("mindhand", "mujoco", "numpy", "pillow", "tokenizers", "torch")
THEIRS = {"metaworld": "metaworld"}  # and, by the family of the tasks, the package that the world is


@dataclass(frozen=True)
class Run:
    """A finished evaluation: its folder, the policy's name (its weights), the protocol, the rows in the protocol's
    order (scored where the task has scores), and what `run.json` says."""

    folder: Path
    policy: str
    protocol: Protocol
    rows: Sequence[Mapping[str, Any]]
    about: Mapping[str, Any]


@dataclass(frozen=True)
class Contrast:
    """One measure ("success", "choice") of one task on both sides.

    a, b: the rates, Wilson's interval, widened by the hierarchical bootstrap over several trainings. difference: A - B,
    bootstrap over trainings, then scenes, paired. chance: what a guesser gets on these scenes. only_a, only_b: pairs
    that one side alone solved, over all trainings. exact: McNemar's p value, and verdict: what may be said at any look;
    both of one training a side, else None, as pairs of several trainings are not independent; so they are about two
    sets of weights. required: paired episodes that tell such a difference between two trainings with a power of .8;
    None where none was seen.
    """

    task: str
    measure: str
    n: int
    a: Interval
    b: Interval
    difference: Interval
    chance: float | None
    only_a: int
    only_b: int
    exact: float | None
    verdict: Verdict | None
    required: int | None

    @property
    def label(self) -> str:
        """What tables call it."""
        return f"{label_of(self.task)}: {self.measure}"


@dataclass(frozen=True)
class Comparison:
    """protocol: id and fingerprint. a, b: the policies of either side, one a training. contrasts: task by task."""

    protocol: str
    a: tuple[str, ...]
    b: tuple[str, ...]
    contrasts: tuple[Contrast, ...]


def read_run(folder: Path | str) -> Run:
    """A run folder's evaluation. BadData where it is none, is incomplete, or its rows are not the protocol's
    episodes in the protocol's order."""
    folder = Path(folder)
    try:
        about = json.loads((folder / "run.json").read_text())
        rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
        protocol, policy = Protocol.from_json(about["protocol"]), str(about["policy"])
        about = {**about, "versions": dict(about["versions"]), **{n: str(about[n]) for n in ("commit", "code")}}
        rows = [{**r, "success": bool(r["success"])} for r in rows]
        found, named = [str(r["key"]) for r in rows], [str(key_of(r)) for r in rows]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadData(
            f"{folder} is no run of an evaluation: {error}", "its run.json and rows.jsonl", "evaluate into it"
        ) from error
    wanted = [str(k) for k in keys(protocol)]
    if missing := sorted(set(wanted) - set(found)):
        raise BadData(
            f"{folder} is incomplete: {len(missing)} of {len(wanted)} episodes of {protocol.id} are missing, "
            f"first {missing[0]}",
            "all scheduled episodes",
            "run the same evaluation again: it goes on where it stopped",
        )
    if found != wanted or named != wanted:
        at = next((i for i, k in enumerate(wanted) if found[i] != k or named[i] != k), len(wanted))
        raise BadData(
            f"{folder}, row {at}: episode {found[at]} of task, index and seed {named[at]}",
            f"{wanted[at] if at < len(wanted) else 'no further row'}, in the order of {protocol.id}",
            "evaluate again; rows are paired by their place",
        )
    return Run(folder, policy, protocol, scored(rows, protocol.arm), about)


def _versions(run: Run) -> dict[str, str]:
    """Of what decides an outcome: releases, without the build for a device ("+cpu"). python counts by its minor
    version: 3.12 began to add floats with compensation."""
    all_of = run.about["versions"]
    families = dict.fromkeys(task.partition("/")[0] for task in run.protocol.tasks)
    names = (*VERSIONS, *(THEIRS[family] for family in families if family in THEIRS))
    out = {name: str(all_of.get(name, "absent")).partition("+")[0] for name in names}
    return {"python": ".".join(str(all_of.get("python", "absent")).split(".")[:2]), **out}


def _require_comparable(sides: Mapping[str, Sequence[Run]]) -> None:
    """Refuse whatever could make a difference besides the policy. The machine is not asked: other hardware rounds
    otherwise, which favours nobody; other code may."""
    runs = [(side, run) for side, some in sides.items() for run in some]
    places: dict[Path, str] = {}
    for side, run in runs:
        if (at := run.folder.resolve()) in places:
            raise BadData(f"{run.folder} as {places[at]} and as {side}", "every run once", "name another folder")
        places[at] = side
    for side, some in sides.items():
        if len({run.policy for run in some}) < len(some):
            raise BadData(
                f"side {side} has one policy twice: {[run.policy for run in some]}",
                "one run a training: what is counted twice makes an interval too narrow",
                "leave one out",
            )
    side, first = runs[0]
    for other, run in runs[1:]:
        pairs = [
            ("protocol", *(f"{r.protocol.id} ({r.protocol.fingerprint()})" for r in (first, run))),
            ("code", *(r.about["code"] for r in (first, run))),
            ("versions", *(", ".join(f"{k} {v}" for k, v in _versions(r).items()) for r in (first, run))),
        ]
        for what, mine, theirs in pairs:
            if mine != theirs:
                raise BadData(
                    f"{what} of {side} ({first.folder}): {mine}; of {other} ({run.folder}): {theirs}",
                    f"the same {what} on both sides",
                    "evaluate both with the same, tasks and episodes included: it may explain any difference",
                )


def _rows(some: Sequence[np.ndarray], arm: str, trainings: int) -> list[dict[str, Any]]:
    """As records have them; the one training of a side stands beside each of the other's."""
    return [
        {"key": f"{i:09}", "training": str(t), "arm": arm, "right": bool(x)}
        for t in range(trainings)
        for i, x in enumerate(some[t if len(some) > 1 else 0])
    ]


def _contrast(task: str, name: str, a: Sequence[Run], b: Sequence[Run], margin: float) -> Contrast:
    mine = [[r for r in run.rows if r["task"] == task] for run in (*a, *b)]
    right = [np.array([bool(r[name]) for r in rows]) for rows in mine]
    left, other = right[: len(a)], right[len(a) :]
    trainings = max(len(a), len(b))
    rates = [measure(_rows(side, "on", len(side)), "right", "rate")[0] for side in (left, other)]
    both = _rows(left, "on", trainings) + _rows(other, "off", trainings)
    difference = measure(both, "right", "difference")[0]
    pairs = [(left[t % len(left)], other[t % len(other)]) for t in range(trainings)]
    only_a, only_b = (int(sum((x & ~y).sum() for x, y in some)) for some in (pairs, [(y, x) for x, y in pairs]))
    n, chance = len(right[0]), f"{name}_chance"
    one, share = trainings == 1, (only_a + only_b) / (trainings * len(right[0]))
    seen = only_a != only_b
    return Contrast(
        task,
        name,
        n,
        *rates,
        difference,
        float(np.mean([r[chance] for r in mine[0]])) if chance in mine[0][0] else None,
        only_a,
        only_b,
        mcnemar(only_a, only_b) if one else None,
        paired(left[0], other[0], margin=margin) if one else None,
        required(rates[0].value, rates[1].value, discordant=share) if seen else None,
    )


def compare(a: Sequence[Path | str], b: Sequence[Path | str], *, margin: float = MARGIN) -> Comparison:
    """Compare the run folders of side A with those of side B, one folder a training.

    With several trainings on both sides the i-th of A is paired with the i-th of B (in the order of their seeds or of
    what they began from), so there must be as many; one training on a side stands beside each of the other's, and the
    interval then says nothing of that side's next training. margin: a difference of rates that does not matter, for
    the verdict "alike". Raises BadData that names both sides where anything but the policy differs: protocol, episodes
    or their order, versions, code.
    """
    if isinstance(a, str | Path) or isinstance(b, str | Path) or not a or not b:
        raise BadData(f"sides {a} and {b}", "a list of run folders each", "put a single folder into a list")
    if len(a) != len(b) and min(len(a), len(b)) > 1:
        raise BadData(
            f"{len(a)} trainings of A and {len(b)} of B", "as many on both sides, or one on a side", "train the others"
        )
    sides = {"A": [read_run(f) for f in a], "B": [read_run(f) for f in b]}
    _require_comparable(sides)
    first = sides["A"][0]
    measures = [name for name in ("success", "choice") if name in first.rows[0]]
    return Comparison(
        f"{first.protocol.id} ({first.protocol.fingerprint()})",
        tuple(run.policy for run in sides["A"]),
        tuple(run.policy for run in sides["B"]),
        tuple(
            _contrast(task, name, sides["A"], sides["B"], margin) for task in first.protocol.tasks for name in measures
        ),
    )


COLUMNS = ("", "A", "B", "A - B, points", "only A, only B", "exact p", "at any look", "episodes to tell")


def _number(x: float | None) -> str:
    return "" if x is None else "< 0.001" if x < 0.001 else f"{x:.3f}"


def _cells(line: Contrast) -> list[str]:
    """All columns but the rates."""
    d, said = line.difference, ""
    if line.verdict is not None:
        v = line.verdict
        said = f"{v.word} after {v.decided} of {v.n}" if v.decided else f"undecided, p {_number(v.p)}"
    return [
        f"{100 * d.value:+.1f} ({100 * d.low:+.1f} to {100 * d.high:+.1f})",
        f"{line.only_a}, {line.only_b}",
        _number(line.exact),
        said,
        "" if line.required is None else str(line.required),
    ]


def comparison_table(found: Comparison, title: str = "") -> Table:
    """For the terminal: a line a task and measure, rates with intervals and chance."""
    from rich.table import Table

    def cell(r: Interval, chance: float | None) -> str:
        base = "" if chance is None else f", chance {chance:.2f}"
        return f"{r.value:.2f} ({r.low:.2f}..{r.high:.2f}{base})"

    out = Table(*COLUMNS, title=title or f"A: {', '.join(found.a)}; B: {', '.join(found.b)}; {found.protocol}")
    for line in found.contrasts:
        out.add_row(line.label, cell(line.a, line.chance), cell(line.b, line.chance), *_cells(line))
    return out


def comparison_section(found: Comparison) -> tuple[str, Sequence[str], Sequence[Sequence[Cell]]]:
    """(heading, columns, rows) for `write_report(beside=...)`."""
    heading = f"A ({', '.join(found.a)}) beside B ({', '.join(found.b)})"
    rows = [
        [line.label, rate(line.a, line.chance), rate(line.b, line.chance), *(c or None for c in _cells(line))]
        for line in found.contrasts
    ]
    return heading, COLUMNS, rows
