"""SAFE's unit checks, in the order of its specification, and what a wrapper that has learned owes."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from mindhand.core.errors import BadCheckpoint, BadData, BuildError
from mindhand.core.keys import Key
from mindhand.core.nouns import smoke_observation
from mindhand.core.seams import Draw, Policy
from mindhand.core.spec import Part
from mindhand.evaluate.alarms import Scored, auc, judged
from mindhand.kit import conformal
from mindhand.kit.probe import fingerprint, save_probe
from mindhand.kit.running import SCORES
from mindhand.kit.still import stay, unknown
from mindhand.methods.guard.safe import Config, Fitted, fit, learn, limit_of, load, parted, scores, weights, wrap
from mindhand.methods.run.flashvla import wrap as with_flash
from mindhand.model.hearing import last_layer, pooled
from mindhand.model.store import load_vla, save_vla
from mindhand.model.vla import VLA
from mindhand.serve.rows import put_rows
from mindhand.train.recorded import Episode, Recorded
from mindhand.worlds.desk.spec import SPEC as DESK

from ..contract.bases import BASES, HORIZON, policy, rollouts
from ..contract.reaching import Reaching
from ..model.tiny import expert
from ..seams.build import observation, oft, vla

C = Config(width=16, epochs=30, lr=1e-3)
BOTH = pytest.mark.parametrize("score", SCORES)


def episodes(count: int = 40, tell: float = 1.0, width: int = 6) -> list[Episode]:
    """Successes of 4 to 7 queries and failures of 8; features differ between them by `tell`, the more the later."""
    rng, out = np.random.default_rng(0), []
    for i in range(count):
        success = bool(i % 2)
        steps = int(rng.integers(4, 8)) if success else 8
        x = rng.normal(size=(steps, 3, width))
        x[..., 0] += tell * (0 if success else 1) * np.linspace(0.5, 2, steps)[:, None]
        out.append(Episode(Key("made", f"t{i // 2 % 2}", i), "go", success, steps * 4, x.astype(np.float16)))
    return out


@cache
def taught(score: str) -> torch.nn.Module:
    return learn(episodes(), replace(C, score=score))


@BOTH
def test_a_scores_are_causal(score):
    """(a) What is felt later changes no score before, and changes those after; a query at a time says the same."""
    net, c, before = taught(score), replace(C, score=score), episodes()
    after = [replace(e, features=np.concatenate([e.features[:3], e.features[3:] + 1])) for e in before]
    one, other = (np.stack([s[:4] for s in scores(net, some, c)]) for some in (before, after))
    assert np.array_equal(one[:, :3], other[:, :3]) and (one[:, 3] != other[:, 3]).all()
    with torch.no_grad():
        state, said = net.start(len(before)), []
        for t in range(4):
            x = torch.from_numpy(np.stack([e.features[t, 2] for e in before])).float()
            s, state = net.step(x, state)
            said.append(s.numpy())
    assert np.allclose(np.stack(said, 1), one, atol=1e-5)


def test_b_the_sum_never_falls():
    """(b) SAFE-MLP: s_t never falls and 0 < s_t < t, whatever is felt; SAFE-LSTM's is a chance, and falls, too."""
    wild = [replace(e, features=(e.features * 1000).astype(np.float16)) for e in episodes()]
    for some in (episodes(), wild):
        for s in scores(taught("mlp"), some, C):
            assert (np.diff(s, prepend=0) > 0).all() and (s < np.arange(1, len(s) + 1)).all()
    chances = scores(taught("lstm"), episodes(), replace(C, score="lstm"))
    assert all(((s > 0) & (s < 1)).all() for s in chances) and any((np.diff(s) < 0).any() for s in chances)


def alarms(trials: int = 1000, alpha: float = 0.2) -> tuple[float, float]:
    """False alarms of new curves under limits of 29 + 29 curves, and the standard error of that rate."""
    rng, rates = np.random.default_rng(1), []
    for _ in range(trials):
        curves = 1 / (1 + np.exp(-rng.normal(rng.normal(size=(158, 1)), 1, (158, 12)))).cumsum(1)
        limit = conformal.upper(curves[:58], alpha)
        rates.append((curves[58:] > limit).any(1).mean())
    return float(np.mean(rates)), float(np.std(rates) / trials**0.5)


def test_c_false_alarms_are_as_many_as_agreed(monkeypatch):
    """(c) Of exchangeable curves a share of alpha within two standard errors exceeds the limit anywhere; with the plain
    quantile more do."""
    rate, error = alarms()
    assert abs(rate - 0.2) < 2 * error < 0.01
    monkeypatch.setattr(conformal, "quantile", lambda x, alpha: float(np.quantile(x, 1 - alpha)))
    rate, error = alarms()
    assert rate > 0.2 + 2 * error


def test_c_too_few_curves_have_no_limit():
    """(c) An index beyond the curves is +inf, never the largest of them; a shorter curve holds its last value."""
    assert conformal.quantile(np.arange(4.0), 0.2) == 3 and conformal.quantile(np.arange(3.0), 0.2) == np.inf
    assert conformal.quantile(np.arange(9.0), 0.1) == 8 and conformal.quantile(np.arange(8.0), 0.1) == np.inf
    curves = np.random.default_rng(0).normal(size=(8, 5))
    assert conformal.enough(0.2) == 7 and np.isfinite(conformal.upper(curves[:7], 0.2)).all()
    assert np.isinf(conformal.upper(curves[:6], 0.2)).all()
    assert conformal.held([np.array([1.0, 2.0]), np.arange(4.0)], 4).tolist() == [[1, 2, 2, 2], [0, 1, 2, 3]]
    with pytest.raises(BadData, match="6 successes"):
        limit_of([*curves[:6]], C, 5)
    with pytest.raises(BadData, match="5 steps in 4"):
        conformal.held([*curves], 4)


@BOTH
def test_d_constant_features_tell_nothing(score):
    """(d) AUC 0.5 at the same age, although failures last longer: unmatched, the sum would tell all of them by time
    alone; features that differ are told."""
    c, out = replace(C, score=score, epochs=200), {}
    for tell in (None, 2.0):
        some = episodes(tell=tell or 0)
        some = [replace(e, features=np.ones_like(e.features)) for e in some] if tell is None else some
        every = [Scored(e.key, not e.success, s) for e, s in zip(some, scores(learn(some, c), some, c))]
        rows = judged(every, np.full(1, np.inf))
        out[tell] = np.mean([r["above"] for r in rows if r["failed"]])
        last = [[e.score.max() for e in every if e.failed == failed] for failed in (True, False)]
        assert score != "mlp" or auc(*last) == 1.0
    assert out[None] == 0.5 and out[2.0] > 0.9


# ---- learning ----------------------------------------------------------------------------------------------


def test_the_losses_are_the_paper_s():
    s, t = torch.tensor([[0.2, 0.5, 0.9]], dtype=torch.float64), torch.arange(1, 4)
    for failed, sum_ in ((1.0, 6 - 1.6), (0.0, 1.6)):
        y = torch.tensor([[failed]], dtype=torch.float64)
        assert torch.isclose(SCORES["mlp"].loss(s, y, t).sum(), torch.tensor(sum_, dtype=torch.float64))
        chance = s if failed else 1 - s
        assert torch.allclose(SCORES["lstm"].loss(s, y, t), -chance.log())


def test_queries_weigh_as_agreed():
    failed, valid = torch.tensor([True, False, False]), torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 0]]).bool()
    w = weights(failed, valid, replace(C, balance=False))
    early = 5 * np.exp(-3 * np.arange(1, 5) / 4) + 1
    assert np.allclose(w[0], early / early.mean()) and w[1:].tolist() == [[1, 1, 0, 0], [1, 1, 1, 0]]
    even = weights(failed, valid, replace(C, early=0.0))
    assert torch.allclose(even.sum(1) / valid.sum(1), torch.tensor([1.5, 0.75, 0.75], dtype=torch.float64))


@BOTH
def test_learning_is_a_function_of_its_seed(score):
    c, some = replace(C, score=score, epochs=2), episodes()
    a, b, other = (scores(learn(some, c, seed), some, c) for seed in (0, 0, 1))
    assert all(np.array_equal(x, y) for x, y in zip(a, b)) and not np.allclose(a[0], other[0])


def test_the_limit_is_of_successes_that_nothing_learned_from():
    every = Recorded("policy", tuple(episodes(60)))
    some, calm = parted(every, C)
    assert len(calm) == 15 and all(e.success for e in calm) and len(some) == 45
    assert {e.key for e in some} | {e.key for e in calm} == {e.key for e in every.episodes}
    assert not {e.key for e in some} & {e.key for e in calm}
    assert {e.key for e in parted(every, C, 1)[1]} != {e.key for e in calm}
    with pytest.raises(BadData, match="30 failures among 30"):
        learn([e for e in every.episodes if not e.success], C)


# ---- what wraps --------------------------------------------------------------------------------------------

HANDS = {"flow": lambda: base(), "tokens": lambda: base("tokens"), "diffusion": lambda: vla(expert()).eval()}


@cache
def base(name: str = "flow") -> VLA:
    return policy(BASES[name]()).eval()


@cache
def fitted() -> Fitted:
    return fit(base(), rollouts("flow"), C)


def of(one: VLA, limit: float = np.inf, c: Config = C) -> Policy:
    """Round it, with a score that learned from noise and one limit."""
    net = learn(episodes(width=last_layer(one.expert).in_features), replace(c, epochs=1))
    return wrap(one, c, Fitted(net, c, fingerprint(one), np.array([limit])))


@pytest.mark.parametrize("hand", HANDS)
@pytest.mark.parametrize("limit", [np.inf, -1.0])
def test_what_is_done_is_the_policy_s_own(hand, limit):
    """Bit for bit, call after call, with an alarm and without; a score at each."""
    plain = HANDS[hand]()
    safe, obs = of(plain, limit), observation()
    assert isinstance(safe, Policy)
    p, q = plain.start(obs.keys), safe.start(obs.keys)
    for seed in range(2):
        obs = observation(seed=seed)
        a, p = plain.act(obs, p)
        b, q = safe.act(obs, q)
        assert a.actions.tobytes() == b.actions.tobytes() and np.array_equal(a.valid, b.valid)
        assert set(b.extra) == {*a.extra, "score", "limit", "alarm", "note"}
        assert b.extra["alarm"].tolist() == [limit < 0] * 2
        assert all(bool(n) == (limit < 0 and seed == 0) for n in b.extra["note"]), "said once"
    assert not last_layer(plain.expert)._forward_pre_hooks


def test_its_pools_are_of_tokens_that_count():
    calls = [torch.full((2, 1), float(i)) for i in range(3)]
    draw = Draw(torch.zeros(2, 1, 3), valid=torch.tensor([[[1, 0, 0]], [[1, 1, 1]]]).bool())
    assert pooled(calls, draw)[:, 0, :, 0].tolist() == [[0, 0, 0], [0, 2, 1]]
    chunk = torch.arange(6.0).view(2, 3, 1)
    assert pooled([chunk + 9, chunk], Draw(torch.zeros(2, 1, 3, 4)))[:, 0, :, 0].tolist() == [[0, 2, 1], [3, 5, 4]]


def test_it_says_online_what_it_would_of_the_recording():
    """Alone in a world it scores an episode as the recording is scored, and raises the same alarm."""
    world, safe, every = Reaching(1), wrap(base(), fitted=fitted()), rollouts("flow").episodes
    rows = judged(
        [Scored(e.key, not e.success, s) for e, s in zip(every, scores(fitted().net, every, C))], fitted().limit
    )
    caught = next(i for i, r in enumerate(rows) if r["failed"] and r["alarmed"])
    for i in (caught, next(i for i, r in enumerate(rows) if not r["failed"] and not r["alarmed"])):
        world.reset([every[i].key], [0])
        state, said, at = safe.start([every[i].key]), [], -1
        for query in range(len(every[i])):
            chunk, state = safe.act(world.observe([0]), state)
            said.append(chunk.extra["score"][0])
            at = query if at < 0 and chunk.extra["alarm"][0] else at
            for t in range(HORIZON):
                if world.step(chunk.actions[:, t], [0]).ended[0]:
                    break
        assert np.allclose(said, scores(fitted().net, [every[i]], C)[0], atol=2e-3)
        assert (at / len(said) if at >= 0 else None) == rows[i]["when"]


def test_rows_are_scored_alone_and_at_their_own_time():
    """An episode that begins in one row while another runs is scored as from its first query, and an alarm is its
    own row's."""
    safe = replace_limit(of(base(), c=replace(C, alarm="hold")), np.array([9.0, 0.0, 9.0]))
    obs, state = observation(), None
    state = safe.start(obs.keys)
    first, state = safe.act(obs, state)
    state = put_rows(state, safe.start(obs.keys), [1], 2)
    assert state is not None
    chunk, state = safe.act(obs, state)
    assert chunk.extra["alarm"].tolist() == [True, False] and [bool(n) for n in chunk.extra["note"]] == [True, False]
    assert np.isclose(chunk.extra["score"][1], first.extra["score"][1], atol=1e-5)
    chunk, state = safe.act(obs, state)
    assert chunk.extra["alarm"].tolist() == [True, True] and chunk.extra["limit"].tolist() == [9, 0]
    assert ["it will fail" in n for n in chunk.extra["note"]] == [False, True]


def replace_limit(safe, limit):
    safe.limit = limit
    return safe


def test_what_is_no_number_raises_an_alarm():
    safe, obs = of(base()), observation()
    safe.net.unit.mean.fill_(np.nan)
    assert safe.act(obs, safe.start(obs.keys))[0].extra["alarm"].all()


def test_an_arm_is_held_where_it_was():
    """Till the episode ends, and said each time; a gripper as it was commanded. Changes are none; what is commanded
    and not measured is refused."""
    safe = of(base(), -1.0, replace(C, alarm="hold"))
    obs = observation()
    own, _ = base().act(obs, base().start(obs.keys))
    chunk, state = safe.act(obs, safe.start(obs.keys))
    later, _ = safe.act(observation(seed=3), state)
    wanted = np.concatenate([obs.state[:, -1, :2], own.actions[:, 0, 2:]], 1)
    for c in (chunk, later):
        assert np.array_equal(c.actions, np.repeat(wanted[:, None], HORIZON, 1)) and c.valid.all()
        assert all("held" in n for n in c.extra["note"])
    assert np.array_equal(
        of(base(), np.inf, replace(C, alarm="hold")).act(obs, safe.start(obs.keys))[0].actions, own.actions
    )
    turn = Part("turn", "rotation", tuple("abcdef"), "1", mode="delta", frame="base", rotation="rot6d")
    moves = replace(DESK, action=(replace(DESK.action[0], mode="delta"), turn))
    now = smoke_observation(moves)
    assert stay(moves, np.ones((1, 1, 9), np.float32), now.state[:, -1])[:, 0].tolist() == [[0, 0, 0, 1, 0, 0, 0, 1, 0]]
    assert [p.name for p in unknown(replace(DESK, state=DESK.state[1:]))] == ["tcp"]


class Saying:
    """A VLA that notes something of its own."""

    def __init__(self, vla: VLA):
        self.vla = vla

    def __getattr__(self, name):
        return getattr(self.vla, name)

    def act(self, obs, state, *, want=()):
        chunk, after = self.vla.act(obs, state, want=want)
        return replace(chunk, extra={**chunk.extra, "note": ["", "mine"]}), after


def test_no_note_of_what_is_inside_is_lost():
    obs = observation()
    for limit, notes in ((np.inf, ["", "mine"]), (-1.0, ["it will fail", "mine; it will fail"])):
        safe = of(Saying(base()), limit)
        said = safe.act(obs, safe.start(obs.keys))[0].extra["note"]
        assert [n.startswith(m) and bool(n) == bool(m) for n, m in zip(said, notes)] == [True, True]
    flash = with_flash(Saying(base("tokens")))
    assert flash.act(obs, flash.start(obs.keys))[0].extra["note"] == ["", "mine"]


def test_what_was_learned_is_kept_with_its_policy(tmp_path):
    """Saved and loaded it scores the same, also on the policy's own checkpoint; another policy's is refused."""
    one, obs = base(), observation()
    fitted().save(tmp_path / "safe")
    save_vla(one, tmp_path / "policy")
    again = load(tmp_path / "safe")
    assert again.config == C and np.array_equal(again.limit, fitted().limit)
    first = wrap(one, fitted=fitted()).act(obs, wrap(one, fitted=fitted()).start(obs.keys))[0].extra["score"]
    for same in (one, load_vla(tmp_path / "policy")):
        safe = wrap(same, fitted=again)
        assert np.array_equal(safe.act(obs, safe.start(obs.keys))[0].extra["score"], first)
    other = policy(BASES["flow"]()).eval()
    with torch.no_grad():
        other.expert.leave.bias[0] += 1e-3
    with pytest.raises(BuildError, match="fitted on policy"):
        wrap(other, fitted=again)
    with pytest.raises(BuildError, match="rollouts of policy"):
        fit(other, rollouts("flow"), C)
    save_probe(tmp_path / "other", "taco", "0", {}, {})
    with pytest.raises(BadCheckpoint, match="a probe of 'taco'"):
        load(tmp_path / "other")


def test_what_it_cannot_go_round_is_refused():
    with pytest.raises(BuildError, match="without a score"):
        wrap(base())
    with pytest.raises(BuildError, match="the same but for `alarm`"):
        wrap(base(), replace(C, alpha=0.1), fitted())
    assert wrap(base(), replace(C, alarm="hold"), fitted()).config.alarm == "hold"
    with pytest.raises(BuildError, match="Flash"):
        wrap(with_flash(base("tokens")), fitted=fitted())
    with pytest.raises(BuildError, match="OFT with 0 layers"):
        fit(vla(oft()), rollouts("flow"), C)
    with pytest.raises(BuildError, match="score of"):
        replace(C, score="sum")
