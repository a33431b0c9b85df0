"""Which samples make which batch: image-text and robot sets mixed, as a pure function of seed and step.

ChatVLA-2 (arXiv 2505.21906) trains on image-text : robot = 1:3 by resampling the image-text list to a third of
the number of robot frames, joining both and shuffling uniformly. Here an epoch is that list, never written down:
position p of the run lies in epoch p // M at place `permute(p % M)`, and every set goes through its own samples
once, in an order of its own, before it repeats one. There is no state, so a run resumes by naming its step.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mindhand.core.errors import BadData
from mindhand.core.keys import Key, Keys

from .permute import permute

IMAGE_TEXT_PER_ROBOT = 1 / 3


@dataclass(frozen=True)
class SampleSet:
    """One set of samples. rows int64 (n,): what `index` may be, such as the training frames of a dataset.

    weight multiplies how often its samples come, against the other sets of its kind; embodiment numbers the robot.
    """

    name: str
    kind: Literal["image-text", "robot"]
    rows: np.ndarray
    weight: float = 1.0
    embodiment: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "rows", np.asarray(self.rows, np.int64))
        if not len(self.rows) or not self.weight > 0 or not np.isfinite(self.weight):
            raise BadData(
                f"sample set '{self.name}' has {len(self.rows)} samples of weight {self.weight}",
                "samples, and a weight above 0",
                "leave an empty set out of the mixture",
            )


@dataclass(frozen=True)
class Rows:
    """What makes a batch, all int64 (B,): which set (its place in `Mixture.sets`), which sample, which embodiment."""

    set: np.ndarray
    index: np.ndarray
    embodiment: np.ndarray

    def __len__(self) -> int:
        return len(self.set)


class Mixture:
    """Batches of `batch` samples from `sets`. With both kinds present, `image_text` image-text samples come for
    each robot frame (1/3 by default); with one kind, that kind alone.

    The sets' order and names are part of the shuffle: `identity()` changes with anything that changes a batch.
    """

    def __init__(self, sets: Sequence[SampleSet], batch: int, seed: int, *, image_text: float = IMAGE_TEXT_PER_ROBOT):
        if not sets or batch < 1 or len({s.name for s in sets}) != len(sets):
            raise BadData(
                f"a mixture of sets {[s.name for s in sets]} in batches of {batch}",
                "at least one set, distinct names, a batch of at least 1",
                "name each set once",
            )
        self.sets, self.batch, self.seed = tuple(sets), batch, seed
        self.quotas = self._quotas(image_text)
        self.starts = np.cumsum([0, *self.quotas])
        self.epoch_size = int(self.starts[-1])

    def _quotas(self, image_text: float) -> np.ndarray:
        """int64 (sets,): samples of each set in one epoch."""
        size = np.array([len(s.rows) * s.weight for s in self.sets])
        robot = np.array([s.kind == "robot" for s in self.sets])
        if robot.any() and not robot.all():
            size[~robot] *= size[robot].sum() * image_text / size[~robot].sum()
        quotas = np.rint(size).astype(np.int64)
        if (quotas < 1).any():
            name = self.sets[int(np.argmin(quotas))].name
            raise BadData(
                f"sample set '{name}' would not come up once in an epoch of {quotas.sum()}",
                "at least one sample an epoch",
                "raise its weight or leave it out",
            )
        return quotas

    def rows(self, step: int) -> Rows:
        """The samples of batch `step`, a pure function of the mixture and the step."""
        position = step * self.batch + np.arange(self.batch, dtype=np.int64)
        if step < 0:
            raise BadData(f"batch {step}", "a step of 0 or more", "count from 0")
        epoch = position // self.epoch_size
        place = np.empty_like(position)
        for e in np.unique(epoch):
            at = epoch == e
            place[at] = permute(position[at] % self.epoch_size, self.epoch_size, "mixture", self.seed, int(e))
        which = np.searchsorted(self.starts, place, "right") - 1
        index = np.empty_like(position)
        for s in np.unique(which):
            samples, at = self.sets[s], which == s
            count = epoch[at] * self.quotas[s] + place[at] - self.starts[s]  # the how-many-th of this set in the run
            index[at] = samples.rows[self._shuffled(samples, count)]
        embodiment = np.array([s.embodiment for s in self.sets], np.int64)[which]
        return Rows(which, index, embodiment)

    def _shuffled(self, samples: SampleSet, count: np.ndarray) -> np.ndarray:
        size = len(samples.rows)
        turn = count // size
        out = np.empty_like(count)
        for t in np.unique(turn):
            at = turn == t
            out[at] = permute(count[at] % size, size, "set", self.seed, samples.name, int(t))
        return out

    def identity(self) -> str:
        """16 hexadecimal digits of everything a batch depends on; a resumed run compares it."""
        out = hashlib.blake2b(f"{self.batch} {self.seed} {self.quotas.tolist()}".encode(), digest_size=8)
        for s in self.sets:
            out.update(f"{s.name} {s.kind} {s.embodiment}".encode() + s.rows.tobytes())
        return out.hexdigest()


class Runs:
    """Batches of runs: each sample that `mixture` draws is the end of a run of `length` samples of its episode, in
    their order, or of the first so many. For what remembers; image-text samples stay alone.

    episode (n,): of every sample of the robot sets, by index. An episode with fewer repeats its last one.
    """

    def __init__(self, mixture: Mixture, episode: np.ndarray, length: int):
        if length < 1:
            raise BadData(f"runs of {length} samples", "at least 1", "16 are usual")
        self.mixture, self.episode, self.length = mixture, np.asarray(episode), length
        self.sets = mixture.sets
        self._rows = [np.sort(s.rows) for s in self.sets]

    def rows(self, step: int) -> Rows:
        """The samples of batch `step`: one after the other as many runs as the mixture draws samples."""
        drawn = self.mixture.rows(step)
        out: list[tuple[int, int, int]] = []
        for of, index, body in zip(drawn.set.tolist(), drawn.index.tolist(), drawn.embodiment.tolist()):
            if self.sets[of].kind != "robot":
                out.append((of, index, body))
                continue
            rows = self._rows[of]
            own = rows[self.episode[rows] == self.episode[index]]
            first = max(0, int(np.searchsorted(own, index)) - self.length + 1)
            places = np.minimum(first + np.arange(self.length), len(own) - 1)
            out += [(of, int(i), body) for i in own[places]]
        return Rows(*(np.array(x, np.int64) for x in zip(*out)))


def lots(episodes: Sequence[Key | str], seed: int) -> np.ndarray:
    """float64 (n,) in [0, 1): what each episode draws by its name and the seed alone; the least are held out first."""
    return np.array([Keys.seeded(1, seed, "held out", str(e)).uniform(1)[0, 0] for e in episodes], np.float64)


def held_out(episodes: Sequence[Key | str], share: float, seed: int) -> np.ndarray:
    """bool (n,): which episodes are for validation, decided for each by a hash of its name and the seed alone.

    No rank, order or neighbour matters, and an episode recorded twice falls on one side. BadData where one side
    would be empty. Datasets without keys name an episode by anything stable, such as "dataset/17".
    """
    if not 0.0 < share < 1.0:
        raise BadData(f"a validation share of {share}", "a number between 0 and 1", "0.05 is usual")
    out = lots(episodes, seed) < share
    if out.all() or not out.any():
        raise BadData(
            f"a share of {share} holds out {int(out.sum())} of {len(out)} episodes",
            "some on either side",
            "record more episodes, or take another share or seed",
        )
    return out
