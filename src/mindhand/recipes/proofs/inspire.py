"""InSpire against the same hand without questions, where a colour went along with a side in every demonstration, and
does so no longer: what decides is success in the reversed scenes, with success in scenes like the demonstrations'
beside it ("cue").

Control: answers drawn at random in training, which are as many tokens more (the specification's). Its other control,
right answers given at the test, needs a world that knows them in InSpire's words, and is not here."""

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
