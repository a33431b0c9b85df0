"""What perturbations take, axis by axis: pooled over levels, paired with the same scenes clean."""

from __future__ import annotations

import re

import numpy as np
import pytest

from mindhand.core.errors import BadData
from mindhand.core.intervals import bootstrap, wilson
from mindhand.evaluate.page import points, rate
from mindhand.recipes.perturbed import axes_table, by_axis, levels_table, pooled

TASKS, SCENES = ("maths_matching/R", "maths_matching/X"), 30


def rows(hits: int, chance: float = 0.25) -> list[dict]:
    """Episodes of two tasks: in the first this many succeed, in the second half of them; the tile is always right."""
    return [
        {"key": f"{task}/{i}", "task": task, "success": i < hits // (1 + k), "success_chance": chance,
         "choice": True, "choice_chance": 0.5}
        for k, task in enumerate(TASKS) for i in range(SCENES)
    ]  # fmt: skip


CLEAN = rows(24)
CHANGED = {**{f"camera{n}": rows(24 - 4 * n, 0.2) for n in range(1, 6)}, "light5": rows(24), "light5+noise1": rows(2)}


def test_axes_are_told_by_the_arms_that_change_nothing_else():
    assert by_axis(list(CHANGED)) == {"camera": [f"camera{n}" for n in range(1, 6)], "light (level 5)": ["light5"]}
    assert list(by_axis(["noise4", "noise2", "start1+noise1"])) == ["noise (levels 2, 4)"]


def test_an_axis_is_pooled_over_its_levels_and_paired_with_clean():
    _, columns, body = axes_table(CLEAN, CHANGED)
    assert columns[:5] == ["", "In-domain (R): success", "against clean", "In-domain (R): choice", "against clean"]
    assert [row[0] for row in body] == ["clean", "camera", "light (level 5)", "mean of the perturbed"]
    scenes = np.array([[i < 24 - 4 * n for i in range(SCENES)] for n in range(1, 6)]).mean(0)
    before = np.arange(SCENES) < 24
    camera = body[1]
    assert camera[1] == rate(bootstrap(scenes), 0.2) and camera[2] == points(bootstrap(scenes - before), " points")
    assert scenes.mean() == pytest.approx(12 / 30) and camera[2].startswith("-40 points (")
    assert body[2][2] == "+0 points (+0 to +0)" and camera[4] == "+0 points (+0 to +0)"
    assert body[0][1] == rate(wilson(24, SCENES), 0.25) and body[0][2] is None


def test_the_mean_of_all_has_interval_and_chance():
    _, _, body = axes_table(CLEAN, CHANGED)
    scenes = np.array([[i < n for i in range(SCENES)] for n in (20, 16, 12, 8, 4, 24, 2)]).mean(0)
    chance = (5 * 0.2 + 2 * 0.25) / 7
    said = re.search('aria-label="([^"]*)"', body[-1][1].html)[1]
    found = bootstrap(scenes)
    assert said == (
        f"{100 * found.value:.1f} %, 95 % interval {100 * found.low:.1f} to {100 * found.high:.1f}, "
        f"chance {100 * chance:.1f} %"
    )


def test_levels_of_one_scene_are_no_further_scenes():
    """Ten arms that do the same to each scene tell as much as one does: Wilson's interval of them all would not."""
    once, _ = pooled(CLEAN[:SCENES], [rows(15)[:SCENES]], "success")
    often, _ = pooled(CLEAN[:SCENES], [rows(15)[:SCENES]] * 10, "success")
    assert (once.low, once.high, once.n) == (often.low, often.high, often.n) and once.n == SCENES
    assert wilson(150, 300).high - wilson(150, 300).low < 0.5 * (often.high - often.low)
    with pytest.raises(BadData, match="other episodes"):
        pooled(CLEAN, [CHANGED["light5"][::-1]], "success")


def test_every_level_has_its_line():
    _, columns, body = levels_table(CLEAN, CHANGED)
    assert [row[0] for row in body] == ["clean", *CHANGED] and len(columns) == 5
    assert body[3][3] == rate(wilson(6, SCENES), 0.2)
