"""What a bad camera makes of a picture: blur by motion, by focus or by zoom, fog, shot noise, grain. numpy only.

Kinds after LIBERO-Plus (arXiv 2510.13626) and ImageNet-C (1903.12261), at the strengths of `perturb.MAGNITUDES`. An
episode has one kind and one strength. Everything but the noise itself is done in whole numbers, so that a picture has
the same bits everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from mindhand.core.keys import Key, Keys

from .draw import Draw
from .perturb import MAGNITUDES, amount, keys_of

KINDS = tuple(MAGNITUDES["noise"])
PIXELS = 128  # the height of the pictures that strengths in pixels are meant for
FOG = 214  # its grey
_ONE = 256  # weights are whole numbers that add up to this
_COPIES = 6  # of a zoomed picture
Tap = tuple[int, int, int]  # rows down, columns to the right, weight


@dataclass(frozen=True)
class Sensor:
    """The noise of an episode. `strength` in the units of `MAGNITUDES`; `angle` (rad) of a streak; `keys` of what
    differs from step to step or camera to camera."""

    kind: str
    strength: float
    angle: float
    keys: Keys

    @staticmethod
    def of(key: Key, level: int) -> Sensor:
        """The one that an episode has at a level above 0."""
        keys = keys_of(key, "noise", level)
        draw = Draw(keys)
        kind = draw.pick(KINDS)
        return Sensor(kind, amount(draw, "noise", kind, level), draw.uniform(0.0, math.pi), keys)

    def see(self, picture: np.ndarray, camera: str, step: int) -> np.ndarray:
        """A picture uint8 (h,w,3) as this sensor gives it in a control step, a new array."""
        scale = picture.shape[0] / PIXELS
        if self.kind == "motion":
            return _blend(picture, streak(self.strength * scale, self.angle))
        if self.kind == "gaussian":
            bell = _bell(self.strength * scale)
            return _blend(_blend(picture, [(k, 0, w) for k, w in bell]), [(0, k, w) for k, w in bell])
        if self.kind == "zoom":
            return _zoomed(picture, self.strength)
        if self.kind == "fog":
            return _fogged(picture, *_veil(self.keys.fold(camera), self.strength, picture.shape[:2]))
        return _grained(picture, self.keys.fold(camera, step), self.strength, self.kind == "shot")


def clouds(keys: Keys, height: int, width: int) -> np.ndarray:
    """Fractal noise float32 (height,width) from 0 to 1: five octaves of random grids, each half as strong as the one
    before and twice as fine."""
    out = np.zeros((height, width), np.float32)
    for octave in range(5):
        cells = 2 << octave
        grid = keys.fold("octave", octave).uniform(cells + 1, cells + 1)[0].astype(np.float32)
        for axis, count in enumerate((height, width)):
            at = (np.arange(count, dtype=np.float32) + np.float32(0.5)) * np.float32(cells / count)
            low = at.astype(np.int64)
            part = (at - low).reshape((-1, 1) if axis == 0 else (1, -1))
            grid = grid.take(low, axis) * (1 - part) + grid.take(low + 1, axis) * part
        out += grid / np.float32(2**octave)
    low, high = out.min(), out.max()
    return (out - low) / (high - low)


# ---- blur ----------------------------------------------------------------------------------------------


def _whole(weights: Sequence[float]) -> list[int]:
    """Weights as whole numbers that add up to `_ONE`; the largest takes what rounding leaves."""
    total = sum(weights)
    out = [round(_ONE * w / total) for w in weights]
    out[out.index(max(out))] += _ONE - sum(out)
    return out


@lru_cache(maxsize=64)
def _bell(sigma: float) -> tuple[tuple[int, int], ...]:
    """Shifts and weights of a Gaussian of so many pixels, cut at two and a half of them."""
    reach = math.ceil(2.5 * sigma)
    shifts = range(-reach, reach + 1)
    heights = [math.exp(-0.5 * (k / sigma) ** 2) for k in shifts]
    return tuple((k, w) for k, w in zip(shifts, _whole(heights)) if w)


@lru_cache(maxsize=64)
def streak(length: float, angle: float) -> tuple[Tap, ...]:
    """The taps of a straight streak of so many pixels, from its middle."""
    c, s = math.cos(angle), math.sin(angle)
    major, slope = (c, s / c) if abs(c) >= abs(s) else (s, c / s)
    half = abs(major) * length / 2
    reach = math.ceil(half)
    shares: dict[tuple[int, int], float] = {}
    for k in range(-reach, reach + 1):
        share = min(1.0, half - abs(k) + 1.0) if half < reach else 1.0
        low = math.floor(k * slope)
        for off, part in ((low, 1 - (k * slope - low)), (low + 1, k * slope - low)):
            at = (off, k) if abs(c) >= abs(s) else (k, off)
            shares[at] = shares.get(at, 0.0) + share * part
    return tuple((*at, w) for at, w in zip(shares, _whole(list(shares.values()))) if w)


def _blend(picture: np.ndarray, taps: Sequence[Tap]) -> np.ndarray:
    """The weighted mean of shifted copies; beyond its border a picture goes on as it ends."""
    h, w = picture.shape[:2]
    down, right = (max(abs(t[k]) for t in taps) for k in (0, 1))
    rows, columns = np.arange(-down, h + down + 1).clip(0, h - 1), np.arange(-right, w + right).clip(0, w - 1)
    wide = picture.take(rows, 0) if down else picture
    wide = wide.take(columns, 1) if right else wide
    # One long line, in which a copy shifted by rows and columns is a plain slice: three times as fast.
    pitch = 3 * (w + 2 * right)
    line = np.zeros(pitch * (h + 2 * down + 1), np.uint16)
    line[: wide.size] = wide.ravel()
    total, part = np.full(pitch * h, _ONE // 2, np.uint16), np.empty(pitch * h, np.uint16)
    for dy, dx, weight in taps:
        begin = pitch * (down + dy) + 3 * (right + dx)
        np.multiply(line[begin : begin + part.size], np.uint16(weight), out=part)
        total += part
    total >>= 8
    return total.astype(np.uint8).reshape(h, -1, 3)[:, :w]


@lru_cache(maxsize=16)
def _zooms(strength: float, shape: tuple[int, int]) -> tuple[np.ndarray, ...]:
    """Where each pixel of the zoomed copies is found in the flat picture."""
    out = []
    for k in range(_COPIES):
        zoom = 1 + (strength - 1) * k / (_COPIES - 1)
        y, x = (((np.arange(n) + 0.5 - n / 2) / zoom + n / 2).astype(np.int64).clip(0, n - 1) for n in shape)
        out.append((y[:, None] * shape[1] + x).ravel())
    return tuple(out)


def _zoomed(picture: np.ndarray, strength: float) -> np.ndarray:
    whole = np.zeros((*picture.shape[:2], 4), np.uint8)  # a pixel is one number: moved in one go
    whole[..., :3] = picture
    flat = whole.view(np.uint32).ravel()
    total = np.full(4 * flat.size, _COPIES // 2, np.uint16)
    for where in _zooms(strength, picture.shape[:2]):
        total += flat.take(where).view(np.uint8)
    total //= np.uint16(_COPIES)
    return np.ascontiguousarray(total.astype(np.uint8).reshape(whole.shape)[..., :3])


# ---- fog and noise -------------------------------------------------------------------------------------


@lru_cache(maxsize=32)
def _veil(keys: Keys, strength: float, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """How much of the picture is left in each of its numbers, of `_ONE`, and what fog adds: the same all through an
    episode."""
    fog = (_ONE * strength * (0.4 + 0.6 * clouds(keys, *shape)) + 0.5).astype(np.uint16)
    fog = fog[..., None].repeat(3, -1)
    return np.uint16(_ONE) - fog, fog * np.uint16(FOG) + np.uint16(_ONE // 2)


def _fogged(picture: np.ndarray, left: np.ndarray, added: np.ndarray) -> np.ndarray:
    return ((picture * left + added) >> 8).astype(np.uint8)


def _grained(picture: np.ndarray, keys: Keys, strength: float, shot: bool) -> np.ndarray:
    # The sum of four dice of sixteen sides is as good as normal, at a tenth of the work: mean 30, standard deviation
    # 9.22. Every word makes four of them at once, 16 bits each.
    # (Raw bits of the counter, as in `Keys`: never a generator's distribution.)
    raw = np.random.Philox(key=np.frombuffer(keys.rows[0], np.uint64)).random_raw(-(-picture.size // 4))
    dice = raw & _DIE
    for _ in range(3):
        raw >>= np.uint64(4)
        dice += raw & _DIE
    noise = dice.astype("<u8", copy=False).view("<u2")[: picture.size].astype(np.float32)
    noise -= np.float32(30)
    noise *= np.float32(255 * strength / 9.22)
    light = picture.ravel().astype(np.float32)
    if shot:  # light comes in grains: what is twice as bright varies 1.4 times as much
        noise *= np.sqrt(light * np.float32(1 / 255))
    noise += light
    np.rint(noise, out=noise)
    np.clip(noise, 0, 255, out=noise)
    return noise.astype(np.uint8).reshape(picture.shape)


_DIE = np.uint64(0x000F000F000F000F)
