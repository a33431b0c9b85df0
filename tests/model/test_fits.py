"""Parts that do not fit are refused when a VLA is built, with the names of both: what would otherwise fail at the first
loss, or never and be wrong."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import pytest
import torch
from torch import nn

from mindhand.core.errors import BuildError
from mindhand.core.keys import Keys
from mindhand.core.seams import StreamOut
from mindhand.methods.act.fast import FAST
from mindhand.methods.act.oft import Film
from mindhand.methods.learn.rs_cl import Config as SummaryConfig
from mindhand.methods.learn.rs_cl import Summary
from mindhand.model import fits
from mindhand.model.codec import ChunkCodec
from mindhand.model.diffusion import DDIM, ODE, Diffusion, Flow
from mindhand.model.eyes import EyeConfig, WristEye
from mindhand.model.ffn_edits import PerTask, Widen
from mindhand.model.fresh import Fresh
from mindhand.model.low_rank import LoRA, LowRankExperts
from mindhand.model.moe import Upcycle
from mindhand.model.reasoner import ReasonerConfig, WordsReasoner
from mindhand.model.token_expert import TokenConfig, TokenExpert
from mindhand.model.tower_hand import TOWER, AddTower, TowerHand, TowerHandConfig
from mindhand.model.vla import VLA
from mindhand.model.vlm import VLM

from ..seams.build import HORIZON, batch, spec, vla
from .tiny import expert, vlm

FFN, ATTENTION = ("ffn.gate_up", "ffn.down"), ("attn.qkv", "attn.o")


class Held(nn.Module):
    """A stream of keys and values."""

    feeds: Literal["expert.kv"] = "expert.kv"

    def start(self, rows):
        return {}

    def forward(self, inputs, trunk, state):
        return StreamOut((), state)


def tower_hand(width: int = 32) -> TowerHand:
    return TowerHand(TowerHandConfig(3, HORIZON, 5, width))


def wrist(width: int) -> WristEye:
    return WristEye(EyeConfig(16, width, 5, camera="front"))


WRONG = {
    "a step of other numbers": (
        {"hand": lambda: type(expert())(replace(expert().config, action=4))},
        ["ActionExpert", "codec/4 numbers", "ChunkCodec", "codec/3 numbers"],
    ),
    "another trunk": (
        {"hand": lambda: type(expert())(replace(expert().config, trunk=64))},
        ["ActionExpert", "backbone/64 wide", "VLM", "backbone/32 wide"],
    ),
    "more ids than words": (
        {"hand": lambda: TokenExpert(TokenConfig(256, 12, 5, 32)), "codec": lambda: FAST(spec())},
        ["TokenExpert", "codec/256 ids", "FAST", "codec/1025 ids, 1024 ends a chunk"],
    ),
    "an end that is never heard": (
        {"hand": lambda: TokenExpert(TokenConfig(1025, 12, 5, 32)), "codec": lambda: FAST(spec())},
        ["TokenExpert", "codec/1025 ids'", "FAST", "1024 ends a chunk"],
    ),
    "a hand without its tower": ({"hand": tower_hand}, ["TowerHand", "backbone/tower hand, 32 wide", "VLM"]),
    "a tower too wide": (
        {"hand": tower_hand, "edits": lambda: [AddTower(TOWER, 48, 64)]},
        ["TowerHand", "tower hand, 32 wide", "VLM", "tower hand, 48 wide"],
    ),
    "tokens too wide": (
        {"hand": expert, "streams": lambda: [wrist(64)]},
        ["WristEye", "expert/tokens 64 wide", "ActionExpert", "expert/tokens 32 wide"],
    ),
    "a summary of another trunk": (
        {"hand": expert, "streams": lambda: [Summary(SummaryConfig(64, 32, 5))]},
        ["Summary", "backbone/64 wide", "VLM"],
    ),
    "keys and values for nobody": (
        {"hand": expert, "streams": lambda: [Held()]},
        ["Held", "expert.kv", "ActionExpert", fits.KEYS_AND_VALUES],
    ),
    "a sampler of another process": (
        {"hand": lambda: expert(process="diffusion-action"), "sampler": DDIM},
        ["DDIM", "predicts='noise'", "ActionExpert", "predicts='action'"],
    ),
    "as many steps, otherwise": (
        {"hand": expert, "sampler": lambda: DDIM(Diffusion(50))},
        ["DDIM", "steps=50", "ActionExpert", "steps=100"],
    ),
    "a flow of another scale": (
        {"hand": lambda: expert(process="flow"), "sampler": lambda: ODE(Flow(1.0))},
        ["ODE", "scale=1.0", "ActionExpert", "scale=100.0"],
    ),
    "a sampler of nothing": (
        {
            "hand": lambda: TokenExpert(TokenConfig(1025, 12, 5, 32, 1024)),
            "codec": lambda: FAST(spec()),
            "sampler": ODE,
        },
        ["ODE", "expert/Flow", "TokenExpert"],
    ),
    "two cameras of one name": (
        {"hand": expert, "streams": lambda: [wrist(32), wrist(32)]},
        ["WristEye (streams[0])", "WristEye (streams[1])", "eye/front"],
    ),
    "words that nobody says": ({"hand": expert, "reasoner": lambda: None}, ["ActionExpert", "reasoning"]),
    "a hand that nobody codes for": ({"hand": expert, "codec": lambda: None}, ["ActionExpert", "codec"]),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_pairs_are_refused_by_name(name):
    parts, words = WRONG[name]
    made = {slot: make() for slot, make in parts.items()}
    hand = made.pop("hand")
    usual = {"codec": ChunkCodec(spec()), "reasoner": WordsReasoner(ReasonerConfig(limit=0), lambda text: {})}
    with pytest.raises(BuildError) as caught:
        VLA(spec=spec(), backbone=vlm(), expert=hand, **{**usual, **made})
    for word in words:
        assert word in str(caught.value)


EDITS = {
    "two mixtures": ([Upcycle(), LowRankExperts()], ["Upcycle (edits[0])", "LowRankExperts (edits[1])", "ffn.down"]),
    "copies a task of a mixture": ([Upcycle(), PerTask()], ["Upcycle (edits[0])", "PerTask (edits[1])"]),
    "LoRA and then a mixture": ([LoRA(2), Upcycle()], ["LoRA (edits[0])", "Upcycle (edits[1])", "ffn.down"]),
    "a mixture and then LoRA": ([LowRankExperts(), LoRA(2)], ["LowRankExperts (edits[0])", "LoRA (edits[1])"]),
    "LoRA twice": ([LoRA(2), LoRA(4)], ["LoRA (edits[0])", "LoRA (edits[1])", "attn.o of tower vlm"]),
    "a wider mixture": ([Upcycle(), Widen()], ["Widen (edits[1]), after Upcycle (edits[0])", "MoE", "plain FFN"]),
    "a wider LoRA": ([LoRA(2), Widen()], ["Widen (edits[1]), after LoRA (edits[0])", "LowRankLinear", "plain FFN"]),
    "new weights behind experts": ([Upcycle(), Fresh()], ["Fresh (edits[1]), after Upcycle (edits[0])", "come first"]),
    "new weights behind FiLM": ([Film(), Fresh()], ["Fresh (edits[1]), after Film (edits[0])", "come first"]),
    "FiLM twice": ([Film(), Film()], ["Film (edits[0])", "Film (edits[1])", "FiLM"]),
    "LoRA of what is not there": ([LoRA(2, where=("attn.q",))], ["LoRA (edits[0])", "'attn.q' of tower 'vlm'"]),
    "a tower that is not there": ([Upcycle(tower="hand")], ["Upcycle (edits[0])", "no tower 'hand'"]),
    "a tower that comes too late": (
        [LoRA(2, tower="hand"), AddTower("hand", 16, 32)],
        ["LoRA (edits[0])", "no tower 'hand'", "before"],
    ),
}


@pytest.mark.parametrize("name", EDITS)
def test_surgery_that_cannot_be_done_is_refused_with_what_was_done_before(name):
    edits, words = EDITS[name]
    with pytest.raises(BuildError) as caught:
        VLA(spec=spec(), backbone=vlm(), edits=edits)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    "edits",
    [
        [Widen(), LoRA(2)],
        [Widen(), Upcycle()],
        [Widen(), Widen()],
        [Upcycle(), LoRA(2, where=ATTENTION)],
        [LoRA(2, where=ATTENTION), LowRankExperts()],
        [LoRA(2, where=ATTENTION), LoRA(2, where=FFN)],
        [Fresh(), Film(), PerTask()],
        [AddTower("hand", 16, 32), Upcycle(tower="hand"), Upcycle(), LoRA(2, tower="hand", where=ATTENTION)],
    ],
    ids=lambda edits: "+".join(type(e).__name__ for e in edits),
)
def test_surgery_that_can_be_done_is(edits):
    made = VLA(spec=spec(), backbone=vlm(), edits=edits)
    ask = made.backbone.words.questions(["pick"])
    trunk = made.backbone([made.backbone.text("text", ask.ids, ask.valid, task=torch.ones(1, dtype=torch.int64))])
    assert bool(torch.isfinite(trunk.hidden["text"]).all())


def test_a_tower_that_a_backbone_already_has_is_as_good_as_an_edit():
    """A policy can be built again round the parts of another."""
    first = vla(tower_hand(), edits=[AddTower(TOWER, 32, 64)])
    again = vla(tower_hand(), backbone=first.backbone)
    assert "action" in again.losses(batch(again.backbone), Keys.seeded(2))
    with pytest.raises(BuildError, match=r"VLM \(slot backbone\) and hand \(edits\[0\]\) both provide"):
        vla(tower_hand(), backbone=first.backbone, edits=[AddTower(TOWER, 32, 64)])


def test_hands_that_ride_in_the_trunk_read_keys_and_values():
    hand = tower_hand()
    assert vla(hand, edits=[AddTower(TOWER, 32, 64)], streams=[Held()]).plan.has(fits.KEYS_AND_VALUES)
    assert VLA(spec=spec(), backbone=vlm(), streams=[Held()]).expert is None  # nobody is there to read them


def test_a_backbone_without_eyes_is_one_where_nothing_is_to_be_seen():
    blind = VLM(replace(vlm().config, vision=None), vlm().words)
    with pytest.raises(BuildError, match=r"VLM \(slot backbone\) sees no picture"):
        VLA(spec=spec(), backbone=blind)
    made = VLA(spec=spec(), backbone=blind, see=())
    made.state_scale.fit(torch.rand(9, 5))
    trunk = made.context(batch(blind)).trunk
    assert list(trunk.hidden) == ["text"]
    with pytest.raises(BuildError, match="no vision tower"):
        blind.see({"front": torch.zeros(1, 1, 3, 32, 32)})
