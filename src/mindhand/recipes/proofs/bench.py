"""The common bench of the proofs: what every method is put into and compared with.

Fixed: three bases (`BASES`), the protocol, demonstrations in its world, how long all of them learn. A proof
adds `Arm`s to a base; the first, "baseline", is the bench's own and no method writes it. All arms of a bench that are
trained with the same number see the same frames in the same order and meet the same scenes.

    <run>/<address>/demonstrations     recorded once; address: a hash of the bench, the VLM and the scenes
    <run>/<address>/frames             their decoded frames
    <run>/<address>/before/<address>   what an arm's own parameters learned before, where one has such
    <run>/<address>/<arm>/<n>          training n: robot/ checkpoint/ evaluation/ measured.jsonl done.json
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from mindhand.core.checkpoint import load_checkpoint
from mindhand.core.errors import BadData
from mindhand.core.files import locked
from mindhand.core.keys import Keys
from mindhand.core.nouns import smoke_observation
from mindhand.core.record import Kind
from mindhand.core.seams import Turn
from mindhand.core.spec import Spec
from mindhand.data.cache import FrameCache
from mindhand.data.files import read_rows, write_json, write_rows
from mindhand.data.lerobot_read import LeRobotReader
from mindhand.data.mixture import Mixture, Runs, SampleSet
from mindhand.data.reader import Reader
from mindhand.data.robot import RobotFrames, RobotSource
from mindhand.evaluate.protocol import Protocol
from mindhand.evaluate.run import code
from mindhand.methods.act.oft import plug as regressing
from mindhand.model.bins import BinCodec
from mindhand.model.codec import ChunkCodec
from mindhand.model.reasoner import ReasonerConfig, WordsReasoner, unread
from mindhand.model.store import load_vla, save_vla
from mindhand.model.token_expert import TokenConfig, TokenExpert
from mindhand.model.tower_hand import TOWER, AddTower, TowerHand, TowerHandConfig
from mindhand.model.vla import VLA
from mindhand.train.loop import train_stage
from mindhand.train.stage import Optimiser, Stage

from ..chatvla2 import address, blank, fit
from ..nano import token_grid
from ..places import demonstrate, place_of
from ..rollouts import Shield, Wrap, rows_of

Parts = dict[str, Any]
Change = Callable[[Mapping[str, Any], Spec], Parts]
Turns = Callable[[np.ndarray, list[str], Keys], list[Turn]]  # of `RobotFrames`
After = Callable[["Stand", int, VLA, RobotFrames, Path], AbstractContextManager[Stage]]  # given a cell's number, folder
Shown = tuple[Reader, FrameCache, Sequence[SampleSet]]  # frames, and of which of them batches are made
BASELINE = "baseline"
MEASURED = "measured.jsonl"


def flow(backbone: Any, spec: Spec, horizon: int) -> Parts:
    """A hand in a tower of the trunk, by flow matching (as pi0, 2410.24164)."""
    width = backbone.width
    return {
        "backbone": backbone,
        "reasoner": WordsReasoner(ReasonerConfig(limit=0), unread),
        "expert": TowerHand(TowerHandConfig(spec.action_size, horizon, spec.state_size, width)),
        "codec": ChunkCodec(spec),
        "edits": [AddTower(TOWER, width, 2 * width)],
    }


def tokens(backbone: Any, spec: Spec, horizon: int) -> Parts:
    """A hand of tokens, one a number, in 256 bins (as OpenVLA, 2406.09246)."""
    config = TokenConfig(256, horizon * spec.action_size, spec.state_size, backbone.width)
    return {
        "backbone": backbone,
        "reasoner": WordsReasoner(ReasonerConfig(limit=0), unread),
        "expert": TokenExpert(config),
        "codec": BinCodec(spec),
    }


def oft(backbone: Any, spec: Spec, horizon: int) -> Parts:
    """A hand that regresses a chunk in one pass (OpenVLA-OFT, 2502.19645, without FiLM)."""
    return regressing(tokens(backbone, spec, horizon), spec, film=False)


BASES: dict[str, Callable[[Any, Spec, int], Parts]] = {"flow": flow, "tokens": tokens, "oft": oft}


@dataclass(frozen=True)
class Bench:
    """A base on a protocol, with budgets that nobody may change for one arm alone.

    base: of `BASES`; demonstrations: of each task shown, in the protocol's world; camera: what the VLM sees; every:
    every so-many-th frame is a sample; horizon: H; steps of `rows` samples; run: consecutive samples of an episode in a
    batch (1: none; memories need some); shown: the tasks that are demonstrated, the protocol's unless named."""

    base: str
    protocol: Protocol
    camera: str = "front"
    demonstrations: int = 25
    every: int = 1
    horizon: int = 8
    steps: int = 1500
    rows: int = 32
    run: int = 1
    optimiser: Optimiser = field(
        default_factory=lambda: Optimiser(lr=1e-3, muon=0.01, warmup=50, adam=("expert.*", "streams.*"))
    )
    shown: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        place_of((*self.protocol.tasks, *self.shown))  # or its refusal

    @property
    def demonstrated(self) -> tuple[str, ...]:
        """The tasks that are demonstrated."""
        return self.shown or self.protocol.tasks


@dataclass(frozen=True)
class Before:
    """What some of an arm's parameters learn before all of them do, from the bench's frames. train: patterns of their
    names; weights: of the only losses; steps: of as many rows as the bench's own."""

    train: tuple[str, ...]
    weights: Mapping[str, float]
    steps: int


@dataclass(frozen=True)
class Measured:
    """What is measured of a trained arm beside its success. rows: of the policy as it was trained and its cell's
    folder, a key each, the same of every training for a quotient; metrics: name -> (kind, field, unit), as
    `write_record` takes them, of the rows that have that field; chance: a guesser's, where that has a meaning."""

    rows: Callable[[VLA, Stand, Path], list[dict[str, Any]]]
    metrics: Mapping[str, tuple[Kind, str, str]]
    chance: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Arm:
    """One side of a proof. change: (parts, spec) -> parts, of the bench's base; None: the base as it is. weights: of
    the losses that it adds; one that is not named here is computed and not learned from. turns: what it is taught to
    say (`RobotFrames.turns`), made of what was demonstrated; None: the base's, nothing. before: what is pretrained,
    alike in every training; measure: what else is told of it. wrap: what goes round the base as it was trained, of
    which such an arm changes nothing: its checkpoint is the baseline's. prepare: instead, what makes it of the trained
    base and its training's number, for one that learns first. shield: what stands behind the base as it was trained.
    after: a stage that goes on from the baseline's weights instead of the bench's own training. data: what a training
    learns from instead of the bench's demonstrations."""

    name: str
    change: Change | None = None
    weights: Mapping[str, float] = field(default_factory=dict)
    turns: Callable[[Reader], Turns] | None = None
    before: Before | None = None
    measure: Measured | None = None
    wrap: Wrap | None = None
    prepare: Callable[[VLA, Stand, int], Wrap] | None = None
    shield: Shield | None = None
    after: After | None = None
    data: Callable[[Stand, int], Shown] | None = None

    def __post_init__(self) -> None:
        if self.wraps and (self.change or self.turns or self.before or self.weights or self.after or self.data):
            raise BadData(f"arm '{self.name}' wraps and changes", "one of both", "wrap the base as it is")
        if self.data and (self.before or self.after):  # both learn from the bench's frames
            raise BadData(f"arm '{self.name}' with data of its own and another stage", "one of both", "leave one out")
        if self.wrap and self.prepare:
            raise BadData(f"arm '{self.name}' with a wrap and what makes one", "one of both", "leave one out")

    @property
    def wraps(self) -> bool:
        """Whether it goes round the baseline, or behind it."""
        return bool(self.wrap or self.prepare or self.shield)

    def around(self, vla: VLA, stand: Stand, training: int) -> Mapping[str, Wrap]:
        """What goes round what was trained, by name."""
        wrap = self.prepare(vla, stand, training) if self.prepare else self.wrap
        return {self.name: wrap} if wrap else {}

    @property
    def trained(self) -> str:
        """The arm whose checkpoint it acts from: its own, or the baseline's."""
        return BASELINE if self.wraps else self.name


@dataclass(frozen=True)
class Stand:
    """A bench, the VLM that everything begins with, and where its cells are."""

    bench: Bench
    nano: Path
    run: Path

    @property
    def spec(self) -> Spec:
        """Of the protocol's world."""
        return place_of(self.bench.protocol.tasks).spec

    @cached_property
    def root(self) -> Path:
        """The folder of this bench, this VLM and these scenes."""
        b = self.bench
        what = {n: v for n, v in vars(b).items() if n not in ("protocol", "optimiser", "shown")}
        if b.demonstrated != b.protocol.tasks:  # others lie where they lay before there was a choice
            what["shown"] = b.shown
        where = b.protocol.to_json(), asdict(self.spec), place_of(b.protocol.tasks).scene()
        mind = load_checkpoint(self.nano, None).fingerprint
        return self.run / address(what, where, asdict(b.optimiser), mind)

    def folder(self, arm: str, training: int) -> Path:
        """Of one cell."""
        return self.root / arm / str(training)

    def done(self, arm: str, training: int) -> bool:
        """Whether it is trained and evaluated."""
        return (self.folder(arm, training) / "done.json").exists()

    def rows(self, arm: str, training: int) -> list[dict[str, Any]]:
        """The episodes of a cell that is done."""
        return read_rows(self.folder(arm, training) / "evaluation" / "rows.jsonl")

    def measured(self, arm: str, training: int) -> list[dict[str, Any]]:
        """What was measured of it besides."""
        return read_rows(self.folder(arm, training) / MEASURED)


def prepare(stand: Stand, console: Console | None) -> tuple[LeRobotReader, FrameCache]:
    """Demonstrations and their frames, made once."""
    b, demos = stand.bench, stand.root / "demonstrations"
    if not (demos / "done.json").exists():
        demonstrate(demos, b.demonstrated, b.demonstrations * len(b.demonstrated), console=console)
        write_json(demos / "done.json", {"episodes": b.demonstrations})
    reader = LeRobotReader(demos)
    return reader, FrameCache.build(stand.root / "frames", reader, every=b.every, console=console)


def build(stand: Stand, arm: Arm, training: int) -> VLA:
    """The policy of an arm, untrained but for its mind. Weights are a function of the training's number, and whatever
    an arm shares with the base begins as the base's: parts that a method draws first would shift all others'."""
    b = stand.bench

    def made(change: Change | None) -> VLA:
        backbone = load_vla(stand.nano).backbone
        with torch.random.fork_rng():
            torch.manual_seed(training)
            parts = BASES[b.base](backbone, stand.spec, b.horizon)
            return VLA(spec=stand.spec, **(change(parts, stand.spec) if change else parts))

    vla = made(arm.change)
    if arm.change is not None:
        mine = vla.state_dict()
        same = {n: x for n, x in made(None).state_dict().items() if n in mine and mine[n].shape == x.shape}
        vla.load_state_dict(same, strict=False)
    return vla


def source(stand: Stand, training: int, vla: VLA, robot: RobotFrames, sets: Sequence[SampleSet] = ()) -> RobotSource:
    """The batches of a training, the same for all arms that learn from the same."""
    b = stand.bench
    every = [*sets] or [SampleSet("demonstrations", "robot", robot.cache.frames)]
    mixture: Any = Mixture(every, b.rows // b.run, training)
    if b.run > 1:
        mixture = Runs(mixture, robot.reader.episode_index, b.run)
    return RobotSource(robot, mixture, training, grid=token_grid(vla.backbone))


def stage(stand: Stand, arm: Arm, training: int, vla: VLA, robot: RobotFrames, sets: Sequence[SampleSet] = ()) -> Stage:
    """All of an arm's training but what was before: robot data alone, every parameter learns."""
    b, weights = stand.bench, {"action": 1.0, **arm.weights}
    own = source(stand, training, vla, robot, sets)
    return Stage("robot", own, b.steps, ("*",), weights, b.optimiser, seed=training)


def pretrain(stand: Stand, arm: Arm, training: int, vla: VLA, robot: RobotFrames, console: Console | None) -> None:
    """What an arm learns before, once for all arms that begin with the same weights and learn the same then."""
    if arm.before is None:
        return
    first, of = hashlib.sha256(), arm.before
    for name, x in vla.state_dict().items():
        first.update(name.encode() + x.cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    folder = stand.root / "before" / address(asdict(of), training, first.hexdigest())
    folder.mkdir(parents=True, exist_ok=True)
    own = source(stand, training, vla, robot)
    what = Stage("before", own, of.steps, of.train, of.weights, stand.bench.optimiser, seed=training)
    with locked(folder):
        train_stage(vla, what, folder, console=console)


def learn(stand: Stand, arm: Arm, training: int, console: Console | None = None) -> VLA:
    """Train what an arm acts from, going on from wherever it was stopped, and save it as its checkpoint."""
    b, (reader, pictures), folder = stand.bench, prepare(stand, console), stand.folder(arm.trained, training)
    sets: Sequence[SampleSet] = ()
    if arm.data:
        reader, pictures, sets = arm.data(stand, training)
    folder.mkdir(parents=True, exist_ok=True)
    base = learn(stand, Arm(BASELINE), training, console).state_dict() if arm.after else {}
    with locked(folder):  # two arms may act from one
        vla = build(stand, arm, training)
        how = {"words_of": blank, "turns": arm.turns(reader) if arm.turns else None, "transforms": vla.transforms}
        robot = RobotFrames(reader, pictures, vla.backbone.words, b.horizon, b.camera, **how)
        fit(vla, robot)
        if arm.after:
            vla.load_state_dict(base, strict=False)
            with arm.after(stand, training, vla, robot, folder) as what:
                train_stage(vla, what, folder / "after", console=console)
        else:
            pretrain(stand, arm, training, vla, robot, console)
            train_stage(vla, stage(stand, arm, training, vla, robot, sets), folder / "robot", console=console)
        if not (folder / "checkpoint" / "manifest.json").exists():
            save_vla(vla.eval(), folder / "checkpoint", smoke=smoke_observation(stand.spec))
    return vla.eval()


def run_cell(stand: Stand, arm: Arm, training: int, console: Console | None = None) -> None:
    """Train an arm and evaluate it, going on from wherever it was stopped."""
    protocol, folder = stand.bench.protocol, stand.folder(arm.name, training)
    vla = learn(stand, arm, training, console)
    wraps = arm.around(vla, stand, training)
    checkpoint = stand.folder(arm.trained, training) / "checkpoint"
    how = {"workers": 1, "films": 0, "console": console, "wraps": wraps, "shield": arm.shield}
    rows_of(checkpoint, protocol, folder / "evaluation", **how)
    if arm.measure:
        write_rows(folder / MEASURED, arm.measure.rows(vla, stand, folder))
    name = load_checkpoint(checkpoint, stand.spec).fingerprint
    write_json(folder / "done.json", {"arm": arm.name, "training": training, "checkpoint": name, "code": code()})
