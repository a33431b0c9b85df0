"""FAST against bins, on the same hand of tokens: Meta-World at 80 Hz, where neighbouring steps are nearly alike.

Control: FAST's integers without its merges, a token each (the paper's ablation)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mindhand.core.spec import Spec
from mindhand.evaluate.protocol import METAWORLD_10
from mindhand.methods.act.fast import Config, plug

from . import Proof
from .bench import Arm, Bench, Parts

TASKS = ("reach", "drawer-open", "drawer-close", "button-press-topdown", "window-open", "window-close")
BENCH = Bench("tokens", METAWORLD_10.only(*(f"metaworld/{t}" for t in TASKS), episodes=20), horizon=16)


def unmerged(parts: Mapping[str, Any], spec: Spec) -> Parts:
    """FAST with a token an integer."""
    return plug(parts, spec, Config(BENCH.horizon, merges=False))


PROOF = Proof("fast", BENCH, (Arm("fast", plug), Arm("no-merges", unmerged)))
