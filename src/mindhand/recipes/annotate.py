"""`mindhand data annotate`: thoughts for a dataset that has none, by templates, a VLM behind an endpoint, or a person.

The result is a dataset of its own with a page to look at; the one that was given stays as it is.
"""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich.console import Console

from mindhand.core.errors import Refusal
from mindhand.core.files import write_atomic
from mindhand.data.annotate import Accept, Say, SubStep, Templates, annotated
from mindhand.data.image import encode_png, inline
from mindhand.data.opening import open_dataset
from mindhand.data.relabelled import Relabelled, Unanswered
from mindhand.evaluate.gallery import Before, write_samples

from .places import read_thought

By = Literal["template", "endpoint", "keyboard"]
MOST = 1 << 20  # bytes of an answer
SECONDS = 120.0  # to wait for one
SHOWN = 60  # sub-steps on the page
KEY = "OPENAI_API_KEY"  # the environment's name of what the endpoint asks for
PARSERS = {"desk": read_thought}
ASK = """A robot carries out: "{instruction}". The pictures show the beginning and the end of part {step} of {steps}.
Said of the parts before: {before}
Say in one short sentence, in the present tense, what the robot does in this part and with what. No other words."""


def ask_of(step: SubStep, wrong: str) -> str:
    """What is asked about a sub-step."""
    before = " ".join(t for t in step.before if t) or "nothing."
    text = ASK.format(instruction=step.instruction, step=step.number + 1, steps=step.count, before=before)
    return text + (f"\nYour last answer was not taken: {wrong}." if wrong else "")


@dataclass(frozen=True)
class Endpoint:
    """A VLM behind an OpenAI-compatible endpoint: POST <url>/chat/completions with pictures. Nothing is sent anywhere
    but to `url`; the environment's OPENAI_API_KEY goes with it where there is one. Asked at temperature 0, so that what
    was stopped goes on alike as far as the endpoint does."""

    url: str
    model: str
    seconds: float = SECONDS

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")) or not self.model:
            raise Refusal(
                f"the endpoint {self.url!r} with model {self.model!r}",
                "http(s)://host/v1 and the name of a model there",
                "--url http://127.0.0.1:8000/v1 --model NAME",
            )

    @property
    def about(self) -> dict[str, Any]:
        """Where and who."""
        return {"by": "endpoint", "url": self.url, "model": self.model, "ask": ASK}

    def __call__(self, step: SubStep, wrong: str) -> str:
        """What it answers. Refusal, to be gone on with, where it gives no answer."""
        content: list[dict[str, Any]] = [{"type": "text", "text": ask_of(step, wrong)}]
        for pictures in step.pictures.values():
            for image in pictures:
                content.append({"type": "image_url", "image_url": {"url": inline(encode_png(image))}})
        body = {"model": self.model, "temperature": 0, "messages": [{"role": "user", "content": content}]}
        head = {"Content-Type": "application/json"}
        if key := os.environ.get(KEY):
            head["Authorization"] = f"Bearer {key}"
        asked = urllib.request.Request(f"{self.url.rstrip('/')}/chat/completions", json.dumps(body).encode(), head)
        try:
            with urllib.request.urlopen(asked, timeout=self.seconds) as answer:
                told = json.loads(answer.read(MOST))
            return str(told["choices"][0]["message"]["content"])
        except (urllib.error.URLError, OSError, ValueError, KeyError, IndexError, TypeError) as error:
            raise Unanswered(
                f"{self.url} gives no answer ({type(error).__name__}: {error})",
                "choices[0].message.content, as OpenAI's chat completions have it",
                "see to it and run the same command again: what was said is kept",
            ) from error


@dataclass(frozen=True)
class Keyboard:
    """A person, who sees the sub-step in `picture` and writes a line."""

    picture: Path
    console: Console
    about: Mapping[str, Any] = field(default_factory=lambda: {"by": "keyboard"})

    def __call__(self, step: SubStep, wrong: str) -> str:
        """The line."""
        strips = [np.concatenate(list(x), 1) for x in step.pictures.values()]
        for k, strip in enumerate(strips):
            file = self.picture.with_name(f"{self.picture.stem}-{k}{self.picture.suffix}")
            write_atomic(file, encode_png(strip))
        if wrong:
            self.console.print(f"not taken: {wrong}", markup=False)
        where = f"episode {step.episode}, part {step.number + 1} of {step.count}: {step.instruction}"
        self.console.print(f"{where}  ({self.picture.parent})", markup=False, soft_wrap=True)
        return self.console.input("> ")


def review(made: Relabelled, file: Path) -> Path:
    """A page with the first sub-steps as they begin and end, what was said of them, and what was not taken."""
    reader, report = made.reader, dict(made.report or {})
    counts = [[name, f"{n:,}"] for name, n in report.items() if isinstance(n, int)]
    texts = Counter(row["text"] for row in made.rows if row["text"])
    counts += [[text, f"{n:,}"] for text, n in sorted(texts.items(), key=lambda x: (-x[1], x[0]))[:20]]
    shown = []
    role = reader.spec.roles[0]
    for row in sorted(made.rows, key=lambda r: not r["why"])[:SHOWN]:
        at = reader.episodes[row["episode"]].begin
        images = list(reader.images(role, [at + row["begin"], at + row["end"] - 1]))
        lines = [row["text"] or "(nothing)", f"episode {row['episode']}, steps {row['begin']} to {row['end'] - 1}"]
        lines += [f"not taken: {row['refused']!r}, {row['why']}"] if row["why"] else []
        shown.append(Before("Not taken" if row["why"] else row["instruction"], images, lines))
    lead = f"{report.get('accepted', 0)} of {report.get('sub-steps', 0)} parts of {len(reader.episodes)} episodes."
    return write_samples(file, "What was said of demonstrations", lead, counts, shown)


def annotate(
    data: Path, by: By, say: Sequence[str], url: str, model: str, accept: str, parse: str, longest: float, over: bool,
    run: Path,
) -> int:  # fmt: skip
    """The verb. Refusal for a parser that there is not."""
    console = Console()
    if parse and parse not in PARSERS:
        raise Refusal(f"no parser '{parse}'", f"one of {sorted(PARSERS)}, or --accept REGEX", "mindhand data annotate")
    if parse and accept:
        raise Refusal("a parser and a form", "one of both", "leave one out")
    run.mkdir(parents=True, exist_ok=True)
    makers = {
        "template": lambda: Templates(tuple(say)),
        "endpoint": lambda: Endpoint(url, model),
        "keyboard": lambda: Keyboard(run / "part.png", console),
    }
    who: Say = makers[by]()
    made = annotated(
        open_dataset(data),
        run / "annotated",
        who,
        Accept(accept, PARSERS.get(parse), parse),
        longest=longest,
        over=over,
        console=console,
    )
    report = made.report or {}
    told = f"{report.get('accepted')} of {report.get('sub-steps')} parts have a text"
    console.print(f"{told}; the dataset: {run / 'annotated' / 'dataset'}", soft_wrap=True)
    console.print(f"look it over: {review(made, run / 'annotated' / 'review.html')}", soft_wrap=True)
    return 0
