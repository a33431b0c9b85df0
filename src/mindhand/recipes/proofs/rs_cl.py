"""RS-CL's loss on what conditions a hand, against the same hand without it.

Controls: its adapter without any loss (the same parameters and the same tokens), and contrast without the states'
distances, each row nearest to itself alone (InfoNCE)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mindhand.core.spec import Spec
from mindhand.methods.learn.rs_cl import Config, plug

from . import Proof
from .bench import Arm, Bench, Change, Parts
from .fast import BENCH as OF_TOKENS

BENCH = Bench("flow", OF_TOKENS.protocol, horizon=OF_TOKENS.horizon)
ALONE = 1e-6  # beta at which a row is near to none but itself


def adapted(**more: Any) -> Change:
    """RS-CL whose weight falls over the bench's own steps."""

    def change(parts: Mapping[str, Any], spec: Spec) -> Parts:
        sizes = parts["backbone"].width, parts["expert"].config.width, spec.state_size
        return plug(parts, spec, Config(*sizes, steps=BENCH.steps, **more))

    return change


LOSS = {"rs_cl": 1.0}
ARMS = Arm("rs_cl", adapted(), LOSS), Arm("adapter", adapted()), Arm("info-nce", adapted(beta=ALONE), LOSS)
PROOF = Proof("rs_cl", BENCH, ARMS)
