"""The report of an evaluation: one HTML file that needs nothing else, made from the rows alone.

`summary` is the same numbers as plain dictionaries, for those who write records or tests.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from mindhand.core.files import write_atomic
from mindhand.core.intervals import Interval, bootstrap, wilson

from .failures import first_failures
from .ledger import opening_of
from .page import Cell, Raw, mean, moving_picture, page, rate, table, thoughts
from .protocol import Protocol
from .run import latencies
from .scores import POINTS, RATES

Row = Mapping[str, Any]
Beside = tuple[str, Sequence[str], Sequence[Sequence[Cell]]] | tuple[str, Raw]
SPLITS = {
    "R": "In-domain (R)",
    "C": "Co-training only (C)",
    "K-dev": "Open world (K-dev)",
    "K-test": "Open world (K-test)",
    "X": "True novelty (X)",
}
NOTES = 3  # kinds of what a policy noted, under a film
SHOWN = 12  # failures of a part that are listed one by one; all are counted


@dataclass(frozen=True)
class Line:
    """One line of the summary: what part of the rows, how many, and every measure they carry.

    measures: those of `scores.RATES`, and of `scores.POINTS`. chance: of success and choice.
    """

    label: str
    n: int
    measures: Mapping[str, Interval]
    chance: Mapping[str, float]
    part: bool = False


def label_of(task: str) -> str:
    """What the report calls a task: "maths_matching/K-dev/2" -> "Open world (K-dev), 2"."""
    _, _, rest = task.partition("/")
    split, *more = rest.split("/")
    return ", ".join([SPLITS.get(split, task), *more]) if split in SPLITS else task


def _line(label: str, rows: Sequence[Row], part: bool = False) -> Line:
    measures: dict[str, Interval] = {}
    for name in RATES:
        known = [r[name] for r in rows if r.get(name) is not None]
        if known:
            measures[name] = wilson(sum(known), len(known))
    for name in POINTS:
        known = [r[name] for r in rows if name in r]
        if known:
            measures[name] = bootstrap(known)
    chance = {
        name: sum(r[f"{name}_chance"] for r in rows) / len(rows)
        for name in ("success", "choice")
        if all(f"{name}_chance" in r for r in rows)
    }
    return Line(label, len(rows), measures, chance, part)


def summary(rows: Sequence[Row]) -> list[Line]:
    """A line a task, in the order of the rows, and below it a line for each number of tiles to place, and for what is
    new about an item, where the rows say that and have several."""
    out = []
    for task in dict.fromkeys(r["task"] for r in rows):
        some = [r for r in rows if r["task"] == task]
        out.append(_line(label_of(task), some))
        counts = sorted({r["digits"] for r in some if "digits" in r})
        if len(counts) > 1:
            out += [_line(f"{n} tile{'s' * (n > 1)}", [r for r in some if r["digits"] == n], part=True) for n in counts]
        kinds = sorted({r["new"] for r in some if "new" in r})
        if len(kinds) > 1:
            out += [_line(f"new {kind}", [r for r in some if r.get("new") == kind], part=True) for kind in kinds]
    return out


def by_task(rows: Sequence[Row]) -> list[Line]:
    """The summary's lines of whole tasks."""
    return [line for line in summary(rows) if not line.part]


def _results(rows: Sequence[Row]) -> str:
    lines = summary(rows)
    has = {name for line in lines for name in line.measures}
    hidden = {"parsed"} if "false_take" in has else {"parsed", "refused"}
    columns = ["", *(c for c in (*RATES, *POINTS) if c in has - hidden)]
    heads = {
        "false_take": "takes all the same",
        "refused": "says none",
        "rac": "acts as it says",
        "spatial": "says the relation",
        "hit": "hits an obstacle",
        "displaced": "moves an obstacle",
        "ocr": f"reads, of {POINTS['ocr']}",
        "maths": f"computes, of {POINTS['maths']}",
    }
    body: list[list[Cell]] = []
    for line in lines:
        cells: list[Cell] = [line.label]
        for name in columns[1:]:
            found = line.measures.get(name)
            if name in POINTS:
                cells.append(mean(found, POINTS[name]))
            else:
                cells.append(rate(found, line.chance.get(name)))
        body.append(cells)
    caption = "Rates with 95 % Wilson intervals; points with bootstrap intervals; the red tick is chance."
    parts = [i for i, line in enumerate(lines) if line.part]
    return table(caption, [heads.get(c, c) for c in columns], body, parts)


def _badge(row: Row) -> str:
    word = {"success": "success", "failure": "failure", "time": "time ran out"}[row["end"]]
    return f'<span class="tag {"yes" if row["success"] else "no"}">{word}</span>'


def _figure(row: Row, folder: Path, hz: float) -> str:
    label = f"{label_of(row['task'])}, episode {row['index']}: {row['end']}"
    why = f' <span class="no">{escape(row["why"])}</span>' if row.get("why") else ""
    held = f"<br>{len(row['interventions'])} steps changed by a filter" if row["interventions"] else ""
    for note, times in Counter(text for _, text in row.get("notes", ())).most_common(NOTES):
        held += f"<br>{escape(note)} ({times} of {row['queries']} queries)"
    about = f"{escape(label_of(row['task']))} · episode {row['index']} · {row['steps']} steps{held}"
    return (
        f"<figure>{moving_picture(folder / row['film'], label)}<figcaption>{_badge(row)}{why}<br>"
        f'<span class="soft">{about}</span>'
        f"<br>“{escape(row['instruction'])}”{thoughts(row['thoughts'], hz)}</figcaption></figure>"
    )


def _figures(rows: Sequence[Row], folder: Path, hz: float) -> str:
    """The films of those that have one, "" where none has."""
    shot = [r for r in rows if r.get("film") and (folder / r["film"]).exists()]
    return f'<div class="films">{"".join(_figure(r, folder, hz) for r in shot)}</div>' if shot else ""


def _films(rows: Sequence[Row], folder: Path, hz: float) -> str:
    """Of successes: failures are shown by themselves."""
    return _figures([r for r in rows if r["success"]], folder, hz) or "<p>No success was filmed.</p>"


def _failures(rows: Sequence[Row], folder: Path, hz: float) -> str:
    lost = [r for r in rows if not r["success"]]
    if not lost:
        return f"<p>None in {len(rows)} episodes.</p>"
    counts = Counter((label_of(r["task"]), r.get("why") or r["end"]) for r in lost)
    kinds = table(
        f"{len(lost)} of {len(rows)} episodes, by what went wrong",
        ["part", "why", "episodes"],
        [[task, why, n] for (task, why), n in sorted(counts.items(), key=lambda c: (c[0][0], -c[1]))],
    )
    each = table(
        f"One by one: the first {SHOWN} of each part at most",
        ["episode", "why", "steps", "what it thought"],
        [
            [
                Raw(f"<code>{escape(r['key'])}</code>"),
                "; ".join([r.get("why") or r["end"], *([r["replay"]] if "replay" in r else [])]),
                r["steps"],
                Raw(thoughts(r["thoughts"][:3], hz) or "–"),
            ]
            for r in first_failures(rows, SHOWN)
        ],
    )
    return f"{_figures(lost, folder, hz)}<br>{kinds}<br>{each}"


def _facts(about: Mapping[str, Any], folder: Path) -> str:
    p = Protocol.from_json(about["protocol"])
    ms = latencies(folder)
    cameras = ", ".join(f"{c.role} {c.height} × {c.width}" for c in p.images)
    rows: list[list[Cell]] = [
        ["policy", about["policy"]],
        ["protocol", f"{p.id} ({p.fingerprint()}): {p.episodes} episodes for each of {len(p.tasks)} tasks"],
        ["arm", p.arm],
        ["success means", p.success],
        ["acting", f"{p.replan} steps a query, {p.steps} at most, {p.rows} rows a batch; sees {cameras}"],
        ["one query of the batch", f"{ms['p50']:.1f} ms median, {ms['p90']:.1f} ms p90, {ms['p99']:.1f} ms p99, "
                                   f"{ms['max']:.1f} ms longest"],
        ["commit", about["commit"]],
        ["versions", ", ".join(f"{k} {v}" for k, v in about["versions"].items())],
        ["machine", ", ".join(f"{k} {v}" for k, v in about["hardware"].items())],
        ["time", f"{about['seconds']:.0f} s"],
    ]  # fmt: skip
    if look := opening_of(folder):
        rows.append(["K-test", look.text])
    return table("What the numbers belong to", ["", ""], rows)


def write_report(
    folder: Path | str,
    rows: Sequence[Row],
    *,
    rate_hz: float,
    title: str = "Evaluation",
    beside: Sequence[Beside] = (),
) -> Path:
    """Write folder/report.html from a run folder and its rows (scored or plain); returns the file.

    rate_hz: control steps a second of the world. beside: further tables (heading, columns, rows) and drawings
    (heading, drawing) that belong next to success: the scorecard of what was forgotten, the language arm.
    """
    folder = Path(folder)
    about = json.loads((folder / "run.json").read_text())
    # No total over the parts: in-domain and open world together are a number of nothing.
    each = "; ".join(f"{line.label} {line.measures['success'].value:.1%}" for line in by_task(rows))
    lead = f"{about['policy']} on {Protocol.from_json(about['protocol']).id}. Success: {each}."
    sections = [("Results", _results(rows))]
    sections += [(head, what[0].html if len(what) == 1 else table("", *what)) for head, *what in beside]
    sections += [
        ("Failures", _failures(rows, folder, rate_hz)),
        ("Films", _films(rows, folder, rate_hz)),
        ("Run", _facts(about, folder)),
    ]
    file = folder / "report.html"
    write_atomic(file, page(title, lead, sections))
    return file
