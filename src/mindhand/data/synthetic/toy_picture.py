"""From a tabletop to its front picture: rendered by the simulator, toys and all, in under a millisecond."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mindhand.core.keys import Keys
from mindhand.worlds.draw import Draw

from .picture import SHAKEN
from .samples import Pixel
from .toy_questions import Sight, Tabletop, pointed

TELLS = 40  # pixels of a hand, or of what it holds, that tell what it does
HIDES = 0.5  # a toy is hidden when more of its box than this looks different with the arm there


def tabletop(table: Tabletop, keys: Keys | None = None) -> Sight:
    """128x128, from the front camera. With keys, camera and lamp are moved in half of the pictures. A hand is seen
    where it may be without hiding much, or not at all."""
    from mindhand.worlds.desk import notices, render, show  # a simulator: see `picture.composed`

    look = render.look(keys if keys is not None and Draw(keys.fold("tabletop")).chance(SHAKEN) else None)
    board, boxes = notices.writing(table.writing)
    shown = show.render_toys(table.scene, board, look=look)
    written = show.board_pixels(boxes, look=look)
    image, hand = shown.image, table.hand
    for tool in hand.tools if hand else ():
        armed = show.render_toys(table.scene, board, look=look, tool=tool, held=hand.held).image
        without = shown.image
        if hand.held:  # the hand alone: what differs is what it holds
            without = show.render_toys(table.scene, board, look=look, tool=tool).image
        told = int((armed != without).any(-1).sum()) >= TELLS
        if told and _seen(shown.image, armed, shown.boxes, written):
            image = armed
            break
    around = tuple(map(tuple, shown.boxes.tolist()))
    toys = pointed(table.scene, _pairs(shown.middles), around)

    def at(point: Sequence[float]) -> Pixel:
        return _pairs(look.project(np.array([point]), len(image)))[0]

    return Sight(image, toys, around, _pairs(written), at, image is not shown.image)


def _seen(before: np.ndarray, after: np.ndarray, boxes: np.ndarray, written: np.ndarray) -> bool:
    """Whether what was in picture `before` is still in `after`: all that is written, and half of every toy."""
    changed = (before != after).any(-1)
    u, v = written.astype(int).clip(0, len(changed) - 1).T
    low, high = np.floor(boxes[:, :2]).astype(int), np.ceil(boxes[:, 2:]).astype(int)
    toys = [changed[top:bottom, left:right] for (left, top), (right, bottom) in zip(low, high)]
    return not changed[v, u].any() and all(t.mean() < HIDES for t in toys if t.size)


def _pairs(points) -> tuple[tuple[float, float], ...]:
    return tuple((u, v) for u, v in points.tolist())
