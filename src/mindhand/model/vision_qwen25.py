"""The vision transformer of Qwen2.5-VL (2502.13923, sec. 2.1.1): most blocks attend within windows of the picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mindhand.core.seams import Patches

from .attention import attend
from .norm import RMSNorm
from .vision import MEAN, STD, angles, cut, turned


@dataclass(frozen=True)
class WindowViTConfig:
    """Defaults are of the 3B model; that of 7B differs in `out`."""

    width: int = 1280
    layers: int = 32
    heads: int = 16
    patch: int = 14
    frames: int = 2  # one picture is repeated to fill the temporal patch
    merge: int = 2  # neighbouring patches per side that become one token
    ffn: int = 3420  # inner width of the SwiGLU
    window: int = 4  # tokens per side: 112 pixels
    whole: tuple[int, ...] = (7, 15, 23, 31)  # blocks that attend to all of the picture
    out: int = 2048  # width of the language tower


Windows = Sequence[tuple[int, int]]  # of windows that lie one behind the other: (tokens of one, how many such)


def windows(rows: int, cols: int, side: int) -> tuple[Tensor, list[tuple[int, int]]]:
    """An order (rows*cols,) of cells in which those of a window lie together, and windows of one size; and the sizes:
    (cells of a window, how many such). Windows at the right and lower border end with the picture."""
    bands = torch.arange(rows * cols).view(rows, cols).split(side)
    found = sorted((w.flatten() for band in bands for w in band.split(side, 1)), key=len)
    return torch.cat(found), list(Counter(map(len, found)).items())


def attend_within(q: Tensor, k: Tensor, v: Tensor, sizes: Windows) -> Tensor:
    """q, k, v (B,N,n,d) -> (B,n,N*d), each window by itself. Windows of one size go through one call, as rows."""
    runs = [count * many for count, many in sizes]
    out = []
    for (count, many), *heads in zip(sizes, *(x.split(runs, 2) for x in (q, k, v))):
        rows = (x.unflatten(2, (many, count)).transpose(1, 2).flatten(0, 1) for x in heads)
        out.append(attend(*rows, None).unflatten(0, (-1, many)).flatten(1, 2))
    return torch.cat(out, 1)


class _Block(nn.Module):
    """Sites: `attn_out`, `middle`, `inner`, `out`; what passes them is in the order of `windows`."""

    def __init__(self, c: WindowViTConfig):
        super().__init__()
        self.heads = c.heads
        self.norm1, self.norm2 = RMSNorm(c.width, eps=1e-6), RMSNorm(c.width, eps=1e-6)
        self.qkv, self.o = nn.Linear(c.width, 3 * c.width), nn.Linear(c.width, c.width)
        self.gate_up, self.down = nn.Linear(c.width, 2 * c.ffn), nn.Linear(c.ffn, c.width)
        self.attn_out, self.inner, self.out = nn.Identity(), nn.Identity(), nn.Identity()
        self.middle = nn.Identity()  # of the residual stream, between attention and MLP

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, sizes: Windows) -> Tensor:
        q, k, v = (p.unflatten(-1, (self.heads, -1)).transpose(1, 2) for p in self.qkv(self.norm1(x)).chunk(3, -1))
        a = attend_within(turned(q, cos, sin), turned(k, cos, sin), v, sizes)
        x = self.middle(x + self.attn_out(self.o(a)))
        gate, up = self.gate_up(self.norm2(x)).chunk(2, -1)
        return self.out(x + self.down(self.inner(F.silu(gate) * up)))


class WindowViT(nn.Module):
    """Patches attend to those of their window, in a few blocks to all (rotary over row and column); 2x2 patches merge
    to a token. Frames of a video do not see each other."""

    def __init__(self, c: WindowViTConfig):
        super().__init__()
        self.config = c
        self.patch = nn.Linear(3 * c.frames * c.patch**2, c.width, bias=False)  # Conv3d whose stride is its kernel
        self.blocks = nn.ModuleList(_Block(c) for _ in range(c.layers))
        self.norm = RMSNorm(c.width, eps=1e-6)
        merged = c.width * c.merge**2
        self.merge = nn.Sequential(nn.Linear(merged, merged), nn.GELU(), nn.Linear(merged, c.out))

    def forward(self, image: Tensor) -> Patches:
        """image float (B,T,3,h,w) in [0, 1]; h, w multiples of patch*merge; T 1 or a multiple of `frames`. Tokens come
        in the order of the picture, row by row."""
        c, four = self.config, self.config.merge**2
        mean, std = (image.new_tensor(m).view(3, 1, 1) for m in (MEAN, STD))
        p, (t, y, x) = cut((image - mean) / std, c.patch, c.frames, c.merge)
        order, sizes = windows(y, x, c.window)
        order = order.to(image.device)
        own, whole = [(count * four, many) for count, many in sizes], [(p.shape[1], 1)]
        angle = angles(y, x, c.merge, c.width // c.heads, image.device)
        angle = angle.unflatten(0, (-1, four))[order].flatten(0, 1)
        z = self.patch(p.unflatten(1, (-1, four))[:, order].flatten(1, 2))
        for l, b in enumerate(self.blocks):
            z = b(z, angle.cos(), angle.sin(), whole if l in c.whole else own)
        z = self.merge(self.norm(z).unflatten(1, (-1, four)).flatten(2))[:, order.argsort()]
        z = z.reshape(len(image), t * y * x, -1)
        return Patches(z, torch.ones(z.shape[:2], dtype=torch.bool, device=z.device), (t, y, x))
