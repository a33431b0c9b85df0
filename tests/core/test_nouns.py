"""The nouns of the boundary: what they hold, and every array they refuse."""

from __future__ import annotations

import numpy as np
import pytest

from mindhand.core.errors import BadCheckpoint, BadData, BuildError, Refusal, SpecMismatch
from mindhand.core.keys import Key
from mindhand.core.nouns import ActionChunk, Filtered, Observation, Outcome, Proposals, Reasoning, as_dict


def observation(**other) -> Observation:
    rng = np.random.default_rng(0)
    given = {
        "images": {"front": rng.integers(256, size=(3, 2, 4, 5, 3)).astype(np.uint8)},
        "state": rng.normal(size=(3, 2, 6)).astype(np.float32),
        "text": {"instruction": ("a", "b", "c")},
        "time": np.zeros((3, 2)),
        "keys": tuple(Key("p", "t", i) for i in range(3)),
    }
    return Observation(**{**given, **other})


def test_a_refusal_says_what_was_expected_and_what_to_do():
    for kind in (SpecMismatch, BadData, BadCheckpoint, BuildError):
        refusal = kind("an apple", "a pear", "buy one")
        assert isinstance(refusal, Refusal)
        assert isinstance(refusal, ValueError)
        assert (refusal.what, refusal.expected, refusal.do) == ("an apple", "a pear", "buy one")
        assert str(refusal) == "an apple\n  expected: a pear\n  next step: buy one"


def test_an_undeclared_camera_is_present():
    two = observation().images | {"wrist": np.zeros((3, 2, 4, 5, 3), np.uint8)}
    seen = observation(images=two, present={"wrist": np.array([True, False, True])})
    assert seen.present["front"].tolist() == [True] * 3
    assert seen.present["wrist"].tolist() == [True, False, True]
    assert len(seen) == 3


def test_rows_may_be_taken_in_any_order_and_twice():
    whole = observation(extras={"depth": np.arange(3.0)}, present={"front": np.array([True, False, True])})
    part = whole.rows([2, 0, 2])
    np.testing.assert_array_equal(part.images["front"], whole.images["front"][[2, 0, 2]])
    np.testing.assert_array_equal(part.state, whole.state[[2, 0, 2]])
    assert part.text["instruction"] == ("c", "a", "c")
    assert [k.index for k in part.keys] == [2, 0, 2]
    assert part.extras["depth"].tolist() == [2, 0, 2]
    assert whole.rows(np.array([1])).present["front"].tolist() == [False]


def test_other_words_leave_the_rest():
    before = observation(text={"instruction": ("a", "b", "c"), "previous": ("", "", "")})
    after = before.with_text("instruction", ["x", "y", "z"])
    assert after.text == {"instruction": ("x", "y", "z"), "previous": ("", "", "")}
    assert before.text["instruction"] == ("a", "b", "c")
    assert after.state is before.state


NAN = np.full((3, 2, 6), np.nan, np.float32)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"state": [[0.0]]}, "state is a list"),
        ({"state": np.zeros((3, 6), np.float32)}, r"state has shape \(3, 6\)"),
        ({"state": np.zeros((2, 2, 6), np.float32)}, "state has shape"),
        ({"state": NAN}, r"state holds NaN or infinity, first at \(0, 0, 0\)"),
        ({"state": np.full((3, 2, 6), np.inf, np.float32)}, "infinity"),
        ({"time": np.zeros(3)}, "time has shape"),
        ({"time": np.zeros((3, 1))}, "time has shape"),
        ({"images": {"front": np.zeros((3, 2, 4, 5, 3), np.float32)}}, "image 'front' is float32"),
        ({"images": {"front": np.zeros((3, 2, 3, 4, 5), np.uint8)}}, "image 'front' has shape"),
        ({"images": {"front": np.zeros((3, 4, 5, 3), np.uint8)}}, "image 'front' has shape"),
        ({"images": {"front": np.zeros((3, 1, 4, 5, 3), np.uint8)}}, "image 'front' has shape"),
        ({"images": {}, "present": {"front": np.ones(3, bool)}}, r"presence declared for cameras \['front'\]"),
        ({"present": {"front": np.ones(2, bool)}}, "present 'front' has shape"),
        ({"text": {"instruction": ("a", "b")}}, "text 'instruction' has 2 rows"),
    ],
)
def test_observations_that_are_refused(change, why):
    with pytest.raises(BadData, match=why):
        observation(**change)


def test_a_chunk_may_hold_anything_where_it_is_not_valid():
    actions, valid = np.zeros((2, 3, 4), np.float32), np.ones((2, 3), bool)
    valid[1, 2], actions[1, 2] = False, np.nan
    assert len(ActionChunk(actions, valid)) == 2
    for bad, mask, why in (
        (actions, np.ones((2, 3), bool), r"NaN or infinity, first at \(1, 2, 0\)"),
        (actions, np.ones((2, 3)), "valid is float64"),
        (actions, np.ones((2, 4), bool), "valid has shape"),
        (actions[0], valid, "actions has shape"),
        (actions.tolist(), valid, "actions is a list"),
    ):
        with pytest.raises(BadData, match=why):
            ActionChunk(bad, mask)


def test_a_proposal_is_picked_row_by_row():
    actions = np.arange(2 * 3 * 2 * 1, dtype=np.float32).reshape(2, 3, 2, 1)
    valid = np.ones((2, 3, 2), bool)
    valid[1, 2, 1] = False
    extra = {"errors": np.arange(6).reshape(2, 3), "context": object(), "gaze": np.zeros((2, 3))}
    thought = Reasoning(("one", "two"))
    chunk = Proposals(actions, valid, extra=extra, reasoning=thought).pick(np.array([0, 2]))
    np.testing.assert_array_equal(chunk.actions, actions[[0, 1], [0, 2]])
    assert chunk.valid.tolist() == [[True, True], [True, False]]
    assert chunk.reasoning is thought and chunk.extra.keys() == {"errors"}  # the rest is not of one of them
    assert chunk.extra["errors"].tolist() == [0, 5]
    with pytest.raises(BadData, match="NaN"):
        Proposals(np.full((1, 1, 1, 1), np.nan, np.float32), np.ones((1, 1, 1), bool))
    with pytest.raises(BadData, match="valid has shape"):
        Proposals(actions, valid[:, :2])
    with pytest.raises(BadData, match="actions has shape"):
        Proposals(actions[0], valid)


def test_small_nouns():
    ended = Outcome(np.zeros(3, np.float32), np.zeros(3, bool), np.array([1, 0, 0], bool), np.array([0, 1, 0], bool))
    assert ended.done.tolist() == [True, True, False]
    assert len(Reasoning(("a", ""))) == 2
    touched = Filtered(np.zeros((1, 2)), np.array([True]), ("limit",))
    assert list(as_dict(touched)) == ["action", "intervened", "why"]
    assert as_dict(touched)["why"] == ("limit",)
