"""The desk's further senses: depth, segmentation, stereo, points, touch, and how the cameras stand.

They are an observation's extras, for depth, point, stereo and tactile policies. Each is a pure function of a row's
state, its key and its step. `Senses` says which are wanted; their exact values are in `sense_views` and `sense_touch`,
their noise is in `sense_noise`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import numpy as np

from mindhand.core.errors import BadData
from mindhand.core.keys import Key, Keys
from mindhand.core.spec import Camera
from mindhand.worlds.perturb_noise import Sensor

from . import sense_noise as noise
from .canvas import Canvas
from .sense_touch import touch
from .sense_views import View, beside, extrinsics, intrinsics, look, unproject
from .spec import SPEC
from .stage import Stage

FRONT = "front"
BOX = ((-0.33, 0.21), (-0.40, 0.40), (-0.01, 0.45))  # m, table frame: what the tool can reach, and the table's top
POOL = 4  # of the points wanted: so many are drawn at random before the farthest are picked


@dataclass(frozen=True)
class Senses:
    """Which further senses an observation has. Nothing unless asked for.

    depth, segmentation, cameras: roles; of the last, calibration alone is wanted, which comes with every other sense.
    stereo: m that a second camera stands to the right of the front camera; 0 for none.
    points: how many, 0 for none; of what the roles in `views` see within `box` (low and high x, y, z, m, the table's
    frame), in `frame`, picked by `sampling`: at random, or each the farthest from those before it (25 ms for 1,024).
    touch: what the finger pads feel. noise: 0 is exact, 1 a real sensor (`sense_noise`), others in proportion.
    """

    depth: tuple[str, ...] = ()
    segmentation: tuple[str, ...] = ()
    cameras: tuple[str, ...] = ()
    stereo: float = 0.0
    points: int = 0
    views: tuple[str, ...] = (FRONT,)
    frame: Literal["table", "arm_base"] = "table"
    sampling: Literal["random", "farthest"] = "random"
    box: tuple[tuple[float, float], ...] = BOX
    touch: bool = False
    noise: float = 0.0

    def __post_init__(self) -> None:
        for name in ("depth", "segmentation", "cameras", "views"):
            roles = getattr(self, name)
            if isinstance(roles, str) or len(set(roles)) != len(roles):
                raise BadData(f"senses: {name}={roles!r}", 'different roles, such as ("front",)', "correct it")
            object.__setattr__(self, name, tuple(roles))
        object.__setattr__(self, "box", tuple(tuple(map(float, side)) for side in self.box))
        for good, what, expected in (
            (self.points >= 0 and (not self.points or self.views), f"points={self.points}", "0, or more and a view"),
            (self.frame in ("table", "arm_base"), f"frame='{self.frame}'", "'table' or 'arm_base'"),
            (self.sampling in ("random", "farthest"), f"sampling='{self.sampling}'", "'random' or 'farthest'"),
            (0 <= self.stereo < math.inf, f"stereo={self.stereo}", "metres to the right, or 0"),
            (0 <= self.noise < math.inf, f"noise={self.noise}", "0, 1 or between; more is possible"),
            (len(self.box) == 3 and all(low < high for low, high in self.box), f"box={self.box}", "three (low, high)"),
        ):
            if not good:
                raise BadData(f"senses: {what}", expected, "correct it")

    def __bool__(self) -> bool:
        return bool(self.depth or self.segmentation or self.cameras or self.stereo or self.points or self.touch)

    def to_json(self) -> dict[str, Any]:
        """What differs from no senses at all, as JSON has it."""
        usual, mine = asdict(Senses()), asdict(self)
        return {name: _plain(value) for name, value in mine.items() if value != usual[name]}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Senses:
        """The inverse of `to_json`."""
        if unknown := set(data) - {f.name for f in fields(Senses)}:
            raise BadData(f"senses {sorted(unknown)}", f"among {[f.name for f in fields(Senses)]}", "correct them")
        return Senses(**data)

    @property
    def roles(self) -> tuple[str, ...]:
        """Cameras whose calibration is given, in a fixed order."""
        stereo, views = ((FRONT,) if self.stereo else ()), (self.views if self.points else ())
        return tuple(dict.fromkeys((*self.depth, *self.segmentation, *self.cameras, *stereo, *views)))

    def felt(self, stage: Stage, key: Key, step: int) -> dict[str, np.ndarray]:
        """Of the extras those that need no picture, and are there at every control step: touch."""
        out: dict[str, np.ndarray] = {}
        for pad, found in touch(stage).items() if self.touch else ():
            keys = Keys.of([key]).fold("senses", "touch", pad)
            force, taxels = noise.noisy_touch(*found, keys, step, self.noise)
            out[f"touch/{pad}"], out[f"touch/{pad}/taxels"] = force.astype(np.float32), taxels.astype(np.float32)
        return out

    def extras(
        self, stage: Stage, canvas: Canvas, key: Key, step: int, sensor: Sensor | None = None
    ) -> dict[str, np.ndarray]:
        """What a row senses in a control step, without the axes of rows and history: stack rows and add a history of 1,
        as of pictures, (B,1,...). h and w are a role's in the spec. sensor: an episode's bad camera, which the second
        one and the points' colours have too.

            intrinsics/<role>, extrinsics/<role>   float32 (3,3), (4,4): see `sense_views`; camera to table
            depth/<role>, depth/<role>/valid       float32 (h,w) m along the camera's axis, bool (h,w): False and 0
                                                   where there is none
            segmentation/<role>                    int32 (h,w): keys of `sense_views.LABELS`
            stereo/front, stereo/front/baseline    uint8 (h,w,3), float32 () m: disparity = intrinsics[0, 0] * baseline
                                                   / depth, to the left
            points, points/colours, points/valid   float32 (n,3) m, uint8 (n,3) RGB, bool (n,): False and 0 where fewer
                                                   were seen; any first part of them is a sample too
            touch/<pad>, touch/<pad>/taxels        float32 (3,), (4,4) N: see `sense_touch`; pads "left", "right"
        """
        episode, out = Keys.of([key]).fold("senses"), {}
        for role in self.roles:
            out[f"intrinsics/{role}"] = intrinsics(stage, role, _shape(role)).astype(np.float32)
            out[f"extrinsics/{role}"] = extrinsics(stage, role).astype(np.float32)
        seen = self._seen(stage, canvas, episode, step)
        for role in self.depth:
            out[f"depth/{role}"], out[f"depth/{role}/valid"] = seen[role].depth, seen[role].valid
        for role in self.segmentation:
            out[f"segmentation/{role}"] = seen[role].labels
        if self.stereo:
            keys = episode.fold("stereo", FRONT)
            picture = beside(stage, canvas, FRONT, _camera(FRONT).source, self.stereo, noise.askew(keys, self.noise))
            # Fog, blur and streaks are the same for both eyes, grain is not.
            alike = sensor is None or sensor.kind not in ("shot", "grain")
            picture = _shrunk(picture, FRONT, sensor, FRONT if alike else f"{FRONT} right", step)
            out[f"stereo/{FRONT}"] = noise.noisy_picture(picture, keys, step, self.noise)
            out[f"stereo/{FRONT}/baseline"] = np.array(self.stereo, np.float32)
        if self.points:
            out |= self._points(stage, canvas, seen, episode.fold("points", step), step, sensor)
        return out | self.felt(stage, key, step)

    def _seen(self, stage: Stage, canvas: Canvas, episode: Keys, step: int) -> dict[str, View]:
        """By role, what is asked for as the sensor gives it."""
        deep, out = (*self.depth, *(self.views if self.points else ())), {}
        for role in dict.fromkeys((*deep, *self.segmentation)):
            depth, valid, labels = look(stage, canvas, role, _shape(role))
            if role in deep:
                focal = intrinsics(stage, role, _shape(role))[0, 0]
                depth, valid = noise.noisy_depth(depth, valid, focal, episode.fold("depth", role, step), self.noise)
            if role in self.segmentation:
                labels = noise.noisy_labels(labels, episode.fold("segmentation", role, step), self.noise)
            out[role] = View(depth, valid, labels)
        return out

    def _points(
        self, stage: Stage, canvas: Canvas, seen: Mapping[str, View], keys: Keys, step: int, sensor: Sensor | None
    ) -> dict[str, np.ndarray]:
        at, colours, ranks = [], [], []
        for role in self.views:
            where = unproject(seen[role].depth, intrinsics(stage, role, _shape(role)), extrinsics(stage, role))
            picture = _shrunk(stage.paint(canvas, role, _camera(role).source), role, sensor, role, step)
            at.append(np.moveaxis(where, -1, 0).reshape(3, -1))
            colours.append(picture.reshape(-1, 3))
            ranks.append(keys.fold(role).uniform(where[..., 0].size)[0])  # a pixel's own, whatever others there are
        every, rank = np.concatenate(at, 1), np.concatenate(ranks)
        inside = np.concatenate([seen[role].valid.ravel() for role in self.views])
        for along, (low, high) in zip(every, self.box):
            inside = inside & (along >= low) & (along <= high)
        picked = np.flatnonzero(inside)
        most = self.points if self.sampling == "random" else POOL * self.points
        if len(picked) > most:
            picked = picked[np.argpartition(rank[picked], most - 1)[:most]]
        picked = picked[np.argsort(rank[picked])]
        if self.sampling == "farthest":
            picked = picked[farthest(every[:, picked].T, self.points)]
        count = len(picked)
        points, shades = np.zeros((self.points, 3), np.float32), np.zeros((self.points, 3), np.uint8)
        points[:count] = every[:, picked].T - (stage.base if self.frame == "arm_base" else 0.0)
        shades[:count] = np.concatenate(colours)[picked]
        return {"points": points, "points/colours": shades, "points/valid": np.arange(self.points) < count}


PLAIN = Senses()


def farthest(points: np.ndarray, count: int) -> np.ndarray:
    """Indices of at most `count` of the points (n,3): the first, then always the one that is farthest from all before
    it (Eldar et al. 1997; PointNet++, arXiv 1706.02413)."""
    picked = np.zeros(min(count, len(points)), np.int64)
    columns = np.ascontiguousarray(points.T, np.float32)
    left = np.full(len(points), np.inf, np.float32)
    for k in range(1, len(picked)):
        away = columns - columns[:, picked[k - 1], None]
        away *= away
        np.minimum(left, away.sum(0), out=left)
        picked[k] = left.argmax()
    return picked


def _plain(value: Any) -> Any:
    return [_plain(v) for v in value] if isinstance(value, tuple) else value


def _camera(role: str) -> Camera:
    """The spec's camera with this role; another arm's, "wrist_right", is like the first one's."""
    known = {c.role: c for c in SPEC.cameras}
    if role not in known and role.partition("_")[0] not in known:
        raise BadData(f"camera '{role}'", f"one of {sorted(known)}", "correct the role")
    return known.get(role) or known[role.partition("_")[0]]


def _shape(role: str) -> tuple[int, int]:
    return _camera(role).height, _camera(role).width


def _shrunk(picture: np.ndarray, role: str, sensor: Sensor | None, name: str, step: int) -> np.ndarray:
    """A picture at its source's size as an observation has it."""
    if sensor is not None:
        picture = sensor.see(picture, name, step)
    h, w = _shape(role)
    fy, fx = picture.shape[0] // h, picture.shape[1] // w
    if (fy, fx) == (1, 1):
        return picture
    total = picture.reshape(h, fy, w, fx, 3).sum((1, 3), dtype=np.uint32)
    return ((total + fy * fx // 2) // (fy * fx)).astype(np.uint8)
