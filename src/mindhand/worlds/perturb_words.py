"""Instructions said otherwise, by a grammar: what LIBERO-Plus (arXiv 2510.13626) has a language model write.

Its three kinds: "chat" around the instruction (R1, distraction and conversation), other "words" for the same
(R2, common sense), and "reasons" that lead up to it (R3, a chain). The meaning stays, and no word is added that says
where something lies, which digit it is, or what is to be done with the numbers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from mindhand.core.errors import BadData
from mindhand.core.keys import Keys

from .draw import Draw

KINDS = ("chat", "words", "reasons")
ASKS = ("please {}", "could you {}", "would you kindly {}", "i would like you to {}", "be so good as to {}")
BEFORE = (
    "hello there", "good morning", "i hope you are well today", "sorry to bother you again",
    "i have been cleaning this room since breakfast", "my neighbour is practising the piano again",
    "it looks as if it is going to rain later", "we are having guests this evening",
    "i keep forgetting where my keys are", "somebody ought to water the plants",
)  # fmt: skip
AFTER = (
    "thank you very much", "there is no hurry at all", "i really appreciate your help",
    "then we can all have some tea", "i am going to watch you from over here", "that would make my day",
    "you did so well the other day", "let me know how it goes",
)  # fmt: skip
REASONS = (  # any of them, in this order, leads up to the instruction
    "somebody has been writing here", "whoever wrote it would like to know what it comes to",
    "to know that, it has to be read with care and thought about", "what it comes to can be shown with digits",
    "every piece on this desk carries a digit, and not every piece is needed",
    "a piece that does not belong to it would spoil it",
    "it is finished when nothing is missing and nothing is too much",
)  # fmt: skip
TOY_REASONS = (  # the same of toys
    "this table could do with some order",
    "things are easier to find when they lie where they belong",
    "somebody has been playing here and has gone away",
    "what lies about is to be looked at with care before anything is touched",
    "one of these is not where it ought to be, and the others are to stay as they are",
    "a hand that is calm knocks nothing over",
    "it is finished when nothing moves any more",
)
SO = ("so {}", "therefore {}", "and that is why you should {}", "it follows that you should {}")
# What is said, other words for it, and a roundabout way of saying it. The first that fits a place is taken there.
OTHERWISE: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
    (r"answer (?=the board)", ("solve ", "respond to "), ("work out what is being asked by ",)),
    (r"the answer", ("the solution", "the outcome"), ("whatever it turns out to be",)),
    (r"its result", ("its solution", "its outcome"), ("whatever that turns out to be",)),
    (r"the board", ("the panel", "the sign", "the notice"),
     ("the thing that somebody has written on", "the surface that carries the writing")),
    (r"with(?= the tiles)", ("using", "by means of"), ("by picking out and laying down some of",)),
    (r"the tiles", ("the tokens", "the blocks", "the pieces"),
     ("the small flat things that carry digits", "those little counters with numerals on them")),
    (r"the tray", ("the holder", "the rack"), ("the shallow thing that keeps pieces together",)),
    (r"read", ("look at", "study"), ("find out what is written on",)),
    (r"solve", ("work out", "figure out"), ("give what is wanted by",)),
    (r"lay|place|put", ("set", "drop"), ("pick up and set down",)),
)  # fmt: skip


def rewrite(instruction: str, keys: Keys, steps: int, reasons: Sequence[str] = REASONS) -> str:
    """The instruction, said otherwise: by one of `KINDS`, with so many clauses, words or reasons (1 to 5; where it
    has fewer words to say otherwise, the more of them are said in a roundabout way). keys: one row. reasons: those that
    lead up to instructions of this kind.

    Never the same, never empty; an instruction without any word known here is chatted around. Refuses a blank one."""
    plain = " ".join(instruction.split()).rstrip(". ")
    if not plain:
        raise BadData(
            f"the instruction {instruction!r}", "some words to say otherwise", "leave a blank one unperturbed"
        )
    draw = Draw(keys)
    kind = draw.pick(KINDS)
    if kind == "reasons":
        return _reasons(draw, plain, steps, reasons)
    return (_words(draw, plain, steps) if kind == "words" else "") or _chat(draw, plain, steps)


def _chat(draw: Draw, plain: str, steps: int) -> str:
    said = draw.pick(ASKS).format(plain)
    more = steps - 1
    ahead = draw.index(more + 1)
    return ". ".join([*draw.shuffled(BEFORE)[:ahead], said, *draw.shuffled(AFTER)[: more - ahead]])


def _reasons(draw: Draw, plain: str, steps: int, reasons: Sequence[str]) -> str:
    chosen = sorted(draw.shuffled(range(len(reasons)))[:steps])
    return ". ".join([*(reasons[k] for k in chosen), draw.pick(SO).format(plain)])


def _words(draw: Draw, plain: str, steps: int) -> str:
    """With so many words replaced, "" where none is known; of the n that there are, all from n steps on, and of those
    n * (steps - 2) / 3 in a roundabout way."""
    found: list[tuple[int, int, int]] = []  # where, to where, by which row
    for row, (pattern, _, _) in enumerate(OTHERWISE):
        for m in re.finditer(rf"\b(?:{pattern})", plain):
            if (m.end() == len(plain) or not plain[m.end()].isalpha() or not plain[m.end() - 1].isalpha()) and all(
                m.end() <= a or b <= m.start() for a, b, _ in found
            ):
                found.append((*m.span(), row))
    chosen = draw.shuffled(found)[:steps]
    long = round(len(found) * max(steps - 2, 0) / 3)
    out = plain
    for k, (begin, end, row) in sorted(enumerate(chosen), key=lambda item: -item[1][0]):
        out = out[:begin] + draw.pick(OTHERWISE[row][2 if k < long else 1]) + out[end:]
    return out if out != plain else ""
