"""What the page of a tuned policy says of policies whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest

from mindhand.data.cache import FrameCache
from mindhand.data.opening import open_dataset
from mindhand.data.robot import RobotFrames
from mindhand.model.store import load_vla
from mindhand.recipes.tiny import words
from mindhand.recipes.tune_report import (
    LAST,
    TUNED,
    language,
    last_command,
    looked_at,
    mean_command,
    open_loop,
    other_words,
    scale_of,
    verdict,
)

from .test_tune import demos, qwen, tuned

__all__ = ["demos", "qwen", "tuned"]  # fixtures


@pytest.fixture(scope="module")
def robot(demos, tmp_path_factory) -> RobotFrames:
    reader = open_dataset(demos)
    return RobotFrames(reader, FrameCache.build(tmp_path_factory.mktemp("frames"), reader), words(), 10)


def test_who_knows_the_answer_has_no_error_and_a_wrong_dimension_shows_alone(robot):
    def knows(index: np.ndarray) -> np.ndarray:
        return robot.chunks(index)[0]

    looked = looked_at(robot, np.array([1, 4]), 5)
    assert [e for e, _ in looked] == [1, 4] and all(len(index) == 5 for _, index in looked)
    rows = open_loop(robot, looked, {"right": knows, "off": lambda i: knows(i) + np.array([0.0, 0.5], np.float32)})
    for row in rows:
        assert row["error"] == ([0.0, 0.0] if row["who"] == "right" else pytest.approx([0.0, 0.5]))


def test_steps_past_the_end_of_an_episode_are_not_compared(robot):
    """A policy that is wrong only there is right."""

    def wrong_later(index: np.ndarray) -> np.ndarray:
        actions, valid = robot.chunks(index)
        return np.where(valid[..., None], actions, 1e6)

    rows = open_loop(robot, looked_at(robot, np.array([0]), 8), {TUNED: wrong_later})
    assert rows[0]["error"] == [0.0, 0.0]


def test_the_last_command_never_comes_from_another_episode(robot):
    r = robot.reader
    begin = int(r.begins[3])
    at = last_command(robot)(np.array([begin, begin + 1, begin + 2]))
    assert at.shape == (3, 10, 2)
    assert (at[:, 0] == r.action[[begin, begin, begin + 1]]).all() and (at == at[:, :1]).all()
    assert np.allclose(mean_command(robot, np.array([1, 2]))(np.array([7]))[0, 0], r.action[[1, 2]].mean(0))


def test_a_policy_without_a_mind_is_not_moved_by_words(robot, tuned):
    """The small ACT hears nothing, and the tuned policy something."""
    run, _ = tuned
    looked = looked_at(robot, np.array([0, 3]), 4)
    deaf, hears = (language(load_vla(run / name), robot, looked) for name in ("act/checkpoint", "checkpoint"))
    assert {r["arm"] for r in deaf} == {"blank", "swapped"}
    assert all(r["moved"] == [0.0, 0.0] for r in deaf)
    assert all(max(r["moved"]) > 0 for r in hears)


def test_other_words_are_another_instruction_of_the_same_dataset():
    other = other_words(["go left", "go right", "wait"])
    assert other is not None and [other(t) for t in ("go left", "wait")] == ["go right", "go left"]
    assert other_words(["go left", "go left"]) is None


@pytest.mark.parametrize(
    ("tuned_errors", "said"),
    [([0.1, 0.12, 0.09], "beats"), ([0.5, 0.6, 0.55], "WORSE"), ([0.1, 0.5, 0.3], "not surely better")],
)
def test_the_verdict_is_about_the_interval(robot, tuned_errors, said):
    scale = scale_of(robot, robot.cache.frames)
    rows = [{"episode": e, "who": TUNED, "error": [x, x]} for e, x in enumerate(tuned_errors)]
    rows += [{"episode": e, "who": LAST, "error": [0.3, 0.3]} for e in range(3)]
    assert said in verdict(rows, scale)
