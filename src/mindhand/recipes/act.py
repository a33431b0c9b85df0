"""ACT (2304.13705), the baseline without a language model: its parts, and their training from demonstrations.

    python -m mindhand.recipes.act DEMONSTRATIONS RUN [STEPS]

trains it from scratch, in float32, on any dataset that mindhand reads, resumes in RUN, and leaves RUN/checkpoint, a
policy like any other: `mindhand eval RUN`. `act_lerobot.py` loads what LeRobot has trained.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from mindhand.core.errors import Refusal
from mindhand.core.nouns import smoke_observation
from mindhand.core.spec import Spec
from mindhand.data.cache import FrameCache
from mindhand.data.files import write_json
from mindhand.data.mixture import Mixture, SampleSet
from mindhand.data.opening import open_dataset
from mindhand.data.robot import RobotFrames, RobotSource
from mindhand.model.act_hand import ActConfig, ActHand
from mindhand.model.resnet import ResNetEyes, ResNetEyesConfig
from mindhand.model.standard_codec import StandardCodec
from mindhand.model.store import save_vla
from mindhand.model.trunk import TowerConfig
from mindhand.model.vla import VLA
from mindhand.model.vlm import VLM, VLMConfig
from mindhand.model.words import Words
from mindhand.train.loop import train_stage
from mindhand.train.stage import Optimiser, Stage

from .chatvla2 import blank, fit

HORIZON, ROWS, STEPS = 100, 8, 20_000  # the paper's chunk and batch; its 2000 epochs of 50 demonstrations are more
OPTIMISER = Optimiser(lr=1e-5, muon=0.0, warmup=0, decay=0.0, clip=10.0)  # the paper's rate, for its batch of 8


def deaf(words: Words) -> VLM:
    """What stands where others have a mind: it knows words and has no layer, so a pass of it costs nothing."""
    none = TowerConfig(width=2, layers=0, heads=1, groups=1, head_size=6, ffn=1, sections=(1, 1, 1))
    return VLM(VLMConfig(none, len(words)), words)


def act_parts(spec: Spec, words: Words, hand: ActConfig, eyes: ResNetEyesConfig) -> dict[str, Any]:
    """What `VLA` takes beside the spec: a hand, and its eyes; the trunk sees nothing and nobody thinks."""
    hands = {"backbone": deaf(words), "expert": ActHand(hand), "codec": StandardCodec(spec)}
    return {**hands, "streams": [ResNetEyes(eyes)], "see": ()}


def paper(spec: Spec, horizon: int = HORIZON) -> tuple[ActConfig, ResNetEyesConfig]:
    """The sizes of the paper for a robot and all of its cameras."""
    hand = ActConfig(horizon, spec.action_size, spec.state_size)
    return hand, ResNetEyesConfig(spec.roles, hand.width)


def train(
    data: Path,
    run: Path,
    steps: int = STEPS,
    *,
    sizes: tuple[ActConfig, ResNetEyesConfig] | None = None,
    optimiser: Optimiser = OPTIMISER,
    seed: int = 0,
    console: Console | None = None,
) -> Path:
    """Train on every frame of a dataset; returns the checkpoint. sizes: the paper's for its robot unless given. Its
    words are those of the dataset's own tasks: they are only ever counted."""
    reader = open_dataset(data)
    cache = FrameCache.build(run / "frames", reader, console=console)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        hand, eyes = sizes or paper(reader.spec)
        vla = VLA(spec=reader.spec, **act_parts(reader.spec, Words.train(reader.tasks, 256), hand, eyes))
    camera = reader.spec.roles[0]
    robot = RobotFrames(reader, cache, vla.backbone.words, hand.horizon, camera, words_of=blank)
    fit(vla, robot)
    source = RobotSource(robot, Mixture([SampleSet("demonstrations", "robot", cache.frames)], ROWS, seed), seed)
    stage = Stage("act", source, steps, ("expert.*", "streams.*"), {"action": 1.0}, optimiser, seed=seed, bf16=False)
    train_stage(vla, stage, run / "act", console=console)
    save_vla(vla.eval(), run / "checkpoint", smoke=smoke_observation(reader.spec))
    write_json(run / "plan.json", {"recipe": "act", "steps": steps, "seed": seed, "stages": []})
    return run / "checkpoint"


def main(argv: Sequence[str]) -> int:
    """The command; returns its exit code, 2 for a refusal."""
    try:
        if len(argv) not in (2, 3) or (len(argv) == 3 and not argv[2].isdigit()):
            raise Refusal(f"{' '.join(argv)!r}", "a dataset, a folder for the run, and a number of steps", "see act.py")
        torch.set_num_threads(1)
        console = Console()
        console.print(f"checkpoint: {train(*map(Path, argv[:2]), *map(int, argv[2:]), console=console)}")
    except Refusal as refusal:
        print(f"mindhand: {refusal}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
