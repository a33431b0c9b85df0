"""Chunks for a hand of more numbers a step than the robot has: behind the robot's own, zeros (pi0, 2410.24164)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch.nn.functional as F
from torch import Tensor

from mindhand.core.errors import BuildError
from mindhand.core.seams import Code, Decoded
from mindhand.core.spec import Spec

from . import fits
from .codec import ChunkCodec


@dataclass(frozen=True)
class PaddedConfig:
    """size: A', numbers a step."""

    size: int = 32


class PaddedCodec(ChunkCodec):
    """A `ChunkCodec` whose codes are filled up to A'; what a hand says behind the robot's own is not read."""

    part_name = "padded_codec"
    config: PaddedConfig

    def __init__(self, spec: Spec, config: PaddedConfig = PaddedConfig()):
        super().__init__(spec)
        self.config = config
        if spec.action_size > config.size:
            raise BuildError(f"a robot of {spec.action_size} numbers a step", f"{config.size} at most", "another hand")

    @property
    def provides(self) -> frozenset[str]:
        """Chunks of so many numbers a step."""
        return frozenset({fits.numbers(self.config.size)})

    def encode(self, actions: Tensor, valid: Tensor, state: Tensor | None) -> Code:
        """actions (B,H,A) and state (B,T,S) in robot units -> (B,H,A')."""
        code = super().encode(actions, valid, state)
        return replace(code, values=F.pad(code.values, (0, self.config.size - self.size)))

    def decode(self, code: Code, state: Tensor | None) -> Decoded:
        """The first A of A' numbers, as a `ChunkCodec`."""
        return super().decode(replace(code, values=code.values[..., : self.size]), state)
