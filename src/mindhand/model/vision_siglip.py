"""The vision transformer of SigLIP (2303.15343) as PaliGemma (2407.07726) has it: all patches, a linear projector."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mindhand.core.errors import BadData
from mindhand.core.seams import Patches

from .attention import attend
from .vision import cut


@dataclass(frozen=True)
class SigLIPConfig:
    """Defaults are of So400m at 224 pixels, in PaliGemma 3B."""

    width: int = 1152
    layers: int = 27
    heads: int = 16
    patch: int = 14
    side: int = 16  # patches a side of a picture, for each of which a position is learned
    ffn: int = 4304  # inner width of the MLP
    out: int = 2048  # width of the language tower
    eps: float = 1e-6


class _Block(nn.Module):
    """Sites: `attn_out`, `middle`, `inner`, `out`."""

    def __init__(self, c: SigLIPConfig):
        super().__init__()
        self.heads = c.heads
        self.norm1, self.norm2 = nn.LayerNorm(c.width, eps=c.eps), nn.LayerNorm(c.width, eps=c.eps)
        self.qkv, self.o = nn.Linear(c.width, 3 * c.width), nn.Linear(c.width, c.width)
        self.fc1, self.fc2 = nn.Linear(c.width, c.ffn), nn.Linear(c.ffn, c.width)
        self.attn_out, self.inner, self.out = nn.Identity(), nn.Identity(), nn.Identity()
        self.middle = nn.Identity()  # of the residual stream, between attention and MLP

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (p.unflatten(-1, (self.heads, -1)).transpose(1, 2) for p in self.qkv(self.norm1(x)).chunk(3, -1))
        x = self.middle(x + self.attn_out(self.o(attend(q, k, v, None))))
        return self.out(x + self.fc2(self.inner(F.gelu(self.fc1(self.norm2(x)), approximate="tanh"))))


class SigLIP(nn.Module):
    """Patches of a picture, each with a learned position, attend to each other; every one becomes a token. Frames of a
    video do not see each other."""

    def __init__(self, c: SigLIPConfig):
        super().__init__()
        self.config = c
        self.patch = nn.Linear(3 * c.patch**2, c.width)  # Conv2d whose stride is its kernel
        self.place = nn.Embedding(c.side**2, c.width)
        self.blocks = nn.ModuleList(_Block(c) for _ in range(c.layers))
        self.norm = nn.LayerNorm(c.width, eps=c.eps)
        self.project = nn.Linear(c.width, c.out)

    def forward(self, image: Tensor) -> Patches:
        """image float (B,T,3,h,w) in [0, 1], T frames one behind the other. BadData for another size than the learned
        positions have."""
        c, (h, w) = self.config, image.shape[-2:]
        if (h, w) != (c.side * c.patch,) * 2:
            wanted = f"{c.side * c.patch}x{c.side * c.patch}, the size that its positions were learned for"
            raise BadData(f"an image of {h}x{w} pixels", wanted, "resize it in the Spec")
        p, grid = cut(image * 2 - 1, c.patch, 1, 1)
        z = self.patch(p) + self.place.weight
        for b in self.blocks:
            z = b(z)
        z = self.project(self.norm(z)).reshape(len(image), -1, c.out)
        return Patches(z, torch.ones(z.shape[:2], dtype=torch.bool, device=z.device), grid)
