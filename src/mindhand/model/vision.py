"""Two vision towers: the transformer of Qwen2-VL, and a convolutional stem that learns to read within minutes. Two
more, of Qwen2.5-VL and PaliGemma, are in `vision_qwen25.py` and `vision_siglip.py`."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mindhand.core.errors import BadData
from mindhand.core.seams import Patches

from .attention import attend

MEAN = 0.48145466, 0.4578275, 0.40821073  # of CLIP (2103.00020), which Qwen's towers kept
STD = 0.26862954, 0.26130258, 0.27577711


@dataclass(frozen=True)
class ViTConfig:
    """Vision transformer as in Qwen2-VL (2409.12191): defaults are its 2B model's."""

    width: int = 1280
    layers: int = 32
    heads: int = 16
    patch: int = 14
    frames: int = 2  # one picture is repeated to fill the temporal patch
    merge: int = 2  # neighbouring patches per side that become one token
    ratio: int = 4  # MLP
    out: int = 1536  # width of the language tower
    mean: tuple[float, float, float] = MEAN
    std: tuple[float, float, float] = STD


def turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position of queries or keys (B,N,n,d) by cos and sin (n,d/2), in float32, as the reference does."""
    a, b = x.float().chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1).to(x.dtype)


def cut(image: Tensor, patch: int, frames: int, merge: int) -> tuple[Tensor, tuple[int, int, int]]:
    """Patches of pictures (B,T,3,h,w), in merge order: (B*t,n,3*frames*patch**2), and the grid (t,y,x) of merged cells,
    n = y*x*merge**2. h, w are multiples of patch*merge, or BadData; T is 1 or a multiple of `frames`."""
    batch, time, _, h, w = image.shape
    unit = patch * merge
    if h % unit or w % unit:
        raise BadData(f"an image of {h}x{w} pixels", f"sides that are multiples of {unit}", "resize it in the Spec")
    if time == 1:
        image, time = image.expand(-1, frames, -1, -1, -1), frames
    t, y, x = time // frames, h // unit, w // unit
    p = image.reshape(batch, t, frames, 3, y, merge, patch, x, merge, patch)
    # rows in merge order, so that four neighbours lie together; columns as the convolution's (channel, frame, y, x)
    return p.permute(0, 1, 4, 7, 5, 8, 3, 2, 6, 9).reshape(batch * t, y * x * merge**2, -1), (t, y, x)


def angles(y: int, x: int, merge: int, head: int, device: torch.device) -> Tensor:
    """Rotary angles over row and column of the patches of y by x merged cells, in merge order: (n,head/2) float32."""
    row = torch.arange(y * merge, device=device).view(y, 1, merge, 1).expand(y, x, merge, merge)
    col = torch.arange(x * merge, device=device).view(1, x, 1, merge).expand(y, x, merge, merge)
    rate = 1e4 ** (-torch.arange(head // 4, device=device, dtype=torch.float32) / (head // 4))
    return torch.cat([row.reshape(-1, 1) * rate, col.reshape(-1, 1) * rate], -1)


class _ViTBlock(nn.Module):
    """Sites: `attn_out`, `middle`, `inner`, `out`."""

    def __init__(self, c: ViTConfig):
        super().__init__()
        self.heads = c.heads
        self.norm1, self.norm2 = nn.LayerNorm(c.width, eps=1e-6), nn.LayerNorm(c.width, eps=1e-6)
        self.qkv, self.o = nn.Linear(c.width, 3 * c.width), nn.Linear(c.width, c.width)
        self.fc1, self.fc2 = nn.Linear(c.width, c.ratio * c.width), nn.Linear(c.ratio * c.width, c.width)
        self.attn_out, self.inner, self.out = nn.Identity(), nn.Identity(), nn.Identity()
        self.middle = nn.Identity()  # of the residual stream, between attention and MLP

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        q, k, v = (p.unflatten(-1, (self.heads, -1)).transpose(1, 2) for p in self.qkv(self.norm1(x)).chunk(3, -1))
        x = self.middle(x + self.attn_out(self.o(attend(turned(q, cos, sin), turned(k, cos, sin), v, None))))
        h = self.fc1(self.norm2(x))
        return self.out(x + self.fc2(self.inner(h * torch.sigmoid(1.702 * h))))


class ViT(nn.Module):
    """Patches of all positions attend to each other (rotary over row and column); 2x2 patches merge to a token."""

    def __init__(self, c: ViTConfig):
        super().__init__()
        self.config = c
        self.patch = nn.Linear(3 * c.frames * c.patch**2, c.width, bias=False)  # Conv3d whose stride is its kernel
        self.blocks = nn.ModuleList(_ViTBlock(c) for _ in range(c.layers))
        self.norm = nn.LayerNorm(c.width, eps=1e-6)
        merged = c.width * c.merge**2
        self.merge = nn.Sequential(nn.Linear(merged, merged), nn.GELU(), nn.Linear(merged, c.out))

    def forward(self, image: Tensor) -> Patches:
        """image float (B,T,3,h,w) in [0, 1]; h, w multiples of patch*merge; T 1 or a multiple of `frames`."""
        c = self.config
        mean, std = (image.new_tensor(m).view(3, 1, 1) for m in (c.mean, c.std))
        image = (image - mean) / std
        p, grid = cut(image, c.patch, c.frames, c.merge)
        angle = angles(*grid[1:], c.merge, c.width // c.heads, image.device)
        z = self.patch(p)
        for b in self.blocks:
            z = b(z, angle.cos(), angle.sin())
        z = self.merge(self.norm(z).reshape(len(image), math.prod(grid), -1))
        return Patches(z, torch.ones(z.shape[:2], dtype=torch.bool, device=z.device), grid)


@dataclass(frozen=True)
class StemConfig:
    """Pixels are folded into channels, then strided convolutions. A cell is 16 pixels high and 8 wide by default:
    text runs sideways."""

    fold: int = 2  # pixels a side that become channels; 4 is a third cheaper and reads small digits far later
    channels: tuple[int, ...] = (32, 64, 96, 128)
    strides: tuple[tuple[int, int], ...] = ((1, 1), (2, 2), (2, 2), (2, 1))
    out: int = 128
    blocks: tuple[int, ...] = ()  # residual blocks behind each convolution: () is none


WAVES = 4  # frequencies a side of the position features


def octaves(x: Tensor, count: int) -> Tensor:
    """(...,n) -> (...,2*n*count): sines, then cosines, of pi, 2 pi, 4 pi, ... times each number."""
    angle = (x.unsqueeze(-1) * (torch.pi * 2.0 ** torch.arange(count, device=x.device))).flatten(-2)
    return torch.cat([angle.sin(), angle.cos()], -1)


def waves(rows: int, cols: int, device: torch.device) -> Tensor:
    """Sines and cosines of a cell's place, (rows*cols, 4*WAVES). Rotary positions steer where attention goes; what
    it brings back must say by itself where it was, or nothing can be called left or far."""
    y = (torch.arange(rows, device=device) + 0.5) / rows
    x = (torch.arange(cols, device=device) + 0.5) / cols
    return octaves(torch.stack([y.repeat_interleave(cols), x.repeat(rows)], 1), WAVES)


class Refine(nn.Module):
    """x plus what two convolutions make of it; nothing at first, so that a stem that has learned can be given more."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = nn.GroupNorm(8, channels)
        self.enter, self.leave = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B,C,h,w) -> the same shape."""
        return x + self.leave(F.gelu(self.enter(self.norm(x))))


class Stem(nn.Module):
    """A convolutional stem instead of a vision transformer: the small VLM reads after minutes, not days."""

    def __init__(self, c: StemConfig):
        super().__init__()
        self.config = c
        layers: list[nn.Module] = []
        before = 3 * c.fold**2
        for channels, stride, blocks in zip(c.channels, c.strides, c.blocks or (0,) * len(c.channels), strict=True):
            # a kernel of 4 at stride 2 covers every pixel evenly; at stride 1 an odd kernel keeps the size
            kernel = tuple(4 if s == 2 else 3 for s in stride)
            layers.append(nn.Conv2d(before, channels, kernel, stride, padding=1))
            if len(layers) > 1:  # not at full resolution, where a norm costs more than its convolution
                layers.append(nn.GroupNorm(8, channels))
            layers += [nn.GELU(), *(Refine(channels) for _ in range(blocks))]
            before = channels
        self.convs = nn.Sequential(*layers)
        self.out = nn.Conv2d(before, c.out, 1)
        self.place = nn.Linear(4 * WAVES, c.out)

    def forward(self, image: Tensor) -> Patches:
        """image float (B,T,3,h,w) in [0, 1] -> one token a cell, frames in sequence."""
        batch, time, _, h, w = image.shape
        z = F.pixel_unshuffle(image.reshape(batch * time, 3, h, w) * 2 - 1, self.config.fold)
        z = self.out(self.convs(z))
        rows, cols = z.shape[-2:]
        z = z.flatten(2).transpose(1, 2) + self.place(waves(rows, cols, z.device))
        z = z.reshape(batch, time * rows * cols, -1)
        return Patches(z, torch.ones(z.shape[:2], dtype=torch.bool, device=z.device), (time, rows, cols))


def pixels(images: Tensor) -> Tensor:
    """uint8 (B,T,h,w,3) -> float32 (B,T,3,h,w) in [0, 1]; every tower normalises for itself."""
    # Turned only when done: of a turned uint8 tensor a division takes up to thirty times as long, for the same bits.
    return images.float().div_(255.0).permute(0, 1, 4, 2, 3)


def crop(image: Tensor, centre: Tensor, size: int) -> Tensor:
    """Square crops of `size` pixels round `centre` (B,2) in x, y pixels. image (B,3,h,w) -> (B,3,size,size).

    Whole pixels are copied; outside the picture the border repeats. Not differentiable in `centre`.
    """
    corner = centre.round().long()
    h, w = image.shape[-2:]
    step = torch.arange(size, device=image.device) - size // 2
    rows = (corner[:, 1:2].clamp(0, h - 1) + step).clamp(0, h - 1).view(-1, 1, size, 1)
    cols = (corner[:, 0:1].clamp(0, w - 1) + step).clamp(0, w - 1).view(-1, 1, 1, size)
    batch = torch.arange(image.shape[0], device=image.device).view(-1, 1, 1, 1)
    channel = torch.arange(3, device=image.device).view(1, 3, 1, 1)
    return image[batch, channel, rows, cols]
