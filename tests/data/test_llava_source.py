"""A file of conversations beside a robot's data: one batch, whose text is learned from the file's answers."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from mindhand.core.errors import BadData, SpecMismatch
from mindhand.core.keys import Keys
from mindhand.data.cache import FrameCache
from mindhand.data.image import encode_png
from mindhand.data.lerobot_read import LeRobotReader
from mindhand.data.llava import LlavaSet
from mindhand.data.llava_source import LlavaSource
from mindhand.data.mixture import Mixture, SampleSet
from mindhand.data.robot import RobotFrames, RobotSource
from mindhand.data.synthetic.collate import collate_image_text
from mindhand.model.vla import VLA
from mindhand.model.words import text_of
from tests.data.make import make_episode, point_spec, write
from tests.model.tiny import vlm

SPEC = point_spec((32, 32), 32)
SHADES = (40, 90, 140, 190, 240)


@pytest.fixture
def frames(tmp_path) -> RobotFrames:
    reader = LeRobotReader(write(tmp_path / "demos", [make_episode(i, 9, SPEC) for i in range(4)], SPEC))
    return RobotFrames(reader, FrameCache.build(tmp_path / "cache", reader), vlm().words, 4)


def talks(folder, **changes) -> LlavaSet:
    """Five conversations about five pictures; the first has three turns."""
    records = []
    for i, shade in enumerate(SHADES):
        (folder / f"{i}.png").write_bytes(encode_png(np.full((20, 50, 3), shade, np.uint8)))
        said = [f"shade {i}?", f"it is {shade}."] + (["and so?", "tiles 1.", "more?", "take 7."] if i == 0 else [])
        lines = [{"from": ("human", "gpt")[k % 2], "value": text} for k, text in enumerate(said)]
        records.append({"id": str(i), "image": f"{i}.png", "conversations": lines})
    records[-1] |= changes
    (folder / "mine.json").write_text(json.dumps(records))
    return LlavaSet(folder / "mine.json")


def sources(mine, frames, seed=0, rows=None, batch=16):
    sets = [
        SampleSet("mine", "image-text", np.arange(len(mine)) if rows is None else rows),
        SampleSet("demos", "robot", frames.cache.frames),
    ]
    mixture = Mixture(sets, batch, seed)
    corpus = LlavaSource({"mine": mine}, mixture, frames, seed)
    return mixture, corpus, RobotSource(frames, mixture, seed, corpus, grid=(2, 4))


def test_one_batch_learns_the_files_answers_beside_the_robots(frames, tmp_path):
    mine = talks(tmp_path)
    mixture, corpus, source = sources(mine, frames)
    vla = VLA(spec=SPEC, backbone=vlm())
    vla.state_scale.fit(torch.tensor(frames.reader.state))
    share, heard = [], set()
    for step in range(6):
        drawn, batch = mixture.rows(step), source.batch(vla, step)
        texts = drawn.set == 0
        share.append(texts.mean())
        said = text_of(vla.backbone.words, batch.text["reasoning"].ids, batch.text["reasoning"].valid)
        robot = int((~texts).sum())  # robot rows come first
        for row, index in enumerate(drawn.index[texts]):
            answers = {t.answer for t in mine.conversations[index].turns}
            assert said[robot + row] in answers and batch.task[robot + row] == 0
            assert (batch.images["front"][robot + row] == SHADES[index]).all()
            assert not batch.present["wrist"][robot + row] and not batch.action_valid[robot + row].any()
            heard.add(said[robot + row])
        assert said[:robot] == frames.thoughts(drawn.index[~texts])
    assert np.mean(share) == pytest.approx(0.25, abs=0.05) and len(heard) == len(SHADES) + 2

    batch, samples = source.batch(vla, 0), [corpus(0, row) for row in range(int((mixture.rows(0).set == 0).sum()))]
    alone = collate_image_text(samples, vla.backbone.words, (2, 4))

    def errors(b):  # summed over a row's supervised tokens
        tokens = sum(int(t.supervised.sum()) for t in b.text.values())
        return vla.losses(b, Keys.seeded(len(b)))["text"].detach() * tokens / len(b)

    assert torch.allclose(errors(batch)[-len(samples) :], errors(alone), atol=1e-3)
    assert (errors(alone) > 0).all()


def test_a_batch_is_a_function_of_its_step(frames, tmp_path):
    mine = talks(tmp_path)
    a, b = (sources(mine, frames)[2] for _ in range(2))
    first = [a.batch(None, step) for step in (0, 1, 2)]
    for step in (2, 0, 1):
        again = b.batch(None, step)
        assert torch.equal(again.text["reasoning"].ids, first[step].text["reasoning"].ids)
        assert torch.equal(again.images["front"], first[step].images["front"])
    other = sources(mine, frames, seed=1)[2].batch(None, 0)
    assert not torch.equal(other.images["front"], first[0].images["front"])


def test_refusals(frames, tmp_path):
    with pytest.raises(BadData, match="conversation '4' has no picture"):
        sources(talks(tmp_path, image=None), frames)
    lines = [{"from": "human", "value": "what?"}, {"from": "gpt", "value": "fünf"}]
    with pytest.raises(BadData, match=r"conversation '4' has the characters \['ü'\]"):
        sources(talks(tmp_path, conversations=lines), frames)
    sources(talks(tmp_path, conversations=lines), frames, rows=np.arange(4))  # nobody draws it
    mine = talks(tmp_path)
    with pytest.raises(BadData, match=r"draws conversations 0 .. 5"):
        sources(mine, frames, rows=np.arange(6))
    mixture, _, _ = sources(mine, frames)
    with pytest.raises(BadData, match="for the sets"):
        LlavaSource({"other": mine}, mixture, frames)
    with pytest.raises(SpecMismatch, match="unknown camera role 'side'"):
        LlavaSource({"mine": mine}, mixture, replace(frames, camera="side"))
