"""Episodes and the chunks cut from them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mindhand.core.errors import BadData
from mindhand.data.episodes import Episode, chunk, gather
from tests.data.make import make_episode, point_spec


@given(st.integers(1, 12), st.integers(1, 9), st.data())
def test_chunk_is_the_future_then_the_last_action(length, horizon, data):
    action = np.arange(length * 2, dtype=np.float32).reshape(length, 2)
    t = data.draw(st.integers(0, length - 1))
    got, valid = chunk(action, t, horizon)
    for h in range(horizon):
        assert valid[h] == (t + h < length)
        assert (got[h] == action[min(t + h, length - 1)]).all()


def test_chunks_do_not_run_into_the_next_episode():
    action = np.arange(10.0, dtype=np.float32)[:, None]
    got, valid = gather(action, np.array([3, 5]), np.array([5, 10]), 4)
    assert got[:, :, 0].tolist() == [[3, 4, 4, 4], [5, 6, 7, 8]]
    assert valid.tolist() == [[True, True, False, False], [True] * 4]
    for index, end in ((5, 5), (-1, 5), (3, 11)):
        with pytest.raises(BadData):
            gather(action, np.array([index]), np.array([end]), 2)


@pytest.mark.parametrize("name", ["state", "action"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_not_finite_is_refused(name, value):
    good = make_episode(0)
    arrays = {"state": good.state.copy(), "action": good.action.copy()}
    arrays[name][2, 1] = value
    with pytest.raises(BadData, match=rf"{name}.*\(2, 1\)"):
        Episode(images=good.images, instruction="go", **arrays)


def test_unequal_and_empty_are_refused():
    good = make_episode(0)
    with pytest.raises(BadData, match="lengths"):
        Episode(images=good.images, state=good.state[:-1], action=good.action, instruction="go")
    with pytest.raises(BadData, match="lengths"):
        Episode(images=good.images, state=good.state, action=good.action, instruction="go", reasoning=["a"])
    with pytest.raises(BadData, match="lengths"):
        Episode(images={}, state=good.state[:0], action=good.action[:0], instruction="go")
    with pytest.raises(BadData, match="uint8"):
        Episode(images={"front": good.images["front"] / 255}, state=good.state, action=good.action, instruction="go")


def test_an_episode_of_another_spec_is_refused():
    good, spec, sizes = make_episode(0), point_spec(), {"front": (16, 16), "wrist": (8, 8)}
    good.require(spec, sizes, {})
    with pytest.raises(BadData, match="'front' gave"):
        good.require(spec, sizes | {"front": (8, 8)}, {})
    with pytest.raises(BadData, match="labels"):
        good.require(spec, sizes, {"gaze": 2})
    with pytest.raises(BadData, match="cameras"):
        Episode({"front": good.images["front"]}, good.state, good.action, "go").require(spec, sizes, {})
    with pytest.raises(BadData, match="dimensions"):
        Episode(good.images, good.state, good.state, "go").require(spec, sizes, {})
