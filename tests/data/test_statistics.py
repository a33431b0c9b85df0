"""Statistics: exact, floored by a written rule, and refused for another robot."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mindhand.core.errors import BadData, SpecMismatch
from mindhand.core.keys import Keys
from mindhand.core.spec import Part
from mindhand.data.episodes import gather
from mindhand.data.lerobot_read import LeRobotReader
from mindhand.data.statistics import Statistics, Stream, check, floors, measure
from tests.data.make import point_spec


def numbers(rows: int, size: int, seed: int = 0) -> np.ndarray:
    return Keys.seeded(1, "numbers", seed).normal(rows, size)[0]


@given(st.lists(st.integers(0, 40), min_size=1, max_size=6), st.integers(0, 50))
def test_streaming_is_exact(cuts, seed):
    x = numbers(sum(cuts) + 1, 3, seed) * 0.01 + 1000.0  # a large mean: naive sums of squares lose it
    stream = Stream(np.full(3, 1e-9))
    for block in np.split(x, np.cumsum(cuts)):
        stream.add(block)
    got, wide = stream.moments(), x.astype(np.float64)
    assert got.count == len(x)
    assert got.exact
    assert got.mean == pytest.approx(wide.mean(0), rel=1e-12)
    assert got.std == pytest.approx(wide.std(0), rel=1e-6, abs=1e-9)
    assert (got.min == wide.min(0)).all()
    assert (got.max == wide.max(0)).all()
    assert got.q01 == pytest.approx(np.quantile(wide, 0.01, axis=0), rel=1e-12)
    assert got.q99 == pytest.approx(np.quantile(wide, 0.99, axis=0), rel=1e-12)


def test_quantiles_of_a_sample_when_it_does_not_fit():
    x = numbers(60000, 2)
    x[1::16] += 5.0  # one row in sixteen is different: a sample of every 16th would see none of it, or only it
    stream = Stream(np.full(2, 1e-9), keep=8000)
    for block in np.array_split(x, 37):
        stream.add(block)
    got = stream.moments()
    assert not got.exact
    assert got.q99 == pytest.approx(np.quantile(x, 0.99, axis=0), abs=0.25)
    assert got.mean == pytest.approx(x.astype(np.float64).mean(0), rel=1e-9)
    assert (got.max == x.max(0)).all()
    assert sum(r.size for r in stream._rows) <= 8000


def test_what_cannot_be_measured_is_refused():
    stream = Stream(np.full(2, 1e-3))
    with pytest.raises(BadData, match="nothing"):
        stream.moments()
    for bad in (np.zeros((3, 3)), np.zeros(2), np.array([[0.0, np.nan]])):
        with pytest.raises(BadData):
            stream.add(bad)


def made(mode="q01_q99", actions=None, **options) -> Statistics:
    actions = numbers(200, 3) if actions is None else actions
    return measure([(numbers(len(actions), 2, 1), actions)], point_spec(), mode=mode, **options)


@pytest.mark.parametrize("mode", ["mean_std", "q01_q99", "min_max"])
def test_modes_are_what_they_are_called(mode):
    x = numbers(500, 3) * [1.0, 5.0, 0.1] + [0.0, 3.0, 1.0]
    normal = made(mode, x).normalise("action", x)
    if mode == "mean_std":
        assert normal.mean(0) == pytest.approx(np.zeros(3), abs=1e-5)
        assert normal.std(0) == pytest.approx(np.ones(3), rel=1e-5)
    elif mode == "min_max":
        assert normal.min(0) == pytest.approx(-np.ones(3), abs=1e-6)
        assert normal.max(0) == pytest.approx(np.ones(3), abs=1e-6)
    else:
        assert np.quantile(normal, 0.01, axis=0) == pytest.approx(-np.ones(3), abs=1e-4)
        assert np.quantile(normal, 0.99, axis=0) == pytest.approx(np.ones(3), abs=1e-4)
    assert made(mode, x).restore("action", normal) == pytest.approx(x, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("mode", ["mean_std", "q01_q99", "min_max"])
def test_constant_dimensions_give_zero_and_are_not_blown_up(mode):
    x = numbers(100, 3)
    x[:, 1] = 0.3
    statistics = made(mode, x)
    normal = statistics.normalise("action", x)
    assert normal[:, 1] == pytest.approx(np.zeros(100), abs=1e-4)
    near = x + 0.0005  # half a millimetre off
    assert np.abs(statistics.normalise("action", near)[:, 1]).max() < 0.51
    assert statistics.restore("action", normal)[:, 1] == pytest.approx(np.full(100, 0.3), abs=1e-6)


def test_floors_follow_the_unit():
    parts = [Part("a", "joint", ("x",), unit) for unit in ("m", "rad", "deg")]
    parts += [Part("b", "position", ("x",), "mm", frame="base"), Part("c", "gripper", ("w",), "1", polarity="open")]
    assert floors(parts) == pytest.approx([1e-3, 1e-3, 0.0573, 1.0, 1e-3], rel=1e-3)


def test_a_gripper_that_rarely_closes_is_not_constant():
    x = numbers(1000, 3)
    x[:, 2] = 1.0
    x[:4, 2] = 0.0  # both quantiles are 1
    normal = made("q01_q99", x).normalise("action", x)[:, 2]
    assert sorted(set(normal.tolist())) == [-1.0, 1.0]


def test_relative_chunks_are_measured_relative_and_without_padding():
    episodes = [(numbers(9, 2, s), numbers(9, 3, s + 50)) for s in range(3)]

    def relative(chunks, state):
        out = chunks.copy()
        out[..., :2] -= state[:, None, :2]
        return out

    got = measure(episodes, point_spec(), horizon=4, transform=("relative", relative))
    want = []
    for state, action in episodes:
        for t in range(9):
            for h in range(4):
                if t + h < 9:
                    want.append([*(action[t + h, :2] - state[t]), action[t + h, 2]])
    assert got.actions == "relative"
    assert got.action.count == len(want)
    assert got.action.mean == pytest.approx(np.mean(want, 0), abs=1e-6)
    assert got.action.q01 == pytest.approx(np.quantile(want, 0.01, axis=0), abs=1e-6)
    padded = np.concatenate(
        [relative(gather(a, np.arange(9), np.full(9, 9), 4)[0], s).reshape(-1, 3) for s, a in episodes]
    )
    assert np.abs(got.action.mean - padded.mean(0)).max() > 1e-3  # padding would have shown
    with pytest.raises(BadData, match="made"):
        measure(episodes, point_spec(), horizon=4, transform=("short", lambda c, s: c[:, :2]))


def test_of_a_dataset(dataset):
    reader = LeRobotReader(dataset)
    got = measure(reader.vectors(), reader.spec)
    assert got.action.count == len(reader)
    assert got.state.mean == pytest.approx(reader.state.mean(0), rel=1e-5)
    part = measure(reader.vectors([1, 3]), reader.spec)
    assert part.action.count == 6 + 8


def test_json_round_trip(tmp_path):
    statistics = made()
    statistics.save(tmp_path / "statistics.json")
    again = Statistics.load(tmp_path / "statistics.json", point_spec())
    x = numbers(50, 3, 9)
    assert (again.normalise("action", x) == statistics.normalise("action", x)).all()
    assert again.to_json() == statistics.to_json()
    assert json.loads(json.dumps(again.to_json()))["mode"] == "q01_q99"


def test_absent_foreign_and_damaged_are_refused(tmp_path):
    with pytest.raises(BadData, match="no statistics"):
        Statistics.load(tmp_path / "none.json", point_spec())
    made().save(tmp_path / "s.json")
    with pytest.raises(SpecMismatch, match="other"):
        Statistics.load(tmp_path / "s.json", replace(point_spec(), robot="other"))
    with pytest.raises(SpecMismatch):
        Statistics.load(tmp_path / "s.json", point_spec(rate=20.0))
    whole = made().to_json()
    for change in (
        {"mode": "guess"},
        {"version": 2},
        {"surprise": 1},
        {"action": {**whole["action"], "mean": [0.0]}},
        {"action": {**whole["action"], "std": [0.0, float("nan"), 1.0]}},
        {"action": {k: v for k, v in whole["action"].items() if k != "q01"}},
    ):
        with pytest.raises(BadData):
            Statistics.from_json(whole | change)
    with pytest.raises(BadData):
        Statistics.from_json({k: v for k, v in whole.items() if k != "state"})
    (tmp_path / "s.json").write_text("{")
    with pytest.raises(BadData, match="JSON"):
        Statistics.load(tmp_path / "s.json", point_spec())


def test_check_tells_statistics_of_other_data():
    x = numbers(4000, 3)
    statistics = made(actions=x)
    fine = check(statistics, {"action": x, "state": numbers(200, 2, 1)})
    assert fine.outside["action"] == pytest.approx(np.full(3, 0.02), abs=0.004)
    assert fine.round_trip < 1e-5
    wrong = check(statistics, {"action": x * 3.0})
    assert (wrong.outside["action"] > 0.3).all()
