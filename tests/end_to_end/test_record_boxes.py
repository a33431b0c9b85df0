"""Demonstrations of placing whose thoughts hold boxes: the same episodes, other words."""

from __future__ import annotations

import numpy as np
import pytest

from mindhand.core.errors import BadData
from mindhand.core.keys import Key
from mindhand.data.lerobot_read import LeRobotReader
from mindhand.recipes.places import boxed
from mindhand.recipes.record import RECORDED, record
from mindhand.worlds.desk.world import DeskWorld
from mindhand.worlds.placing import read_placing


def test_thoughts_of_a_dataset_hold_boxes(tmp_path):
    for task in ("placing", "placing-boxes"):
        assert record(task, 1, 1, tmp_path / task) == 0
    plain, with_boxes = (LeRobotReader(tmp_path / task) for task in ("placing", "placing-boxes"))
    assert RECORDED["placing-boxes"] == RECORDED["placing"]
    assert np.array_equal(plain.action, with_boxes.action) and np.array_equal(plain.state, with_boxes.state)
    said = [(read_placing(plain.reasoning(i)), read_placing(with_boxes.reasoning(i))) for i in range(len(plain.state))]
    for a, b in said:
        named = {k: v for k, v in b.items() if not k.endswith("_box")}
        assert named == {k: v for k, v in a.items() if not k.endswith("_box")}
        assert a["target_box"] is a["reference_box"] is None
        wanted = {"take": {"target_box", "reference_box"}, "put": {"reference_box"}, "done": set()}[b["step"]]
        assert {k for k, v in b.items() if k.endswith("_box") and v is not None} == wanted
    assert {b["step"] for _, b in said} >= {"take", "put"}
    with pytest.raises(BadData, match=r"thoughts: own \| boxes"):
        record("placing-boxes", 2, 1, tmp_path / "placing")


def test_words_without_boxes_are_refused():
    with DeskWorld(1) as world:
        for task in ("maths_matching/R", "spatial_placing/R/absent-target"):
            world.reset([Key("t", task, 0)], [0])
            with pytest.raises(BadData, match="boxes in thoughts"):
                boxed(world, 0)
