"""What actions and states are normalised by: measured once, kept in the checkpoint, refused for another robot.

Convention 1 (`VERSION`). Normalised = (x - centre) / scale, with
    mean_std   centre mean,             scale std
    q01_q99    centre (q01 + q99) / 2,  scale (q99 - q01) / 2
    min_max    centre (min + max) / 2,  scale (max - min) / 2
and two rules for dimensions that hardly move:
  1. a dimension whose 1 % and 99 % quantiles are closer than its floor, and whose extremes are not, takes the
     extremes (a gripper that is closed in one frame of two hundred is not constant);
  2. a scale never falls below the floor of its unit (`FLOOR`: 1 mm, 1 mrad, a thousandth of 1), so that a constant
     dimension gives 0 and noise on it is not blown up.
Nothing is clipped. The mode is stored next to the numbers and never guessed from the model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from mindhand.core.errors import BadData, SpecMismatch
from mindhand.core.spec import Part, Spec

from .episodes import gather
from .files import read_json, write_json
from .permute import mix64

VERSION = 1
FLOOR = {"m": 1e-3, "cm": 0.1, "mm": 1.0, "rad": 1e-3, "deg": 180e-3 / np.pi}  # any other unit: 1e-3
EXACT = 1 << 25  # so many numbers are kept for quantiles; beyond it, a keyed sample of the rows

Mode = Literal["mean_std", "q01_q99", "min_max"]
Which = Literal["action", "state"]
ChunkTransform = Callable[[np.ndarray, np.ndarray], np.ndarray]  # chunks (T,H,A), state (T,S) -> (T,H,A)


@dataclass(frozen=True)
class Moments:
    """Numbers a dimension, float64 (D,): population std; floor in the dimension's unit. count: the vectors seen.
    exact: whether q01 and q99 saw all of them."""

    mean: np.ndarray
    std: np.ndarray
    min: np.ndarray
    max: np.ndarray
    q01: np.ndarray
    q99: np.ndarray
    floor: np.ndarray
    count: int
    exact: bool

    def centre_scale(self, mode: Mode) -> tuple[np.ndarray, np.ndarray]:
        """float64 (D,), (D,) as the convention above says."""
        if mode == "mean_std":
            return self.mean, np.maximum(self.std, self.floor)
        low, high = self.min, self.max
        if mode == "q01_q99":
            narrow = self.q99 - self.q01 < self.floor
            low, high = np.where(narrow, self.min, self.q01), np.where(narrow, self.max, self.q99)
        return (low + high) / 2, np.maximum((high - low) / 2, self.floor)


class Stream:
    """Moments of vectors that come in blocks. Mean, std, min and max are exact (merged in float64); quantiles are
    exact up to `keep` numbers, and beyond it those of a sample of the rows drawn by a hash of their number."""

    def __init__(self, floor: np.ndarray, keep: int = EXACT):
        size = len(floor)
        self.floor, self.keep = np.asarray(floor, np.float64), keep
        self.count, self.stride = 0, 1
        self.mean, self.square = np.zeros(size), np.zeros(size)
        self.min, self.max = np.full(size, np.inf), np.full(size, -np.inf)
        self._rows: list[np.ndarray] = []
        self._numbers: list[np.ndarray] = []
        self._held = 0

    def add(self, x: np.ndarray) -> None:
        """x (n,D), finite."""
        x = np.asarray(x)
        if x.ndim != 2 or x.shape[1] != len(self.floor) or not np.isfinite(x).all():
            raise BadData(
                f"statistics of an array {x.shape}" + (" with NaN" if x.ndim == 2 else ""),
                f"finite (n, {len(self.floor)})",
                "mask what is not valid before measuring",
            )
        if not len(x):
            return
        wide = x.astype(np.float64)
        count, mean = self.count + len(x), wide.mean(0)
        delta = mean - self.mean
        self.square += ((wide - mean) ** 2).sum(0) + delta**2 * (self.count * len(x) / count)
        self.mean = self.mean + delta * (len(x) / count)
        self.min, self.max = np.minimum(self.min, wide.min(0)), np.maximum(self.max, wide.max(0))
        self._rows.append(np.array(x))
        self._numbers.append(mix64(np.arange(self.count, count, dtype=np.uint64)))
        self.count, self._held = count, self._held + x.size
        if self.stride > 1 or self._held > self.keep:
            self._thin()

    def _thin(self) -> None:
        rows, numbers = np.concatenate(self._rows), np.concatenate(self._numbers)
        while True:
            kept = numbers % np.uint64(self.stride) == 0
            rows, numbers = rows[kept], numbers[kept]
            if rows.size <= self.keep:
                break
            self.stride *= 2
        self._rows, self._numbers, self._held = [rows], [numbers], rows.size

    def moments(self) -> Moments:
        """What was seen so far."""
        if not self.count:
            raise BadData("statistics of nothing", "at least one vector", "check that the episodes are not empty")
        quantiles = np.quantile(np.concatenate(self._rows).astype(np.float64), (0.01, 0.99), axis=0)
        return Moments(
            mean=self.mean.copy(),
            std=np.sqrt(self.square / self.count),
            min=self.min.copy(),
            max=self.max.copy(),
            q01=quantiles[0],
            q99=quantiles[1],
            floor=self.floor,
            count=self.count,
            exact=self.stride == 1,
        )


@dataclass(frozen=True)
class Statistics:
    """What one robot's actions and states are normalised by. actions: the name of what was measured, "as recorded"
    or the name of the transform that made chunks relative before measuring."""

    spec: str  # fingerprint
    mode: Mode
    actions: str
    action: Moments
    state: Moments
    version: int = VERSION

    def __post_init__(self) -> None:
        if self.mode not in get_args(Mode):
            raise BadData(f"statistics in mode '{self.mode}'", f"one of {get_args(Mode)}", "name one")
        if self.version != VERSION:
            raise BadData(
                f"statistics of convention {self.version}", f"convention {VERSION}", "measure the dataset again"
            )

    def centre_scale(self, which: Which) -> tuple[np.ndarray, np.ndarray]:
        """float64 centre (D,) and scale (D,)."""
        return getattr(self, which).centre_scale(self.mode)

    def normalise(self, which: Which, x: np.ndarray) -> np.ndarray:
        """x (...,D) in robot units -> float32, mostly in [-1, 1] (or of unit variance)."""
        centre, scale = self.centre_scale(which)
        return ((x - centre) / scale).astype(np.float32)

    def restore(self, which: Which, x: np.ndarray) -> np.ndarray:
        """The inverse of `normalise`, float32."""
        centre, scale = self.centre_scale(which)
        return (x * scale + centre).astype(np.float32)

    def require(self, spec: Spec, what: str) -> None:
        """SpecMismatch where these numbers were measured for another spec than `what` ("policy runs/x") has."""
        if self.spec != spec.fingerprint():
            raise SpecMismatch(
                f"the statistics of {what} were measured for spec {self.spec}, not {spec.fingerprint()} "
                f"('{spec.robot}')",
                "statistics of the same robot, units, cameras and rate",
                "measure them on a dataset of this spec; numbers of another robot give plausible, wrong actions",
            )

    def to_json(self) -> dict[str, Any]:
        """Plain lists and dictionaries; floats survive the round trip exactly."""

        def plain(x: Any) -> Any:
            return {k: plain(v) for k, v in x.items()} if isinstance(x, dict) else getattr(x, "tolist", lambda: x)()

        return plain(asdict(self))

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Statistics:
        """The inverse of `to_json`; refuses unknown and missing fields and vectors of unequal length."""
        try:
            moments = {}
            for which in ("action", "state"):
                fields = dict(data[which])
                arrays = {k: np.asarray(v, np.float64) for k, v in fields.items() if k not in ("count", "exact")}
                if len({a.shape for a in arrays.values()}) != 1 or not all(
                    np.isfinite(a).all() for a in arrays.values()
                ):
                    raise TypeError(f"{which} holds vectors of different length, or NaN")
                moments[which] = Moments(**{**fields, **arrays})
            return Statistics(**{**data, **moments})
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, BadData):
                raise
            raise BadData(f"not statistics: {error}", "what Statistics.save wrote", "measure them again") from error

    def save(self, path: Path | str) -> None:
        """As JSON, atomically."""
        write_json(Path(path), self.to_json())

    @staticmethod
    def load(path: Path | str, spec: Spec) -> Statistics:
        """From JSON; refuses where the file is absent, damaged or of another spec."""
        path = Path(path)
        if not path.exists():
            raise BadData(
                f"no statistics at {path}",
                "the file that was written when training",
                "measure them on the training data; a policy without its statistics acts at random",
            )
        out = Statistics.from_json(read_json(path, "statistics"))
        out.require(spec, str(path))
        return out


def floors(parts: Iterable[Part]) -> np.ndarray:
    """float64 (D,): the smallest scale of each dimension, in its own unit."""
    return np.array([FLOOR.get(p.unit, 1e-3) for p in parts for _ in p.names], np.float64)


def measure(
    episodes: Iterable[tuple[np.ndarray, np.ndarray]],
    spec: Spec,
    *,
    mode: Mode = "q01_q99",
    horizon: int = 1,
    transform: tuple[str, ChunkTransform] | None = None,
    keep: int = EXACT,
) -> Statistics:
    """Statistics over episodes of (state (T,S), action (T,A)), such as `Reader.vectors()`.

    With `transform` = (name, function), actions are measured as the model will see them: the chunks of `horizon`
    steps that begin at every frame go through the function together with the state measured at their start, and
    steps past the episode's end are left out. Relative chunks must be made relative before they are measured.
    """
    action, state = Stream(floors(spec.action), keep), Stream(floors(spec.state), keep)
    for s, a in episodes:
        state.add(s)
        if transform is None:
            action.add(a)
            continue
        chunks, valid = gather(a, np.arange(len(a)), np.full(len(a), len(a)), horizon)
        out = transform[1](chunks, s)
        if out.shape != chunks.shape:
            raise BadData(f"transform '{transform[0]}' made {out.shape} of {chunks.shape}", "equal shapes", "repair it")
        action.add(out[valid])
    name = "as recorded" if transform is None else transform[0]
    return Statistics(spec.fingerprint(), mode, name, action.moments(), state.moments())


@dataclass(frozen=True)
class Check:
    """outside {which: (D,)}: the share of samples beyond [-1, 1] once normalised. round_trip: the largest error of
    normalise and restore, in scales."""

    outside: dict[str, np.ndarray]
    round_trip: float


def check(statistics: Statistics, samples: Mapping[Which, np.ndarray]) -> Check:
    """Replays samples {"action": (n,A), "state": (n,S)} through normalise and restore. With q01_q99 about 2 % lie
    outside; much more means statistics of other data, far less that a dimension hit its floor."""
    outside, error = {}, 0.0
    for which, x in samples.items():
        normal = statistics.normalise(which, x)
        outside[which] = (np.abs(normal) > 1.0 + 1e-6).mean(0)
        scale = statistics.centre_scale(which)[1]
        error = max(error, float(np.abs((statistics.restore(which, normal) - x) / scale).max()))
    return Check(outside, error)
