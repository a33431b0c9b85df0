"""Charts as SVG, without script or fonts of their own: lines in panels side by side, intervals under one another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from mindhand.core.errors import BadData

WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 460, 340, 54, 34, 14, 46  # of a panel, in pixels, and its margins
ROW, LETTER = 30, 6.8  # height of an interval's row, width that a letter of 12 pixels is given
INKS = ("#0b5cad", "#a4262c", "#0a6b3d", "#8a5a00", "#6b3fa0", "#1c2024")


@dataclass(frozen=True)
class Series:
    """Points (x, y) of one name, joined by a line if there are several; `labels` stand beside them."""

    name: str
    points: tuple[tuple[float, float], ...]
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Panel:
    """One chart. x is drawn in decades, and so larger than 0; evenly where it has a reach."""

    title: str
    x: str
    y: str
    series: tuple[Series, ...]
    low: float | None = None  # of y; the smallest value without
    high: float | None = None
    reach: tuple[float, float] | None = None  # of x: from, to


@dataclass(frozen=True)
class Span:
    """One measured number: value within its interval from `low` to `high`, the number as it is written beside it, and
    what a guesser gets if that has a meaning."""

    name: str
    value: float
    low: float
    high: float
    said: str
    chance: float | None = None


def _ticks(low: float, high: float) -> list[float]:
    """About five round numbers in a span."""
    step = 10 ** math.floor(math.log10((high - low) / 4) + 1e-9)  # a logarithm's last digit is the machine's
    step *= next(m for m in (1, 2, 5, 10) if (high - low) / (step * m) <= 6)
    first = math.ceil(low / step - 1e-9)
    return [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]


def _decades(low: float, high: float) -> list[float]:
    """1, 2, 5 times powers of ten in a span."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [t for p in powers for t in (10.0**p, 2 * 10.0**p, 5 * 10.0**p) if low <= t <= high]


def _short(x: float) -> str:
    """20000 as "20k"."""
    return f"{x / 1000:g}k" if x >= 1000 else f"{x:g}"


def _text(x: float, y: float, said: str, anchor: str = "middle", more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{more}>{escape(said)}</text>'


def _svg(width: float, height: float, body: str, title: str = "") -> str:
    """The whole file; a title is what is read aloud of it."""
    told = f' role="img" aria-label="{escape(title)}"' if title else ""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
        f'font-family="system-ui,sans-serif" font-size="12" fill="#1c2024"{told}>\n'
        f'<rect width="100%" height="100%" fill="#fff"/>\n{body}\n</svg>\n'
    )


def _panel(panel: Panel) -> str:
    points = [p for s in panel.series for p in s.points]
    even, xs = panel.reach is not None, [x for x, _ in points]
    if not points or (not even and min(xs) <= 0) or not all(math.isfinite(c) for p in points for c in p):
        raise BadData(f"the panel '{panel.title}' with {len(points)} points", "finite ones, x above 0", "give such")
    x0, x1 = panel.reach or (min(xs) / 1.3, max(xs) * 1.6)
    if even:
        x0, x1 = min(x0, *xs), max(x1, *xs)
    low = min(y for _, y in points) if panel.low is None else panel.low
    high = max(y for _, y in points) if panel.high is None else panel.high
    high = max(high, low + 1e-6)

    def at(x: float, y: float) -> tuple[float, float]:
        right = (x - x0) / (x1 - x0) if even else (math.log(x) - math.log(x0)) / (math.log(x1) - math.log(x0))
        up = (y - low) / (high - low)
        return LEFT + right * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    out = [_text(LEFT, TOP - 14, panel.title, "start", ' font-weight="bold"')]
    for tick in _ticks(low, high):
        _, y = at(x0, tick)
        out.append(f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}" stroke="#d9dee3"/>')
        out.append(_text(LEFT - 6, y + 4, f"{tick:.3g}", "end"))
    for tick in _ticks(x0, x1) if even else _decades(x0, x1):
        x, _ = at(tick, low)
        out.append(_text(x, HEIGHT - BOTTOM + 16, f"{tick:.3g}" if even else _short(tick)))
    out.append(_text((LEFT + WIDTH) / 2, HEIGHT - 8, panel.x))
    out.append(_text(0, 0, panel.y, more=f' transform="translate(13 {HEIGHT / 2}) rotate(-90)"'))
    said = [(label, y) for s in panel.series for (_, y), label in zip(s.points, s.labels)]
    for k, series in enumerate(panel.series):
        ink, drawn = INKS[k % len(INKS)], [at(*p) for p in series.points]
        if len(drawn) > 1:
            line = " ".join(f"{x:.1f},{y:.1f}" for x, y in drawn)
            out.append(f'<polyline points="{line}" fill="none" stroke="{ink}" stroke-width="2"/>')
        for (x, y), (_, was), label in zip(drawn, series.points, (*series.labels, *[""] * len(drawn))):
            out.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{ink}"/>')
            if label:
                beside, anchor = (x - 6, "end") if x > (LEFT + WIDTH) / 2 else (x + 6, "start")
                over = any(other == label and low < was for other, low in said)  # the upper one of two, above
                out.append(_text(beside, y + (-6 if over else 12), label, anchor, f' fill="{ink}"'))
        out.append(_text(LEFT + 8, TOP + 12 + 15 * k, series.name, "start", f' fill="{ink}"'))
    return "\n".join(out)


def draw_panels(panels: Sequence[Panel], title: str = "") -> str:
    """The panels side by side in one SVG; a title is what is read aloud of it. BadData for a panel without points, or
    with x at or below 0 where that is drawn in decades."""
    drawn = [f'<g transform="translate({k * WIDTH} 0)">\n{_panel(p)}\n</g>' for k, p in enumerate(panels)]
    return _svg(WIDTH * len(panels), HEIGHT, "\n".join(drawn), title)


def write_plot(file: Path, panels: Sequence[Panel]) -> Path:
    """`draw_panels` as a file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(draw_panels(panels))
    return file


def draw_spans(title: str, axis: str, spans: Sequence[Span], low: float = 0.0, high: float | None = None) -> str:
    """Measured numbers under one another on one axis from `low` to `high`, the largest bound without, as one SVG; a
    red stroke where a guesser stands. BadData where there is none, or one whose interval is none."""
    numbers = [x for s in spans for x in (s.low, s.value, s.high, *(() if s.chance is None else (s.chance,)))]
    if not spans or not all(map(math.isfinite, numbers)) or any(s.low > s.high for s in spans):
        raise BadData(f"the chart '{title}' of {len(spans)} numbers", "finite ones, low <= high", "give such")
    low = min(low, *numbers)
    high = max(numbers) if high is None else max(high, *numbers)
    high = high if high > low else low + 1
    left = 16 + LETTER * max(len(s.name) for s in spans)
    end, bottom = left + WIDTH - LEFT - RIGHT, TOP + ROW * len(spans)

    def at(x: float) -> float:
        return left + (x - low) / (high - low) * (end - left)

    def line(x1: float, y1: float, x2: float, y2: float, ink: str, wide: int = 2) -> str:
        place = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
        return f'<line {place} stroke="{ink}" stroke-width="{wide}"/>'

    out = [_text(8, TOP - 14, title, "start", ' font-weight="bold"')]
    for tick in _ticks(low, high):
        out.append(line(at(tick), TOP, at(tick), bottom, "#d9dee3", 1))
        out.append(_text(at(tick), bottom + 16, f"{tick:.3g}"))
    guessed = any(s.chance is not None for s in spans)
    out.append(_text((left + end) / 2, bottom + 38, axis + ("; in red a guesser's" if guessed else "")))
    for k, s in enumerate(spans):
        y = TOP + ROW * (k + 0.5)
        out.append(_text(left - 8, y + 4, s.name, "end"))
        if s.chance is not None:
            out.append(line(at(s.chance), y - 9, at(s.chance), y + 9, INKS[1]))
        out.append(line(at(s.low), y, at(s.high), y, INKS[0]))
        out += [line(at(x), y - 5, at(x), y + 5, INKS[0]) for x in (s.low, s.high)]
        out.append(f'<circle cx="{at(s.value):.1f}" cy="{y:.1f}" r="4" fill="{INKS[0]}"/>')
        out.append(_text(end + 8, y + 4, s.said, "start"))
    width = max(end + 24 + LETTER * max(len(s.said) for s in spans), 16 + 1.1 * LETTER * len(title))  # it is bold
    return _svg(round(width), bottom + BOTTOM, "\n".join(out), title)
