"""What may stand in each slot and in each stack of a policy, small enough to be tried in all pairs (`pairs.py`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

from mindhand.model.act_hand import ActConfig, ActHand
from mindhand.model.bins import BinCodec
from mindhand.model.cascade import Cascade
from mindhand.model.codec import ChunkCodec
from mindhand.model.configs import expert_config
from mindhand.model.diffusion import DDIM, ODE, SDE
from mindhand.model.expert import ActionExpert
from mindhand.model.eyes import EyeConfig, Gaze, GazeConfig, WristEye
from mindhand.model.ffn_edits import PerTask, Widen
from mindhand.model.fresh import Fresh
from mindhand.model.low_rank import LoRA, LowRankConfig, LowRankExperts
from mindhand.model.moe import MoEConfig, Upcycle
from mindhand.model.padded_codec import PaddedCodec, PaddedConfig
from mindhand.model.pi0_hand import Pi0Config, Pi0Hand
from mindhand.model.reasoner import KeepingConfig, KeepingReasoner, ReasonerConfig, WordsReasoner, unread
from mindhand.model.resnet import ResNetEyes, ResNetEyesConfig
from mindhand.model.standard_codec import StandardCodec
from mindhand.model.state_words import StateWords
from mindhand.model.token_expert import TokenConfig, TokenExpert
from mindhand.model.tower_hand import TOWER, AddTower, TowerHand, TowerHandConfig
from mindhand.model.untied import Untied
from mindhand.model.vla import VLA
from mindhand.model.vlm import VLM
from mindhand.model.whole_prompt import WholePrompt
from mindhand.train.anchor import AnchorLoss
from mindhand.train.glyph import GlyphLoss
from mindhand.train.look import LookLoss
from mindhand.train.said import SaidActions

from .tiny import HORIZON, SPEC, WIDTH, batches, grid, vlm

ABSENT = "-"
Parts = dict[str, Any]
Make = Callable[..., Any]


def _diffusion(how: Mapping[str, Any], made: type = ActionExpert) -> Make:
    config = expert_config("test", action=SPEC.action_size, horizon=HORIZON, state=SPEC.state_size, trunk=WIDTH)

    def make(model: VLM) -> Parts:
        return {"expert": made(type(config)(**{**vars(config), **how})), "codec": ChunkCodec(SPEC)}

    return make


def _tokens(model: VLM) -> Parts:
    codec = BinCodec(SPEC)
    config = TokenConfig(codec.config.bins, HORIZON * SPEC.action_size, SPEC.state_size, WIDTH)
    return {"expert": TokenExpert(config), "codec": codec}


def _tower(model: VLM) -> Parts:
    config = TowerHandConfig(SPEC.action_size, HORIZON, SPEC.state_size, WIDTH)
    return {"expert": TowerHand(config), "codec": ChunkCodec(SPEC), "edits": [AddTower(TOWER, WIDTH, 2 * WIDTH)]}


def _pi0(model: VLM) -> Parts:
    config = Pi0Config(SPEC.state_size, SPEC.action_size, HORIZON, WIDTH, SPEC.state_size + 1)
    return {**_tower(model), "expert": Pi0Hand(config), "codec": _padded(model)}


def _padded(model: VLM) -> PaddedCodec:
    return PaddedCodec(SPEC, PaddedConfig(SPEC.action_size))  # no more numbers than other hands have


def _act(model: VLM) -> Parts:
    sizes = {"width": WIDTH, "heads": 2, "inner": WIDTH, "posterior": 1, "encoder": 1, "decoder": 2, "latent": 4}
    config = ActConfig(HORIZON, SPEC.action_size, SPEC.state_size, **sizes)
    return {"expert": ActHand(config), "codec": StandardCodec(SPEC)}


def _gaze(model: VLM) -> Gaze:
    camera = SPEC.cameras[0]
    return Gaze(GazeConfig(0, grid(model), (camera.height, camera.width), WIDTH, SPEC.state_size, 16))


def _anchor(model: VLM) -> AnchorLoss:
    return AnchorLoss(VLA(spec=SPEC, backbone=deepcopy(model)))


def _saying(model: VLM) -> SaidActions:
    told = TokenConfig(256, HORIZON * SPEC.action_size, SPEC.state_size, WIDTH)
    said = SaidActions(BinCodec(SPEC), TokenExpert(told))
    said.fit(iter([batches(model, seed)[0] for seed in range(8)]))
    return said


def _same(part: Any) -> Make:
    return lambda model: part


# What may stand where: {factor: {level: what makes it}}. A hand brings the codec that it speaks, and edits.
HANDS: dict[str, Make] = {
    "unmoved": _diffusion({"place": "none", "insulated": True}),
    "film": _diffusion({"place": "film", "process": "flow"}),
    "former": _diffusion({"place": "former", "process": "diffusion-action"}),
    "latter": _diffusion({"place": "latter"}),
    "all": _diffusion({"place": "all", "process": "flow"}),
    "cascade": _diffusion({}, Cascade),
    "tokens": _tokens,
    "tower": _tower,
    "pi0": _pi0,
    "act": _act,
}
ONE: dict[str, dict[str, Make]] = {  # slots
    "backbone": {"stem": lambda _: vlm("stem"), "vit": lambda _: vlm("vit")},
    "codec": {
        "chunks": lambda _: ChunkCodec(SPEC),
        "bins": lambda _: BinCodec(SPEC),
        "padded": _padded,
        "standard": lambda _: StandardCodec(SPEC),
    },
    "expert": HANDS,
    "sampler": {
        ABSENT: _same(None),
        "ddim": _same(DDIM(count=2)),
        "ode": _same(ODE(count=2)),
        "sde": _same(SDE(count=2)),
    },
    "reasoner": {
        "silent": lambda _: WordsReasoner(ReasonerConfig(limit=0), unread),
        "words": lambda _: WordsReasoner(ReasonerConfig(limit=2), unread),
        "keeping": lambda _: KeepingReasoner(KeepingConfig(2, 4, 0, (0.5,)), unread),
        ABSENT: _same(None),
    },
}
SEVERAL: dict[str, tuple[str, dict[str, Make]]] = {  # the stack, and what may be added to it
    "start": ("edits", {"fresh": _same(Fresh(1))}),
    "head": ("edits", {"own": _same(Untied())}),
    "prompt": ("edits", {"whole": _same(WholePrompt())}),
    "FFN": (
        "edits",
        {
            "experts": _same(Upcycle(MoEConfig(4, 2))),
            "static experts": _same(Upcycle(MoEConfig(2, 1, "static+shared+dynamic"))),
            "a task's": _same(PerTask()),
            "wide": _same(Widen(2)),
            "low-rank experts": _same(LowRankExperts(LowRankConfig(3, 2, 2))),
            "LoRA": _same(LoRA(2, 4.0, ("ffn.gate_up", "ffn.down"))),
        },
    ),
    "attention": ("edits", {"LoRA": _same(LoRA(2, 4.0, ("attn.qkv", "attn.o")))}),
    "wrist": ("streams", {"eye": lambda _: WristEye(EyeConfig(16, WIDTH, SPEC.state_size, unshuffle=2, channels=8))}),
    "gaze": ("streams", {"eye": _gaze}),
    "eyes": ("streams", {"resnet": lambda _: ResNetEyes(ResNetEyesConfig(SPEC.roles, WIDTH, (), (), (1, 1, 1, 1), 4))}),
    "told": ("transforms", {"state": _same(StateWords(0, (0.5,), ("left", "right")))}),
    "also learns": (
        "objectives",
        {
            "to look": lambda _: LookLoss(0),
            "glyphs": lambda _: GlyphLoss(WIDTH, 3, layer=0),
            "to stay": _anchor,
            "say": _saying,
        },
    ),
}
