"""Rotation conventions: known values, round trips through every pair, and what is no rotation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mindhand.core.errors import BadData
from mindhand.core.rotation import from_matrix, to_matrix
from mindhand.core.spec import ROTATION_SIZE

WHOLE = sorted(set(ROTATION_SIZE) - {"yaw"})
H = np.sqrt(0.5)
# A quarter turn about z takes x to y. Written down by hand in every convention.
QUARTER = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
KNOWN = {
    "matrix": [0, -1, 0, 1, 0, 0, 0, 0, 1],
    "rot6d": [0, 1, 0, -1, 0, 0],
    "quat_wxyz": [H, 0, 0, H],
    "quat_xyzw": [0, 0, H, H],
    "axis_angle": [0, 0, np.pi / 2],
    "euler_xyz": [0, 0, np.pi / 2],
    "yaw": [np.pi / 2],
}
numbers = st.floats(-1, 1, width=64)
axes = st.tuples(numbers, numbers, numbers).filter(lambda v: np.linalg.norm(v) > 1e-3)
# Half a turn, and the angles round it where signs flip, are asked for by name.
angles = st.one_of(
    st.floats(0, np.pi),
    st.sampled_from([0.0, np.pi, np.pi / 2, 1e-12, 1e-7]),
    st.floats(0, 1e-6).map(lambda e: np.pi - e),
    st.floats(0, 1e-6),
)


def turn(axis, angle) -> np.ndarray:
    """Rodrigues' formula, which the module does not use."""
    x, y, z = np.asarray(axis) / np.linalg.norm(axis)
    k = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * k @ k


@pytest.mark.parametrize("rotation", sorted(KNOWN))
def test_a_quarter_turn_about_z(rotation):
    assert set(KNOWN) == set(ROTATION_SIZE)
    np.testing.assert_allclose(to_matrix(np.array(KNOWN[rotation]), rotation), QUARTER, atol=1e-15)
    np.testing.assert_allclose(from_matrix(QUARTER, rotation), KNOWN[rotation], atol=1e-15)


def test_euler_angles_turn_about_fixed_axes_in_order():
    a, b, c = 0.3, -0.7, 1.9
    expected = turn([0, 0, 1], c) @ turn([0, 1, 0], b) @ turn([1, 0, 0], a)
    np.testing.assert_allclose(to_matrix(np.array([a, b, c]), "euler_xyz"), expected, atol=1e-15)


@given(axes, angles)
def test_axis_angle_is_rodrigues(axis, angle):
    v = np.asarray(axis) / np.linalg.norm(axis) * angle
    np.testing.assert_allclose(to_matrix(v, "axis_angle"), turn(axis, angle), atol=1e-14)


@given(axes, angles, st.sampled_from(WHOLE))
def test_matrix_to_convention_and_back(axis, angle, rotation):
    m = turn(axis, angle)
    np.testing.assert_allclose(to_matrix(from_matrix(m, rotation), rotation), m, atol=2e-9)


@given(axes, angles, st.sampled_from(WHOLE), st.sampled_from(WHOLE))
def test_a_canonical_vector_survives_every_other_convention(axis, angle, one, other):
    x = from_matrix(turn(axis, angle), one)
    there = from_matrix(to_matrix(x, one), other)
    back = from_matrix(to_matrix(there, other), one)
    # Angles just below half a turn may come back as those just above: the same rotation, to rounding.
    np.testing.assert_allclose(to_matrix(back, one), to_matrix(x, one), atol=1e-8)
    if angle < np.pi - 1e-6 and one != "euler_xyz":
        np.testing.assert_allclose(back, x, atol=1e-6)


@given(st.floats(-np.pi, np.pi), st.sampled_from([-1, 1]), st.floats(-np.pi, np.pi), st.floats(0, 1e-6))
def test_pitch_of_a_quarter_turn(roll, side, yaw, short):
    m = to_matrix(np.array([roll, side * (np.pi / 2 - short), yaw]), "euler_xyz")
    back = from_matrix(m, "euler_xyz")
    np.testing.assert_allclose(to_matrix(back, "euler_xyz"), m, atol=2e-7)
    exact = from_matrix(to_matrix(np.array([roll, side * np.pi / 2, yaw]), "euler_xyz"), "euler_xyz")
    assert exact[0] == 0.0


@given(axes, st.floats(0, 2 * np.pi))
def test_quaternions_are_canonical(axis, angle):
    q = np.concatenate([[np.cos(angle / 2)], np.sin(angle / 2) * np.asarray(axis) / np.linalg.norm(axis)])
    one, other = (from_matrix(to_matrix(s * q, "quat_wxyz"), "quat_wxyz") for s in (1, -1))
    assert np.array_equal(one, other)
    assert one[0] > -1e-12
    assert np.linalg.norm(from_matrix(to_matrix(q, "quat_wxyz"), "axis_angle")) <= np.pi + 1e-12


def test_half_a_turn_has_one_name():
    for sign in (1, -1):
        m = to_matrix(sign * np.pi * np.array([0.0, -0.6, 0.8]), "axis_angle")
        np.testing.assert_allclose(from_matrix(m, "axis_angle"), np.pi * np.array([0, 0.6, -0.8]), atol=1e-12)


def test_batches_and_degrees():
    x = np.random.default_rng(0).normal(size=(2, 5, 3))
    m = to_matrix(x, "axis_angle")
    assert m.shape == (2, 5, 3, 3)
    np.testing.assert_array_equal(m[1, 3], to_matrix(x[1, 3], "axis_angle"))
    np.testing.assert_allclose(to_matrix(np.degrees(x), "axis_angle", "deg"), m, atol=1e-14)
    np.testing.assert_allclose(from_matrix(QUARTER, "yaw", "deg"), [90])


def test_what_a_network_writes_becomes_a_rotation():
    rng = np.random.default_rng(0)
    for rotation in ("rot6d", "matrix", "quat_wxyz"):
        m = to_matrix(rng.normal(size=(50, ROTATION_SIZE[rotation])), rotation)
        np.testing.assert_allclose(m @ np.swapaxes(m, -1, -2), np.broadcast_to(np.eye(3), m.shape), atol=1e-12)
        np.testing.assert_allclose(np.linalg.det(m), 1.0, atol=1e-12)
    # The nearest rotation to a slightly wrong one: no other of many tries is nearer.
    wrong = QUARTER + 0.1 * rng.normal(size=(3, 3))
    near = to_matrix(wrong.reshape(9), "matrix")
    tries = near @ to_matrix(0.05 * rng.normal(size=(200, 3)), "axis_angle")
    assert (np.linalg.norm(tries - wrong, axis=(1, 2)) >= np.linalg.norm(near - wrong)).all()


@pytest.mark.parametrize(
    ("x", "rotation"),
    [
        (np.zeros(6), "rot6d"),
        (np.array([1.0, 0, 0, 2, 0, 0]), "rot6d"),
        (np.zeros(4), "quat_wxyz"),
        (np.zeros(9), "matrix"),
        (np.full(9, np.nan), "matrix"),
        (np.array([0, np.inf, 0]), "axis_angle"),
        (np.array([np.nan]), "yaw"),
        (np.zeros(4), "rot6d"),
        (np.zeros(4), "quaternion"),
    ],
)
def test_what_is_no_rotation_is_refused(x, rotation):
    with pytest.raises(BadData):
        to_matrix(x, rotation)


def test_a_tilted_rotation_is_no_yaw():
    with pytest.raises(BadData, match="tilted"):
        from_matrix(turn([1, 0, 0], 0.1), "yaw")
    with pytest.raises(BadData, match="tilted"):
        from_matrix(turn([1, 0, 0], np.pi), "yaw")
    with pytest.raises(BadData):
        from_matrix(np.eye(4), "yaw")
