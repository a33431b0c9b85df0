"""Meta-World from demonstrations to an evaluation: recorded by the same engine as the desk, evaluated by the same
verb; its expert solves what it solves, and chance nothing."""

from __future__ import annotations

import importlib.util
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from mindhand.core.errors import BadData, Refusal, SpecMismatch
from mindhand.core.keys import Key
from mindhand.data.lerobot_read import LeRobotReader
from mindhand.evaluate.compare import compare
from mindhand.evaluate.protocol import METAWORLD_10, named
from mindhand.recipes import evaluate as verb
from mindhand.recipes.places import demonstrate, place_of, worlds
from mindhand.recipes.record import RECORDED
from mindhand.recipes.rollouts import control, is_control, rows_of
from mindhand.worlds.metaworld import MetaWorld
from mindhand.worlds.metaworld_spec import SPEC, TASKS, task_of

needs = pytest.mark.skipif(
    importlib.util.find_spec("metaworld") is None,
    reason="needs the extra: pip install 'mindhand[metaworld]'",
)
QUIET = Console(file=io.StringIO())
pytestmark = pytest.mark.filterwarnings("ignore:Constant")
SOME = (task_of("reach"), task_of("drawer-close"))


@needs
def test_demonstrations_are_what_its_expert_does(tmp_path):
    folder = demonstrate(tmp_path / "set", SOME, 3, command="here", workers=1, console=QUIET)
    reader = LeRobotReader(folder)
    assert [e.key for e in reader.episodes] == [Key("demonstrations", SOME[i % 2], i // 2) for i in range(3)]
    with MetaWorld(1) as world:
        for number, about in enumerate(reader.episodes):
            episode = reader.episode(number)
            assert episode.instruction == TASKS[about.key.task.partition("/")[2]][0]
            assert episode.success and set(episode.reasoning) == {""}
            world.reset([about.key], [0])
            seen = world.observe([0])
            assert episode.state[0].tobytes() == seen.state[0, 0].tobytes()
            assert all((episode.images[role][0] == x[0, 0]).all() for role, x in seen.images.items())
            assert episode.action[0].tobytes() == world.expert([0])[0].tobytes()
    assert reader.spec == SPEC and np.abs(reader.action).max() <= 1
    before = reader.fingerprint()
    demonstrate(folder, SOME, 3, command="here", workers=1, console=QUIET)  # nothing is left to do
    assert LeRobotReader(folder).fingerprint() == before


@needs
def test_the_verb_evaluates_the_expert_and_chance_is_not_it(tmp_path, monkeypatch):
    small = METAWORLD_10.only(*SOME, episodes=1)
    monkeypatch.setattr(verb, "Console", lambda: QUIET)
    code = verb.evaluate(
        checkpoint=verb.Path("expert"), protocol="metaworld-mt10", split=("reach", "drawer-close"), episodes=1,
        language=True, blind=False, thoughts=False, wrap=(), shield=(), perturb=(), base=None, compare=(), against=None,
        workers=1, run=tmp_path / "a",
    )  # fmt: skip
    assert code == 0 and "swapped" in (tmp_path / "a" / "report.html").read_text()
    about = json.loads((tmp_path / "a" / "run.json").read_text())
    assert about["policy"] == "expert" and about["protocol"] == small.to_json() and about["versions"]["metaworld"]
    expert = [json.loads(line) for line in (tmp_path / "a" / "rows.jsonl").read_text().splitlines()]
    chance = rows_of(verb.Path("random"), small, tmp_path / "b", workers=1, films=0)
    for rows in (expert, chance):
        assert [(r["task"], r["index"]) for r in rows] == [(t, 0) for t in small.tasks]
    assert all(r["success"] and r["steps"] < 150 and r["film"] for r in expert)
    assert all(not r["success"] and r["steps"] == small.steps for r in chance)
    assert small.id in compare([tmp_path / "a"], [tmp_path / "b"]).protocol
    file = tmp_path / "b" / "run.json"
    file.write_text(file.read_text().replace('"metaworld": "', '"metaworld": "9.'))
    with pytest.raises(BadData, match="versions"):
        compare([tmp_path / "a"], [tmp_path / "b"])
    with pytest.raises(BadData, match="another policy"):
        rows_of(verb.Path("random"), small, tmp_path / "a", workers=1)


@needs
def test_the_expert_does_in_chunks_what_it_does_step_by_step():
    """By the protocol's own rows and replan, the last bit included."""
    key = Key(METAWORLD_10.id, task_of("push"), 4)
    policy = control("expert", METAWORLD_10)
    with MetaWorld(1) as world:
        world.reset([key], [0])
        for step in range(24):
            if step % METAWORLD_10.replan == 0:
                chunk, _ = policy.act(world.observe([0]), {})
            assert chunk.actions[0, step % METAWORLD_10.replan].tobytes() == world.expert([0])[0].tobytes()
            world.step(chunk.actions[:, step % METAWORLD_10.replan], [0])


def test_tasks_find_their_world():
    for name, tasks in RECORDED.items():
        assert (place_of(tasks).spec == SPEC) == name.startswith("metaworld-")
    assert len([n for n in RECORDED if n.startswith("metaworld-")]) == 52
    for bad in (["reach"], [task_of("reach"), "maths_matching/R"]):
        with pytest.raises(BadData, match="no one world"):
            place_of(bad)


def test_arms_that_the_world_does_not_know_are_refused():
    for arm in ("camera3", "told", "light1+blank"):
        with pytest.raises(Refusal, match="that world"):
            worlds(replace(METAWORLD_10, arm=arm))
    for arm in ("clean", "blank", "swapped", "dark"):
        worlds(replace(METAWORLD_10, arm=arm))
    worlds(replace(named("spatial-placing"), arm="camera3+told"))


def test_splits_are_tasks_here_and_usual_ones_elsewhere():
    assert verb.tasks_of(METAWORLD_10, ()) == list(METAWORLD_10.tasks)
    assert verb.tasks_of(METAWORLD_10, ("push",)) == ["metaworld/push"]
    assert verb.tasks_of(named("spatial-placing"), ()) == [f"spatial_placing/{s}" for s in ("R", "K-dev", "X")]
    assert verb.tasks_of(named("obstacle-course"), ()) == list(named("obstacle-course").tasks)
    assert verb.tasks_of(named("maths-matching-scanned"), ()) == ["maths_matching/K-dev/scanned"]
    with pytest.raises(BadData, match="juggle"):
        METAWORLD_10.only(*verb.tasks_of(METAWORLD_10, ("juggle",)))


def test_a_training_of_that_name_is_a_training(tmp_path):
    here = tmp_path / "expert" / "checkpoint"  # tests run in tmp_path
    here.mkdir(parents=True)
    assert is_control(verb.Path("expert")) and not is_control(tmp_path / "expert")
    (here / "manifest.json").write_text("{}")
    assert not is_control(verb.Path("expert"))


def test_a_policy_of_the_desk_is_refused(tmp_path):
    from mindhand.model import store
    from tests.model import test_vla as tiny

    store.save_vla(tiny.build(), tmp_path / "checkpoint")
    with pytest.raises(SpecMismatch):
        rows_of(tmp_path / "checkpoint", METAWORLD_10, tmp_path / "eval", workers=1)
