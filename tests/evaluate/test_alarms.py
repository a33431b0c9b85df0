"""Scores and alarms of episodes: what counts, and when."""

from __future__ import annotations

import numpy as np
import pytest

from mindhand.core.errors import BadData
from mindhand.core.keys import Key
from mindhand.evaluate.alarms import Scored, ages, auc, judged, raised


def episode(task: str, index: int, failed: bool, *score: float) -> Scored:
    return Scored(Key("alarms", task, index), failed, np.array(score))


def test_the_area_counts_pairs_and_half_of_ties():
    assert auc([3, 4], [1, 2]) == 1 and auc([1], [2, 3]) == 0 and auc([1, 1], [1]) == 0.5
    assert auc([2, 2], [1, 2, 3, 3]) == (1 + 0.5) / 4
    for bad, good in (([], [1]), ([1], []), ([np.nan], [1])):
        with pytest.raises(BadData):
            auc(bad, good)


def test_an_alarm_is_the_first_over_the_limit_whose_last_holds_on():
    limit = np.array([1.0, 5.0])
    assert raised(np.array([1.0, 2.0, 5.0]), limit) == -1 and raised(np.array([0.0, 6.0, 7.0]), limit) == 1
    assert raised(np.array([0.0, 0.0, 0.0, 5.1]), limit) == 3 and raised(np.array([0.0, np.nan]), limit) == 1
    assert raised(np.array([1e9]), np.array([np.inf])) == -1


def test_scores_are_compared_at_the_age_of_the_shortest_success():
    """Time itself is worth nothing there, and all of it unmatched; tasks are not compared with each other."""
    clock = [episode("a", i, bool(i % 2), *range(1, 9 if i % 2 else 4 + i)) for i in range(4)]
    clock += [episode("b", i, bool(i % 2), *range(50, 59 if i % 2 else 56 + i)) for i in range(4)]
    assert ages(clock) == {"a": 3, "b": 6}
    rows = judged(clock, np.array([6.5]))
    assert [r["above"] for r in rows] == [None, 0.5] * 4
    assert auc([e.score.max() for e in clock[:4] if e.failed], [e.score.max() for e in clock[:4] if not e.failed]) == 1
    assert [r["alarmed"] for r in rows[:4]] == [False, True, False, True] and rows[1]["when"] == 6 / 8
    late = [*clock[:4], episode("a", 9, True, 0, 0, 9, 0), episode("a", 10, True, 0, 0, 0, 99)]
    assert [r["above"] for r in judged(late, np.array([6.5]))[4:]] == [1.0, 0.0], "what comes later does not count"
    none = judged([episode("c", 0, True, 1, 2), episode("c", 1, True, 3)], np.array([2.5]), {"a": 3})
    assert [(r["above"], r["when"]) for r in none] == [(None, None), (None, 0.0)]
