"""From a tabletop to its front picture: rendered by the simulator, toys and all, in under a millisecond."""

from __future__ import annotations

from mindhand.core.keys import Keys
from mindhand.worlds.draw import Draw

from .picture import SHAKEN
from .toy_questions import Sight, Tabletop, pointed


def tabletop(table: Tabletop, keys: Keys | None = None) -> Sight:
    """128x128, from the front camera. With keys, camera and lamp are moved in half of the pictures."""
    from mindhand.worlds.desk import notices, render, show  # a simulator: see `picture.composed`

    look = render.look(keys if keys is not None and Draw(keys.fold("tabletop")).chance(SHAKEN) else None)
    board, boxes = notices.writing(table.writing)
    shown = show.render_toys(table.scene, board, look=look)
    written = show.board_pixels(boxes, look=look)
    around = tuple(map(tuple, shown.boxes.tolist()))
    return Sight(shown.image, pointed(table.scene, _pairs(shown.middles), around), around, _pairs(written))


def _pairs(points) -> tuple[tuple[float, float], ...]:
    return tuple((u, v) for u, v in points.tolist())
