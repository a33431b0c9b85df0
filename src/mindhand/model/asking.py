"""Questions that a mind answers before it acts: each row is asked its own, and answers in one of a few ways."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mindhand.core.batch import Text
from mindhand.core.errors import BadData
from mindhand.core.seams import Turn

from .words import Words


@dataclass(frozen=True)
class Question(Turn):
    """A turn before which each row is asked something. asked: a question a row, "" for a row that is asked nothing and
    then says nothing; among: all that may be answered. `limit` does not count."""

    asked: tuple[str, ...] = ()
    among: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        given = self.given or ()
        odd = sorted({a for q, a in zip(self.asked, given) if a not in (self.among if q else ("",))})
        if not self.among or "" in self.among or odd or (given and len(given) != len(self.asked)):
            what = f"{len(self.asked)} questions, answers {odd or len(given)} among {self.among}"
            raise BadData(what, "a way or more to answer; given, one of them a question", "correct the turn")


def asked(words: Words, turn: Question) -> Text:
    """What the rows are asked, (B,n): cue, question, end; nothing of it counts where a row is asked nothing."""
    text = words.questions(turn.asked)
    return replace(text, valid=text.valid & torch.tensor([[bool(q)] for q in turn.asked]))


def taught(words: Words, turns: Sequence[Turn]) -> Text:
    """Given turns as one run a row, (B,n), n at least 1: cues and questions are not supervised, what is said and its
    end are. It is what a mind learns from, and what it goes on from where its words are given. BadData for characters
    that have no token."""
    rows: list[list[int]] = [[] for _ in turns[0].given or ()]
    flags: list[list[bool]] = [[] for _ in rows]
    for turn in turns:
        if turn.given is None or len(turn.given) != len(rows):
            raise BadData(f"a turn '{turn.cue}' that is not given to {len(rows)} rows", "a text a row", "give it")
        words.require(turn.given, "what is said")
        ask = turn.asked if isinstance(turn, Question) else None
        words.require(ask or (), "a question")
        for row, (text, ids, on) in enumerate(zip(turn.given, rows, flags)):
            if ask is not None and not ask[row]:
                continue
            told = [] if ask is None else words.question(ask[row])
            said = [*words.encode(text), words.id(turn.stop)]
            begin = [*told, *words.cue(turn.cue)]
            ids.extend((*begin, *said))
            on += [False] * len(begin) + [True] * len(said)
    text = words.pack(rows, flags)
    if text.ids.shape[1]:
        return text
    nothing = torch.zeros(len(rows), 1, dtype=torch.bool)
    return Text(torch.full(nothing.shape, words.pad), nothing, nothing)


def narrowed(words: Words, turn: Question, scores: Tensor, said: Sequence[Sequence[int]]) -> Tensor:
    """Scores (B,1,V) with -inf for all words but those by which what a row has `said` becomes one of its ways, and for
    the stop where it is one."""
    ways = [[*words.encode(a), words.id(turn.stop)] for a in turn.among]
    shut = torch.full_like(scores, float("-inf"))
    for row, begun in enumerate(said):
        free = [w[len(begun)] for w in ways if len(w) > len(begun) and w[: len(begun)] == list(begun)]
        shut[row, :, free] = 0.0
    return scores + shut
