"""OpenVLA-OFT's hand, which regresses a chunk in one pass, against one that says it token by token, on the same mind.

Control: without FiLM, so that what parallel decoding and L1 do alone is seen."""

from __future__ import annotations

from functools import partial

from mindhand.methods.act.oft import plug

from . import Proof
from .bench import Arm
from .fast import BENCH

PROOF = Proof("oft", BENCH, (Arm("oft", plug), Arm("no-film", partial(plug, film=False))))
