"""Who watches a policy, from the command line: recorded, fitted, named round a policy, and measured."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mindhand.core.errors import BadData, BuildError, Refusal
from mindhand.core.keys import Key
from mindhand.core.record import read_rows
from mindhand.evaluate.protocol import HEIGHTS, PLACING
from mindhand.methods import wrapped
from mindhand.methods.guard.safe import Config
from mindhand.model.store import load_vla, save_vla
from mindhand.recipes import bench_sampling, monitor
from mindhand.recipes.fit import fit
from mindhand.train.recorded import Recorded, record
from tests.contract.bases import BASES, HORIZON, policy, rollouts
from tests.contract.reaching import Reaching
from tests.seams.build import observation

SMALL = Config(alpha=0.4, width=8, epochs=30, lr=1e-2)


def test_a_policy_s_rollouts_are_fitted_and_watch_it(tmp_path):
    vla = policy(BASES["flow"]()).eval()
    save_vla(vla, tmp_path / "policy")
    again, keys = load_vla(tmp_path / "policy"), [Key("contract", f"reach/{i % 2}", i) for i in range(28)]
    record(again, Reaching(8), keys, tmp_path / "rollouts", replan=HORIZON, steps=Reaching.limit, rows=8)
    made = fit("safe", tmp_path / "policy", tmp_path / "rollouts", tmp_path / "safe")
    safe, obs = wrapped(vla, [f"safe={tmp_path / 'safe'}"]), observation()
    chunk, _ = safe.act(obs, safe.start(obs.keys))
    assert (chunk.extra["score"] > 0).all() and np.array_equal(chunk.extra["limit"], made.limit[[0, 0]])
    with pytest.raises(Refusal, match=r"every 2\."):
        fit("safe", tmp_path / "policy", tmp_path / "rollouts", tmp_path / "other", every=2)


def test_a_score_is_fitted_round_what_goes_round_the_policy(tmp_path):
    """From the rollouts of both; round the bare policy it is refused."""
    save_vla(policy(BASES["flow"]()).eval(), tmp_path / "policy")
    vla, keys = load_vla(tmp_path / "policy"), [Key("contract", f"reach/{i % 2}", i) for i in range(28)]
    how = {"replan": HORIZON, "steps": Reaching.limit, "rows": 8}
    record(wrapped(vla, ["flashvla"]), Reaching(8), keys, tmp_path / "rollouts", **how)
    fit("safe", tmp_path / "policy", tmp_path / "rollouts", tmp_path / "safe", wraps=["flashvla"])
    names, obs = ["flashvla", f"safe={tmp_path / 'safe'}"], observation()
    both = wrapped(vla, names)
    chunk, _ = both.act(obs, both.start(obs.keys))
    assert {"reused", "score"} <= chunk.extra.keys()
    with pytest.raises(BuildError, match="'safe' round VLA: 'safe' fitted on policy"):
        wrapped(vla, names[1:])
    with pytest.raises(BuildError, match="rollouts of policy"):
        fit("safe", tmp_path / "policy", tmp_path / "rollouts", tmp_path / "other")
    with pytest.raises(Refusal, match="flashvla"):
        fit("taco", tmp_path / "policy", tmp_path / "rollouts", tmp_path / "other", wraps=["flashvla"])


def test_what_is_asked_about_nothing_learned_from():
    every = rollouts("flow")
    for number in range(3):
        known, asked, unseen = monitor.split(every, number)
        parts = [{e.key for e in part.episodes} for part in (known, asked, unseen)]
        assert sum(map(len, parts)) == len(set.union(*parts)) == len(every.episodes)
        assert set(known.tasks) == set(asked.tasks) and not set(known.tasks) & set(unseen.tasks)
        assert len(asked.episodes) == 6 and len(unseen.tasks) == 1
    with pytest.raises(BadData, match="1 tasks"):
        monitor.split(Recorded("policy", every.episodes[:20]), 0)


def test_records_are_of_rows_that_say_what_was_known(tmp_path, monkeypatch):
    every = rollouts("flow")
    (tmp_path / "about.json").write_text("{}")
    monkeypatch.setattr(monitor, "load_recorded", lambda home: every)
    assert monitor.publish(tmp_path / "results", tmp_path / "nowhere") == []
    found = {r.name: r for r in monitor.publish(tmp_path / "results", tmp_path, SMALL)}
    assert found["monitor/auc_unseen/time"].value == found["monitor/auc_seen/time"].value == 0.5
    own = found["monitor/auc_unseen/safe-mlp"]
    assert own.low > 0.5 and own.value > 0.7, "the wind is in the pictures"
    assert own.chance == 0.5
    assert set(own.trainings) == {"0", "1", "2"}
    for name in monitor.MONITORS:
        calm = read_rows(found[f"monitor/false_alarm_rate/{name}+alpha=0.4"], tmp_path / "results")
        assert calm and all(r["seen"] and not r["failed"] and r["alpha"] == 0.4 for r in calm)
        unseen = read_rows(found[f"monitor/detection_rate_unseen/{name}+alpha=0.4"], tmp_path / "results")
        assert unseen and all(r["failed"] and not r["seen"] for r in unseen)


def test_a_checkpoint_s_rollouts_are_recorded_but_for_k_test(tmp_path):
    save_vla(bench_sampling.policy("test"), tmp_path / "policy")
    small = replace(HEIGHTS.only(*HEIGHTS.tasks[:1], episodes=1), steps=8, rows=1)
    found = monitor.recorded(tmp_path / "policy", small, tmp_path / "rollouts")
    (one,) = found.episodes
    assert one.features.shape[:2] == (1, 3) and one.steps == 8 and not one.success
    ktest = tuple(t for t in PLACING.tasks if t.endswith("K-test"))
    with pytest.raises(BadData):
        monitor.recorded(tmp_path / "policy", PLACING.only(*ktest), tmp_path / "other")
    with pytest.raises(Refusal, match="record CHECKPOINT"):
        monitor.main(["record", "here"])
