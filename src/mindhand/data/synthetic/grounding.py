"""Where a mind should look while it says each token of an answer: the supervised pointer's targets.

Saying "3+4=7" reads the board character by character, "tiles 714" goes from tile to tile, as counting does; "left back"
speaks of one tile throughout. Results of sums are nowhere to be seen, and have no target. Where a list ends, the next
look would stay where the last one was: that is how one knows.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from mindhand.core.batch import Target, Text
from mindhand.model.words import Words

from .collate import cell
from .moments import THINK
from .questions import joined_text
from .samples import BOARD_CHARS, QA, ImageText, Pixel
from .toy_plans import PLAN
from .toy_questions import LISTS


def looks(qa: QA, sample: ImageText, words: Words) -> list[Pixel | None]:
    """A pixel, or None, for every token of `words.encode(qa.answer)`; and one for the token that ends the answer, where
    it is about one thing, or a list: whoever has said all still looks there."""
    if qa.parts:
        out: list[Pixel | None] = []
        for k, part in enumerate(qa.parts):
            tokens, until = len(words.encode(part.answer)), len(words.encode(joined_text(qa.parts[: k + 1])))
            out += [*[None] * (until - tokens - len(out)), *looks(part, sample, words)[:tokens]]
        return out
    tokens = [words.decode([i]) for i in words.encode(qa.answer)]
    board = [(u, v) for g, u, v in sample.glyphs if 0 < g <= len(BOARD_CHARS) and BOARD_CHARS[g - 1] not in "=?"]
    row = iter(qa.row)
    if qa.kind in ("read", "solve", "board", "number", "steps"):  # over toys the row is what is written
        reading = tokens.index(":") if ":" in tokens else len(tokens)
        return [*_expression(tokens[:reading], qa.row or board), *[None] * (len(tokens) - reading)]
    if qa.kind in LISTS:
        return [*(next(row, None) if any(c.isalpha() for c in t) else None for t in tokens), *qa.row[-1:]]
    if qa.kind == PLAN:
        about = [sum(t == "." for t in tokens[:i]) for i in range(len(tokens))]  # the number of the sentence
        return [*(qa.row[k] if k < len(qa.row) else None for k in about), qa.point]
    if qa.kind in ("tiles", "count", "amount"):
        return [*(next(row, None) if t.isdigit() else None for t in tokens), *qa.row[-1:]]
    if qa.kind in (THINK, "next"):
        first, do = tokens.index("."), deed(tokens)
        listed = [next(row, None) if t.isdigit() else None for t in tokens[first:do]]
        # Who is given a deed cannot look there before it is named.
        seen = next(i for i, t in enumerate(tokens) if i > do and t.isdigit()) + 1 if qa.given else do
        until = [None] * (seen - do)
        return [*_expression(tokens[:first], board), *listed, *until, *[qa.point] * (len(tokens) - seen + 1)]
    return [qa.point] * (len(tokens) + 1)


def deed(tokens: Sequence[str]) -> int:
    """Where a thought begins to say what is to be done; behind its last token if nothing is."""
    return next((i for i, token in enumerate(tokens) if token in (" take", " put")), len(tokens))


def _expression(tokens: Sequence[str], board: Sequence[Pixel]) -> list[Pixel | None]:
    length = len("".join(tokens).split("=")[0])
    return [board[i] if i < min(length, len(board)) else None for i in range(len(tokens))]


def look_target(
    text: Text, per_row: Sequence[Sequence[Pixel | None]], size: tuple[int, int], grid: tuple[int, int], cue: int
) -> Target:
    """Cells (rows,n) of answers packed as cue, of so many tokens, tokens, end; the target of token i stands where it is
    said."""
    value = torch.zeros(text.ids.shape, dtype=torch.int64)
    valid = torch.zeros(text.ids.shape, dtype=torch.bool)
    for b, pixels in enumerate(per_row):
        for i, p in enumerate(pixels):
            if p is not None:
                value[b, i + cue] = cell(p, size, grid)
                valid[b, i + cue] = True
    return Target(value, valid)
