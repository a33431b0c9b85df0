"""What the hand is told to look at: the thing that is wanted and how it is turned, by labels of the real desk."""

import numpy as np
import pytest

from mindhand.core.errors import BadData
from mindhand.core.keys import Key
from mindhand.data.cache import FrameCache
from mindhand.data.lerobot_read import LeRobotReader
from mindhand.data.lerobot_write import LeRobotWriter
from mindhand.data.record import GAZE, gaze, record_demonstrations
from mindhand.data.robot import RobotFrames
from mindhand.data.synthetic.vocabulary import train_words
from mindhand.worlds.desk.world import SPEC, DeskWorld


def test_the_tip_tells_the_turn_and_the_wrist_watches_the_tile():
    with DeskWorld(1) as world:
        for index in range(3):
            world.reset([Key("gaze", "maths_matching/R/1", index)], [0])
            seen = {"take": 0, "put": 0}
            for _ in range(200):
                step = "put" if "put" in world.reasoning(0) else "take"
                (facts,), labels = world.geometry([0]), gaze(world, 0)
                assert {n: x.shape for n, x in labels.items()} == {n: (k,) for n, k in GAZE.items()}
                (u, v), (s, t) = labels["gaze"].reshape(2, 2)
                yaw = facts["goal"][3]
                assert s > u and (abs(yaw) < 0.1 or (v > t) == (yaw > 0))  # half a turn changes nothing
                at = facts["goal"] if step == "put" else facts["tiles"][facts["target"]]
                assert world.project(at[None, :3], "front", [0])[0, 0] == pytest.approx((u, v), abs=1e-3)
                tile = world.project(facts["tiles"][facts["target"]][None, :3], "wrist", [0])[0, 0]
                assert labels["gaze_wrist"][:2] == pytest.approx(tile, abs=1e-3)
                seen[step] += 1
                if world.step(world.expert([0]), [0]).done[0]:
                    break
            assert min(seen.values()) > 10
            assert all(np.isnan(x).all() for x in gaze(world, 0).values())  # nothing is wanted any more


def test_with_a_toy_in_the_hand_it_looks_where_that_is_to_stand():
    """At the free spot, which no picture shows, as a VLM's plans do; not at the reference (docs/log.md)."""
    with DeskWorld(1) as world:
        world.reset([Key("gaze", "spatial_placing/R", 0)], [0])
        seen = {"take": 0, "put": 0}
        for _ in range(200):
            (facts,), now = world.geometry([0]), world.scene(0)
            step = "put" if "put" in world.reasoning(0) else "take"
            at = np.array([*now.goal(), 0.0]) if step == "put" else facts["object"]
            where = world.project(at[None, :3], "front", [0])[0, 0]
            assert gaze(world, 0)["gaze"][:2] == pytest.approx(where, abs=1e-3)
            seen[step] += 1
            if world.step(world.expert([0]), [0]).done[0]:
                break
        assert min(seen.values()) > 10


def test_labels_of_another_make_are_refused(tmp_path):
    def old(world, row):
        return {name: x[:2] for name, x in gaze(world, row).items()}

    with (
        DeskWorld(1) as world,
        LeRobotWriter(tmp_path / "d", SPEC, pictures="model", labels=dict.fromkeys(GAZE, 2)) as writer,
    ):
        record_demonstrations(world, [Key("gaze", "maths_matching/R/1", 0)], writer, labels=old)
    reader = LeRobotReader(tmp_path / "d")
    frames = RobotFrames(reader, FrameCache.build(tmp_path / "c", reader, every=8), train_words(), 4)
    with pytest.raises(BadData, match=r"2 numbers[\s\S]*record the demonstrations again"):
        frames.gaze(frames.cache.frames)
