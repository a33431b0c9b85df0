"""The hand's own eyes: a wrist camera's tower, and a gaze that looks where the words point.

The trunk's tokens are a coarse picture (16 pixels a token); grasping needs millimetres. Two streams to the expert
add fine pixels: `WristEye` sees the wrist camera, `Gaze` a crop of a trunk camera round the place that the model's
own reasoning picks out. No coordinate passes through words: the place is read from the trunk's hidden states by a
supervised pointer, so that a wrong thought looks at the wrong place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mindhand.core.errors import BuildError
from mindhand.core.seams import Inputs, Segment, State, StreamOut, Trunk

from .expert import is_reasoning
from .vision import crop


@dataclass(frozen=True)
class EyeConfig:
    """A small convolutional tower over a square picture."""

    pixels: int  # side of the picture
    width: int  # of the expert
    tokens: int = 2  # it becomes so many tokens
    camera: str = "wrist"  # whose picture
    unshuffle: int = 4  # pixels a side that are folded into channels first
    channels: int = 64


class Eye(nn.Module):
    """(B,3,p,p) in [0, 1] -> (B,tokens,width). Flattened, not pooled: where things are is what a hand needs."""

    def __init__(self, c: EyeConfig):
        super().__init__()
        self.config = c
        n, side = c.channels, c.pixels // c.unshuffle // 2
        self.enter = nn.Conv2d(3 * c.unshuffle**2, n, 3, padding=1)
        self.down = nn.Conv2d(n, n, 4, 2, padding=1)
        self.mix = nn.Sequential(nn.GELU(), nn.Conv2d(n, n, 3, padding=1), nn.GELU(), nn.Conv2d(n, n, 3, padding=1))
        self.thin = nn.Conv2d(n, n // 2, 1)
        self.out = nn.Linear(n // 2 * side * side, c.tokens * c.width)
        self.norm = nn.LayerNorm(c.width)

    def forward(self, image: Tensor) -> Tensor:
        """Tokens of one picture."""
        x = F.pixel_unshuffle(image * 2 - 1, self.config.unshuffle)
        x = self.down(F.gelu(self.enter(x)))
        x = self.thin(F.gelu(x + self.mix(x)))
        return self.norm(self.out(x.flatten(1)).unflatten(1, (self.config.tokens, self.config.width)))


def _segment(name: str, x: Tensor, valid: Tensor) -> Segment:
    return Segment(name, x, valid, torch.zeros(*x.shape[:2], 3, dtype=torch.int64, device=x.device))


class WristEye(nn.Module):
    """Stream: the newest picture of one camera, for the hand alone."""

    feeds: Literal["expert"] = "expert"
    needs: frozenset[str] = frozenset()

    def __init__(self, c: EyeConfig):
        super().__init__()
        self.config, self.camera = c, c.camera
        self.provides = frozenset({f"eye/{c.camera}"})
        self.eye = Eye(c)

    def start(self, rows: int) -> State:
        """No memory."""
        return {}

    def forward(self, inputs: Inputs, trunk: Trunk | None, state: State) -> StreamOut:
        """Tokens, masked where the camera is absent."""
        if self.camera not in inputs.pixels:
            raise BuildError(
                f"no camera '{self.camera}'", f"one of {sorted(inputs.pixels)}", "name a camera of the spec"
            )
        x = self.eye(inputs.pixels[self.camera][:, -1])
        valid = inputs.present[self.camera].unsqueeze(1).expand(-1, x.shape[1])
        return StreamOut((_segment(self.camera, x, valid),), state)


@dataclass(frozen=True)
class GazeConfig:
    """Where the words point, and how much is seen there."""

    trunk: int  # D of the language tower
    grid: tuple[int, int]  # rows and columns of the camera's tokens in the trunk
    picture: tuple[int, int]  # height and width of the camera's picture, pixels
    width: int  # of the expert
    size: int = 48  # side of the crop, pixels
    camera: str = "front"


class Gaze(nn.Module):
    """Stream: a pointer from the reasoning into the picture, and the crop round where it points.

    The query is read off the reasoning's tokens (attention pooling), keys off the picture's; their softmax over
    cells is the pointer. Training looks where `inputs.more["gaze"]` (B,2 pixels, NaN where unknown) says, so the
    hand learns from right places, and the pointer from cross-entropy; acting looks where the pointer says.
    """

    feeds: Literal["expert"] = "expert"
    needs: frozenset[str] = frozenset({"text"})
    provides: frozenset[str] = frozenset({"gaze"})

    def __init__(self, c: GazeConfig):
        super().__init__()
        self.config = c
        self.pool = nn.Linear(c.trunk, 1)
        self.query = nn.Sequential(nn.Linear(c.trunk, c.trunk), nn.GELU(), nn.Linear(c.trunk, c.trunk))
        self.key = nn.Linear(c.trunk, c.trunk)
        self.eye = Eye(EyeConfig(c.size, c.width))
        self.place = nn.Linear(2, c.width)
        self.aim = nn.Linear(self.eye.config.tokens * c.width, 2)  # where the thing lies within the crop

    def start(self, rows: int) -> State:
        """{"centre": pixels (B,2)} that were looked at last, for whoever draws them; every query looks anew."""
        return {"centre": torch.zeros(rows, 2, device=self.place.weight.device)}

    def point(self, trunk: Trunk) -> Tensor:
        """Scores over the camera's cells, float32 (B,n). Without reasoning, the prompt's text points."""
        said = [n for n in trunk.hidden if is_reasoning(n)] or [n for n in trunk.hidden if n.startswith("text")]
        words = torch.cat([trunk.hidden[n] for n in said], 1)
        valid = torch.cat([trunk.valid[n] for n in said], 1)
        weight = self.pool(words).squeeze(-1).float().masked_fill(~valid, float("-inf")).softmax(-1)
        query = self.query((weight.unsqueeze(-1) * words.float()).sum(1).to(words.dtype))
        keys = self.key(trunk.hidden[f"image/{self.config.camera}"])
        return torch.einsum("bd,bnd->bn", query.float(), keys.float()) * query.shape[-1] ** -0.5

    def centre(self, scores: Tensor) -> Tensor:
        """Pixels (B,2) x, y: mean over the best cell and its neighbours, weighted by the pointer."""
        rows, cols = self.config.grid
        h, w = self.config.picture
        p = scores.softmax(-1)
        best = p.argmax(-1)
        y = torch.arange(rows, device=p.device).repeat_interleave(cols)
        x = torch.arange(cols, device=p.device).repeat(rows)
        near = ((y - (best // cols).unsqueeze(1)).abs() <= 1) & ((x - (best % cols).unsqueeze(1)).abs() <= 1)
        p = p * near
        p = p / p.sum(-1, keepdim=True)
        return torch.stack([(p * (x + 0.5)).sum(-1) * w / cols, (p * (y + 0.5)).sum(-1) * h / rows], -1)

    def cell(self, pixel: Tensor) -> Tensor:
        """Pixels (B,2) -> cell index (B,) int64; those outside the picture go to its border."""
        rows, cols = self.config.grid
        h, w = self.config.picture
        x = (pixel[:, 0] * cols / w).long().clamp(0, cols - 1)
        y = (pixel[:, 1] * rows / h).long().clamp(0, rows - 1)
        return y * cols + x

    def forward(self, inputs: Inputs, trunk: Trunk | None, state: State) -> StreamOut:
        """Tokens of the crop and of its place; loss "gaze" where the right place is known."""
        given = inputs.more.get("gaze")
        losses: dict[str, Tensor] = {}
        if given is not None:
            known = torch.isfinite(given).all(-1)
            safe = torch.where(known.unsqueeze(-1), given, torch.zeros_like(given))
            if trunk is not None and f"image/{self.config.camera}" in trunk.hidden:
                error = F.cross_entropy(self.point(trunk), self.cell(safe), reduction="none")
                losses["gaze"] = (
                    torch.where(known, error, torch.zeros_like(error)) * len(known) / known.sum().clamp_min(1)
                )
            centre, valid = safe + inputs.more["gaze/shift"] if "gaze/shift" in inputs.more else safe, known
        else:
            assert trunk is not None
            centre = self.centre(self.point(trunk))
            valid = inputs.present[self.config.camera]
        image = inputs.pixels[self.config.camera][:, -1]
        h, w = self.config.picture
        seen = self.eye(crop(image, centre, self.config.size))
        if given is not None and "gaze/shift" in inputs.more:
            off = -inputs.more["gaze/shift"].nan_to_num() / self.config.size * 2
            error = (self.aim(seen.flatten(1)).float() - off).square().sum(-1)
            losses["aim"] = torch.where(known, error, torch.zeros_like(error)) * len(known) / known.sum().clamp_min(1)
        where = self.place(centre / centre.new_tensor([w, h]) * 2 - 1).unsqueeze(1)
        x = torch.cat([seen, where.to(seen.dtype)], 1)
        valid = (valid & inputs.present[self.config.camera]).unsqueeze(1).expand(-1, x.shape[1])
        return StreamOut((_segment("gaze", x, valid),), {"centre": centre.detach().float()}, losses)
