"""The Panda's closed form, against itself and against the simulator's tree."""

import math

import mujoco
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mindhand.core.rotation import to_matrix
from mindhand.worlds.desk import panda_kinematics as k
from mindhand.worlds.desk.body import PANDA
from mindhand.worlds.desk.kinematics import tool_down
from mindhand.worlds.desk.stage import Stage

joints = st.tuples(*(st.floats(low, high) for low, high in zip(k.LOW.tolist(), k.HIGH.tolist()))).map(np.array)
# What the tool does over the desk, in the arm's frame: from home to the farthest toy, and as high as toys are carried.
places = st.tuples(st.floats(0.37, 0.70), st.floats(-0.13, 0.13), st.floats(0.009, 0.2)).map(np.array)
yaws = st.floats(-0.8, 0.8)
ways = st.floats(-math.pi, math.pi)


def leaning(yaw, tilt, way):
    """A tool that points down but for `tilt`, towards `way`."""
    return to_matrix(tilt * np.array([math.cos(way), math.sin(way), 0.0]), "axis_angle") @ tool_down(yaw)


@pytest.fixture(scope="module")
def stage():
    return Stage(body=PANDA)


@given(q=joints)
def test_forward_is_the_simulators(stage, q):
    stage.data.qpos[stage.ids.arm] = q
    mujoco.mj_kinematics(stage.model, stage.data)
    position, rotation = k.forward(q)
    np.testing.assert_allclose(position, stage.tcp - stage.base, atol=1e-9)
    np.testing.assert_allclose(rotation, stage.rotation, atol=1e-9)


@given(places, yaws, st.floats(0.0, math.radians(30)), ways, joints)
def test_inverse_returns_to_the_pose_within_limits(place, yaw, tilt, way, seed):
    rotation = leaning(yaw, tilt, way)
    found = k.inverse(place, rotation, seed)
    assert (found.joints >= k.LOW).all()
    assert (found.joints <= k.HIGH).all()
    p, r = k.forward(found.joints)
    if tilt < math.radians(20):
        assert found.exact
    # A tool that leans back farther than that moves the wrist out of reach in places: that is owned up to.
    if found.exact:
        np.testing.assert_allclose(p, place, atol=1e-8)
        np.testing.assert_allclose(r, rotation, atol=1e-8)


@given(places, yaws)
def test_a_tool_that_points_down_keeps_the_elbow_in_its_upright_plane(place, yaw):
    q = k.inverse(place, tool_down(yaw), k.REST).joints
    assert abs(q[0] - math.atan2(place[1], place[0])) < 1e-9
    np.testing.assert_allclose(q[[2, 4]], 0.0, atol=1e-9)
    assert abs(math.remainder(q[6] - (math.pi / 4 + q[0] - yaw), 2 * math.pi)) < 1e-9


@given(places, places, yaws, yaws, st.floats(0.0, math.radians(8)), ways)
def test_along_a_straight_path_joints_do_not_jump(a, b, yaw, then, tilt, way):
    steps = 2 + int(max(np.linalg.norm(b - a) / 0.004, abs(then - yaw) / 0.01))  # as the expert goes, and slower
    q = k.REST
    path = []
    for s in np.linspace(0.0, 1.0, steps):
        q = k.inverse(a + s * (b - a), leaning(yaw + s * (then - yaw), tilt, way), q).joints
        path.append(q)
    assert np.abs(np.diff(path, axis=0)).max() <= PANDA.step


@given(st.floats(0.9, 3.0), st.floats(-3, 3), yaws)
def test_out_of_reach_is_said_and_comes_near(x, y, yaw):
    found = k.inverse(np.array([x, y, 0.05]), tool_down(yaw), k.REST)
    assert not found.exact
    assert (found.joints >= k.LOW).all()
    assert (found.joints <= k.HIGH).all()
    p, _ = k.forward(found.joints)
    if found.joints[6] not in (k.LOW[6], k.HIGH[6]):
        assert math.hypot(p[0], p[1]) > 0.72  # stretched towards it
        assert abs(math.remainder(math.atan2(p[1], p[0]) - math.atan2(y, x), 2 * math.pi)) < 0.1


def test_the_seed_says_which_way_round_the_last_joint_is():
    place, rotation = np.array([0.5, 0.0, 0.1]), tool_down(math.radians(-135))
    for last in (2.5, -2.5):
        seed = np.array([*k.REST[:6], last])
        assert np.sign(k.inverse(place, rotation, seed).joints[6]) == np.sign(last)
