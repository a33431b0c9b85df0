"""The executor: chunks in, filters every control step, pictures only when a policy is asked.

An episode is a pure function of its Key and the policy at a fixed batch of B rows. Three things keep it so:
the policy is always asked for B rows (free ones repeat what they last saw); all rows are asked at the same moment
and then each uses up its own chunk, a row that is done with it waiting without its world being stepped; and a row
that ended is refilled only where the policy's state can be told by row (`rows.py`), else when all rows are free.

Letters: B rows of the batch, H horizon, A action.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mindhand.core.errors import BadData, BuildError, Refusal
from mindhand.core.keys import Key
from mindhand.core.nouns import ActionChunk, Observation
from mindhand.core.red_team import refuse_attack

from .filters import limits_of
from .rows import put_rows, take_rows

if TYPE_CHECKING:
    from mindhand.core.seams import Filter, Policy, State, World

End = Literal["success", "failure", "time"]


@dataclass(frozen=True)
class Film:
    """Which episodes are filmed, and how: `camera` every `every` control steps, at most `size` pixels a side.
    The recording camera is asked for by itself, so filming cannot change what the policy sees."""

    camera: str
    episodes: frozenset[Key]
    every: int = 2
    size: int = 128


@dataclass(frozen=True)
class EpisodeResult:
    """What one episode came to. Equality ignores what a clock or a camera said.

    end: "success"; "failure" (the world decided against); "time" (the step limit). steps: control steps. queries:
    how often the policy was asked. instruction: as the policy first read it. thoughts: (control step, text), where
    the text changed. interventions: (control step, which filter and why). facts: the world's privileged facts at
    the end. chosen_at: the control step after which its fact "choice" (an index, -1 for none yet) was first set.
    errors: decodings that had to be replaced (`core.seams.Decoded`), over all queries. notes: (control step, what the
    policy or a wrapper round it noted of its chunk).
    seconds: of each query, for the whole batch. film: uint8 (h,w,3) frames.
    """

    key: Key
    end: End
    steps: int
    queries: int
    instruction: str
    thoughts: tuple[tuple[int, str], ...]
    interventions: tuple[tuple[int, str], ...]
    facts: Mapping[str, Any]
    chosen_at: int | None = None
    errors: int = 0
    notes: tuple[tuple[int, str], ...] = ()
    seconds: tuple[float, ...] = field(default=(), compare=False, repr=False)
    film: tuple[np.ndarray, ...] = field(default=(), compare=False, repr=False)

    @property
    def success(self) -> bool:
        """Whether the world said so when it ended."""
        return self.end == "success"


@dataclass
class _Row:
    """An episode that runs."""

    key: Key
    steps: int = 0
    end: End | None = None
    instruction: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    chosen_at: int | None = None
    errors: int = 0
    thoughts: list[tuple[int, str]] = field(default_factory=list)
    interventions: list[tuple[int, str]] = field(default_factory=list)
    notes: list[tuple[int, str]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    film: list[np.ndarray] = field(default_factory=list)
    filters: list[State] = field(default_factory=list)

    def result(self) -> EpisodeResult:
        assert self.end is not None
        return EpisodeResult(
            self.key, self.end, self.steps, len(self.seconds), self.instruction, tuple(self.thoughts),
            tuple(self.interventions), dict(self.facts), self.chosen_at, self.errors, tuple(self.notes),
            tuple(self.seconds), tuple(self.film),
        )  # fmt: skip


def name_of(part: Any) -> str:
    """How a policy or filter is called in messages: its `name`, else its class."""
    return str(getattr(part, "name", "") or type(part).__name__)


def small(picture: np.ndarray, size: int) -> np.ndarray:
    """uint8 (h,w,3) -> the same, averaged over whole blocks until no side exceeds `size`."""
    n = -(-max(picture.shape[:2]) // size)
    h, w = (picture.shape[0] // n) * n, (picture.shape[1] // n) * n
    blocks = picture[:h, :w].reshape(h // n, n, w // n, n, 3)
    return blocks.mean((1, 3)).round().astype(np.uint8)


def _placed(old: Observation, fresh: Observation, rows: Sequence[int]) -> Observation:
    """`old` with the given rows replaced by those of `fresh`."""
    index = np.arange(len(old))
    index[list(rows)] = len(old) + np.arange(len(rows))
    keys = old.keys + fresh.keys
    if old.images.keys() != fresh.images.keys() or old.text.keys() != fresh.text.keys():
        raise BadData(
            f"the world shows {sorted(fresh.images)} and says {sorted(fresh.text)} now",
            f"{sorted(old.images)} and {sorted(old.text)}, as before",
            "declare a camera that is absent by `present`, not by leaving it out",
        )

    def both(a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {k: np.concatenate([a[k], b[k]])[index] for k in a}

    return Observation(
        images=both(old.images, fresh.images),
        state=np.concatenate([old.state, fresh.state])[index],
        text={k: tuple((*old.text[k], *fresh.text[k])[i] for i in index) for k in old.text},
        time=np.concatenate([old.time, fresh.time])[index],
        keys=tuple(keys[i] for i in index),
        present=both(old.present, fresh.present),
        extras=both(old.extras, fresh.extras),
    )


class _Batch:
    """B rows of one policy, and the episodes that run in them."""

    def __init__(self, policy: Policy, rows: int):
        self.policy, self.size = policy, rows
        self.rows: list[_Row | None] = [None] * rows
        self.keys: list[Key] = []
        self.state: State = {}
        self.seen: Observation | None = None
        self.by_row = True  # False once a state could not be joined: then all rows start together

    @property
    def active(self) -> list[int]:
        """Rows whose episode runs."""
        return [r for r, row in enumerate(self.rows) if row is not None]

    def refill(self, queue: list[Key]) -> list[int]:
        """Start episodes in free rows as far as the state can be joined; returns the rows that began."""
        free = [r for r, row in enumerate(self.rows) if row is None][: len(queue)]
        if not free or (self.active and not self.by_row):
            return []
        keys = list(self.keys) or [queue[0]] * self.size
        for r, key in zip(free, queue):
            keys[r] = key
        fresh = self.policy.start(keys)
        state = put_rows(self.state, fresh, free, self.size) if self.active else fresh
        if state is None:
            self.by_row = False
            return []
        self.state, self.keys = state, keys
        for r in free:
            self.rows[r] = _Row(queue.pop(0))
        return free

    def see(self, fresh: Observation) -> Observation:
        """The batch's observation: `fresh` for the active rows, what was last seen for the others."""
        if self.seen is None:
            # Rows that never ran repeat the first one, whose key they were started with.
            self.seen = fresh.rows([0] * self.size)
        self.seen = _placed(self.seen, fresh, self.active)
        return self.seen

    def ask(self, obs: Observation, want: Sequence[str]) -> ActionChunk:
        """One query, with every way to answer badly refused by name."""
        begin = time.perf_counter()
        try:
            chunk, after = self.policy.act(obs, self.state, want=want)
        except Exception as error:
            raise Refusal(
                f"policy '{name_of(self.policy)}' failed on {self._blamed(obs, want)}: {type(error).__name__}: {error}",
                f"an ActionChunk for {self.size} rows",
                "replay that key alone; the episode is the same for any neighbours",
            ) from error
        seconds = time.perf_counter() - begin
        self._check(chunk)
        self.state = after
        for r in self.active:
            row = self.rows[r]
            assert row is not None
            row.instruction = row.instruction if row.seconds else obs.text["instruction"][r]
            row.seconds.append(seconds)
            row.errors += int(chunk.extra["errors"][r]) if "errors" in chunk.extra else 0
            text = chunk.reasoning.texts[r] if chunk.reasoning is not None else ""
            if text and (not row.thoughts or text != row.thoughts[-1][1]):
                row.thoughts.append((row.steps, text))
            if note := chunk.extra["note"][r] if "note" in chunk.extra else "":
                row.notes.append((row.steps, note))
        return chunk

    def _blamed(self, obs: Observation, want: Sequence[str]) -> str:
        """Which rows fail when the whole batch repeats them; all of them where none does so alone."""
        alone = []
        for r in self.active:
            state = take_rows(self.state, [r] * self.size, self.size)
            if state is None:
                break
            try:
                self.policy.act(obs.rows([r] * self.size), state, want=want)
            except Exception:
                alone.append(r)
        named = alone or self.active
        return ", ".join(f"row {r} ({self.keys[r]})" for r in named) + ("" if alone else " together")

    def _check(self, chunk: ActionChunk) -> None:
        name, size = name_of(self.policy), self.policy.spec.action_size
        if len(chunk) != self.size or chunk.actions.shape[2] != size:
            raise Refusal(
                f"policy '{name}' answered {chunk.actions.shape}",
                f"({self.size}, horizon, {size}): every row asked for, in the spec's dimensions",
                "answer padded rows too",
            )
        for r in self.active:
            bad = ~np.isfinite(chunk.actions[r]).all(1) & chunk.valid[r]
            if bad.any() or not chunk.valid[r, 0]:
                what = f"NaN at action {int(np.argmax(bad))}" if bad.any() else "no valid action"
                raise Refusal(
                    f"policy '{name}', row {r} ({self.keys[r]}): {what}",
                    "finite actions where valid, and at least the first one valid",
                    "look for a division by a constant dimension's spread, or an overflow in half precision",
                )


def _filtered(stack: Sequence[Filter], row: _Row, action: np.ndarray, now: Observation) -> np.ndarray:
    """One row's action through the filters, in order, one row at a time: a filter must not know its neighbours."""
    row.filters = row.filters or [{} for _ in stack]
    for i, one in enumerate(stack):
        out, row.filters[i] = one(action, now, row.filters[i])
        if out.action.shape != action.shape or not np.isfinite(out.action).all():
            raise Refusal(
                f"filter '{name_of(one)}' answered {out.action} for {row.key}",
                f"a finite action of shape {action.shape}",
                "a filter that cannot decide must stop the robot with a command, not with NaN",
            )
        action = out.action
        if out.intervened[0]:
            row.interventions.append((row.steps, f"{name_of(one)}: {out.why[0]}"))
    return action


def run_episodes(
    policy: Policy,
    world: World,
    keys: Sequence[Key],
    *,
    replan: int,
    horizon_steps: int,
    filters: Sequence[Filter] = (),
    rows: int = 8,
    film: Film | None = None,
    want: Sequence[str] = (),
    done: Callable[[EpisodeResult], None] | None = None,
) -> list[EpisodeResult]:
    """Run every key as one episode; results in the order of `keys`.

    replan: actions of a chunk that are carried out before the next query (fewer where `valid` ends). rows: B, fixed
    for a protocol; `world` must have rows 0..B-1. horizon_steps: control steps after which time is up. filters:
    in order, Limits last where the world is a robot. done: called with each episode as it ends.

    Raises SpecMismatch where policy and world differ, BuildError for a replan longer than the chunk, Refusal
    naming policy (or filter) and row for whatever it answers badly.
    """
    if replan < 1 or horizon_steps < 1 or rows < 1:
        raise BuildError(f"replan {replan}, steps {horizon_steps}, rows {rows}", "numbers above 0", "correct them")
    if len(set(keys)) != len(keys):
        raise BadData("a key twice among the episodes", "each episode once", "give distinct keys")
    policy.spec.require(world.spec, f"policy '{name_of(policy)}'", f"world '{name_of(world)}'")
    if held := limits_of(world):
        refuse_attack(policy, f"robot '{name_of(world)}'")
    stack = [*filters, *held]
    batch, queue = _Batch(policy, rows), list(keys)
    results: dict[Key, EpisodeResult] = {}
    while batch.active or queue:
        if began := batch.refill(queue):
            world.reset([batch.keys[r] for r in began], began)
            _shoot(world, batch, film, began)
        active = batch.active
        chunk = batch.ask(batch.see(world.observe(active)), want)
        if chunk.actions.shape[1] < replan:
            raise BuildError(
                f"policy '{name_of(policy)}' plans {chunk.actions.shape[1]} steps and is to be asked every {replan}",
                "a chunk at least as long as the protocol's replan",
                "lower replan in the protocol, or retrain with a longer horizon",
            )
        for i in range(replan):
            active = [r for r in active if batch.rows[r].end is None and chunk.valid[r, i]]  # type: ignore[union-attr]
            if not active:
                break
            _step(world, batch, stack, chunk.actions[active, i], active, horizon_steps)
            _shoot(world, batch, film, active)
        for r in batch.active:
            row = batch.rows[r]
            if row is not None and row.end is not None:
                results[row.key] = row.result()
                batch.rows[r] = None
                if done is not None:
                    done(results[row.key])
    return [results[key] for key in keys]


def _step(
    world: World, batch: _Batch, stack: Sequence[Filter], actions: np.ndarray, active: list[int], limit: int
) -> None:
    """One control step of the active rows: filters, world, what came of it."""
    rows = [batch.rows[r] for r in active]
    actions = np.asarray(actions, np.float32)
    if stack:
        now = world.observe(active, ())  # no camera: nothing is rendered
        actions = np.concatenate(
            [_filtered(stack, row, actions[j : j + 1], now.rows([j])) for j, row in enumerate(rows) if row is not None]
        )
    outcome = world.step(actions, active)
    for j, row in enumerate(rows):
        assert row is not None
        row.steps += 1
        row.facts = outcome.facts[j] if outcome.facts else {}
        if row.chosen_at is None and row.facts.get("choice", -1) >= 0:
            row.chosen_at = row.steps
        if outcome.ended[j]:
            row.end = "success" if outcome.success[j] else "failure"
        elif outcome.truncated[j] or row.steps >= limit:
            row.end = "success" if outcome.success[j] else "time"


def _shoot(world: World, batch: _Batch, film: Film | None, active: Sequence[int]) -> None:
    """The recording camera, for the rows that are filmed and due."""
    if film is None:
        return
    due = [r for r in active if (row := batch.rows[r]) is not None and row.key in film.episodes
           and (row.steps % film.every == 0 or row.end is not None)]  # fmt: skip
    if due:
        pictures = world.observe(due, (film.camera,)).images[film.camera]
        for j, r in enumerate(due):
            row = batch.rows[r]
            assert row is not None
            row.film.append(small(pictures[j, -1], film.size))
