"""Robots of different sizes in one batch: padding is nobody's, and a wrong mask would be seen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from mindhand.core.batch import masked_rows
from mindhand.core.errors import BadData, SpecMismatch
from mindhand.core.spec import Part
from mindhand.data.embodiments import NOBODY, Embodiments
from mindhand.data.lerobot_read import LeRobotReader
from mindhand.data.mixture import Mixture
from mindhand.data.statistics import Stream, floors, measure
from tests.data.make import make_episode, point_spec, write

H = 4
JOINTS = Part("joint", "joint", tuple("abcde"), "rad")
SMALL, LARGE = point_spec(), replace(point_spec(), robot="arm", action=(JOINTS,), state=(JOINTS,))


@pytest.fixture(scope="module")
def bodies(tmp_path_factory) -> Embodiments:
    """A point of 2 and 3 dimensions, and an arm of 5 and 5 whose numbers are a hundred times as large."""
    home = tmp_path_factory.mktemp("bodies")
    large = [make_episode(i, 6 + i, LARGE) for i in range(3)]
    large = [replace(e, state=e.state * 100, action=e.action * 100) for e in large]
    write(home / "small", [make_episode(i, 5 + i, SMALL) for i in range(4)], SMALL)
    write(home / "large", large, LARGE)
    return Embodiments.measured([LeRobotReader(home / "small"), LeRobotReader(home / "large")], H)


def drawn(bodies: Embodiments, size: int = 16):
    rows = Mixture(bodies.sets(), size, seed=1).rows(0)
    return bodies.padded(rows.embodiment, rows.index), rows


def garbage(x: np.ndarray, valid: np.ndarray, value: float) -> np.ndarray:
    return np.where(valid, x, np.float32(value))


def test_rows_are_padded_to_the_largest_and_masked(bodies):
    x, rows = drawn(bodies)
    assert x.state.shape == (16, 5) and x.actions.shape == x.valid.shape == (16, H, 5)
    assert set(rows.embodiment.tolist()) == {0, 1}
    for i, (k, t) in enumerate(zip(rows.embodiment, rows.index)):
        reader = bodies.readers[k]
        s, a = reader.spec.state_size, reader.spec.action_size
        assert (x.state[i, :s] == reader.state[t]).all() and x.state_valid[i].sum() == s
        assert (x.actions[i, 0, :a] == reader.action[t]).all()
        left = int(reader.ends[reader.episode_index[t]] - t)
        assert x.valid[i].sum() == min(H, left) * a and not x.valid[i, :, a:].any()


def test_a_row_without_a_robot_has_nothing_valid(bodies):
    x = bodies.padded(np.array([0, NOBODY, 1]), np.array([0, 10_000, 0]))
    assert not x.valid[1].any() and not x.state_valid[1].any() and x.valid[2].all()
    for wrong in (2, -2):
        with pytest.raises(BadData, match="embodiments"):
            bodies.padded(np.array([wrong]), np.array([0]))


def loss(weight: torch.Tensor, x, valid: np.ndarray) -> torch.Tensor:
    """What a linear hand would lose: (B,)."""
    state = torch.from_numpy(x.state)
    guess = (state @ weight).unsqueeze(1).expand(-1, H, -1)
    return masked_rows((guess - torch.from_numpy(x.actions)).square(), torch.from_numpy(valid))


@pytest.mark.parametrize("value", [1e9, float("nan"), -3.0])
def test_garbage_in_the_padding_changes_no_loss_and_no_gradient(bodies, value):
    x, _ = drawn(bodies)
    spoiled = replace(x, actions=garbage(x.actions, x.valid, value), state=garbage(x.state, x.state_valid, value))
    found = []
    for given in (x, spoiled):
        weight = torch.ones(5, 5, requires_grad=True)
        rows = loss(weight, bodies.normalise(given), given.valid)
        rows.sum().backward()
        found.append((rows.detach(), weight.grad))
    assert torch.equal(found[0][0], found[1][0]) and torch.equal(found[0][1], found[1][1])
    assert bool((found[0][0] > 0).all())


def test_a_wrong_mask_is_seen(bodies):
    """The mask of the largest robot for all: what padding holds is learned, and the test above would fail."""
    x, rows = drawn(bodies)
    steps = np.repeat(x.valid.any(2, keepdims=True), 5, 2)
    normal, weight = bodies.normalise(x), torch.ones(5, 5)
    spoiled = replace(normal, actions=garbage(normal.actions, x.valid, 7.0))
    right, wrong = (loss(weight, spoiled, m) for m in (x.valid, steps))
    small = torch.from_numpy(rows.embodiment == 0)
    assert bool((right != wrong)[small].all()) and torch.equal(right[~small], wrong[~small])


def test_each_robot_is_measured_by_itself(bodies):
    for reader, s in zip(bodies.readers, bodies.statistics):
        assert s.to_json() == measure(reader.vectors(), reader.spec).to_json()
    x, _ = drawn(bodies)
    normal = bodies.normalise(x)
    for k in (0, 1):
        of = normal.actions[x.embodiment == k][x.valid[x.embodiment == k]]
        assert np.abs(of).max() < 2 and np.abs(of).mean() > 0.1  # neither robot is lost in the other's scale
    back = bodies.restore(normal)
    assert np.allclose(back.actions, np.where(x.valid, x.actions, 0), rtol=1e-5, atol=1e-4)
    assert np.allclose(back.state, x.state, rtol=1e-5, atol=1e-4)


def test_statistics_of_padded_rows_see_what_is_valid_and_nothing_else(bodies):
    index = np.arange(len(bodies.readers[0]))
    x = bodies.padded(np.zeros(len(index), int), index)
    spoiled = garbage(x.state, x.state_valid, 1e6)
    own, all_of_it = Stream(floors(SMALL.state)), Stream(np.full(5, 1e-3))
    own.add(spoiled[x.state_valid].reshape(len(index), -1))
    all_of_it.add(spoiled)
    assert np.allclose(own.moments().max, bodies.statistics[0].state.max)
    assert all_of_it.moments().max.max() == 1e6


def test_statistics_of_another_robot_are_refused(bodies):
    with pytest.raises(SpecMismatch, match="another robot"):
        Embodiments(bodies.readers, bodies.statistics[::-1], H)
    with pytest.raises(BadData, match="statistics of each"):
        Embodiments(bodies.readers, bodies.statistics[:1], H)
    relative = replace(bodies.statistics[0], actions="relative")
    with pytest.raises(BadData, match="as recorded"):
        Embodiments(bodies.readers[:1], [relative], H)
