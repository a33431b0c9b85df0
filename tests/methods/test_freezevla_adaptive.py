"""FreezeVLA's attack where it knows the defence: it climbs for the views, and past the end that is banned."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from mindhand.core.keys import Keys
from mindhand.core.red_team import WORD
from mindhand.kit.views import several
from mindhand.methods.guard.freezevla import ARMS, Score, freeze
from mindhand.recipes.red_team import Plan

from ..seams.build import observation
from .test_freezevla import HOW, REFS, base, synonyms

KNOWING = replace(HOW, views=3, words=0, steps=8, alpha=2 / 255)


def found(hand: str, how, seed: int):
    """What the attack finds, and the score of who knows the ban."""
    vla, obs = base(hand), observation(("pick",), seed=seed)
    state = vla.start(obs.keys)
    return freeze(vla, obs, state, REFS, synonyms, how, word=WORD), Score(vla, obs, state, True)


def viewed(one, score, seed: int) -> float:
    """How likely nothing is done for views that no attack drew."""
    with torch.no_grad():
        seen = several(score.put(one.picture), 6, Keys.seeded(1, "fresh", seed))[1:]
        return float(torch.stack([score(x, REFS[:2]) for x in seen]).mean())


def test_an_attack_that_knows_the_views_is_not_undone_by_them():
    """In most pictures what it finds holds in views that it never drew, better than what an attack finds that knows
    nothing of them; in as many steps, inside the same ball."""
    better = []
    for seed in range(6):
        (knows, score), (blind, _) = (found("oft", how, seed) for how in (KNOWING, replace(KNOWING, views=0)))
        better.append(viewed(knows, score, seed) > viewed(blind, score, seed))
        assert knows.passes == 4 * blind.passes  # the picture and three views a step
        assert np.abs(knows.picture.astype(int) - score.picture).max() <= 8
    assert np.mean(better) > 0.8


def test_without_views_it_is_the_attack_as_it_was():
    """Bit by bit, and the same again."""
    one, again = (found("oft", replace(KNOWING, views=0), 0)[0] for _ in range(2))
    other = found("oft", KNOWING, 0)[0]
    assert np.array_equal(one.picture, again.picture) and not np.array_equal(one.picture, other.picture)
    assert np.array_equal(other.picture, found("oft", KNOWING, 0)[0].picture)


def test_an_end_that_is_banned_is_no_aim():
    """Of FAST who knows the ban climbs for the tokens that stay: their chance rises, whatever becomes of the end's."""
    (knows, score), (blind, _) = (found("fast", how, 0) for how in (KNOWING, replace(KNOWING, views=0)))
    free = Score(base("fast"), score.obs, score.state)
    with torch.no_grad():
        clean, end = score(score.put(score.picture), REFS[:1]), free(score.put(score.picture), REFS[:1])
        assert clean < end, "a chunk that stays is more than its end"
        a, b = (float(score(score.put(one.picture), REFS[:2]).mean()) for one in (knows, blind))
        assert a > b
    assert knows.after > knows.before


def test_noise_is_as_large_as_the_attack():
    """Every pixel is as far off as the attack may go, or at an end."""
    (noise, score) = found("oft", replace(HOW, steps=0), 0)
    clean = score.picture.astype(int)
    far = np.abs(noise.picture.astype(int) - clean)
    assert set(far[(clean >= 8) & (clean <= 247)].tolist()) == {8} and 0.3 < (noise.picture > clean).mean() < 0.7


def test_no_report_is_without_one_that_knows():
    assert ARMS["adaptive"].views > 0 == ARMS["full"].views and "adaptive" in Plan().arms
