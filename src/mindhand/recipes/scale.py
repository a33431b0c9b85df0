"""Recipes at the size of their papers: a policy around a VLM of billions, and the stages that train it.

    python -m mindhand.recipes.scale                 all of them on the meta device: what is stored, trained and held
    with torch.device("meta"): made = chatvla2_2b()  one, without weights
    made = chatvla2_2b(spec, import_folder("Qwen2-VL-2B-Instruct").vlm())
    for phase in made.phases:
        train_stage(made.vla, phase.stage(source), folder / phase.name)

The same parts, stages and loop as nano's: a test trains every phase on a tiny VLM. Nobody has trained these here at
full size; what a docstring expects is its source's figure.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from rich.console import Console
from rich.table import Table

from mindhand.core.errors import Refusal
from mindhand.core.seams import Source
from mindhand.core.spec import Camera, Part, Spec
from mindhand.methods.act.oft import OFT
from mindhand.methods.act.oft import Config as OFTConfig
from mindhand.model.codec import ChunkCodec
from mindhand.model.configs import expert_config, vlm_config
from mindhand.model.expert import ActionExpert
from mindhand.model.low_rank import ADDED, LoRA
from mindhand.model.moe import Upcycle
from mindhand.model.padded_codec import PaddedCodec, PaddedConfig
from mindhand.model.pi0_hand import Pi0Config, Pi0Hand
from mindhand.model.reasoner import ReasonerConfig, WordsReasoner, unread
from mindhand.model.tower_hand import TOWER, AddTower
from mindhand.model.untied import Untied
from mindhand.model.vla import VLA
from mindhand.model.vlm import VLM
from mindhand.model.whole_prompt import WholePrompt
from mindhand.train.stage import Optimiser, Stage

from .cost import idle

FOUND = 4, 16  # bytes a number that is frozen, and one that learns: weight, gradient and two moments in float32


@dataclass(frozen=True)
class Phase:
    """A stage of a paper without its data: so many steps of so many rows (over all devices), and how many samples of
    image-text stand beside a robot's frame (None: no robot's frames at all)."""

    name: str
    steps: int
    rows: int
    train: tuple[str, ...]
    weights: dict[str, float]
    optimiser: Optimiser
    texts: float | None = 0.0

    def stage(self, source: Source, seed: int = 0) -> Stage:
        """The stage, with the data that it learns from."""
        return Stage(self.name, source, self.steps, self.train, self.weights, self.optimiser, seed)


@dataclass(frozen=True)
class Scaled:
    """A policy, untrained but for the VLM that was given, and its phases in order."""

    vla: VLA
    phases: tuple[Phase, ...]


def _arm(*cameras: Camera, robot: str, rotation: str, size: int, state: Sequence[str], rate: float) -> Spec:
    turn = tuple(f"r{i}" for i in range(size))
    hand = Part("gripper", "gripper", ("width",), "1", polarity="open")
    return Spec(
        robot=robot,
        action=(
            Part("position", "position", ("x", "y", "z"), "m", frame="arm_base"),
            Part("rotation", "rotation", turn, "1" if rotation == "rot6d" else "rad", frame="arm_base",
                 rotation=rotation),
            hand,
        ),
        state=(Part("joints", "joint", tuple(state), "rad"), hand),
        cameras=cameras,
        rate=rate,
    )  # fmt: skip


SEVEN = tuple(f"q{i}" for i in range(7))
FRANKA = _arm(  # of ChatVLA-2's toys: 10 numbers to command, and here with the gripper 8 of state
    *(Camera(role, 240, 320, (480, 640), interpolation="area") for role in ("front", "wrist")),
    robot="franka", rotation="rot6d", size=6, state=SEVEN, rate=15.0,
)  # fmt: skip
LIBERO = _arm(
    *(Camera(role, 224, 224, (256, 256), interpolation="bilinear") for role in ("front", "wrist")),
    robot="libero-panda", rotation="axis_angle", size=3, state=SEVEN, rate=20.0,
)  # fmt: skip


def chatvla2_2b(spec: Spec = FRANKA, backbone: VLM | None = None, hand: str = "scaledp-h") -> Scaled:
    """ChatVLA-2 (2505.21906): Qwen2-VL-2B, 8 experts of which 2 act, ScaleDP-H, chunks of 16.

    Image-text beside robots 1 : 3, then the hand alone, 50,000 steps each at a learning rate of 2e-5 that falls in a
    cosine to 2e-6, after 3,000 steps of warm-up (section 3.3; its appendix B.1 has 15,000 for the first and the warm-up
    in the second). Not in the paper, but in its authors' development: 128 rows a step, LoRA of rank 64 on attention at
    ten times the rate, experts warmed up on image-text for 6,000 steps. They also put LoRA on the eyes, which are
    frozen here.

    Expected, from the paper: sums of the open world .827 where DexVLA has .192 and pi0 .154; toys .814.
    9.64 billion numbers of language model are stored, 2.70 used by a token.
    """
    backbone = backbone or VLM(vlm_config("qwen2-vl-2b"))
    config = expert_config(hand, action=spec.action_size, horizon=16, state=spec.state_size, trunk=backbone.width)
    vla = VLA(
        spec=spec,
        backbone=backbone,
        expert=ActionExpert(config),
        codec=ChunkCodec(spec),
        reasoner=WordsReasoner(ReasonerConfig(limit=256), unread),
        edits=[Upcycle(), LoRA(64, 256.0, ("attn.qkv", "attn.o"))],
        see=tuple(c.role for c in spec.cameras),
    )
    mind = (*ADDED, "backbone.towers.vlm.layers.*.ffn.*")
    both = Optimiser(lr=2e-5, muon=0.0, slow=tuple((p, 10.0) for p in ADDED), warmup=3000, decay=1.0, floor=0.1,
                     shape="cosine")  # fmt: skip
    return Scaled(vla, (
        Phase("warm-up", 6_000, 128, mind, {"text": 1.0}, both, None),
        Phase("alignment", 50_000, 128, (*mind, "expert.*"), {"text": 1.0, "action": 1.0}, both, 1 / 3),
        Phase("fine-tuning", 50_000, 128, ("expert.*",), {"action": 1.0}, replace(both, slow=())),
    ))  # fmt: skip


def pi0(spec: Spec = LIBERO, backbone: VLM | None = None, width: int = 1024, ffn: int = 4096) -> Scaled:
    """pi0 (2410.24164): PaliGemma and a tower of .3 billion that shares its attention, flow matching, chunks of 50.

    Fine-tuned whole as openpi's defaults do: 30,000 steps of 32 rows, 2.5e-5 after 1,000 steps of warm-up, in a cosine
    to a tenth. Theirs has beta 2 of .95 (.98 here) and averages weights. Best begun with pi0's own weights
    (`import_folder(...).vla(spec)`, with these phases).

    Expected: 3.24 billion numbers; .942 on LIBERO's four suites, as 2502.19645 reports it.
    """
    backbone = backbone or VLM(vlm_config("paligemma-3b"))
    config = Pi0Config(spec.state_size, width=width)
    vla = VLA(
        spec=spec,
        backbone=backbone,
        expert=Pi0Hand(config),
        codec=PaddedCodec(spec, PaddedConfig(config.action)),
        edits=[WholePrompt(), AddTower(TOWER, width, ffn)],
        see=tuple(c.role for c in spec.cameras),
    )
    slow = Optimiser(lr=2.5e-5, muon=0.0, warmup=1000, decay=1.0, floor=0.1, shape="cosine")
    return Scaled(vla, (Phase("tuning", 30_000, 32, ("*",), {"action": 1.0}, slow),))


def openvla_oft(spec: Spec = LIBERO, backbone: VLM | None = None) -> Scaled:
    """OpenVLA-OFT (2502.19645): a chunk of 8 in one pass by L1, with LoRA of rank 32 on the language model.

    64 rows a step, 5e-4 for 100,000 steps and a tenth of it for 50,000 more, whose moments begin anew here. The paper
    has OpenVLA's 7 billion (Llama 2 with two vision towers, LoRA on them, too), which cannot be imported: here it is
    Qwen2.5-VL-7B, so its figure is a neighbour's, not this recipe's.

    Expected, from the paper: .971 on LIBERO's four suites, where the VLM's own tokens have .765.
    """
    large = backbone is None
    backbone = backbone or VLM(vlm_config("qwen2.5-vl-7b"))
    vla = VLA(
        spec=spec,
        backbone=backbone,
        expert=OFT(OFTConfig(8, spec.action_size, spec.state_size, backbone.width)),
        codec=ChunkCodec(spec),
        edits=[*([Untied()] if large else []), LoRA(32, 16.0)],
        see=tuple(c.role for c in spec.cameras),
    )
    first = Optimiser(lr=5e-4, muon=0.0, warmup=0, decay=0.0)
    learns = ("*.low_*", "expert.*")
    return Scaled(vla, (
        Phase("regression", 100_000, 64, learns, {"action": 1.0}, first),
        Phase("slower", 50_000, 64, learns, {"action": 1.0}, replace(first, lr=5e-5)),
    ))  # fmt: skip


RECIPES: dict[str, Callable[[], Scaled]] = {"chatvla2-2b": chatvla2_2b, "pi0": pi0, "openvla-oft": openvla_oft}


def dry(name: str) -> Table:
    """A recipe on the meta device, phase by phase: what is stored, what a token uses, what learns, and what training
    holds for it in float32, activations apart. BuildError where a phase trains what is not there."""
    with torch.device("meta"):
        made = RECIPES[name]()
    stored = sum(p.numel() for p in made.vla.parameters())
    used = stored - idle(made.vla)
    out = Table("phase", "steps", "rows", "learns", "GiB", "GiB of 8", title=f"{name}: {stored / 1e9:.2f} billion "
                f"numbers, {used / 1e9:.2f} used by a token")  # fmt: skip
    for phase in made.phases:
        named = phase.stage(_nothing).trainable(made.vla)
        learns = sum(p.numel() for _, p in named)
        held = (FOUND[0] * (stored - learns) + FOUND[1] * learns) / 2**30
        out.add_row(phase.name, f"{phase.steps:,}", str(phase.rows), f"{learns / 1e9:.3f} billion", f"{held:.0f}",
                    f"{held / 8:.0f}")  # fmt: skip
    return out


class _Nothing:
    """A source that a dry run never asks."""

    def batch(self, vla: object, step: int) -> object:
        """Refuses."""
        raise Refusal("a dry run asked for data", "none", "give the phase a source")


_nothing = _Nothing()


def main(names: Sequence[str]) -> int:
    """Print the dry runs of the named recipes, of all unless given."""
    if odd := [n for n in names if n not in RECIPES]:
        print(f"mindhand: no recipe {odd}; there are {', '.join(RECIPES)}", file=sys.stderr)
        return 2
    for name in names or RECIPES:
        Console().print(dry(name))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
