"""What stages do and keep, in the report: every number with its interval, and one drawing of both."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from mindhand.core.intervals import wilson
from mindhand.evaluate.page import rate
from mindhand.evaluate.scorecard import score
from mindhand.recipes.stages import StageRows, kept_tables, least_kept

R, X = "maths_matching/R", "maths_matching/X"


def mind(**right: tuple[int, int]) -> list[dict]:
    """40 items of each part: so many written right, so many found likeliest, of four options."""
    return [
        {"key": f"{part}/{i}", "part": part, "right": i < written, "likely": i < likely, "chance": 0.25}
        for part, (written, likely) in right.items() for i in range(40)
    ]  # fmt: skip


def episodes(**done: int) -> list[dict]:
    return [
        {"task": f"maths_matching/{split}", "success": i < hits, "success_chance": 0.2}
        for split, hits in done.items() for i in range(20)
    ]  # fmt: skip


STAGES = [
    StageRows("the base", mind(ocr=(36, 40), maths=(20, 34)), []),
    StageRows("warm-up", mind(ocr=(30, 40), maths=(18, 25)), episodes(R=4, X=1)),
    StageRows("all stages", mind(ocr=(4, 22), maths=(2, 34)), episodes(R=15, X=6)),
]


def text(cell) -> str:
    return re.sub("<[^>]*>", " ", getattr(cell, "html", str(cell)))


def test_every_task_has_a_rate_of_its_own_with_interval_and_chance():
    (_, columns, body), *_ = kept_tables(STAGES)
    assert columns == ["after", "In-domain (R): success", "True novelty (X): success", "least kept"]
    assert [row[0] for row in body] == ["the base", "warm-up", "all stages"]
    assert body[0][1:3] == [None, None]
    for row, hits in ((body[1], (4, 1)), (body[2], (15, 6))):
        assert row[1:3] == [rate(wilson(h, 20), 0.2) for h in hits]
        assert all("chance 20" in text(cell) for cell in row[1:3])


def test_the_least_that_is_kept_has_an_interval():
    said = [row[-1] for row in kept_tables(STAGES)[0][2]]
    assert said[0] == "1.00 (1.00 to 1.00), ocr"
    for stage, part, words in ((STAGES[1], "maths", said[1]), (STAGES[2], "ocr", said[2])):
        found, kept = least_kept(stage.mind, STAGES[0].mind)
        assert found == part and kept.value == pytest.approx(score(stage.mind).retention(score(STAGES[0].mind))[part])
        assert 0 <= kept.low < kept.value < kept.high and words == (
            f"{kept.value:.2f} ({kept.low:.2f} to {kept.high:.2f}), {part}"
        )
    _, none = least_kept(mind(ocr=(0, 2), maths=(0, 34)), STAGES[0].mind)
    assert none.value == none.low == none.high == 0.0  # less than a guesser knows is nothing
    assert least_kept(STAGES[1].mind, mind(ocr=(0, 10))) == (None, None)


def test_parts_are_shares_of_rows_with_wilson_s_interval():
    _, (_, columns, body), _ = kept_tables(STAGES)
    assert columns == ["after", "ocr", "maths"] and len(body) == 6
    assert body[4] == ["all stages, written", rate(wilson(4, 40)), rate(wilson(2, 40))]
    assert body[5] == ["all stages, likeliest option", rate(wilson(22, 40), 0.25), rate(wilson(34, 40), 0.25)]


def test_success_is_drawn_against_what_is_kept():
    *_, (heading, drawing) = kept_tables(STAGES)
    root = ElementTree.fromstring(re.search("<svg.*</svg>", drawing.html, re.DOTALL)[0])
    circles = [(float(c.get("cx")), float(c.get("cy"))) for c in root.iter("circle")]
    words = [t.text for t in root.iter("text")]
    assert len(circles) == 4 and words.count("warm-up") == words.count("all stages") == 2 and "the base" not in words
    assert {"In-domain (R)", "True novelty (X)"} < set(words) and root.get("aria-label") == heading
    (x, y), (u, v), (_, low), _ = circles
    kept = [least_kept(stage.mind, STAGES[0].mind)[1].value for stage in STAGES[1:]]
    assert (x - u) / (kept[0] - kept[1]) == pytest.approx(460 - 54 - 14, abs=1.5)  # the width from 0 to 1
    assert (y - v) / (15 / 20 - 4 / 20) == pytest.approx(340 - 34 - 46, abs=1.5) and low > y
    assert len(kept_tables(STAGES[:1])) == 2  # nothing is done, nothing is drawn
