"""TACO's choice among chunks, against the first of them, on the same flow policy: Meta-World at 80 Hz.

Controls: any of as many chunks, and their mean, so that neither drawing more nor drawing less noise explains a gain.
Differs from its specification: demonstrations are the bench's, without a share of jerky ones; no oracle chooses."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from mindhand.core.folder import exists
from mindhand.core.keys import Key, Keys
from mindhand.core.nouns import ActionChunk, Observation
from mindhand.core.seams import State
from mindhand.data.robot import RobotFrames
from mindhand.methods.run.taco import Config, fit, load, wrap
from mindhand.model.vla import VLA

from ..chatvla2 import blank
from ..rollouts import Wrap
from . import Proof
from .bench import Arm, Stand, prepare
from .rs_cl import BENCH

CONFIG = Config()  # M chunks of all three, `samples`


def counted(vla: VLA, stand: Stand, training: int) -> Wrap:
    """TACO with counts of what the baseline learned from, fitted once a training."""
    folder, b = stand.folder("taco", training) / "counts", stand.bench
    if not exists(folder):
        frames = RobotFrames(*prepare(stand, None), vla.backbone.words, b.horizon, b.camera, words_of=blank)
        fit(vla, frames, CONFIG, seed=training).save(folder)
    return partial(wrap, fitted=load(folder))


class Blindly:
    """Policy round a policy: of several chunks any one, or the mean of them."""

    provides: frozenset[str] = frozenset()

    def __init__(self, base: Any, mean: bool, samples: int = CONFIG.samples):
        self.base, self.spec, self.mean, self.samples = base, base.spec, mean, samples

    def start(self, keys: Sequence[Key]) -> State:
        """What is inside, and how often it was asked, by row."""
        return {"base": self.base.start(keys), "asked": np.zeros(len(keys), np.int64)}

    def act(self, obs: Observation, state: State, *, want: Sequence[str] = ()) -> tuple[ActionChunk, State]:
        """A chunk is drawn by the row's own key and its number of queries."""
        told, base = self.base.propose(obs, state["base"], self.samples)
        keys = Keys.of(obs.keys).fold("blindly").fold_each(state["asked"].tolist())
        chunk = told.pick(keys.integers(self.samples))
        if self.mean:
            chunk = ActionChunk(told.actions.mean(1), told.valid.all(1), told.reasoning, chunk.extra)
        return chunk, {"base": base, "asked": state["asked"] + 1}


ARMS = (
    Arm("taco", prepare=counted),
    Arm("random-of-m", wrap=partial(Blindly, mean=False)),
    Arm("mean-of-m", wrap=partial(Blindly, mean=True)),
)
PROOF = Proof("taco", BENCH, ARMS)
