"""What was touched so far, and from where: the account of an episode of hidden state.

Success: the pads of the order were touched and no other, from the gate each time, and the hand has been at the gate
once more and is at home. A wrong touch is final, and ends the episode.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from mindhand.worlds.hidden import CLEAR, HOME, STAY, HiddenScene

from .hidden_stage import HiddenStage
from .spec import HIDDEN_LIMIT


class HiddenJudge:
    """The running account of one row. `data()` and `load()` carry it through snapshots."""

    def __init__(self, scene: HiddenScene):
        self.scene = scene
        self.rest: list[tuple[float, float, float]] = []  # nothing here can be pushed
        self.touched: list[int] = []  # pads, in turn
        self.down = -1  # the pad under the hand, from a touch until the hand is up again
        self.stayed = 0  # control steps that it has been at the gate, since the cube was put aside if there is one
        self.ready = False  # it has stayed there since the last touch
        self.success, self.wrong = False, ""
        self.limit = HIDDEN_LIMIT

    @property
    def now(self) -> HiddenScene:
        """The scene."""
        return self.scene

    @property
    def placed(self) -> int:
        """How many touches of the order are done."""
        return len(self.touched) - bool(self.wrong)

    @property
    def next(self) -> int | None:
        """The pad to touch next, None when all is touched, or a wrong one."""
        return self.scene.order[self.placed] if not self.wrong and self.placed < len(self.scene.order) else None

    def update(self, stage: HiddenStage) -> None:
        """Look once, after a control step."""
        scene, tcp = self.scene, stage.tcp.tolist()
        shown = scene.cube is None or stage.moved
        self.stayed = self.stayed + 1 if shown and scene.at_gate(tcp) else 0
        self.ready = self.ready or self.stayed >= STAY
        if tcp[2] > CLEAR:
            self.down = -1
        here = scene.under(tcp)
        if here >= 0 and self.down < 0:
            self._touch(here)
        home = math.dist(tcp, stage.home) < HOME
        self.success = not self.wrong and self.next is None and self.ready and home

    def _touch(self, pad: int) -> None:
        wanted = self.next
        if not self.wrong and pad != wanted:
            self.wrong = "touched once too often" if wanted is None else "touched the wrong pad"
        elif not self.wrong and not self.ready:
            self.wrong = "touched a pad without a stay at the gate"
        self.touched.append(pad)
        self.down, self.ready = pad, False
        if self.wrong:
            self.limit = 0

    def why(self) -> str:
        """Why it is no success yet, in a phrase; "" when it is one."""
        if self.wrong or self.success:
            return self.wrong
        return f"touched {self.placed} of {len(self.scene.order)}" if self.next is not None else "not at home"

    def facts(self) -> dict[str, Any]:
        """`touched`, pads in turn, of as many as are in `order`; whether the hand is `ready` to touch or to go home;
        and `why` it is no success yet, "" when it is one."""
        return {
            "touched": list(self.touched), "order": len(self.scene.order), "ready": self.ready, "why": self.why()
        }  # fmt: skip

    def reasoning(self, stage: HiddenStage) -> str:
        """Nothing: a thought would be a memory."""
        return ""

    def target(self, stage: HiddenStage) -> tuple[int, np.ndarray] | None:
        """The pad to touch next: index and (x, y, z, yaw); None when there is none."""
        if self.next is None:
            return None
        pad = self.scene.pads[self.next]
        return self.next, np.array([pad.x, pad.y, 0.0, 0.0])

    def goal(self, stage: HiddenStage) -> np.ndarray | None:
        """The same without the index."""
        wanted = self.target(stage)
        return None if wanted is None else wanted[1]

    def geometry(self, stage: HiddenStage) -> Mapping[str, Any]:
        """pads (n,2) x y, lit (n,), and whether the cube was `moved`."""
        return {"pads": np.array([(p.x, p.y) for p in self.scene.pads]), "lit": stage.lit, "moved": stage.moved}

    def data(self) -> dict[str, Any]:
        """Plain values."""
        return {k: v for k, v in vars(self).items() if k not in ("scene", "rest")}

    def load(self, data: dict[str, Any]) -> None:
        """The inverse of `data`."""
        vars(self).update(data)
