"""How a policy's experts divide the work: what it routes where when it is asked about pictures, and when it acts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from mindhand.core.files import write_atomic
from mindhand.data.files import read_rows, write_rows
from mindhand.evaluate.protocol import Protocol, keys
from mindhand.evaluate.scorecard import items
from mindhand.model.routing import Traffic, evenness, overlap, told_apart
from mindhand.model.vla import VLA
from mindhand.serve.execute import run_episodes

from .places import worlds
from .rollouts import load_policy

ASKED = {"maths asked": "maths", "toys asked": "space"}  # parts of the scorecard
ACTED = {"maths acted": "maths", "toys acted": "placing"}  # families of tasks
PAIRS = (("maths asked", "maths acted"), ("toys asked", "toys acted"), ("maths acted", "toys acted"))
ITEMS, EPISODES = 60, 3
SIDE, GAP = 22, 26  # pixels of a square, and between two tasks


def shares_of(vla: VLA, protocols: Mapping[str, Protocol]) -> dict[str, np.ndarray]:
    """{task: (L,E)} of a policy with a mixture: questions of the scorecard, and clean episodes of K-dev."""

    def asked(part: str) -> Callable[[], Any]:
        return lambda: [vla.answer(i.image[None], [[i.question]], 40) for i in items(part, ITEMS)]

    def acted(protocol: Protocol) -> Callable[[], Any]:
        task = next(t for t in protocol.tasks if t.endswith("K-dev"))
        some = keys(protocol.only(task, episodes=EPISODES))
        how = {"replan": protocol.replan, "horizon_steps": protocol.steps, "rows": 1}
        return lambda: run_episodes(vla, worlds(protocol)(1), some, **how)

    work = {task: asked(part) for task, part in ASKED.items()}
    work |= {task: acted(protocols[family]) for task, family in ACTED.items()}
    out = {}
    for task, run in work.items():
        with Traffic(vla).counting() as traffic:
            run()
        out[task] = traffic.shares
    return out


def routing_rows(checkpoint: Path, protocols: Mapping[str, Protocol], file: Path) -> list[dict[str, Any]]:
    """One row a task, layer and expert: {"key", "task", "layer", "expert", "share"}; kept in `file`."""
    if file.exists():
        return read_rows(file)
    found = shares_of(load_policy(checkpoint), protocols)
    rows = [
        {"key": f"{task}/{l}/{e}", "task": task, "layer": l, "expert": e, "share": float(x)}
        for task, shares in found.items()
        for l, layer in enumerate(shares)
        for e, x in enumerate(layer)
    ]
    write_rows(file, rows)
    return rows


def by_task(rows: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """{task: (L,E)} of such rows."""
    depth, many = (1 + max(r[what] for r in rows) for what in ("layer", "expert"))
    out = {task: np.zeros((depth, many)) for task in dict.fromkeys(r["task"] for r in rows)}
    for r in rows:
        out[r["task"]][r["layer"], r["expert"]] = r["share"]
    return out


def routing_table(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """(columns, a line a layer): evenness, bits that the expert tells of the task, overlap of some pairs."""
    found = by_task(rows)
    columns = ["layer", "even", "bits of the task", *(f"{a} / {b}" for a, b in PAIRS)]
    body = []
    for l in range(len(next(iter(found.values())))):
        here = {task: shares[l] for task, shares in found.items()}
        numbers = [evenness(np.mean(list(here.values()), 0)), told_apart(here)]
        numbers += [overlap(here[a], here[b]) for a, b in PAIRS]
        body.append([str(l), *(f"{x:.2f}" for x in numbers)])
    return columns, body


def write_routing(rows: Sequence[Mapping[str, Any]], file: Path) -> Path:
    """A picture (SVG): a square a layer and expert, the darker the more tokens; tasks side by side."""
    found = by_task(rows)
    depth, many = next(iter(found.values())).shape
    wide, high = many * SIDE + GAP, depth * SIDE + 2 * GAP
    out = []
    for k, (task, shares) in enumerate(found.items()):
        out.append(f'<text x="{GAP + k * wide}" y="{GAP - 9}">{escape(task)}</text>')
        for l, e in np.ndindex(depth, many):
            ink = 1 - min(1.0, float(shares[l, e]) * many / 3)  # three times its even share is black
            at = f'x="{GAP + k * wide + e * SIDE}" y="{GAP + l * SIDE}" width="{SIDE - 1}" height="{SIDE - 1}"'
            tone = "#" + f"{round(255 * ink):02x}" * 3
            said = f"layer {l}, expert {e}: {100 * shares[l, e]:.0f} %"
            out.append(f'<rect {at} fill="{tone}" stroke="#ccc"><title>{said}</title></rect>')
    head = f'viewBox="0 0 {GAP + len(found) * wide} {high}" font-family="system-ui,sans-serif" font-size="12"'
    body = "\n".join(out)
    write_atomic(file, f'<svg xmlns="http://www.w3.org/2000/svg" {head}>\n{body}\n</svg>\n')
    return file
