"""Chance where nothing is named or chosen: of who is blind to heights, and of who remembers nothing."""

from __future__ import annotations

import numpy as np
import pytest

from mindhand.core.keys import Key
from mindhand.evaluate.protocol import HEIGHTS, HIDDEN
from mindhand.evaluate.report import by_task
from mindhand.evaluate.score_unseen import CHANCE
from mindhand.evaluate.scores import scored
from mindhand.worlds import heights, hidden


def row(task: str, index: int = 0, success: bool = False, **facts) -> dict:
    end = "success" if success else "time"
    return {"key": f"t/{task}/{index}", "task": task, "index": index, "success": success, "end": end, "facts": facts}


def test_every_task_that_leaves_something_to_guess_has_a_chance():
    assert set(CHANCE) == {*HEIGHTS.tasks, *HIDDEN.tasks} - {"height_reaching/flat", "hidden_state/seen"}
    for task in (*HEIGHTS.tasks, *HIDDEN.tasks):
        (found,) = scored([row(task)], "noise2")
        assert found.get("success_chance") == CHANCE.get(task)
    (line,) = by_task(scored([row("hidden_state/count", i, i < 3) for i in range(10)]))
    assert line.chance == {"success": pytest.approx(hidden.CHANCE["count"])} and line.measures["success"].value == 0.3


def test_the_chance_of_heights_is_that_of_one_height_for_all():
    made = [heights.sample_heights_task(Key("t", "height_reaching/varied", i)).height for i in range(800)]
    share = np.mean(np.abs(np.array(made) - heights.MEAN) <= heights.BAND)
    assert CHANCE["height_reaching/varied"] == pytest.approx(0.2) and abs(share - 0.2) < 0.04


def test_why_is_the_world_s_own_word():
    lost, late, done = scored([
        row("height_reaching/flat", why="too high"), row("hidden_state/back"), row("hidden_state/back", success=True)
    ])  # fmt: skip
    assert (lost["why"], late["why"], done["why"]) == ("too high", "time", "")
