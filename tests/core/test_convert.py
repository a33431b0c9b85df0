"""Converters: worked examples by hand, there and back for random pairs of conventions, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mindhand.core.convert import FLAT, converter
from mindhand.core.errors import BadData, SpecMismatch
from mindhand.core.rotation import from_matrix, to_matrix
from mindhand.core.spec import ROTATION_SIZE, Part, Spec

XYZ = ("x", "y", "z")


def position(unit="m", mode="absolute", names=XYZ, frame="base") -> Part:
    return Part("eef", "position", names, unit, mode, frame)


def rotation(how="rot6d", unit=None, mode="absolute", frame="base") -> Part:
    unit = unit or ("1" if how in FLAT else "rad")
    names = tuple(f"r{i}" for i in range(ROTATION_SIZE[how]))
    return Part("turn", "rotation", names, unit, mode, frame, how)


def gripper(polarity="open", unit="1", mode="absolute") -> Part:
    return Part("grip", "gripper", ("g",), unit, mode, polarity=polarity)


def joints(unit="rad", mode="absolute", names=("a", "b")) -> Part:
    return Part("arm", "joint", names, unit, mode)


def spec(action, state=()) -> Spec:
    return Spec("toy", tuple(action), tuple(state), (), 10.0)


def test_units_order_and_polarity_by_hand():
    have = spec([position("m"), gripper("open"), joints("deg", names=("a", "b"))])
    want = spec([joints("rad", names=("b", "a")), gripper("closed"), position("mm", names=("z", "x", "y"))])
    x = np.array([[[0.1, 0.2, 0.3, 0.25, 90.0, 180.0]]], np.float32)
    y = converter(have, want)(x, None)
    assert y.dtype == np.float32
    np.testing.assert_allclose(y[0, 0], [np.pi, np.pi / 2, 0.75, 300, 100, 200], rtol=1e-6)


def test_a_centimetre_is_ten_millimetres():
    x = np.array([[[1.0, 2.0, 3.0]]], np.float32)
    for unit, want in (("m", [0.01, 0.02, 0.03]), ("mm", [10, 20, 30])):
        np.testing.assert_allclose(
            converter(spec([position("cm")]), spec([position(unit)]))(x, None)[0, 0], want, rtol=1e-6
        )
        back = converter(spec([position(unit)]), spec([position("cm")]))(np.array([[want]], np.float32), None)
        np.testing.assert_allclose(back[0, 0], x[0, 0], rtol=1e-6)


def test_relative_and_delta_positions_by_hand():
    state = np.array([[1.0, 2.0, 3.0]])
    x = np.array([[[1.5, 2.0, 3.0], [1.5, 2.5, 3.0], [1.0, 2.5, 4.0]]])
    have = spec([position()], [position()])
    relative = converter(have, spec([position(mode="relative")]))(x, state)
    np.testing.assert_allclose(relative[0], [[0.5, 0, 0], [0.5, 0.5, 0], [0, 0.5, 1]])
    delta = converter(have, spec([position("mm", mode="delta")]))(x, state)
    np.testing.assert_allclose(delta[0], [[500, 0, 0], [0, 500, 0], [-500, 0, 1000]])


def test_relative_rotation_is_state_transposed_times_target():
    rng = np.random.default_rng(0)
    s, r = to_matrix(rng.normal(size=(2, 3)), "axis_angle")
    have = spec([rotation("matrix")], [rotation("quat_xyzw")])
    x, state = r.reshape(1, 1, 9), from_matrix(s, "quat_xyzw")[None]
    y = converter(have, spec([rotation("matrix", mode="relative")]))(x, state)
    np.testing.assert_allclose(y.reshape(3, 3), s.T @ r, atol=1e-12)
    # and the order matters: the other product is not what comes out
    assert np.abs(y.reshape(3, 3) - r @ s.T).max() > 0.1


def test_delta_rotations_accumulate():
    # three turns of 0.1 about z from a state of 0.5: absolute 0.6, 0.7, 0.8
    have = spec([rotation("yaw", mode="delta")], [rotation("yaw")])
    y = converter(have, spec([rotation("yaw", "deg")]))(np.full((1, 3, 1), 0.1), np.array([[0.5]]))
    np.testing.assert_allclose(np.radians(y[0, :, 0]), [0.6, 0.7, 0.8])


def test_delta_rotations_are_turns_seen_from_the_hand():
    s, r0, r1 = to_matrix(np.random.default_rng(1).normal(size=(3, 3)), "axis_angle")
    have = spec([rotation("matrix")], [rotation("matrix")])
    x, state = np.stack([r0, r1]).reshape(1, 2, 9), s.reshape(1, 9)
    y = converter(have, spec([rotation("matrix", mode="delta")]))(x, state)
    np.testing.assert_allclose(y.reshape(2, 3, 3), [s.T @ r0, r0.T @ r1], atol=1e-12)


def test_gripper_of_the_other_polarity_relative_to_state():
    have = spec([gripper("open")], [gripper("open")])
    want = spec([gripper("closed", mode="relative")], [gripper("closed")])
    y = converter(have, want)(np.array([[[1.0], [0.25]]]), np.array([[0.5]]))
    np.testing.assert_allclose(y[0, :, 0], [-0.5, 0.25])


def test_states_are_converted_too():
    a = spec([], [position("m"), joints("rad")])
    b = spec([], [joints("deg"), position("mm")])
    x = np.random.default_rng(0).normal(size=(2, 4, 5))
    y = converter(a, b, "state")(x, None)
    np.testing.assert_allclose(y[..., 0], np.degrees(x[..., 3]))
    np.testing.assert_allclose(converter(b, a, "state")(y, None), x)


def test_equal_conventions_change_no_bit():
    parts = [position(), rotation("euler_xyz", mode="delta"), gripper(), joints()]
    x = np.random.default_rng(0).normal(size=(2, 3, 9)).astype(np.float32)
    assert np.array_equal(converter(parts, parts)(x, None), x)


modes = st.sampled_from(["absolute", "delta", "relative"])
whole = st.sampled_from(sorted(set(ROTATION_SIZE) - {"yaw"}))


@st.composite
def sides(draw) -> tuple[Part, ...]:
    how = draw(whole)
    parts = [
        position(draw(st.sampled_from(["m", "mm"])), draw(modes), tuple(draw(st.permutations(XYZ)))),
        rotation(how, "1" if how in FLAT else draw(st.sampled_from(["rad", "deg"])), draw(modes)),
        gripper(draw(st.sampled_from(["open", "closed"])), mode=draw(modes)),
        joints(draw(st.sampled_from(["rad", "deg"])), draw(modes), tuple(draw(st.permutations(["a", "b"])))),
    ]
    return tuple(draw(st.permutations(parts)))


def matrices(x: np.ndarray, parts) -> list[np.ndarray]:
    """A vector as things that have one name each: rotations as matrices."""
    out, begin = [], 0
    for p in parts:
        y = x[..., begin : begin + p.size]
        begin += p.size
        out.append(to_matrix(y, p.rotation, p.unit) if p.kind == "rotation" else y)
    return out


@given(sides(), sides(), whole, st.integers(0, 2**32 - 1))
def test_there_and_back_is_the_identity(have, want, state_rotation, seed):
    rng = np.random.default_rng(seed)
    state = (gripper("closed"), position("mm"), rotation(state_rotation), joints("deg"))

    def some(parts, *shape):
        out = []
        for p in parts:
            if p.kind == "rotation":
                m = to_matrix(rng.normal(size=(*shape, 3)), "axis_angle")
                out.append(from_matrix(m, p.rotation, p.unit))
            else:
                out.append(rng.normal(size=(*shape, p.size)))
        return np.concatenate(out, -1)

    x, s = some(have, 2, 4), some(state, 2)
    there = converter(have, want, state=state)(x, s)
    back = converter(want, have, state=state)(there, s)
    for before, after in zip(matrices(x, have), matrices(back, have)):
        np.testing.assert_allclose(after, before, atol=1e-7 * max(1, np.abs(before).max()))
    through = converter(have, have, state=state)(x, s)
    assert np.array_equal(through, x)


def test_the_state_is_asked_for_where_it_is_needed():
    have = spec([position()], [position()])
    change = converter(have, spec([position(mode="delta")]))
    for state in (None, np.zeros((2, 3)), np.zeros((1, 4))):
        with pytest.raises(BadData, match="state"):
            change(np.zeros((1, 2, 3)), state)
    with pytest.raises(BadData, match="array"):
        change(np.zeros((1, 2, 4)), np.zeros((1, 3)))
    with pytest.raises(BadData, match="array"):
        change(np.zeros((2, 3)), np.zeros((2, 3)))


@pytest.mark.parametrize(
    ("have", "want", "state", "why"),
    [
        ([position()], [position(), gripper()], [], "parts differ"),
        ([position(), gripper()], [position()], [], "parts differ"),
        ([position(frame="base")], [position(frame="camera")], [], "frame"),
        ([rotation(frame="base")], [rotation(frame="camera")], [], "frame"),
        ([position(names=("x", "y", "z"))], [position(names=("x", "y", "w"))], [], "same quantity"),
        ([joints("rad")], [joints("m")], [], "measure"),
        ([gripper(unit="m")], [gripper(unit="1")], [], "measure"),
        ([gripper("open", "m")], [gripper("closed", "m")], [], "other end"),
        ([Part("eef", "other", XYZ, "m")], [position()], [], "same quantity"),
        ([Part("turn", "other", ("r0",), "rad")], [rotation("yaw")], [], "same quantity"),
        ([rotation("yaw")], [Part("turn", "other", ("r0",), "rad")], [], "no rotation"),
        ([position()], [position(mode="relative")], [], "needs a state part"),
        ([position()], [position(mode="relative")], [position(mode="delta")], "not absolute"),
        ([position()], [position(mode="relative")], [position(frame="camera")], "frame"),
        ([rotation()], [rotation(mode="relative")], [rotation(frame="camera")], "frame"),
        ([rotation()], [rotation(mode="relative")], [Part("turn", "other", ("q",), "rad")], "no rotation"),
        ([gripper()], [gripper(mode="delta")], [gripper(unit="m")], "measure"),
    ],
)
def test_what_would_have_to_be_guessed_is_refused(have, want, state, why):
    with pytest.raises(SpecMismatch, match=why):
        converter(spec(have, state), spec(want, state))


def test_a_whole_rotation_does_not_become_a_yaw_in_silence():
    change = converter([rotation("axis_angle")], [rotation("yaw")])
    np.testing.assert_allclose(change(np.array([[[0, 0, 0.3]]]), None), [[[0.3]]])
    with pytest.raises(BadData, match="tilted"):
        change(np.array([[[0.2, 0, 0.3]]]), None)
