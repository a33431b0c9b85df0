"""A VLA to a checkpoint folder and back: parts by name, weights, statistics, spec, tokenizer, a smoke prediction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from mindhand.core.checkpoint import Checkpoint, load_checkpoint, load_into, save_checkpoint
from mindhand.core.errors import BadCheckpoint
from mindhand.core.nouns import Observation
from mindhand.core.parts import Entry, Registry
from mindhand.core.red_team import refuse_attack
from mindhand.core.spec import Spec

from .act_hand import ActConfig, ActHand
from .bins import BinCodec, BinConfig
from .cascade import Cascade
from .codec import ChunkCodec, CodecConfig
from .diffusion import DDIM, ODE, SDE
from .expert import ActionExpert, ExpertConfig
from .eyes import EyeConfig, Gaze, GazeConfig, WristEye
from .ffn_edits import PerTask, Widen
from .fresh import Fresh
from .low_rank import LoRA, LowRankExperts
from .moe import Upcycle
from .padded_codec import PaddedCodec, PaddedConfig
from .pi0_hand import Pi0Config, Pi0Hand
from .reasoner import KeepingConfig, KeepingReasoner, ReasonerConfig, WordsReasoner, unread
from .resnet import ResNetEyes, ResNetEyesConfig
from .standard_codec import StandardCodec, StandardConfig
from .state_words import StateWords
from .token_expert import TokenConfig, TokenExpert
from .tower_hand import AddTower, TowerHand, TowerHandConfig
from .untied import Untied
from .vla import VLA
from .vlm import VLM, VLMConfig
from .whole_prompt import WholePrompt
from .words import Words

PARTS = Registry()
PARTS.add(Entry("vlm", VLMConfig, lambda config, *, words, **_: VLM(config, words)))
PARTS.add(Entry("action_expert", ExpertConfig, lambda config, **_: ActionExpert(config)))
PARTS.add(Entry("act_hand", ActConfig, lambda config, **_: ActHand(config)))
PARTS.add(Entry("cascade", ExpertConfig, lambda config, **_: Cascade(config)))
PARTS.add(Entry("token_expert", TokenConfig, lambda config, **_: TokenExpert(config)))
PARTS.add(Entry("tower_hand", TowerHandConfig, lambda config, **_: TowerHand(config)))
PARTS.add(Entry("pi0_hand", Pi0Config, lambda config, **_: Pi0Hand(config)))
PARTS.add(Entry("padded_codec", PaddedConfig, lambda config, *, spec, **_: PaddedCodec(spec, config)))
PARTS.add(Entry("bin_codec", BinConfig, lambda config, *, spec, **_: BinCodec(spec, config)))
PARTS.add(Entry("chunk_codec", CodecConfig, lambda config, *, spec, **_: ChunkCodec(spec, config)))
PARTS.add(Entry("standard_codec", StandardConfig, lambda config, *, spec, **_: StandardCodec(spec, config)))
PARTS.add(Entry("words_reasoner", ReasonerConfig, lambda config, *, parse, **_: WordsReasoner(config, parse)))
PARTS.add(Entry("keeping_reasoner", KeepingConfig, lambda config, *, parse, **_: KeepingReasoner(config, parse)))
PARTS.add(Entry("wrist_eye", EyeConfig, lambda config, **_: WristEye(config)))
PARTS.add(Entry("resnet_eyes", ResNetEyesConfig, lambda config, **_: ResNetEyes(config)))
PARTS.add(Entry("gaze", GazeConfig, lambda config, **_: Gaze(config)))
PLAIN = {  # each its own Config
    "upcycle": Upcycle, "per_task": PerTask, "widen": Widen,
    "lora": LoRA, "low_rank_experts": LowRankExperts, "fresh": Fresh, "add_tower": AddTower, "untied": Untied,
    "whole_prompt": WholePrompt,
    "ddim": DDIM, "ode": ODE, "sde": SDE, "state_words": StateWords,
}  # fmt: skip
for _name, _part in PLAIN.items():
    PARTS.add(Entry(_name, _part, lambda config, **_: config))
NAMES: dict[type, str] = {
    VLM: "vlm", ActionExpert: "action_expert", ChunkCodec: "chunk_codec", WordsReasoner: "words_reasoner",
    WristEye: "wrist_eye", Gaze: "gaze", **{part: name for name, part in PLAIN.items()},
}  # fmt: skip


def name_of(part: Any) -> str | None:
    """By which name a checkpoint holds a part of this class; None where it has none."""
    return getattr(part, "part_name", None) or NAMES.get(type(part))


def _stored(part: Any) -> dict[str, Any]:
    name = name_of(part)
    if name is None:
        raise BadCheckpoint(
            f"a {type(part).__name__}, which no checkpoint can name",
            "a part with `part_name`, registered under it",
            "register it: model.store.PARTS.add(Entry(name, Config, build))",
        )
    return PARTS.describe(name, part if is_dataclass(part) else part.config)


def save_vla(
    vla: VLA,
    folder: Path | str,
    smoke: Observation | None = None,
    files: Mapping[str, bytes] = {},
    *,
    half: bool = False,
) -> None:
    """Write a checkpoint of the model, atomically. Training-only parts (objectives) are left out. A part that no
    checkpoint can name, whichever slot or stack it is in, is refused: what loads would act otherwise.

    smoke: an observation whose prediction is stored, so that whoever loads it can tell that it still acts the same.
    files: small files that go with it, by name. half: the parameters are rounded to bfloat16, in the model too, so that
    what is predicted now is what is predicted by whoever loads it; what was measured of data is not.
    """
    refuse_attack(vla, "a checkpoint")
    slots = {
        "backbone": vla.backbone, "expert": vla.expert, "codec": vla.codec,
        "sampler": vla.sampler, "reasoner": vla.reasoner,
    }  # fmt: skip
    config = {
        "slots": {k: _stored(p) for k, p in slots.items() if p is not None},
        "stacks": {
            "streams": [_stored(s) for s in vla.streams],
            "transforms": [_stored(t) for t in vla.transforms],
            "edits": [_stored(e) for e in vla.edits],
        },
        "see": list(vla.see),
    }
    if half:
        with torch.no_grad():
            for weights in vla.parameters():
                weights.copy_(weights.bfloat16())
    learned = {n for n, _ in vla.named_parameters(remove_duplicate=False)} if half else set()
    tensors = {
        n: t.bfloat16() if n in learned else t for n, t in vla.state_dict().items() if not n.startswith("objectives.")
    }
    save_checkpoint(
        folder,
        tensors=tensors,
        config=config,
        spec=vla.spec,
        statistics=vla.statistics() or {"none": "no action head"},
        files={"tokenizer.json": vla.backbone.words.to_bytes(), **files},
        smoke={} if smoke is None else smoke_arrays(vla, smoke),
    )


def smoke_arrays(vla: VLA, obs: Observation) -> dict[str, np.ndarray]:
    """What the model predicts for an observation, as arrays."""
    vla.eval()
    chunk, _ = vla.act(obs, vla.start(obs.keys))
    return {"actions": chunk.actions}


def described(found: Checkpoint, **given: Any) -> VLA:
    """The model that a checkpoint describes, with its edits, before its weights and statistics are in it."""
    words = Words.from_bytes(found.files["tokenizer.json"])
    given = {"words": words, "spec": found.spec, "parse": unread, **given}

    def build(stored: Mapping[str, Any]) -> Any:
        return PARTS.build(stored, **given)

    slots, stacks = found.config["slots"], found.config["stacks"]
    return VLA(
        spec=found.spec,
        **{slot: build(stored) for slot, stored in slots.items()},
        **{stack: [build(s) for s in stored] for stack, stored in stacks.items()},
        see=found.config["see"],
    )


def load_vla(folder: Path | str, expect_spec: Spec | None = None, **given: Any) -> VLA:
    """The model of a checkpoint. `given` is what code must bring: parse=, the reading of thoughts.

    Raises BadCheckpoint or SpecMismatch, naming what and where, for anything but a whole folder of that spec.
    """
    found = load_checkpoint(folder, expect_spec)
    vla = described(found, **given)
    load_into(vla, found.tensors)
    if "action" in found.statistics:
        vla.load_statistics(found.statistics)
    return vla.eval()


def copy_weights(source: nn.Module, target: nn.Module) -> None:
    """All weights of one module into another of the same shape, strictly."""
    with torch.no_grad():
        load_into(target, dict(source.state_dict()))
