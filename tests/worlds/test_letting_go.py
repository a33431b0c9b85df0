"""An expert that lets go is seen to: no state lasts in which it does one thing first and another later."""

import pytest

from mindhand.core.keys import Key
from mindhand.data.record import Noise, demonstrate
from mindhand.worlds.desk.world import DeskWorld

MOVED = 0.02  # of the gripper's way
SOON = 3  # control steps


@pytest.mark.parametrize("task", ["maths_matching/R/2", "spatial_placing/R"])
def test_fingers_open_as_soon_as_they_are_told_to(task):
    """A command that rises while the fingers are still pressed together is not in the state: who learns to act from
    what it sees would wait there for ever."""
    slow = []
    with DeskWorld(1) as world:
        for index in range(4):
            world.reset([Key("letting go", task, index)], [0])
            opening, wide = 0, 1.0
            while True:
                action = world.expert([0])
                (facts,), plan = world.geometry([0]), world._rows[0].expert.plan
                if plan.phase == "open" and plan.t == 1:
                    opening, wide = 0, facts["gripper"]
                done = world.step(action, [0]).done[0]
                if plan.phase == "open":
                    opening += 1
                    if opening == SOON:
                        slow.append(world.geometry([0])[0]["gripper"] < wide + MOVED)
                if done:
                    break
    assert len(slow) >= 4 and not any(slow)


def test_who_is_watched_longer_is_seen_to_have_let_go():
    """An episode of two digits and one of a toy: as far as they are decided they are the same, then the hand leaves
    what it has put, open, with nothing more to do."""
    for task in ("maths_matching/R/2", "spatial_placing/R"):
        short, long = {}, {}
        with DeskWorld(1) as world:
            for into, after in ((short, 0), (long, 12)):
                demonstrate(world, [(0, Key("after", task, 0))], into.__setitem__, noise=Noise(), rows=1, after=after)
        a, b = short[0], long[0]
        assert a.success and b.success and len(b.action) == len(a.action) + 12
        assert (a.action == b.action[: len(a.action)]).all() and (a.state == b.state[: len(a.state)]).all()
        assert b.state[-1, 2] > a.state[-1, 2] + 0.02 and b.state[-1, -1] > 0.95
        assert all("done" in said for said in b.reasoning[-11:])
