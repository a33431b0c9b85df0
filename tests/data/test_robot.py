"""Robot frames as training rows: what a transform does to a frame in training is what it does when acting."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mindhand.core.errors import BadData
from mindhand.core.keys import Key, Keys
from mindhand.core.nouns import Observation
from mindhand.data.cache import FrameCache
from mindhand.data.lerobot_read import LeRobotReader
from mindhand.data.robot import RobotFrames
from mindhand.data.synthetic.vocabulary import train_words
from tests.data.make import make_episode, write


class Dim:
    """Transform: darker pictures, a shifted state, more words; noise where it trains alone."""

    def __init__(self, noise: float = 0.0):
        self.noise = noise

    def train(self, sample, rng):
        """Of one frame."""
        return {
            "instruction": sample["instruction"] + ", please",
            "state": sample["state"] + 1 + self.noise * rng.normal(size=2),
            "images": {role: x // 2 for role, x in sample["images"].items()},
        }

    def act(self, obs, state):
        """Of all rows."""
        images = {role: x // 2 for role, x in obs.images.items()}
        obs = obs.with_text("instruction", [t + ", please" for t in obs.text["instruction"]])
        return replace(obs, state=obs.state + 1, images=images), state


@pytest.fixture
def frames(dataset, tmp_path) -> RobotFrames:
    reader = LeRobotReader(dataset)
    return RobotFrames(reader, FrameCache.build(tmp_path / "cache", reader), train_words(), 4)


INDEX = np.array([3, 0, 11])


def batch(frames, *transforms, **how):
    return replace(frames, transforms=transforms).batch(INDEX, Keys.seeded(3), **how)


def test_a_frame_is_trained_on_as_it_is_acted_on(frames):
    plain, made = batch(frames), batch(frames, Dim())
    words = [frames.reader.instruction(int(i)) for i in INDEX]
    keys = tuple(Key("unit", "pick", i) for i in range(3))
    obs = Observation(
        {role: x.numpy() for role, x in plain.images.items()},
        plain.state.numpy(), {"instruction": words}, np.zeros((3, 1)), keys,
    )  # fmt: skip
    acted, _ = Dim().act(obs, {})
    assert all(np.array_equal(made.images[role].numpy(), x) for role, x in acted.images.items())
    assert np.array_equal(made.state.numpy(), acted.state) and not np.array_equal(acted.state, obs.state)
    said = frames.words.questions(acted.text["instruction"])
    assert np.array_equal(made.text["text"].ids, said.ids)


def test_a_policy_can_be_shown_frames_as_they_were_recorded(frames):
    made, plain = replace(frames, transforms=(Dim(),)).observe(INDEX), batch(frames)
    assert all(np.array_equal(made.images[role], x.numpy()) for role, x in plain.images.items())
    assert np.array_equal(made.state, plain.state.numpy())
    assert made.text["instruction"] == [frames.reader.instruction(int(i)) for i in INDEX]
    assert [(k.task, k.index) for k in made.keys] == [
        (f"episode/{frames.reader.episode_index[i]}", frames.reader.frame_index[i]) for i in INDEX
    ]
    assert made.time[:, 0].tolist() == [k.index / frames.reader.spec.rate for k in made.keys]
    again = frames.observe(INDEX[::-1].copy())
    assert again.keys == made.keys[::-1] and len({*made.keys}) == 3


def test_transforms_go_one_after_the_other_and_leave_the_cache_alone(frames):
    twice, plain = batch(frames, Dim(), Dim()), batch(frames)
    assert np.array_equal(twice.images["front"], plain.images["front"] // 4)
    assert np.allclose(twice.state, plain.state + 2)


def test_a_transform_may_draw_what_is_known_of_a_frame(tmp_path):
    """A path on the picture, the place of a tool: labels of the dataset, which no policy is given when it acts."""
    paths = [np.full((7, 2), i + np.arange(7)[:, None]) for i in range(2)]
    made = [replace(make_episode(i), labels={"path": p}) for i, p in enumerate(paths)]
    reader = LeRobotReader(write(tmp_path / "told", made, labels={"path": 2}))
    some = RobotFrames(reader, FrameCache.build(tmp_path / "told cache", reader), train_words(), 4)

    class Drawn:
        def train(self, sample, rng):
            images = {role: np.full_like(x, sample["labels"]["path"][0]) for role, x in sample["images"].items()}
            return {**sample, "images": images}

    assert batch(some, Drawn()).images["front"].flatten(1)[:, 0].tolist() == [3, 0, 5]


def test_their_noise_is_the_rows_own(frames):
    one, again = (batch(frames, Dim(1.0)).state.numpy() for _ in range(2))
    assert np.array_equal(one, again)
    alone = replace(frames, transforms=[Dim(1.0)]).batch(INDEX[:1], Keys.seeded(3)[:1])
    assert np.array_equal(alone.state.numpy(), one[:1])


def test_pictures_of_a_remembered_thought_are_transformed_too(frames):
    kept = dict.fromkeys(("prompt", "reasoning"), np.zeros((3, 8), np.float32))
    made, plain = batch(frames, Dim(), kept=kept), batch(frames, kept=kept)
    assert np.array_equal(made.images["wrist"], plain.images["wrist"] // 2)


@pytest.mark.parametrize("name", ["state", "front", "side"])
def test_what_comes_back_in_another_shape_is_refused(frames, name):
    class Odd:
        def train(self, sample, rng):
            if name == "state":
                return {**sample, "state": sample["state"][:1]}
            return {**sample, "images": {**sample["images"], name: np.zeros((4, 4, 3), np.uint8)}}

    with pytest.raises(BadData, match=f"'{name}' the shape"):
        batch(frames, Odd())
