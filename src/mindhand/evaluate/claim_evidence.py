"""Evidence for claims: the rows of a grid of trainings, checked so that a difference can be taken row by row.

    Evidence({"B7": {"0": Training(episodes=rows, ...), "1": ...}, "B4": {...}, "base": {"0": ...}})

Cells are compared training by training, by name: the same name means the same seed, and the same stages where two
cells share some. Within a training, scene by scene and item by item.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from mindhand.core.errors import BadData

Row = Mapping[str, Any]
Exam = Literal["episodes", "swapped", "scorecard", "latency"]
EXAMS: tuple[Exam, ...] = ("episodes", "swapped", "scorecard", "latency")
BASE = "base"

# One arm may be given under several names: B7 is also RF-latter and experts-8/2 where it was trained so.
CELLS: Mapping[str, str] = {
    BASE: "the VLM that every cell began with, before any robot's data",
    "B0": "diffusion policy from scratch",
    "B1": "as pi0: dense, robot only, no text",
    "B1-recovered": "B1 after 200 steps on 1 % of the image-text data",
    "B2": "as OpenVLA: dense, robot only, actions as tokens",
    "B3": "as DexVLA: dense, robot only, reasoning and FiLM",
    "B4": "B3 with co-training",
    "B5": "as ChatVLA: two static experts, phased",
    "B6a-raw": "static + dynamic experts, outputs summed",
    "B6a-rescaled": "static + dynamic experts, scaled so that the function is kept at first",
    "B6b-raw": "shared + dynamic experts, outputs summed",
    "B6b-rescaled": "shared + dynamic experts, scaled so that the function is kept at first",
    "B7": "ChatVLA-2",
    "B7-digits": "B7 with image-text data that hold digits and operators",
    "B7-cached": "B7 that thinks only where it decides to",
    "B8a": "dense, as many active FLOPs as B7",
    "B8b": "dense, as many stored parameters as B7",
    "B8c": "dense, a larger VLM",
    "S1-only": "B7 without stage 2, as many steps",
    "S2-robot-only": "stage 2 on a VLM that was tuned on robot data alone",
    "S2-frozen-pretrained": "stage 2 on the base itself",
    "experts-4/2": "B7 with 4 experts, 2 active",
    "experts-6/3": "B7 with 6 experts, 3 active",
    "experts-8/2": "B7 with 8 experts, 2 active",
    "RF-film": "B7, reasoning by FiLM in all layers of the action expert",
    "RF-former": "B7, reasoning in the former half",
    "RF-latter": "B7, reasoning in the latter half",
    "RF-all": "B7, reasoning in all layers",
}


@dataclass(frozen=True)
class Training:
    """The rows of one training; an exam that was not taken is empty.

    episodes: of evaluate/run.py, after evaluate/score.py. swapped: the same, where every thought was replaced by a
    valid one that names another tile, so that `rac` says whether the hand followed it. scorecard: of
    evaluate/scorecard.py. latency: one a query, {"key", "ms" of the query, "reasoning_ms" of it, "device"}.
    """

    episodes: Sequence[Row] = ()
    swapped: Sequence[Row] = ()
    scorecard: Sequence[Row] = ()
    latency: Sequence[Row] = ()

    def groups(self) -> dict[tuple[Exam, str], list[Row]]:
        """The rows by exam, and by task or part of the scorecard ("" for latency)."""
        out: dict[tuple[Exam, str], list[Row]] = {}
        for exam in EXAMS:
            name = {"scorecard": "part", "latency": ""}.get(exam, "task")
            for row in getattr(self, exam):
                if lost := {"key", name or "key"} - set(row):
                    raise BadData(f"{exam}: a row without {sorted(lost)}", "both in every row", "evaluate again")
                out.setdefault((exam, str(row[name]) if name else ""), []).append(row)
        return out


@dataclass(frozen=True)
class Evidence:
    """The rows of a grid: cell -> name of the training -> its rows.

    Refused (BadData): a cell that CELLS does not list; a row without a key, or twice in a training; two protocols of
    one task family, two versions of the scorecard or two sets of its items; latencies of several devices; a base of
    several trainings; a task or part whose keys are not the same, in the same order, in every training of every cell
    that has it.
    `groups` are the rows by exam and task, `taken` the numbers of trainings that were already asked for.
    """

    cells: Mapping[str, Mapping[str, Training]]
    groups: Mapping[str, Mapping[str, Mapping[tuple[Exam, str], list[Row]]]] = field(init=False, repr=False)
    taken: dict[tuple, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.cells) - set(CELLS)):
            raise BadData(f"cells {unknown}", f"some of {list(CELLS)}", "name them as claims do")
        if len(self.cells.get(BASE, {})) > 1:
            raise BadData(f"{len(self.cells[BASE])} trainings of the base", "one model, which all began with", "choose")
        groups = {c: {t: rows.groups() for t, rows in sorted(of.items())} for c, of in self.cells.items()}
        object.__setattr__(self, "groups", groups)
        self._check()

    def _check(self) -> None:
        first: dict[tuple[str, str], tuple[str, list[str]]] = {}
        versions: dict[tuple[str, str], tuple[str, str]] = {}
        for where, exam, task, rows in self._each():
            keys = [str(row["key"]) for row in rows]
            if len(set(keys)) < len(keys):
                raise BadData(f"{where} has {len(keys) - len(set(keys))} items twice", "each once", "join them by key")
            kind = (exam, "" if exam == "scorecard" else task.partition("/")[0])
            for key, row in zip(keys, rows):
                if exam == "latency" and not (row.get("device") and row.get("ms", 0) > 0):
                    raise BadData(f"{where}: {dict(row)}", "a device, and more than 0 ms", "time it again")
                version = str(row["device"]) if exam == "latency" else key.partition("/")[0]
                if exam == "scorecard":
                    version += f" {row.get('items', '')}".rstrip()  # the items themselves, by their hash
                before, place = versions.setdefault(kind, (version, where))
                if version != before:
                    raise BadData(
                        f"{where} is of '{version}', {place} of '{before}'",
                        "one protocol, one version of the scorecard, one device",
                        "evaluate again: numbers of two protocols cannot be compared",
                    )
            if exam == "latency":  # a query of one policy is no query of another
                continue
            place, known = first.setdefault((exam, task), (where, keys))
            if keys != known:
                at = next((i for i, (a, b) in enumerate(zip(keys, known)) if a != b), min(len(keys), len(known)))
                raise BadData(
                    f"{where} has {len(keys)} items, {place} has {len(known)}; they differ from number {at} on",
                    "the same keys in the same order in every training of every cell",
                    "run the same protocol for all: a difference is taken item by item",
                )

    def _each(self) -> Iterator[tuple[str, Exam, str, list[Row]]]:
        for cell, trainings in self.groups.items():
            for training, groups in trainings.items():
                for (exam, task), rows in groups.items():
                    yield f"{exam} {task} of {cell}, training {training}", exam, task, rows
