"""How a gripper holds the toys that `things` declares, and what fits into which container. No simulator here.

The gripper comes from above and closes along one direction. Numbers were measured on the toys' shapes (a test measures
them again): fingers that close to `width` touch what is seen, or miss it by a few millimetres. Frame as in `things`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from mindhand.core.errors import BadData

from .things import BY_NAME, Circle

OPEN, PAD, WIDE = 0.074, 0.010, 0.018  # m: the widest gap between the pads, their thickness, their width
TIP = 0.008  # m that the pads reach below the pinch point
PALM, PALM_UP = 0.062, 0.069  # m: half length of the gripper's palm along the closing direction; how far up it is
BELOW = 0.012  # m of height kept free below it
NEAR = 0.004  # m between a finger and a toy that is not to be touched
HIGHEST = 0.545  # m from the arm's base, in the plane: what it reaches at the height that it carries toys at
BASE = (-0.41, 0.0)  # where that is: x, y


@dataclass(frozen=True)
class Grip:
    """Where a toy is held: the point (x, y) m and the direction across the fingers (rad) in its own frame, the height
    (m) of the pinch point above its bottom, and its width (m) between the pads. `ways`: so many directions a full turn
    do as well, 2 or 4; 0 means any, and then the point is its middle."""

    x: float
    y: float
    yaw: float
    up: float
    width: float
    ways: int

    def tool_yaw(self, yaw: float) -> float:
        """The tool's yaw for a toy turned by `yaw` (rad), the one nearest to 0 of those that do; 0 where any does."""
        if not self.ways:
            return 0.0
        step = 2 * math.pi / self.ways
        turned = yaw + self.yaw
        return turned - step * round(turned / step)

    def toy_yaw(self, tool: float, near: float) -> float:
        """The inverse: the yaw of a toy held by a tool with yaw `tool`, of those that do the one nearest to `near`."""
        if not self.ways:
            return near
        step = 2 * math.pi / self.ways
        yaw = tool - self.yaw
        return yaw + step * round((near - yaw) / step)

    def point(self, x: float, y: float, yaw: float) -> tuple[float, float]:
        """Where the tool goes, for a toy at (x, y) turned by `yaw`."""
        c, s = math.cos(yaw), math.sin(yaw)
        return x + c * self.x - s * self.y, y + s * self.x + c * self.y


GRIPS = {  # mm and degrees
    name: Grip(x / 1e3, y / 1e3, math.radians(yaw), up / 1e3, width / 1e3, ways)
    for name, x, y, yaw, up, width, ways in (
        ("ball", 0, 0, 0, 24, 48, 0), ("cube", 0, 0, 0, 20, 41, 4), ("cup", -7, 0, 0, 24, 45, 2),
        ("banana", 0, -9.5, 0, 11, 20, 2), ("star", 0, -7, 90, 11, 44, 2), ("car", 0, 0, 0, 14, 27, 2),
        ("hammer", -8, 0, 0, 11, 12, 2), ("ring", 0, 0, 0, 11, 54, 0), ("duck", -8, 0, 0, 18, 34, 2),
        ("tree", 0, 0, 0, 32, 45, 0),
        ("bottle", -12, 0, 0, 14, 28, 2), ("cone", 0, 0, 0, 30, 27, 0), ("key", -21, 0, 0, 11, 32, 2),
        ("spoon", 22, 0, 0, 11, 28, 2), ("heart", 0, -11, 90, 11, 46, 2), ("house", 0, 0, 90, 20, 46, 2),
        ("mushroom", 0, 0, 0, 40, 53, 0), ("fish", 8, 3.5, 0, 11, 39, 2), ("cross", 0, 0, 45, 11, 46, 4),
        ("moon", -21, 0, 90, 11, 22, 2), ("arrow", -12, 0, 0, 11, 14, 2), ("boat", 0, 0, 0, 14, 32, 2),
        ("dumbbell", 0, 0, 0, 15, 12, 2), ("snowman", 0, 0, 45, 28, 42, 4), ("chair", 0, 0, 90, 27, 38, 2),
        ("train", 5, 0, 0, 24, 24, 2),
        ("rocket", 6, 0, 0, 14, 25, 2), ("glasses", 0, -12, 0, 11, 29, 2),
    )
}  # fmt: skip


@dataclass(frozen=True)
class Holder:
    """A container that things are put into or onto: the radius of the room in it, and the height of its rim (m)."""

    room: float
    rim: float


HOLDERS = {  # not the basket: its handle is in the way of a hand from above
    "bowl": Holder(0.038, 0.030), "box": Holder(0.0275, 0.025), "pan": Holder(0.030, 0.020),
    "plate": Holder(0.048, 0.0), "book": Holder(0.048, 0.0),
}  # fmt: skip


def grip(thing: str) -> Grip:
    """How this thing is held; refuses one that no gripper lifts."""
    if thing not in GRIPS:
        raise BadData(f"to grip a {thing}", f"one of {tuple(GRIPS)}", "containers stay where they are")
    return GRIPS[thing]


def fits(thing: str, container: str) -> bool:
    """Whether a thing can be put into or onto a container."""
    return thing in GRIPS and container in HOLDERS and BY_NAME[thing].reach <= HOLDERS[container].room


def in_reach(x: float, y: float) -> bool:
    """Whether the arm gets there with a toy in its hand."""
    return math.hypot(x - BASE[0], y - BASE[1]) <= HIGHEST


def in_the_way(other: Circle, x: float, y: float, yaw: float, up: float) -> bool:
    """Whether a toy's circle is in the way of the open gripper at (x, y), turned by `yaw`, its pinch point at height
    `up` (m): of its fingers or, where the toy is as high as that, of its palm."""
    c, s = math.cos(yaw), math.sin(yaw)
    dx, dy = other[0] - x, other[1] - y
    across, along = abs(c * dx + s * dy), abs(c * dy - s * dx)
    half = PALM if other[3] > up + PALM_UP - BELOW else OPEN / 2 + PAD
    beyond = max(0.0, across - WIDE / 2), max(0.0, along - half)
    return math.hypot(*beyond) < other[2] + NEAR


def declared() -> dict[str, Any]:
    """Everything of this file that the hash of the declaration covers."""
    return {
        "grips": [(n, *vars(g).values()) for n, g in GRIPS.items()],
        "holders": [(n, *vars(h).values()) for n, h in HOLDERS.items()],
        "gripper": [OPEN, PAD, WIDE, TIP, PALM, PALM_UP, BELOW, NEAR, HIGHEST, BASE],
    }
