"""Transfer efficiency is what it says, and its interval covers."""

import numpy as np
import pytest

from mindhand.core.errors import BadData
from mindhand.evaluate.transfer import transfer


def drawn(rng, a=0.9, t=0.8, te=1.0, n=200, k=3):
    """Scenes of which the mind knows some; a hand that does what it is told with chance t, and of what the mind knows
    loses some on the way."""
    known = rng.random(n) < a
    told = rng.random((k, n)) < t
    return (rng.random((k, n)) < t * te) & known, told, known


def test_all_of_it_or_a_part():
    rng = np.random.default_rng(0)
    assert transfer([np.ones(9)], [np.ones(9)], np.ones(9)).value == 1.0
    half = transfer(*drawn(rng, te=0.5, n=5_000))
    assert abs(half.value - 0.5) < 0.03 and half.low < 0.5 < half.high
    assert transfer([np.zeros(9)], [np.ones(9)], np.ones(9)).high == 0.0


def test_the_interval_covers():
    rng, inside = np.random.default_rng(1), 0
    for _ in range(60):
        found = transfer(*drawn(rng, te=0.9))
        inside += found.low <= 0.9 <= found.high
    assert inside >= 52


def test_no_yardstick_and_no_pairs():
    assert transfer([np.ones(50)], [np.ones(50)], np.zeros(50)) is None
    assert transfer([np.zeros(50)], [np.zeros(50)], np.ones(50)) is None
    with pytest.raises(BadData, match="pair them"):
        transfer([np.ones(4)], [np.ones(5)], np.ones(4))
