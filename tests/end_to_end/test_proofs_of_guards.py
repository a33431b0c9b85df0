"""Experiments of what guards a policy, on a handful of episodes: what is recorded, fitted, attacked and told of it."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mindhand.core.batch import Batch
from mindhand.core.errors import BuildError
from mindhand.core.keys import Key, Keys
from mindhand.core.nouns import smoke_observation
from mindhand.core.record import write_record
from mindhand.core.red_team import attacks, refuse_attack
from mindhand.data.files import write_rows
from mindhand.data.synthetic.vocabulary import train_words
from mindhand.kit.still import unknown
from mindhand.methods import method
from mindhand.methods.guard.freezevla import Guard
from mindhand.methods.guard.safe import Config as Safe
from mindhand.model.store import save_vla
from mindhand.model.vla import VLA
from mindhand.recipes import proofs as all_proofs
from mindhand.recipes.nano import NanoPlan, build_reader
from mindhand.recipes.places import place_of
from mindhand.recipes.proofs import bench
from mindhand.recipes.proofs import freezevla as of_freeze
from mindhand.recipes.proofs import safe as of_safe
from mindhand.recipes.proofs.bench import Stand
from mindhand.worlds.desk.spec import SPEC as DESK
from tests.contract.bases import BASES, HORIZON, policy, rollouts
from tests.contract.reaching import Reaching
from tests.seams.build import observation

from .tiny_bench import FLOW, TOKENS, fake, make_home

SMALL = Safe(alpha=0.4, width=8, epochs=30, lr=1e-2)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return make_home(tmp_path_factory.mktemp("home"))


# ---- SAFE ------------------------------------------------------------------------------------------------


def reaching(tmp_path, monkeypatch, episodes=20):
    """SAFE's proof in a world of points: where it stands, and its policy."""
    tasks = ("reach/near", "reach/far")
    protocol = SimpleNamespace(tasks=tasks, rows=8, replan=HORIZON, steps=Reaching.limit)

    class Closing(Reaching):
        def close(self):
            pass

    monkeypatch.setattr(of_safe, "worlds", lambda protocol: Closing)
    monkeypatch.setattr(of_safe, "ROLLOUTS", episodes)
    monkeypatch.setattr(of_safe, "CONFIG", SMALL)
    stand = SimpleNamespace(bench=SimpleNamespace(protocol=protocol), folder=lambda arm, n: tmp_path / arm / str(n))
    return stand, policy(BASES["flow"]()).eval()


def test_safe_holds_what_it_learned_will_fail_from_rollouts_of_that_training(tmp_path, monkeypatch):
    """Recorded and fitted once, in scenes that no evaluation has; every arm of the proof can be held."""
    at, vla = reaching(tmp_path, monkeypatch)
    fits = []
    monkeypatch.setattr(of_safe, "fit", lambda *told, seed: fits.append(seed) or method("safe").fit(*told, seed=seed))
    safe = [of_safe.scored(vla, at, 1)(vla) for _ in range(2)][1]
    assert fits == [1] and safe.config == replace(SMALL, alarm="hold")
    obs = observation()
    assert {"score", "limit", "alarm"} <= safe.act(obs, safe.start(obs.keys))[0].extra.keys()
    made = of_safe.rollouts(vla, at, 1)
    assert {e.key for e in made.episodes} == {
        Key("watched", f"reach/{t}", i) for t in ("near", "far") for i in range(20)
    }
    assert unknown(place_of(of_safe.P.tasks).spec) == ()


def test_safe_and_its_controls_are_asked_about_the_same_episodes(tmp_path, monkeypatch):
    """A number of each where it counts, of episodes that nothing learned from; what they are compared by is that of
    failures in an unseen task. A score that knows time alone has one half there."""
    at, vla = reaching(tmp_path, monkeypatch)
    monkeypatch.setattr(of_safe, "rollouts", lambda vla, stand, training: rollouts("flow"))
    rows = of_safe.watched(vla, at, tmp_path / "safe" / "0")
    unseen = [r for r in rows if "auc_unseen" in r]
    assert unseen and all(r["failed"] and not r["seen"] for r in unseen) and {r["alpha"] for r in rows} == {0.4}
    assert len({r["key"] for r in rows}) == len(rows) == 26  # 6 of the seen task, all 20 of the other
    assert {r["auc_unseen_time"] for r in unseen} == {0.5}
    assert np.mean([r["over_time"] for r in unseen]) > 0.2, "the wind is in the pictures"
    for name in of_safe.MONITORS:
        called = "false_alarm_rate" + ("" if name == "safe-mlp" else f"_{name}")
        assert {(r["seen"], r["failed"]) for r in rows if called in r} == {(True, False)}
    assert {m.rpartition("_")[2] for m in of_safe.WATCHED.metrics if m.startswith("over_")} == {
        "safe-lstm", "time", "knn", "mahalanobis",
    }  # fmt: skip
    fields = {field for _, field, _ in of_safe.WATCHED.metrics.values()}
    for kind, field, unit in of_safe.WATCHED.metrics.values():
        if some := [r for r in rows if field in r]:
            write_record(
                f"a/b/{field}",
                rows=some,
                kind=kind,
                field=field,
                unit=unit,
                chance=None,
                sources=["mindhand.kit"],
                folder=tmp_path,
            )
    assert set().union(*rows) - {"key", "task", "seen", "failed", "alpha"} <= fields


def test_a_metric_is_of_the_rows_that_have_it(home, tmp_path, monkeypatch):
    """With its chance, by which a claim is decided; one that no row has is left out."""
    told = bench.Measured(lambda *what: [], {n: ("mean", n, "1") for n in ("auc_unseen", "none")}, {"auc_unseen": 0.5})
    proof = replace(of_safe.PROOF, bench=FLOW, arms=(replace(of_safe.PROOF.arms[0], measure=told),))
    monkeypatch.setattr(all_proofs, "proofs", lambda: {"safe": proof})
    monkeypatch.setattr(all_proofs, "_module", lambda name: bench)
    at = Stand(proof.bench, home / "nano", tmp_path / "run")
    for n in range(3):
        for arm in proof.all:
            fake(at, arm.name, n, 2)
        rows = [{"key": f"k/{n}/{i}", "failed": i > 2, **({"auc_unseen": 0.9} if i > 2 else {})} for i in range(9)]
        write_rows(at.folder("safe", n) / bench.MEASURED, rows)
    found = {r.name: r for r in all_proofs.publish(home / "nano", tmp_path / "run", tmp_path / "drafts")}
    own = found["proofs/safe/auc_unseen"]
    assert (own.n, own.chance) == (18, 0.5) and method("safe").card.claim.holds(own)
    assert "proofs/safe/none" not in found and found["proofs/safe/effect"].value == 0


# ---- FreezeVLA -------------------------------------------------------------------------------------------

BRIEF = {"steps": 1, "prompts": 1, "words": 0}


def test_attacks_of_the_proof_are_in_no_checkpoint_and_before_no_robot(tmp_path):
    """Four of its arms attack, in simulation; the defence alone does not. One of those with it knows it."""
    vla = load_policy_of_tokens()
    made = {arm.name: arm.wrap(vla) for arm in of_freeze.ARMS}
    assert {name for name, one in made.items() if attacks(one)} == {"freezevla", "attacked", "blind", "noise"}
    for name, one in made.items():
        if attacks(one):
            with pytest.raises(BuildError, match="attack"):
                refuse_attack(one, "a checkpoint")
            with pytest.raises(BuildError, match="a checkpoint"):
                save_vla(one, tmp_path / name)
    knows = {name: one.how.views > 0 for name, one in made.items() if attacks(one)}
    assert knows == {"freezevla": True, "attacked": False, "blind": False, "noise": False}
    guarded = {name: isinstance(one.base, Guard) for name, one in made.items() if attacks(one)}
    assert guarded == {"freezevla": True, "attacked": False, "blind": True, "noise": False}
    assert of_freeze.KNOWING.eps == of_freeze.BLIND.eps and of_freeze.KNOWING.steps == of_freeze.BLIND.steps
    assert method("freezevla").card.claim.metric == "over_attacked" and of_freeze.PROOF.arms[1].name == "attacked"


def test_an_arm_under_attack_acts(tmp_path):
    """One action of each; who is attacked is told so, and the defence tells of itself where it is."""
    vla = load_policy_of_tokens()
    seen = replace(smoke_observation(vla.spec), text={"instruction": ("open the door",)})
    for arm in of_freeze.ARMS:
        one = arm.wrap(vla)
        if attacks(one):
            one.how = replace(one.how, **{**BRIEF, "steps": min(1, one.how.steps)})
        chunk, _ = one.act(seen, one.start(seen.keys))
        assert np.isfinite(chunk.actions).all()
        assert ("frozen" in chunk.extra) == (arm.name in ("freezevla", "blind", "defended"))
        assert ("attacked" in chunk.extra.get("note", [""])[0]) == attacks(one)


def test_pictures_are_told_of_with_every_attack_bare_and_defended(home, tmp_path):
    """Of scenes and instructions that nobody else has."""
    assert not set(of_freeze.REFS) & set(of_freeze.TESTED) and len(of_freeze.TESTED) == 20
    assert any(of_freeze.other(word) for text in of_freeze.REFS for word in text.split())
    arms = {name: replace(how, **BRIEF) for name, how in of_freeze.PLAN.arms.items() if name in ("multi", "adaptive")}
    plan = replace(of_freeze.PLAN, pictures=1, tested=2, arms=arms)
    at, vla = Stand(TOKENS, home / "nano", tmp_path), load_policy_of_tokens()
    rows = of_freeze.frozen(vla, at, tmp_path, plan)
    names = {f"frozen_{a}{s}" for a in ("clean", "multi", "adaptive") for s in ("", "_defended")}
    assert len(rows) == 2 and all(set(r) == {"key", "prompt", *names} for r in rows)
    assert names <= set(of_freeze.FROZEN.metrics) and all(isinstance(r[n], bool) for r in rows for n in names)


@cache
def load_policy_of_tokens():
    """The bench's policy of bins on the desk, on random weights."""
    reader = build_reader(NanoPlan("test", brief=False), train_words(True))
    vla = VLA(spec=DESK, **bench.tokens(reader.backbone, DESK, 8))
    keys = Keys.seeded(8, "guards")
    actions, state = (
        torch.from_numpy(keys.fold(n).normal(k, m)) for n, k, m in (("a", 8, 10), ("s", 1, DESK.state_size))
    )
    task, valid = torch.ones(8, dtype=torch.int64), torch.ones(8, 8, dtype=torch.bool)
    vla.codec.fit(iter([Batch((), {}, {}, {}, task, state, actions, valid)]))
    vla.state_scale.fit(state[:, 0])
    return vla.eval()
