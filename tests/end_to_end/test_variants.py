"""What variants of the grid change, and that those from before them are what they were."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from rich.console import Console

from mindhand.core.errors import BadData
from mindhand.core.keys import Keys
from mindhand.data.files import read_json, write_json
from mindhand.data.mixture import IMAGE_TEXT_PER_ROBOT, Mixture
from mindhand.data.synthetic.vocabulary import train_words
from mindhand.evaluate.protocol import MATHS
from mindhand.model.expert import thought_tokens, two_means
from mindhand.model.store import save_vla
from mindhand.model.vla import VLA
from mindhand.recipes import thoughts
from mindhand.recipes.chatvla2 import ChatVLA2Plan, build, fine_tuning, fit, frames, mixture, stages, train
from mindhand.recipes.nano import NanoPlan, build_reader
from mindhand.recipes.record import demonstrations
from mindhand.recipes.rollouts import rows_of
from mindhand.recipes.thoughts import remembered_thoughts
from mindhand.recipes.variants import GRID, Variant
from mindhand.worlds.desk.world import SPEC

QUIET = Console(quiet=True)
RECIPE = ChatVLA2Plan(episodes=2, every=4, warmup=1, align=2, mixed=8, tune=2, rows=8, brief=False, digits=False)
F0 = GRID["F0"]


@pytest.fixture(autouse=True)
def _whole(monkeypatch):
    """Thoughts in float32 on every processor, so that they can be compared."""
    monkeypatch.setattr(thoughts, "half", lambda device: False)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    demonstrations(home / "demos", RECIPE.episodes, workers=1, console=QUIET)
    reader = build_reader(NanoPlan("test", brief=False), train_words(True))
    save_vla(VLA(spec=SPEC, backbone=reader.backbone), home / "nano")
    return home


def ready(home, variant, plan=RECIPE):
    """A policy that has learned nothing, with statistics, and the frames it would learn from."""
    vla = build(home / "nano", plan, variant)
    robot = frames(home / "demos", home / "frames", plan, vla, variant, None)
    fit(vla, robot)
    return vla, robot


def test_a_plan_from_before_a_field_is_still_the_same_plan(home, tmp_path):
    where = home / "nano", home / "demos", home / "frames", tmp_path / "run", RECIPE
    checkpoint = train(*where, F0, console=QUIET)
    plan = tmp_path / "run" / "plan.json"
    about = read_json(plan, "plan")
    later = {f.name for f in fields(Variant) if f.default is None}
    assert "own" in later
    write_json(plan, {**about, "variant": {n: x for n, x in about["variant"].items() if n not in later}})
    made = (checkpoint / "manifest.json").read_bytes()
    assert (train(*where, F0, console=QUIET) / "manifest.json").read_bytes() == made
    with pytest.raises(BadData, match=r"variant\.own: None \| True"):
        train(*where, replace(F0, own=True), console=QUIET)


def test_a_hand_is_tuned_on_what_its_mind_says_itself(home, tmp_path):
    (vla, robot), variant = ready(home, F0), replace(F0, own=True)
    index, written, decode = robot.cache.frames, [], vla.backbone._decode

    def counted(trunk, turn):
        written.append(len(trunk.end))
        return decode(trunk, turn)

    vla.backbone._decode = counted
    given = fine_tuning(vla, robot, RECIPE, F0, tmp_path)
    assert not written
    own = fine_tuning(vla, robot, RECIPE, variant, tmp_path)  # in the same folder: what was given is not taken for it
    fresh = np.r_[True, (np.diff(own.source.kept["prompt"], axis=0) != 0).any(1)]
    assert written == [fresh.sum()] and fresh.sum() < len(index), "all at once, and only where it thinks anew"
    some = np.flatnonzero(fresh)[:3]
    obs = robot.observe(index[some])
    heard = two_means(vla.think(obs, vla.start(obs.keys))[0].trunk)
    for name, mean in zip(("prompt", "reasoning"), heard):
        assert np.allclose(own.source.kept[name][some], mean, atol=1e-4), "it is what a hand hears that acts"
    assert np.allclose(own.source.kept["prompt"], given.source.kept["prompt"], atol=1e-4)
    assert not np.isclose(own.source.kept["reasoning"], given.source.kept["reasoning"], atol=1e-2).all(1).any()
    a, b = own.source.batch(vla, 0), given.source.batch(vla, 0)
    for name in ("gaze", "gaze/shift", "gaze/wrist"):  # where to look is the demonstrations'
        assert torch.equal(a.targets[name].value.nan_to_num(), b.targets[name].value.nan_to_num())
    assert torch.equal(a.actions, b.actions)
    assert bool(torch.isfinite(vla.losses(a, Keys.seeded(len(a), 0))["action"]).all())
    before = len(written)
    assert np.array_equal(
        remembered_thoughts(vla, robot, index, tmp_path / "thoughts.npz", own=True)["reasoning"],
        own.source.kept["reasoning"],
    )
    assert len(written) == before


def test_given_thoughts_are_what_they_were(home, tmp_path):
    vla, robot = ready(home, F0)
    at = robot.cache.frames[robot.reader.frame_index[robot.cache.frames] % 8 == 0]
    kept = remembered_thoughts(vla, robot, at, tmp_path / "thoughts.npz")
    with torch.inference_mode():
        batch = robot.batch(at, Keys.seeded(len(at), "remember"))
        means = two_means(vla.trunk(batch, vla.inputs(batch)))
    assert list(kept) == ["prompt", "reasoning"]
    assert all(np.array_equal(x, mean) for x, mean in zip(kept.values(), means))


@pytest.mark.parametrize("own", [False, True])
def test_a_hand_that_attends_is_tuned_on_tokens(home, tmp_path, own):
    variant = replace(F0, place="attend", own=own or None)
    vla, robot = ready(home, variant)
    source = fine_tuning(vla, robot, RECIPE, variant, tmp_path).source
    index, said, there = robot.cache.frames, source.kept["reasoning"], source.kept["there"]
    assert said.values.dtype == np.float16 and len(said.values) == said.row.max() + 1 < len(index) == len(said.row)
    some = np.flatnonzero(np.diff(said.row, prepend=-1))[[0, 3, 5]]
    obs = robot.observe(index[some])
    obs = obs if own else obs.with_text("thought", robot.thoughts(index[some]))
    trunk = vla.think(obs, vla.start(obs.keys))[0].trunk
    heard, valid = thought_tokens(trunk)
    wide = heard.shape[1]
    assert np.array_equal(there[some][:, :wide], valid) and not there[some][:, wide:].any()
    assert np.allclose(said[some][:, :wide], heard, atol=1e-2)
    again = remembered_thoughts(vla, robot, index, tmp_path / "thoughts.npz", own=own)
    assert all(np.array_equal(again[n][some], x[some]) for n, x in source.kept.items())
    batch = source.batch(vla, 0)
    vla.losses(batch, Keys.seeded(len(batch), 0))["action"].mean().backward()
    assert bool(vla.expert.tokens.fitted) and vla.expert.following.attending.query.grad is not None


def test_a_hand_that_attends_is_trained_stored_and_acts(home, tmp_path):
    variant = replace(F0, place="attend")
    checkpoint = train(home / "nano", home / "demos", home / "frames", tmp_path, RECIPE, variant, console=QUIET)
    protocol = replace(MATHS.only("maths_matching/R", episodes=1), steps=9, rows=1)
    assert len(rows_of(checkpoint, protocol, tmp_path / "eval", workers=1, films=0)) == 1


@pytest.mark.parametrize(
    ("name", "stage", "share"),
    [("B7", 1, 1 / 4), ("mix-0", 1, 0), ("mix-1/9", 1, 1 / 10), ("mix-1/1", 1, 1 / 2), ("B5", 0, 0), ("B5", 1, 1 / 4)],
)
def test_image_text_has_its_share_of_a_stage(home, name, stage, share):
    vla, robot = ready(home, F0)
    source = stages(vla, robot, RECIPE, GRID[name])[stage].source
    kinds = np.array([s.kind for s in source.mixture.sets])
    epoch = -(-source.mixture.epoch_size // RECIPE.mixed)
    rows = np.concatenate([kinds[source.mixture.rows(step).set] for step in range(20 * epoch)])
    assert (rows == "image-text").mean() == pytest.approx(share, abs=0.02)
    batch = source.batch(vla, 0)
    assert int((batch.task == 0).sum()) == (kinds[source.mixture.rows(0).set] == "image-text").sum()


def test_the_paper_s_share_is_what_it_was(home):
    robot = ready(home, F0)[1]
    for texts in (IMAGE_TEXT_PER_ROBOT, 0.0):
        made = mixture(robot, RECIPE, texts)
        assert made.identity() == Mixture(made.sets, RECIPE.mixed, RECIPE.seed).identity()
        assert len(made.sets) == (2 if texts else 1)


def test_no_image_text_is_another_stage():
    for odd in ({"texts": 0.0}, {"texts": 1.0, "stages": ("robot",)}):
        with pytest.raises(BadData, match="none is stage robot"):
            Variant("odd", **odd)


@pytest.mark.parametrize("odd", [{"words": False, "place": "none"}, {"hand": "cascade"}, {"stages": ("robot",)}])
def test_thoughts_of_its_own_need_a_mind_that_is_remembered(odd):
    with pytest.raises(BadData, match="of its own"):
        replace(F0, own=True, **odd)
