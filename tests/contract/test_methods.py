"""What every method owes: it learns, pads nothing in, acts, survives a checkpoint, and has the effect that it names."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from mindhand.core.errors import BadData, BuildError
from mindhand.core.keys import Keys
from mindhand.core.nouns import Filtered
from mindhand.core.seams import Filter, Policy
from mindhand.data.lerobot_read import LeRobotReader
from mindhand.data.lerobot_write import LeRobotWriter
from mindhand.data.relabelled import ADDED, Relabelled
from mindhand.methods import catalogue, label, method, of_way, wrapped
from mindhand.model.store import load_vla, save_vla
from mindhand.serve.rows import put_rows

from ..seams.build import observation
from .bases import (
    BASES,
    DESK,
    ROWS,
    SPEC,
    around,
    commands,
    examples,
    fitted,
    leave,
    policy,
    recorded,
    relabelled,
)


def both(name):
    """The base with the method, and without; neither is learning. Of what corrects: the filter, and one that does
    nothing. Of what relabels: a dataset with its samples, and as it was."""
    found = method(name)
    if found.way == "correct":
        return found.correct(DESK), leave
    if found.way == "relabel":
        return relabelled(name), Relabelled(recorded())
    base = BASES[found.card.base]
    off = policy(base()).eval()
    if found.way == "wrap":
        return around(found, policy(base()).eval()), off
    return policy(found.plug(base(), SPEC)).eval(), off


def learned(vla, batch):
    """Losses, and every gradient."""
    vla.train()
    vla.zero_grad()
    losses = vla.losses(batch, Keys.seeded(len(batch), 0))
    sum(x.sum() for x in losses.values()).backward()
    return losses, {n: p.grad.clone() for n, p in vla.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", of_way("plug"))
def test_it_learns_and_padding_changes_nothing(name):
    vla, _ = both(name)
    batch = examples(vla.backbone, 3)
    losses, gradients = learned(vla, batch)
    assert "action" in losses and all(bool(torch.isfinite(x).all()) for x in losses.values())
    assert any(bool(g.any()) for g in gradients.values())
    junk = torch.where(batch.action_valid.unsqueeze(-1), batch.actions, torch.full_like(batch.actions, 7.0))
    other, again = learned(vla, replace(batch, actions=junk))
    for n in losses:
        assert torch.equal(losses[n], other[n])
    assert all(torch.equal(g, again[n]) for n, g in gradients.items())


@pytest.mark.parametrize("name", of_way("plug"))
def test_it_acts_the_same_after_a_checkpoint(name, tmp_path):
    vla, _ = both(name)
    assert vla.spec == SPEC
    obs = observation(("pick",) * ROWS)
    chunk, _ = vla.act(obs, vla.start(obs.keys))
    assert chunk.actions.shape[0] == ROWS and chunk.actions.shape[2] == SPEC.action_size
    assert np.isfinite(chunk.actions).all()
    save_vla(vla, tmp_path / "it", smoke=obs)
    again = load_vla(tmp_path / "it", SPEC)
    assert np.array_equal(again.act(obs, again.start(obs.keys))[0].actions, chunk.actions)


@pytest.mark.parametrize("name", of_way("wrap"))
def test_what_wraps_acts_for_every_row_as_for_itself(name):
    """A state that is told by row, a chunk of the spec for each, and an episode that knows nothing of another's."""
    wrapped, base = both(name)
    assert isinstance(wrapped, Policy) and wrapped.spec == base.spec
    told = observation(("pick",) * ROWS)

    def run(obs, state):
        out = []
        for _ in range(4):
            chunk, state = wrapped.act(obs, state)
            out.append(chunk)
        return out, state

    chunks, after = run(told, wrapped.start(told.keys))
    assert all(np.isfinite(c.actions).all() and len(c) == ROWS for c in chunks)
    assert {c.actions.shape[2] for c in chunks} == {SPEC.action_size}
    fresh = put_rows(after, wrapped.start(told.keys), [1], ROWS)
    assert fresh is not None, "its state cannot be told by row"
    again, _ = run(told, fresh)
    assert all(np.array_equal(a.actions[1], b.actions[1]) for a, b in zip(again, chunks))


def test_what_goes_round_a_policy_is_told_what_is_inside():
    """A chosen order; a need that is not met names both."""
    base = policy(BASES["tokens"]()).eval()
    inside = wrapped(base, ["flashvla"])
    assert inside.base is base and wrapped(base, []) is base
    with pytest.raises(BuildError, match=r"'flashvla' round 'flashvla'.*trunk"):
        wrapped(base, ["flashvla", "flashvla"])
    with pytest.raises(BuildError, match="'fast' round a policy"):
        wrapped(base, ["fast"])
    with pytest.raises(BuildError, match="'flashvla' fitted"):
        wrapped(base, ["flashvla=folder"])


@pytest.mark.parametrize("name", [n for n, m in of_way("wrap").items() if m.learns])
def test_what_learns_before_it_wraps_is_kept_and_found(name, tmp_path):
    """Without what it learned it is refused; with it, saved and named, it acts the same."""
    found = method(name)
    base = policy(BASES[found.card.base]()).eval()
    with pytest.raises(BuildError, match="fit"):
        wrapped(base, [name])
    fitted(name).save(tmp_path / "it")
    obs = observation(("pick",) * ROWS)
    made = (around(found, base), wrapped(base, [f"{name}={tmp_path / 'it'}"]))
    a, b = (p.act(obs, p.start(obs.keys))[0].actions for p in made)
    assert np.array_equal(a, b)
    assert re.fullmatch(rf"flashvla\+{name}=[0-9a-f]{{12}}", label(["flashvla", f"{name}={tmp_path / 'it'}"]))


def owes(filt):
    """What a filter owes: whole commands, bit by bit as they were where it says so, for every row as for it alone, and
    the same again from a state that was used."""
    state, alone, done = {}, [{} for _ in range(ROWS)], set()
    for action, now in commands():
        given = action.copy()
        out, after = filt(action, now, state)
        again, _ = filt(action, now, state)
        assert np.array_equal(action, given), "what it was given is another's"
        assert out.action.shape == action.shape and out.action.dtype == np.float32 and np.isfinite(out.action).all()
        assert out.action[~out.intervened].tobytes() == action[~out.intervened].tobytes()
        assert [bool(why) for why in out.why] == out.intervened.tolist()
        assert np.array_equal(again.action, out.action), "a state that was used gives another answer"
        for r in range(ROWS):
            one, alone[r] = filt(action[r : r + 1], now.rows([r]), alone[r])
            assert np.array_equal(one.action[0], out.action[r]), "a row knows its neighbours"
        done |= set(out.intervened.tolist())
        state = after
    assert done == {True, False}, "commands in which it has something to do, and some in which not"


@pytest.mark.parametrize("name", of_way("correct"))
def test_what_corrects_says_what_it_changed_for_every_row_as_for_itself(name):
    assert isinstance(method(name).correct(DESK), Filter)
    owes(method(name).correct(DESK))


def test_a_filter_that_owes_something_is_seen():
    def told(action, out, why="so"):
        changed = (out != action).any(1)
        return Filtered(out.astype(np.float32), changed, tuple(why * int(c) for c in changed))

    most = np.array([0.3, *[2.0] * 9], np.float32)  # of x alone

    def good(action, now, state):
        return told(action, np.minimum(action, most)), state

    def leaning(action, now, state):
        return told(action, np.where(action > most, action.mean(0), action)), state

    def silent(action, now, state):
        return replace(good(action, now, state)[0], intervened=np.zeros(ROWS, bool)[: len(action)]), state

    def writing(action, now, state):
        state["count"] = state.get("count", 0) + 1
        return told(action, np.minimum(action, most / state["count"])), state

    owes(good)
    for bad in (leave, leaning, silent, writing):
        with pytest.raises(AssertionError):
            owes(bad)


def keeps(source, made):
    """What a relabelled dataset owes: every episode that it did not add is one of the source's, as it was; every one
    that it did begins in a frame of the source, to the bit, and says what that frame did not."""
    r, roles, old = made.reader, source.spec.roles, {e.key: e for e in source.episodes}
    pictures = {role: source.images(role, np.arange(len(source))) for role in roles}
    added = 0
    for e in r.episodes:
        if e.key.protocol != ADDED:
            mine, theirs = r.episode(e.number), source.episode(old[e.key].number)
            assert mine.instruction == theirs.instruction and mine.reasoning == theirs.reasoning
            assert np.array_equal(mine.action, theirs.action) and np.array_equal(mine.state, theirs.state)
            assert all(np.array_equal(mine.images[role], theirs.images[role]) for role in roles)
            continue
        added += 1
        seen = {role: r.images(role, [e.begin])[0] for role in roles}
        same = [
            i for i in np.flatnonzero((source.state == r.state[e.begin]).all(1))
            if all(np.array_equal(pictures[role][i], seen[role]) for role in roles)
        ]  # fmt: skip
        assert same, f"{e.key} begins where no demonstration was"
        assert r.instruction(e.begin) not in {source.instruction(i) for i in same}
    assert added and sum(len(s.rows) for s in made.sets(np.arange(len(r))) if s.name == ADDED) == added


@pytest.mark.parametrize("name", of_way("relabel"))
def test_what_relabels_keeps_what_was_there_and_adds_to_it(name):
    """And what is asked for again is the same, to the bit."""
    before = recorded().fingerprint()
    made = relabelled(name)
    keeps(recorded(), made)
    assert LeRobotReader(recorded().path).fingerprint() == before
    again = relabelled(name, again=1)
    assert again.reader.path != made.reader.path and again.reader.fingerprint() == made.reader.fingerprint()
    assert again.rows == made.rows and again.report == made.report


def test_a_relabelled_dataset_that_owes_something_is_seen(tmp_path):
    """A pixel of a frame, what was said there, a command of a demonstration."""
    made = relabelled(next(iter(of_way("relabel"))))
    first = next(e.number for e in made.reader.episodes if e.key.protocol == ADDED)

    def spoilt(name, number, **change):
        about, path = made.reader.about, tmp_path / name
        with LeRobotWriter(path, DESK, pictures="model", labels=about["labels"], scene=about["scene"]) as writer:
            for k in dict.fromkeys((0, first)):
                whole = made.reader.episode(k)
                writer.append(replace(whole, **{n: f(whole) for n, f in change.items()}) if k == number else whole)
        return Relabelled(LeRobotReader(path))

    def dot(e):
        return {role: np.where(np.arange(x.size).reshape(x.shape) == 0, 255 - x, x) for role, x in e.images.items()}

    keeps(recorded(), spoilt("good", -1))
    for name, number, change in (
        ("seen", first, {"images": dot}),
        ("said", first, {"instruction": lambda e: recorded().instruction(0)}),
        ("done", 0, {"action": lambda e: e.action + np.float32(1e-3)}),
        ("told", 0, {"instruction": lambda e: "wait"}),
    ):
        with pytest.raises(AssertionError):
            keeps(recorded(), spoilt(name, number, **change))


def test_a_method_goes_its_own_way_only():
    for name, found in catalogue().items():
        for way in {"plug", "wrap", "correct", "relabel"} - {found.way}:
            with pytest.raises(BuildError, match=name):
                getattr(found, way)


@pytest.mark.parametrize("name", catalogue())
def test_its_effect_is_seen_where_it_is_and_not_where_it_is_not(name):
    on, off = both(name)
    assert method(name).probe(on, off)
    assert not method(name).probe(off, off)


def test_cards_are_those_of_their_files():
    for name, found in catalogue().items():
        assert found.module.__name__ == f"mindhand.methods.{found.card.area}.{name}"
        assert len((found.module.__doc__ or "").splitlines()) <= 12
        assert found.card.arxiv in found.module.__doc__
    with pytest.raises(BadData, match="fast"):
        method("slow")
