"""The nouns of training: what a Source yields and a VLA consumes. Torch; masks are mandatory.

Segments are common to all rows of a batch and rows differ only by `valid`: this is how image-text and robot
samples share one batch. One `valid` rules attention and losses alike.

Letters: B rows of the prefix (images), Q questions a row, n tokens, T history, H horizon, A action, S state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

import torch
from torch import Tensor

from .errors import BadData


@dataclass(frozen=True)
class Text:
    """One run of token ids. `supervised[b,i]`: token i is to be predicted, from token i-1 of the same run.

    The first token is never supervised: a run that is to be generated begins with its cue, so that no loss
    ever has to look across a padded border. ids (B*Q,n) int64, valid and supervised (B*Q,n) bool.
    """

    ids: Tensor
    valid: Tensor
    supervised: Tensor

    def __post_init__(self) -> None:
        if not (self.ids.shape == self.valid.shape == self.supervised.shape):
            shapes = tuple(self.ids.shape), tuple(self.valid.shape), tuple(self.supervised.shape)
            raise BadData(f"ids, valid, supervised have shapes {shapes}", "three equal shapes", "pad them together")
        if self.supervised.shape[1] and bool(self.supervised[:, 0].any()):
            raise BadData("the first token of a run is supervised", "a cue token first", "prepend the cue of the turn")
        if bool((self.supervised & ~self.valid).any()):
            raise BadData("a padded token is supervised", "supervised only where valid", "mask with `valid`")


@dataclass(frozen=True)
class Target:
    """Something a head should predict: value (B,...), valid bool broadcastable to it from the left."""

    value: Tensor
    valid: Tensor


@dataclass(frozen=True)
class Batch:
    """B rows. `order` names the trunk's segments in sequence: ("image/front", "text", "reasoning"). Pictures come first
    whatever it says; tokens of a stream to the trunk where it names them, or else behind the pictures.

    images {role: uint8 (B,T,h,w,3)} and present {role: bool (B,)}; text {segment: Text} with B*Q rows, where
    Q = `questions` packs several questions on one image prefix (nano: 4; robot batches: 1).
    state (B,T,S) and actions (B,H,A) are in robot units; codecs normalise. action_valid (B,H) is False on
    image-text rows and after an episode's end. task (B*Q,): 0 image-text, 1 robot (static experts route by it).
    """

    order: tuple[str, ...]
    images: Mapping[str, Tensor]
    present: Mapping[str, Tensor]
    text: Mapping[str, Text]
    task: Tensor
    state: Tensor | None = None
    actions: Tensor | None = None
    action_valid: Tensor | None = None
    questions: int = 1
    embodiment: Tensor | None = None  # (B,) int64
    episode: Tensor | None = None  # (B,) int64
    step: Tensor | None = None  # (B,) int64
    targets: Mapping[str, Target] = field(default_factory=dict)
    logged: Mapping[str, Target] = field(default_factory=dict)  # draws, advantages, log-probs of a rollout
    each: tuple[int, ...] | None = None  # of rows that several processes share: their numbers in the whole; None: all

    def __post_init__(self) -> None:
        if (self.actions is None) != (self.action_valid is None):
            raise BadData("actions without action_valid", "a mask with every target", "give action_valid (B,H) bool")
        if self.actions is not None and self.action_valid is not None:
            if self.action_valid.shape != self.actions.shape[:2] or self.action_valid.dtype != torch.bool:
                raise BadData(
                    f"action_valid is {self.action_valid.dtype} {tuple(self.action_valid.shape)}",
                    f"bool {tuple(self.actions.shape[:2])}",
                    "one flag a step of the chunk",
                )
            if not bool(torch.isfinite(self.actions[self.action_valid]).all()):
                raise BadData("actions hold NaN or infinity", "finite where valid", "run `mindhand data doctor`")
        rows = len(self) * self.questions
        for name, text in self.text.items():
            if text.ids.shape[0] != rows:
                raise BadData(f"text '{name}' has {text.ids.shape[0]} rows", f"{rows}", "rows = images x questions")
        if self.task.shape != (rows,):
            raise BadData(f"task has shape {tuple(self.task.shape)}", f"({rows},)", "one flag a question")

    def __len__(self) -> int:
        for x in (*self.images.values(), *self.present.values(), self.state, self.actions):
            if x is not None:
                return x.shape[0]
        return next(iter(self.text.values())).ids.shape[0] // self.questions

    def to(self, device: torch.device | str) -> Batch:
        """A copy on `device`; its contracts were checked when it was made."""

        def move(x):
            if isinstance(x, Tensor):
                return x.to(device, non_blocking=True)
            if isinstance(x, Mapping):
                return {k: move(v) for k, v in x.items()}
            if isinstance(x, Text | Target | Batch):
                copy = object.__new__(type(x))
                for f in fields(x):
                    object.__setattr__(copy, f.name, move(getattr(x, f.name)))
                return copy
            return x

        return move(self)


def masked_mean(x: Tensor, valid: Tensor) -> Tensor:
    """Mean of `x` where `valid` (bool, broadcastable from the left), a scalar; 0 with no gradient if nothing is.

    The only reduction losses use: a padded value changes neither it nor its gradient.
    """
    valid = valid.reshape(valid.shape + (1,) * (x.ndim - valid.ndim)).expand_as(x)
    total = torch.where(valid, x, torch.zeros((), dtype=x.dtype, device=x.device)).sum()
    return total / valid.sum().clamp_min(1)


def masked_rows(x: Tensor, valid: Tensor) -> Tensor:
    """Mean of each row of `x` (B,...) where `valid`; 0 for a row with nothing valid. Shape (B,)."""
    valid = valid.reshape(valid.shape + (1,) * (x.ndim - valid.ndim)).expand_as(x)
    kept = torch.where(valid, x, torch.zeros((), dtype=x.dtype, device=x.device)).flatten(1)
    return kept.sum(1) / valid.flatten(1).sum(1).clamp_min(1)


def token_mean(x: Tensor, valid: Tensor) -> Tensor:
    """Mean over the valid tokens of each row: x (B,n,D), valid (B,n) -> (B,D); zeros where there are none."""
    there = valid.unsqueeze(-1)
    total = torch.where(there, x, torch.zeros((), dtype=x.dtype, device=x.device)).sum(1)
    return total / there.sum(1).clamp_min(1)
