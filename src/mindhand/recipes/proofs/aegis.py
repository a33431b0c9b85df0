"""AEGIS behind a policy that never met an obstacle in its way: what it hits, and what it still does.

The policy learns to place toys where obstacles stand apart, and is tried where they stand beside its ways and across
them. Controls: AEGIS that sees them in depth instead of being told, and a hand-made push instead of a barrier. What a
shield does for a hand that finds its way back is `mindhand bench avoid`; here the hand has to have learned that."""

from __future__ import annotations

from dataclasses import replace

from mindhand.core.seams import Filter, World
from mindhand.evaluate.protocol import COURSE
from mindhand.methods.guard.aegis import correct, sighted
from mindhand.worlds.desk.spec import SPEC
from mindhand.worlds.desk.world import DeskWorld

from ..bench_avoid import EYE, SENSES, Repulsion
from ..places import DESK
from ..rollouts import shield_of
from . import Proof
from .bench import Arm, Bench

CLEAR, *HARD = COURSE.tasks
BENCH = Bench("flow", COURSE.only(*HARD, episodes=60), demonstrations=160, every=2, horizon=16, shown=(CLEAR,))


def _seen(rows: int) -> World:
    return sighted(DeskWorld(rows, senses=SENSES), (EYE,))


def _pushing() -> list[Filter]:
    return [Repulsion(correct(SPEC))]


TOLD = shield_of(("aegis",), DESK)
ARMS = (
    Arm("aegis", shield=TOLD),
    Arm("seen", shield=replace(TOLD, name="seen", worlds=lambda made: _seen)),
    Arm("repulsion", shield=replace(TOLD, name="repulsion", filters=_pushing)),
)
PROOF = Proof("aegis", BENCH, ARMS, scores=("hit",))
