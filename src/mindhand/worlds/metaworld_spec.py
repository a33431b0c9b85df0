"""What Meta-World promises to a policy: its fifty tasks in words, its spec. No simulator here, so this is quick to
import. Tasks are Meta-World's (1910.10897; third version, 2505.11289); the sentences are this project's own."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mindhand.core.spec import Camera, Part, Spec

FAMILY = "metaworld"
LIMIT = 500  # control steps: Meta-World's own
ACTION_LOW, ACTION_HIGH = -np.ones(4, np.float32), np.ones(4, np.float32)  # beyond them an action is cut off
FRONT = (
    0.75,
    0.075,
    0.7,
)  # m: where the camera of the corner is brought, as LeRobot does it; the table fills the picture

# By name, without the version: the instruction, and the same in other words.
TASKS: Mapping[str, tuple[str, str]] = {
    "assembly": ("put the ring of the wrench over the peg", "take the wrench and drop its ring onto the peg"),
    "basketball": ("put the ball through the hoop", "lift the ball and drop it into the basket"),
    "bin-picking": ("move the block from the red bin into the blue one", "put the block into the blue bin"),
    "box-close": ("put the lid on the box", "close the box with its lid"),
    "button-press": ("press the button on the front of the box", "push in the button that faces you"),
    "button-press-topdown": ("press the button from above", "push down the button on top of the box"),
    "button-press-topdown-wall": (
        "press the button behind the wall from above",
        "push down the button on top of the box that stands behind the wall",
    ),
    "button-press-wall": (
        "press the button behind the wall",
        "go round the wall and push in the button on the front of the box",
    ),
    "coffee-button": ("press the button of the coffee machine", "start the coffee machine"),
    "coffee-pull": ("pull the mug away from the coffee machine", "bring the mug from the coffee machine to the marker"),
    "coffee-push": ("push the mug under the coffee machine", "bring the mug to where the coffee comes out"),
    "dial-turn": ("turn the dial", "rotate the knob by half a turn"),
    "disassemble": ("lift the ring of the wrench off the peg", "take the wrench off the peg"),
    "door-close": ("close the door", "push the open door shut"),
    "door-lock": ("lock the door", "turn the latch so that the door is locked"),
    "door-open": ("open the door", "pull the door open by its handle"),
    "door-unlock": ("unlock the door", "turn the latch so that the door can be opened"),
    "drawer-close": ("close the drawer", "push the drawer in"),
    "drawer-open": ("open the drawer", "pull the drawer out"),
    "faucet-close": ("turn the faucet off", "close the tap"),
    "faucet-open": ("turn the faucet on", "open the tap"),
    "hammer": ("drive the nail in with the hammer", "take the hammer and hit the nail"),
    "hand-insert": ("put the block into the hole", "take the block and lower it into the hole in the table"),
    "handle-press": ("press the handle down", "push the handle to its lowest point"),
    "handle-press-side": ("press the sideways handle down", "push down the handle that points to the side"),
    "handle-pull": ("pull the handle up", "lift the handle to its highest point"),
    "handle-pull-side": ("pull the sideways handle up", "lift the handle that points to the side"),
    "lever-pull": ("pull the lever up", "turn the lever until it points up"),
    "peg-insert-side": (
        "insert the peg into the hole in the side of the box",
        "take the peg and stick it into the box",
    ),
    "peg-unplug-side": ("pull the peg out of the hole in the side of the box", "unplug the peg from the box"),
    "pick-out-of-hole": (
        "take the puck out of the hole and hold it at the marker",
        "lift the puck from the hole up to the marker",
    ),
    "pick-place": ("pick up the puck and hold it at the marker", "carry the puck through the air to the marker"),
    "pick-place-wall": (
        "lift the puck over the wall and hold it at the marker",
        "carry the puck across the wall to the marker",
    ),
    "plate-slide": ("slide the plate into the goal", "push the plate forward into the net"),
    "plate-slide-back": ("slide the plate back out of the goal", "pull the plate towards the robot, out of the net"),
    "plate-slide-back-side": (
        "slide the plate sideways out of the goal",
        "push the plate to the side, out of the net",
    ),
    "plate-slide-side": ("slide the plate sideways into the goal", "push the plate to the side, into the net"),
    "push": ("push the puck to the marker", "slide the puck across the table until it is at the marker"),
    "push-back": ("pull the puck back to the marker", "drag the puck towards the robot until it is at the marker"),
    "push-wall": (
        "push the puck round the wall to the marker",
        "slide the puck past the wall until it is at the marker",
    ),
    "reach": ("move the hand to the marker", "reach for the marker"),
    "reach-wall": ("move the hand past the wall to the marker", "reach over the wall for the marker"),
    "shelf-place": ("put the block on the shelf", "pick up the block and set it down on the shelf"),
    "soccer": ("push the ball into the goal", "score with the football"),
    "stick-pull": ("pull the thermos with the stick", "hook the stick into the thermos and draw it to the marker"),
    "stick-push": ("push the thermos with the stick", "take the stick and shove the thermos to the marker"),
    "sweep": ("sweep the block off the table", "push the block sideways over the edge of the table"),
    "sweep-into": ("sweep the block into the hole", "push the block across the table until it falls into the hole"),
    "window-close": ("close the window", "slide the window shut"),
    "window-open": ("open the window", "slide the window open"),
}
MT10 = (  # Meta-World's own choice of ten; its experts solve 98 in 100 of their episodes
    "reach", "push", "pick-place", "door-open", "drawer-open", "drawer-close", "button-press-topdown",
    "peg-insert-side", "window-open", "window-close",
)  # fmt: skip

SPEC = Spec(
    robot="metaworld-sawyer",
    action=(
        # Added to where the hand was last told to be, which stays in Meta-World's box: 1 is a centimetre.
        Part("hand", "position", ("x", "y", "z"), "cm", mode="delta", frame="metaworld"),
        Part("gripper", "gripper", ("effort",), "1", polarity="closed"),  # -1 opens, 1 closes; between: with less force
    ),
    state=(
        Part("hand", "position", ("x", "y", "z"), "m", frame="metaworld"),
        Part("gripper", "gripper", ("open",), "1", polarity="open"),  # 0..1: how far apart the fingers are
    ),
    cameras=(
        Camera("front", 128, 128, source=(128, 128)),
        Camera("wrist", 64, 64, source=(128, 128), interpolation="area"),
    ),
    rate=80.0,
)


def task_of(name: str) -> str:
    """The task of a Key: "reach" -> "metaworld/reach"."""
    return f"{FAMILY}/{name}"
