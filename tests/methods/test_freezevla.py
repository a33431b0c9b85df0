"""FreezeVLA's unit checks, in the order of its specification, and what attack and defence owe besides."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from mindhand.core.errors import BadData, BuildError, Refusal
from mindhand.core.keys import Key, Keys
from mindhand.core.nouns import ActionChunk, smoke_observation
from mindhand.core.red_team import ATTACKED, WORD, attacks
from mindhand.data.record import Noise, demonstrate
from mindhand.kit.attack import ascend, conditions, eight_bits, harder
from mindhand.kit.still import stay
from mindhand.methods.act.fast import plug as with_fast
from mindhand.methods.guard.freezevla import HELD, MOVES, Attack, Attacked, Config, Guard, Score, freeze, wrap
from mindhand.model.store import save_vla
from mindhand.model.vla import VLA
from mindhand.model.words import ASK
from mindhand.serve.execute import run_episodes
from mindhand.train.rollouts import Seen

from ..contract.bases import BASES, SPEC, policy
from ..seams.build import observation
from ..tiny_world import TinyWorld, Walker

REFS = ("pick the left tile", "take 7 left back", "pick the right tile")
SAME = {"pick": ("take",), "take": ("pick",), "tile": ("board",), "left": ("right", "back"), "right": ("left",)}
HOW = Attack(eps=8 / 255, alpha=4 / 255, steps=3, prompts=2, every=2, words=1)


def synonyms(word: str) -> tuple[str, ...]:
    return SAME.get(word, ())


@cache
def base(name: str = "oft") -> VLA:
    parts = BASES["tokens" if name == "fast" else name]()
    return policy(with_fast(parts, SPEC) if name == "fast" else parts).eval()


def frozen(vla: VLA, how: Attack = HOW, seed: int = 0, **more):
    obs = observation(("pick",), seed=seed)
    return freeze(vla, obs, vla.start(obs.keys), REFS, synonyms, how, word=WORD, **more), obs.images["front"][0]


# ---- the attack ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("eps", [8 / 255, 3.5 / 255])
def test_1_the_picture_stays_in_the_ball(eps):
    """(1) No pixel is further than eps from the clean picture's, nor outside of [0, 1], before rounding and after."""
    found, clean = frozen(base(), replace(HOW, eps=eps))
    x = torch.from_numpy(clean.transpose(0, 3, 1, 2).copy()).double() / 255
    far = (found.x[0].double() - x).abs().max()
    assert eps - 1e-3 < far <= eps + 1e-6 and found.x.min() >= 0 and found.x.max() <= 1
    change = np.abs(found.picture.astype(int) - clean.astype(int)).max()
    assert found.picture.dtype == np.uint8 and change == int(255 * eps)


def test_1_steps_that_leave_the_ball_are_brought_back():
    clean = torch.tensor([0.0, 0.5, 1.0]).view(1, 1, 1, 1, 3)
    x = ascend(lambda x: x.sum() - 2 * x[..., 1], clean, clean + 9, eps=0.1, alpha=0.3, steps=5)
    assert torch.allclose(x.flatten(), torch.tensor([0.1, 0.4, 1.0]))
    picture = np.array([[[[0, 100, 255]]]], np.uint8)
    wild = torch.tensor([2.0, -1.0, 0.9]).view(1, 3, 1, 1)
    assert eight_bits(wild, picture, 4 / 255).ravel().tolist() == [4, 96, 251]


def test_2_without_a_ball_nothing_changes():
    """(2) eps = 0 gives the clean picture, and an attacked policy acts as it does bit by bit."""
    none = replace(HOW, eps=0.0, steps=1)
    found, clean = frozen(base(), none)
    assert np.array_equal(found.picture, clean) and found.after == found.before
    vla, obs = base(), observation()
    red = Attacked(vla, none, REFS, synonyms, word=WORD)
    a, b = (p.act(obs, p.start(obs.keys))[0] for p in (vla, red))
    assert np.array_equal(a.actions, b.actions) and np.array_equal(a.valid, b.valid)
    assert b.extra["note"] == ["attacked"] * 2, "who was attacked is told so even then"
    shown = Attacked(vla, HOW, REFS, synonyms, word=WORD)
    assert not np.array_equal(shown.act(obs, shown.start(obs.keys))[0].actions, a.actions)


def test_3_an_accepted_prompt_never_raises_the_score():
    """(3) Of prompts that were changed, doing nothing is no likelier than of those before, and the others stay."""
    vla, obs, told = base(), observation(("pick",)), []
    score = Score(vla, obs, vla.start(obs.keys))
    x, draws = score.put(score.picture), iter(range(99))

    def watched(x, prompts):
        told.append((tuple(prompts), score(x, prompts)))
        return told[-1][1]

    def pick(ways):
        return ways[next(draws) % len(ways)]

    prompts, seen = list(REFS), set()
    for _ in range(5):
        after = harder(watched, vla, prompts, x, synonyms, pick)
        (before, now), (others, then) = told[-2:]
        for p, o, q, a, b in zip(before, others, after, now.tolist(), then.tolist()):
            assert q == (o if b <= a else p)
            seen.add((b > a, o != p))
        with torch.no_grad():
            assert (score(x, after) <= score(x, prompts) + 1e-5).all()
        prompts = after
    assert {(True, True), (False, True)} <= seen, "some were taken, and some were not"


def test_3_the_steepest_word_is_changed_and_no_prompt_of_the_test_is_made():
    """(3) Of the words that have synonyms; cue, end, and what has none are left alone."""
    vla = base()
    words, steep = vla.backbone.words, torch.ones(vla.backbone.config.vocabulary)

    def score(x, prompts):
        ids = words.questions(prompts).ids
        return (vla.backbone.embed(ids) * steep[ids].unsqueeze(-1)).sum((1, 2))

    def other(word, held=frozenset()):
        steep[:] = 1e-3
        steep[[*words.cue(ASK), words.end]] = 50.0
        steep[words.encode(f" {word}")] = 9.0
        with torch.no_grad():  # whatever comes instead lowers the score
            before = vla.backbone.embedding.weight.clone()
            vla.backbone.embedding.weight.abs_()
        try:
            return harder(score, vla, ["pick the left tile"], torch.zeros(1), synonyms, lambda w: w[-1], held)[0]
        finally:
            with torch.no_grad():
                vla.backbone.embedding.weight.copy_(before)

    assert other("left") == "pick the back tile"
    assert other("tile") == "pick the left board"
    assert other("left", frozenset({"pick the back tile"})) == "pick the left tile"


def test_4_the_attack_climbs():
    """(4) After a few steps doing nothing is likelier than for the clean picture, also in 8 bits, in 95 % of them."""
    found = [frozen(base(), replace(HOW, prompts=1, words=0), seed)[0] for seed in range(10)]
    assert np.mean([f.after > f.before for f in found]) >= 0.95
    noise = frozen(base(), replace(HOW, prompts=1, steps=0))[0]
    assert found[0].after > noise.after


def test_4_it_climbs_for_a_hand_that_can_end_at_once():
    """(4) Of FAST it is the end as the first token that becomes likelier."""
    vla = base("fast")
    found, _ = frozen(vla, replace(HOW, words=0))
    obs = observation(REFS[:2])
    with torch.no_grad():
        ctx = vla.think(obs, vla.start(obs.keys))[0]
        first = vla.expert.scores(ctx, torch.zeros(2, 1, dtype=torch.int64))[:, 0].log_softmax(-1)
    score = Score(vla, obs.rows([0]), vla.start(obs.keys[:1]))
    with torch.no_grad():
        same = score(score.put(obs.images["front"][0]), REFS[:1])
    assert torch.allclose(same[0], first[0, vla.codec.end], atol=1e-5) and found.after > found.before


@pytest.mark.parametrize("hand", ["flow", "oft"])
def test_what_gradients_go_through_is_what_acts(hand):
    """Bit by bit the chunk of `VLA.act`, for its own pictures; gradients reach pixels, and no parameter keeps one."""
    vla, obs = base(hand), observation()
    state = vla.start(obs.keys)
    plain = vla.propose(obs, state, 1, want=("draw",))[0].extra["draw"].value
    keys = Keys.of(obs.keys).fold_each([0, 0]).fold("act")
    x = vla.prepare(obs).pixels["front"].clone()
    with torch.no_grad():
        ctx = conditions(vla, obs, state, {"front": x})
        assert torch.equal(vla.expert.draw(ctx, 1, keys=keys, sampler=vla.sampler).value, plain)
    x.requires_grad_()
    drawn = vla.expert.draw(conditions(vla, obs, state, {"front": x}), 1, keys=keys, sampler=vla.sampler).value
    (slope,) = torch.autograd.grad(drawn[0].square().sum(), x)
    assert slope[0].abs().max() > 0 and not slope[1].any()
    assert all(p.grad is None for p in vla.parameters())


# ---- where it is refused -----------------------------------------------------------------------------------


def test_who_attacks_says_so():
    vla, obs = base(), observation(("pick",))
    for word in ("", "yes"):
        with pytest.raises(Refusal, match="in-simulation"):
            Attacked(vla, HOW, REFS, synonyms, word=word)
        with pytest.raises(Refusal, match="in-simulation"):
            freeze(vla, obs, vla.start(obs.keys), REFS, synonyms, HOW, word=word)
    with pytest.raises(BadData, match="tested"):
        frozen(vla, held=frozenset(REFS[:1]))
    with pytest.raises(BadData, match="1 prompts"):
        freeze(vla, obs, vla.start(obs.keys), REFS[:1], synonyms, HOW, word=WORD)
    with pytest.raises(BuildError, match="no VLA"):
        Attacked(Walker(), HOW, REFS, synonyms, word=WORD)
    learning = policy(BASES["oft"]())
    with pytest.raises(BuildError, match="eval"):
        frozen(learning)


class Hidden:
    """Holds another policy under a name of its own."""

    provides: frozenset[str] = frozenset()

    def __init__(self, one):
        self.kept, self.spec = one, one.spec


def test_an_attack_is_in_no_checkpoint_and_before_no_robot(tmp_path):
    vla = base()
    red = Attacked(wrap(vla), HOW, REFS, synonyms, word=WORD)
    assert attacks(red) and attacks(Hidden(red)) and attacks(wrap(red)) and not attacks(wrap(vla))
    for one in (red, Hidden(red), wrap(red)):
        with pytest.raises(BuildError, match="a checkpoint"):
            save_vla(one, tmp_path / "red")
    assert not (tmp_path / "red").exists()
    walker = Walker()
    limits = {n: {"low": 0.0, "high": 1.0, "speed": 1.0} for n in walker.spec.action_names()}
    walker.provides = red.provides
    key, how = Key("tiny-1", "touch/R", 0), {"replan": 1, "horizon_steps": 2, "rows": 1}
    with pytest.raises(BuildError, match="robot"):
        run_episodes(walker, TinyWorld(1, limits), [key], **how)
    assert len(run_episodes(walker, TinyWorld(1), [key], **how)) == 1, "in simulation it may"


class Poisoned(TinyWorld):
    """A world that shows what was changed to mislead."""

    def observe(self, rows, cameras=None):
        return replace(super().observe(rows, cameras), extras={ATTACKED: np.ones(len(rows), bool)})


def test_attacked_pictures_are_nothing_to_learn_from():
    obs = observation()
    marked, seen = replace(obs, extras={ATTACKED: np.array([False, True])}), Seen(base("flow"), 1.0)
    with pytest.raises(Refusal, match="1 rows"):
        seen.act(marked, seen.start(obs.keys))
    with pytest.raises(Refusal, match="demonstrations"):
        demonstrate(Poisoned(1), [(0, Key("tiny-1", "touch/R", 0))], lambda n, e: None, noise=Noise(), rows=1)


def test_what_is_passed_on_is_marked():
    shown = []

    class Looking(Brittle):
        def act(self, obs, state, *, want=()):
            shown.append(obs)
            return super().act(obs, state)

    obs = observation(("pick",))
    red = Attacked(Looking(base(), ()), HOW, REFS, synonyms, word=WORD)
    red.act(obs, red.start(obs.keys))
    assert shown[0].extras[ATTACKED].all() and ATTACKED not in obs.extras
    change = np.abs(shown[0].images["front"].astype(int) - obs.images["front"].astype(int))
    assert change.max() == 8 and shown[0].images["front"] is not obs.images["front"]


# ---- the defence -------------------------------------------------------------------------------------------


class Brittle:
    """A VLA that stays where a picture of the row is one of the fatal ones, and everywhere with None."""

    provides: frozenset[str] = frozenset()

    def __init__(self, vla, fatal):
        self.base, self.fatal, self.spec, self.asked = vla, fatal, vla.spec, 0

    def start(self, keys):
        return {"base": self.base.start(keys)}

    def act(self, obs, state, *, want=()):
        self.asked += 1
        chunk, after = self.base.act(obs, state["base"])
        hit = [self.fatal is None or any(np.array_equal(x, f) for f in self.fatal) for x in obs.images["front"]]
        still = stay(self.spec, 0 * chunk.actions, obs.state[:, -1])
        return replace(chunk, actions=np.where(np.array(hit)[:, None, None], still, chunk.actions)), {"base": after}


@pytest.mark.parametrize("hand", ["flow", "oft"])
def test_nothing_changes_where_nothing_is_frozen(hand):
    """Bit by bit, query after query, and the policy inside is asked once."""
    plain, guard = base(hand), wrap(base(hand))
    obs = observation()
    p, q = plain.start(obs.keys), guard.start(obs.keys)
    for seed in range(2):
        obs = observation(seed=seed)
        (a, p), (b, q) = plain.act(obs, p), guard.act(obs, q)
        assert a.actions.tobytes() == b.actions.tobytes() and np.array_equal(a.valid, b.valid)
        assert b.extra["note"] == ["", ""] and not b.extra["frozen"].any() and not b.extra["alarm"].any()
        assert q["base"]["query"].tolist() == p["query"].tolist() == [seed + 1] * 2


def test_one_fatal_picture_is_looked_at_otherwise():
    """From the second query on, in the row that is frozen alone; what is done is what some view gave."""
    obs = observation()
    inside = Brittle(base(), [obs.images["front"][0]])
    guard, alone = wrap(inside), Brittle(base(), ())
    state = guard.start(obs.keys)
    for query in range(3):
        chunk, state = guard.act(obs, state)
        plain = alone.act(obs, alone.start(obs.keys))[0]
        assert np.array_equal(chunk.actions[1], plain.actions[1]) and chunk.extra["note"][1] == ""
        assert chunk.extra["frozen"].tolist() == [query == 0, False]
        assert (MOVES in chunk.extra["note"][0]) == (query > 0), "and again at once, while the picture stays"
    assert not np.array_equal(chunk.actions[0], stay(SPEC, 0 * plain.actions, obs.state[:, -1])[0])
    assert inside.asked == 1 + 2 * (1 + Config.views)
    again = wrap(Brittle(base(), [obs.images["front"][0]]))
    same = again.start(obs.keys)
    for _ in range(3):
        other, same = again.act(obs, same)
    assert np.array_equal(other.actions, chunk.actions), "which views there are follows from the key"


def test_who_stays_for_every_picture_is_held_and_said_to_be():
    """The majority stays: so does the policy, and from the N-th query on there is an alarm. Watched alone, there is
    none."""
    obs, c = observation(), Config(patience=1, views=2, alarm=3)
    watch = Config(views=0, alarm=0, ban=False)
    for config in (c, watch):
        guard = Guard(Brittle(base(), None), config)
        state, alarms = guard.start(obs.keys), []
        for query in range(4):
            chunk, state = guard.act(obs, state)
            assert chunk.extra["frozen"].all()
            assert chunk.extra["note"][0].startswith(f"still for {query + 1} queries")
            alarms.append(bool(chunk.extra["alarm"].all()))
            assert (HELD in chunk.extra["note"][0]) == alarms[-1]
            assert np.array_equal(chunk.actions[..., :2], np.repeat(obs.state[:, :, :2], chunk.actions.shape[1], 1))
        assert alarms == ([False, False, True, True] if config is c else [False] * 4)
        assert guard.base.asked == (12 if config is c else 4)


def test_gripping_is_not_freezing():
    class Grips(Brittle):
        def act(self, obs, state, *, want=()):
            chunk, after = super().act(obs, state)
            actions = chunk.actions.copy()
            actions[..., 2] = self.asked % 2
            return replace(chunk, actions=actions), after

    obs = observation()
    guard = wrap(Grips(base(), None))
    state = guard.start(obs.keys)
    told = []
    for _ in range(3):
        chunk, state = guard.act(obs, state)
        told.append(chunk.extra["frozen"].tolist())
    assert told == [[True, True], [False, False], [False, False]], "of the first command nobody knows the one before"


def test_an_end_is_not_said_first():
    """A hand that would say nothing but its end says something; without that will, the bits are the same."""
    vla, obs = policy(with_fast(BASES["tokens"](), SPEC)).eval(), observation()
    free, banned = Guard(vla, Config(ban=False, views=0)), Guard(vla, Config(views=0))
    for lift in (-20.0, 20.0):
        with torch.no_grad():
            vla.expert.leave.bias[vla.codec.end] = lift
        a, b = (p.act(obs, p.start(obs.keys), want=("draw",))[0] for p in (free, banned))
        ids, other = (c.extra["draw"].value[:, 0] for c in (a, b))
        if lift < 0:
            assert torch.equal(ids, other) and a.actions.tobytes() == b.actions.tobytes()
            assert not any("banned" in n for n in b.extra["note"])
        else:
            assert (ids[:, 0] == vla.codec.end).all() and a.extra["errors"].all()
            assert (other[:, 0] != vla.codec.end).all() and all("banned" in n for n in b.extra["note"])
    assert not vla.expert.leave._forward_hooks


def test_of_what_stays_must_be_known():
    spec = replace(SPEC, state=SPEC.state[1:])

    class Unmeasured(Walker):
        def __init__(self):
            self.spec = spec

    with pytest.raises(BuildError, match="stays"):
        wrap(Unmeasured())


def test_notes_of_what_is_inside_are_kept():
    class Telling(Brittle):
        def act(self, obs, state, *, want=()):
            chunk, after = super().act(obs, state)
            return ActionChunk(chunk.actions, chunk.valid, extra={"note": ["inside", ""]}), after

    obs = smoke_observation(SPEC).rows([0, 0])
    guard = wrap(Telling(base(), None))
    assert guard.act(obs, guard.start(obs.keys))[0].extra["note"] == [
        "inside; still for 1 queries",
        "still for 1 queries",
    ]
