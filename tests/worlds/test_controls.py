"""The expert as a policy solves everything it can, in chunks and without looking; chance does not."""

from __future__ import annotations

import numpy as np
import pytest

from mindhand.core.errors import Refusal
from mindhand.core.seams import Policy
from mindhand.serve.execute import run_episodes
from mindhand.worlds.controls import Chance, Rehearsed
from tests.tiny_world import SPEC, STEP, TinyWorld, keys

HOW = {"horizon_steps": 60, "rows": 3}


class Still(TinyWorld):
    """An expert that does nothing."""

    def expert(self, rows):
        """Stays."""
        return np.zeros((len(rows), 2), np.float32)


def chance(horizon: int = 4) -> Chance:
    return Chance(SPEC, horizon, np.full(2, -STEP), np.full(2, STEP))


@pytest.mark.parametrize("replan", [1, 4])
def test_a_rehearsed_expert_does_in_chunks_what_it_does_step_by_step(replan):
    policy = Rehearsed(TinyWorld(1), 4)
    assert isinstance(policy, Policy) and isinstance(chance(), Policy)
    some = keys(7)
    found = run_episodes(policy, TinyWorld(3), some, replan=replan, **HOW)
    assert all(r.success for r in found)
    world = TinyWorld(1)
    for key, result in zip(some, found):
        world.reset([key], [0])
        steps = 1
        while not world.step(world.expert([0]), [0]).done[0]:
            steps += 1
        assert result.steps == steps


def test_it_plays_an_episode_through_once():
    twin = TinyWorld(1)
    policy = Rehearsed(twin, 4)
    for _ in range(2):
        run_episodes(policy, TinyWorld(3), keys(5), replan=2, **HOW)
    assert twin.began == keys(5)
    assert twin.rendered == 0


def test_an_expert_that_never_ends_is_refused():
    with pytest.raises(Refusal, match="not decided"):
        run_episodes(Rehearsed(Still(1), 4), TinyWorld(3), keys(1), replan=2, **HOW)


def test_chance_is_even_and_follows_from_key_and_time():
    world = TinyWorld(2)
    world.reset(keys(2), [0, 1])
    obs, policy = world.observe([0, 1]), chance(500)
    first, _ = policy.act(obs, {})
    again, _ = policy.act(obs.rows([1, 0]), {})
    assert np.array_equal(first.actions, again.actions[::-1])
    assert not np.array_equal(first.actions[0], first.actions[1])
    assert np.abs(first.actions).max() <= STEP and np.abs(first.actions).max() > 0.99 * STEP
    assert np.abs(first.actions.mean((0, 1))).max() < 0.1 * STEP
    world.step(np.zeros((2, 2)), [0, 1])
    later, _ = policy.act(world.observe([0, 1]), {})
    assert not np.array_equal(first.actions, later.actions)


def test_chance_is_not_the_expert():
    found = run_episodes(chance(), TinyWorld(3), keys(10), replan=4, **HOW)
    assert sum(r.success for r in found) < 5
