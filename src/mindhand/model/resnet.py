"""A ResNet (1512.03385) as the hand's eyes: one tower for several cameras, a token a cell of its last feature map.

Blocks are the two-convolution ones of ResNet-18 and ResNet-34. Batch statistics are frozen, as in DETR and ACT
(2304.13705): each norm is a fixed scale and shift a channel, whatever a batch holds; without weights from elsewhere it
changes nothing. Names are torchvision's, so that such weights fit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mindhand.core.errors import BuildError
from mindhand.core.seams import Inputs, Segment, State, StreamOut, Trunk, grid_position

from . import fits

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # mean and std a channel, of pixels in [0, 1]


class FrozenNorm(nn.Module):
    """(B,C,h,w) -> the same, by numbers that never learn. Buffers (C,): weight, bias, running_mean, running_var."""

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int):
        super().__init__()
        for name, x in (("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)):
            self.register_buffer(name, torch.full((channels,), x))

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        scale = self.weight * (self.running_var + 1e-5).rsqrt()
        return x * scale.view(-1, 1, 1) + (self.bias - self.running_mean * scale).view(-1, 1, 1)


class Block(nn.Module):
    """relu(x + conv(relu(conv(x)))); x is projected where its shape changes."""

    def __init__(self, before: int, channels: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(before, channels, 3, stride, 1, bias=False)
        self.bn1 = FrozenNorm(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = FrozenNorm(channels)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or before != channels:
            self.downsample = nn.Sequential(nn.Conv2d(before, channels, 1, stride, bias=False), FrozenNorm(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B,C,h,w) -> (B,C',h/stride,w/stride)."""
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))) + self.downsample(x))


class ResNet(nn.Module):
    """(B,3,h,w), normalised -> the last feature map, (B,8*channels,h/32,w/32) rounded up."""

    def __init__(self, depths: tuple[int, int, int, int], channels: int):
        super().__init__()
        self.conv1 = nn.Conv2d(3, channels, 7, 2, 3, bias=False)
        self.bn1 = FrozenNorm(channels)
        before = channels
        for i, depth in enumerate(depths):
            now = channels << i
            blocks = [Block(before if j == 0 else now, now, 2 if i and j == 0 else 1) for j in range(depth)]
            self.add_module(f"layer{i + 1}", nn.Sequential(*blocks))
            before = now
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """As the class says."""
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        for i in range(4):
            x = getattr(self, f"layer{i + 1}")(x)
        return x


@dataclass(frozen=True)
class ResNetEyesConfig:
    """Which cameras are seen, in this order, and by how large a tower; by default a ResNet-18."""

    cameras: tuple[str, ...]  # roles
    width: int  # of the expert
    mean: tuple[tuple[float, ...], ...] = ()  # of each camera's channels, in [0, 1]; none: ImageNet's
    std: tuple[tuple[float, ...], ...] = ()
    depths: tuple[int, int, int, int] = (2, 2, 2, 2)  # blocks a stage
    channels: int = 64  # of the first


class ResNetEyes(nn.Module):
    """Stream: what each of its cameras shows now, for the hand alone. A token a cell, at its row and column."""

    part_name = "resnet_eyes"
    feeds: Literal["expert"] = "expert"
    looks: Tensor

    def __init__(self, c: ResNetEyesConfig):
        super().__init__()
        self.config, self.cameras = c, c.cameras
        self.needs = frozenset({fits.tokens(c.width)})
        self.provides = frozenset({"resnet"})
        told = [c.mean or (IMAGENET[0],) * len(c.cameras), c.std or (IMAGENET[1],) * len(c.cameras)]
        if not c.cameras or {len(x) for x in told} != {len(c.cameras)}:
            raise BuildError(f"{c}", "cameras, and a mean and a std of each or of none", "mend the config")
        self.register_buffer("looks", torch.tensor(told)[..., None, None], persistent=False)  # (2,cameras,3,1,1)
        self.resnet = ResNet(c.depths, c.channels)
        self.project = nn.Conv2d(8 * c.channels, c.width, 1)

    def start(self, rows: int) -> State:
        """No memory."""
        return {}

    def forward(self, inputs: Inputs, trunk: Trunk | None, state: State) -> StreamOut:
        """A segment a camera, "eyes/<role>", masked where the camera is absent. BuildError where no picture of it
        is given."""
        if missing := [r for r in self.cameras if r not in inputs.pixels]:
            raise BuildError(f"no pictures of cameras {missing}", f"{list(self.cameras)}", "give those of the spec")
        out = []
        for role, mean, std in zip(self.cameras, *self.looks):
            x = self.project(self.resnet((inputs.pixels[role][:, -1] - mean) / std))
            place = grid_position(len(x), (1, *x.shape[-2:]), device=x.device)
            valid = inputs.present[role].unsqueeze(1).expand(-1, place.shape[1])
            out.append(Segment(f"eyes/{role}", x.flatten(2).transpose(1, 2), valid, place))
        return StreamOut(tuple(out), state)
