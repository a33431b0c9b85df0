"""Limits: no command leaves the box or exceeds the speed; what is allowed passes bit by bit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mindhand.core.errors import BadData, BuildError
from mindhand.core.nouns import Observation
from mindhand.serve.filters import Limit, Limits, limits_of
from tests.tiny_world import SPEC, TIP, TinyWorld, keys

ABSOLUTE = replace(SPEC, action=(replace(TIP, mode="absolute"),))
LIMITS = {"tip.x": Limit(0.2, 0.8, 1.0), "tip.y": Limit(0.0, 1.0, 2.0)}  # 0.1 and 0.2 a step at 10 Hz
number = st.floats(-3, 3, width=32)


def at(*xy: float) -> Observation:
    state = np.array([[xy]], np.float32)
    return Observation({}, state, {"instruction": ("go",)}, np.zeros((1, 1)), tuple(keys(1)))


@given(start=st.tuples(st.floats(0.2, 0.8), st.floats(0, 1)), path=st.lists(st.tuples(number, number), min_size=1))
def test_an_absolute_command_stays_in_the_box_and_below_the_speed(start, path):
    limits, state, before = Limits(ABSOLUTE, LIMITS), {}, np.array(start, np.float32)
    for command in path:
        out, state = limits(np.array([command], np.float32), at(*start), state)
        assert (out.action >= limits.low - 1e-6).all()
        assert (out.action <= limits.high + 1e-6).all()
        assert (np.abs(out.action[0] - before) <= limits.step + 1e-6).all()
        assert bool(out.intervened[0]) == bool(out.why[0])
        assert bool(out.intervened[0]) or (out.action[0] == np.float32(command)).all()
        before = out.action[0]


@given(start=st.tuples(number, number), step=st.tuples(number, number))
def test_a_delta_never_leads_further_out(start, step):
    limits = Limits(SPEC, LIMITS)
    out, _ = limits(np.array([step], np.float32), at(*start), {})
    here, there = np.array(start), np.array(start) + out.action[0]
    outside = np.maximum(limits.low - here, here - limits.high).clip(0)
    assert (np.maximum(limits.low - there, there - limits.high) <= outside + 1e-5).all()
    assert (np.abs(out.action[0]) <= limits.step + 1e-5).all()


def test_it_says_what_it_held():
    out, _ = Limits(ABSOLUTE, LIMITS)(np.array([[0.9, 0.5]], np.float32), at(0.75, 0.5), {})
    assert out.why == ("tip.x box",)
    assert np.allclose(out.action, [[0.8, 0.5]])
    out, _ = Limits(ABSOLUTE, LIMITS)(np.array([[0.5, 0.9]], np.float32), at(0.5, 0.5), {})
    assert out.why == ("tip.y speed",)
    assert np.allclose(out.action, [[0.5, 0.7]])


def test_the_speed_counts_from_the_last_command_not_from_where_a_slow_arm_is():
    limits, state = Limits(ABSOLUTE, LIMITS), {}
    for k in range(1, 4):
        out, state = limits(np.array([[0.8, 0.5]], np.float32), at(0.3, 0.5), state)
        assert np.isclose(out.action[0, 0], 0.3 + 0.1 * k)


@pytest.mark.parametrize(
    ("spec", "limits", "names"),
    [
        (SPEC, {"tip.x": LIMITS["tip.x"]}, "tip.y"),
        (SPEC, {**LIMITS, "tip.z": LIMITS["tip.x"]}, "tip.z"),
        (replace(SPEC, action=(replace(TIP, mode="relative"),)), LIMITS, "relative"),
        (replace(SPEC, state=()), LIMITS, "no measured state"),
    ],
)
def test_what_cannot_be_limited_is_refused_at_build_time(spec, limits, names):
    with pytest.raises(BuildError, match=names):
        Limits(spec, limits)


def test_nonsense_is_refused():
    with pytest.raises(BadData):
        Limit(1.0, 0.0, 1.0)
    with pytest.raises(BadData, match=r"tip\.y"):
        Limits(SPEC, LIMITS)(np.array([[0.0, np.nan]], np.float32), at(0.5, 0.5), {})


def test_only_a_robot_has_limits():
    assert limits_of(TinyWorld(1)) == []
    assert len(limits_of(TinyWorld(1, {k: vars(v) for k, v in LIMITS.items()}))) == 1
