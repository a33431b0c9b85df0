"""The image-text beside a family's demonstrations: what class R (and C, of sums) can be asked about, K and X never."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from mindhand.data.synthetic.blend import Blend, Corpus
from mindhand.data.synthetic.corpus import COTRAIN_FONTS, DeskCorpus, cotraining
from mindhand.data.synthetic.mix import COTRAIN
from mindhand.data.synthetic.samples import ImageText
from mindhand.data.synthetic.toy_corpus import SHARES, ToyCorpus
from mindhand.data.synthetic.toy_picture import tabletop
from mindhand.data.synthetic.toy_plans import PLAN
from mindhand.worlds import scene

from .nano import BRIEF

TOYS = 0.7  # share of the steps, or rows, that are about toys, where toys are placed
PLANS = 0.4  # of those, the share of the questions that ask for thoughts
Sampler = Callable[[int, int], ImageText]


def _desk(seed: int, steps: int, rows: int, questions: int, brief: bool, words: bool) -> DeskCorpus:
    # What was never asked in pretraining is not asked now: to learn it would cost what is known (docs/log.md).
    mix = replace(BRIEF, early=BRIEF.full, until=0.0, facts=0) if brief else COTRAIN
    return replace(cotraining(seed, max(steps, 1), rows, questions), mix=mix, think=0 if words else math.inf)


def _toys(seed: int, rows: int, questions: int, words: bool) -> ToyCorpus:
    plans = PLANS if words else 0.0
    rest = [(kind, share) for kind, share in SHARES if kind != PLAN]
    by = (1 - plans) / sum(share for _, share in rest)
    shares = ((PLAN, plans), *((kind, share * by) for kind, share in rest))
    return ToyCorpus(seed, tabletop, rows, questions, COTRAIN_FONTS, ("R",), shares, written=False)


def warm_up(family: str, seed: int, steps: int, *, brief: bool, words: bool) -> Corpus:
    """Of the first stage: 32 pictures a step with 4 questions each; half of the steps ask for the thoughts of a robot,
    if it thinks in `words`. brief: ask of the desk only what a brief pretraining asked."""
    desk = _desk(seed, steps, 32, 4, brief, words)
    desk = replace(desk, mix=replace(desk.mix, bare=0.0))
    return Blend(desk, _toys(seed, 32, 4, words), TOYS) if family != scene.FAMILY else desk


def beside(family: str, seed: int, steps: int, rows: int, *, brief: bool, words: bool) -> Sampler:
    """Of the second stage: a picture with one question for (step, row)."""
    desk = _desk(seed, steps, rows, 1, brief, words)
    return Blend(desk, _toys(seed, rows, 1, words), TOYS).sample if family != scene.FAMILY else desk.sample
