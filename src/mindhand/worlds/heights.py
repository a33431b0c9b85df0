"""Reaching over a block whose height must be seen: what to do in depth, and nothing else.

No simulator here. One block stands on the table; when the time is up, the hand is to be held a little over its top,
which it never touched.

    varied   its height is anything in `HEIGHTS`; who plans for the mean one is right in a fifth of the scenes
    flat     all are `MEAN` high: the same task in the plane

Nobody is told the height. The block's sides are drawn too, so that its size in the picture does not say how near its
top is. A family with a hash of its own (`declared.heights_hash`): it holds out nothing of the others.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from mindhand.core.errors import BadData
from mindhand.core.keys import Key, Keys

from .draw import Draw

VERSION = "heights-1"  # bump when the sampler changes what it draws: it is part of the hash
FAMILY = "height_reaching"
KINDS = ("varied", "flat")
HEIGHTS = (0.02, 0.12)  # m: from, to
MEAN = sum(HEIGHTS) / 2
HALF = (0.018, 0.030)  # m: half a side
ROOM = ((-0.11, 0.12), (-0.10, 0.02))  # where its middle may stand (m): x, y; all of it is in the front picture
TURN = 0.35  # rad, either way
COLOURS = {
    "red": (205, 52, 46), "green": (58, 156, 70), "blue": (52, 96, 200), "yellow": (236, 200, 50),
    "white": (232, 232, 228), "purple": (128, 62, 160),
}  # fmt: skip
OVER, BAND, AROUND = 0.025, 0.010, 0.020  # m: the tool point over the top, how far off that, and how far aside
HOLD = 5  # control steps that it has been there when the time is up
INSTRUCTION = "hold the hand just over the block"


@dataclass(frozen=True)
class HeightScene:
    """A block: its colour (`COLOURS`), its middle (m), how it is turned (rad), half its sides (m), its height (m)."""

    colour: str
    x: float
    y: float
    yaw: float
    half: tuple[float, float]
    height: float
    instruction: str = INSTRUCTION

    @property
    def goal(self) -> tuple[float, float, float, float]:
        """Where the tool point is to be held: x, y, z (m), and the yaw of the block (rad)."""
        return self.x, self.y, self.height + OVER, self.yaw

    def to_json(self) -> dict[str, Any]:
        """Plain lists and dictionaries."""
        return {**asdict(self), "half": list(self.half)}

    @staticmethod
    def from_json(d: dict[str, Any]) -> HeightScene:
        """The inverse of `to_json`."""
        return HeightScene(**{**d, "half": tuple(d["half"])})


def sample_heights_task(key: Key) -> HeightScene:
    """The scene an episode's key names. Tasks: "height_reaching/varied" and "/flat"."""
    family, _, kind = key.task.partition("/")
    if family != FAMILY or kind not in KINDS:
        raise BadData(f"task '{key.task}'", f"'{FAMILY}/<kind>' with kind one of {KINDS}", "correct Key.task")
    draw = Draw(Keys.of([key]).fold("heights"))
    height = draw.uniform(*HEIGHTS)
    return HeightScene(
        colour=draw.pick([*COLOURS]),
        x=draw.uniform(*ROOM[0]),
        y=draw.uniform(*ROOM[1]),
        yaw=draw.uniform(-TURN, TURN),
        half=(draw.uniform(*HALF), draw.uniform(*HALF)),
        height=height if kind == "varied" else MEAN,
    )


def declared() -> dict[str, Any]:
    """Everything of this family that the hash of the declaration covers."""
    return {
        "version": VERSION,
        "scenes": [KINDS, HEIGHTS, HALF, ROOM, TURN],
        "success": [OVER, BAND, AROUND, HOLD],
        "looks": [COLOURS, INSTRUCTION],
    }
