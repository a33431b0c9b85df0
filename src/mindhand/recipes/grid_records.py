"""Records of the grid: chatvla2/<row>/..., computed from the rows of cells that are done.

    chatvla2/<row>/<maths|placing>/<r|k-dev|k-test|x>/<choice|success|rac|ocr|maths|te>
    chatvla2/<row>/<maths|placing>/<k-dev|k-test>/cfr       whoever is given another thought carries it out
    chatvla2/<row>/retention/<part>                         likeliest option less chance, over the base's
    chatvla2/<row>/cost/<stored_over_dense|latency_ms>
    chatvla2/claims/verdicts/<c1...c14>                     1 reproduced, 0 undecided, -1 refuted; missing ones are not

A row is a variant at the greatest length that it has been trained for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import mindhand.evaluate
import mindhand.model
import mindhand.train
import mindhand.worlds
from mindhand.core.record import Record, write_record
from mindhand.data.files import read_json, read_rows
from mindhand.evaluate.claims import judge
from mindhand.evaluate.scores import knew

from . import chatvla2, thoughts, variants
from .grid import BODY, LONGER, OWN, PROTOCOLS, Cell, Grid, evidence, finished

Rows = list[dict[str, Any]]
COLUMNS = {"success": "rate", "choice": "rate", "rac": "rate", "ocr": "mean", "maths": "mean"}
VERDICTS = {"reproduced": 1, "undecided": 0, "refuted": -1}
LEAST = 0.05  # of what is known and of what a told hand does: below, neither can be a yardstick
COMMAND = "mindhand prove chatvla2 --queue && mindhand bench chatvla2"
PACKAGES = (mindhand.model, mindhand.train, mindhand.worlds, mindhand.evaluate, chatvla2, thoughts, variants)


def publish(grid: Grid, folder: Path | None = None) -> Iterator[Record]:
    """All of them, as they are written (under results/, or as drafts under `folder`)."""
    how: dict[str, Any] = {"sources": PACKAGES, "command": COMMAND, "folder": folder}
    for variant in dict.fromkeys(c.variant for c in finished(grid)):
        row = variant.lower().replace("/", "-")
        name = f"chatvla2/{row}"
        for family in (*PROTOCOLS, *BODY):
            cells = longest(grid, variant, family)
            for path, field, kind, rows, chance in measured(grid, cells):
                unit = "points" if kind == "mean" else "1"
                at = f"{name}/{family}/{path}" if family in PROTOCOLS else f"chatvla2/bridge/d/{family}/{row}/{path}"
                yield write_record(at, rows=rows, field=field, kind=kind, unit=unit, chance=chance, **how)
        cells = longest(grid, variant, "maths")
        if scans := [{**r, "training": _training(grid, c)} for c in cells for r in grid.rows(c, "scanned")]:
            what = {"field": "success", "kind": "rate", "unit": "1", "chance": None}
            rows = [_slim(r, success=r["success"]) for r in scans]
            yield write_record(f"{name}/scanned_digits_success", rows=rows, **what, **how)
        for part, rows in retained(grid, cells):
            what = {"field": "kept/known", "kind": "quotient", "unit": "1", "chance": 0.0}
            yield write_record(f"{name}/retention/{part}", rows=rows, **what, **how)
        yield from _costs(grid, cells, f"{name}/cost", how)
    rows_of: Rows = [
        {"key": found.id, "verdict": VERDICTS[found.verdict], "why": found.why}
        for found in judge(evidence(grid))
        if found.verdict in VERDICTS
    ]
    for row in rows_of:
        what = {"field": "verdict", "kind": "mean", "unit": "verdict", "chance": None}
        yield write_record(f"chatvla2/claims/verdicts/{row['key'].lower()}", rows=[row], **what, **how)


def longest(grid: Grid, variant: str, family: str) -> list[Cell]:
    """A variant's trainings at the greatest length that any of them has."""
    done = [c for c in finished(grid) if (c.variant, c.family) == (variant, family)]
    most = max((c.longer for c in done), default=LONGER[0])
    return [c for c in done if c.longer == most]


def measured(grid: Grid, cells: Sequence[Cell]) -> Iterator[tuple[str, str, Any, Rows, float | None]]:
    """(class/measure, column, kind, rows, chance) of the episodes of a variant on one family."""

    def of(arm: str) -> Rows:
        return [{**r, "training": _training(grid, c)} for c in cells for r in grid.rows(c, arm)]

    own = [r for arm in OWN for r in of(arm)]
    for task in dict.fromkeys(r["task"] for r in own):
        here, split = [r for r in own if r["task"] == task], task.split("/")[1].lower()
        for column, kind in COLUMNS.items():
            some = [_slim(r, **{column: r[column]}) for r in here if r.get(column) is not None]
            if some:
                chances = [r[f"{column}_chance"] for r in here if r.get(f"{column}_chance") is not None]
                chance = sum(chances) / len(chances) if chances else None
                yield f"{split}/{column}", column, kind, some, chance
        misled = [_slim(r, rac=bool(r["rac"])) for r in of("misled") if r["task"] == task]
        if misled:  # who takes nothing obeys not
            yield f"{split}/cfr", "rac", "rate", misled, None
        told = {(r["training"], r["key"]): bool(r["success"]) for r in of("told") if r["task"] == task}
        known = {r["key"]: knew(r) for r in base_rows(grid, cells) if r["task"] == task}
        te = [
            _slim(
                r, success=float(r["success"]), told=float(told[r["training"], r["key"]]), known=float(known[r["key"]])
            )
            for r in here
            if (r["training"], r["key"]) in told and r["key"] in known
        ]
        if te and min(sum(r[n] for r in te) / len(te) for n in ("told", "known")) >= LEAST:
            yield f"{split}/te", "success/known*told", "quotient", te, None


def base_rows(grid: Grid, cells: Sequence[Cell]) -> Rows:
    """Episodes of F0 on the same family: its mind is the VLM as it was, so what it thinks first is what that knew."""
    done = set(finished(grid))
    base = next((b for c in cells if (b := replace(c, variant="F0", longer=1)) in done), None)
    return grid.rows(base) if base else []


def _training(grid: Grid, cell: Cell) -> str:
    """What rows call a training: its number, or the fingerprint of weights that are shipped."""
    done = grid.root / cell.path / "done.json"
    return read_json(done, "cell")["checkpoint"] if variants.GRID[cell.variant].ships else str(cell.training)


def _slim(row: dict[str, Any], **measures: Any) -> dict[str, Any]:
    return {"key": row["key"], "training": row["training"], **measures}


def retained(grid: Grid, cells: Sequence[Cell]) -> Iterator[tuple[str, Rows]]:
    """(part, rows) of the scorecard: by item what is right of a cell's options and of the base's, chance taken off."""
    file = grid.root / "base.jsonl"
    base = {r["key"]: r for r in read_rows(file)} if file.exists() else {}
    cards = [(c, read_rows(grid.root / c.path / "scorecard.jsonl")) for c in cells]
    for part in dict.fromkeys(r["part"] for _, card in cards for r in card):
        rows = [
            {"key": r["key"], "training": _training(grid, c), "kept": r["likely"] - r["chance"],
             "known": base[r["key"]]["likely"] - r["chance"]}
            for c, card in cards for r in card if r["part"] == part and r["key"] in base
        ]  # fmt: skip
        if rows and sum(r["known"] for r in rows) > LEAST * len(rows):
            yield part, rows


def _costs(grid: Grid, cells: Sequence[Cell], name: str, how: dict[str, Any]) -> Iterator[Record]:
    dense = next((c for v in ("F0", "B1") for c in finished(grid) if c.variant == v and _cost(grid, c)), None)
    ours = next((c for c in cells if _cost(grid, c)), None)
    if dense and ours:
        row = {"key": ours.path, "stored": _cost(grid, ours)["stored"], "dense": _cost(grid, dense)["stored"]}
        what = {"field": "stored/dense", "kind": "ratio", "unit": "1", "chance": None}
        yield write_record(f"{name}/stored_over_dense", rows=[row], **what, **how)
    timed = [
        {**row, "training": _training(grid, c)}
        for c in cells
        if (file := grid.root / c.path / "latency.jsonl").exists()
        for row in read_rows(file)
    ]
    if timed:
        what = {"field": "ms", "kind": "mean", "unit": "ms", "chance": None}
        yield write_record(f"{name}/latency_ms", rows=timed, **what, **how)


def _cost(grid: Grid, cell: Cell) -> dict[str, Any]:
    file = grid.root / cell.path / "cost.json"
    return read_json(file, "cost") if file.exists() else {}
