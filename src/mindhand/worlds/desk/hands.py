"""Handwriting: the glyphs of invented writers, and of scanned digits (`fonts/scanned-digits.png`).

A writer is a seeded set of habits: one way a character (`skeletons.WAYS`), its points moved a little; slant, width,
roundness, and a pen. Every glyph that he writes is moved a little again. The ink is the union of the pen's tip, an
ellipse, at close points of its path. Lengths are in heights of an 8's skeleton until they are drawn; y points down.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from mindhand.core.errors import BadData
from mindhand.core.keys import Keys
from mindhand.worlds.draw import Draw
from mindhand.worlds.hands import ALIASES, CHARS, HANDS, HELD_OUT_HANDS, KNOWN_HANDS, SCAN, SCAN_UNSEEN

from .ink import Ink
from .skeletons import WAYS

_STEP = 0.012  # between two touches of the pen: half a pixel on the board
_SLOP = 0.012  # how far a point of a way moves from glyph to glyph (sd)
_NAMES = {h.name for h in HANDS}
_SCANS = Path(__file__).parent / "fonts" / "scanned-digits.png"
_CELLS = 8  # a scan's side
_UNSEEN = 0.2  # part of the scans that is held out
_FINE, _MARGIN = 6, 1  # an enlarged scan: pixels a cell, empty cells around it
_ROUNDS, _RATE, _SOFT, _BLUR = 12, 0.8, 0.5, 1.3  # of its enlargement; the blur in fine pixels
_NEAR, _EDGE, _FAINT = 0.6, 0.64, 0.2  # cells; part of a stroke's strength at its edge; the least strength
_BAR = 1.8  # cells: a scanned 1 whose ink is wider on average is squeezed to it
_SCAN_GAP = 0.2  # between two scans


# ---- invented writers ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Stroke:
    """One stroke of a way: points (n,2), which of them are corners, and whether it ends where it began."""

    points: np.ndarray
    corners: tuple[int, ...]
    closed: bool


@cache
def _strokes(way: str) -> tuple[_Stroke, ...]:
    out = []
    for stroke in way.split(" / "):
        words = stroke.split()
        points = np.array([[float(v) / 100 for v in w.rstrip("*").split(",")] for w in words])
        corners = tuple(i for i, w in enumerate(words) if w.endswith("*"))
        out.append(_Stroke(points, corners, len(words) > 2 and words[0] == words[-1]))
    return tuple(out)


@dataclass(frozen=True)
class _Writer:
    """Habits. slant: shift to the right per height; width: stretch; round: the curve's tangents as a part of a full
    curve's; soft: standard deviation of the smoothing along the path; wave: height of the tremor; pen: half the long
    axis of its tip, short to long axis, turn in degrees; taper: part of the tip missing where a stroke begins and ends;
    gap: between two glyphs; way: strokes by character, `low` and `high` ends of his 8."""

    slant: float
    width: float
    round: float
    soft: float
    wave: float
    pen: tuple[float, float, float]
    taper: float
    gap: float
    ways: dict[str, tuple[_Stroke, ...]]
    low: float = 0.0
    high: float = 1.0


def _moved(strokes: tuple[_Stroke, ...], keys: Keys, sd: float) -> tuple[_Stroke, ...]:
    """The strokes with every point moved, a closed stroke still closed."""
    out = []
    for k, s in enumerate(strokes):
        points = s.points + sd * np.clip(keys.fold("stroke", k).normal(len(s.points), 2)[0], -1.5, 1.5)
        if s.closed:
            points[-1] = points[0]
        out.append(replace(s, points=points))
    return tuple(out)


@cache
def _writer(number: int) -> _Writer:
    keys = Keys.seeded(1, "hand", number)
    draw = Draw(keys)
    ways = {c: _moved(_strokes(draw.pick(WAYS[c])), keys.fold(c), 0.026) for c in CHARS}
    signs = draw.uniform(0.85, 1.2)
    for c in "+-x=":
        ways[c] = tuple(replace(s, points=(s.points - 0.5) * signs + 0.5) for s in ways[c])
    ratio = draw.uniform(0.55, 1.0)
    pen = (draw.uniform(0.052, 0.088) / math.sqrt(ratio), ratio, draw.uniform(0.0, 180.0))
    writer = _Writer(
        slant=draw.normal(0.14, 0.22) + 0.1,
        width=draw.uniform(0.76, 1.28),
        round=draw.uniform(0.6, 1.1),
        soft=draw.uniform(0.0, 0.035),
        wave=draw.uniform(0.0, 0.007),
        pen=pen,
        taper=draw.uniform(0.0, 0.35),
        gap=draw.uniform(0.2, 0.34),
        ways=ways,
    )
    eight = np.concatenate([_path(s, writer) for s in ways["8"]])[:, 1]
    tip = pen[0] * math.hypot(*(_turned(pen[2])[1] * (1.0, ratio)))  # how far its ellipse reaches up and down
    return replace(writer, low=float(eight.min() - tip), high=float(eight.max() + tip))


def _curve(stroke: _Stroke, tension: float) -> np.ndarray:
    """A smooth curve (m,2) through a stroke's points, which turns sharply at its corners only.

    Cubic pieces whose tangents are those of the parabola through three neighbours, by length of chord.
    """
    p = stroke.points
    chord = np.maximum(np.hypot(*np.diff(p, axis=0).T), 1e-6)[:, None]
    speed = np.diff(p, axis=0) / chord
    inner = (speed[:-1] * chord[1:] + speed[1:] * chord[:-1]) / (chord[:-1] + chord[1:])
    leave, arrive = np.concatenate([speed[:1], inner]), np.concatenate([inner, speed[-1:]])  # tangents, by chord
    for i in stroke.corners:  # before and after a corner the curve runs along the chord
        arrive[i - 1], leave[i] = speed[i - 1], speed[i]
    if stroke.closed:
        leave[0] = arrive[-1] = (speed[-1] * chord[0] + speed[0] * chord[-1]) / (chord[0] + chord[-1])
    elif len(p) > 2:  # an end keeps the parabola's bend
        leave[0], arrive[-1] = 2 * speed[0] - arrive[0], 2 * speed[-1] - leave[-1]
    t = np.linspace(0, 1, 24, endpoint=False)[None, :, None]
    a, b = (tension * (v * chord)[:, None] for v in (leave, arrive))
    start, end = p[:-1, None], p[1:, None]
    pieces = (
        (2 * t**3 - 3 * t**2 + 1) * start + (t**3 - 2 * t**2 + t) * a + (3 * t**2 - 2 * t**3) * end + (t**3 - t**2) * b
    )
    return np.concatenate([pieces.reshape(-1, 2), p[-1:]])


def _path(stroke: _Stroke, writer: _Writer) -> np.ndarray:
    """Where the pen touches, (m,2): the curve at even steps, softened, wider or narrower, slanted about the middle."""
    curve = _curve(stroke, writer.round)
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(curve, axis=0).T))])
    count = max(2, math.ceil(along[-1] / _STEP))
    at = np.linspace(0, along[-1], count)
    path = np.stack([np.interp(at, along, curve[:, k]) for k in (0, 1)], 1)
    sigma = writer.soft / _STEP
    if sigma > 0.5 and count > 8:
        half = min(count - 1, math.ceil(3 * sigma))
        kernel = np.exp(-0.5 * (np.arange(-half, half + 1) / sigma) ** 2)
        if stroke.closed:
            long = np.concatenate([path[-1 - half : -1], path, path[1 : 1 + half]])
        else:  # mirrored through its ends, which therefore stay where they are
            long = np.concatenate([2 * path[0] - path[half:0:-1], path, 2 * path[-1] - path[-2 : -2 - half : -1]])
        path = np.stack([np.convolve(long[:, k], kernel / kernel.sum(), "valid") for k in (0, 1)], 1)
    path[:, 0] = path[:, 0] * writer.width + writer.slant * (0.5 - path[:, 1])
    return path


def _turned(degrees: float) -> np.ndarray:
    """(2,2), for rows of points with y down; positive turns against the clock, as a picture's `rotate` does."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[c, -s], [s, c]])


def _drawn(points: np.ndarray, radius: np.ndarray, ratio: float, axes: np.ndarray) -> tuple[np.ndarray, int, int]:
    """The pen's ink: coverage (h,w), left, top. points (m,2) in pixels from the pen's stand; radius (m,) half the tip's
    long axis there; axes (2,2): columns are the tip's long and short axis."""
    reach = math.ceil(radius.max()) + 1
    base = np.floor(points).astype(int)
    low = base.min(0) - reach
    canvas = np.zeros(tuple(base.max(0) + reach + 1 - low)[::-1], np.float32)
    around = np.arange(-reach, reach + 1)
    cells = base[:, None] + np.stack(np.meshgrid(around, around), -1).reshape(1, -1, 2)
    off = (cells + 0.5 - points[:, None]) @ axes
    # Distance to the ellipse's edge to first order: exact enough over the one pixel in which coverage changes.
    norm = np.hypot(off[..., 0], off[..., 1] / ratio)
    slope = np.hypot(off[..., 0], off[..., 1] / ratio**2) / np.maximum(norm, 1e-6)
    inside = (radius[:, None] - norm) / np.maximum(slope, 1.0)
    cover = np.clip(0.5 + inside, 0.0, 1.0).astype(np.float32)
    spot = cells - low
    np.maximum.at(canvas, (spot[..., 1], spot[..., 0]), cover)
    return _cropped(canvas, *(int(v) for v in low))


def _cropped(canvas: np.ndarray, left: int, top: int) -> tuple[np.ndarray, int, int]:
    """Coverage without its empty edges, and where it lies."""
    rows, columns = (np.flatnonzero(canvas.max(axis) > 0.0) for axis in (1, 0))
    if not len(rows):
        return np.zeros((1, 1), np.float32), left, top
    cover = canvas[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].copy()
    cover.flags.writeable = False
    return cover, left + int(columns[0]), top + int(rows[0])


def _written(number: int, char: str, height: int, turn: int, sample: int) -> Ink:
    """A glyph of an invented writer."""
    writer = _writer(number)
    keys = Keys.seeded(1, "glyph", number, char, sample)
    draw = Draw(keys)
    size, lean, press = 1 + draw.normal(0.01, 0.015), draw.normal(1.6, 3.0), 1 + draw.normal(0.04, 0.06)
    strokes = [_path(s, writer) for s in _moved(writer.ways[char], keys.fold("slop"), _SLOP)]
    across = np.concatenate(strokes)[:, 0]
    middle = np.array([(across.min() + across.max()) / 2, (writer.low + writer.high) / 2])
    long, ratio, angle = writer.pen
    points, radius = [], []
    for path in strokes:
        run = _STEP * np.arange(len(path))
        for k in (0, 1):  # a tremor with one to four waves a height
            path[:, k] += writer.wave * np.sin(math.tau * (draw.uniform(1, 4) * run + draw.uniform()))
        ends = np.exp(-run / 0.08) + np.exp(-run[::-1] / 0.08)
        # A dot is no stroke that could taper.
        radius.append(long * press * (1 - writer.taper * np.minimum(ends, 1) if run[-1] > 0.1 else np.ones(len(run))))
        points.append((path - middle) @ _turned(lean))
    unit = height / (writer.high - writer.low)  # pixels
    pixels = np.concatenate(points) * size * unit @ _turned(turn)
    cover, left, top = _drawn(pixels, np.concatenate(radius) * unit, ratio, _turned(angle - turn))
    return Ink(cover, left, top, float(np.ptp(across) + 2 * long + writer.gap) * unit)


# ---- scanned digits ------------------------------------------------------------------------------------


@cache
def _sheet() -> np.ndarray:
    """All scans, float32 (10, most, 8, 8) in 0..1: a row a digit, empty cells where it has fewer."""
    with Image.open(_SCANS) as picture:
        pixels = np.asarray(picture, np.float32) / 255.0
    rows, columns = (n // _CELLS for n in pixels.shape)
    return pixels.reshape(rows, _CELLS, columns, _CELLS).transpose(0, 2, 1, 3)


@cache
def scans(name: str, digit: int) -> tuple[int, ...]:
    """Which columns of the sheet hold the scans of a digit that "scan" or "scan-unseen" may show, in a fixed order."""
    count = int((_sheet()[digit].max((1, 2)) > 0).sum())

    def rank(column: int) -> bytes:
        return hashlib.blake2b(f"scan/{digit}/{column}".encode()).digest()

    order, held = sorted(range(count), key=rank), round(_UNSEEN * count)
    return tuple(order[:held] if name == SCAN_UNSEEN else order[held:])


@cache
def _smoothers() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Matrices along one side, from cells to fine pixels (spread), and from fine pixels to cells (averaged) and to
    fine pixels (blurred a little, blurred widely)."""
    side = _CELLS + 2 * _MARGIN
    eye = Image.fromarray(np.eye(side, dtype=np.float32))
    spread = np.asarray(eye.resize((side, side * _FINE), Image.Resampling.BICUBIC))
    at = np.arange(side * _FINE)
    pool = (at // _FINE == np.arange(side)[:, None]).astype(np.float32) / _FINE

    def blur(sd: float) -> np.ndarray:
        weights = np.exp(-0.5 * ((at[:, None] - at) / sd) ** 2).astype(np.float32)
        return weights / weights.sum(1, keepdims=True)

    return spread, pool, blur(_BLUR), blur(_NEAR * _FINE)


@lru_cache(maxsize=2048)  # all scans: a few milliseconds, 14 kB each
def _enlarged(digit: int, column: int) -> tuple[Image.Image, tuple[float, float, float, float]]:
    """A scan with empty cells around it, enlarged: above 0 is ink; the ink's box, left, top, right, bottom.

    A cell says how much of it is ink. Plainly enlarged and cut at one half, loops fill up and thin strokes break. So
    the smooth shape is sought whose ink covers each cell as much as the scan says: what a cell misses is spread over
    it and its neighbours, and the shape smoothed, again and again. A thin stroke stays faint even so; therefore ink
    begins at a part of the strength that the stroke reaches nearby.
    """
    cells = np.pad(_sheet()[digit, column], _MARGIN)
    spread, pool, blur, wide = _smoothers()
    shape = spread @ cells @ spread.T - 0.5
    for _ in range(_ROUNDS):
        cover = np.clip(0.5 + shape / _SOFT, 0.0, 1.0)
        missing = cells - pool @ cover @ pool.T
        shape = np.clip(blur @ (shape + _RATE * (spread @ missing @ spread.T)) @ blur.T, -1.0, 1.0)
    cover = np.clip(0.5 + shape / _SOFT, 0.0, 1.0)
    strength = (wide @ cover**8 @ wide.T) ** 0.125  # nearly the largest around
    field = np.minimum(cover / (_EDGE * np.maximum(strength, _FAINT)) - 1.0, 1.0)
    picture, inked = Image.fromarray(field), field > 0
    broad = inked.sum() / inked.any(1).sum() / _FINE
    if digit == 1 and broad > _BAR:  # scaled to one size, bars had become blocks
        picture = picture.resize((round(picture.width * _BAR / broad), picture.height), Image.Resampling.BILINEAR)
        inked = np.asarray(picture) > 0
    rows, columns = (np.flatnonzero(inked.any(axis)) for axis in (1, 0))
    return picture, (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)


def _scanned(name: str, digit: int, height: int, turn: int, sample: int) -> Ink:
    """A glyph made from a scan, its ink `height` pixels high before it is turned."""
    columns = scans(name, digit)
    picture, (left, top, right, bottom) = _enlarged(digit, columns[sample % len(columns)])
    unit = (bottom - top) / height  # fine pixels a pixel
    half = math.ceil(0.8 * height) + 2
    back = unit * _turned(-turn)  # a pixel from the pen, as a row, to the enlarged scan
    start = np.array([(left + right) / 2, (top + bottom) / 2]) - np.array([half, half]) @ back
    found = picture.transform(
        (2 * half, 2 * half), Image.Transform.AFFINE,
        (back[0, 0], back[1, 0], start[0], back[0, 1], back[1, 1], start[1]), Image.Resampling.BILINEAR, fillcolor=-1,
    )  # fmt: skip
    # Stretched until ink goes from none to full within one pixel, as a pen's edge does.
    field = np.asarray(found)
    slope = np.hypot(*np.gradient(field))
    cover = np.clip(0.5 + field / np.maximum(slope, 0.1 * unit / _FINE), 0.0, 1.0).astype(np.float32)
    return Ink(*_cropped(cover, -half, -half), float((right - left) / unit + _SCAN_GAP * height))


# ---- both ----------------------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def handwritten(name: str, char: str, height: int, turn: int, sample: int) -> Ink:
    """The bitmap of one character in a hand of `HANDS`, an 8 being `height` pixels high, turned by `turn` degrees.

    sample: any non-negative integer; for an invented writer it picks how this glyph differs from his others, for scans
    which of them (modulo their number). Signs of scans come from the invented writers of the same class.
    """
    char = ALIASES.get(char, char)
    if name not in _NAMES or char not in CHARS or sample < 0:
        raise BadData(f"hand '{name}', character '{char}', sample {sample}", f"a name of HANDS, one of '{CHARS}', >= 0",
                      "check what the board is to show")  # fmt: skip
    if name in (SCAN, SCAN_UNSEEN):
        if char.isdigit():
            return _scanned(name, int(char), height, turn, sample)
        first, count = (0, KNOWN_HANDS) if name == SCAN else (KNOWN_HANDS, HELD_OUT_HANDS)
        return _written(first + sample % count, char, height, turn, sample)
    return _written(int(name.partition("-")[2]), char, height, turn, sample)
