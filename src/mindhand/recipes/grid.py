"""The grid of `mindhand prove chatvla2`: every variant on both families, several trainings, the same scenes for all.

    <run>/<address>/demonstrations/<family>      recorded once; address: a hash of plan, VLM and scenes
    <run>/<address>/frames/<family>              their decoded frames
    <run>/<address>/<family>/<variant>/<n>       training n, of so many steps as ChatVLA-2
    <run>/<address>/<family>/<variant>/<n>x5     of five times as many
        checkpoint/  evaluation/  misled/  told/  novel/  k-test/  scorecard.jsonl  cost.json  done.json

A cell is trained, evaluated and examined by itself, and resumes wherever it was stopped. Shared: demonstrations. What
is known of a finished one is kept in the checkout (`kept`), to be committed: another machine begins with it.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from rich.console import Console

from mindhand.core.checkpoint import load_checkpoint
from mindhand.core.folder import replacing_folder
from mindhand.data.cache import FrameCache
from mindhand.data.files import read_json, read_rows, write_json, write_rows
from mindhand.data.lerobot_read import LeRobotReader
from mindhand.evaluate.claim_evidence import BASE, CELLS, Evidence, Training
from mindhand.evaluate.ledger import SPLIT
from mindhand.evaluate.protocol import MATHS, MATHS_SCANNED, PLACING, Protocol
from mindhand.evaluate.run import code
from mindhand.evaluate.scores import scored
from mindhand.model.shipped import is_shipped, shipped
from mindhand.worlds.declared import scene_hash

from .chatvla2 import ChatVLA2Plan, address, train
from .cost import cost
from .derived import keeping, recovered
from .evaluate import tasks_of
from .kept import DONE, ENDING, archives, keep, unpack
from .latency import latency_rows
from .queue import run_jobs
from .record import demonstrations
from .rollouts import rows_of
from .router import routing_rows
from .stages import mind_rows
from .variants import GRID, SAME, Variant

PROTOCOLS = {"maths": MATHS, "placing": PLACING}  # the families that claims are about
BODY = {"panda-maths": MATHS}  # the bridge to another body: the same boards and tiles under another arm
BRIDGE = ("B7", "F0")  # who crosses it, and who is run first: ours, and the explanation that it must beat
PILOT = ("B7", "F0", "F1", "B1", "B3", "B4")
CONTROLS = ("F0-blind", "F0-deaf")  # a hand without eyes, and a mind that says nothing: both should fail
HEADLINE = (*PILOT, "B8a", "S1-only", "RF-film", "RF-former")
TRAININGS = 5  # of the headline's
LONGER = (1, 2, 5)  # times the steps that ChatVLA-2 has, until in-domain success is within `MATCHED` of its
MATCHED = 0.03
BASELINES = ("F0", "F1", "B1", "B3", "B4", "B5")  # who may have more steps: of ablations, equal ones are the question
GIVEN = ("misled", "told")  # thoughts that who thinks is given: another thing's, and the right one
SCANNED = {"maths": MATHS_SCANNED}  # boards that only what ships is asked about
OPENED = "k-test"  # the folder of a cell's looks at K-test, arms as above
OWN = ("evaluation", "novel")  # episodes on its own terms; class X is apart, no claim is about it
TIMED, WATCHED = ("B7", "B7-cached", "F0", "shipped"), 3  # variants whose queries are timed, and in so many episodes
ROUTED = ("B7",)  # whose experts are watched


def _fingerprint(checkpoint: Path) -> str:
    return load_checkpoint(checkpoint, None).fingerprint


@dataclass(frozen=True)
class GridPlan:
    """Sizes. Every baseline is given what ChatVLA-2 is given. Twice the demo's demonstrations and three times its
    steps: a hand of 1,000 steps put every third right tile down beside its place."""

    recipe: ChatVLA2Plan = field(
        default_factory=lambda: ChatVLA2Plan(brief=False, digits=False, episodes=680, tune=3000)
    )
    episodes: int = 200  # of each class: all that the protocols have; five trainings are a thousand pairs
    given: int = 100  # of these, with thoughts that are given
    splits: tuple[str, ...] = ("R", "K-dev")
    novel: int = 60  # episodes of class X, which nobody knows: reported, not claimed
    items: int = 100  # of each part of the scorecard


@dataclass(frozen=True)
class Cell:
    """One training of a variant on a family of tasks. longer: times the steps of ChatVLA-2."""

    family: str
    variant: str
    training: int
    longer: int = 1

    @property
    def path(self) -> str:
        """Its folder in the grid's."""
        return f"{self.family}/{self.variant}/{self.training}" + (f"x{self.longer}" if self.longer > 1 else "")

    def __str__(self) -> str:
        return self.path


@dataclass(frozen=True)
class Grid:
    """A plan, the VLM that everything begins with, and where its cells are; kept: where finished ones are kept."""

    plan: GridPlan
    nano: Path
    run: Path
    kept: Path | None = None

    @cached_property
    def root(self) -> Path:
        """The folder of this plan, this VLM and these scenes."""
        return self.run / address(asdict(self.plan), _fingerprint(self.nano), scene_hash())

    def restore(self) -> int:
        """Take over the kept cells of this plan that are not here; returns how many were."""
        found = [] if self.kept is None else [*archives(self.kept / self.root.name)]
        new = [(path, file) for path, file in found if not (self.root / path / DONE).exists()]
        for path, file in new:
            unpack(file, self.root / path)
        return len(new)

    def keep(self) -> int:
        """Keep every finished cell whose weights are here, for the others are as they were kept; returns how many were
        not, or otherwise."""
        home = self.kept and self.kept / self.root.name
        return sum(keep(self.root / c.path, home / (c.path + ENDING)) for c in trained(self)) if home else 0

    def done(self, cell: Cell) -> bool:
        """Whether it is trained, evaluated and examined; of weights that are shipped, whether it is these."""
        file, ships = self.root / cell.path / DONE, GRID[cell.variant].ships
        if not ships or not file.exists():
            return file.exists()
        return read_json(file, "cell")["checkpoint"] == _fingerprint(shipped(ships))

    def protocol(self, family: str) -> Protocol:
        """What its cells are evaluated by."""
        whole = _whole(family)
        return whole.only(*tasks_of(whole, self.plan.splits), episodes=self.plan.episodes)

    def rows(self, cell: Cell, arm: str = "evaluation") -> list[dict[str, Any]]:
        """Scored episodes of a cell that is done, of K-test too where that was opened; [] of an arm that it has not."""
        files = [self.root / cell.path / sub / arm / "rows.jsonl" for sub in ("", OPENED)]
        rows = [row for file in files if file.exists() for row in read_rows(file)]
        return scored(rows, arm if arm in GIVEN else "clean")


def _whole(family: str) -> Protocol:
    return (PROTOCOLS | BODY)[family]


def _there(variant: Variant) -> bool:
    return not variant.ships or is_shipped(variant.ships)


def order() -> Iterator[Cell]:
    """All cells of the grid that can be known before any is run: who might ship, the pilot, the headline, the bridge,
    the others."""
    seen: set[Cell] = set()
    some = [Cell(family, v, 0) for family in PROTOCOLS for v in BRIDGE]
    some += [Cell("maths", v, 0) for v in (*PILOT, *CONTROLS)]
    some += [Cell(family, v, n) for n in range(TRAININGS) for family in PROTOCOLS for v in HEADLINE]
    some += [Cell(family, v, 0) for family in BODY for v in BRIDGE]
    some += [Cell(family, v, 0) for v in GRID for family in PROTOCOLS]
    for cell in some:
        if cell not in seen and _there(GRID[cell.variant]) and (GRID[cell.variant].acts or cell.family == "maths"):
            seen.add(cell)
            yield cell


def due(grid: Grid) -> Iterator[Cell]:
    """Cells that are not done, in their order; each is followed by the longer ones that matching asks for."""
    for cell in order():
        for longer in LONGER:
            at = replace(cell, longer=longer)
            if not grid.done(at):
                yield at
                break
            if matched(grid, at):
                break


def matched(grid: Grid, cell: Cell) -> bool:
    """Whether a cell's in-domain success is within `MATCHED` of that of the same training of ChatVLA-2; also where
    that is not known yet, and of what is no baseline."""
    ours = Cell(cell.family, "B7", cell.training)
    if cell.variant not in BASELINES or not grid.done(ours):
        return True
    here, there = (_in_domain(grid, c) for c in (cell, ours))
    return here >= there - MATCHED


def _in_domain(grid: Grid, cell: Cell) -> float:
    rows = [r["success"] for r in grid.rows(cell) if r["task"].endswith("/R")]
    return sum(rows) / max(len(rows), 1)


def prepare(grid: Grid, family: str, console: Console | None) -> tuple[Path, Path]:
    """Demonstrations of a family and their frames, made once."""
    demos, cache = grid.root / "demonstrations" / family, grid.root / "frames" / family
    if not (demos / "done.json").exists():
        demonstrations(demos, grid.plan.recipe.episodes, family, console=console)
        write_json(demos / "done.json", {"episodes": grid.plan.recipe.episodes})
    FrameCache.build(cache, LeRobotReader(demos), every=grid.plan.recipe.every, console=console)
    return demos, cache


def run_cell(grid: Grid, cell: Cell, console: Console | None = None) -> None:
    """Train, evaluate and examine one cell, going on from wherever it was stopped."""
    folder, variant, recipe = grid.root / cell.path, GRID[cell.variant], grid.plan.recipe
    recipe = replace(recipe, seed=cell.training)
    recipe = replace(recipe, **{n: cell.longer * getattr(recipe, n) for n in ("align", "tune")})
    if variant.after:
        before = _before(grid, cell, variant.after, console)
        if variant.keeps:
            checkpoint = keeping(before, folder, variant.keeps)
        else:
            checkpoint = recovered(before, folder, grid.plan.items, cell.training, console)
    elif variant.ships:
        checkpoint = _copied(shipped(variant.ships), folder)
    else:
        demos, cache = prepare(grid, cell.family, console)
        checkpoint = train(grid.nano, demos, cache, folder, recipe, variant, console=console)
    if variant.acts:
        _act(grid, cell, grid.protocol(cell.family), folder, console)
        if grid.plan.novel:
            whole = _whole(cell.family)
            novel = whole.only(*tasks_of(whole, ("X",)), episodes=grid.plan.novel)
            rows_of(checkpoint, novel, folder / "novel", workers=1, films=0, console=console)
        if variant.ships and cell.family in SCANNED:
            scans = SCANNED[cell.family].only(*tasks_of(SCANNED[cell.family], ("K-dev",)), episodes=grid.plan.episodes)
            rows_of(checkpoint, scans, folder / "scanned", workers=1, films=2, console=console)
    mind_rows(checkpoint, grid.plan.items, folder / "scorecard.jsonl", console)
    done = {**asdict(cell), "checkpoint": _fingerprint(checkpoint), "code": code()}
    write_json(folder / DONE, done)


def _act(grid: Grid, cell: Cell, protocol: Protocol, folder: Path, console: Console | None) -> None:
    """Its episodes of a protocol, on its own terms and, of the open world, with thoughts that are given."""
    checkpoint = grid.root / cell.path / "checkpoint"
    rows_of(checkpoint, protocol, folder / "evaluation", workers=1, films=2, console=console)
    open_world = protocol.only(*(t for t in protocol.tasks if "/K-" in t), episodes=grid.plan.given)
    for arm in GIVEN if GRID[cell.variant].words else ():
        rows_of(checkpoint, replace(open_world, arm=arm), folder / arm, workers=1, films=0, console=console)


def open_ktest(grid: Grid, variants: Collection[str], console: Console | None = None) -> int:
    """Evaluate what is done of some variants, and whose weights are here, on K-test, once a release: every look is a
    line of the ledger. Returns how many cells were."""
    cells = [c for c in trained(grid) if c.variant in variants and GRID[c.variant].acts and c.family in PROTOCOLS]
    for cell in cells:
        whole = _whole(cell.family)
        held = whole.only(*tasks_of(whole, (SPLIT,)), episodes=grid.plan.episodes)
        _act(grid, cell, held, grid.root / cell.path / OPENED, console)
    grid.keep()
    return len(cells)


def _copied(weights: Path, folder: Path) -> Path:
    """Weights that are shipped as the checkpoint of a cell, whose folder was theirs already or is cleared."""
    checkpoint = folder / "checkpoint"
    if not checkpoint.exists() or _fingerprint(checkpoint) != _fingerprint(weights):
        with replacing_folder(folder) as fresh:
            shutil.copytree(weights, fresh / checkpoint.name)
    return checkpoint


def _before(grid: Grid, cell: Cell, variant: str, console: Console | None) -> Path:
    """The checkpoint of the same training of another variant, which is run first where it is not done."""
    at = replace(cell, variant=variant)
    checkpoint = grid.root / at.path / "checkpoint"
    if not grid.done(at) or not checkpoint.exists():  # of a kept cell only the rows are here
        run_cell(grid, at, console)
    return checkpoint


def run_queue(grid: Grid, minutes: float, workers: int, console: Console) -> int:
    """Run what is due for so many minutes, `workers` cells at a time (`run_jobs`); returns how many were finished."""

    def ready(cell: Cell) -> None:
        if not GRID[cell.variant].ships:
            prepare(grid, cell.family, console)

    count = run_jobs(partial(due, grid), partial(run_cell, grid), minutes, workers, console, before=ready)
    for cell in trained(grid):  # with nothing else running
        file = grid.root / cell.path / "latency.jsonl"
        if not file.exists() and cell.variant in TIMED:
            write_rows(file, latency_rows(grid.root / cell.path / "checkpoint", grid.protocol(cell.family), WATCHED))
        costs = file.with_name("cost.json")
        if GRID[cell.variant].acts and not costs.exists() and (cell.training, cell.longer) == (0, 1):
            write_json(costs, asdict(cost(grid.root / cell.path / "checkpoint", grid.protocol(cell.family))))
        if cell.variant in ROUTED and cell.family in PROTOCOLS:
            routing_rows(grid.root / cell.path / "checkpoint", PROTOCOLS, grid.root / cell.path / "routing.jsonl")
    grid.keep()
    return count


def evidence(grid: Grid, longer: bool = True) -> Evidence:
    """The rows of all cells of `PROTOCOLS` that are done, as claims are judged on. longer: of several lengths the
    longest, which is matched in-domain; else equal steps."""
    chosen: dict[tuple[str, str, int], Cell] = {}
    for at in (c for c in finished(grid) if c.family in PROTOCOLS):
        where = at.family, at.variant, at.training
        if longer or where not in chosen:
            chosen[where] = at
    cells: dict[str, dict[str, Training]] = {}
    for at in chosen.values():
        of, name = cells.setdefault(at.variant, {}), str(at.training)
        before = of.get(name, Training())
        card = read_rows(grid.root / at.path / "scorecard.jsonl") if at.family == "maths" else before.scorecard
        episodes, swapped = [*before.episodes, *grid.rows(at)], [*before.swapped, *grid.rows(at, "misled")]
        timed = grid.root / at.path / "latency.jsonl"
        latency = read_rows(timed) if at.family == "maths" and timed.exists() else before.latency
        of[name] = Training(episodes, swapped, card, latency)
    known = {name: cells[of] for name, of in SAME.items() if of in cells}
    base = mind_rows(grid.nano, grid.plan.items, grid.root / "base.jsonl")
    named = {name: of for name, of in cells.items() if name in CELLS} | known  # claims know no others
    return Evidence({BASE: {"0": Training(scorecard=base)}, **named})


def finished(grid: Grid) -> list[Cell]:
    """All cells that are done, of every length."""
    return [at for cell in order() for n in LONGER if grid.done(at := replace(cell, longer=n))]


def trained(grid: Grid) -> list[Cell]:
    """Those of them whose weights are here."""
    return [at for at in finished(grid) if (grid.root / at.path / "checkpoint").exists()]
