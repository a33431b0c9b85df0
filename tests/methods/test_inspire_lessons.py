"""What InSpire says at the frames of a dataset: from its states, in any unit, and as a mind learns it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from mindhand.core.errors import BadData
from mindhand.core.keys import Key, Keys
from mindhand.core.spec import Camera, Part, Spec
from mindhand.data.cache import FrameCache
from mindhand.data.episodes import Episode
from mindhand.data.lerobot_read import LeRobotReader
from mindhand.data.lerobot_write import LeRobotWriter
from mindhand.data.record import Noise, record_demonstrations
from mindhand.data.robot import RobotFrames
from mindhand.data.synthetic.samples import QA, ImageText
from mindhand.methods.reason.inspire import (
    ANSWERS,
    FROM_BEHIND,
    QUESTION,
    Config,
    InSpire,
    Lessons,
    answers,
    directions,
    gripper,
)
from mindhand.model.vla import VLA
from mindhand.worlds.cued import CUE
from mindhand.worlds.desk.spec import SPEC as DESK
from mindhand.worlds.desk.spec import SPECS
from mindhand.worlds.desk.world import DeskWorld

from ..contract.bases import SPEC
from ..data.make import write
from ..model.tiny import vlm, words
from ..seams.build import observation
from .test_inspire import TOLD, carried, what_is

EXACT = Config(noise=0.0)
PARTS = (
    Part("tcp", "position", ("x", "y", "z"), "m", frame="base"),
    Part("hand", "gripper", ("open",), "1", polarity="open"),
)
ARM = Spec("point", PARTS, PARTS, (Camera("front", 32, 32, (32, 32)),), 10.0)


def demonstration(index, told, spec=ARM, held=True):
    tip, opening = carried()
    opening = opening if held else np.ones_like(opening)
    closed, scale = spec.state[1].polarity == "closed", 1000 if spec.state[0].unit == "mm" else 1
    state = np.column_stack([tip * scale, 1 - opening if closed else opening]).astype(np.float32)
    rng = np.random.default_rng(index)
    pictures = rng.integers(0, 256, (len(tip), 32, 32, 3), dtype=np.uint8)
    return Episode({"front": pictures}, state, state, told, [""] * len(tip), True, Key("unit", told, index))


@pytest.fixture(scope="module")
def demos(tmp_path_factory):
    made = [demonstration(0, TOLD[0]), demonstration(1, TOLD[1]), demonstration(2, TOLD[0], held=False)]
    return LeRobotReader(write(tmp_path_factory.mktemp("inspire") / "d", made, ARM))


def test_lessons_say_as_much_as_is_asked(demos):
    exact = Lessons(demos, EXACT)
    at = np.array([0, 12, 30, 42, 60, 72])  # begin and middle of each episode
    told = [demos.instruction(int(i)) for i in at]
    assert exact.thoughts(at, told, Keys.seeded(6)) == ["right back", "grasped back", "right", "grasped", "", ""]
    assert exact.covered == pytest.approx(2 / 3)
    first, second = exact(at, told, Keys.seeded(6))
    names = ["red ball"] * 2 + ["box"] * 2
    assert list(first.asked) == [*(QUESTION.format(name) for name in names), "", ""]
    assert [bool(q) for q in second.asked] == [True, True, False, False, False, False]


@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
def test_some_answers_are_drawn_at_random(demos, share):
    lessons = Lessons(demos, Config(noise=share))
    at, told = np.full(2000, 12), [TOLD[0]] * 2000
    said = np.array([t.split() for t in lessons.thoughts(at, told, Keys.seeded(2000, share))])
    assert (said == ["grasped", "back"]).mean(0) == pytest.approx(np.full(2, 1 - share * 6 / 7), abs=0.03)
    again = lessons.thoughts(at[:9], told[:9], Keys.seeded(2000, share)[slice(0, 9)])
    assert again == [" ".join(row) for row in said[:9]]  # by their keys, and whoever else is asked
    if share == 1:
        assert set(said[:, 0]) == set(said[:, 1]) == set(ANSWERS)
        assert np.mean(said[:, 0] == said[:, 1]) == pytest.approx(1 / 7, abs=0.03)


def test_frames_are_taught_beside_pictures_with_words(demos, tmp_path):
    w = words()
    frames = RobotFrames(demos, FrameCache.build(tmp_path, demos), w, 4, turns=Lessons(demos, EXACT))
    one = ImageText(np.zeros((32, 32, 3), np.uint8), (QA("board", "what is on the board?", "3+4=7."),))
    made = frames.batch(np.array([12, 30, 60]), Keys.seeded(3), [one], grid=(4, 4))
    text = made.text["reasoning"]
    rows = [w.decode(ids[valid].tolist()) for ids, valid in zip(text.ids, text.valid)]
    asked = [QUESTION.format(name) for name in ("red ball", "place left of the blue cup", "box")]
    assert rows == [
        f"<ask>{asked[0]}<end><say>grasped<end><ask>{asked[1]}<end><say>back<end>",
        f"<ask>{asked[2]}<end><say>right<end>",
        "",
        "<say>3+4=7.<end>",
    ]
    plain = replace(frames, turns=None).batch(np.array([12, 30, 60]), Keys.seeded(3), [one], grid=(4, 4))
    assert torch.equal(plain.text["text"].ids, made.text["text"].ids)
    words_alone = w.answers([*[""] * 3, "3+4=7."])  # the demonstrations have no thoughts of their own
    for f in ("ids", "valid", "supervised"):
        assert torch.equal(getattr(plain.text["reasoning"], f), getattr(words_alone, f))
    assert torch.equal(made.targets["look"].valid[-1], (made.targets["look"].valid & text.valid)[-1])


def test_a_mind_learns_its_answers(demos, tmp_path):
    """From pictures alone it comes to say what the states told, at the frames that it has seen."""
    vla = VLA(spec=ARM, backbone=vlm(), reasoner=InSpire())
    frames = RobotFrames(demos, FrameCache.build(tmp_path, demos), vla.backbone.words, 4, turns=Lessons(demos, EXACT))
    at = np.array([0, 12, 42])
    made = frames.batch(at, Keys.seeded(len(at)))
    obs = observation([demos.instruction(int(i)) for i in at])
    obs = replace(obs, images={"front": made.images["front"].numpy()}, state=made.state.numpy())
    right = tuple(frames.turns.thoughts(at, obs.text["instruction"], Keys.seeded(len(at))))
    vla.state_scale.fit(made.state.flatten(0, 1))
    optimiser = torch.optim.AdamW(vla.parameters(), 3e-3)
    assert len(set(right)) == 3 and vla.think(obs, vla.start(obs.keys))[0].reasoning.texts != right
    for _ in range(30):
        optimiser.zero_grad()
        vla.losses(made, Keys.seeded(len(at)))["text"].mean().backward()
        optimiser.step()
    assert vla.think(obs, vla.start(obs.keys))[0].reasoning.texts == right


def test_other_units_and_polarities_say_the_same_and_other_states_are_refused(demos, tmp_path):
    here = Lessons(demos).words[:30]
    odd = (replace(PARTS[0], unit="mm"), replace(PARTS[1], polarity="closed"))
    spec = replace(ARM, state=odd, action=odd)
    reader = LeRobotReader(write(tmp_path / "mm", [demonstration(0, TOLD[0], spec)], spec))
    assert Lessons(reader).words == here
    states = np.concatenate([demonstration(0, TOLD[0]).state, demonstration(1, TOLD[0]).state])
    states[30:, 3] = 0.004 * (np.arange(30) % 2)  # a gripper that stays shut closes on nothing
    tip, opening = gripper(ARM, states)
    assert answers(tip[:30], opening[:30], EXACT) and not answers(tip[30:], opening[30:], EXACT)
    idle = LeRobotReader(write(tmp_path / "idle", [demonstration(0, TOLD[0], held=False)], ARM))
    silent = LeRobotReader(write(tmp_path / "silent", [demonstration(0, "answer the board")], ARM))
    for none in (idle, silent):
        with pytest.raises(BadData, match="no frame to ask anything at"):
            Lessons(none)
    for spec in (SPEC, SPECS[2]):
        with pytest.raises(BadData, match="one position"):
            gripper(spec, np.zeros((4, spec.state_size), np.float32))


def label(world, row):
    """What is there, as numbers that go with a frame."""
    thing, goal, held = what_is(world, row)
    return {"truth": np.array([*thing, *goal, held])}


@pytest.mark.parametrize("share,slack", [(0.0, 0.0), (1.0, 0.02)])
def test_demonstrations_with_a_cue_are_answered_rightly(tmp_path, share, slack):
    """Of the scenes of its proof: undisturbed by the letter; where the hand is shaken by a centimetre, as in three
    of four demonstrations, but for frames at which another direction is better by less than 2 cm."""
    some = [Key("demonstrations", CUE, i) for i in range(6)]
    with DeskWorld(2) as world, LeRobotWriter(tmp_path / "d", DESK, pictures="model", labels={"truth": 7}) as writer:
        record_demonstrations(world, some, writer, noise=Noise(share=share), rows=2, labels=label, after=12)
    reader = LeRobotReader(tmp_path / "d")
    lessons, truth = Lessons(reader, EXACT), reader.label("truth")
    assert lessons.covered == 1 and len(lessons.words) == len(truth)
    right, shuffled = (agreed(reader, lessons.words[by:] + lessons.words[:by], truth, slack) for by in (0, 40))
    assert (right >= 0.95).all() and (shuffled < 0.75).all()


def agreed(reader, words, truth, slack):
    """Shares of the frames at which the answers about the thing, and about where it goes, are the true ones, or say
    what is true but for `slack` m: of demonstrations that got there in time."""
    out, order = [], [word for pair in FROM_BEHIND for word in pair]
    for about, begin, end in zip(reader.episodes, reader.begins.tolist(), reader.ends.tolist()):
        if not about.success:
            continue
        held = truth[begin:end, 6] > 0.5
        for k, shut in ((0, held), (1, held & False)):
            far = truth[begin:end, 3 * k : 3 * k + 3]
            reach = np.stack([far, -far], -1).reshape(-1, 6)
            for t, true in enumerate(directions(far, shut, FROM_BEHIND, EXACT.margin)):
                said = words[begin + t][k]
                near = said in order and not shut[t] and reach[t, order.index(said)] > reach[t].max() - slack
                out.append((k, said == true or near))
    return np.array([np.mean([ok for which, ok in out if which == k]) for k in (0, 1)])
