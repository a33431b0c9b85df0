"""A page of pictures with what was asked and what a mind said, right and wrong: for looking at, beside the rates."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np

from mindhand.core.files import write_atomic
from mindhand.data.image import encode_png

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
    data = base64.b64encode(encode_png(image)).decode()
    return f'<img alt="{escape(label)}" src="data:image/png;base64,{data}">'


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
