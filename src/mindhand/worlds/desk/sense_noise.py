"""What bad sensors make of depth, labels, a second picture and touch: pure functions of a key. numpy only.

Depth is that of the first Kinect, in the order of Handa et al. 2014 (ICRA, "A benchmark for RGB-D visual odometry"):
sideways and axial noise of Nguyen et al. 2012 (3DIMPVT, "Modeling Kinect sensor noise"), then whole steps of disparity
of Khoshelham and Elberink 2012 (Sensors 12(2)), which are the coarser in depth the farther away, as its square. Where
the projector does not reach there is nothing, nor on surfaces that are seen too much from the side. `level` scales it
all: 0 is none, 1 as published. The other senses' sizes are guesses of ours, of a decent sensor.
"""

from __future__ import annotations

from functools import cache
from statistics import NormalDist

import numpy as np

from mindhand.core.keys import Keys

# Depth: a Kinect.
STEP = 2.85e-3  # 1/m: a step of disparity; 2.85 mm at a metre, 7 cm at five (Khoshelham and Elberink, table 1)
BASELINE, FOCAL = 0.075, 585.0  # m from its projector to its camera; pixels, which its sideways noise is measured in
SIDEWAYS = 0.8  # pixels (Nguyen et al., seen from the front)
GRAZING = (70.0, 85.0)  # degrees: from where on some of a surface is missing, and all (Nguyen et al. measured up to 80)
# The others.
MISSED = 0.25  # of the pixels beside another label that get none
GAIN, GRAIN, ASKEW = 0.02, 0.006, 5e-4  # second camera: of brightness, of full scale, rad about each axis
TOUCH_GAIN, TOUCH_GRAIN, TOUCH_LEAST = 0.03, 0.02, 0.05  # of the force; N; N that a taxel does not notice


@cache
def _bell() -> np.ndarray:
    """(65536,) float32: the normal distribution in equal shares."""
    inverse = NormalDist().inv_cdf
    upper = [inverse(0.5 + (k + 0.5) / 65536) for k in range(32768)]
    return np.array([-x for x in upper[::-1]] + upper, np.float32)


def _words(keys: Keys, count: int) -> np.ndarray:
    """(count, 4) uint16 of the one key, all numbers alike. (Raw bits of the counter, as in `Keys`.)"""
    raw = np.random.Philox(key=np.frombuffer(keys.rows[0], np.uint64)).random_raw(count)
    return raw.astype("<u8", copy=False).view("<u2").reshape(count, 4)


def _less(words: np.ndarray, probability: np.ndarray | float) -> np.ndarray:
    """Which of them are true with that probability."""
    return words < np.float32(65536) * probability


# ---- depth ---------------------------------------------------------------------------------------------


def _steps(near: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Of reciprocal distances: the step to the neighbour before and to the one behind, along an axis; at the picture's
    border both are that inwards."""
    step = np.diff(near, axis=axis)
    first, last = step.take([0], axis), step.take([-1], axis)
    return np.concatenate([first, step], axis), np.concatenate([step, last], axis)


def slopes(near: np.ndarray, focal: float) -> tuple[np.ndarray, np.ndarray]:
    """near (h,w): reciprocal distances, which over the picture of a plane are linear. The angle (rad) at which each
    pixel's surface is seen, 0 from the front, and by how much a neighbour is nearer than that surface goes on."""
    h, w = near.shape
    gap, tilt = np.zeros_like(near), []
    for axis in (1, 0):
        before, behind = _steps(near, axis)
        gap = np.maximum(gap, behind - before)
        tilt.append(np.where(abs(before) < abs(behind), before, behind) * np.float32(focal))
    x = (np.arange(w, dtype=np.float32) + np.float32(0.5 - w / 2)) / np.float32(focal)
    y = (np.arange(h, dtype=np.float32)[:, None] + np.float32(0.5 - h / 2)) / np.float32(focal)
    # n.p = 1 on a plane, so n.(x, y, 1) is the reciprocal distance, and its slopes are n's first two numbers.
    normal = tilt[0] ** 2 + tilt[1] ** 2 + (near - x * tilt[0] - y * tilt[1]) ** 2
    cosine = near / np.sqrt(np.maximum(normal * (x * x + y * y + 1), np.float32(1e-12)))
    return np.arccos(np.minimum(cosine, 1)), gap


def noisy_depth(
    depth: np.ndarray, valid: np.ndarray, focal: float, keys: Keys, level: float
) -> tuple[np.ndarray, np.ndarray]:
    """Depth float32 (h,w), m, as the sensor gives it: missing where it is 0 and `valid` says so. focal: pixels."""
    if not level:
        return depth, valid
    h, w = depth.shape
    words = _words(keys, h * w).reshape(h, w, 4)
    bell, s = _bell(), np.float32(level)
    angle, gap = slopes(np.where(valid, 1 / np.where(valid, depth, 1), 0).astype(np.float32), focal)
    # The projector's shadow is so many pixels wide, behind whatever is nearer: a share of one that is less.
    low, high = np.radians(GRAZING)
    lost = s * np.maximum(gap * np.float32(focal * BASELINE), (angle - low) / (high - low))
    reach = level * SIDEWAYS * focal / FOCAL
    down, right = (np.rint(bell[words[..., k]] * np.float32(reach)).astype(np.int64) for k in (0, 1))
    rows, columns = np.arange(h)[:, None] + down, np.arange(w) + right
    from_there = rows.clip(0, h - 1) * w + columns.clip(0, w - 1)
    z, seen = depth.take(from_there), valid.take(from_there) & ~_less(words[..., 2], lost)
    z[~seen] = 1
    aside = np.minimum(angle, np.float32(high))
    share = (aside / (np.float32(np.pi / 2) - aside)) ** 2
    spread = 0.0012 + 0.0019 * (z - 0.4) ** 2 + 0.0001 / np.sqrt(z) * share
    z = np.maximum(z + s * spread.astype(np.float32) * bell[words[..., 3]], np.float32(1e-3))
    step = s * np.float32(STEP)
    z = 1 / np.maximum(np.rint(1 / (z * step)) * step, step)
    return np.where(seen, z, 0).astype(np.float32), seen


# ---- the others ----------------------------------------------------------------------------------------


def noisy_labels(labels: np.ndarray, keys: Keys, level: float) -> np.ndarray:
    """Labels int32 (h,w) of which some are missing, 0, where they meet others."""
    if not level:
        return labels
    edge = np.zeros(labels.shape, bool)
    for axis in (0, 1):
        other = np.diff(labels, axis=axis) != 0
        none = np.zeros_like(other.take([0], axis))
        edge |= np.concatenate([none, other], axis) | np.concatenate([other, none], axis)
    missed = _less(_words(keys, -(-labels.size // 4)).ravel()[: labels.size].reshape(labels.shape), level * MISSED)
    return np.where(edge & missed, 0, labels).astype(np.int32)


def askew(keys: Keys, level: float) -> np.ndarray | None:
    """How far an episode's second camera is from parallel to the first: (3,) rad about its axes; None for exactly."""
    return level * ASKEW * keys.fold("askew").normal(3)[0].astype(np.float64) if level else None


def noisy_picture(picture: np.ndarray, keys: Keys, step: int, level: float) -> np.ndarray:
    """A picture uint8 (h,w,3) of the second camera, which is a little brighter or darker all through an episode, and
    grainy. keys: the episode's."""
    if not level:
        return picture
    gain = 1 + level * GAIN * float(keys.fold("gain").normal(1)[0, 0])
    words = _words(keys.fold("grain", step), -(-picture.size // 4)).ravel()[: picture.size]
    out = picture * np.float32(gain) + (_bell()[words] * np.float32(255 * level * GRAIN)).reshape(picture.shape)
    return np.rint(out).clip(0, 255).astype(np.uint8)


def noisy_touch(
    force: np.ndarray, taxels: np.ndarray, keys: Keys, step: int, level: float
) -> tuple[np.ndarray, np.ndarray]:
    """A pad's force (3,) and taxels (r,c), N: a little too much or too little all through an episode, and noise. A
    taxel feels nothing below a threshold, and never a pull. keys: the pad's in this episode."""
    if not level:
        return force, taxels
    gain = 1 + level * TOUCH_GAIN * float(keys.fold("gain").normal(1)[0, 0])
    noise = level * TOUCH_GRAIN * keys.fold("grain", step).normal(force.size + taxels.size)[0].astype(np.float64)
    pressed = taxels * gain + noise[force.size :].reshape(taxels.shape)
    return force * gain + noise[: force.size], np.where(pressed < level * TOUCH_LEAST, 0.0, pressed)
