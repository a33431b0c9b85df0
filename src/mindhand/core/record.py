"""Records: measured numbers that carry their evidence. No rate can be written from a number, only from rows.

A row is one episode, one item or one timing: a flat dictionary of JSON values. Columns with a meaning here:
"key" (names the item; no two rows may share it within a training and an arm), "training" (which training run
the row tests), "arm" ("on" or "off", for differences). Whatever else a row holds is kept with it.

    results/<area>/<what>.json             the records of one writer, by name "area/what/variant" (folders may nest)
    results/rows/<area>/<what>/<hash>.jsonl.gz   the rows they were computed from

Other folders (runs/...) take drafts: records of a changed tree, or of an installed package without a checkout.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import math
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, get_args

import numpy as np

from . import provenance
from .errors import BadData
from .files import locked, write_atomic
from .intervals import Interval, bootstrap, hierarchical, quotient, wilson
from .keys import Key

Kind = Literal["rate", "mean", "ratio", "difference", "quotient"]
Row = Mapping[str, Any]
FORMAT = 1
COMMITTED = 512 * 1024  # bytes of compressed rows that are committed; larger ones stay in runs/ and are hashed
NAME = re.compile(r"[a-z0-9][a-z0-9_.+=-]*(/[a-z0-9][a-z0-9_.+=-]*){2,}")
HOLDER = re.compile(r"\{\{\s*record:\s*([^}\s]*)\s*\}\}")
_BEGAN = time.monotonic()


@dataclass(frozen=True)
class Record:
    """One measured number: value with its 95 % interval [low, high] over n rows, and where it came from.

    field: the column measured ("slow_s/fast_s" for a ratio). chance: what a guesser gets, None where that has
    no meaning. trainings: the value of each training, where rows name several. rows: {"path", "sha256",
    "count"}, path None where they were too many to commit. dirty: files that differed from the commit (drafts).
    """

    name: str
    kind: Kind
    field: str
    unit: str
    value: float
    low: float
    high: float
    n: int
    method: str
    chance: float | None
    trainings: Mapping[str, float]
    rows: Mapping[str, Any]
    sources: Mapping[str, str]
    command: str
    commit: str
    dirty: tuple[str, ...]
    versions: Mapping[str, str]
    hardware: Mapping[str, str | int]
    seconds: float
    date: str

    @property
    def writer(self) -> str:
        """ "area/what": the file that holds it."""
        return self.name.rpartition("/")[0]

    def show(self) -> str:
        """The number as documents print it: "82.7 % (70.3 to 90.6, n = 52, chance 25.0 %)"."""
        rate = self.kind == "rate" or (self.kind == "difference" and self.unit == "1")
        scale, unit = (100, " points" if self.kind == "difference" else " %") if rate else (1, f" {self.unit}")
        unit = "×" if self.kind in ("ratio", "quotient") else unit

        def number(x: float) -> str:
            return f"{100 * x:.1f}" if rate else f"{x:.3g}" if abs(x) < 1000 else f"{x:.0f}"

        chance = "" if self.chance is None else f", chance {self.chance * scale:.3g}{unit}"
        return f"{number(self.value)}{unit} ({number(self.low)} to {number(self.high)}, n = {self.n}{chance})"


def _column(rows: Sequence[Row], name: str) -> np.ndarray:
    out = np.empty(len(rows))
    for i, row in enumerate(rows):
        x = row.get(name)
        number = isinstance(x, bool | int | float | np.bool_ | np.integer | np.floating)
        if not number or not math.isfinite(x):
            raise BadData(
                f"row {i} (key {row.get('key')}): '{name}' is {x!r}",
                "a finite number in every row",
                "a failed episode is a row with False, not a missing row or a missing value",
            )
        out[i] = x
    return out


def _check_rows(rows: Sequence[Row]) -> None:
    if (
        isinstance(rows, Mapping)
        or not isinstance(rows, Sequence)
        or not rows
        or not all(isinstance(r, Mapping) for r in rows)
    ):
        raise BadData(f"rows are a {type(rows).__name__}", "a list of one dictionary an episode", "give the rows")
    seen: dict[tuple, int] = {}
    for i, row in enumerate(rows):
        if "key" in row:
            at = (str(row["key"]), str(row.get("training")), str(row.get("arm")))
            if seen.setdefault(at, i) != i:
                raise BadData(
                    f"rows {seen[at]} and {i} are both {at[0]} (training {at[1]}, arm {at[2]})",
                    "every item once in a training and an arm",
                    "an item counted twice makes the interval too narrow; join the parts of a resumed run by key",
                )


def _by_training(rows: Sequence[Row]) -> dict[str, list[Row]]:
    out: dict[str, list[Row]] = {}
    for row in rows:
        out.setdefault(str(row.get("training", "")), []).append(row)
    return dict(sorted(out.items()))


def _key(row: Row) -> str:
    return str(row.get("key"))


def _order(rows: Sequence[Row]) -> list[int]:
    return sorted(range(len(rows)), key=lambda i: _key(rows[i]))


def _paired(rows: Sequence[Row], field: str, training: str) -> np.ndarray:
    """One difference on - off an item, in the order of the keys."""
    arms: dict[str, dict[str, float]] = {"on": {}, "off": {}}
    for row, x in zip(rows, _column(rows, field)):
        if row.get("arm") not in arms or "key" not in row:
            raise BadData(f"a row with arm {row.get('arm')!r}", "arm 'on' or 'off', and a key", "name both")
        arms[row["arm"]][_key(row)] = float(x)
    if odd := sorted(set(arms["on"]) ^ set(arms["off"])):
        raise BadData(
            f"training '{training}': {len(odd)} items in one arm only, first {odd[0]}",
            "the same items in both arms",
            "run both arms on the same keys: a difference is taken item by item",
        )
    return np.array([arms["on"][k] - arms["off"][k] for k in sorted(arms["on"])])


def measure(rows: Sequence[Row], field: str, kind: Kind) -> tuple[Interval, dict[str, float]]:
    """The interval of one column of the rows, and the value of each training where rows name several.

    rate: the column is bool; Wilson's interval, widened to the hierarchical bootstrap's where there are several
    trainings. mean: bootstrap, hierarchical over trainings. ratio: `field` "a/b" names two columns measured in
    turns; median of a/b with a bootstrap interval. quotient: `field` "a/b*c", the mean of a over the product of the
    other columns' means, over trainings on the same keys. difference: mean of on - off, paired by key in a training.
    """
    _check_rows(rows)
    groups = _by_training(rows)
    if kind == "ratio":
        above, _, below = field.partition("/")
        a, b = _column(rows, above), _column(rows, below)
        if (b <= 0).any() or (a <= 0).any():
            raise BadData(f"ratio '{field}' of numbers that are not positive", "durations above zero", "time it again")
        return bootstrap(a / b, "median"), {}
    if kind == "quotient":
        above, _, below = field.partition("/")
        names = (above, *below.split("*"))
        tested = [sorted(map(_key, part)) for part in groups.values()]
        if any(t != tested[0] for t in tested):
            raise BadData(f"quotient '{field}' over trainings on other items", "the same keys", "leave trainings out")
        return quotient(*(np.stack([_column(p, n)[_order(p)] for p in groups.values()]) for n in names)), {}
    if kind == "difference":
        values = {name: _paired(part, field, name) for name, part in groups.items()}
    elif kind in ("rate", "mean"):
        if len(arms := {str(row.get("arm")) for row in rows}) > 1:
            raise BadData(f"one {kind} over the arms {sorted(arms)}", "rows of one arm", "write a record for each arm")
        values = {name: _column(part, field)[_order(part)] for name, part in groups.items()}
    else:
        raise BadData(f"kind '{kind}'", f"one of {get_args(Kind)}", "choose one")
    each = {name: float(x.mean()) for name, x in values.items()} if len(values) > 1 else {}
    # The same scenes met by every training are no new scenes.
    tested = [sorted({_key(row) for row in part}) for part in groups.values()]
    same = all("key" in row for row in rows) and all(t == tested[0] for t in tested)
    found = hierarchical(list(values.values()), same_items=same)
    if kind != "rate":
        return found, each
    pooled = np.concatenate(list(values.values()))
    if not np.isin(pooled, (0, 1)).all():
        raise BadData(f"rate of '{field}', which is not true or false in every row", "bool", "kind 'mean'?")
    interval = wilson(int(pooled.sum()), len(pooled))
    if each:
        low, high = max(0.0, min(interval.low, found.low)), min(1.0, max(interval.high, found.high))
        interval = Interval(found.value, low, high, interval.n, "wilson and hierarchical")
    return interval, each


def _plain(x: Any) -> Any:
    if isinstance(x, np.generic | np.ndarray):
        return x.tolist()
    if isinstance(x, Key):
        return str(x)
    raise TypeError(f"a {type(x).__name__} in a row")


def _pack(rows: Sequence[Row]) -> tuple[bytes, str]:
    """(gzip bytes, sha256 of the text): the same rows give the same bytes on every machine."""
    try:
        lines = [json.dumps(dict(r), sort_keys=True, allow_nan=False, default=_plain) for r in rows]
    except (TypeError, ValueError) as error:
        raise BadData(f"a row cannot be stored: {error}", "finite JSON values and Keys", "convert it first") from error
    text = ("\n".join(lines) + "\n").encode()
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", filename="", mtime=0, compresslevel=9) as file:
        file.write(text)
    return buffer.getvalue(), hashlib.sha256(text).hexdigest()


def results_folder() -> Path | None:
    """results/ of the checkout that this code runs from, or None for an installed package."""
    root = provenance.checkout(__file__)
    return root / "results" if root else None


def write_record(
    name: str,
    *,
    rows: Sequence[Row],
    field: str,
    kind: Kind,
    unit: str,
    chance: float | str | None,
    sources: Sequence[str | Path | ModuleType],
    command: str | None = None,
    seconds: float | None = None,
    folder: Path | str | None = None,
) -> Record:
    """Compute a record from rows and write it, replacing one of the same name.

    name "area/what/variant"; chance a rate, or the column that holds each row's chance, or None; sources: the
    modules or files that made the number; command: this process's command line unless given; seconds: what the
    measurement took, the life of this process unless given; folder: results/ of the checkout unless given.
    results/ refuses a tree that differs from its commit (BadData); any other folder takes it as a draft.
    """
    if not NAME.fullmatch(name):
        raise BadData(f"record name '{name}'", "'area/what/variant' in [a-z0-9_.+=-]", "rename it")
    files = provenance.source_files(sources)
    roots = sorted({r for r in map(provenance.checkout, files) if r})
    home = results_folder() if folder is None else Path(folder).resolve()
    if home is None:
        raise BadData("no checkout, so no results/", "a folder for drafts", "give folder='runs/...'")
    changed = sorted({line for root in roots for line in provenance.dirty(root, files)})
    # results/ of the checkout the code is in, and of the one the folder is in: neither is fooled by the other
    finals = {r / "results" for r in (*roots, provenance.checkout(home)) if r}
    final = any(home.is_relative_to(place) for place in finals)
    if final and (changed or not roots):
        raise BadData(
            f"results/ cannot take '{name}' from a tree that differs from its commit: "
            + (", ".join(changed) or "its sources are in no checkout"),
            "committed sources",
            "commit them and measure again, or write a draft with folder='runs/...'",
        )
    interval, each = measure(rows, field, kind)
    if isinstance(chance, str):
        chance = float(_column(rows, chance).mean())
    data, digest = _pack(rows)
    writer = name.rpartition("/")[0]
    path: str | None = f"rows/{writer}/{digest[:12]}.jsonl.gz"
    if final and len(data) > COMMITTED:
        path = None
    record = Record(
        name=name,
        kind=kind,
        field=field,
        unit=unit,
        **asdict(interval),
        chance=chance,
        trainings=each,
        rows={"path": path, "sha256": digest, "count": len(rows)},
        sources={provenance.source_name(f): provenance.source_hash(f) for f in files},
        command=provenance.command() if command is None else command,
        commit="+".join(map(provenance.commit, roots)) or "unknown",
        dirty=tuple(changed),
        versions=provenance.versions(),
        hardware=provenance.hardware(),
        seconds=round(time.monotonic() - _BEGAN if seconds is None else seconds, 1),
        date=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    )
    home.mkdir(parents=True, exist_ok=True)
    with locked(home):  # one writer at a time; replacing files is atomic everywhere
        write_atomic(_rows_file(home, record), data)
        file = home / f"{writer}.json"
        records = _read_file(file) if file.exists() else {}
        records[name] = record
        body = {"format": FORMAT, "records": {k: asdict(v) for k, v in sorted(records.items())}}
        write_atomic(file, json.dumps(body, indent=1, sort_keys=True, allow_nan=False) + "\n")
        used = {r.rows["path"] for r in records.values()}
        for old in (home / "rows" / writer).glob("*.jsonl.gz"):
            if old.relative_to(home).as_posix() not in used:
                old.unlink()
    return record


def _rows_file(home: Path, record: Record) -> Path:
    if record.rows["path"]:
        return home / record.rows["path"]
    return home.parent / "runs" / "rows" / record.writer / f"{record.rows['sha256'][:12]}.jsonl.gz"


def _read_file(file: Path) -> dict[str, Record]:
    try:
        body = json.loads(file.read_text())
        if body["format"] != FORMAT:
            raise BadData(f"{file.name} has format {body['format']}", f"format {FORMAT}", "update mindhand")
        return {k: Record(**{**v, "dirty": tuple(v["dirty"])}) for k, v in body["records"].items()}
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise BadData(f"{file} is not a file of records: {error}", "what write_record writes", "restore it") from error


def read_records(folder: Path | str | None = None) -> dict[str, Record]:
    """All records under a folder (results/ of the checkout unless given), by name; {} where there is none."""
    home = results_folder() if folder is None else Path(folder)
    if home is None or not home.exists():
        return {}
    found = [_read_file(file) for file in sorted(home.rglob("*.json"))]
    return dict(sorted((k, v) for part in found for k, v in part.items()))


def read_rows(record: Record, folder: Path | str | None = None) -> list[dict[str, Any]]:
    """The rows of a record; BadData where they are absent, damaged or not those it was computed from."""
    home = results_folder() if folder is None else Path(folder)
    file = None if home is None else _rows_file(home.resolve(), record)
    if file is None or not file.exists():
        raise BadData(f"rows of '{record.name}' are not here", "the rows it was computed from", "measure it again")
    try:
        text = gzip.decompress(file.read_bytes())
    except (OSError, EOFError, ValueError) as error:
        raise BadData(f"{file.name} is damaged: {error}", "whole gzip", "restore it from git") from error
    if hashlib.sha256(text).hexdigest() != record.rows["sha256"]:
        raise BadData(f"{file.name} is not what '{record.name}' was computed from", "its sha256", "restore it from git")
    return [json.loads(line) for line in text.splitlines()]


def recompute(record: Record, folder: Path | str | None = None) -> Record:
    """The record as its stored rows give it now. Equal to `record` unless it was edited or the formula changed."""
    interval, each = measure(read_rows(record, folder), record.field, record.kind)
    return replace(record, **asdict(interval), trainings=each)


def older_code(record: Record, root: Path | None = None) -> list[str]:
    """The sources that changed or went since the record was made; [] where it is still what the code gives.
    `root` is the checkout of sources outside the package."""
    root = root or provenance.checkout(__file__)
    out = []
    for name, digest in record.sources.items():
        inside = name.startswith("src/mindhand/")
        path = provenance.PACKAGE / name[len("src/mindhand/") :] if inside else (root or Path()) / name
        if not path.exists() or provenance.source_hash(path) != digest:
            out.append(name)
    return out


OLDER = " (*older code*)"  # behind a number that was measured before the code changed


def fill(text: str, records: Mapping[str, Record] | None = None) -> str:
    """`text` with every placeholder `{{record:area/what/variant}}` replaced by the number, its interval and n,
    marked where the code is older. BadData names a record that does not exist."""
    known = read_records() if records is None else records

    def put(match: re.Match[str]) -> str:
        name = match[1]
        if name not in known:
            near = [k for k in known if k.split("/")[:2] == name.split("/")[:2]] or sorted(known)[:5]
            raise BadData(f"no record '{name}'", f"one of {near}", "measure it, or correct the placeholder")
        return known[name].show() + (OLDER if older_code(known[name]) else "")

    return HOLDER.sub(put, text)
