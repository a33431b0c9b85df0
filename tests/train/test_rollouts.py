"""Learning from acting: groups from one start, what was drawn and how likely, collections that resume bit for bit."""

import json
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch

from mindhand.core.batch import Batch
from mindhand.core.errors import BadData, Refusal
from mindhand.core.keys import Key, Keys
from mindhand.core.seams import Turn, World
from mindhand.kit.groups import Grouped
from mindhand.methods.act.fast import plug as with_fast
from mindhand.methods.learn.ript_vla import RIPT
from mindhand.model.asking import taught
from mindhand.model.bins import BinCodec, BinConfig
from mindhand.model.diffusion import SDE
from mindhand.model.token_expert import TokenConfig, TokenExpert
from mindhand.model.vla import VLA
from mindhand.model.words import SAY
from mindhand.recipes.proofs import bench
from mindhand.train.loop import Stopped, train_stage
from mindhand.train.rollouts import RolloutPlan, Rollouts, Seen, redrawn
from mindhand.train.stage import Optimiser, Stage

from ..model.tiny import vlm
from ..tiny_world import SPEC, STEP, TinyWorld, keys

HORIZON = 4
STARTS = tuple(keys(6, protocol="starts"))
PLAN = RolloutPlan(STARTS, groups=2, many=4, tries=12, replan=HORIZON, steps=24, rows=8, updates=3, queries=6)


def words(backbone, bins=5):
    """Parts of a hand of few words, each a long step: it reaches something in few queries."""
    torch.manual_seed(0)
    parts = bench.tokens(backbone, SPEC, HORIZON)
    config = TokenConfig(bins, HORIZON * 2, 2, backbone.width)
    return {**parts, "expert": TokenExpert(config), "codec": BinCodec(SPEC, BinConfig(bins, 0.0))}


def demonstrated(starts, words):
    """The expert's ways as one batch."""
    world, rows = TinyWorld(len(starts)), list(range(len(starts)))
    world.reset(starts, rows)
    seen, did = [], []
    for _ in range(4):
        seen.append(world.observe(rows))
        did.append([])
        for _ in range(HORIZON):
            did[-1].append(world.expert(rows))
            world.step(did[-1][-1], rows)
    count = len(seen) * len(rows)
    return Batch(
        order=("image/top", "text", "reasoning"),
        images={"top": torch.from_numpy(np.concatenate([o.images["top"] for o in seen]))},
        present={"top": torch.ones(count, dtype=torch.bool)},
        text={
            "text": words.questions([x for o in seen for x in o.text["instruction"]]),
            "reasoning": taught(words, [Turn(SAY, given=("",) * count)]),
        },
        task=torch.ones(count, dtype=torch.int64),
        state=torch.from_numpy(np.concatenate([o.state for o in seen])),
        actions=torch.from_numpy(np.concatenate([np.stack(x, 1) for x in did])),
        action_valid=torch.ones(count, HORIZON, dtype=torch.bool),
    )


class Demonstrations:
    """Source of one batch."""

    def __init__(self, words):
        self.all = demonstrated(STARTS, words)

    def batch(self, vla, step):
        return self.all


def policy(parts=None, **more):
    """A VLA that looks from the top, with statistics of the expert's."""
    vla = VLA(spec=SPEC, see=("top",), **{**(parts or words(vlm())), **more})
    batch = demonstrated(STARTS, vla.backbone.words)
    vla.codec.fit(iter([batch]))
    vla.state_scale.fit(batch.state[:, 0])
    return vla.eval()


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Of a policy that was shown a little, and reaches something now and then."""
    vla = policy(objectives=[RIPT()])
    by = Optimiser(lr=3e-3, muon=0.0, warmup=5)
    how = Stage("clone", Demonstrations(vla.backbone.words), 60, ("*",), {"action": 1.0}, by, bf16=False)
    train_stage(vla, how, tmp_path_factory.mktemp("clone"))
    return vla.state_dict()


@pytest.fixture
def shown(weights):
    """Such a policy."""
    vla = policy(objectives=[RIPT()])
    vla.load_state_dict(weights)
    return vla


def stage(source, steps, **how):
    return Stage(
        "ript", source, steps, ("*",), {"ript": 1.0}, Optimiser(**{"lr": 1e-3, "muon": 0.0, **how}), bf16=False
    )


def test_rollouts_of_a_start_begin_alike_and_go_their_own_ways():
    a, b = STARTS[:2]
    rollouts = {Key("r", "touch/R", i): s for i, s in enumerate((a, a, b, a))}
    world, alone = Grouped(TinyWorld(4), rollouts), TinyWorld(4)
    assert isinstance(world, World) and world.spec is SPEC and world.limits == {}
    world.reset([*rollouts], range(4))
    alone.reset([a, a, b, a], range(4))
    seen, want = world.observe(range(4)), alone.observe(range(4))
    assert seen.keys == tuple(rollouts) and seen.text == want.text
    assert all(np.array_equal(x, want.images[n]) for n, x in seen.images.items())
    assert world.began == [a, b], "a start is made once, then restored"
    world.step(np.full((1, 2), STEP), [1])
    now = world.observe(range(4)).state
    assert np.array_equal(now[0], now[3]) and not np.array_equal(now[0], now[1])
    few = Grouped(TinyWorld(1), rollouts, kept=1)
    for key in rollouts:
        few.reset([key], [0])
    assert few.began == [a, b, a] and np.array_equal(few.observe([0]).state, want.state[3:])


def test_a_collection_is_a_function_of_weights_and_number(tmp_path, shown):
    vla = shown
    first, again = (Rollouts(PLAN, TinyWorld(8), tmp_path / x) for x in "ab")
    one, same = first.batch(vla, 0), again.batch(vla, 0)
    assert all(torch.equal(t.value, same.logged[n].value) for n, t in one.logged.items())
    assert torch.equal(one.images["top"], same.images["top"]) and not vla.training
    (meta,) = first.metas()
    rewards = np.array(meta["rewards"])
    assert rewards.shape[1] == 4 and meta["groups"] == 2 and 0 < meta["control_steps"] <= rewards.size * PLAN.steps
    data = {n: np.load(tmp_path / "a" / "00000" / f"{n}.npy") for n in ("episode", "step", "advantage", "reward")}
    assert set(data["episode"]) == set(range(8)) and len(
        np.unique(np.stack([data["episode"], data["step"]]), axis=1).T
    ) == len(data["step"])
    for episode in range(8):
        mine = data["episode"] == episode
        assert data["step"][mine].tolist() == list(range(mine.sum())) and len(set(data["advantage"][mine])) == 1
    ends = [data["reward"][data["episode"] == e][0] for e in range(8)]
    assert all(0 < sum(ends[g : g + 4]) < 4 for g in (0, 4)), "a group without contrast was kept"
    drawn = np.load(tmp_path / "a" / "00000" / "value.npy")[data["step"] == 0]
    assert len(np.unique(drawn[:4], axis=0)) > 1, "rollouts of a start draw alike"
    later = Rollouts(PLAN, TinyWorld(8), tmp_path / "a").batch(vla, PLAN.updates)
    assert not torch.equal(later.logged["value"].value, one.logged["value"].value)
    assert len(first.metas()) == 2 and first.metas()[1]["cursor"] > meta["cursor"]


@pytest.mark.parametrize("hand", ["words", "fast", "flow"])
def test_how_likely_it_was_is_found_again_in_the_batch(hand, tmp_path):
    """Each hand that knows a density: what training computes of the stored queries is what acting wrote down."""
    if hand == "words":
        vla = policy()
    elif hand == "fast":
        vla = policy(with_fast(words(vlm(), 256), SPEC))
    else:
        torch.manual_seed(0)
        vla = policy(bench.flow(vlm(), SPEC, HORIZON), sampler=SDE())
    plan = replace(PLAN, dynamic=False, groups=1, many=3, steps=8, queries=5, temperature=1.3)
    batch = Rollouts(plan, TinyWorld(8), tmp_path).batch(vla, 0)
    with torch.no_grad():
        now = vla.expert.log_prob(vla.context(batch), redrawn(batch, vla.sampler))
    old = batch.logged["log_prob"]
    assert torch.equal(now.mask[:, 0], old.valid) and bool(old.valid.any())
    assert (now.value[:, 0] - old.value)[old.valid].abs().max() < 1e-4
    if hand != "flow":
        assert torch.equal(batch.logged["temperature"].value, torch.full((5,), 1.3))
        other = redrawn(replace(batch, logged={**batch.logged, "temperature": batch.logged["reward"]}))
        other.logged["temperature"].fill_(1.0)
        with torch.no_grad():
            cold = vla.expert.log_prob(vla.context(batch), other)
        assert (cold.value[:, 0] - old.value)[old.valid].abs().max() > 1e-3


def test_what_is_drawn_is_as_likely_as_it_is_said_to_be():
    """Frequencies of 4,000 first words at a temperature, against their density."""
    vla, many = policy(), 4000
    world = TinyWorld(1)
    world.reset(STARTS[:1], [0])
    obs = world.observe([0])
    with torch.no_grad():
        vla.expert.leave.weight.mul_(20)  # far from even
        found, _ = vla.propose(obs, vla.start(obs.keys), many, temperature=2.0, want=("draw", "context"))
        draw, ctx = found.extra["draw"], found.extra["context"]
        said = vla.expert.log_prob(ctx, draw).value[0, 1:, 0].exp()
    first = draw.value[0, 1:, 0]
    assert draw.logged["temperature"][0, :2].tolist() == [1.0, 2.0]
    share = torch.bincount(first, minlength=5) / (many - 1)
    for word in first.unique():
        p = float(said[first == word][0])
        assert abs(float(share[word]) - p) < 4 * (p * (1 - p) / many) ** 0.5
    assert share.max() > 0.3, "an even distribution shows nothing"


def test_learning_from_acting_goes_on_bit_for_bit(tmp_path, weights):
    """Stopped within an iteration and at the seam of two; what was collected is not collected again."""

    def learn(folder, watch=None, seed=0):
        vla = policy(objectives=[RIPT()])
        vla.load_state_dict(weights)
        if seed:
            torch.nn.init.normal_(vla.expert.leave.weight)
        world = TinyWorld(8)
        train_stage(vla, stage(Rollouts(PLAN, world, folder / "rollouts"), 7), folder / "state", watch=watch)
        return vla, world

    whole, _ = learn(tmp_path / "whole")
    for at in (2, 3):

        def ask(step, vla, at=at):
            if step == at:
                signal.raise_signal(signal.SIGTERM)

        with pytest.raises(Stopped):
            learn(tmp_path / str(at), ask)
        fresh, world = learn(tmp_path / str(at), seed=9)
        assert all(torch.equal(x, fresh.state_dict()[n]) for n, x in whole.state_dict().items())
        counts = [len(m["rewards"]) for m in Rollouts(PLAN, world, tmp_path / str(at) / "rollouts").metas()]
        assert len(counts) == 3 and len(world.began) <= sum(counts[1:])
    folder = tmp_path / "whole" / "rollouts" / "00001"
    (folder / "value.npy").unlink()
    with pytest.raises(BadData, match=r"without value\.npy"):
        Rollouts(PLAN, TinyWorld(8), folder.parent).batch(whole, PLAN.updates)


def test_starts_that_always_succeed_are_spared_for_a_while(tmp_path):
    source = Rollouts(PLAN, TinyWorld(8), tmp_path)
    easy = {str(STARTS[2]): 1}
    seen, cursor = source._starts(5, 0, easy)
    assert cursor == 6 and STARTS[2] not in seen and len(set(seen)) == 5
    for _ in range(2):
        seen, cursor = source._starts(5, cursor, easy)
        assert STARTS[2] not in seen
    seen, cursor = source._starts(6, cursor, easy)
    assert STARTS[2] in seen and cursor == 24


def test_a_policy_without_contrast_is_refused(tmp_path):
    plan = replace(PLAN, steps=1, tries=3)  # nobody gets anywhere in one step
    with pytest.raises(Refusal, match="no two rollouts"):
        Rollouts(plan, TinyWorld(8), tmp_path).batch(policy(), 0)
    assert not (tmp_path / "00000" / "meta.json").exists()
    every = Rollouts(replace(plan, dynamic=False), TinyWorld(8), tmp_path)
    assert not every.batch(policy(), 0).logged["advantage"].value.any()
    for bad in ({"many": 1}, {"groups": 13}, {"starts": ()}, {"starts": STARTS[:1] * 2}):
        with pytest.raises(BadData):
            replace(PLAN, **bad)


def test_old_queries_leave_the_disk_and_rewards_stay(tmp_path, shown):
    vla, source = shown, Rollouts(replace(PLAN, updates=1), TinyWorld(8), tmp_path)
    for step in range(5):
        source.batch(vla, step)
    assert len(source.metas()) == 5
    kept = [f.parent.name for f in sorted(tmp_path.glob("*/value.npy"))]
    assert kept == ["00002", "00003", "00004"]


def test_it_learns_to_reach(tmp_path, shown):
    """On one start, from chance: rollouts succeed more and more often."""
    plan = replace(PLAN, starts=STARTS[:1], groups=1, many=16, tries=4, rows=16, updates=8, queries=48, spared=0)
    vla, source = shown, Rollouts(plan, TinyWorld(16), tmp_path / "rollouts")
    train_stage(vla, stage(source, 8 * 8, lr=2e-3, warmup=1, decay=0.0), tmp_path / "state")
    rate = [np.mean(m["rewards"]) for m in source.metas()]
    assert rate[-1] > rate[0] + 0.3
    lines = [json.loads(x) for x in (tmp_path / "state" / "metrics.jsonl").read_text().splitlines()]
    assert lines and all(np.isfinite(x["ript"]) for x in lines)


def test_rows_that_fill_a_batch_say_the_same():
    vla, world = policy(), TinyWorld(2)
    world.reset(STARTS[:1], [0])
    seen = Seen(vla, 1.0)
    obs = world.observe([0]).rows([0, 0])
    seen.act(obs, vla.start(obs.keys))
    assert len(seen.queries) == 1 and Keys.of(obs.keys).rows[0] == Keys.of(obs.keys).rows[1]
