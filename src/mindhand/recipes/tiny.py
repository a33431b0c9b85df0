"""What parts are tried with: a robot, a tiny VLM with random weights, batches, an observation."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Literal

import numpy as np
import torch

from mindhand.core.batch import Batch, Target
from mindhand.core.keys import Key
from mindhand.core.nouns import Observation
from mindhand.core.spec import Camera, Part, Spec
from mindhand.model.cascade import goal_codes
from mindhand.model.configs import vlm_config
from mindhand.model.vision import ViTConfig
from mindhand.model.vla import VLA
from mindhand.model.vlm import VLM, VLMConfig
from mindhand.model.words import Words

WIDTH, HORIZON, ROWS = 32, 4, 4
JOINT = Part("joint", "joint", ("x", "y"), "rad")
SPEC = Spec(
    robot="point",
    action=(JOINT, Part("gripper", "gripper", ("width",), "1", polarity="open")),
    state=(JOINT, Part("force", "other", ("x", "y", "z"), "N")),
    cameras=(Camera("front", 32, 32, (32, 32)), Camera("wrist", 16, 16, (16, 16))),
    rate=10.0,
)
ASKED, SAID = ("what is on the board?", "pick the right tile."), ("3+4=7. take 7 left back.", "none.")


@cache
def words() -> Words:
    """A tokenizer of printable ASCII."""
    return Words.train([*ASKED, *SAID], 160)


def vlm(eyes: Literal["stem", "vit"] = "stem", seed: int = 0) -> VLM:
    """Two layers, 32 wide."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = vlm_config("test", len(words()))
        if eyes == "vit":
            vit = ViTConfig(width=16, layers=2, heads=2, patch=8, out=WIDTH)
            config = VLMConfig(config.tower, config.vocabulary, vit, whole_pictures=True)
        model = VLM(config, words())
        for p in (*model.towers.parameters(), model.embedding.weight):  # as they are drawn small models are near linear
            if p.ndim > 1:
                torch.nn.init.normal_(p, std=p.shape[-1] ** -0.5)
    return model


def grid(model: VLM) -> tuple[int, int]:
    """Rows and columns of the first camera's cells."""
    camera = SPEC.cameras[0]
    with torch.no_grad():
        _, rows, columns = model.see({camera.role: torch.zeros(1, 1, 3, camera.height, camera.width)})[camera.role].grid
    return rows, columns


def batches(model: VLM, seed: int = 0) -> tuple[Batch, Batch]:
    """Robot rows, three of them a run of one episode and one cut short by its episode's end, and image-text rows. Both
    hold whatever an objective of ours may ask for: words, what is said where, glyphs, depths, places."""
    g = torch.Generator().manual_seed(seed)
    rows, columns = grid(model)
    cells = rows * columns
    ask = model.words.questions(ASKED * (ROWS // len(ASKED)))
    say = model.words.answers(SAID * (ROWS // len(SAID)))

    def some(*shape: int) -> Target:
        return Target(torch.rand(ROWS, *shape, generator=g), torch.ones(ROWS, *shape[:1], dtype=torch.bool))

    def classes(valid: torch.Tensor, count: int) -> Target:
        return Target(torch.randint(count, valid.shape, generator=g), valid)

    seen = torch.ones(ROWS, cells, dtype=torch.bool)
    asked = {"look": classes(say.supervised, cells), "glyph": classes(seen, 3), "spot": some(cells, 2)}
    depth = Target(torch.rand(ROWS, cells, generator=g) + 0.5, seen)
    gaze = {n: Target(16 * t.value, t.valid) for n, t in (("gaze", some(4)), ("gaze/wrist", some(4)))}
    valid = torch.ones(ROWS, HORIZON, dtype=torch.bool)
    valid[1, 2:] = False
    ends = torch.rand(2, ROWS, 1, 3, generator=g)
    fields = {
        "order": ("image/front", "text", "reasoning"),
        "images": {
            c.role: torch.randint(0, 256, (ROWS, 1, c.height, c.width, 3), dtype=torch.uint8, generator=g)
            for c in SPEC.cameras
        },
        "present": {c.role: torch.ones(ROWS, dtype=torch.bool) for c in SPEC.cameras},
        "text": {"text": ask, "reasoning": say},
    }
    robot = Batch(
        **fields,
        task=torch.ones(ROWS, dtype=torch.int64),
        state=torch.rand(ROWS, 1, SPEC.state_size, generator=g),
        actions=ends[0] + torch.linspace(0, 1, HORIZON).view(1, -1, 1) * ends[1],
        action_valid=valid,
        episode=torch.tensor([0, 0, 0, 1]),
        step=torch.tensor([0, 1, 2, 0]),
        targets={**asked, **gaze, "depth": depth},
    )
    return robot, Batch(**fields, task=torch.zeros(ROWS, dtype=torch.int64), targets=asked)


def from_words(robot: Batch) -> Batch:
    """The robot's rows as a hand learns from them that hears words alone: what was said, as `goal_codes`."""
    said = torch.from_numpy(goal_codes(SAID * (ROWS // len(SAID)), WIDTH))
    on = torch.ones(ROWS, dtype=torch.bool)
    kept = {"kept/prompt": Target(torch.zeros_like(said), on), "kept/reasoning": Target(said, on)}
    targets = {n: t for n, t in robot.targets.items() if n.startswith("gaze")}
    return replace(robot, order=robot.order[:1], text={}, targets={**targets, **kept})


def observation(query: int = 0) -> Observation:
    """One control step of two episodes."""
    rng = np.random.default_rng(query)
    return Observation(
        images={c.role: rng.integers(0, 256, (2, 1, c.height, c.width, 3), dtype=np.uint8) for c in SPEC.cameras},
        state=rng.random((2, 1, SPEC.state_size), np.float32),
        text={"instruction": ASKED},
        time=np.full((2, 1), query / SPEC.rate),
        keys=tuple(Key("tiny", "point", i) for i in range(2)),
    )


def fitted(vla: VLA) -> VLA:
    """With statistics, and a hand that has left its zero starts, so that every path carries something."""
    some = [batches(vla.backbone, seed)[0] for seed in range(8)]
    vla.codec.fit(iter(some))
    vla.state_scale.fit(torch.cat([b.state[:, -1] for b in some if b.state is not None]))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for p in vla.expert.parameters():
            if p.ndim > 1:
                torch.nn.init.normal_(p, std=p.shape[-1] ** -0.5)
    return vla
