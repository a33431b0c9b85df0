"""Thoughts for demonstrations that have none: one text a sub-step, from whoever can say it, kept if it can be read.

    annotated(reader, folder, say, Accept(...))   another dataset beside it, with the column `reasoning` filled

A sub-step ends where a gripper begins to close or to open; one that is longer than some seconds is cut evenly. Text
that the validator does not accept is asked for again, told why; what is not accepted then stays empty and is counted.
"""

from __future__ import annotations

import itertools
import re
import string
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from mindhand.core.errors import BadData, Refusal
from mindhand.core.spec import Spec

from .episodes import Episode
from .lerobot_write import LeRobotWriter
from .reader import Reader
from .relabelled import Relabelled, gathered, relabelled

if TYPE_CHECKING:
    from rich.console import Console

LONGEST = 6.0  # s of a sub-step
LEAST = 3  # control steps of one
TRIES = 3  # at a text that is accepted
WORDS = 60  # of a text, at most, where no form is asked for
PLAIN = re.compile(r"(?=.*\w)[^\x00-\x1f]+[.!?]")
FIELDS = ("instruction", "step", "steps")  # of a template


@dataclass(frozen=True, eq=False)
class SubStep:
    """What there is to be said about: which of how many of an episode, its frames [begin, end) there, the instruction,
    what was said of those before, and pictures {role: uint8 (2,h,w,3)} of its first and its last frame."""

    episode: int
    number: int
    count: int
    begin: int
    end: int
    instruction: str
    before: tuple[str, ...]
    pictures: Mapping[str, np.ndarray]


class Say(Protocol):
    """Whoever says what happens in a sub-step. about: JSON that tells one from another; what it says must be a function
    of the sub-step, or a run that was stopped is not gone on with as it began."""

    about: Mapping[str, Any]

    def __call__(self, step: SubStep, wrong: str) -> str:
        """The text; `wrong`: why the last one was not accepted, "" for a first."""
        ...


@dataclass(frozen=True)
class Accept:
    """Which texts are kept, stripped: those of a form (a regular expression for all of it), or that `parse` can read;
    by default a sentence of one line that ends as one."""

    form: str = ""
    parse: Callable[[str], Any] | None = None
    name: str = ""  # of `parse`

    def __post_init__(self) -> None:
        try:
            re.compile(self.form)
        except re.error as error:
            raise BadData(f"the form {self.form!r}: {error}", "a regular expression", "correct it") from error

    def wrong(self, text: str) -> str:
        """Why a text is not kept; "" where it is."""
        if self.parse is not None:
            return "" if self.parse(text) else f"it is no thought as `{self.name}` reads them"
        if self.form:
            return "" if re.fullmatch(self.form, text) else f"it is not of the form {self.form}"
        if not PLAIN.fullmatch(text) or len(text.split()) > WORDS:
            return f"it is not one line of at most {WORDS} words that ends with a full stop"
        return ""


@dataclass(frozen=True)
class Templates:
    """The k-th text for the k-th sub-step, the last for all behind it, with {instruction}, {step} and {steps} filled.
    Refusal for another field, and for none."""

    texts: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.texts:
            raise Refusal("no template", "a text a sub-step", "--say 'reach for it.' 'carry it.'")
        for text in self.texts:
            known = [name for _, name, _, _ in string.Formatter().parse(text) if name is not None]
            if odd := sorted(set(known) - set(FIELDS)):
                raise Refusal(f"the template {text!r} with {odd}", f"fields among {FIELDS}", "correct it")

    @property
    def about(self) -> dict[str, Any]:
        """The texts."""
        return {"by": "template", "say": list(self.texts)}

    def __call__(self, step: SubStep, wrong: str) -> str:
        """Filled in."""
        text = self.texts[min(step.number, len(self.texts) - 1)]
        said = step.instruction.strip().rstrip(".!?")
        return text.format(instruction=said, step=step.number + 1, steps=step.count)


def sub_steps(action: np.ndarray, spec: Spec, longest: float = LONGEST) -> list[tuple[int, int]]:
    """Runs [begin, end) of control steps that cover actions (T,A): cut where a gripper's command passes the middle of
    what it is in the episode, and then so that none is longer than `longest` seconds."""
    cuts = {0, len(action)}
    for part in (p for p in spec.action if p.kind == "gripper"):
        for x in action[:, spec.part(part.name, "action")].T:
            low, high = float(x.min()), float(x.max())
            if high - low > 1e-3 * max(abs(high), abs(low), 1e-9):
                wide = x > (low + high) / 2
                cuts |= set((np.flatnonzero(wide[1:] != wide[:-1]) + 1).tolist())
    ends = sorted(cuts)
    kept = [0]
    for end in ends[1:]:
        if end - kept[-1] >= LEAST or end == len(action):
            kept.append(end)
    if len(kept) > 2 and kept[-1] - kept[-2] < LEAST:
        del kept[-2]
    most = max(LEAST, round(longest * spec.rate))
    out = []
    for begin, end in itertools.pairwise(kept):
        marks = np.linspace(begin, end, -(-(end - begin) // most) + 1).round().astype(int).tolist()
        out += itertools.pairwise(marks)
    return out


def annotated(
    reader: Reader,
    folder: Path,
    say: Say,
    accept: Accept = Accept(),
    *,
    longest: float = LONGEST,
    over: bool = False,
    console: Console | None = None,
) -> Relabelled:
    """The dataset under `folder`, resuming; its rows are the sub-steps, what was said of each and why it was not kept.
    over: also where there are thoughts already; BadData for such a dataset without it."""
    if not over and reader.has_reasoning and any(reader.reasoning(i) for i in range(len(reader))):
        raise BadData(f"{reader.path} has thoughts", "demonstrations without", "--over says them anew")
    of = {"data": reader.fingerprint(), "form": accept.form, "parse": accept.name, "longest": longest, **say.about}

    def make(fresh: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        labels = {name: x.shape[1] for name, x in reader.labels().items()}
        command = f"mindhand data annotate {reader.path.name} --by {say.about['by']}"
        how = {"pictures": reader.pictures, "scene": reader.about.get("scene", ""), "labels": labels}
        how["video"] = "video" in reader.stored.values()  # films are encoded again, and lose a little
        with LeRobotWriter(fresh / "dataset", reader.spec, command=command, **how) as writer:
            numbers = range(len(reader.episodes))
            rows = gathered(fresh, writer, numbers, lambda n: _tried(reader, n, say, accept, longest), console)
            writer.finalize()
        empty = sum(not r["text"] for r in rows)
        return rows, {"sub-steps": len(rows), "accepted": len(rows) - empty, "left empty": empty}

    return relabelled(folder, of, make)


def _tried(
    reader: Reader, number: int, say: Say, accept: Accept, longest: float
) -> Iterator[tuple[dict[str, Any] | None, Episode | None]]:
    episode = reader.episode(number)
    runs = sub_steps(episode.action, reader.spec, longest)
    said: list[str] = []
    words: list[str] = []
    for k, (begin, end) in enumerate(runs):
        ends = [begin, end - 1]
        pictures = {role: x[ends] for role, x in episode.images.items()}
        step = SubStep(number, k, len(runs), begin, end, episode.instruction, tuple(said), pictures)
        text = say(step, "").strip()
        wrong, tries = accept.wrong(text), 1
        while wrong and tries < TRIES:
            text = say(step, wrong).strip()
            wrong, tries = accept.wrong(text), tries + 1
        said.append("" if wrong else text)
        row = {"episode": number, "begin": begin, "end": end, "instruction": episode.instruction, "tries": tries}
        yield {**row, "text": said[-1], "refused": text if wrong else "", "why": wrong}, None
        words += [said[-1]] * (end - begin)
    yield None, replace(episode, reasoning=tuple(words))
