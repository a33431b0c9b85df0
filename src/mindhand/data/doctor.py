"""`doctor(path)`: what is wrong with a dataset, before a training is spent on it.

An *error* is what training would refuse or silently learn wrongly; a *warning* is what somebody should look at.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from mindhand.core.errors import Refusal
from mindhand.core.spec import Spec

from . import lerobot_format as form
from .lerobot_stage import staged_files
from .opening import open_dataset
from .reader import Reader
from .sheet import contact_sheet
from .statistics import floors

if TYPE_CHECKING:
    from rich.console import Console

LOOK = 400  # pictures looked at, over all cameras, evenly spread
BLACK = 8.0  # mean level of 0..255 under which a picture counts as black


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    severity: Literal["error", "warning", "fine"]
    check: str
    what: str


@dataclass
class Report:
    """What was found; `exit_code` is 1 if anything is an error. sheet: the contact sheet, if one was drawn."""

    path: Path
    findings: list[Finding] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=dict)
    sheet: Path | None = None

    def add(self, check: str, what: str, severity: Literal["error", "warning", "fine"]) -> None:
        """One more line."""
        self.findings.append(Finding(severity, check, what))

    @property
    def errors(self) -> list[Finding]:
        """The findings that forbid training."""
        return [f for f in self.findings if f.severity == "error"]

    @property
    def exit_code(self) -> int:
        """For the shell."""
        return 1 if self.errors else 0

    def print(self, console: Console | None = None) -> None:
        """As two tables."""
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        console = console or Console()
        about = Table(title=f"dataset {self.path}", show_header=False)
        for name, value in self.facts.items():
            about.add_row(name, Text(value))
        console.print(about)
        table = Table(show_header=False)
        colour = {"error": "bold red", "warning": "yellow", "fine": "green"}
        for f in sorted(self.findings, key=lambda f: ("error", "warning", "fine").index(f.severity)):
            table.add_row(Text(f.severity, colour[f.severity]), f.check, Text(f.what))
        console.print(table)
        if self.sheet:
            console.print(f"what the model sees: {self.sheet}", highlight=False)


def doctor(
    path: Path | str,
    spec: Spec | None = None,
    *,
    sheet: Path | str | None = None,
    cameras: dict[str, str] | None = None,
) -> Report:
    """Examines the dataset at `path`, of any layout that is known; never raises for what is wrong with it.

    spec, cameras: as for `open_dataset`. sheet: where to write a contact sheet of what the model sees.
    """
    report = Report(Path(path))
    try:
        reader = open_dataset(path, spec, cameras=cameras, refuse=False)
    except Refusal as refusal:
        report.add("format", str(refusal), "error")
        return report
    report.add("format", f"{reader.layout}, {len(reader.files)} data files", "fine")
    for problem in reader.problems:
        report.add("values", str(problem), "error")
    _facts(reader, report)
    for check in (_unfinished, _lengths, _dimensions, _stated, _time, _duplicates, _instructions, _reasoning, _success):
        check(reader, report)
    _pictures(reader, report)
    if sheet is not None and not report.errors:
        picked = np.unique(np.linspace(0, len(reader.episodes) - 1, 4).astype(int))
        report.sheet = contact_sheet(reader, sheet, picked.tolist())
    return report


def _facts(reader: Reader, report: Report) -> None:
    spec = reader.spec
    lengths = reader.ends - reader.begins
    report.facts |= {
        "robot": f"{spec.robot}, spec {spec.fingerprint()}, {spec.rate:g} Hz",
        "episodes": f"{len(lengths)}, {len(reader)} frames, {len(reader) / spec.rate / 60:.1f} minutes",
        "length": f"{lengths.min()} to {lengths.max()} frames, median {np.median(lengths):g}",
        "action": ", ".join(spec.action_names()),
        "state": ", ".join(spec.state_names()),
    }
    for camera in spec.cameras:
        made = f"{camera.source[0]}x{camera.source[1]}, stored as {reader.pictures} "
        made += reader.stored[camera.role]
        how = f" -> {camera.height}x{camera.width} by {camera.interpolation}, crop {camera.crop:g}"
        report.facts[f"camera {camera.role}"] = made + ("" if camera.interpolation == "none" else how)
    for name in ("scene", "commands"):
        if reader.about.get(name):
            report.facts[name] = str(reader.about[name])


def _some(numbers: Sequence[int] | np.ndarray) -> str:
    shown = ", ".join(str(int(n)) for n in numbers[:6])
    return shown + (f" and {len(numbers) - 6} more" if len(numbers) > 6 else "")


def _unfinished(reader: Reader, report: Report) -> None:
    if staged := staged_files(reader.path):
        report.add("finished", f"{len(staged)} recorded episodes are not committed: finish the recording", "warning")


def _lengths(reader: Reader, report: Report) -> None:
    """Beyond three interquartile ranges: Tukey's "far out"."""
    lengths = reader.ends - reader.begins
    low, high = np.quantile(lengths, (0.25, 0.75))
    reach = 3 * max(high - low, 0.05 * float(np.median(lengths)), 1.0)
    odd = np.flatnonzero((lengths < low - reach) | (lengths > high + reach))
    if odd.size:
        report.add("length", f"unusual lengths ({low:g} to {high:g} is usual): episodes {_some(odd)}", "warning")
    if (short := np.flatnonzero(lengths < 2)).size:
        report.add("length", f"episodes of one frame: {_some(short)}", "error")


def _dimensions(reader: Reader, report: Report) -> None:
    spec = reader.spec
    for what, x, names, parts in (
        ("action", reader.action, spec.action_names(), spec.action),
        ("state", reader.state, spec.state_names(), spec.state),
    ):
        dead = np.flatnonzero(np.nan_to_num(np.ptp(x, axis=0), nan=np.inf) < floors(parts))
        if dead.size == len(names):
            report.add("dimensions", f"no dimension of {what} ever moves", "error")
        elif dead.size:
            report.add("dimensions", f"{what} never moves in {', '.join(names[d] for d in dead)}", "warning")
        else:
            report.add("dimensions", f"all {len(names)} of {what} move", "fine")


def _stated(reader: Reader, report: Report) -> None:
    """Statistics that lie beside a dataset, which other tools train with, against its numbers."""
    try:
        stated = reader.stated()
    except Refusal as refusal:
        report.add("statistics", f"none that other tools could train with: {refusal.what}", "warning")
        return
    for name, x in ((form.STATE, reader.state), (form.ACTION, reader.action)):
        if name not in stated or not np.isfinite(x).all():
            continue
        for end, own in (("min", x.min(0)), ("max", x.max(0))):
            said = np.ravel(stated[name].get(end, []))
            if said.shape != own.shape or not np.allclose(said, own, rtol=1e-3, atol=1e-3 * float(np.ptp(x)) + 1e-6):
                what = f"those stored beside it are of other data: {end} of '{name}' is {said.tolist()}"
                report.add("statistics", f"{what}, and {own.tolist()} by its numbers", "warning")
                return


def _time(reader: Reader, report: Report) -> None:
    step = np.diff(reader.time.astype(np.float64))[np.diff(reader.episode_index) == 0]
    if step.size:
        worst = float(np.abs(step - 1 / reader.fps).max())
        report.add("time", f"steps of {1000 / reader.fps:g} ms, at most {1000 * worst:.3g} ms off", "fine")


def _duplicates(reader: Reader, report: Report) -> None:
    """The same numbers twice, or the same key twice."""
    seen: dict[bytes, list[int]] = {}
    for i, (state, action) in enumerate(reader.vectors()):
        name = hashlib.blake2b(state.tobytes() + b"|" + action.tobytes(), digest_size=16).digest()
        seen.setdefault(name, []).append(i)
    if twice := [group for group in seen.values() if len(group) > 1]:
        report.add("duplicates", f"equal state and action: episodes {'; '.join(_some(g) for g in twice[:4])}", "error")
    keys = Counter(e.key for e in reader.episodes if e.key is not None)
    if again := [str(k) for k, n in keys.items() if n > 1]:
        report.add("duplicates", f"{len(again)} keys recorded more than once, first {again[0]}", "error")


def _instructions(reader: Reader, report: Report) -> None:
    empty = [e.number for e in reader.episodes if not reader.instruction(e.begin).strip()]
    if empty:
        report.add("instruction", f"empty in episodes {_some(empty)}", "error")
    count = len({reader.instruction(e.begin) for e in reader.episodes})
    report.add("instruction", f"{count} different over {len(reader.episodes)} episodes", "fine")


def _reasoning(reader: Reader, report: Report) -> None:
    if not reader.has_reasoning:
        report.add("reasoning", "none stored: this set can train the hand and not the thought", "warning")
        return
    texts = {i: reader.reasoning(i) for i in range(len(reader))}
    if empty := [i for i, text in texts.items() if not text.strip()]:
        report.add("reasoning", f"empty in {len(empty)} of {len(texts)} frames, first {_some(empty)}", "warning")
    report.add("reasoning", f"{len(set(texts.values()))} different texts", "fine")


def _success(reader: Reader, report: Report) -> None:
    judged = [e.success for e in reader.episodes if e.success is not None]
    if not judged:
        report.add("success", "no episode was judged", "warning")
        return
    share = f"{sum(judged)} of {len(judged)} episodes succeed ({sum(judged) / len(judged):.1%})"
    report.add("success", share, "fine" if sum(judged) >= 0.8 * len(judged) else "warning")


def _pictures(reader: Reader, report: Report) -> None:
    """Decodes the last picture of every film and evenly spread ones of every camera: shapes, black ones, cameras that
    never change."""
    count = max(2, LOOK // max(1, len(reader.spec.roles)))
    index = np.unique(np.linspace(0, len(reader) - 1, count).astype(int))
    first: dict[bytes, str] = {}
    for role in reader.spec.roles:
        try:
            for end in reader.film_ends(role):  # a film that was cut off lacks it
                reader.images(role, [end])
            pictures = reader.images(role, index)
        except Refusal as refusal:
            report.add("pictures", str(refusal), "error")
            continue
        black = index[pictures.reshape(len(index), -1).mean(1) < BLACK]
        if len(black) == len(index):
            report.add("pictures", f"camera '{role}' is all black", "error")
        elif len(black):
            report.add("pictures", f"camera '{role}' is black in {len(black)} of {len(index)} looked at", "warning")
        elif len(index) > 1 and (pictures == pictures[0]).all():
            report.add("pictures", f"camera '{role}' shows one and the same picture throughout", "error")
        else:
            report.add("pictures", f"camera '{role}': {len(index)} pictures decoded, none black", "fine")
        twin = first.setdefault(hashlib.blake2b(pictures.tobytes()).digest(), role)
        if twin != role:
            report.add("pictures", f"cameras '{twin}' and '{role}' show the same pictures", "error")
