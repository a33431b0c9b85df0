"""The seams: where a method plugs in. One protocol each, and the small values that cross them.

A *slot* has one occupant and is a constructor argument; a *stack* is a list. Every part states `needs` and `provides`
(sets of names); `resolve` in `core/parts.py` refuses an unmet need or a second claimant and names both. A test lists
these signatures; a change needs a line in docs/decisions.md. The seams of whoever acts are in `core/acting.py`, which
needs no torch, and are named here too. Letters: B rows, n tokens of a segment, D width of a tower, L layers, H horizon,
A action, S samples, M log-prob elements, R worlds, T history.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from .acting import Filter, Policy, Proposer, State, Tool, ToolResult, ToolSpec, World
from .batch import Batch
from .keys import Keys
from .nouns import Observation, Reasoning

# ---- the trunk -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Segment:
    """One run of tokens, the same for all rows; rows differ only by `valid`.

    x (B,n,D of its tower) embeddings (ids pass through `embed` first); valid (B,n) bool; position (B,n,3)
    explicit temporal, height, width positions; task (B,) int64 routes static experts and is optional.
    """

    name: str  # "image/front" "text" "reasoning" "query" "state" "depth" "latent" "action"
    x: Tensor
    valid: Tensor
    position: Tensor
    tower: str = "vlm"
    task: Tensor | None = None


Mode = Literal["full", "causal", "none", "full-stop", "causal-stop"]
Rule = Sequence[tuple[str, str, Mode]]  # (query glob, key glob, mode); the first hit wins
CAUSAL: Rule = (("*", "*", "causal"),)  # "-stop" detaches the keys and values for those queries


@dataclass(frozen=True)
class Entry:
    """Cached keys and values of one segment at one layer: k, v (B,G,n,d) with G key heads, valid (B,n)."""

    name: str
    k: Tensor
    v: Tensor
    valid: Tensor


@dataclass(frozen=True)
class Patches:
    """What a vision tower saw: x (B,n,D), valid (B,n), grid (frames, rows, columns) with product n."""

    x: Tensor
    valid: Tensor
    grid: tuple[int, int, int]


# Called after layer l with a segment's name and its attention output (B,n,D): which tokens go on, (B,k) int64
# ascending, or None for all. Dropped tokens stay in the caches of the layers that saw them.
Keep = Callable[[int, str, Tensor], Tensor | None]


@runtime_checkable
class Trunk(Protocol):
    """A finished pass, and the prefix of the next."""

    hidden: dict[str, Tensor]  # (B,n,D) after the tower's final norm; pruned tokens are gone
    valid: dict[str, Tensor]  # (B,n) bool, matching `hidden`
    kept: dict[str, Tensor]  # (B,k) indices that survived, for segments that were pruned; continuations count on
    cache: list[list[Entry]]  # L lists, one entry a segment; lengths may differ between layers
    end: Tensor  # (B,) int64, the next free position
    queries: dict[int, dict[str, Tensor]]  # (B,N,n,d) at the layers in `want`: where a head looks
    rule: Rule  # of the pass: what `extend` goes on with where it is given none
    tower: dict[str, str]  # in which tower each segment rode, and so how wide it is
    task: Tensor | None  # (B,) of the rows: what segments that go on without a task have

    def layer(self, l: int, name: str) -> Tensor: ...
    def extend(self, segments: Sequence[Segment], **same: Any) -> Trunk: ...
    def fork(self, samples: int) -> Trunk: ...
    def only(self, names: Sequence[str], detach: bool = False) -> Trunk: ...


@runtime_checkable
class Backbone(Protocol):
    """Slot. The mind: sees, reads, reasons in words. A module with named nn.Identity sites (`ffn.inner`, `attn.out`,
    `out`) in every block: hook them, or replace modules by path. An FFN is called as ffn(x (B,n,D), task (B,n) int64 or
    None, valid (B,n) bool). about (B,D): the mean embedding of what is asked, where one thing is, to look by."""

    rule: Rule

    def see(self, images: Mapping[str, Tensor], about: Tensor | None = None) -> dict[str, Patches]: ...
    def embed(self, ids: Tensor) -> Tensor: ...
    def forward(
        self,
        segments: Sequence[Segment],
        *,
        rule: Rule | None = None,  # None: the prefix's, or without one the backbone's own
        past: Trunk | None = None,
        hide: Mapping[str, Tensor] = {},
        keep: Keep | None = None,
        want: Sequence[int] | None = None,  # layers to keep; None: the prefix's
        extras: Sequence[Sequence[Entry]] = (),
    ) -> Trunk: ...
    def logits(self, hidden: Tensor, ids: Tensor | None = None) -> Tensor: ...
    def generate(self, trunk: Trunk, turns: Sequence[Turn], *, keys: Keys) -> tuple[Trunk, list[str]]: ...
    def add_tower(self, name: str, config: Any) -> None: ...
    def add_words(self, names: Sequence[str]) -> list[int]: ...


# ---- reasoning -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Turn:
    """One turn to write: a cue for all rows, up to `limit` tokens, ended by `stop`; `given` forces the text."""

    cue: str
    limit: int = 64
    stop: str = "<end>"
    given: tuple[str, ...] | None = None
    segment: str = "reasoning"


@runtime_checkable
class Reasoner(Protocol):
    """Slot. What is thought before acting, when, and what is done with it. `due` is asked of one that `keeps`."""

    keeps: bool  # whether rows that are not due go on with their last thought, in state["thoughts"]

    def turns(self, sample: Mapping[str, Any]) -> list[Turn]: ...
    def due(self, obs: Observation, state: State) -> np.ndarray: ...  # bool (B,): every chunk, once, or decided
    def read(self, texts: Sequence[str]) -> Reasoning: ...
    def apply(self, obs: Observation, reasoning: Reasoning) -> Observation: ...


# ---- streams, codecs, experts --------------------------------------------------------------------------


@dataclass(frozen=True)
class StreamOut:
    """Tokens a stream adds, its next state, and named losses, a value a row."""

    segments: tuple[Segment, ...]
    state: State = field(default_factory=dict)
    losses: Mapping[str, Tensor] = field(default_factory=dict)  # (B,)
    entries: tuple[tuple[Entry, ...], ...] = ()  # for "expert.kv": L tuples of keys and values
    rule: Rule = ()  # for "trunk": who sees its segments and what they see, before the backbone's own rule


@dataclass(frozen=True)
class Inputs:
    """What reaches the model, after the transforms: differentiable pixels and normalised state.

    pixels {role: float (B,T,3,h,w) in [0, 1]}, present {role: bool (B,)}, state (B,T,S) or None, and more by name,
    (B,...): acting, the observation's extras and "time" (B,T) in seconds; training, "episode" and "step" (B,), and
    targets whose names begin with "gaze".
    """

    pixels: Mapping[str, Tensor]
    present: Mapping[str, Tensor]
    state: Tensor | None
    more: Mapping[str, Tensor] = field(default_factory=dict)

    def fork(self, samples: int) -> Inputs:
        """(B*S) rows, row-major."""

        def wide(m: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return {k: v.repeat_interleave(samples, 0) for k, v in m.items()}

        state = None if self.state is None else self.state.repeat_interleave(samples, 0)
        return Inputs(wide(self.pixels), wide(self.present), state, wide(self.more))


@dataclass(frozen=True)
class Context:
    """All that conditions the hand: the trunk, stream outputs, the reasoning as words, the inputs.

    Outputs of streams to the trunk are among `streams` without their segments, which are in the trunk already.
    """

    trunk: Trunk
    streams: Mapping[str, StreamOut]
    inputs: Inputs
    reasoning: Reasoning | None = None

    def fork(self, samples: int) -> Context:
        """(B*S) rows on one prefix, row-major. Stream segments are repeated; their states stay."""

        def wide(x: Tensor) -> Tensor:
            return x.repeat_interleave(samples, 0)

        def wide_segment(s: Segment) -> Segment:
            task = None if s.task is None else wide(s.task)
            return replace(s, x=wide(s.x), valid=wide(s.valid), position=wide(s.position), task=task)

        def wide_entry(e: Entry) -> Entry:
            return Entry(e.name, wide(e.k), wide(e.v), wide(e.valid))

        streams = {
            name: replace(
                out,
                segments=tuple(wide_segment(s) for s in out.segments),
                losses={},
                entries=tuple(tuple(wide_entry(e) for e in layer) for layer in out.entries),
            )
            for name, out in self.streams.items()
        }
        thought = self.reasoning
        if thought is not None:

            def each(values: Sequence[Any]) -> tuple[Any, ...]:
                return tuple(v for v in values for _ in range(samples))

            thought = Reasoning(each(thought.texts), {n: each(v) for n, v in thought.fields.items()})
        return Context(self.trunk.fork(samples), streams, self.inputs.fork(samples), thought)


@runtime_checkable
class Stream(Protocol):
    """Stack. Tokens that condition the hand ("expert", "expert.kv") or the trunk, with state for memories.
    `trunk` is None for streams to the trunk, which run before it. What `start` and `forward` give has the same keys,
    tensors with rows first, so that a server can put a fresh row into a running batch."""

    feeds: Literal["trunk", "expert", "expert.kv"]

    def start(self, rows: int) -> State: ...
    def forward(self, inputs: Inputs, trunk: Trunk | None, state: State) -> StreamOut: ...


@dataclass(frozen=True)
class Code:
    """Actions as they are learned: values (B,H,A') continuous, or (B,n) int64 ids; valid matches from the left."""

    values: Tensor
    valid: Tensor


@dataclass(frozen=True)
class Decoded:
    """Actions in robot units, float32 (B,H,A), valid (B,H), and errors (B,): decodings that had to be replaced.
    Errors are counted in every result and never hidden."""

    actions: np.ndarray
    valid: np.ndarray
    errors: np.ndarray


@runtime_checkable
class Codec(Protocol):
    """Slot. Actions <-> what is learned. May hold weights; its statistics live in the checkpoint.
    `encode` takes actions (B,H,A) in robot units, their mask (B,H) and the state (B,T,S) they are relative to."""

    def fit(self, batches: Iterator[Batch]) -> None: ...
    def statistics(self) -> dict[str, Any]: ...  # plain JSON
    def load_statistics(self, stored: Mapping[str, Any]) -> None: ...
    def encode(self, actions: Tensor, valid: Tensor, state: Tensor | None) -> Code: ...
    def decode(self, code: Code, state: Tensor | None) -> Decoded: ...


@dataclass(frozen=True)
class Noised:
    """A corrupted code: x (B,H,A') at time t (B,), what the network should predict, and the mask (B,H)."""

    x: Tensor
    t: Tensor
    target: Tensor
    valid: Tensor


@dataclass(frozen=True)
class Draw:
    """S samples a row: value (B,S,H,A') or ids (B,S,n). `chain` holds the visited x and t where asked for.
    `valid` (B,S,H) or (B,S,n) says what of it counts, for decoding and for densities; None is all of it."""

    value: Tensor
    chain: tuple[Tensor, ...] = ()
    times: tuple[float, ...] = ()
    logged: Mapping[str, Tensor] = field(default_factory=dict)
    extra: Mapping[str, Tensor] = field(default_factory=dict)
    sampler: Any = None  # who drew it, and knows its density if it has one
    valid: Tensor | None = None


@dataclass(frozen=True)
class LogProb:
    """Differentiable log-probabilities, recomputed: value (B,S,M), mask (B,S,M); entropy likewise if known."""

    value: Tensor
    mask: Tensor
    entropy: Tensor | None = None


Predict = Callable[[Tensor, Tensor], Tensor]  # (x (N,H,A'), t (N,)) -> the network's prediction, (N,H,A')


@runtime_checkable
class Sampler(Protocol):
    """Slot, default from the expert: ODE, DDIM, SDE, MaskGIT, guided inpainting, cached.
    `step` is one network call; x (B,S,H,A') starts as noise; frozen (B,S,H,A') NaN where free, else fixed."""

    def __call__(self, step: Predict, x: Tensor, *, keys: Keys, frozen: Tensor | None = None) -> Draw: ...


@runtime_checkable
class Expert(Protocol):
    """Slot. The hand. A drawn sample is named by its row's key and its number, whatever `samples` is.
    `temperature` scales the starting noise, or whatever else makes its samples differ."""

    def corrupt(self, code: Code, keys: Keys) -> Noised: ...
    def predict(self, ctx: Context, noised: Noised) -> Tensor: ...  # ONE network call
    def loss(self, ctx: Context, code: Code, keys: Keys) -> dict[str, Tensor]: ...  # named, (B,), masked
    def draw(
        self,
        ctx: Context,
        samples: int,
        *,
        keys: Keys,
        sampler: Sampler | None = None,
        noise: Tensor | None = None,
        frozen: Tensor | None = None,
        want: Sequence[str] = (),
        temperature: float = 1.0,
    ) -> Draw: ...
    def log_prob(self, ctx: Context, draw: Draw) -> LogProb: ...


# ---- training ------------------------------------------------------------------------------------------


@runtime_checkable
class Transform(Protocol):
    """Stack. The acting half is derived from the training half."""

    def train(self, sample: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]: ...
    def act(self, obs: Observation, state: State) -> tuple[Observation, State]: ...


@runtime_checkable
class Objective(Protocol):
    """Stack. A named loss, a value a row; `replaces` takes over others' ("action"). `keys`: its own, of this step."""

    replaces: frozenset[str]

    def loss(self, vla: Any, batch: Batch, ctx: Context, keys: Keys) -> dict[str, Tensor]: ...
    def after_step(self, vla: Any, step: int) -> None: ...


@runtime_checkable
class Source(Protocol):
    """Where batches come from: mixture, rollouts, replay, imagination. RL is a Source and an Objective.
    `batch(step)` is a pure function of the step, so a run resumes by naming it. Several batches are one step together:
    their losses are added (gradients of data that share no layout, or do not fit at once)."""

    def batch(self, vla: Any, step: int) -> Batch | Sequence[Batch]: ...


@runtime_checkable
class Edit(Protocol):
    """Stack. Surgery by module path (LoRA, upcycling, adapters); recorded, replayed before weights load."""

    def apply(self, vla: nn.Module) -> None: ...


# ---- all of it -----------------------------------------------------------------------------------------

__all__ = [
    "CAUSAL", "SEAMS", "SLOTS", "STACKS", "Backbone", "Code", "Codec", "Context", "Decoded", "Draw", "Edit", "Entry",
    "Expert", "Filter", "Inputs", "Keep", "LogProb", "Mode", "Noised", "Objective", "Patches", "Policy", "Predict",
    "Proposer", "Reasoner", "Rule", "Sampler", "Segment", "Source", "State", "Stream", "StreamOut", "Tool",
    "ToolResult", "ToolSpec", "Transform", "Trunk", "Turn", "World", "grid_position", "text_position",
]  # fmt: skip
SLOTS: tuple[str, ...] = ("backbone", "codec", "expert", "sampler", "reasoner")
STACKS: tuple[str, ...] = ("streams", "transforms", "objectives", "edits", "filters")
SEAMS: tuple[type, ...] = (
    Trunk, Backbone, Reasoner, Stream, Codec, Sampler, Expert, Transform, Objective, Source, Edit,
    Policy, Proposer, Filter, World, Tool,
)  # fmt: skip


def text_position(valid: Tensor, start: Tensor | int = 0) -> Tensor:
    """(B,n,3) positions of a run of text: valid tokens count up from `start` (B,) or int, equal on all axes."""
    count = valid.long().cumsum(1) - 1
    begin = start if isinstance(start, int) else start.reshape(-1, 1)
    return (count.clamp_min(0) + begin).unsqueeze(-1).expand(-1, -1, 3)


def grid_position(rows: int, grid: tuple[int, int, int], start: int = 0, device: Any = None) -> Tensor:
    """(B,n,3) positions of an image's patches: frame, row, column, from `start` (Qwen2-VL, 2409.12191, sec. 2.1)."""
    axes = torch.meshgrid(*(torch.arange(g, device=device) for g in grid), indexing="ij")
    return (torch.stack([a.reshape(-1) for a in axes], -1) + start).unsqueeze(0).expand(rows, -1, -1)
