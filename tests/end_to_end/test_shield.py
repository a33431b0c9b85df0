"""The record of the shield is computed from random states, and sees a shield that does too little or too much."""

from __future__ import annotations

import numpy as np

from mindhand.core.nouns import Filtered
from mindhand.core.record import read_rows
from mindhand.recipes import shield as bench


def test_random_states_are_measured_and_a_shield_that_does_nothing_is_seen(tmp_path):
    rows = [bench.row(i) for i in range(60)]
    assert not any(r["violation"] for r in rows)
    assert sum(r["far"] for r in rows) > 10 and sum(r["changed"] for r in rows) > 10
    assert bench.row(3) == rows[3]
    idle = [bench.row(i, leave) for i in range(30)]
    assert any(r["violation"] for r in idle) and not any(r["changed"] for r in idle)
    assert any(bench.row(i, shy)["violation"] for i in range(30))
    (record,) = bench.publish(tmp_path, 8)
    assert (record.name, record.value, record.n) == ("shield/violations/random", 0.0, 8)
    assert [r["violation"] for r in read_rows(record, tmp_path)] == [False] * 8


def leave(action, now, state):
    """Lets every command pass."""
    return Filtered(action, np.zeros(len(action), bool), ("",) * len(action)), state


def shy(action, now, state):
    """Stays where it is, whatever stands about."""
    return leave(np.concatenate([now.state[:, 0, :3], action[:, 3:]], 1), now, state)
