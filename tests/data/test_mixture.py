"""The mixture: exact shares, no sample forgotten, and nothing but the step to remember."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mindhand.core.errors import BadData
from mindhand.core.keys import Key
from mindhand.data.mixture import Mixture, SampleSet, held_out
from mindhand.data.permute import permute


@given(st.integers(1, 3000), st.integers(0, 99))
def test_a_shuffle_is_a_bijection(size, seed):
    out = permute(np.arange(size), size, "unit", seed)
    assert sorted(out.tolist()) == list(range(size))
    at = np.arange(0, size, 7)
    assert (permute(at, size, "unit", seed) == out[at]).all()  # each element from itself alone


def test_a_shuffle_of_a_billion_needs_no_memory():
    out = permute(np.arange(1000), 10**9 + 7, "unit", 1)
    assert len(set(out.tolist())) == 1000
    assert 4e8 < out.mean() < 6e8
    assert out.max() < 10**9 + 7


@pytest.mark.parametrize("size", [3, 7, 40, 256])
def test_shuffles_are_fair(size):
    """Where elements go, over 1000 shuffles: chi-square of each element's place, and of a pair's order."""
    shuffles = np.stack([permute(np.arange(size), size, "fair", seed) for seed in range(1000)])
    for element in (0, 1, size - 1):
        count = np.bincount(shuffles[:, element], minlength=size)
        chi = ((count - 1000 / size) ** 2 / (1000 / size)).sum()
        assert chi < size - 1 + 5 * np.sqrt(2 * (size - 1)) + 5
    assert abs((shuffles[:, 0] < shuffles[:, 1]).mean() - 0.5) < 0.05


def test_shuffles_of_neighbouring_seeds_do_not_agree():
    a, b = (permute(np.arange(5000), 5000, "unit", seed) for seed in (0, 1))
    assert (a == b).sum() < 10
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.05
    assert abs(np.corrcoef(a, np.arange(5000))[0, 1]) < 0.05


def test_outside_the_domain_is_refused():
    for index, size in ((5, 5), (-1, 5), (0, 0)):
        with pytest.raises(BadData):
            permute(np.array([index]), size, "unit")


def mixed(seed: int = 0, batch: int = 12) -> Mixture:
    sets = [
        SampleSet("demos", "robot", 100 + 2 * np.arange(90)),
        SampleSet("vqa", "image-text", np.arange(17)),
        SampleSet("places", "image-text", np.arange(1000, 1034)),
    ]
    return Mixture(sets, batch, seed)


def test_one_image_text_sample_for_three_frames():
    mixture = mixed()
    assert mixture.quotas.tolist() == [90, 10, 20]
    rows = [mixture.rows(step) for step in range(10)]  # one epoch of 120
    which = np.concatenate([r.set for r in rows])
    assert np.bincount(which).tolist() == [90, 10, 20]
    frames = np.concatenate([r.index[r.set == 0] for r in rows])
    assert sorted(frames.tolist()) == (100 + 2 * np.arange(90)).tolist()  # each frame once an epoch
    shares = [float((r.set == 0).mean()) for r in rows]
    assert min(shares) < 0.75 < max(shares)  # a uniform shuffle, not a pattern within the batch


def test_every_set_is_gone_through_before_it_repeats():
    mixture = mixed()
    seen = np.concatenate([r.index[r.set == 1] for r in (mixture.rows(s) for s in range(170))])  # 17 epochs
    count = np.bincount(seen, minlength=17)
    assert len(seen) == 170
    assert count.tolist() == [10] * 17


def test_resume_is_exact():
    straight = [mixed().rows(step) for step in range(40)]
    code = (
        "import json, sys; from tests.data.test_mixture import mixed; r = mixed().rows(int(sys.argv[1]));"
        "print(json.dumps([r.set.tolist(), r.index.tolist()]))"
    )
    root = Path(__file__).parents[2]
    out = subprocess.run([sys.executable, "-c", code, "27"], capture_output=True, text=True, cwd=root, check=True)
    assert json.loads(out.stdout) == [straight[27].set.tolist(), straight[27].index.tolist()]
    for step in (39, 3, 11):  # in any order
        assert (mixed().rows(step).index == straight[step].index).all()


def test_the_batch_size_only_cuts_the_stream():
    whole = np.concatenate([mixed(batch=12).rows(s).index for s in range(30)])
    other = np.concatenate([mixed(batch=9).rows(s).index for s in range(40)])
    assert (whole == other).all()


def test_batches_longer_than_the_epoch():
    mixture = Mixture([SampleSet("few", "robot", np.arange(3))], 10, 0)
    assert np.bincount(np.concatenate([mixture.rows(s).index for s in range(3)])).tolist() == [10, 10, 10]


def test_seeds_epochs_and_sets_differ():
    first = np.concatenate([mixed().rows(s).index for s in range(10)])
    second = np.concatenate([mixed().rows(s).index for s in range(10, 20)])
    other = np.concatenate([mixed(seed=1).rows(s).index for s in range(10)])
    assert (first != second).mean() > 0.8
    assert (first != other).mean() > 0.8


def test_what_comes_together_once_does_not_always_come_together():
    sets = [SampleSet("demos", "robot", np.arange(60)), SampleSet("vqa", "image-text", np.arange(100))]
    mixture = Mixture(sets, 80, 0)  # a batch is an epoch with 20 of the 100 pairs
    rows = [mixture.rows(s) for s in range(10)]
    groups = [frozenset(r.index[r.set == 1].tolist()) for r in rows]
    assert all(len(g) == 20 for g in groups)
    assert frozenset.union(*groups[:5]) == frozenset.union(*groups[5:]) == frozenset(range(100))
    assert not set(groups[:5]) & set(groups[5:])
    assert len({r.set.tobytes() for r in rows}) == 10  # nor do the two kinds follow one pattern


def test_embodiments_and_weights():
    sets = [
        SampleSet("arm", "robot", np.arange(30), embodiment=0),
        SampleSet("pair", "robot", np.arange(10), weight=2.0, embodiment=1),
    ]
    mixture = Mixture(sets, 10, 0)
    rows = [mixture.rows(s) for s in range(5)]
    assert np.bincount(np.concatenate([r.embodiment for r in rows])).tolist() == [30, 20]
    pair = np.concatenate([r.index[r.set == 1] for r in rows])
    assert np.bincount(pair).tolist() == [2] * 10


def test_image_text_alone_and_another_ratio():
    vqa, demos = SampleSet("vqa", "image-text", np.arange(40)), SampleSet("demos", "robot", np.arange(30))
    assert Mixture([vqa], 4, 0).quotas.tolist() == [40]
    assert Mixture([vqa, demos], 4, 0, image_text=3.0).quotas.tolist() == [90, 30]


def test_what_cannot_be_mixed_is_refused():
    good = SampleSet("demos", "robot", np.arange(30))
    for bad in (
        lambda: SampleSet("none", "robot", np.arange(0)),
        lambda: SampleSet("zero", "robot", np.arange(3), weight=0.0),
        lambda: SampleSet("nan", "robot", np.arange(3), weight=float("nan")),
        lambda: Mixture([], 4, 0),
        lambda: Mixture([good], 0, 0),
        lambda: Mixture([good, good], 4, 0),
        lambda: Mixture([good, SampleSet("rare", "robot", np.arange(30), weight=1e-3)], 4, 0),
        lambda: Mixture([good], 4, 0).rows(-1),
    ):
        with pytest.raises(BadData):
            bad()


def test_identity_names_what_a_batch_depends_on():
    same = mixed().identity()
    assert mixed().identity() == same
    assert mixed(seed=1).identity() != same
    assert mixed(batch=11).identity() != same
    other = Mixture([SampleSet("demos", "robot", np.arange(90)), *mixed().sets[1:]], 12, 0)
    assert other.identity() != same


def test_held_out_depends_on_the_episode_alone():
    keys = [Key("record", "maths", i) for i in range(400)]
    out = held_out(keys, 0.1, seed=3)
    assert 20 <= out.sum() <= 65
    order = np.arange(400)[::-1]
    assert (held_out([keys[i] for i in order], 0.1, 3) == out[order]).all()
    part = held_out(keys[:200], 0.1, 3)  # a rank that sees half of them decides alike
    assert (part == out[:200]).all()
    assert (held_out(keys, 0.1, seed=4) != out).any()
    assert (out <= held_out(keys, 0.3, seed=3)).all()
    for share, some in ((0.0, keys), (1.0, keys), (0.1, keys[:1])):
        with pytest.raises(BadData):
            held_out(some, share, 3)
