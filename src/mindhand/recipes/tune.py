"""`mindhand tune DATASET --from CHECKPOINT|VLM`: from demonstrations of a robot to a policy for it, in one command.

The doctor looks the dataset over and what it calls an error is refused; whole episodes are held out and written down;
the policy is a checkpoint of ours or is made round a VLM (`tune_start`), and learns by adapters or in full; then a
small ACT learns from the same episodes, and a page compares both with what was recorded (`tune_report`). With --plan
nothing is trained: what it would take is counted (`tune_cost`).

In the run folder: sheet.png (what the model sees), plan.json (sizes, and the episodes held out), frames, tune and act
(states of both trainings), checkpoint, open_loop.jsonl, language.jsonl, report.html. The same command goes on with it.

Under torchrun (`torchrun --nproc-per-node 8 --no-python mindhand tune ...`) the policy learns in shares, an equal
part of each step's rows in every process; what comes behind the training is done by the first.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from mindhand.core.batch import Batch
from mindhand.core.nouns import smoke_observation
from mindhand.data.cache import FrameCache
from mindhand.data.doctor import Report
from mindhand.data.files import write_rows
from mindhand.data.mixture import Mixture, SampleSet
from mindhand.data.opening import open_dataset
from mindhand.data.reader import Reader
from mindhand.data.robot import RobotFrames, RobotSource
from mindhand.evaluate.report import Beside
from mindhand.model.act_hand import ActConfig
from mindhand.model.hub import weights_folder
from mindhand.model.licence import FILE as LICENCE
from mindhand.model.resnet import ResNetEyesConfig
from mindhand.model.shipped import shipped
from mindhand.model.store import load_vla, save_vla
from mindhand.model.vla import VLA
from mindhand.model.words import Words
from mindhand.train.loop import train_stage
from mindhand.train.ranks import dealt, in_turn, meet, rank, ranks
from mindhand.train.sharded import gathered, shard
from mindhand.train.stage import Optimiser, Stage

from . import act
from . import tune_report as told
from .chatvla2 import blank, fit
from .planned import keep_to
from .stages import StageRows, kept_tables
from .tune_cost import cost_table, costs, fit_table, needs
from .tune_start import (
    Start,
    TunePlan,
    build,
    examined,
    frames_of,
    learns,
    parted,
    require_statistics,
    start_of,
)


@dataclass(frozen=True)
class Looks:
    """How closely a tuned policy is looked at, and beside what."""

    frames: int = 24  # of each held-out episode
    items: int = 50  # of each part of the scorecard
    act: tuple[int, int] = (128, 16)  # width of the small ACT, channels of its eyes


@dataclass(frozen=True)
class TuneSource:
    """Source: robot frames on the policy's device, without thoughts for a policy that has none when it acts."""

    inner: RobotSource

    def batch(self, vla: Any, step: int) -> Batch:
        """The batch of a step, a pure function of it."""
        found = self.inner.batch(vla, step)
        if vla.reasoner is None:
            text = {n: t for n, t in found.text.items() if n != "reasoning"}
            order = tuple(n for n in found.order if n != "reasoning")
            found = replace(found, text=text, order=order)
        return dealt(found.to(vla.device))


def tune(data: Path, base: Path | None, full: bool, plan: bool, steps: int, rows: int, run: Path, seed: int) -> int:
    """The verb. base: a folder, or a repository's owner/name; nano as it is shipped unless given."""
    console, sizes = Console(), TunePlan(full=full, steps=steps, rows=rows, seed=seed)
    begin = shipped() if base is None else weights_folder(base)
    if plan:
        show_plan(data, begin, sizes, console)
    else:
        page = tune_policy(data, begin, run, sizes, console=console)
        if page is not None:
            console.print(f"report: {page}", soft_wrap=True)
    return 0


def show_plan(data: Path, base: Path, plan: TunePlan, console: Console) -> None:
    """What a tuning would take, printed; nothing is trained or written, no weight is read."""
    reader = open_dataset(data)
    start = start_of(base, reader.spec, data)
    modes = {}
    for full in (False, True):
        mode = replace(plan, full=full)
        vla = build(start, reader, mode, meta=True)
        modes[full] = costs(vla, learns(vla, mode), reader, plan.rows)
    console.print(start.about(reader.spec.robot), soft_wrap=True)
    console.print(str(start.licence), soft_wrap=True)
    how = "in full" if plan.full else f"by adapters of rank {plan.rank}"
    console.print(cost_table(modes[plan.full], plan.rows, f"{how}, {plan.rows} rows a step (estimated)"))
    total = sum(c.operations or 0.0 for c in modes[plan.full]) * plan.steps
    console.print(f"{plan.steps} steps: {total / 1e15:.3g} PFLOP")
    names = {False: "adapters", True: "in full (--full)"}
    console.print(fit_table([(names[full], needs(found)) for full, found in modes.items()], plan.rows))


def tune_policy(
    data: Path, base: Path, run: Path, plan: TunePlan, *, looks: Looks = Looks(), console: Console | None = None
) -> Path | None:
    """Tune what lies in `base` on the dataset in `data`, resuming in `run`; returns the report, None in all processes
    but the first. Refuses what the doctor calls an error, a policy of another robot, and a run folder of another
    plan."""
    with meet():
        first = rank() == 0
        console = (console if first else None) or Console(quiet=True)
        begun = in_turn(lambda: _begin(data, base, run, plan, console))
        vla = begun.vla
        shard(vla)
        train_stage(vla, stage_of(vla, begun.robot, begun.frames, plan), run / "tune", console=console)
        if ranks() > 1:
            weights = gathered(vla)
            if first:  # what learned in shares can neither act nor be saved whole
                vla = build(begun.start, begun.reader, plan)
                vla.load_state_dict(weights)
                vla.load_statistics(begun.vla.statistics())
                vla.to(begun.vla.device)
    return _finish(vla, begun, plan, looks, run, console) if first else None


@dataclass(frozen=True)
class Begun:
    """A tuning before its first step: the data and what was said of them, which episodes are held out, the frames of
    the others, and the policy, fitted to these."""

    reader: Reader
    report: Report
    start: Start
    held: np.ndarray
    robot: RobotFrames
    frames: np.ndarray
    vla: VLA


def _begin(data: Path, base: Path, run: Path, plan: TunePlan, console: Console) -> Begun:
    reader, report = examined(data, run / "sheet.png", console)
    start = start_of(base, reader.spec, data)
    console.print(start.about(reader.spec.robot), soft_wrap=True)
    console.print(str(start.licence), soft_wrap=True)
    held = parted(reader, plan)
    what = {"recipe": "tune", "stages": [], "data": reader.fingerprint(), "base": start.identity}
    keep_to(run / "plan.json", {**what, **asdict(plan), "held_out": np.flatnonzero(held).tolist()})
    vla = build(start, reader, plan)
    cache = FrameCache.build(run / "frames", reader, console=console)
    robot = robot_frames(vla, reader, cache)
    frames = cache.frames[np.isin(cache.frames, frames_of(reader, held, False))]
    if start.kind == "policy":
        require_statistics(vla, robot, frames, (str(start.folder), str(data)))
    else:
        fit(vla, only(robot, frames))
    if torch.cuda.is_available():
        vla.cuda()
    return Begun(reader, report, start, held, robot, frames, vla)


def _finish(vla: VLA, begun: Begun, plan: TunePlan, looks: Looks, run: Path, console: Console) -> Path:
    start, reader = begun.start, begun.reader
    checkpoint = run / "checkpoint"
    card = model_card(start, reader, plan, begun.held)
    files = {LICENCE: start.licence.to_bytes(), "README.md": card.encode()}
    save_vla(vla.eval(), checkpoint, smoke=smoke_observation(reader.spec), files=files)
    console.print(f"checkpoint: {checkpoint}", soft_wrap=True)
    small = train_small(begun.robot, begun.frames, run / "act", plan, looks, console)
    return compared(vla, small, begun.robot, begun.held, start, plan, looks, run, begun.report, console)


def robot_frames(vla: VLA, reader: Reader, cache: FrameCache) -> RobotFrames:
    """The dataset as this policy learns from it."""
    horizon = getattr(vla.expert.config, "horizon", None)
    if horizon is None:  # of a hand that its codec cuts
        obs = smoke_observation(vla.spec)
        horizon = vla.act(obs, vla.start(obs.keys))[0].actions.shape[1]
    words_of = blank if vla.reasoner is None else str
    camera = vla.see[0] if vla.see else reader.spec.roles[0]
    return RobotFrames(
        reader, cache, vla.backbone.words, horizon, camera, words_of=words_of, transforms=vla.transforms
    )  # fmt: skip


def stage_of(vla: VLA, robot: RobotFrames, frames: np.ndarray, plan: TunePlan) -> Stage:
    """The one stage: commands, and the thoughts of a policy that thinks, on frames of the episodes that are not held
    out. In full, the mind learns at a tenth of the hand's rate."""
    source = RobotSource(
        robot, Mixture([SampleSet("demonstrations", "robot", frames)], plan.rows, plan.seed), plan.seed
    )
    hand = (("backbone.towers.hand.*", 1.0), ("backbone.*", 0.1))
    optimiser = Optimiser(
        lr=plan.lr, muon=0.0, warmup=max(1, min(100, plan.steps // 10)), decay=0.5, slow=hand if plan.full else ()
    )
    weights = {"action": 1.0} | ({} if vla.reasoner is None else {"text": 1.0})
    return Stage("tune", TuneSource(source), plan.steps, learns(vla, plan), weights, optimiser, seed=plan.seed)


def only(robot: RobotFrames, frames: np.ndarray) -> RobotFrames:
    """The same frames for `fit`, which measures every frame of the cache: no others, and no pictures."""
    return replace(robot, cache=FrameCache(frames, {}))


def train_small(
    robot: RobotFrames, frames: np.ndarray, folder: Path, plan: TunePlan, looks: Looks, console: Console
) -> VLA:
    """A small ACT: what a policy without a mind makes of the same episodes. It sees as many frames as the tuned one,
    resumes in `folder` and leaves a checkpoint there."""
    spec, (width, channels) = robot.reader.spec, looks.act
    hand = ActConfig(robot.horizon, spec.action_size, spec.state_size, width, 4, 4 * width, 2, 2, 1)
    eyes = ResNetEyesConfig(spec.roles, width, depths=(1, 1, 1, 1), channels=channels)
    with torch.random.fork_rng():
        torch.manual_seed(plan.seed)
        words = Words.train(robot.reader.tasks, 256)  # they are only ever counted
        small = VLA(spec=spec, **act.act_parts(spec, words, hand, eyes))
    seen = RobotFrames(robot.reader, robot.cache, words, robot.horizon, spec.roles[0], words_of=blank)
    fit(small, only(seen, frames))
    if torch.cuda.is_available():
        small.cuda()
    optimiser = Optimiser(lr=3e-4, muon=0.0, warmup=0, decay=0.5, clip=10.0)
    mixture = Mixture([SampleSet("demonstrations", "robot", frames)], act.ROWS, plan.seed)
    stage = Stage("act", TuneSource(RobotSource(seen, mixture, plan.seed)), act_steps(plan), ("expert.*", "streams.*"),
                  {"action": 1.0}, optimiser, seed=plan.seed, bf16=False)  # fmt: skip
    train_stage(small, stage, folder / "act", console=console)
    save_vla(small.eval(), folder / "checkpoint", smoke=smoke_observation(spec))
    return small


def act_steps(plan: TunePlan) -> int:
    """Steps in which the small ACT sees as many frames as the tuned policy."""
    return max(1, plan.steps * plan.rows // act.ROWS)


def model_card(start: Start, reader: Reader, plan: TunePlan, held: np.ndarray) -> str:
    """README.md of the checkpoint."""
    spec = reader.spec
    how = "all weights learned" if plan.full else f"the hand learned, and adapters of rank {plan.rank} in the mind"
    front = f"---\nlicense: {start.licence.name}\n---\n" if start.licence.name else ""
    return f"""{front}# A policy for {spec.robot}

Made by `mindhand tune` from {start.name} ({start.identity}): {how}; {plan.steps} steps of {plan.rows} frames, \
seed {plan.seed}.

- {start.licence}. What is made of weights is under their terms; the demonstrations have terms of their own.
- Demonstrations: {reader.path.name} ({reader.fingerprint()}), {len(held)} episodes, {int(held.sum())} of them held out.
- Robot: spec {spec.fingerprint()}, {spec.rate:g} Hz, commands {", ".join(spec.action_names())}, cameras \
{", ".join(spec.roles)}.

What it does with episodes that it has never seen is in report.html of its run; no robot was moved.
"""


def compared(
    vla: VLA, small: VLA, robot: RobotFrames, held: np.ndarray, start: Start, plan: TunePlan, looks: Looks, run: Path,
    report: Report, console: Console,
) -> Path:  # fmt: skip
    """Measure the tuned policy beside the small ACT, write the rows and the page; returns the page."""
    frames = frames_of(robot.reader, held, False)
    looked = told.looked_at(robot, np.flatnonzero(held), looks.frames)
    who = {told.TUNED: told.predictor(vla, robot), told.ACT: told.predictor(small, robot),
           told.LAST: told.last_command(robot), told.MEAN: told.mean_command(robot, frames)}  # fmt: skip
    rows, scale = told.open_loop(robot, looked, who, console), told.scale_of(robot, frames)
    words = told.language(vla, robot, looked, console)
    write_rows(run / "open_loop.jsonl", rows)
    write_rows(run / "language.jsonl", words)
    more: list[Beside] = []
    kept: str | tuple[Any, Any] = "not measured: the scorecard's items are pictures that nano reads, and no others"
    if start.kind != "import":
        kept = told.retention(load_vla(start.folder).to(vla.device), vla, looks.items, console)
    if not isinstance(kept, str):
        (_, *least), known = kept_tables([StageRows("before", kept[0], []), StageRows("tuned", kept[1], [])])
        more = [("The least that is kept of what the mind knew", *least), known]
    remains = [] if more else [("What the mind still knows", f'<p class="soft">{told.text(str(kept))}</p>')]
    sections = [
        ("Open loop", told.open_loop_section(robot, rows, scale)),
        ("Language", told.language_section(words, rows, scale)),
        *remains,
        ("The data", told.data_section(report)),
    ]
    tuned, acted = (told.overall(rows, "error", scale, who=w) for w in (told.TUNED, told.ACT))
    lead = (
        f"From {start.name}, {'in full' if plan.full else 'by adapters'}, {plan.steps} steps of {plan.rows} "
        f"frames; the small ACT took {act_steps(plan)} of {act.ROWS}. {start.licence}. "
        f"{told.verdict(rows, scale)}"
    )
    line = f"error on held-out episodes, in standard deviations: {told.said(tuned)}, small ACT {told.said(acted)}"
    console.print(line, soft_wrap=True, highlight=False)
    console.print(told.verdict(rows, scale), soft_wrap=True, highlight=False)
    return told.write_tune_report(
        run / "report.html", f"A policy for {robot.reader.spec.robot}", lead, sections, report.sheet, more
    )
