"""DepthVLA: a depth tower beside mind and hand in one attention, trained to tell depth (2510.13375).

Seams: edits, streams, objectives. Its tokens, a picture's cells through an encoder of its own, see each other alone;
the mind does not see them, the hand sees them at every layer (`model/tower_hand.py`, the off arm). A linear head tells
each cell's depth by a scale-invariant loss where labels are, targets "depth" (B,n) in metres. Differs from the heart: a
hand in the trunk. Here the encoder is a small stem, pretrained with that loss alone or not at all; the paper's is
Depth Anything V2. The paper: real progress 65.0 to 78.5 %, SimplerEnv 58.8 to 74.8, +600 M parameters.
Use: VLA(edits=[..., AddTower(DEPTH, 64, 128)], streams=[..., Depth(c)], objectives=[..., DepthLoss(c)])
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mindhand.core.batch import Batch, masked_rows
from mindhand.core.card import Claim, MethodCard
from mindhand.core.errors import BadData, BuildError
from mindhand.core.keys import Keys
from mindhand.core.parts import Entry
from mindhand.core.seams import Context, Inputs, Rule, Segment, State, StreamOut, Trunk, grid_position
from mindhand.core.spec import Spec
from mindhand.model import fits
from mindhand.model.tower_hand import AddTower
from mindhand.model.vision import Stem, StemConfig

DEPTH = "depth"  # segment, tower, loss and target
RULE: Rule = ((DEPTH, DEPTH, "full"), (DEPTH, "*", "none"), ("*", DEPTH, "none"))


@dataclass(frozen=True)
class Config:
    """The depth tower. In brackets the paper's values."""

    width: int  # of the tower (about 300 M parameters in all)
    stem: StemConfig  # its encoder (Depth Anything V2)
    share: float = 0.5  # of the scale's error that is forgiven (0.5)
    camera: str = "front"  # whose depth is told


class Depth(nn.Module):
    """Stream to the trunk: the depth encoder's tokens, one a cell of the picture."""

    part_name = "depthvla"
    feeds: Literal["trunk"] = "trunk"
    provides: frozenset[str] = frozenset({DEPTH})

    def __init__(self, config: Config):
        super().__init__()
        if config.stem.out != config.width:
            raise BuildError(f"an encoder of width {config.stem.out}", f"{config.width}, the tower's", "set stem.out")
        self.config, self.camera = config, config.camera
        self.needs = frozenset({fits.tower(DEPTH, config.width), fits.SEES_ALL})  # no other hand would see any depth
        self.encoder = Stem(config.stem)

    def start(self, rows: int) -> State:
        """No memory."""
        return {}

    def forward(self, inputs: Inputs, trunk: Trunk | None, state: State) -> StreamOut:
        """Tokens, masked where the camera is absent, and who sees them."""
        role = self.config.camera
        p = self.encoder(inputs.pixels[role])
        valid = p.valid & inputs.present[role].unsqueeze(1)
        place = grid_position(len(p.x), p.grid, 0, p.x.device)
        return StreamOut((Segment(DEPTH, p.x, valid, place, DEPTH),), state, rule=RULE)


def scale_invariant(log_depth: Tensor, depth: Tensor, valid: Tensor, share: float = 0.5) -> Tensor:
    """L_si = sqrt(mean(y^2) - share * mean(y)^2), y = log d_hat - log d over valid cells: (B,n) -> (B,)."""
    y = log_depth - torch.where(valid, depth, torch.ones_like(depth)).log()
    mean, square = masked_rows(y, valid), masked_rows(y**2, valid)
    return torch.where(valid.any(1), (square - share * mean**2).clamp_min(1e-8).sqrt(), torch.zeros_like(mean))


class DepthLoss(nn.Module):
    """Objective "depth" (B,): every depth token tells the depth of its cell; nothing where no label is."""

    replaces: frozenset[str] = frozenset()
    needs: frozenset[str] = frozenset({DEPTH})
    provides: frozenset[str] = frozenset({"depth loss"})

    def __init__(self, config: Config):
        super().__init__()
        self.config, self.head = config, nn.Linear(config.width, 1)

    def told(self, ctx: Context) -> Tensor:
        """The logarithm of each cell's depth (m), (B,n)."""
        return self.head(ctx.trunk.hidden[DEPTH]).squeeze(-1)

    def loss(self, vla: Any, batch: Batch, ctx: Context, keys: Keys) -> dict[str, Tensor]:
        """Nothing for a batch without labels, or of remembered thoughts; BadData for labels of other cells."""
        target = batch.targets.get(DEPTH)
        if target is None or DEPTH not in ctx.trunk.hidden:
            return {}
        told = self.told(ctx)
        if target.value.shape != told.shape:
            raise BadData(
                f"depth of {target.value.shape[1]} cells", f"{told.shape[1]}, the encoder's", "record that grid's depth"
            )
        known = target.valid & ctx.trunk.valid[DEPTH]
        return {DEPTH: scale_invariant(told, target.value, known, self.config.share)}

    def after_step(self, vla: Any, step: int) -> None:
        """Nothing to keep."""


PART = Entry("depthvla", Config, lambda config, **_: Depth(config))
CARD = MethodCard(
    name="depthvla",
    title="DepthVLA",
    arxiv="2510.13375",
    area="see",
    seams=("edits", "streams", "objectives"),
    claim=Claim("where heights vary, a hand that attends to a depth tower succeeds more often", "effect"),
)


def plug(parts: Mapping[str, Any], spec: Spec, width: int | None = None) -> dict[str, Any]:
    """A third tower, half as wide as the mind's, to a policy whose hand is one."""
    wide = width or parts["backbone"].width // 2
    stem = parts["backbone"].vision.config
    if not isinstance(stem, StemConfig):
        raise BuildError(f"a depth encoder like {type(stem).__name__}", "a Stem's", "give Depth a Config of its own")
    config = Config(wide, StemConfig(stem.fold, stem.channels, stem.strides, wide), camera=spec.cameras[0].role)
    return {
        **parts,
        "edits": [*parts.get("edits", ()), AddTower(DEPTH, wide, 2 * wide)],
        "streams": [*parts.get("streams", ()), Depth(config)],
        "objectives": [*parts.get("objectives", ()), DepthLoss(config)],
    }


@torch.no_grad()
def probe(on: Any, off: Any) -> bool:
    """What the depth tower sees reaches the hand and not the mind."""

    def moved(vla: Any) -> tuple[bool, bool]:
        camera = vla.spec.cameras[0]
        pixels = torch.rand(2, 1, 3, camera.height, camera.width, generator=torch.Generator().manual_seed(0))
        state = torch.zeros(2, 1, vla.spec.state_size)
        inputs = Inputs({camera.role: pixels}, {camera.role: torch.ones(2, dtype=torch.bool)}, state)
        task, ask = torch.ones(2, dtype=torch.int64), vla.backbone.words.questions(["pick", "pick"])
        found = []
        for shift in (0.0, 1.0):
            out = {str(i): s(inputs, None, s.start(2)) for i, s in enumerate(vla.streams) if s.feeds == "trunk"}
            segments, _, end, rule = vla.prefix(inputs, out, task)
            segments = [
                s if s.name != DEPTH else Segment(s.name, s.x + shift, s.valid, s.position, s.tower) for s in segments
            ]
            trunk = vla.backbone([*segments, vla.backbone.text("text", ask.ids, ask.valid, end)], rule=rule)
            drawn = vla.expert.draw(Context(trunk, {}, inputs), 1, keys=Keys.seeded(2)).value
            found.append((trunk.hidden["text"], drawn))
        (mind, hand), (mind2, hand2) = found
        return not torch.equal(mind, mind2), not torch.allclose(hand, hand2, atol=1e-6)

    return moved(on) == (False, True) and moved(off) == (False, False) and on is not off
