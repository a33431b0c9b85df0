"""A protocol on the tiny world, and makers that a worker process can import."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from mindhand.core.errors import Refusal
from mindhand.core.keys import Key
from mindhand.evaluate.protocol import Protocol
from tests.tiny_world import SPEC, TinyWorld, Walker

PROTOCOL = Protocol(
    name="tiny",
    version=1,
    tasks=("touch/R", "touch/X"),
    episodes=20,
    steps=60,
    replan=4,
    rows=4,
    images=SPEC.cameras,
    success="the point touches the target of the named colour",
)


class Logged(TinyWorld):
    """Writes every key it begins to a file, and may die, refuse or fail when it meets one of them."""

    def __init__(self, rows: int, log: Path, at: int = -1, how: str = "kill"):
        super().__init__(rows)
        self.log, self.at, self.how = log, at, how

    def reset(self, keys: Sequence[Key], rows: Sequence[int]) -> None:
        super().reset(keys, rows)
        with open(self.log, "a") as file:
            file.writelines(f"{key}\n" for key in keys)
        if any(key.index == self.at for key in keys):
            if self.how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.how == "stop":
                raise KeyboardInterrupt
            if self.how == "refuse":
                raise Refusal("the tiny world", "a larger one", "wait")
            raise ArithmeticError("tiny")


def walker() -> Walker:
    """The policy of these tests: it means another colour in a quarter of the episodes."""
    return Walker(wrong=0.25)


def world(log: Path, **how) -> partial:
    """A maker of worlds that log."""
    return partial(_logged, log=log, **how)


def _logged(rows: int, **how) -> Logged:
    return Logged(rows, **how)
