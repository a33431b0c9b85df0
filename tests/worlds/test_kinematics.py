"""The arm's closed form, against itself and against the simulator's tree."""

import mujoco
import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from mindhand.worlds.desk import kinematics as k
from mindhand.worlds.desk.stage import Stage

joints = st.tuples(*(st.floats(low, high) for low, high in zip(k.LOW.tolist(), k.HIGH.tolist()))).map(np.array)


@given(joints)
def test_forward_is_the_simulators(q):
    stage = _stage()
    stage.data.qpos[stage.ids.arm] = q
    mujoco.mj_kinematics(stage.model, stage.data)
    position, rotation = k.forward(q)
    np.testing.assert_allclose(position, stage.tcp - stage.base, atol=1e-12)
    np.testing.assert_allclose(rotation, stage.rotation, atol=1e-12)


def _stage(keep=[]):
    if not keep:
        keep.append(Stage())
    return keep[0]


@given(joints, joints)
def test_inverse_returns_to_the_pose(q, seed):
    position, rotation = k.forward(q)
    found = k.inverse(position, rotation, seed)
    # The branches that reach over the back or bend the elbow down are not coded: those poses are owned up to.
    assume(found.exact)
    p, r = k.forward(found.joints)
    np.testing.assert_allclose(p, position, atol=1e-7)
    np.testing.assert_allclose(r, rotation, atol=1e-7)
    assert (found.joints >= k.LOW).all()
    assert (found.joints <= k.HIGH).all()


@given(
    st.floats(0.2, 0.55), st.floats(-0.16, 0.12), st.floats(0.011, 0.1), st.floats(-0.7, 0.7), joints
)  # the poses the task needs, all reachable from any seed
def test_every_task_pose_is_reached(x, y, z, yaw, seed):
    assume(np.hypot(x, y) <= 0.56)
    found = k.inverse(np.array([x, y, z]), k.tool_down(yaw), seed)
    assert found.exact
    p, r = k.forward(found.joints)
    np.testing.assert_allclose(p, [x, y, z], atol=1e-9)
    assert abs(k.tool_yaw(r) - yaw) < 1e-9


@given(st.floats(0.7, 3.0), st.floats(-3, 3), st.floats(-0.7, 0.7))
def test_out_of_reach_is_said_and_kept_within_limits(x, y, yaw):
    found = k.inverse(np.array([x, y, 0.05]), k.tool_down(yaw), np.zeros(6))
    assert not found.exact
    assert (found.joints >= k.LOW).all()
    assert (found.joints <= k.HIGH).all()


def test_the_seed_chooses_the_branch():
    q = np.array([0.1, -0.4, 0.6, 0.5, 0.9, -0.3])
    other = np.array([q[3] - np.pi, -q[4], q[5] + np.pi])
    p, r = k.forward(q)
    np.testing.assert_allclose(k.inverse(p, r, q).joints, q, atol=1e-9)
    np.testing.assert_allclose(k.inverse(p, r, np.array([*q[:3], *other])).joints[3:], other, atol=1e-9)


@given(joints, st.floats(0.2, 5.0), st.floats(-0.5, 0.5))
def test_rot6d_round_trip_and_gram_schmidt(q, scale, lean):
    _, rotation = k.forward(q)
    six = k.to_rot6d(rotation)
    np.testing.assert_allclose(k.from_rot6d(six), rotation, atol=1e-12)
    # Neither the length of the first axis nor what the second leans along it changes the rotation.
    bent = np.concatenate([scale * six[:3], six[3:] + lean * six[:3]])
    np.testing.assert_allclose(k.from_rot6d(bent), rotation, atol=1e-9)


def test_rot6d_without_a_plane_is_none():
    assert k.from_rot6d(np.array([1.0, 0, 0, 2.0, 0, 0])) is None
    assert k.from_rot6d(np.zeros(6)) is None
