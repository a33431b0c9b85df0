"""Scores of the obstacle course: placing's, and what became of the obstacles; its protocol is the desk's."""

from __future__ import annotations

import pytest

from mindhand.core.errors import BadData
from mindhand.core.keys import Key
from mindhand.evaluate.protocol import keys as keys_of
from mindhand.evaluate.protocol import named
from mindhand.evaluate.report import by_task
from mindhand.evaluate.score_course import score_course
from mindhand.evaluate.scores import scored
from mindhand.worlds.course import LEVELS, sample_course_task
from mindhand.worlds.placing import placing_reasoning


def row(index: int = 0, level: str = "near", success: bool = True, **facts) -> dict:
    """An episode in which the target was taken after the teacher's thoughts."""
    key = Key("test", f"obstacle_course/{level}", index)
    scene = sample_course_task(key)
    found = {
        "choice": scene.target, "choice_right": True, "toys": len(scene.choices()), "why": "",
        "obstacles": len(scene.obstacles), "hit": False, "touched": False, "displacement": 0.0, "clearance": 0.02,
        **facts,
    }  # fmt: skip
    thoughts = [[0, placing_reasoning(scene, "take")], [20, placing_reasoning(scene, "put")]]
    return {
        "key": str(key), "protocol": key.protocol, "task": key.task, "index": key.index, "seed": key.seed,
        "success": success, "end": "success" if success else "time", "thoughts": thoughts, "chosen_at": 15,
        "facts": found,
    }  # fmt: skip


def test_a_row_has_placing_s_scores_and_what_was_hit():
    clean = score_course(row())
    assert clean["recognition"] and clean["spatial"] and clean["choice"] and clean["rac"]
    assert (clean["hit"], clean["touched"], clean["displaced"], clean["clearance"]) == (False, False, False, 0.02)
    grazed = score_course(row(hit=True, touched=True, displacement=0.004))
    assert grazed["hit"] and grazed["touched"] and not grazed["displaced"]
    moved = score_course(row(success=False, hit=True, displacement=0.02, why="moved an obstacle"))
    assert moved["displaced"] and moved["why"] == "moved an obstacle" and moved["displacement"] == 0.02


def test_rates_of_hits_are_in_the_report_s_summary():
    rows = scored([row(0), row(1, hit=True, touched=True), row(0, "across", False, hit=True, displacement=0.1)])
    near, across = by_task(rows)
    assert near.measures["hit"].value == 0.5 and near.measures["displaced"].value == 0.0
    assert across.measures["hit"].value == across.measures["displaced"].value == 1.0


def test_rows_of_other_scenes_are_refused():
    with pytest.raises(BadData, match="obstacles"):
        score_course(row(obstacles=9))
    with pytest.raises(BadData, match="toys to take"):
        score_course(row(toys=9))


def test_the_protocol_is_the_desk_s():
    from mindhand.worlds.desk.spec import COURSE_LIMIT, SPEC

    protocol = named("obstacle-course")
    protocol.require(SPEC)
    assert protocol.steps == COURSE_LIMIT
    assert protocol.tasks == tuple(f"obstacle_course/{level}" for level in LEVELS)
    for key in keys_of(protocol.only(episodes=1)):
        assert sample_course_task(key).obstacles
