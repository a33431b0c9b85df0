"""FreezeVLA: one changed picture makes a policy do nothing, whatever it is told; and what helps (2509.19870).

Seam: Policy. `wrap` is the defence, round any policy: one that goes nowhere for some queries is asked again about other
views, the majority decides, and what stays frozen is held and noted; FAST's first token is never its end.
`Attacked`, in simulation alone and by a word, is the attack: ascent on pixels against prompts made harder by synonyms.
Differs from the paper: a prompt grammar for an LLM's, a given dictionary for WordNet; a hand without an end is driven
to stay where it is; an attack that knows the defence; steps are its public code's. Left out: training on what it finds.
The paper: success of the attack 76.2 % on average, three VLAs, four benchmarks; it ships no defence.
Use: policy = wrap(vla)
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mindhand.core.card import Claim, MethodCard
from mindhand.core.errors import BadData, BuildError
from mindhand.core.keys import Key, Keys
from mindhand.core.nouns import ActionChunk, Observation, smoke_observation
from mindhand.core.red_team import ATTACKED, ATTACKS, permitted
from mindhand.core.seams import Code, Context, Draw, Policy, State
from mindhand.kit.attack import Synonyms, ascend, conditions, eight_bits, harder, settled
from mindhand.kit.notes import alarmed, noting
from mindhand.kit.probe import innermost
from mindhand.kit.still import Near, frozen, known, motion, stay
from mindhand.kit.views import otherwise, several, voted
from mindhand.model import fits
from mindhand.model.token_expert import TokenExpert, unended
from mindhand.model.vision import pixels
from mindhand.serve.chunks import picked
from mindhand.serve.rows import take_rows
from mindhand.worlds.draw import Draw as Choice

NAME = "freezevla"
STILL, MOVES, HELD = "still for {} queries", "another view moves it", "held"  # in notes


@dataclass(frozen=True)
class Config:
    """The defence; the paper has none, so all of it is ours."""

    metres: float = 0.002  # a chunk goes nowhere that leads no further than this,
    radians: float = 0.01  # and turns no more,
    grip: float = 0.1  # and tells no gripper to change by more, in its unit
    patience: int = 2  # n, queries in a row that go nowhere, before the policy is asked about other views
    views: int = 5  # V of them; 0: it watches and notes, and changes nothing
    alarm: int = 5  # N, queries in a row that go nowhere, before it is held where it is; 0: never
    ban: bool = True  # a hand of tokens may not say its end first


@dataclass(frozen=True)
class Attack:
    """The attack's budget. In brackets that of its public code."""

    eps: float = 4 / 255  # no pixel is changed by more, of [0, 1] (4/255)
    alpha: float = 1 / 255  # a step (1/255)
    steps: int = 100  # on pixels; 0: noise, every pixel up or down by eps (100)
    prompts: int = 20  # P, the first of those given (5, 10, 15, 20)
    every: int = 50  # steps between two times that prompts are made harder (50)
    words: int = 10  # text steps each time; 0: prompts stay as they are (10, or 20)
    views: int = 0  # V of those that the defence asks about, by whose mean score it climbs, too; 0: it knows of none


ARMS = {"noise": Attack(steps=0), "single": Attack(prompts=1, words=0), "multi": Attack(words=0), "full": Attack()}
ARMS["adaptive"] = Attack(views=5)  # it differentiates through the defence; nothing less says what that is worth


def end_of(policy: Any) -> int | None:
    """The id by which the VLA in a policy ends a chunk, None where it says no tokens, or there is none."""
    hand = getattr(innermost(policy), "expert", None)
    return hand.config.end if isinstance(hand, TokenExpert) else None


def freezing(vla: Any, ctx: Context, still: Code, keys: Keys, banned: bool = False) -> Tensor:
    """(B,), log-probability of doing nothing: of the end as first token where a chunk has one that is not `banned`; of
    all tokens of the chunk that stays, `still`; of a hand without tokens -||a - still||^2, the mean over steps, in
    normalised units."""
    end, rows = None if banned else end_of(vla), len(keys)
    if end is not None:
        ids = torch.full((rows, 1, 1), end, device=vla.device)
        return vla.expert.log_prob(ctx, Draw(ids)).value[:, 0, 0]
    goal = still.values.expand(rows, *still.values.shape[1:])
    if not goal.is_floating_point():
        return (vla.expert.log_prob(ctx, Draw(goal.unsqueeze(1))).value[:, 0] * still.valid).sum(1)
    drawn = vla.expert.draw(ctx, 1, keys=keys, sampler=vla.sampler).value[:, 0]
    return -(drawn.float() - goal).square().sum(-1).mean(1)


class Score:
    """(x (1,T,3,h,w), prompts) -> (P,): how likely nothing is done for each. The drawn noise is not the episode's,
    which no attacker knows. picture: the one attacked, uint8 (T,h,w,3), of camera `role`, the first that the trunk
    sees; banned: as of `freezing`; passes: rows that went forward so far."""

    def __init__(self, vla: Any, obs: Observation, state: State, banned: bool = False):
        settled(vla)
        self.vla, self.obs, self.state, self.banned, self.passes = vla, obs, state, banned, 0
        goal = torch.from_numpy(stay(vla.spec, vla.act(obs, state)[0].actions, obs.state[:, -1])).to(vla.device)
        whole = torch.ones(goal.shape[:2], dtype=torch.bool, device=vla.device)
        self.still = vla.codec.encode(goal, whole, torch.from_numpy(obs.state).to(vla.device))
        self.role, self.picture = vla.see[0], obs.images[vla.see[0]][0]

    def put(self, picture: np.ndarray) -> Tensor:
        """uint8 (T,h,w,3) -> pixels (1,T,3,h,w)."""
        return pixels(torch.from_numpy(picture[None].copy()).to(self.vla.device))

    def __call__(self, x: Tensor, prompts: Sequence[str]) -> Tensor:
        many = len(prompts)
        obs, state = self.obs.rows([0] * many).with_text("instruction", prompts), take_rows(self.state, [0] * many, 1)
        if state is None:
            raise BuildError("a policy whose state cannot be told by row", "arrays with rows first", "mend its state")
        self.passes += many
        keys = Keys.of(self.obs.keys).fold(NAME, "noise").repeat(many)
        ctx = conditions(self.vla, obs, state, {self.role: x.expand(many, *x.shape[1:])})
        return freezing(self.vla, ctx, self.still, keys, self.banned)


@dataclass(frozen=True)
class Found:
    """picture: uint8 (T,h,w,3), attacked; x: the same before rounding; prompts: as they became; before, after: mean
    scores of the first prompts for the clean picture and for this one, rounded; passes: rows that went forward."""

    picture: np.ndarray
    x: Tensor
    prompts: tuple[str, ...]
    before: float
    after: float
    passes: int


def freeze(
    vla: Any, obs: Observation, state: State, refs: Sequence[str], synonyms: Synonyms, how: Attack, *, word: str,
    held: frozenset[str] = frozenset(),
) -> Found:  # fmt: skip
    """Attack the picture of one row. refs: prompts to attack for; held: those of the test, never among them. word:
    `core.red_team.WORD`. With `views` it knows the defence, but for its draws: a step expects those of its own, and the
    banned end is no aim. BadData for too few refs, or one that is held."""
    permitted(word)
    refs = list(refs)[: how.prompts]
    if len(refs) < how.prompts or (same := held & set(refs)):
        what = f"{len(refs)} prompts" if len(refs) < how.prompts else f"prompts that are tested: {sorted(same)}"
        raise BadData(f"an attack for {what}", f"{how.prompts}, none of them tested", "give others")
    keys = Keys.of(obs.keys).fold(NAME).fold_each(state["query"].tolist())
    score, choice, prompts = Score(vla, obs, state, how.views > 0), Choice(keys.fold("words")), refs
    clean, draws = score.put(score.picture), keys.fold("views", 0)
    noise = torch.from_numpy(how.eps * (2 * keys.fold("start").uniform(*clean.shape[1:]) - 1)).to(clean)
    noise = noise if how.steps else how.eps * noise.sign()  # as far as the attack goes

    def aim(x: Tensor, said: Sequence[str] = ()) -> Tensor:
        return torch.stack([score(seen, said or prompts) for seen in several(x, how.views, draws)]).mean(0)

    def inner(step: int, x: Tensor) -> None:
        nonlocal prompts, draws
        draws = keys.fold("views", step)
        for _ in range(how.words if step % how.every == 0 else 0):
            prompts = harder(aim, vla, prompts, x, synonyms, choice.pick, held)

    x = ascend(aim, clean, clean + noise, eps=how.eps, alpha=how.alpha, steps=how.steps, before=inner)
    picture, spent = eight_bits(x[0], score.picture, how.eps), score.passes
    with torch.no_grad():
        before, after = (float(score(at, refs).mean()) for at in (clean, score.put(picture)))
    return Found(picture, x, tuple(prompts), before, after, spent)


class Attacked:
    """Policy that is shown attacked pictures, made anew at every query for the VLA innermost in `base`, with gradients
    through it and not through what is round it. Observations that it passes on are marked (`core.red_team`)."""

    provides: frozenset[str] = frozenset({ATTACKS})

    def __init__(self, base: Any, how: Attack, refs: Sequence[str], synonyms: Synonyms, *, word: str):
        permitted(word)
        self.base, self.how, self.refs, self.synonyms, self.word = base, how, tuple(refs), synonyms, word
        self.spec, self.vla = base.spec, innermost(base)
        if self.vla is None:
            raise BuildError(f"an attack on {type(base).__name__}, in which is no VLA", "gradients", "attack a VLA")

    def start(self, keys: Sequence[Key]) -> State:
        """That of who is attacked."""
        return {"base": self.base.start(keys)}

    def act(self, obs: Observation, state: State, *, want: Sequence[str] = ()) -> tuple[ActionChunk, State]:
        """What is done for the attacked pictures; a note says that they are."""
        inside: Any = state["base"]
        while "base" in inside:
            inside = inside["base"]
        shown, role = {n: x.copy() for n, x in obs.images.items()}, self.vla.see[0]
        for r, said in enumerate(obs.text["instruction"]):
            one, refs = take_rows(inside, [r], len(obs)), [p for p in self.refs if p != said]
            how = {"word": self.word, "held": frozenset({said})}
            shown[role][r] = freeze(self.vla, obs.rows([r]), one, refs, self.synonyms, self.how, **how).picture
        marked = {**obs.extras, ATTACKED: np.ones(len(obs), bool)}
        chunk, base = self.base.act(replace(obs, images=shown, extras=marked), state["base"], want=want)
        return noting(chunk, ["attacked"] * len(obs)), {"base": base}


# ---- the defence -------------------------------------------------------------------------------------------


class Guard:
    """Policy. State, rows first: the policy's; queries in a row that went nowhere, "still"; the last command, "last",
    of which grippers count; how often it was asked."""

    def __init__(self, base: Any, config: Config):
        if not known(base.spec):
            what = f"{base.spec.robot}, of which nothing tells where it stays"
            raise BuildError(what, "deltas, or absolute parts that are measured", "add them to the spec's state")
        self.base, self.config, self.spec = base, config, base.spec
        self.provides: frozenset[str] = base.provides & {fits.HIDDEN}
        self.near = Near(config.metres, config.radians, config.grip)
        self.end = end_of(base) if config.ban else None

    def start(self, keys: Sequence[Key]) -> State:
        """Nothing was asked."""
        rows, last = len(keys), np.full((len(keys), self.spec.action_size), np.nan, np.float32)
        return {"base": self.base.start(keys), "still": np.zeros(rows, int), "asked": np.zeros(rows, int), "last": last}

    def _ask(self, obs: Observation, state: State, want: Sequence[str] = ()) -> tuple[ActionChunk, State, np.ndarray]:
        """Its chunk, its state, and which rows (B,) go nowhere."""
        with nullcontext([]) if self.end is None else unended(innermost(self.base).expert) as first:
            chunk, base = self.base.act(obs, state["base"], want=want)
        if first and first[0].any():  # of one sample, or of several to choose from
            ends = first[0].view(len(obs), -1).any(1).tolist()
            chunk = noting(chunk, ["an end first, banned" if b else "" for b in ends])
        still = frozen(self.spec, chunk.actions, chunk.valid, obs.state[:, -1], state["last"], self.near)
        return chunk, base, still

    def act(self, obs: Observation, state: State, *, want: Sequence[str] = ()) -> tuple[ActionChunk, State]:
        """Extra "frozen" and "alarm" (B,), and a note of what went nowhere. Actions change where another view's are
        taken, and where they are held: nowhere else, bit by bit."""
        c, rows = self.config, len(obs)
        chunk, base, now = self._ask(obs, state, want)
        count, thawed = np.where(now, state["still"] + 1, 0), np.zeros(rows, bool)
        due = now & (count >= c.patience) & (c.views > 0)
        if due.any():
            keys = Keys.of(obs.keys).fold(NAME).fold_each(state["asked"].tolist())
            views = [self._ask(otherwise(obs, v, due, keys), state, want) for v in range(c.views)]
            told = [(chunk, base, now), *views]
            which = voted(told, due)
            (chunk, base), thawed = picked([t[:2] for t in told], which), which > 0
        alarm = ~thawed & (count >= c.alarm) & (c.alarm > 0)
        if alarm.any():
            held = stay(self.spec, chunk.actions, obs.state[:, -1])
            chunk = replace(chunk, actions=np.where(alarm[:, None, None], held, chunk.actions))
        ends = [": " + MOVES if t else ": " + HELD if a else "" for t, a in zip(thawed, alarm)]
        notes = [STILL.format(n) + e if n else "" for n, e in zip(count, ends)]
        own = {"frozen": now & ~thawed, "alarm": alarmed(chunk.extra, alarm)}
        chunk = noting(replace(chunk, extra={**chunk.extra, **own}), notes)
        last = chunk.actions[np.arange(rows), chunk.valid.shape[1] - 1 - chunk.valid[:, ::-1].argmax(1)]
        after = {"base": base, "asked": state["asked"] + 1, "last": last}
        return chunk, {**after, "still": np.where(thawed, c.patience - 1, count)}  # the next such is due at once


CARD = MethodCard(
    name=NAME,
    title="FreezeVLA",
    arxiv="2509.19870",
    area="guard",
    seams=("Policy",),
    claim=Claim(
        "attacked by who knows the defence, a policy with it succeeds more often than one without", "over_attacked"
    ),
    base="tokens",
)


def wrap(policy: Policy, config: Config = Config()) -> Policy:
    """The defence round a policy. BuildError for a robot of which nothing tells where it stays."""
    return Guard(policy, config)


class _Brittle:
    """A policy that stays for one picture, and for no other."""

    provides: frozenset[str] = frozenset()

    def __init__(self, base: Any, fatal: Observation):
        self.base, self.fatal, self.spec, self.start = base, fatal.images, base.spec, base.start

    def act(self, obs: Observation, state: State, *, want: Sequence[str] = ()) -> tuple[ActionChunk, State]:
        chunk, after = self.base.act(obs, state)
        if all(np.array_equal(x, self.fatal[n]) for n, x in obs.images.items()):
            chunk = replace(chunk, actions=stay(self.spec, 0 * chunk.actions, obs.state[:, -1]))
        return chunk, after


def probe(on: Any, off: Any) -> bool:
    """A policy that stays for one picture, shown that one again and again, moves."""
    obs = smoke_observation(off.spec)
    policy: Any = Guard(_Brittle(off, obs), on.config) if isinstance(on, Guard) else _Brittle(off, obs)
    state = policy.start(obs.keys)
    for _ in range(Config.patience):
        chunk, state = policy.act(obs, state)
    return bool(motion(off.spec, chunk.actions, chunk.valid, obs.state[:, -1], Near())[0] > 1)
