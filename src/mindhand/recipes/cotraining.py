"""The image-text beside demonstrations of some families: of class R (and C, of sums), of K and X never."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

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
NUMBERS = ("amount",)  # kinds of question about toys whose answers are written in digits
Sampler = Callable[[int, int], ImageText]


@dataclass(frozen=True)
class Asked:
    """What may be asked. brief: of the desk only what a brief pretraining asked. words: a robot that thinks is trained,
    and some questions ask for its thoughts. digits: False is the paper's filter (2505.21906, on data): no question and
    no answer holds a digit or an operator; all are about toys."""

    brief: bool
    words: bool = True
    digits: bool = True


def _desk(seed: int, steps: int, rows: int, questions: int, how: Asked) -> DeskCorpus:
    # What was never asked in pretraining is not asked now: to learn it would cost what is known (docs/log.md).
    mix = replace(BRIEF, early=BRIEF.full, until=0.0, facts=0) if how.brief else COTRAIN
    return replace(cotraining(seed, max(steps, 1), rows, questions), mix=mix, think=0 if how.words else math.inf)


def _toys(seed: int, rows: int, questions: int, plans: float, digits: bool) -> ToyCorpus:
    rest = [(kind, share) for kind, share in SHARES if kind != PLAN and (digits or kind not in NUMBERS)]
    by = (1 - plans) / sum(share for _, share in rest)
    shares = ((PLAN, plans), *((kind, share * by) for kind, share in rest))
    return ToyCorpus(seed, tabletop, rows, questions, COTRAIN_FONTS, ("R",), shares, written=False)


def _blend(families: Sequence[str], desk: DeskCorpus, how: Asked) -> Corpus:
    toys = set(families) != {scene.FAMILY}
    if not toys and how.digits:
        return desk
    plans = PLANS if how.words and toys else 0.0
    return Blend(desk, _toys(desk.seed, desk.rows, desk.questions, plans, how.digits), TOYS if how.digits else 1.0)


def warm_up(families: Sequence[str], seed: int, steps: int, how: Asked) -> Corpus:
    """Of the first stage: 32 pictures a step with 4 questions each; half of the steps ask for the thoughts of a robot,
    if it thinks in words."""
    desk = _desk(seed, steps, 32, 4, how)
    return _blend(families, replace(desk, mix=replace(desk.mix, bare=0.0)), how)


def beside(families: Sequence[str], seed: int, steps: int, rows: int, how: Asked) -> Sampler:
    """Of the second stage: a picture with one question for (step, row)."""
    return _blend(families, _desk(seed, steps, rows, 1, how), how).sample
