"""Pages for looking at, beside the rates: pictures with what was asked and what a mind said, right and wrong; and
samples of a dataset, with what follows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np

from mindhand.core.files import write_atomic
from mindhand.data.image import encode_png, inline

from .page import Cell, Raw, page, table


@dataclass(frozen=True, eq=False)
class Shown:
    """One question and answer about a picture uint8 (h,w,3), under a heading."""

    heading: str
    image: np.ndarray
    question: str
    expected: str
    said: str
    right: bool


def _picture(image: np.ndarray, label: str) -> str:
    return f'<img alt="{escape(label)}" src="{inline(encode_png(image))}">'


@dataclass(frozen=True, eq=False)
class Before:
    """A sample that was made, or dropped, under a heading: pictures uint8 (h,w,3), such as where it begins and where it
    ends; lines of what was said and done, the first in bold."""

    heading: str
    images: Sequence[np.ndarray]
    lines: Sequence[str]


def _sample(one: Before) -> str:
    first, *rest = map(escape, one.lines)
    pictures = "".join(_picture(image, one.lines[0]) for image in one.images)
    return f"<figure>{pictures}<figcaption>{'<br>'.join([f'<b>{first}</b>', *rest])}</figcaption></figure>"


def write_samples(
    file: Path, title: str, lead: str, counts: Sequence[Sequence[Cell | Raw]], samples: Sequence[Before]
) -> Path:
    """One HTML file without a request to any network: a table of counts, what they count first, and figures by
    heading."""
    sections = [("Counts", table("", ["", "count"], counts))]
    for heading in dict.fromkeys(s.heading for s in samples):
        figures = "".join(_sample(s) for s in samples if s.heading == heading)
        sections.append((heading, f'<div class="films">{figures}</div>'))
    write_atomic(file, page(title, lead, sections))
    return file


def _figure(one: Shown) -> str:
    badge = f'<span class="tag {"yes" if one.right else "no"}">{"right" if one.right else "wrong"}</span>'
    wanted = "" if one.right else f'<br><span class="soft">expected: {escape(one.expected)}</span>'
    said = f"{badge} {escape(one.question)}<br><b>{escape(one.said) or '(nothing)'}</b>{wanted}"
    return f"<figure>{_picture(one.image, one.question)}<figcaption>{said}</figcaption></figure>"


def write_gallery(
    file: Path, title: str, lead: str, shown: Sequence[Shown], rates: Sequence[Sequence[Cell | Raw]] = ()
) -> Path:
    """One HTML file without a request to any network; figures by heading, wrong answers first. rates: rows of a table
    that stands above them."""
    sections = [("Gates", table("Share of right answers", ["gate", "right", "bar"], rates))] if rates else []
    for heading in dict.fromkeys(s.heading for s in shown):
        some = sorted((s for s in shown if s.heading == heading), key=lambda s: s.right)
        sections.append((heading.replace("_", " "), f'<div class="films">{"".join(map(_figure, some))}</div>'))
    write_atomic(file, page(title, lead, sections))
    return file
