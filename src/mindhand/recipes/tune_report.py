"""What a tuned policy does with episodes that it has never seen, before a robot moves: one page.

Open loop: at frames of held-out episodes the policy is shown what was recorded and its chunk is compared with the
commands that followed, by dimension, in the robot's units, beside a small ACT that learned from the same episodes, the
last command repeated, and the mean command. It is no success: errors add up when a robot moves, and demonstrators
differ where both are right; but a policy that does not beat the last command has learned nothing, and one dimension
that is far off shows a wrong unit or sign.

Language: the same frames with no instruction, and with another one of the dataset; the noise is the same, so what moves
is moved by the words. Intervals are over episodes, since frames of one episode are nearly one frame.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from mindhand.core.errors import BadData
from mindhand.core.files import write_atomic
from mindhand.core.intervals import Interval, bootstrap
from mindhand.core.nouns import Observation
from mindhand.core.progress import progress
from mindhand.data.doctor import Report
from mindhand.data.image import inline
from mindhand.data.robot import RobotFrames
from mindhand.data.statistics import floors
from mindhand.evaluate.page import Cell, chart, page, table, text
from mindhand.evaluate.plot import Span, draw_spans
from mindhand.evaluate.report import Beside
from mindhand.evaluate.scorecard import PARTS, VLAMind, take
from mindhand.model.vla import VLA

AT_ONCE = 16  # frames in a batch
TUNED, ACT, LAST, MEAN = "tuned", "small ACT", "last command again", "mean command"

Rows = list[dict[str, Any]]
Predict = Callable[[np.ndarray], np.ndarray]  # global frames (n,) -> commands (n,H,A)


def looked_at(robot: RobotFrames, episodes: np.ndarray, most: int) -> list[tuple[int, np.ndarray]]:
    """Of each episode up to `most` evenly spread frames with a command before them and one behind."""
    out = []
    for e in (robot.reader.episodes[int(n)] for n in episodes):
        first = min(e.begin + 1, e.end - 1)
        out.append((e.number, np.unique(np.linspace(first, e.end - 1, min(most, len(e))).astype(int))))
    return out


def predictor(vla: VLA, robot: RobotFrames, words: Callable[[str], str] = str) -> Predict:
    """What a policy commands at frames; words changes what it is told."""

    def changed(obs: Observation) -> Observation:
        return obs.with_text("instruction", [words(t) for t in obs.text["instruction"]])

    def predict(index: np.ndarray) -> np.ndarray:
        parts = []
        for at in np.array_split(index, -(-len(index) // AT_ONCE)):
            obs = changed(robot.observe(at))
            parts.append(vla.act(obs, vla.start(obs.keys))[0].actions)
        return np.concatenate(parts)

    return predict


def last_command(robot: RobotFrames) -> Predict:
    """The command before a frame, again and again; at an episode's first frame its own."""

    def predict(index: np.ndarray) -> np.ndarray:
        r = robot.reader
        begin = r.begins[np.searchsorted(r.begins, index, "right") - 1]
        before = np.maximum(index - 1, begin)
        return np.repeat(r.action[before][:, None], robot.horizon, 1)

    return predict


def mean_command(robot: RobotFrames, frames: np.ndarray) -> Predict:
    """The mean of the commands at frames that were learned from."""
    mean = robot.reader.action[frames].mean(0)
    return lambda index: np.broadcast_to(mean, (len(index), robot.horizon, len(mean)))


def open_loop(
    robot: RobotFrames, looked: Sequence[tuple[int, np.ndarray]], who: Mapping[str, Predict],
    console: Console | None = None,
) -> Rows:  # fmt: skip
    """One row an episode and a predictor: "error" (A,), the mean absolute error over frames and the chunk's steps that
    were recorded, in the robot's units."""
    rows = []
    with progress(console, "open loop", len(looked), 0, "episodes") as tell:
        for done, (episode, index) in enumerate(looked, 1):
            actions, valid = robot.chunks(index)
            for name, predict in who.items():
                off = np.abs(predict(index)[:, : actions.shape[1]] - actions)[valid]
                rows.append({"episode": episode, "who": name, "error": off.mean(0).tolist()})
            tell(done)
    return rows


def other_words(tasks: Sequence[str]) -> Callable[[str], str] | None:
    """Another instruction of the same dataset for each; None where it has only one."""
    known = list(dict.fromkeys(tasks))
    return None if len(known) < 2 else lambda said: known[(known.index(said) + 1) % len(known)]


def language(
    vla: VLA, robot: RobotFrames, looked: Sequence[tuple[int, np.ndarray]], console: Console | None = None
) -> Rows:
    """One row an episode and an arm, "blank" or "swapped": "moved" (A,), how far the command moves in the mean when the
    words change, and "error" (A,) against what was recorded."""
    arms: dict[str, Callable[[str], str]] = {"blank": lambda _: ""}
    if (other := other_words(robot.reader.tasks)) is not None:
        arms["swapped"] = other
    plain, rows = predictor(vla, robot), []
    with progress(console, "language", len(looked), 0, "episodes") as tell:
        for done, (episode, index) in enumerate(looked, 1):
            actions, valid = robot.chunks(index)
            clean = plain(index)
            for arm, words in arms.items():
                told = predictor(vla, robot, words)(index)
                moved, off = (np.abs(told - x)[valid].mean(0) for x in (clean, actions))
                rows.append({"episode": episode, "arm": arm, "moved": moved.tolist(), "error": off.tolist()})
            tell(done)
    return rows


def retention(base: VLA, vla: VLA, items: int, console: Console | None = None) -> tuple[Rows, Rows] | str:
    """The scorecard of the mind that a tuning began with, and of the tuned one, asked through the base's camera; or why
    its items cannot be shown to it."""
    sides: list[Rows] = []
    with progress(console, "scorecard, before and after", 2 * len(PARTS), 0, "parts") as tell:
        for mind in (base.backbone, vla.backbone):
            base.backbone, rows = mind, []
            for done, part in enumerate(PARTS, 1 + len(PARTS) * len(sides)):
                try:
                    rows += take(VLAMind(base), part, items)
                except BadData as error:
                    return f"not measured: {error.what}; it takes {error.expected}"
                tell(done)
            sides.append(rows)
    return sides[0], sides[1]


# ---- the page ------------------------------------------------------------------------------------------


def found(rows: Rows, of: str, **which: Any) -> list[Interval]:
    """The mean of a vector of rows by dimension, each with its interval over episodes."""
    some = np.array([r[of] for r in rows if all(r[k] == v for k, v in which.items())])
    return [bootstrap(x) for x in some.T]


def overall(rows: Rows, of: str, scale: np.ndarray, **which: Any) -> Interval:
    """The mean over dimensions, in standard deviations `scale` (A,) of the commands that were learned from."""
    some = np.array([r[of] for r in rows if all(r[k] == v for k, v in which.items())])
    return bootstrap((some / scale).mean(1))


def scale_of(robot: RobotFrames, frames: np.ndarray) -> np.ndarray:
    """Standard deviations (A,) of the commands at frames, none below the floor of its unit."""
    return np.maximum(robot.reader.action[frames].std(0), floors(robot.reader.spec.action))


def verdict(rows: Rows, scale: np.ndarray) -> str:
    """Whether the tuned policy beats the last command repeated, on the same episodes, in a sentence."""
    errors = [np.array([r["error"] for r in rows if r["who"] == w]) / scale for w in (LAST, TUNED)]
    gain = bootstrap((errors[0] - errors[1]).mean(1))
    if gain.low > 0:
        return f"It beats the last command repeated by {said(gain)} standard deviations."
    if gain.high < 0:
        return f"It is WORSE than the last command repeated, by {said(bootstrap((errors[1] - errors[0]).mean(1)))}."
    return f"It is not surely better than the last command repeated: {said(gain)} standard deviations."


def said(x: Interval) -> str:
    """A number with its interval."""
    return f"{x.value:.3g} ({x.low:.3g} to {x.high:.3g})"


def open_loop_section(robot: RobotFrames, rows: Rows, scale: np.ndarray) -> str:
    """A table by dimension, and a chart of the whole."""
    spec, who = robot.reader.spec, list(dict.fromkeys(r["who"] for r in rows))
    units = [p.unit for p in spec.action for _ in p.names]
    columns = {w: found(rows, "error", who=w) for w in who}
    body: list[list[Cell]] = [
        [f"{name} [{unit}]", *(said(columns[w][d]) for w in who)]
        for d, (name, unit) in enumerate(zip(spec.action_names(), units))
    ]
    whole = {w: overall(rows, "error", scale, who=w) for w in who}
    body.insert(0, ["all, in standard deviations", *(said(whole[w]) for w in who)])
    count = len({r["episode"] for r in rows})
    about = f"Mean absolute error over {robot.horizon} steps, {count} held-out episodes, 95 % intervals over episodes"
    spans = [Span(w, x.value, x.low, x.high, f"{x.value:.2f}") for w, x in whole.items()]
    svg = draw_spans("Error of the chunk, all dimensions", "standard deviations of the commands", spans)
    return table(about, ["dimension", *who], body) + text(chart(svg))


def language_section(rows: Rows, clean: Rows, scale: np.ndarray) -> str:
    """How much the words move, in the unit of the errors."""
    body: list[list[Cell]] = [["as asked", "–", said(overall(clean, "error", scale, who=TUNED))]]
    arms = list(dict.fromkeys(r["arm"] for r in rows))
    for arm in arms:
        body.append([arm, *(said(overall(rows, of, scale, arm=arm)) for of in ("moved", "error"))])
    why = "" if "swapped" in arms else " The dataset has one instruction, so there is no other one to be told."
    about = f"0 moved: the words are not heeded. In standard deviations of the commands.{why}"
    return table(about, ["instruction", "the command moves by", "error"], body)


def data_section(report: Report) -> str:
    """What the doctor found."""
    facts: list[list[Cell]] = [[name, value] for name, value in report.facts.items()]
    lines: list[list[Cell]] = [[f.severity, f.check, f.what] for f in report.findings]
    return table("", ["", ""], facts) + table("", ["", "check", "found"], lines)


def write_tune_report(
    file: Path, title: str, lead: str, sections: Sequence[tuple[str, str]], sheet: Path | None, more: Sequence[Beside]
) -> Path:
    """The page: sections, tables of what was kept, and the contact sheet, pixel for pixel."""
    parts = list(sections)
    for heading, *rest in more:
        parts.append((heading, table("", *rest) if len(rest) == 2 else text(rest[0])))
    if sheet is not None:
        data, label = inline(sheet.read_bytes()), "Frames of demonstrations, as the model sees them"
        drawn = f'<div class="card"><img alt="{label}" src="{data}"></div>'
        parts.append(("What the model sees", drawn))
    write_atomic(file, page(title, lead, parts))
    return file
