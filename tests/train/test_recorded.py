"""Recordings of what a hand felt: whole after any stop, of one policy, and of the row that ran."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch

from mindhand.core.errors import BadData
from mindhand.core.keys import Key
from mindhand.kit.probe import acted
from mindhand.model.diffusion import SDE
from mindhand.model.vla import VLA
from mindhand.serve.execute import run_episodes
from mindhand.train.recorded import load_recorded, record
from mindhand.train.rollouts import Seen

from ..contract.bases import BASES, HORIZON, policy
from ..contract.reaching import Reaching

KEYS = [Key("recorded", "reach/near", i) for i in range(5)]
HOW = {"replan": HORIZON, "steps": 48, "rows": 2}


@cache
def base() -> VLA:
    return policy(BASES["flow"]()).eval()


class Stopped(Reaching):
    """Is stopped as it begins its so-many-th episode."""

    begun = 0

    def reset(self, keys, rows):
        self.begun += len(keys)
        if self.begun > 3:
            raise KeyboardInterrupt
        super().reset(keys, rows)


def test_a_recording_that_was_stopped_goes_on_byte_for_byte(tmp_path):
    whole = record(base(), Reaching(2), KEYS, tmp_path / "whole", **HOW)
    with pytest.raises(KeyboardInterrupt):
        record(base(), Stopped(2), KEYS, tmp_path / "parts", **HOW)
    some = load_recorded(tmp_path / "parts")
    assert 0 < len(some.episodes) < len(KEYS)
    record(base(), Reaching(2), KEYS, tmp_path / "parts", **HOW)
    first, second = (sorted((tmp_path / n).glob("*.npz")) for n in ("whole", "parts"))
    assert [f.name for f in first] == [f.name for f in second] and len(first) == len(KEYS)
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(first, second))
    assert [e.key for e in whole.episodes] == KEYS and {e.success for e in whole.episodes} == {True, False}
    for e in whole.episodes:
        assert e.features.dtype == np.float16 and e.features.shape == (-(-e.steps // HORIZON), 3, 32)
        assert e.instruction == "pick" and e.success == (e.steps < 48)
    again = record(base(), Stopped(2), KEYS[1:3], tmp_path / "whole", **HOW)
    assert [e.key for e in again.episodes] == KEYS[1:3], "nothing was run, and no more is given"


def test_what_is_recorded_is_what_the_row_felt(tmp_path):
    """Also where a row that fills the batch has its key and still sees the beginning; of rollouts to learn from too."""
    key, long = KEYS[0], {"replan": HORIZON, "horizon_steps": 48, "rows": 3}
    found = record(base(), Reaching(3), [key], tmp_path, **{**HOW, "rows": 3}).episodes[0].features
    world, state = Reaching(1), base().start([key] * 3)
    world.reset([key], [0])
    seen = Seen(policy({**BASES["flow"](), "sampler": SDE()}).eval(), 1.0)
    run_episodes(seen, Reaching(3), [key], **long)
    for query in range(2):
        obs = world.observe([0] * 3)
        chunk, told, state = acted(base(), obs, state)
        assert np.allclose(found[query], told[0].numpy(), atol=2e-3)
        if query:  # what it drew before was another chunk, which hardly moves this point
            assert (seen.queries[key, 1]["image.front"].astype(int) - 128).any(), "what was seen at the beginning"
        for t in range(HORIZON):
            world.step(chunk.actions[:1, t], [0])
    assert not np.allclose(found[0], found[1], atol=2e-2)


def test_what_is_no_recording_of_this_is_refused(tmp_path):
    record(base(), Reaching(2), KEYS[:1], tmp_path, **HOW)
    other = policy(BASES["flow"]()).eval()
    with torch.no_grad():
        other.expert.leave.bias[0] += 1e-3
    with pytest.raises(BadData, match="is a recording of"):
        record(other, Reaching(2), KEYS[:1], tmp_path, **HOW)
    with pytest.raises(BadData, match="is a recording of"):
        record(base(), Reaching(2), KEYS[:1], tmp_path, **{**HOW, "replan": 8})
    (file,) = tmp_path.glob("*.npz")
    file.write_bytes(file.read_bytes()[:-30])
    with pytest.raises(BadData, match="no episode"):
        load_recorded(tmp_path)
    with pytest.raises(BadData, match="without about"):
        load_recorded(tmp_path / "nowhere")
