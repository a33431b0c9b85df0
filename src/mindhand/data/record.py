"""Recording demonstrations from a world's scripted expert.

In three of four episodes the command is disturbed by Ornstein-Uhlenbeck noise while the label stays the
clean one: the demonstrations then hold recoveries (the idea of DART, arXiv 1703.09327, with correlated
noise). Episodes that fail under it are kept, with success False.

Every control step is stored with its pictures. Rendering only every second step would save about a third of the
time, but then either pictures repeat or actions have another rate than frames; both are conventions a reader would
have to know. What training wants at a lower rate it takes from the frame cache (`every=2`), while chunks of actions
keep the full one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from dataclasses import dataclass
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from mindhand.core.errors import BadData
from mindhand.core.keys import Key, Keys
from mindhand.core.progress import progress
from mindhand.core.red_team import refuse_attacked

from .episodes import Episode
from .lerobot_format import Layout
from .lerobot_stage import stage, staged_files
from .lerobot_write import LeRobotWriter

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from mindhand.core.nouns import Observation, Outcome
    from mindhand.core.spec import Spec


LIMIT = 4000  # control steps; a world decides or truncates an episode long before
BLOCK = 64  # noise is drawn in blocks, each a pure function of key and block number


class Teacher(Protocol):
    """A World (core/seams.py; only what is needed of it here) whose expert explains itself and can be disturbed.

    disturb: noise (n, size) is added to what the next `step` commands in those rows, beneath the action that was
    given: joints in rad on the desk, the hand's way in cm in Meta-World. reasoning: the text of the sub-step a row is
    in, "" in a world that has none.
    """

    spec: Spec

    def reset(self, keys: Sequence[Key], rows: Sequence[int]) -> None: ...
    def step(self, actions: np.ndarray, rows: Sequence[int]) -> Outcome: ...
    def observe(self, rows: Sequence[int], cameras: Sequence[str] | None = None) -> Observation: ...
    def expert(self, rows: Sequence[int]) -> np.ndarray: ...
    def geometry(self, rows: Sequence[int]) -> list[Mapping[str, Any]]: ...
    def project(self, points: np.ndarray, camera: str, rows: Sequence[int]) -> np.ndarray: ...
    def disturb(self, rows: Sequence[int], noise: np.ndarray) -> None: ...
    def reasoning(self, row: int) -> str: ...


@dataclass(frozen=True)
class Noise:
    """x' = (1 - theta) x + s n from x = 0, with s such that x comes to the standard deviation `sd`: rad, or whatever
    the world's `disturb` takes. The default is the desk's."""

    sd: float = 0.012
    theta: float = 0.15
    share: float = 0.75  # of the episodes
    size: int = 6  # numbers a row: joints of all arms

    def steps(self, key: Key) -> Callable[[int], np.ndarray]:
        """A function of t = 0, 1, ... (asked in order) that gives the noise (size,) of that step of the episode."""
        keys = Keys.of([key]).fold("demonstration noise")
        on = bool(keys.fold("on").uniform(1)[0, 0] < self.share)
        pull, push = 1.0 - self.theta, self.sd * np.sqrt(1.0 - (1.0 - self.theta) ** 2)
        x, block = np.zeros(self.size), np.zeros((0, self.size))

        def at(t: int) -> np.ndarray:
            nonlocal x, block
            if not on:
                return x
            if t % BLOCK == 0:
                block = keys.fold(t // BLOCK).normal(BLOCK, self.size)[0]
            x = pull * x + push * block[t % BLOCK]
            return x

        return at


Thought = Callable[[Any, int], str]  # world, row -> the text that goes with this frame
Labels = Callable[[Any, int], Mapping[str, np.ndarray]]  # world, row -> privileged targets of this frame by name


def no_labels(world: Teacher, row: int) -> Mapping[str, np.ndarray]:
    """None."""
    return {}


# Labels: in which camera, at what.
LOOKS = {"gaze": ("front", "goal"), "gaze_wrist": ("wrist", "object")}
GAZE = dict.fromkeys(LOOKS, 4)  # and how many numbers each holds
TIP = 0.02  # m from a thing's middle to its tip, along its yaw


def gaze(world: Teacher, row: int) -> Mapping[str, np.ndarray]:
    """What is looked at now, in or out of sight; NaN where nothing is. From the world's geometry.

    "gaze": pixels u, v in the camera "front" of the "goal", the thing to be taken or the spot where it is to
    stand; then of its tip, which tells how it is turned. "gaze_wrist": the same in the camera "wrist" of the
    "object", on the table or in the hand: how it sits there decides where the hand must go.
    """
    (facts,) = world.geometry([row])
    out = {}
    for name, (camera, thing) in LOOKS.items():
        x, y, z, yaw = facts[thing]
        points = np.array([[x, y, z], [x + TIP * np.cos(yaw), y + TIP * np.sin(yaw), z]])
        seen = world.project(points, camera, [row])[0] if np.isfinite(points).all() else np.full((2, 2), np.nan)
        out[name] = seen.astype(np.float32).ravel()
    return out


CELLS = (8, 16)  # rows and columns of the front picture whose depth is recorded: those of a `StemConfig`
DEPTH = {"depth": CELLS[0] * CELLS[1]}  # label, and how many numbers it holds


def depth(world: Any, row: int) -> Mapping[str, np.ndarray]:
    """How far away what the front camera sees is, cell after cell in reading order (m along its axis). Of a world that
    tells `depth(row, camera)`."""
    return {"depth": cell_depth(*world.depth(row, "front"), CELLS)}


def cell_depth(metres: np.ndarray, valid: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """The mean over valid pixels (h,w) of each cell, float32 (rows*columns,); NaN for a cell of which half or more is
    invalid. BadData where cells do not share out the picture."""
    (h, w), (rows, columns) = metres.shape, grid
    if h % rows or w % columns:
        raise BadData(f"depth of {h}x{w} pixels in {rows}x{columns} cells", "cells of whole pixels", "another grid")

    def cells(x: np.ndarray) -> np.ndarray:
        return x.reshape(rows, h // rows, columns, w // columns).sum((1, 3), dtype=np.float64).ravel()

    many, total = cells(valid), cells(np.where(valid, metres, 0.0))
    known = many > h * w / (rows * columns) / 2
    return np.where(known, total / np.maximum(many, 1), np.nan).astype(np.float32)


def own_words(world: Teacher, row: int) -> str:
    """What the world itself says."""
    return world.reasoning(row)


class _Row:
    """One running episode."""

    def __init__(self, number: int, key: Key, noise: Callable[[int], np.ndarray], instruction: str):
        self.number, self.key, self.noise, self.instruction = number, key, noise, instruction
        self.state: list[np.ndarray] = []
        self.action: list[np.ndarray] = []
        self.images: dict[str, list[np.ndarray]] = {}
        self.reasoning: list[str] = []
        self.labels: dict[str, list[np.ndarray]] = {}
        self.over = 0  # steps of success, without a break

    def episode(self, success: bool) -> Episode:
        return Episode(
            images={role: np.stack(x) for role, x in self.images.items()},
            state=np.stack(self.state),
            action=np.stack(self.action),
            instruction=self.instruction,
            reasoning=self.reasoning,
            success=success,
            key=self.key,
            labels={name: np.stack(x) for name, x in self.labels.items()},
        )


def demonstrate(
    world: Teacher,
    episodes: Sequence[tuple[int, Key]],
    done: Callable[[int, Episode], None],
    *,
    noise: Noise,
    rows: int,
    thought: Thought = own_words,
    labels: Labels = no_labels,
    after: int = 0,
) -> None:
    """Runs the expert through numbered keys, `rows` worlds at a time, and hands each finished Episode to `done`.

    An episode is a function of its key alone: noise is drawn from it, and rows share nothing. after: how many control
    steps more the expert is watched once it has succeeded. Otherwise an episode ends with what it is about, and hardly
    a frame shows that (docs/log.md).
    """
    waiting = list(reversed(episodes))
    running: dict[int, _Row] = {}
    free = list(range(rows))
    while waiting or running:
        begun = [(free.pop(), *waiting.pop()) for _ in range(min(len(free), len(waiting)))]
        if begun:
            at = [row for row, _, _ in begun]
            world.reset([key for _, _, key in begun], at)
            words = world.observe(at, cameras=()).text["instruction"]
            for (row, number, key), instruction in zip(begun, words):
                running[row] = _Row(number, key, noise.steps(key), instruction)
        at = sorted(running)
        seen = world.observe(at)
        refuse_attacked(seen, "demonstrations")
        thoughts = [thought(world, row) for row in at]
        marks = [labels(world, row) for row in at]
        command = np.asarray(world.expert(at), np.float32)
        world.disturb(at, np.stack([running[row].noise(len(running[row].state)) for row in at]))
        outcome = world.step(command, at)
        for i, row in enumerate(at):
            now = running[row]
            now.state.append(seen.state[i, -1].copy())
            now.action.append(command[i].copy())
            now.reasoning.append(thoughts[i])
            for name, mark in marks[i].items():
                now.labels.setdefault(name, []).append(np.asarray(mark, np.float32))
            for role, pictures in seen.images.items():
                now.images.setdefault(role, []).append(pictures[i, -1].copy())
            now.over = now.over + 1 if outcome.success[i] else 0  # what was knocked over on the way back is put again
            if now.over > after or (outcome.done[i] and not outcome.success[i]):
                done(now.number, now.episode(bool(outcome.success[i])))
                free.append(row)
                del running[row]
            elif len(now.state) >= LIMIT:
                raise BadData(
                    f"episode {now.key} is not decided after {LIMIT} steps",
                    "a world that ends or truncates its episodes",
                    "give the world a step limit",
                )


def pending(writer: LeRobotWriter, keys: Sequence[Key]) -> list[tuple[int, Key]]:
    """Number and key of every episode still to be recorded; staged ones of other keys are discarded."""
    if len(set(keys)) != len(keys):
        raise BadData("a key named twice", "distinct keys", "number the episodes")
    committed = set(writer.keys())
    wanted = dict(enumerate((k for k in keys if k not in committed), start=len(writer)))
    staged = writer.staged()
    for number, key in staged.items():
        if wanted.get(number) != key:
            writer.discard(number)
    return [(number, key) for number, key in wanted.items() if staged.get(number) != key]


def record_demonstrations(
    world: Teacher,
    keys: Sequence[Key],
    writer: LeRobotWriter,
    *,
    noise: Noise = Noise(),
    rows: int = 1,
    thought: Thought = own_words,
    labels: Labels = no_labels,
    after: int = 0,
    console: Console | None = None,
) -> int:
    """Records those of `keys` that `writer` does not hold yet, in this process; returns how many were recorded.

    Call it again with the same keys after a kill: what was staged is kept. The writer is left open, with all
    episodes committed.
    """
    world.spec.require(writer.spec, "the world", f"dataset {writer.path}")
    todo = pending(writer, keys)
    count = 0
    with progress(console, "record", len(keys), len(keys) - len(todo), "episodes") as advance:

        def done(number: int, episode: Episode) -> None:
            nonlocal count
            stage(writer.path, number, episode, writer.layout)
            count += 1
            advance(len(keys) - len(todo) + count)

        demonstrate(world, todo, done, noise=noise, rows=rows, thought=thought, labels=labels, after=after)
    writer.commit()
    return count


def _work(
    make: Callable[[], Teacher],
    path: Path,
    layout: Layout,
    episodes: list[tuple[int, Key]],
    noise: Noise,
    rows: int,
    thought: Thought,
    labels: Labels,
    after: int,
) -> None:
    """A worker's whole life."""
    world = make()
    world.spec.require(layout.spec, "the world", f"dataset {path}")
    demonstrate(
        world,
        episodes,
        lambda number, episode: stage(path, number, episode, layout),
        noise=noise,
        rows=rows,
        thought=thought,
        labels=labels,
        after=after,
    )


def record_with_workers(
    make: Callable[[], Teacher],
    keys: Sequence[Key],
    writer: LeRobotWriter,
    *,
    workers: int = 2,
    noise: Noise = Noise(),
    rows: int = 1,
    thought: Thought = own_words,
    labels: Labels = no_labels,
    after: int = 0,
    console: Console | None = None,
) -> int:
    """As `record_demonstrations`, in `workers` processes that each make their own world (`make`: a module's
    function or class, picklable). The dataset is the same for any number of workers."""
    todo = pending(writer, keys)
    held = len(keys) - len(todo)
    with (
        ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool,
        progress(console, "record", len(keys), held, "episodes") as advance,
    ):
        shares = [todo[w::workers] for w in range(workers)]
        jobs = [
            pool.submit(_work, make, writer.path, writer.layout, share, noise, rows, thought, labels, after)
            for share in shares
            if share
        ]
        before, left = len(writer), set(jobs)
        numbers = {number for number, _ in todo}
        while left:
            left = wait(left, timeout=0.5).not_done
            there = {number for number, _ in staged_files(writer.path)} | set(range(before, len(writer)))
            advance(held + len(numbers & there))
            writer.commit(full=True)
        for job in jobs:
            job.result()
    writer.commit()
    return len(todo)
