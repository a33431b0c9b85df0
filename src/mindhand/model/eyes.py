"""The hand's own eyes: a wrist camera's tower, and a gaze that looks where the words point.

The trunk's tokens are a coarse picture (16 pixels a token); grasping needs millimetres. Two streams to the expert
add fine pixels: `WristEye` sees the wrist camera, `Gaze` a crop of a trunk camera round the place that the model's
own reasoning picks out. No coordinate passes through words: the place is read off a head of the trunk that looks at
what is being said, so that a wrong thought looks at the wrong place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mindhand.core.errors import BuildError
from mindhand.core.seams import Inputs, Segment, State, StreamOut, Trunk

from . import fits
from .expert import is_reasoning
from .vision import crop, octaves


@dataclass(frozen=True)
class EyeConfig:
    """A small convolutional tower over a square picture."""

    pixels: int  # side of the picture
    width: int  # of the expert
    state: int  # S
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


WAVES = 5  # octaves in which a place is told


def waves(place: Tensor) -> Tensor:
    """(B,2) in -1 .. 1 -> (B,2+4*WAVES): itself, and sines and cosines in octaves. A number alone lets a hand that
    learns for minutes tell places apart to centimetres, not to millimetres."""
    return torch.cat([place, octaves(place, WAVES)], -1)


class Aim(nn.Module):
    """An eye that is asked where the wanted thing lies in what it sees, and which way it is turned, and is told its own
    answer.

    A hand must know a place to the millimetre and a turn to some degrees; features of a picture hold them, but a
    chunk's error teaches them slowly, the turn hardly at all (docs/log.md). The answer goes to the hand as a token of
    its own.
    """

    def __init__(self, c: EyeConfig):
        super().__init__()
        self.eye = Eye(c)
        self.answer = nn.Linear(c.tokens * c.width, 4)
        inner = 2 * c.width
        told = 2 * (2 + 4 * WAVES) + c.state
        self.place = nn.Sequential(nn.Linear(told, inner), nn.GELU(), nn.Linear(inner, c.width))

    def forward(self, image: Tensor, centre: Tensor, half: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """image (B,3,p,p), centred at `centre` (B,2) of a larger one; half (2,): half a side of `image`, in the same
        units -> tokens (B,tokens+1,width), and the two points answered (B,2,2), -1 .. 1 within `image`: the place, and
        the tip that the thing points with."""
        seen = self.eye(image)
        points = self.answer(seen.flatten(1)).float().unflatten(1, (2, 2))
        at, tip = points.unbind(1)
        turn = F.normalize((tip - at) * half, dim=-1)
        told = self.place(torch.cat([waves(centre + at * half), waves(turn), state], -1)).unsqueeze(1)
        return torch.cat([seen, told.to(seen.dtype)], 1), points


def _aim_loss(points: Tensor, true: Tensor) -> Tensor:
    """(B,): distance of the answered points from the true ones, both (B,2,2), -1 .. 1; 0 for what is not in the
    picture, and such that the mean over rows is the mean over those that are."""
    known = (true.abs() <= 1).all(-1)  # False for NaN
    error = (points - torch.where(known.unsqueeze(-1), true, points.detach())).abs().sum(-1)
    return (error * len(known) / known.sum(0).clamp_min(1)).sum(-1)


def look_scores(trunk: Trunk, layer: int, head: int, segment: str, camera: str) -> Tensor:
    """Where one head looks: its scores (B,n,cells) of a segment's tokens over a picture's, float32. The pass must have
    kept the layer (`want`)."""
    q = trunk.queries[layer][segment]
    k = next(e.k for e in trunk.cache[layer] if e.name == f"image/{camera}")
    group = head * k.shape[1] // q.shape[1]
    return torch.matmul(q[:, head], k[:, group].transpose(-1, -2)).float() * q.shape[-1] ** -0.5


def _segment(name: str, x: Tensor, valid: Tensor) -> Segment:
    return Segment(name, x, valid, torch.zeros(*x.shape[:2], 3, dtype=torch.int64, device=x.device))


class WristEye(nn.Module):
    """Stream: the newest picture of one camera, for the hand alone. `inputs.more["gaze/<camera>"]` (B,4 pixels, NaN
    where unknown) says where the wanted thing and its tip are seen; loss "aim/<camera>"."""

    feeds: Literal["expert"] = "expert"

    def __init__(self, c: EyeConfig):
        super().__init__()
        self.config, self.camera = c, c.camera
        self.needs = frozenset({fits.tokens(c.width)})
        self.provides = frozenset({f"eye/{c.camera}"})
        self.aim = Aim(c)

    def start(self, rows: int) -> State:
        """No memory."""
        return {}

    def forward(self, inputs: Inputs, trunk: Trunk | None, state: State) -> StreamOut:
        """Tokens, masked where the camera is absent."""
        if self.camera not in inputs.pixels:
            raise BuildError(
                f"no camera '{self.camera}'", f"one of {sorted(inputs.pixels)}", "name a camera of the spec"
            )
        image = inputs.pixels[self.camera][:, -1]
        side = image.new_tensor([image.shape[-1], image.shape[-2]])
        x, points = self.aim(image, image.new_zeros(len(image), 2), torch.ones_like(side), inputs.state[:, -1])
        valid = inputs.present[self.camera].unsqueeze(1).expand(-1, x.shape[1])
        true = inputs.more.get(f"gaze/{self.camera}")
        losses = {} if true is None else {f"aim/{self.camera}": _aim_loss(points, _points(true) / side * 2 - 1)}
        return StreamOut((_segment(self.camera, x, valid),), state, losses)


def _points(gaze: Tensor) -> Tensor:
    """(B,4) -> (B,2,2): the place, and the tip."""
    return gaze.unflatten(1, (2, 2))


@dataclass(frozen=True)
class GazeConfig:
    """Where the words point, and how much is seen there."""

    layer: int  # of the trunk, and which head of it looks at what is being said (train/look.py)
    grid: tuple[int, int]  # rows and columns of the camera's tokens in the trunk
    picture: tuple[int, int]  # height and width of the camera's picture, pixels
    width: int  # of the expert
    state: int  # S
    size: int = 48  # side of the crop, pixels
    head: int = 0
    last: int = 4  # so many of the last words point
    camera: str = "front"


class Gaze(nn.Module):
    """Stream: what the words point at, in fine pixels.

    A head of the trunk was trained to look at what is being said; where it looks while the last words are said is
    where the hand's eye goes. No place is learned a second time, and a wrong thought looks at the wrong thing.
    A cell is coarse: the eye aims from there, and looks again where it aimed. Training looks where
    `inputs.more["gaze"]` (B,4 pixels, the thing and its tip, NaN where unknown) says, moved by "gaze/shift" (B,2), so
    that the hand learns from right places and forgives a pointer some pixels. Loss "aim/<camera>".
    """

    feeds: Literal["expert"] = "expert"
    provides: frozenset[str] = frozenset({"gaze"})

    def __init__(self, c: GazeConfig):
        super().__init__()
        self.needs = frozenset({"text", "image", fits.tokens(c.width)})
        self.config, self.camera, self.want = c, c.camera, (c.layer,)
        self.aim = Aim(EyeConfig(c.size, c.width, c.state))
        self.register_buffer("side", torch.tensor([c.picture[1], c.picture[0]], dtype=torch.float32), persistent=False)

    side: Tensor

    def start(self, rows: int) -> State:
        """{"centre": pixels (B,2)} that were looked at last, for whoever draws them; every query looks anew."""
        return {"centre": torch.zeros(rows, 2, device=self.side.device)}

    def point(self, trunk: Trunk) -> Tensor:
        """Weights (B,cells) of the camera's cells: what the head looks at, on the mean over the last words. The word
        that ends the text says nothing; without reasoning, the prompt's last words point."""
        c = self.config
        names = [n for n in trunk.queries[c.layer] if not n.startswith("image")]
        name = next((n for n in reversed(names) if is_reasoning(n)), names[-1])
        valid = trunk.valid[name]
        at, count = valid.cumsum(1) - 1, valid.sum(1, keepdim=True)
        end = (count - 1).clamp_min(1)
        said = (valid & (at < end) & (at >= end - c.last)).float()
        looked = look_scores(trunk, c.layer, c.head, name, c.camera).softmax(-1)
        if looked.shape[-1] != c.grid[0] * c.grid[1]:
            raise BuildError(
                f"{looked.shape[-1]} cells of '{c.camera}' to look at", f"{c.grid[0]}x{c.grid[1]}", "prune no picture"
            )
        return torch.einsum("bn,bnc->bc", said / said.sum(1, keepdim=True).clamp_min(1), looked)

    def centre(self, weights: Tensor) -> Tensor:
        """Pixels (B,2) x, y: mean over the heaviest cell and its neighbours, by weight."""
        rows, cols = self.config.grid
        best = weights.argmax(-1, keepdim=True)
        y = torch.arange(rows, device=weights.device).repeat_interleave(cols)
        x = torch.arange(cols, device=weights.device).repeat(rows)
        p = weights * (((y - best // cols).abs() <= 1) & ((x - best % cols).abs() <= 1))
        p = p / p.sum(-1, keepdim=True)
        cell = torch.stack([(p * (x + 0.5)).sum(-1) / cols, (p * (y + 0.5)).sum(-1) / rows], -1)
        return cell * self.side

    def forward(self, inputs: Inputs, trunk: Trunk | None, state: State) -> StreamOut:
        """Tokens of the crop and of its place."""
        camera = self.config.camera
        given, shift = inputs.more.get("gaze"), inputs.more.get("gaze/shift")
        valid = inputs.present[camera]
        half = torch.full_like(self.side, self.config.size / 2)

        def look(centre: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            centre = torch.minimum(centre.round().clamp_min(0), self.side - 1)  # whole pixels, as they are cut out
            seen = crop(inputs.pixels[camera][:, -1], centre, self.config.size)
            return centre, *self.aim(seen, centre / self.side * 2 - 1, half / self.side * 2, inputs.state[:, -1])

        if given is None:
            assert trunk is not None
            first, _, points = look(self.centre(self.point(trunk)))
            centre, x, points = look(first + points[:, 0] * half)
        else:
            there = given[:, :2]
            valid = valid & torch.isfinite(there).all(-1)
            centre, x, points = look(there.nan_to_num() if shift is None else there.nan_to_num() + shift)
        losses = {}
        if given is not None:
            true = torch.where(valid.view(-1, 1, 1), (_points(given) - centre.unsqueeze(1)) / half, torch.nan)
            losses[f"aim/{camera}"] = _aim_loss(points, true)
        valid = valid.unsqueeze(1).expand(-1, x.shape[1])
        return StreamOut((_segment("gaze", x, valid),), {"centre": centre.detach().float()}, losses)
