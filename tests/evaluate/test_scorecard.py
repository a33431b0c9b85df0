"""The scorecard: whoever knows all scores 1 both ways, a guesser 0, and a model of ours can sit it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mindhand.data.synthetic.vocabulary import train_words
from mindhand.evaluate import scorecard
from mindhand.evaluate.scorecard import DIGEST, PARTS, Score, VLAMind, digest, items, score, take
from mindhand.recipes.nano import NanoPlan, build_reader

COUNT = 24


@pytest.fixture(scope="module")
def reader():
    """A small mind that knows nothing."""
    return build_reader(NanoPlan(size="test", brief=False), train_words(True)).eval()


class Oracle:
    """Knows the items; with `mute` it writes nothing and still finds the right option likeliest."""

    def __init__(self, part: str, mute: bool = False, guess: bool = False):
        self.known = {(i.question, i.image.tobytes()): i.answer for i in items(part, COUNT)}
        self.mute, self.guess = mute, guess

    def answer(self, images, questions):
        if self.mute:
            return [[""] for _ in images]
        return [[self.known[q[0], image.tobytes()]] for image, q in zip(images, questions)]

    def likelihood(self, images, questions, options):
        if self.guess:
            return np.random.default_rng(0).random((len(images), len(options[0])))
        right = [self.known[q, image.tobytes()] for image, q in zip(images, questions)]
        return np.array([[float(o == r) for o in row] for r, row in zip(right, options)])


@pytest.mark.parametrize("part", PARTS)
def test_knowing_all_is_one_both_ways_and_losing_the_format_is_seen_as_that(part):
    some = list(items(part, COUNT))
    for i in some:
        assert i.answer in i.options and len(set(i.options)) == len(i.options) >= 2
    assert len({i.options.index(i.answer) for i in some}) > 1
    full = score(take(Oracle(part), part, COUNT, rows=7))
    assert full.written[part] == full.neutral[part] == 1.0
    lost = score(take(Oracle(part, mute=True), part, COUNT))
    assert lost.written[part] == 0.0 and lost.neutral[part] == 1.0
    assert lost.retention(full) == {part: 1.0}


def test_guessing_is_worth_nothing():
    rows = [r for part in PARTS for r in take(Oracle(part, guess=True), part, COUNT)]
    assert abs(np.mean(list(score(rows).neutral.values()))) < 0.2


def test_what_is_lost_is_counted_by_part():
    base, after = (
        Score({}, {"ocr": 0.8, "maths": 0.5, "count": 0.05}),
        Score({}, {"ocr": 0.4, "maths": -0.1, "count": 0}),
    )
    assert after.retention(base) == {"ocr": 0.5, "maths": 0.0}
    assert after.worst == "maths"


def test_the_items_are_these_and_no_others():
    assert digest() == DIGEST, (
        "The scorecard asks other items than it did: rows of before cannot be compared with rows of now. If that is "
        "meant, write what `python -c 'from mindhand.evaluate.scorecard import digest; print(digest())'` prints into "
        "DIGEST of evaluate/scorecard.py, say why in docs/decisions.md, and take the scorecards anew."
    )
    assert [i.question for i in items("count", 3)] == [i.question for i in items("count", 9)][:3]


def test_what_is_asked_or_shown_decides_which_items_they_are(monkeypatch):
    before, draw, write = digest(1), scorecard.tabletop, scorecard.write_board
    assert digest(1) == before != digest(2)
    monkeypatch.setattr(scorecard, "tabletop", lambda t: replace(sight := draw(t), image=255 - sight.image))
    assert digest(1) == before, "another driver draws other pixels of the same scene"
    monkeypatch.setattr(scorecard, "write_board", lambda *given: replace(board := write(*given), text=f"{board.text} "))
    assert digest(1) != before
    monkeypatch.undo()
    monkeypatch.setattr(scorecard, "OPTIONS", 3)
    assert digest(1) != before


def test_a_model_of_ours_sits_it(reader):
    rows = take(VLAMind(reader), "existence", 5, rows=4)
    assert {r["items"] for r in rows} == {DIGEST}
    assert len(rows) == 5 and all(r["chance"] == 0.5 for r in rows)


def test_likelihood_is_of_the_whole_answer(reader):
    """By hand: the sum over the tokens of one option, one row at a time, is what a batch of options gives."""
    some = list(items("count", 3))
    images, asked = np.stack([i.image for i in some]), [i.question for i in some]
    mind = VLAMind(reader)
    together = mind.likelihood(images, asked, [i.options for i in some])
    for k, item in enumerate(some):
        for j, option in enumerate(item.options):
            alone = mind.likelihood(images[k : k + 1], asked[k : k + 1], [[option]])
            assert np.allclose(alone[0, 0], together[k, j], atol=1e-4)
    assert (together < 0).all()
