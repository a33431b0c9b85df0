"""Experiments of the methods, a file each (`PROOF`), on the common bench (`bench.py`).

A proof's cells are its arms, several trainings of each; they are run by the queue (`mindhand prove NAME --queue`), and
become records when all of them are done (`mindhand bench proofs`).
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any

from rich.console import Console
from rich.table import Table

from mindhand.core.card import TRAININGS
from mindhand.core.errors import BadData
from mindhand.core.record import Record, measure, write_record
from mindhand.methods import method as of_catalogue

from ..queue import run_jobs
from . import bench
from .bench import BASELINE, Arm, Bench, Stand, prepare, run_cell


@dataclass(frozen=True)
class Proof:
    """What shows a method's claim. method: of the catalogue; bench: whose base it is put into; arms: the method's own,
    which has its name, then the controls that its specification names. chance: of a guesser's success where the claim
    is decided. scores: what else of an episode is compared than its success. apart: tasks of the protocol that are told
    apart, by a word; those of "", or all where it is not there, decide the claim."""

    method: str
    bench: Bench
    arms: tuple[Arm, ...]
    trainings: int = TRAININGS
    chance: float | None = None
    scores: tuple[str, ...] = ()
    apart: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = [BASELINE, *(a.name for a in self.arms)]
        if names[1:2] != [self.method] or len(set(names)) != len(names):
            raise BadData(f"proof of '{self.method}' with arms {names}", "its own first, each once", "correct PROOF")
        if self.bench.base != of_catalogue(self.method).card.base:
            raise BadData(f"proof of '{self.method}' on '{self.bench.base}'", "the base on its card", "correct either")
        for word, tasks in self.apart.items():
            if not tasks or set(tasks) - set(self.bench.protocol.tasks):
                what = f"proof of '{self.method}' tells {tasks} apart as '{word}'"
                raise BadData(what, f"some of {self.bench.protocol.tasks}", "correct PROOF")

    @property
    def all(self) -> tuple[Arm, ...]:
        """The bench's own base, then those of the proof."""
        return (Arm(BASELINE), *self.arms)

    @property
    def parts(self) -> Mapping[str, tuple[str, ...]]:
        """The tasks by the word that they are told apart by, first those that decide the claim: ""."""
        return {"": self.bench.protocol.tasks, **self.apart}


@dataclass(frozen=True)
class Cell:
    """One training of one arm."""

    proof: str
    arm: str
    training: int

    def __str__(self) -> str:
        return f"{self.proof}/{self.arm}/{self.training}"


@cache
def proofs() -> Mapping[str, Proof]:
    """All proofs by method. BadData for a file that holds another method's."""
    out: dict[str, Proof] = {}
    for found in pkgutil.iter_modules(__path__):
        if found.name == "bench":
            continue
        proof = getattr(_module(found.name), "PROOF", None)
        if not isinstance(proof, Proof) or proof.method != found.name:
            raise BadData(f"proofs/{found.name}.py", f"PROOF = Proof('{found.name}', ...)", "see proofs/__init__")
        out[found.name] = proof
    return out


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"{__name__}.{name}")


def stand(proof: Proof, nano: Path, run: Path) -> Stand:
    """Where its cells are: those of a bench lie together, so that all its proofs share one baseline."""
    return Stand(proof.bench, nano, run)


def due(names: tuple[str, ...], nano: Path, run: Path) -> Iterator[Cell]:
    """Cells that are not done, all arms of one training before the next one; a baseline that two share comes once."""
    known, seen = proofs(), set()
    stands = {name: stand(known[name], nano, run) for name in names}
    for n in range(max((known[name].trainings for name in names), default=0)):
        for name, at in stands.items():
            for arm in known[name].all if n < known[name].trainings else ():
                if not at.done(arm.name, n) and at.folder(arm.name, n) not in seen:
                    seen.add(at.folder(arm.name, n))
                    yield Cell(name, arm.name, n)


def _work(nano: Path, run: Path, cell: Cell, console: Console) -> None:
    proof = proofs()[cell.proof]
    arm = next(a for a in proof.all if a.name == cell.arm)
    run_cell(stand(proof, nano, run), arm, cell.training, console)


def run_proofs(names: tuple[str, ...], nano: Path, run: Path, minutes: float, workers: int, console: Console) -> int:
    """Run what is due of these for so many minutes (`run_jobs`); returns how many cells were finished."""

    def ready(cell: Cell) -> None:
        prepare(stand(proofs()[cell.proof], nano, run), console)

    work = partial(_work, nano, run)
    return run_jobs(partial(due, names, nano, run), work, minutes, workers, console, before=ready)


def rows_of(proof: Proof, at: Stand, arm: str, part: str = "") -> list[dict[str, Any]]:
    """Episodes of an arm's trainings that are done, of the tasks told apart so, as records take them: key, success and
    the proof's other scores, training."""
    done = [n for n in range(proof.trainings) if at.done(arm, n)]
    tasks = proof.parts[part]
    every = ((n, r) for n in done for r in at.rows(arm, n) if r["task"] in tasks)
    names = ("key", "success", *proof.scores)
    return [{**{name: r[name] for name in names}, "training": str(n)} for n, r in every]


def effect(proof: Proof, at: Stand, over: str = BASELINE, part: str = "") -> list[dict[str, Any]]:
    """Episodes of the method ("on") and of another arm ("off"), of trainings that both have."""
    sides = {side: rows_of(proof, at, arm, part) for side, arm in (("on", proof.method), ("off", over))}
    both = set.intersection(*({r["training"] for r in rows} for rows in sides.values()))
    return [{**r, "arm": side} for side, rows in sides.items() for r in rows if r["training"] in both]


def table(names: tuple[str, ...], nano: Path, run: Path) -> Table:
    """What is known so far: every arm's success, and the method's difference to it."""
    out = Table("proof", "arm", "tasks", "trainings", "success", "method is better by", title="proofs")
    for name in names:
        proof = proofs()[name]
        at = stand(proof, nano, run)
        for part, arm in product(proof.parts, proof.all):
            rows = rows_of(proof, at, arm.name, part)
            if not rows:
                continue
            found, each = measure(rows, "success", "rate")
            pairs = effect(proof, at, arm.name, part) if arm.name != proof.method else []
            better = measure(pairs, "success", "difference")[0] if pairs else None
            shown = "" if better is None else f"{better.value:+.3f} ({better.low:+.3f} to {better.high:+.3f})"
            out.add_row(name, arm.name, part, str(max(1, len(each))), f"{found.value:.3f}", shown)
    return out


def publish(nano: Path, run: Path, folder: Path | None = None) -> Iterator[Record]:
    """Records of all proofs whose cells are done: proofs/<method>/baseline, /method, /effect, and of every control
    proofs/<method>/control_<its name> and /over_<its name>; the same of tasks that are told apart by a word, as
    /<word>_baseline and so on; of other scores than success, of all tasks, /<score> the difference and
    /<score>_baseline and so on; what is measured besides as proofs/<method>/<metric>, /control_<its name>_<metric>, of
    the rows that have it;
    folder: for drafts, results/ unless given."""
    for name, proof in proofs().items():
        at = stand(proof, nano, run)
        if [*due((name,), nano, run)]:
            continue
        sources = [_module(name), of_catalogue(name).module, bench]
        command = f"mindhand prove {name} --queue && mindhand bench proofs"
        where: dict[str, Any] = {"sources": sources, "folder": folder, "command": command}
        for arm in proof.all:
            of = "" if arm.name == name else f"control_{arm.name}_"
            every = [
                {**r, "training": str(n)}
                for n in range(proof.trainings if arm.measure else 0) for r in at.measured(arm.name, n)
            ]  # fmt: skip
            for metric, (kind, field_, unit) in (arm.measure.metrics if arm.measure else {}).items():
                rows = [r for r in every if set(re.split(r"[/*]", field_)) <= r.keys()]
                how = {"unit": unit, "chance": arm.measure.chance.get(metric), **where}
                if rows:
                    yield write_record(f"proofs/{name}/{of}{metric}", rows=rows, kind=kind, field=field_, **how)
        # A score, of which tasks, what stands before the names of its records, and the name of its difference.
        compared = [(score, "", f"{score}_", score) for score in proof.scores]
        compared += [("success", part, (of := f"{part}_" if part else ""), f"{of}effect") for part in proof.parts]
        for (score, part, of, differs), arm in product(compared, proof.all):
            how = {"field": score, "unit": "1", **where}
            label = {BASELINE: BASELINE, name: "method"}.get(arm.name, f"control_{arm.name}")
            chance = proof.chance if score == "success" and not part else None
            rows, to = rows_of(proof, at, arm.name, part), f"proofs/{name}"
            yield write_record(f"{to}/{of}{label}", rows=rows, kind="rate", chance=chance, **how)
            if arm.name != name:
                over = differs if arm.name == BASELINE else f"{of}over_{arm.name}"
                pairs = effect(proof, at, arm.name, part)
                yield write_record(f"{to}/{over}", rows=pairs, kind="difference", chance=None, **how)
