"""Grasping is contact and friction: nothing ties a thing to the hand."""

import numpy as np
import pytest

from mindhand.core.keys import Key
from mindhand.worlds.desk.build import REST
from mindhand.worlds.desk.world import DeskWorld

TASKS = ("maths_matching/R/1", "spatial_placing/R", "obstacle_course/near", "height_reaching/varied")


def carried(slippery: bool) -> tuple[int, bool]:
    """Control steps of the scripted expert's eight seconds in which a tile is off the table and in the hand, and
    whether the task was done."""
    with DeskWorld(rows=1) as world:
        world.reset([Key("contact", TASKS[0], 1)], [0])
        stage = world._stages[0]
        m = stage.model
        pads = [k for k in range(m.ngeom) if m.geom(k).name.endswith("_pad")]
        assert len(pads) == 2
        if slippery:
            m.geom_friction[[*pads, *stage.ids.tile_geoms]] = 0
        steps = 0
        for _ in range(160):
            outcome = world.step(world.expert([0]), [0])
            at = stage.positions
            steps += bool(((at[:, 2] > REST + 0.02) & (np.linalg.norm(at - stage.tcp, axis=1) < 0.03)).any())
            if outcome.done[0]:
                return steps, bool(outcome.success[0])
    return steps, False


def test_without_friction_nothing_is_carried():
    steps, success = carried(slippery=False)
    assert steps > 10 and success
    steps, success = carried(slippery=True)  # squeezed out of the hand, and perhaps far away, but not carried
    assert steps <= 2 and not success


@pytest.mark.parametrize("task", TASKS)
def test_nothing_in_the_model_could_tie_a_thing_to_the_hand(task):
    """No weld and no connect, MuJoCo's only other way to hold; mocap bodies and tendons neither."""
    with DeskWorld(rows=1) as world:
        world.reset([Key("contact", task, 1)], [0])
        m = world._stages[0].model
        assert (m.neq, m.nmocap, m.ntendon) == (0, 0, 0)
