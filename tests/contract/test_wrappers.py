"""What goes round a policy, round another that does: every pair in both orders acts, or is refused when it is built."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import product

import numpy as np
import pytest
import torch

from mindhand.core.errors import BuildError
from mindhand.core.seams import Policy
from mindhand.kit.probe import fingerprint
from mindhand.methods import method, of_way, wrapped
from mindhand.methods.guard import freezevla, safe
from mindhand.methods.run import flashvla, taco
from mindhand.model.hearing import listening, pooled
from mindhand.model.vla import VLA
from mindhand.serve.rows import put_rows

from ..seams.build import observation
from .bases import BASES, ROWS, SPEC, fitted, policy

WRAPPERS = [*of_way("wrap")]
OUTSIDE = ("freezevla", "safe")  # what may go round any other; the rest ask for what a VLA alone gives
OWN = {"flashvla": "reused", "taco": "counts", "safe": "score", "freezevla": "frozen"}  # an extra that tells of each


@cache
def vla(hand: str) -> VLA:
    return policy(BASES[hand]()).eval()


def learned(name: str, inside: Policy):
    """What a method learned, as if of this policy."""
    return replace(fitted(name), of=fingerprint(inside))


def said(name: str, inside: Policy, folder) -> str:
    """A method as it is named round a policy, with what it learned."""
    if not method(name).learns:
        return name
    learned(name, inside).save(folder / name)
    return f"{name}={folder / name}"


@pytest.mark.parametrize("hand", ["flow", "tokens"])
@pytest.mark.parametrize(("inner", "outer"), [*product(WRAPPERS, WRAPPERS)])
def test_a_pair_acts_or_is_refused_with_both_names(inner, outer, hand, tmp_path):
    """Acts: row by row, with what each of the two tells of itself."""
    base, obs = vla(hand), observation(("pick",) * ROWS)
    first = said(inner, base, tmp_path)
    one = wrapped(base, [first])
    if outer not in OUTSIDE:
        with pytest.raises(BuildError, match=f"'{outer}' round '{inner}'"):
            wrapped(base, [first, f"{outer}={tmp_path}" if method(outer).learns else outer])
        return
    both = wrapped(base, [first, said(outer, one, tmp_path / "outer")])
    assert isinstance(both, Policy)
    chunk, state = both.act(obs, both.start(obs.keys))
    assert np.isfinite(chunk.actions).all() and len(chunk) == ROWS
    assert {OWN[inner], OWN[outer]} <= chunk.extra.keys() and "hidden" not in chunk.extra
    assert put_rows(state, both.start(obs.keys), [1], ROWS) is not None


def test_every_wrapper_of_the_catalogue_is_among_them():
    assert set(WRAPPERS) == set(OWN)


def test_who_learned_of_another_stack_is_refused():
    """A score of the bare policy is of none that prunes, or chooses: both are named."""
    base = vla("flow")
    for inside in (flashvla.wrap(base), taco.wrap(base, fitted=fitted("taco"))):
        assert fingerprint(inside) != fingerprint(base)
        with pytest.raises(BuildError, match=rf"'safe' fitted .* round {type(inside).__name__} round VLA"):
            safe.wrap(inside, fitted=fitted("safe"))
    few, many = (fingerprint(flashvla.wrap(base, flashvla.Config(kept=n))) for n in (2, 3))
    assert few != many == fingerprint(flashvla.wrap(base, flashvla.Config(kept=3)))


def test_a_hand_that_is_not_heard_is_refused_when_it_is_built(tmp_path):
    with pytest.raises(BuildError, match=r"'safe' round VLA.*hidden"):
        wrapped(vla("oft"), [said("safe", vla("flow"), tmp_path)])
    bare = freezevla.wrap(vla("oft"))
    assert "hidden" not in bare.provides
    with pytest.raises(BuildError, match=r"'safe' round 'freezevla'.*hidden"):
        wrapped(vla("oft"), ["freezevla", f"safe={tmp_path / 'safe'}"])


def felt(hand: str, samples: int = 1):
    """What the VLA itself felt of each sample, heard at its last layer: (B,S,3,W)."""
    one, obs = vla(hand), observation()
    with listening(one.expert) as calls:
        told, _ = one.propose(obs, one.start(obs.keys), samples, want=("draw",))
    return pooled(calls, told.extra["draw"])


@pytest.mark.parametrize("hand", ["flow", "tokens"])
def test_what_is_wanted_is_what_the_hand_felt(hand):
    """Of one chunk, of several, and the policy does the same as unasked."""
    one, obs = vla(hand), observation()
    plain, _ = one.act(obs, one.start(obs.keys))
    chunk, _ = one.act(obs, one.start(obs.keys), want=("hidden",))
    assert chunk.actions.tobytes() == plain.actions.tobytes() and "hidden" not in plain.extra
    assert torch.equal(chunk.extra["hidden"], felt(hand)[:, 0])
    told, _ = one.propose(obs, one.start(obs.keys), 3, want=("hidden",))
    assert torch.equal(told.extra["hidden"], felt(hand, 3))
    assert torch.equal(told.pick(np.array([2, 0])).extra["hidden"], felt(hand, 3)[[0, 1], [2, 0]])


@pytest.mark.parametrize("hand", ["flow", "tokens"])
def test_a_score_round_a_choice_hears_the_chunk_that_is_taken(hand):
    """Not the first of those that were drawn."""
    inside, obs = taco.wrap(vla(hand), fitted=learned("taco", vla(hand))), observation()
    chunk, _ = inside.act(obs, inside.start(obs.keys), want=("hidden",))
    every = felt(hand, inside.config.samples)
    taken = chunk.extra["chosen"]
    assert taken.any(), "the first is taken in every row: this shows nothing"
    assert torch.equal(chunk.extra["hidden"], every[[0, 1], taken])
    plain, _ = inside.act(obs, inside.start(obs.keys))
    assert np.array_equal(plain.actions, chunk.actions) and "hidden" not in plain.extra


def test_a_score_round_a_chunk_that_is_used_again_hears_that_chunk(monkeypatch):
    """A row that rests is felt as when its chunk was drawn, alone or beside one that does not rest."""
    inside, obs = flashvla.wrap(vla("flow")), [observation(seed=s) for s in range(2)]
    rest = np.array([True, False])
    state = inside.start(obs[0].keys)
    first, state = inside.act(obs[0], state, want=("hidden",))
    monkeypatch.setattr(flashvla, "steady", lambda c, memory, grippers: rest)
    some, _ = inside.act(obs[1], state, want=("hidden",))
    assert torch.equal(some.extra["hidden"][0], first.extra["hidden"][0])
    assert not torch.equal(some.extra["hidden"][1], first.extra["hidden"][1])
    rest = np.array([True, True])
    every, _ = inside.act(obs[1], state, want=("hidden",))
    assert torch.equal(every.extra["hidden"], first.extra["hidden"])
    scored = safe.wrap(inside, fitted=learned("safe", inside))
    told, _ = scored.act(obs[1], {**scored.start(obs[1].keys), "base": state})
    assert told.extra["reused"].all() and (told.extra["score"] > 0).all()


def test_a_defence_round_a_score_hands_on_what_its_view_felt(monkeypatch):
    """Where another view's chunk is taken, its hidden states are, too."""
    base, obs = vla("flow"), observation()
    guard = freezevla.wrap(base, freezevla.Config(patience=1))
    monkeypatch.setattr(freezevla, "frozen", lambda *told: np.array([True, False]))
    monkeypatch.setattr(freezevla, "voted", lambda told, due: np.array([3, 0]))
    plain, _ = base.act(obs, base.start(obs.keys), want=("hidden",))
    chunk, _ = guard.act(obs, guard.start(obs.keys), want=("hidden",))
    assert torch.equal(chunk.extra["hidden"][1], plain.extra["hidden"][1])
    assert not torch.equal(chunk.extra["hidden"][0], plain.extra["hidden"][0])


def test_no_alarm_of_what_is_inside_is_lost():
    base, obs = vla("flow"), observation()
    loud = replace(fitted("safe"), limit=np.array([-1.0]))
    inside = safe.wrap(base, fitted=loud)
    for both in (freezevla.wrap(inside), safe.wrap(inside, fitted=learned("safe", inside))):
        assert both.act(obs, both.start(obs.keys))[0].extra["alarm"].all()


def test_an_end_first_is_banned_however_deep_the_hand_is():
    """Of a hand of FAST's tokens that would end every chunk at once."""
    parts = method("fast").plug(BASES["tokens"](), SPEC)
    one, obs = policy(parts).eval(), observation()
    hand = one.expert
    with torch.no_grad():
        hand.leave.bias[one.codec.end] = 20.0
    for name in ("flashvla", "taco", "safe"):
        m = method(name)
        inside = m.wrap(one, fitted=learned(name, one)) if m.learns else m.wrap(one)
        guard = freezevla.wrap(inside)
        assert all("an end first" in n for n in guard.act(obs, guard.start(obs.keys))[0].extra["note"]), name
    assert not hand.leave._forward_hooks
