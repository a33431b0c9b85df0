"""The executor: an episode is its key's alone, pictures are drawn only for queries, bad answers are named."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mindhand.core.errors import BuildError, Refusal, SpecMismatch
from mindhand.core.nouns import ActionChunk, Filtered, Reasoning
from mindhand.core.seams import Policy, World
from mindhand.evaluate.run import row_of
from mindhand.serve.execute import Film, run_episodes, small
from tests.tiny_world import SPEC, STEP, Growing, Leaning, TinyWorld, Walker, keys

KEYS = keys(20)
HOW = {"replan": 4, "horizon_steps": 60}


def run(policy, order=KEYS, rows=8, **more):
    return run_episodes(policy, TinyWorld(rows, more.pop("limits", None)), order, rows=rows, **{**HOW, **more})


def test_the_tiny_world_and_its_policies_are_what_the_seams_ask_for():
    assert isinstance(TinyWorld(1), World)
    assert isinstance(Walker(), Policy)
    results = run(Walker())
    assert [r.key for r in results] == KEYS
    assert sum(r.success for r in results) >= 18
    assert all(r.queries == -(-r.steps // 4) for r in results)
    assert len({r.queries for r in results}) >= 3  # rows fall out of step


@pytest.mark.parametrize("kind", [Walker, Growing])
@settings(max_examples=10)
@given(order=st.permutations(KEYS), count=st.integers(1, 20))
def test_neighbours_do_not_matter(kind, order, count):
    all_of_them = {r.key: r for r in run(kind(wrong=0.3))}
    for result in run(kind(wrong=0.3), order[:count]):
        assert result == all_of_them[result.key]


def test_a_policy_that_looks_at_its_neighbours_is_seen():
    apart = {r.key: r for r in run(Leaning())}
    assert any(r != apart[r.key] for r in run(Leaning(), KEYS[::-1]))


class Dense(Walker):
    """A network: the batch's rows go through one matrix product."""

    def act(self, obs, state, *, want=()):
        chunk, after = super().act(obs, state, want=want)
        net = torch.nn.Linear(SPEC.action_size * self.horizon, SPEC.action_size * self.horizon)
        torch.nn.init.orthogonal_(net.weight, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            x = torch.from_numpy(chunk.actions.reshape(len(obs), -1))
            y = 0.5 * x + 0.02 * torch.tanh(net.weight.mm(x.T).T * 30)
        return ActionChunk(y.numpy().reshape(chunk.actions.shape), chunk.valid, chunk.reasoning), after


def test_a_network_gives_the_same_bits_in_any_row():
    apart = {r.key: r for r in run(Dense())}
    assert all(r == apart[r.key] for r in run(Dense(), KEYS[::-1]))


def test_every_key_runs_once_and_rows_are_refilled():
    world = TinyWorld(8)
    run_episodes(Walker(), world, KEYS, rows=8, **HOW)
    assert sorted(world.began) == sorted(KEYS)

    asked = []

    class Counting(Walker):
        def act(self, obs, state, *, want=()):
            asked.append(len(obs))
            return super().act(obs, state, want=want)

    class Waiting(Growing):
        def act(self, obs, state, *, want=()):
            asked.append(len(obs))
            return super().act(obs, state, want=want)

    run(Counting(), rows=4)
    refilled, asked[:] = len(asked), []
    run(Waiting(), rows=4)
    assert set(asked) == {4}
    assert refilled < len(asked)


def test_pictures_are_drawn_for_queries_only():
    world = TinyWorld(8)
    results = run_episodes(Walker(), world, KEYS, rows=8, filters=[Passing()], **HOW)
    assert world.rendered == sum(r.queries for r in results)


class Passing:
    """Looks at the state and lets everything through."""

    def __call__(self, action, now, state):
        assert not now.images
        assert now.state.shape[0] == len(action) == 1
        return Filtered(action, np.zeros(1, bool), ("",)), {"seen": state.get("seen", 0) + 1}


def test_filming_changes_nothing_and_keeps_every_nth_picture():
    filmed = frozenset(KEYS[3:5])
    plain, shot = run(Walker()), run(Walker(), film=Film("top", filmed, every=3, size=16))
    assert plain == shot
    for result in shot:
        if result.key in filmed:
            due = {s for s in range(result.steps + 1) if s % 3 == 0} | {result.steps}
            assert len(result.film) == len(due)
            assert all(f.shape == (16, 16, 3) and f.dtype == np.uint8 for f in result.film)
        else:
            assert not result.film


def test_small_averages_blocks():
    picture = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)
    assert small(picture, 8) is not None
    assert (small(picture, 8) == picture).all()
    assert (small(picture, 4)[0, 0] == picture[:2, :2].reshape(-1, 3).mean(0).round()).all()
    assert small(np.zeros((9, 9, 3), np.uint8), 4).shape == (3, 3, 3)


class Short(Walker):
    """Stands for fewer actions than it gives, a number that follows from the key; what comes after is `rest`."""

    rest = 0.0

    def act(self, obs, state, *, want=()):
        chunk, after = super().act(obs, state, want=want)
        count = np.array([1 + k.index % 3 for k in obs.keys])
        valid = np.arange(self.horizon) < count[:, None]
        actions = np.where(valid[..., None], chunk.actions, np.float32(self.rest))
        return ActionChunk(actions, valid, chunk.reasoning), after


def test_what_is_not_valid_is_never_carried_out():
    short = run(Short(noise=0.0))
    assert all(r.queries == -(-r.steps // (1 + r.key.index % 3)) for r in short)
    garbage = Short(noise=0.0)
    garbage.rest = np.nan
    assert run(garbage) == short
    alone = [run(Short(noise=0.0), [k])[0] for k in KEYS[:4]]
    assert alone == short[:4]


class Stuttering(Walker):
    """Every other answer had to be replaced."""

    def act(self, obs, state, *, want=()):
        chunk, after = super().act(obs, state, want=want)
        return replace(chunk, extra={"errors": state["query"] % 2}), after


def test_decodings_that_had_to_be_replaced_are_counted_by_episode():
    results = run(Stuttering())
    assert all(r.errors == r.queries // 2 for r in results) and sum(r.errors for r in results)
    assert row_of(results[0])["errors"] == results[0].errors
    assert not any(r.errors for r in run(Walker()))


class Noting(Walker):
    """A wrapper, say, that has something to tell of every other chunk, and not of the first row's."""

    def act(self, obs, state, *, want=()):
        chunk, after = super().act(obs, state, want=want)
        told = [f"after {q}" if q % 2 and k.index else "" for q, k in zip(state["query"], obs.keys)]
        return replace(chunk, extra={"note": told}), after


def test_what_is_noted_of_a_chunk_is_kept_with_its_episode():
    results = run(Noting())
    for r in results:
        assert len(r.notes) == (r.queries // 2 if r.key.index else 0)
        assert [text for _, text in r.notes] == [f"after {2 * i + 1}" for i in range(len(r.notes))]
        assert row_of(r)["notes"] == [list(n) for n in r.notes]
    assert any(r.notes for r in results) and all(0 < step < r.steps for r in results for step, _ in r.notes)
    assert not any(r.notes for r in run(Walker()))


def test_time_runs_out():
    results = run(Walker(noise=0.0), horizon_steps=5)
    assert {r.end for r in results} == {"time"}
    assert {r.steps for r in results} == {5}


def test_choice_and_thoughts_carry_their_step():
    results = run(Walker(wrong=1.0))
    assert {r.end for r in results} == {"failure"}
    assert all(r.chosen_at == r.steps and r.facts["choice_right"] is False for r in results)
    assert all(r.thoughts[0][0] == 0 and r.thoughts[0][1].startswith("go to") for r in results)

    class Wavering(Walker):
        def act(self, obs, state, *, want=()):
            chunk, after = super().act(obs, state, want=want)
            texts = tuple(f"query {min(1, q)}" for q in state["query"])
            return replace(chunk, reasoning=Reasoning(texts)), after

    assert run(Wavering(), KEYS[:1])[0].thoughts == ((0, "query 0"), (4, "query 1"))


class Broken(Walker):
    """Fails for one key, in one way."""

    def __init__(self, how: str, at: int):
        super().__init__()
        self.how, self.at, self.name = how, at, "broken-one"

    def act(self, obs, state, *, want=()):
        chunk, after = super().act(obs, state, want=want)
        rows = np.array([k.index == self.at for k in obs.keys])
        if self.how == "raise" and rows.any():
            raise ZeroDivisionError("by a spread of zero")
        if self.how == "nan" and rows.any():
            actions = chunk.actions
            actions[rows, 1] = np.nan  # inside the chunk, past its constructor
        if self.how == "make nan":
            return ActionChunk(np.where(rows[:, None, None], np.nan, chunk.actions), chunk.valid), after
        if self.how == "nothing valid":
            chunk.valid[rows] = False
        if self.how == "too few":
            return ActionChunk(chunk.actions[:2], chunk.valid[:2]), after
        return chunk, after


@pytest.mark.parametrize("how", ["raise", "nan", "make nan", "nothing valid"])
def test_a_bad_answer_names_policy_and_row(how):
    with pytest.raises(Refusal, match=r"policy 'broken-one'.*row 3 \(tiny-1/touch/R/3/0\)") as refusal:
        run(Broken(how, 3))
    assert "row 2" not in str(refusal.value)


def test_a_short_answer_and_a_short_horizon_are_refused():
    with pytest.raises(Refusal, match="broken-one"):
        run(Broken("too few", 0))
    with pytest.raises(BuildError, match="plans 6 steps"):
        run(Walker(), replan=7)
    with pytest.raises(Refusal, match="twice"):
        run(Walker(), [KEYS[0], KEYS[0]])


def test_specs_must_agree():
    policy = Walker()
    policy.spec = replace(SPEC, rate=20.0)
    with pytest.raises(SpecMismatch, match=r"10\.0|20\.0"):
        run(policy)


class Halving:
    """Halves whatever is commanded, and says so from the second step of an episode on."""

    name = "halving"

    def __call__(self, action, now, state):
        steps = state.get("steps", 0)
        return Filtered(action / 2, np.array([steps > 0]), ("half" if steps else "",)), {"steps": steps + 1}


def test_filters_act_every_step_with_a_state_of_each_episode():
    results = run(Walker(noise=0.0), filters=[Halving()])
    for r in results:
        assert [s for s, _ in r.interventions] == list(range(1, r.steps))
        assert all(why == "halving: half" for _, why in r.interventions)
    assert np.mean([r.steps for r in results]) > 1.4 * np.mean([r.steps for r in run(Walker(noise=0.0))])


def test_a_filter_that_answers_nan_is_named():
    class Lost:
        def __call__(self, action, now, state):
            return Filtered(action * np.nan, np.ones(1, bool), ("?",)), state

    with pytest.raises(Refusal, match="filter 'Lost'"):
        run(Walker(), filters=[Lost()])


def test_limits_are_on_where_a_robot_is_attached():
    limit = {"low": 0.0, "high": 1.0, "speed": STEP * SPEC.rate / 4}
    free, held = run(Walker(noise=0.0)), run(Walker(noise=0.0), limits={"tip.x": limit, "tip.y": limit})
    assert not any(r.interventions for r in free)
    assert all(r.interventions and "Limits: tip." in r.interventions[0][1] for r in held)
    assert np.mean([r.steps for r in held]) > 2.5 * np.mean([r.steps for r in free])
