"""The whole corpus of nano: every fact comes up in words alone, every kind of question gets its share."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

import pytest

from mindhand.data.synthetic.blend import FACTS, TOYS
from mindhand.data.synthetic.flat import flat_table
from mindhand.data.synthetic.moments import Moment
from mindhand.data.synthetic.questions import KINDS
from mindhand.data.synthetic.toy_corpus import UNEQUAL, WIDE, known_sums
from mindhand.data.synthetic.toy_questions import ABOUT_TOYS, CHART, SUM
from mindhand.recipes.nano import corpus_of
from mindhand.recipes.pretrain import WHOLE
from mindhand.worlds.equations import Equation
from mindhand.worlds.scene import KNOWN, equations
from mindhand.worlds.wide import wide_equations

CORPUS = corpus_of(WHOLE)
EVERY = (
    {e.text for split in KNOWN for e in equations(split)},
    {e.text for split in ("K-dev", "K-test") for e in wide_equations(split)},
)
LEAST = 8_000  # questions that a skill needs before it turns


def spoken(steps: range) -> Counter[str]:
    """Which fact each question of the text-only stream is about, over these steps."""
    rows = range(FACTS * CORPUS.rows)
    told = [qa for step in steps for qa in CORPUS.facts(step, rows)]
    return Counter(re.search(r"\d+[-+x]\d+", qa.question).group() for qa in told)


def test_facts_in_words_are_drawn_from_all_of_both_universes_and_nothing_else():
    assert tuple({e.text for e in some} for some in known_sums()) == EVERY
    assert all(Equation.parse(text).answer < 100 for text in EVERY[1])
    near, far = EVERY
    assert not near & far and not (near | far) & {e.text for e in (*equations("X"), *wide_equations("X"))}
    told = spoken(range(300))
    count = sum(told.values())
    assert set(told) <= near | far and near <= set(told)
    # As many different ones as fall out where every one is as likely as its sort: a hole would be missing.
    unequal = [e for e in known_sums()[1] if len(str(e.a)) != len(str(e.b))]
    p = {e.text: WIDE * (1 - UNEQUAL) / len(far) for e in known_sums()[1]}
    for e in unequal:
        p[e.text] += WIDE * UNEQUAL / len(unequal)
    expected = sum(1 - (1 - x) ** count for x in p.values())
    assert abs(len(far & set(told)) / expected - 1) < 0.02


@pytest.mark.slow
def test_every_fact_of_both_universes_is_spoken_in_words_alone():
    left, step = EVERY[0] | EVERY[1], 0
    while left and step < WHOLE.steps:
        left -= spoken(range(step, step + 100)).keys()
        step += 100
    assert not left, f"{len(left)} facts are never said, such as {sorted(left)[:5]}"


def test_every_kind_of_question_about_toys_gets_its_share():
    toys = replace(CORPUS.toys, picture=flat_table)  # the same questions, and no simulator
    some = range(0, WHOLE.steps, WHOLE.steps // 240)
    found = Counter(qa.kind for step in some for qa in toys.sample(step, 0).questions)
    asked = {kind: n / len(some) * WHOLE.pictures * TOYS for kind, n in found.items()}
    assert set(asked) == {*ABOUT_TOYS, *SUM, *CHART, "number", "notice"}
    short = {kind: round(n) for kind, n in asked.items() if n < LEAST and kind not in CHART}
    assert not short and sum(asked[kind] for kind in CHART) > LEAST  # the four of them are one skill


def test_every_kind_of_question_about_the_desk_gets_its_share():
    desk, found = CORPUS.desk, Counter()
    some = range(0, WHOLE.steps, 20)
    for step in some:
        if desk.sort(step) == "thought":
            found["think"] += 1
            continue
        for qa in desk.asked(step, 0, Moment(desk.scene(step, 0))):
            found.update(part.kind for part in qa.parts or (qa,))
    asked = {kind: n / len(some) * WHOLE.pictures * (1 - TOYS) for kind, n in found.items()}
    assert set(asked) == {*KINDS, "think"} - {"next"}
    assert min(asked.values()) > LEAST, asked
