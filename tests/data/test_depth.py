"""How far away things are, as demonstrations record it: what the camera renders, by cells, with a mask."""

import numpy as np
import pytest
import torch

from mindhand.core.batch import Target
from mindhand.core.errors import BadData
from mindhand.core.keys import Keys
from mindhand.data.cache import FrameCache
from mindhand.data.lerobot_read import LeRobotReader
from mindhand.data.record import CELLS, DEPTH, cell_depth
from mindhand.data.robot import RobotFrames
from mindhand.data.synthetic.vocabulary import train_words
from mindhand.evaluate.protocol import HEIGHTS as PROTOCOL
from mindhand.evaluate.protocol import keys
from mindhand.methods.see.depthvla import scale_invariant
from mindhand.recipes.places import DESK, HEIGHTS, demonstrate, place_of, worlds
from mindhand.worlds.desk.senses import Senses
from mindhand.worlds.desk.world import DeskWorld

TASK = "height_reaching/varied"


@pytest.fixture(scope="module")
def frames(tmp_path_factory) -> RobotFrames:
    folder = tmp_path_factory.mktemp("depth")
    reader = LeRobotReader(demonstrate(folder / "data", (TASK,), 2, workers=1))
    return RobotFrames(reader, FrameCache.build(folder / "cache", reader, every=4), train_words(), 4)


def test_a_label_is_the_rendered_depth_of_its_cells(frames):
    """Of the sense, which is another way to it: by hand, at the first frame and, after the recorded commands, later."""
    label, count = frames.reader.label("depth"), CELLS[0] * CELLS[1]
    assert label.shape == (len(frames.reader.frame_index), count) and {"depth": count} == DEPTH
    key = frames.reader.episodes[0].key
    with DeskWorld(1, senses=Senses(depth=("front",))) as world:
        world.reset([key], [0])
        noise = HEIGHTS.noise.steps(key)
        for step in range(24):
            seen = world.observe([0])
            if step % 6 == 0:
                assert np.array_equal(seen.state[0, 0], frames.reader.state[step])
                whole = seen.extras["depth/front"][0, 0]
                for cell in (0, 37, 64, count - 1):
                    y, x = 16 * (cell // 16), 8 * (cell % 16)
                    assert label[step, cell] == pytest.approx(whole[y : y + 16, x : x + 8].mean(), rel=1e-6)
            world.disturb([0], noise(step)[None])
            world.step(frames.reader.action[step][None], [0])
    assert label.min() > 0.5 and label.max() < 1.5 and label.std(0).max() > 0.01  # metres, and the block and arm show


def test_pixels_that_see_nothing_count_for_nothing():
    metres, valid = np.full((16, 16), 2.0, np.float32), np.ones((16, 16), bool)
    valid[:8, :4], valid[:8, 8:15] = False, False  # half of the first cell, most of the second
    metres[~valid] = 1e9
    metres[8:, :8] = 3.0
    assert np.array_equal(cell_depth(metres, valid, (2, 2)), np.array([np.nan, np.nan, 3.0, 2.0], np.float32), True)
    valid[0, 0] = True
    metres[0, 0] = 2.0
    assert cell_depth(metres, valid, (2, 2))[0] == 2.0
    with pytest.raises(BadData, match="cells"):
        cell_depth(metres, valid, (3, 2))


def test_a_batch_has_it_as_a_target_with_its_mask(frames, monkeypatch):
    index = np.array([0, 8, 16])
    whole = frames.batch(index, Keys.seeded(3)).targets["depth"]
    label = frames.reader.label("depth")
    assert isinstance(whole, Target) and whole.value.dtype == torch.float32 and whole.valid.dtype == torch.bool
    assert whole.value.shape == whole.valid.shape == (3, 128) and bool(whole.valid.all())
    assert np.array_equal(whole.value.numpy(), label[index])
    broken = label.copy()
    broken[8, 5:9], broken[16] = np.nan, np.inf
    monkeypatch.setitem(frames.reader._labels, "depth", broken)
    some = frames.batch(index, Keys.seeded(3)).targets["depth"]
    assert some.valid.sum(1).tolist() == [128, 124, 0] and not some.valid[1, 5:9].any()
    guess = torch.zeros(3, 128, requires_grad=True)
    loss = scale_invariant(guess, some.value, some.valid)
    loss.sum().backward()
    assert loss.isfinite().all() and loss[2] == 0 and guess.grad.isfinite().all()
    assert not guess.grad[~some.valid].any() and guess.grad[0].any()


def test_no_policy_is_given_it():
    with worlds(PROTOCOL)(1) as world:
        world.reset(keys(PROTOCOL)[:1], [0])
        seen = world.observe([0])
        assert not seen.extras and set(seen.images) == {"front", "wrist"}


def test_other_places_record_no_depth():
    assert place_of((TASK,)) is HEIGHTS and place_of(("maths_matching/R",)) is DESK
    assert "depth" not in DESK.labels and HEIGHTS.scene() != DESK.scene()
    with pytest.raises(BadData, match="no one world"):
        place_of((TASK, "maths_matching/R"))
