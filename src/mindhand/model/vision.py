"""Two vision towers: the transformer of Qwen2-VL, and a convolutional stem that learns to read within minutes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mindhand.core.errors import BadData
from mindhand.core.seams import Patches

from .attention import attend


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
    mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)  # of CLIP (2103.00020), which it kept
    std: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)


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

        def turn(p: Tensor) -> Tensor:  # in float32, as the reference does
            a, b = p.float().chunk(2, -1)
            return torch.cat((a * cos - b * sin, b * cos + a * sin), -1).to(p.dtype)

        x = self.middle(x + self.attn_out(self.o(attend(turn(q), turn(k), v, None))))
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
        batch, time, _, h, w = image.shape
        unit = c.patch * c.merge
        if h % unit or w % unit:
            raise BadData(f"an image of {h}x{w} pixels", f"sides that are multiples of {unit}", "resize it in the Spec")
        if time == 1:
            image, time = image.expand(-1, c.frames, -1, -1, -1), c.frames
        t, y, x = time // c.frames, h // unit, w // unit
        p = image.reshape(batch, t, c.frames, 3, y, c.merge, c.patch, x, c.merge, c.patch)
        # rows in merge order, so that four neighbours lie together; columns as the convolution's (channel, frame, y, x)
        p = p.permute(0, 1, 4, 7, 5, 8, 3, 2, 6, 9).reshape(batch * t, y * x * c.merge**2, -1)
        row = torch.arange(y * c.merge, device=image.device).view(y, 1, c.merge, 1).expand(y, x, c.merge, c.merge)
        col = torch.arange(x * c.merge, device=image.device).view(1, x, 1, c.merge).expand(y, x, c.merge, c.merge)
        quarter = c.width // c.heads // 4
        rate = 1e4 ** (-torch.arange(quarter, device=image.device, dtype=torch.float32) / quarter)
        angle = torch.cat([row.reshape(-1, 1) * rate, col.reshape(-1, 1) * rate], -1)
        z = self.patch(p)
        for b in self.blocks:
            z = b(z, angle.cos(), angle.sin())
        z = self.merge(self.norm(z).reshape(batch, t * y * x, -1))
        return Patches(z, torch.ones(z.shape[:2], dtype=torch.bool, device=z.device), (t, y, x))


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
