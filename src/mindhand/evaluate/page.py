"""Pieces of a self-contained page: no script, no network, light, readable by a screen reader and on paper.

Everything that comes from outside is escaped here and nowhere else. The page's own policy forbids every request.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from mindhand.core.intervals import Interval
from mindhand.data.image import inline

from .video import TYPES

STYLE = """
:root { --ink:#1c2024; --soft:#5b636b; --line:#d9dee3; --paper:#fff; --wash:#f5f7f9; --mark:#0b5cad; --good:#0a6b3d;
  --bad:#a4262c; }
* { box-sizing:border-box }
body { margin:0; background:var(--wash); color:var(--ink); font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,
  "Helvetica Neue",Arial,sans-serif }
main { max-width:72rem; margin:0 auto; padding:2rem 1.25rem 4rem }
h1 { font-size:1.7rem; line-height:1.2; margin:0 0 .25rem } h2 { font-size:1.2rem; margin:2.5rem 0 .75rem }
p { max-width:46rem } .soft { color:var(--soft) } .lead { margin:.25rem 0 1.5rem }
.card { border:1px solid var(--line); border-radius:8px; overflow-x:auto; background:
  linear-gradient(to left,var(--paper) 1.5rem,transparent) right/2.5rem 100% no-repeat local,
  linear-gradient(to left,#c3cbd2,transparent) right/1rem 100% no-repeat scroll,var(--paper) }
table { border-collapse:collapse; width:100%; font-variant-numeric:tabular-nums }
caption:empty { display:none }
caption { text-align:left; padding:.75rem 1rem; color:var(--soft); font-size:.9rem; position:sticky; left:0;
  max-width:calc(100vw - 3rem) }
th,td { text-align:left; padding:.55rem 1rem; border-top:1px solid var(--line); vertical-align:top }
thead th { font-size:.85rem; color:var(--soft); font-weight:600; white-space:nowrap }
tbody th { font-weight:600; min-width:8rem }
td { min-width:6rem } td.words { min-width:11rem } th:first-child { position:sticky; left:0; background:var(--paper) }
tr.part th { font-weight:400; padding-left:2rem } tr.part { color:var(--soft) }
.num { white-space:nowrap } .num b { font-size:1.05rem }
.num small { display:block; color:var(--soft); font-size:.8rem }
svg.bar { display:block; width:8.5rem; height:14px; margin:.2rem 0 }
.chart { max-width:34rem } .chart svg { display:block; width:100%; height:auto }
.films { display:grid; grid-template-columns:repeat(auto-fill,minmax(17rem,1fr)); gap:1rem }
figure { margin:0; background:var(--paper); border:1px solid var(--line); border-radius:8px; overflow:hidden }
figure video,figure img { display:block; width:100%; background:#111; image-rendering:pixelated; aspect-ratio:1;
  object-fit:contain }
figcaption { padding:.75rem 1rem 1rem; font-size:.9rem }
.tag { display:inline-block; padding:.05rem .5rem; border-radius:99px; font-size:.8rem; font-weight:600;
  border:1px solid }
.yes { color:var(--good) } .no { color:var(--bad) }
ol.thoughts { margin:.5rem 0 0; padding:0; list-style:none } ol.thoughts li { margin:.3rem 0 0 3.2rem;
  text-indent:-3.2rem; font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace; font-size:.82rem }
ol.thoughts .at { display:inline-block; width:3.2rem; text-indent:0; color:var(--soft) }
code { font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace; font-size:.85em; overflow-wrap:anywhere }
a { color:var(--mark) } a:focus-visible,video:focus-visible { outline:3px solid var(--mark); outline-offset:2px }
@media (max-width:40rem) { main { padding:1.25rem .75rem 3rem } th,td,caption { padding:.5rem .6rem }
  tbody th { min-width:6rem } }
@media print { body { background:#fff } figure,tr { break-inside:avoid } }
"""
WORDS = 24  # letters from which on a cell is prose, and wide enough to be read
POLICY = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'"


@dataclass(frozen=True)
class Raw:
    """HTML that was made here; everything else is escaped."""

    html: str


Cell = str | int | float | Raw | None


def text(x: Cell) -> str:
    """A cell as HTML."""
    if isinstance(x, Raw):
        return x.html
    return "–" if x is None else escape(str(x))


def table(caption: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]], parts: Sequence[int] = ()) -> str:
    """A table whose first cell heads its row; rows numbered in `parts` are indented, as parts of the one above."""
    heads = "".join(f'<th scope="col">{escape(c)}</th>' for c in columns)
    head = f"<thead><tr>{heads}</tr></thead>" if any(columns) else ""
    body = []
    for i, row in enumerate(rows):
        first, *rest = (text(c) for c in row)
        kinds = (' class="words"' if isinstance(c, str) and len(c) > WORDS else "" for c in row[1:])
        cells = f'<th scope="row">{first}</th>' + "".join(f"<td{k}>{c}</td>" for k, c in zip(kinds, rest))
        body.append(f'<tr class="part">{cells}</tr>' if i in parts else f"<tr>{cells}</tr>")
    return (
        f'<div class="card"><table><caption>{escape(caption)}</caption>{head}'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def rate(found: Interval | None, chance: float | None = None) -> Raw | None:
    """A rate with its interval, as a number and as a bar with a tick at chance."""
    if found is None:
        return None
    v, low, high = (100 * x for x in (found.value, found.low, found.high))
    said = f"{v:.1f} %, 95 % interval {low:.1f} to {high:.1f}"
    about = f"{low:.0f} to {high:.0f}, n = {found.n}"
    tick = ""
    if chance is not None:
        said += f", chance {100 * chance:.1f} %"
        about += f", chance {100 * chance:.0f}"
        tick = f'<rect x="{100 * chance - 0.5:.1f}" width="1" height="14" fill="#a4262c"/>'
    bar = (
        f'<svg class="bar" viewBox="0 0 100 14" preserveAspectRatio="none" role="img" aria-label="{escape(said)}">'
        f'<rect width="100" height="14" fill="#eef1f4"/>'
        f'<rect x="{low:.1f}" y="4" width="{max(high - low, 0.5):.1f}" height="6" fill="#9cc3e8"/>'
        f'{tick}<rect x="{max(v - 0.6, 0):.1f}" y="1" width="1.2" height="12" fill="#0b5cad"/></svg>'
    )
    return Raw(f'<span class="num"><b>{v:.1f} %</b>{bar}<small>{about}</small></span>')


def points(found: Interval, unit: str = "") -> str:
    """A difference of rates in points, "+5 (-2 to +12)"; the unit, if one is given, behind the first number."""
    return f"{100 * found.value:+.0f}{unit} ({100 * found.low:+.0f} to {100 * found.high:+.0f})"


def mean(found: Interval | None, most: int) -> Raw | None:
    """A mean of points out of `most`, with its interval."""
    if found is None:
        return None
    return Raw(
        f'<span class="num"><b>{found.value:.2f}</b> of {most}<small>{found.low:.2f} to {found.high:.2f}</small></span>'
    )


def chart(svg: str) -> Raw:
    """A drawing of `plot` inside the page, never wider than it."""
    inside = svg.replace(' xmlns="http://www.w3.org/2000/svg"', "")  # only a file needs it
    return Raw(f'<div class="card chart">{inside}</div>')


def moving_picture(file: Path, label: str) -> str:
    """A film inside the page, as a data: address."""
    kind = TYPES[file.suffix]
    data = inline(file.read_bytes(), kind)
    if kind.startswith("video"):
        return (
            f'<video controls muted loop playsinline preload="auto" aria-label="{escape(label)}" src="{data}"></video>'
        )
    return f'<img alt="{escape(label)}" src="{data}">'


def thoughts(steps: Sequence[Sequence], rate_hz: float) -> str:
    """What was thought, with the second at which it began to hold."""
    items = "".join(f'<li><span class="at">{step / rate_hz:.1f} s</span>{escape(said)}</li>' for step, said in steps)
    return f'<ol class="thoughts">{items}</ol>' if items else ""


def page(title: str, lead: str, sections: Sequence[tuple[str, str]]) -> str:
    """The whole document; `sections` are (heading, HTML)."""
    body = "".join(f"<section><h2>{escape(heading)}</h2>{html}</section>" for heading, html in sections)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>"
        f'<body><main><h1>{escape(title)}</h1><p class="lead soft">{escape(lead)}</p>{body}</main></body></html>\n'
    )
