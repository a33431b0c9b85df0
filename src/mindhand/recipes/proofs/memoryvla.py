"""MemoryVLA's banks where the picture does not tell what was done, against the same hand without a past.

A batch is of runs as long as almost every episode, so that what a row must know lies in its run; frames are as far
apart as queries, so that the banks are filled at the same rate in training and in evaluation. They hold half as many
entries as a short episode has queries, so that there is something to merge.

Controls: banks that drop their oldest entry (FIFO, the paper's ablation), and banks that hold nothing: the same
parameters and tokens without a past. Frames that are stacked would need pictures of other frames in a sample, which no
part of a policy can ask for. Apart: the task in which the picture tells all, where memory should change little."""

from __future__ import annotations

from functools import partial

from mindhand.evaluate.protocol import HIDDEN
from mindhand.methods.see.memoryvla import plug
from mindhand.worlds.hidden import CHANCE

from . import Proof
from .bench import Arm, Bench

*UNTOLD, SEEN = HIDDEN.tasks  # as its protocol says: the last one is seen
LENGTH, RUN = 8, 24
BENCH = Bench(
    "flow", HIDDEN.only(episodes=50), demonstrations=100, every=HIDDEN.replan, horizon=HIDDEN.replan, rows=2 * RUN,
    run=RUN,
)  # fmt: skip
ARMS = (
    Arm("memoryvla", partial(plug, length=LENGTH)),
    Arm("first-out", partial(plug, length=LENGTH, full="first")),
    Arm("no-past", partial(plug, length=0, full="first")),
)
GUESSED = sum(CHANCE[task.partition("/")[2]] for task in UNTOLD) / len(UNTOLD)
PROOF = Proof("memoryvla", BENCH, ARMS, chance=GUESSED, apart={"": tuple(UNTOLD), "seen": (SEEN,)})
