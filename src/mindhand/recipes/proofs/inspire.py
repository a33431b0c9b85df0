"""InSpire against the same hand without questions, where colours went along with sides in the demonstrations.

What decides is success in the reversed scenes; success in scenes like the demonstrations' ("cue") is told beside it.
Control: answers drawn at random in training, to the same questions. The specification's other one, right answers given
at the test, is not here: the world would have to know them in InSpire's words."""

from __future__ import annotations

from functools import partial

from mindhand.evaluate.protocol import PLACING_CUE
from mindhand.methods.reason.inspire import Config, Lessons, plug
from mindhand.worlds.cued import CUE, REVERSED

from . import Proof
from .bench import Arm, Bench

BENCH = Bench("tokens", PLACING_CUE.only(episodes=60), demonstrations=120, shown=(CUE,))
SAID = {"text": 1.0}
RANDOM = partial(Lessons, config=Config(noise=1.0))
ARMS = Arm("inspire", plug, SAID, turns=Lessons), Arm("random", plug, SAID, turns=RANDOM)
PROOF = Proof("inspire", BENCH, ARMS, apart={"": (REVERSED,), "cue": (CUE,)})
