"""Ellipsoids: the small program behind the plane, and what is taken for one thing. The rest is checked where it is used
(tests/methods/test_aegis.py)."""

from __future__ import annotations

import numpy as np

from mindhand.kit.ellipsoids import largest, nearest


def test_the_nearest_point_is_the_one_in_closed_form_and_the_best_of_many():
    rng = np.random.default_rng(5)
    for _ in range(50):
        x, g, b = rng.normal(size=4), rng.normal(size=(3, 4)), rng.normal(size=3)
        one = nearest(x, g[:1], b[:1])
        assert np.allclose(one, x + g[0] * max(0.0, b[0] - g[0] @ x) / (g[0] @ g[0]))
        y = nearest(x, g, b)
        assert (g @ y >= b - 1e-9).all()
        tried = y + rng.normal(size=(2000, 4)) * rng.choice([0.001, 0.1, 1.0], (2000, 1))
        tried = tried[(tried @ g.T >= b).all(1)]
        assert (np.linalg.norm(tried - x, axis=1) >= np.linalg.norm(y - x) - 1e-9).all()
    wall = np.array([[1.0, 0.0], [-1.0, 0.0]])
    assert nearest(np.zeros(2), wall, np.array([1.0, 1.0])) is None
    assert (same := np.zeros(2)) is nearest(same, wall, np.array([-1.0, -1.0]))


def test_of_what_is_seen_of_a_thing_the_largest_part_that_hangs_together_is_taken():
    rng = np.random.default_rng(7)
    thing, other = rng.uniform(0, 0.05, (300, 3)), rng.uniform(0, 0.02, (40, 3)) + 0.2
    kept = largest(np.concatenate([other, thing]))
    assert kept.max() <= 0.05 and 230 <= len(kept) <= 300
    assert len(largest(thing[:1])) == 1
    assert len(largest(np.concatenate([thing[:100], thing[:90] + np.array((0.2, 0, 0))]), drop=0.0)) == 100
