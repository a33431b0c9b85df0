"""The nouns of the boundary: what crosses between worlds, data, the wire and a policy.

Everything here is numpy, frozen and batched, and importable without torch, so that a robot's client or a
simulator's worker stays small. `core/batch.py` holds the nouns of training, which are torch.

Letters: B rows, T history, H horizon, A action, S state (in `Proposals`: samples), W x H image size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from .errors import BadData
from .keys import Key, Keys
from .spec import Spec


def _shape(what: str, x: Any, *want: int | None) -> None:
    if not isinstance(x, np.ndarray):
        raise BadData(f"{what} is a {type(x).__name__}", "a numpy array", "convert it with np.asarray")
    if x.ndim != len(want) or x.shape != tuple([n if w is None else w for w, n in zip(want, x.shape)]):
        raise BadData(
            f"{what} has shape {x.shape}",
            "(" + ", ".join("any" if w is None else str(w) for w in want) + ")",
            "check the batch axis first, then the history axis: arrays here are (rows, history, ...)",
        )


def _finite(what: str, x: np.ndarray, valid: np.ndarray | None = None) -> None:
    good = np.isfinite(x)
    if good.all():
        return
    bad = ~good
    if valid is not None:
        bad &= valid.reshape(valid.shape + (1,) * (x.ndim - valid.ndim))
    if bad.any():
        where = tuple(int(i) for i in np.argwhere(bad)[0])
        raise BadData(
            f"{what} holds NaN or infinity, first at {where}",
            "finite numbers wherever the mask says valid",
            "find the sensor or the division that made it; mindhand never replaces NaN by zero",
        )


@dataclass(frozen=True)
class Observation:
    """What a policy sees at one control step, for B rows.

    images:  {role: uint8 (B,T,h,w,3)}, RGB, roles named in the Spec ("front", "wrist").
    present: {role: bool (B,)}; a missing camera is declared absent here and masked, never zero-filled in silence.
    state:   float32 (B,T,S), proprioception only, in the Spec's order and units.
    text:    {role: B strings}: "instruction" always; "previous", "correction" where a method asks for them.
    time:    float64 (B,T), seconds since the episode began.
    extras:  {name: (B,...)}: depth (metres), intrinsics, extrinsics, points, stereo, tactile.
    keys:    the B episodes these rows belong to.
    """

    images: Mapping[str, np.ndarray]
    state: np.ndarray
    text: Mapping[str, Sequence[str]]
    time: np.ndarray
    keys: tuple[Key, ...]
    present: Mapping[str, np.ndarray] = field(default_factory=dict)
    extras: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rows = len(self.keys)
        _shape("state", self.state, rows, None, None)
        history = self.state.shape[1]
        _shape("time", self.time, rows, history)
        _finite("state", self.state)
        for role, x in self.images.items():
            _shape(f"image '{role}'", x, rows, history, None, None, 3)
            if x.dtype != np.uint8:
                raise BadData(f"image '{role}' is {x.dtype}", "uint8, 0..255, RGB", "scale and cast at the camera")
        if unknown := set(self.present) - set(self.images):
            raise BadData(
                f"presence declared for cameras {sorted(unknown)} that carry no image",
                f"roles among {sorted(self.images)}",
                "give an image array (any content) for a camera that is absent in some rows",
            )
        present = {role: self.present.get(role, np.ones(rows, bool)) for role in self.images}
        for role, p in present.items():
            _shape(f"present '{role}'", p, rows)
        object.__setattr__(self, "present", present)
        for role, texts in self.text.items():
            if len(texts) != rows:
                raise BadData(f"text '{role}' has {len(texts)} rows", f"{rows}", "one string a row")

    def __len__(self) -> int:
        return len(self.keys)

    def rows(self, index: Sequence[int] | np.ndarray) -> Observation:
        """The named rows, in the order named (repeats allowed)."""
        index = np.asarray(index, np.int64)
        return Observation(
            images={k: v[index] for k, v in self.images.items()},
            state=self.state[index],
            text={k: tuple(v[int(i)] for i in index) for k, v in self.text.items()},
            time=self.time[index],
            keys=tuple(self.keys[int(i)] for i in index),
            present={k: v[index] for k, v in self.present.items()},
            extras={k: v[index] for k, v in self.extras.items()},
        )

    def with_text(self, role: str, texts: Sequence[str]) -> Observation:
        """A copy that says something else: the language arm of every evaluation."""
        return replace(self, text={**self.text, role: tuple(texts)})


def told(instruction: str, words: str) -> str:
    """An instruction with what the state says in words behind it."""
    return f"{instruction}. {words}"


@dataclass(frozen=True)
class Reasoning:
    """What a policy thought before it acted, for B rows.

    texts:  the generated text, a string a row ("" where none was due).
    fields: {name: B values} parsed from it ("answer", "place", "box"); None where it could not be parsed.
    """

    texts: tuple[str, ...]
    fields: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True)
class ActionChunk:
    """H actions for each of B rows, in robot units as the Spec says.

    actions: float32 (B,H,A); valid: bool (B,H), False after the end of what the policy stands for.
    reasoning: the thought it came from. extra: what `want` asked for, by name; "note", B strings: what whoever gave
    it wants to be kept with the episode ("" where nothing), as wrappers do of what they changed.
    """

    actions: np.ndarray
    valid: np.ndarray
    reasoning: Reasoning | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _shape("actions", self.actions, None, None, None)
        _shape("valid", self.valid, *self.actions.shape[:2])
        if self.valid.dtype != np.bool_:
            raise BadData(f"valid is {self.valid.dtype}", "bool", "compare, do not count")
        _finite("actions", self.actions, self.valid)

    def __len__(self) -> int:
        return self.actions.shape[0]


@dataclass(frozen=True)
class Proposals:
    """S chunks for each row: actions float32 (B,S,H,A), valid bool (B,S,H), score float32 (B,S) if any, and the thought
    that they all came from. extra: "errors" (B,S), as of a chunk, and what `want` asked for."""

    actions: np.ndarray
    valid: np.ndarray
    score: np.ndarray | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    reasoning: Reasoning | None = None

    def __post_init__(self) -> None:
        _shape("actions", self.actions, None, None, None, None)
        _shape("valid", self.valid, *self.actions.shape[:3])
        _finite("actions", self.actions, self.valid)

    def pick(self, which: np.ndarray) -> ActionChunk:
        """The `which[b]`-th proposal of each row, with its thought, its decodings that had to be replaced, and what was
        felt of it ("hidden")."""
        b = np.arange(len(self.actions))
        extra = {n: self.extra[n][b, which] for n in ("errors", "hidden") if n in self.extra}
        return ActionChunk(self.actions[b, which], self.valid[b, which], self.reasoning, extra)


@dataclass(frozen=True)
class Outcome:
    """What one control step did to B rows of worlds; `facts` are privileged and never shown to a policy."""

    reward: np.ndarray  # (B,) float32
    success: np.ndarray  # (B,) bool
    ended: np.ndarray  # (B,) bool: the task is decided
    truncated: np.ndarray  # (B,) bool: time ran out
    facts: tuple[Mapping[str, Any], ...] = ()

    @property
    def done(self) -> np.ndarray:
        """(B,) bool."""
        return self.ended | self.truncated


@dataclass(frozen=True)
class Filtered:
    """An action after a Filter: action (B,A), intervened bool (B,), and why, a string a row ("" if untouched)."""

    action: np.ndarray
    intervened: np.ndarray
    why: tuple[str, ...]


def as_dict(noun: Any) -> dict[str, Any]:
    """A noun's fields by name, one level deep (for the wire and for logs)."""
    return {f.name: getattr(noun, f.name) for f in fields(noun)}


def smoke_observation(spec: Spec) -> Observation:
    """What every checkpoint's stored prediction is made for: one row of fixed noise pictures and a rising state.
    The same numbers for the same spec, on every machine."""
    key = Key("smoke", spec.robot, 0)
    draw = Keys.of([key])
    return Observation(
        images={
            c.role: draw.fold(c.role).integers(256, 1, c.height, c.width, 3).astype(np.uint8) for c in spec.cameras
        },
        # Rising, so that the two axes of a 6-D rotation are never parallel.
        state=np.linspace(0.1, 0.5, spec.state_size, dtype=np.float32)[None, None],
        text={"instruction": ("answer the board with the tiles",)},
        time=np.zeros((1, 1)),
        keys=(key,),
    )
