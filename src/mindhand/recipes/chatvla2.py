"""ChatVLA-2 on the desk, thin but whole: demonstrations of a task, three stages, a policy.

    warm-up      the upcycled VLM on image-text, the action head closed (5-6k steps in the authors' development);
                 half of the steps ask for the thoughts of a robot, in the words of its reasoning
    alignment    image-text : robot = 1:3; text, action and gaze losses, all of the model learns
    fine-tuning  the VLM is frozen and its thoughts are remembered; the hand alone learns

A `Variant` says what differs between policies that are compared; everything else is shared. Demonstrations hold sums,
or toys, of class R only; image-text of the later stages holds R and C (`cotraining`); K and X are met at test.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from mindhand.core.batch import Batch
from mindhand.core.checkpoint import load_checkpoint
from mindhand.core.errors import BadData, Refusal
from mindhand.core.nouns import smoke_observation
from mindhand.core.spec import Spec
from mindhand.data.cache import FrameCache
from mindhand.data.mixture import IMAGE_TEXT_PER_ROBOT, Mixture, SampleSet
from mindhand.data.opening import open_dataset
from mindhand.data.reader import Reader
from mindhand.data.robot import RobotFrames, RobotSource
from mindhand.methods.act.fast import FAST
from mindhand.methods.act.fast import Config as FASTConfig
from mindhand.model.bins import BinCodec
from mindhand.model.cascade import Cascade
from mindhand.model.codec import ChunkCodec
from mindhand.model.configs import expert_config
from mindhand.model.expert import ActionExpert, Process
from mindhand.model.eyes import EyeConfig, Gaze, GazeConfig, WristEye
from mindhand.model.fresh import Fresh
from mindhand.model.reasoner import ReasonerConfig, WordsReasoner
from mindhand.model.state_words import StateWords
from mindhand.model.store import copy_weights, load_vla, save_vla
from mindhand.model.token_expert import TokenConfig, TokenExpert
from mindhand.model.vla import VLA
from mindhand.train.anchor import AnchorLoss
from mindhand.train.loop import train_stage
from mindhand.train.said import SaidActions
from mindhand.train.stage import Optimiser, Stage
from mindhand.worlds import absent, course, placing, scene
from mindhand.worlds.declared import scene_hash
from mindhand.worlds.desk.spec import EMPTY, HAND, SHUT
from mindhand.worlds.desk.world import SPEC

from .bases import of_this_world
from .cotraining import Asked, beside, warm_up
from .nano import CorpusSource, looking, token_grid
from .places import place_of, read_thought
from .planned import keep_to
from .thoughts import listen
from .variants import OURS, Variant

HEARD = 1024  # frames at which a hand that learns with its mind hears, before it begins, how that thinks
AIMS = {"aim/front": 1.0, "aim/wrist": 1.0}  # weights of the eyes' own losses


@dataclass(frozen=True)
class ChatVLA2Plan:
    """Sizes of everything. The defaults are what two CPU cores do in some minutes, all variants together."""

    episodes: int = 340  # demonstrations, all of class R
    every: int = 2  # every so-many-th frame becomes a training sample
    horizon: int = 16  # H; the protocol executes 8
    warmup: int = 8  # steps, 32 pictures of 1 to 4 questions
    align: int = 100  # steps of `mixed`
    mixed: int = 32  # rows, a quarter of them image-text (a variant may say otherwise)
    gentle: float = 0.25  # of the hand's learning rate, at which the VLM learns in the first two stages
    tune: int = 1000  # steps of `rows`
    rows: int = 64
    digits: bool = True  # image-text holds digits; False: the paper's filter, for a VLM that knows toys
    brief: bool = True  # co-training asks of sums what a brief pretraining asked; False: all ten kinds of question
    process: Process = "diffusion-action"  # (paper: "diffusion", of noise; it needs hours, not minutes)
    seed: int = 0


TASKS = {  # by the name of their demonstrations
    "maths": f"{scene.FAMILY}/R",
    "placing": f"{placing.FAMILY}/R",
    **{f"{name}-{word}": f"{of}/R/{word}" for name, of in (("maths", scene.FAMILY), ("placing", placing.FAMILY))
       for word in absent.WORDS[of]},
    **{f"course-{level}": f"{course.FAMILY}/{level}" for level in course.LEVELS},
}  # fmt: skip
FAMILIES = tuple(dict.fromkeys(task.partition("/")[0] for task in TASKS.values()))
TOGETHER = (scene.FAMILY, placing.FAMILY)  # what one policy can learn both of


def families_of(reader: Reader) -> tuple[str, ...]:
    """The families of tasks that a dataset demonstrates, sorted: one, or both of `TOGETHER`; refuses others."""
    found = tuple(sorted({"" if e.key is None else e.key.task.partition("/")[0] for e in reader.episodes}))
    if not (set(found) <= set(TOGETHER) or (len(found) == 1 and found[0] in FAMILIES)):
        wanted = f"of one of {FAMILIES}, or of {' and '.join(TOGETHER)}"
        raise BadData(f"demonstrations of {list(found)}", wanted, "record some: mindhand data record")
    return found


def spec_of(reader: Reader) -> Spec:
    """The spec of the robot whose demonstrations these are; refuses one that their world does not have."""
    spec = place_of([f"{family}/R" for family in families_of(reader)], reader.spec.robot).spec
    spec.require(reader.spec, str(reader.path), "this world's robot")
    return spec


def blank(text: str) -> str:
    """No words at all."""
    return ""


def frames(
    folder: Path, cache: Path, plan: ChatVLA2Plan, vla: VLA, variant: Variant, console: Console | None
) -> RobotFrames:
    """The recorded frames, decoded once."""
    reader = open_dataset(folder)
    pictures = FrameCache.build(cache, reader, every=plan.every, console=console)
    words_of = str if variant.words else blank
    horizon = variant.horizon or plan.horizon
    return RobotFrames(reader, pictures, vla.backbone.words, horizon, words_of=words_of, transforms=vla.transforms)


def build(nano: Path, plan: ChatVLA2Plan, variant: Variant, spec: Spec = SPEC) -> VLA:
    """A VLA around a pretrained VLM: upcycled, with an untrained hand, for a robot of this spec. Refuses a VLM of other
    scenes."""
    reader = load_vla(of_this_world(nano))
    backbone = reader.backbone
    grid = token_grid(backbone)
    camera, wrist = spec.camera("front"), spec.camera("wrist")
    with torch.random.fork_rng():
        torch.manual_seed(plan.seed)
        expert, codec = _acting(plan, variant, backbone.width, spec)
        config = expert.config
        look = GazeConfig(looking(backbone).layer, grid, (camera.height, camera.width), config.width, config.state)
        streams = [WristEye(EyeConfig(wrist.height, config.width, config.state)), Gaze(look)] if variant.eyes else []
        return VLA(
            spec=spec,
            backbone=backbone,
            expert=expert,
            codec=codec,
            reasoner=WordsReasoner(ReasonerConfig(limit=40 if variant.words else 0), read_thought),
            streams=streams,
            transforms=[StateWords(spec.part("gripper", "state").start, (EMPTY, SHUT), HAND)],
            objectives=[
                looking(backbone),
                *([AnchorLoss(load_vla(nano))] if variant.anchored else []),
                *([_saying(plan, backbone.width, spec)] if variant.says else []),
            ],
            edits=[] if variant.edit is None else [variant.edit],
        )


def _acting(plan: ChatVLA2Plan, variant: Variant, width: int, spec: Spec) -> tuple[Any, Any]:
    """The hand, untrained, and the codec that it speaks."""
    horizon = variant.horizon or plan.horizon
    if variant.hand == "tokens":
        bins = BinCodec(spec)
        length = horizon * spec.action_size
        return TokenExpert(TokenConfig(bins.config.bins, length, spec.state_size, width)), bins
    base = expert_config("nano", action=spec.action_size, horizon=horizon, state=spec.state_size, trunk=width)
    how = {"place": variant.place, "process": variant.process or plan.process, "insulated": variant.insulated}
    made = Cascade if variant.hand == "cascade" else ActionExpert
    return made(replace(base, **how)), ChunkCodec(spec)


def _saying(plan: ChatVLA2Plan, width: int, spec: Spec) -> SaidActions:
    """Actions as words of the mind, in as many tokens as FAST needs."""
    codec = FAST(spec, FASTConfig(plan.horizon))
    told = TokenConfig(codec.codes, codec.longest, spec.state_size, width, codec.end)
    return SaidActions(codec, TokenExpert(told))


def fit(vla: VLA, robot: RobotFrames) -> None:
    """Statistics of actions and state, over every cached frame."""
    reader, index = robot.reader, robot.cache.frames
    vla.state_scale.fit(torch.from_numpy(reader.state[index]))

    def batches() -> Iterator[Batch]:
        for at in np.array_split(index, max(1, len(index) // 512)):
            actions, valid = robot.chunks(at)
            state, task = torch.from_numpy(reader.state[at]).unsqueeze(1), torch.ones(len(at), dtype=torch.int64)
            yield Batch((), {}, {}, {}, task, state, torch.from_numpy(actions), torch.from_numpy(valid))

    vla.codec.fit(batches())
    for said in (o for o in vla.objectives if isinstance(o, SaidActions)):
        said.fit(batches())


def stages_before(plan: ChatVLA2Plan, variant: Variant) -> list[str]:
    """Names of the stages before the hand alone learns."""
    return [name for name in variant.stages if name != "fine-tuning" and (name != "warm-up" or plan.warmup)]


def stages(vla: VLA, robot: RobotFrames, plan: ChatVLA2Plan, variant: Variant) -> list[Stage]:
    """The stages before the hand alone learns, which needs the thoughts they leave behind (`fine_tuning`)."""
    grid, families = token_grid(vla.backbone), families_of(robot.reader)
    maths = families == (scene.FAMILY,)
    digits = plan.digits if variant.digits is None else variant.digits
    if not (maths and digits) and len(vla.backbone.words.encode(" basket")) > 1:
        raise Refusal("a VLM that has never heard of toys", "one of a whole pretraining", "mindhand pretrain nano")
    how = Asked(plan.brief and maths, variant.words, digits)
    # A mind that learns at the speed of a new hand forgets what it knew (docs/log.md).
    gentle = Optimiser(
        lr=1e-3,
        muon=0.01,
        warmup=20,
        adam=("*.ffn.*", "*.low_*", "expert.*", "streams.*"),
        slow=() if isinstance(variant.edit, Fresh) else (("backbone.*", plan.gentle),),
    )
    early = stages_before(plan, variant)
    whole = [name for name in early if name != "warm-up"]
    steps = plan.align + (0 if "fine-tuning" in variant.stages else plan.tune)
    out = []
    for name in early:
        if name == "warm-up":
            source = CorpusSource(warm_up(families, plan.seed + 1, plan.warmup, how), vla.backbone.words, grid, 0)
            out.append(Stage(name, source, plan.warmup, variant.learns, {"text": 1.0, "look": 0.5}, gentle))
        else:
            weights = {"text": 1.0, "action": 1.0, "look": 0.5} | (AIMS if variant.eyes else {})
            weights |= {name: 1.0 for name, on in (("anchor", variant.anchored), ("said", variant.says)) if on}
            sample = beside(families, plan.seed + 2, steps, plan.mixed, how) if name == "alignment" else None
            ratio = (variant.texts or IMAGE_TEXT_PER_ROBOT) if sample else 0.0
            source = RobotSource(robot, mixture(robot, plan, ratio), plan.seed, sample, grid=grid)
            learns = (*variant.learns, *_hand(variant), *(("objectives.*.expert.*",) if variant.says else ()))
            out.append(Stage(name, source, steps // len(whole), learns, weights, gentle, seed=plan.seed))
    return out


def _hand(variant: Variant) -> tuple[str, ...]:
    """Names of the hand's parameters, and of its eyes'."""
    return ("expert.*", "streams.*") if variant.eyes else ("expert.*",)


def mixture(robot: RobotFrames, plan: ChatVLA2Plan, texts: float) -> Mixture:
    """Which frames a stage before the last sees; texts: image-text samples beside each."""
    # With a thing in the hand there is little to see: half of those frames are enough.
    put = np.array(["put" in robot.reader.reasoning(int(i)) for i in robot.cache.frames])
    kept = ~put | (np.arange(len(put)) % 2 == 0)
    sets = [SampleSet("demonstrations", "robot", robot.cache.frames[kept])]
    if texts:
        sets.insert(0, SampleSet("desk corpus", "image-text", np.arange(1 << 20)))
    return Mixture(sets, plan.mixed, plan.seed, image_text=texts)


def fine_tuning(vla: VLA, robot: RobotFrames, plan: ChatVLA2Plan, variant: Variant, folder: Path) -> Stage:
    """The third stage: remembers the frozen VLM's thoughts (given ones, as the paper does, or its own), then trains the
    hand. Where the hand is to look is the demonstrations' either way."""
    every = Mixture([SampleSet("demonstrations", "robot", robot.cache.frames)], plan.rows, plan.seed + 3)
    kept = listen(vla, robot, robot.cache.frames, folder / "thoughts.npz", own=bool(variant.own))
    source = RobotSource(robot, every, plan.seed + 3, kept=kept)
    weights = {"action": 1.0} | (AIMS if variant.eyes else {})
    hand = Optimiser(lr=2e-3, muon=0.0, warmup=50, decay=0.6)
    return Stage("fine-tuning", source, plan.tune, _hand(variant), weights, hand, seed=plan.seed)


def train(
    nano: Path,
    demos: Path,
    cache: Path,
    folder: Path,
    plan: ChatVLA2Plan = ChatVLA2Plan(),
    variant: Variant = OURS,
    *,
    mind: Path | None = None,
    console: Console | None = None,
) -> Path:
    """All stages of one variant in `folder`, resuming; returns the checkpoint. BadData for a folder of another plan,
    of other demonstrations or of another VLM; only fine-tuning, if it is the last stage, may have become longer.

    mind: the run folder of another variant whose finished VLM, and thoughts, are taken over: only the hand is trained.
    """
    of_this_world(nano)  # before any data are looked for
    spec = spec_of(open_dataset(demos))
    vla = build(nano, plan, variant, spec)
    folder.mkdir(parents=True, exist_ok=True)
    last = variant.stages[-1] == "fine-tuning"
    early = stages_before(plan, variant) if mind is None else []
    about: dict[str, Any] = {"plan": asdict(plan), "variant": asdict(variant), "scene": scene_hash(), "stages": early}
    about |= {"demos": open_dataset(demos).fingerprint(), "nano": load_checkpoint(nano, None).fingerprint}
    about |= {"mind": mind and load_checkpoint(mind / "checkpoint", None).fingerprint}
    # Only the end may grow: what follows a stage begins with what that stage left.
    keep_to(folder / "plan.json", about, grows=("plan.tune",) if last else ())
    robot = frames(demos, cache, plan, vla, variant, console)
    first = stages(vla, robot, plan, variant) if mind is None else []
    fit(vla, robot)
    if mind is not None:
        copy_weights(load_vla(mind / "checkpoint", spec).backbone, vla.backbone)
        shutil.copy(mind / "thoughts.npz", folder / "thoughts.npz")
    heard = robot.cache.frames[:: max(1, len(robot.cache.frames) // HEARD)]
    for stage in first:
        hears = not last and stage.name != "warm-up" and variant.hand == "expert"
        if hears and not bool(vla.expert.thought.fitted):
            listen(vla, robot, heard, folder / "heard.npz")
        train_stage(vla, stage, folder / stage.name, console=console)
        save_vla(vla.eval(), folder / stage.name / "checkpoint", smoke=smoke_observation(spec))
    if last:
        tune = fine_tuning(vla, robot, plan, variant, folder)
        train_stage(vla, tune, folder / tune.name, console=console)
    checkpoint = folder / "checkpoint"
    save_vla(vla.eval(), checkpoint, smoke=smoke_observation(spec))
    return checkpoint


def address(*what: Any) -> str:
    """Content address of a training: a hash of everything that decides it."""
    return hashlib.sha256(json.dumps(what, sort_keys=True, default=asdict).encode()).hexdigest()[:12]
