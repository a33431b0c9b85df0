"""What a policy costs: what is stored, what of it a token uses, and the arithmetic of a chunk."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mindhand.evaluate.protocol import Protocol, keys
from mindhand.model.ffn_edits import TaskFFN
from mindhand.model.moe import MoE

from .places import place_of, worlds
from .rollouts import load_policy, robot_of


@dataclass(frozen=True)
class Cost:
    """stored, active: parameters of the mind, and of those what one token passes through; hand: parameters besides;
    flops: of one chunk as it is computed here, the picture, the thought and the hand's steps, where a mixture of a
    small mind multiplies by all its experts (`MoE`); words: tokens of that thought."""

    stored: int
    active: int
    hand: int
    flops: int
    words: int


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def idle(mind: nn.Module) -> int:
    """Parameters of a mind that a token does not pass through: of its experts, those that are not chosen. Low-rank
    residuals are none: all of them are computed for every token."""
    out = 0
    for part in mind.modules():
        if isinstance(part, MoE):
            spare = part.config.experts - part.config.active
            out += (part.gate_up.numel() + part.down.numel()) * spare // part.config.experts
        elif isinstance(part, TaskFFN):
            out += _count(part) * (len(part.each) - 1) // len(part.each)
    return out


def cost(checkpoint: Path, protocol: Protocol) -> Cost:
    """Of a policy, at the first observation of the protocol's first episode."""
    robot, key = robot_of(checkpoint), keys(protocol)[0]
    policy = load_policy(checkpoint, place_of(protocol.tasks, robot))
    with closing(worlds(protocol, robot)(1)) as world:
        world.reset([key], [0])
        seen = world.observe([0])
    policy.act(seen, policy.start([key]))  # whatever is made once
    with FlopCounterMode(display=False) as counter:
        chunk, _ = policy.act(seen, policy.start([key]))
    said = "" if chunk.reasoning is None else chunk.reasoning.texts[0]
    mind, whole = _count(policy.backbone), _count(policy)
    words = len(policy.backbone.words.encode(said))
    return Cost(mind, mind - idle(policy.backbone), whole - mind, counter.get_total_flops(), words)
