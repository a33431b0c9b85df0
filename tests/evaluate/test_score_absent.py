"""Scores of impossible requests: to say none and take nothing is right there, and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mindhand.core.errors import BadData
from mindhand.core.keys import Key
from mindhand.core.nouns import ActionChunk, Observation, Reasoning
from mindhand.evaluate.protocol import MATHS_ABSENT, PLACING_ABSENT, keys
from mindhand.evaluate.report import summary
from mindhand.evaluate.run import row_of
from mindhand.evaluate.score import score, score_text
from mindhand.evaluate.score_placing import score_placing
from mindhand.evaluate.scores import scored
from mindhand.recipes.evaluate import tasks_of
from mindhand.serve.execute import run_episodes
from mindhand.worlds.absent import sample_maths_task, sample_placing_task
from mindhand.worlds.desk.kinematics import to_rot6d, tool_down
from mindhand.worlds.desk.spec import HOME, LIMITS, PLACING_LIMIT, REFUSAL_LIMIT, SPEC
from mindhand.worlds.desk.world import DeskWorld
from mindhand.worlds.placing import placing_reasoning
from mindhand.worlds.scene import place_words, reasoning_text

maths_keys = st.builds(
    Key, st.just("t"), st.sampled_from([f"maths_matching/{s}/absent" for s in ("R", "K-dev/2", "X")]), st.integers(0)
)
PLACING = [f"spatial_placing/{s}/absent-{role}" for s in ("R", "K-dev") for role in ("target", "reference")]


def row(key: Key, *texts: str, choice: int = -1, **facts) -> dict:
    """An episode in which these were thought, 20 steps apart, and a thing was taken after the first of them."""
    maths = key.task.startswith("maths")
    scene = sample_maths_task(key) if maths else sample_placing_task(key)
    many = {"tiles": len(scene.tiles), "placed": 0} if maths else {"toys": len(scene.choices())}
    why = "" if choice < 0 else "took something, wanted none"
    return {
        "key": str(key), "protocol": key.protocol, "task": key.task, "index": key.index, "seed": key.seed,
        "success": choice < 0, "end": "success" if choice < 0 else "time",
        "thoughts": [[20 * i, t] for i, t in enumerate(texts)], "chosen_at": 15 if choice >= 0 else None,
        "facts": {"choice": choice, "choice_right": choice < 0, "why": why, **many, **facts},
    }  # fmt: skip


# ---- words ---------------------------------------------------------------------------------------------


@given(maths_keys)
def test_the_teacher_s_none_gets_every_point_and_a_tile_gets_none(key):
    scene = sample_maths_task(key)
    text = reasoning_text(scene, 0)
    found = score_text(text, scene)
    assert (found.ocr, found.maths) == (4, 2)
    tile = scene.tiles[0]
    for t in scene.tiles:  # also of a digit that the answer has: half of it cannot be laid
        tile = t if t.digit in scene.equation.digits else tile
    wrong = text.replace("none.", f"take {tile.digit} {place_words(tile.x, tile.y)}.")
    assert (score_text(wrong, scene).ocr, score_text(wrong, scene).maths) == (4, 1)


def test_none_where_it_can_be_done_reads_right_and_means_wrong():
    key = Key("t", "maths_matching/R", 0)
    scene = sample_maths_task(key)
    text = reasoning_text(scene, 0)
    refused = f"{text[: text.index(' take')]} none."
    assert (score_text(refused, scene).ocr, score_text(refused, scene).maths) == (4, 1)
    right = scene.order()[0]
    found = score({**row(key, refused, choice=right, choice_right=True), "success": True})
    assert found["refused"] and found["rac"] is False and found["choice"] and "false_take" not in found
    assert score(row(key, text))["refused"] is False and score(row(key, text))["rac"] is None


@settings(max_examples=25, deadline=None)
@given(maths_keys, st.sampled_from(PLACING), st.integers(0))
def test_to_take_nothing_is_the_right_choice_and_chance_has_none(maths, task, index):
    toys = Key("t", task, index)
    for key, one, said in (
        (maths, score, reasoning_text(sample_maths_task(maths), 0)),
        (toys, score_placing, placing_reasoning(sample_placing_task(toys), "take")),
    ):
        good, bad = one(row(key, said)), one(row(key, said, choice=0))
        assert good["choice"] and good["refused"] and good["rac"] is True and good["why"] == ""
        assert not good["false_take"] and good["choice_chance"] == 0 and good.get("success_chance", 0) == 0
        assert not bad["choice"] and bad["false_take"] and bad["rac"] is False and bad["why"].startswith("took")
        silent = one(row(key))
        assert silent["choice"] and silent["rac"] is None and "refused" not in silent


def test_what_is_missing_is_recognised_by_none():
    for task in PLACING:
        key = Key("t", task, 3)
        scene = sample_placing_task(key)
        text = placing_reasoning(scene, "take")
        found = score_placing(row(key, text))
        assert found["recognition"] and found["parsed"] and found["spatial"] is None
        other = "hammer" if "hammer" not in text else "duck"
        assert not score_placing(row(key, text.replace(scene.missing.said, other)))["recognition"]
        believed = f"{text[: -len(' none.')]}"  # without its end
        assert not score_placing(row(key, believed))["parsed"]
    possible = Key("t", "spatial_placing/R", 3)
    assert not score_placing(row(possible, text))["recognition"]  # of a scene in which all is there


def test_rows_of_other_scenes_are_refused():
    with pytest.raises(BadData, match="tiles"):
        score(row(Key("t", "maths_matching/R/absent", 0), tiles=9))


# ---- protocols, from keys to the summary -----------------------------------------------------------------


@pytest.mark.parametrize("protocol", [MATHS_ABSENT, PLACING_ABSENT])
def test_a_protocol_has_every_impossible_scene_beside_its_possible_twin(protocol):
    protocol.require(SPEC)
    assert protocol.steps >= max(REFUSAL_LIMIT, PLACING_LIMIT) and MATHS_ABSENT.steps == max(LIMITS.values())
    sample = sample_maths_task if protocol is MATHS_ABSENT else sample_placing_task
    first = {k.task: sample(k) for k in keys(protocol.only(episodes=1))}
    for task, scene in first.items():
        twin = first["/".join(task.split("/")[:2])]
        assert scene.instruction == twin.instruction
        assert (scene == twin) is ("absent" not in task)
    assert tasks_of(protocol, ("R", "X")) == [t for t in protocol.tasks if t.split("/")[1] in ("R", "X")]
    with pytest.raises(BadData, match="has no task"):
        protocol.only(*tasks_of(protocol, ("R", "C")))


class Homebody:
    """Goes home, whatever it is asked, and says that there is none."""

    spec, provides, name = SPEC, frozenset(), "homebody"

    def start(self, keys: Sequence[Key]) -> dict:
        return {}

    def act(self, obs: Observation, state: dict, *, want: Sequence[str] = ()) -> tuple[ActionChunk, dict]:
        home = np.concatenate([np.array(HOME) - [-0.41, 0, 0], to_rot6d(tool_down(0.0)), [1.0]])
        chunk = np.tile(home.astype(np.float32), (len(obs), 8, 1))
        words = Reasoning(("3+4=7. tiles 125. none.",) * len(obs))
        return ActionChunk(chunk, np.ones(chunk.shape[:2], bool), words), state


def test_whoever_always_refuses_has_one_half_and_nothing_of_the_other():
    some = ("maths_matching/R", "maths_matching/R/absent")
    with DeskWorld(2) as world:
        episodes = keys(MATHS_ABSENT.only(*some, episodes=2))
        results = run_episodes(Homebody(), world, episodes, replan=8, horizon_steps=MATHS_ABSENT.steps, rows=2)
    rows = scored([row_of(r) for r in results])
    assert [r["end"] for r in rows] == ["time", "time", "success", "success"]
    assert [r["steps"] for r in rows][2:] == [REFUSAL_LIMIT] * 2
    possible, impossible = (line for line in summary(rows) if not line.part)
    assert (possible.measures["success"].value, impossible.measures["success"].value) == (0, 1)
    assert impossible.measures["false_take"].value == 0 and "false_take" not in possible.measures
    assert possible.measures["refused"].value == impossible.measures["refused"].value == 1
    assert impossible.label == "In-domain (R), absent" and impossible.chance == {"success": 0, "choice": 0}
