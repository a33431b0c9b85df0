"""Views of a picture, and who differentiates through them. What they are for: tests/methods/test_freezevla.py."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mindhand.core.keys import Keys
from mindhand.core.nouns import Observation
from mindhand.kit.views import KINDS, _smooth, otherwise, several, view

KEYS = Keys.seeded(1, "views")


def picture(h: int = 24, w: int = 32) -> np.ndarray:
    """(h,w,3), smooth."""
    y, x = np.mgrid[0:h, 0:w]
    return np.stack([127 + 90 * np.sin(y / 6 + c) * np.cos(x / 7 - c) for c in range(3)], -1).astype(np.uint8)


def put(frames: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(frames.transpose(0, 3, 1, 2).copy()).float().unsqueeze(0) / 255


def test_what_an_attacker_expects_is_exactly_what_is_asked_about():
    """All frames, after rounding, as `otherwise` would draw them for these keys."""
    frames = np.stack([picture(), picture()[::-1]])
    x = put(frames)
    seen = several(x, 5, KEYS)
    assert seen[0] is x and len(seen) == 6 and len(several(x, 0, KEYS)) == 1
    told = {"instruction": ("go",)}
    obs = Observation({"front": frames[None]}, np.zeros((1, 2, 1), np.float32), told, np.zeros((1, 2)), KEYS.rows)
    for number, one in enumerate(seen[1:]):
        there = otherwise(obs, number, np.array([True]), KEYS).images["front"][0]
        assert torch.allclose(one, put(there), atol=1e-6) and not torch.allclose(one, x, atol=1e-3)


@pytest.mark.parametrize("number", range(3))
def test_its_slope_leads_where_the_view_goes(number):
    """What makes a patch of the view brighter by the slope does so in the view itself; and for who steps by the slope
    of the picture as it is, less."""
    x = put(picture()[None]).requires_grad_()
    patch = torch.zeros(24, 32)
    patch[3:6, 4:7] = 1.0

    def bright(seen):
        return (seen[0, 0] * patch).sum()

    (slope,) = torch.autograd.grad(bright(several(x, number + 1, KEYS)[-1]), x)
    straight = patch.expand(1, 1, 3, 24, 32)

    def seen(x):
        with torch.no_grad():
            return float(bright(several(x, number + 1, KEYS)[-1]))

    def gain(way):
        return seen((x + 0.2 * way * slope.norm() / way.norm()).clamp(0, 1)) - seen(x)

    assert gain(slope) > 0.05
    assert KINDS[number] == "jpeg" or gain(slope) > gain(straight) + 0.01


def test_smooth_views_are_nearly_the_views():
    """To some levels of 255, or their slopes would be of another picture."""
    for kind in ("smaller", "closer"):
        for u in ([0.0, 0.2, 0.9], [0.7, 0.5, 0.1]):
            near = _smooth(put(picture()[None])[0], kind, u)
            assert (near - put(view(picture(), kind, u)[None])[0]).abs().max() < 3 / 255
