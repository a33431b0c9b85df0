"""Image-text conversations in the LLaVA form: a JSON list (or JSON lines) of
`{"id", "image", "conversations": [{"from": "human"|"gpt", "value"}]}`.

As in ChatVLA-2 (arXiv 2505.21906), a sample holds at most five turns: the first, and four drawn from the rest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mindhand.core.errors import BadData
from mindhand.core.keys import Keys

from .files import read_json
from .image import decode, squeeze

MOST_TURNS = 5
MARK = "<image>"
HUMAN, MODEL = ("human", "user"), ("gpt", "assistant")


@dataclass(frozen=True)
class Turn:
    """One question and its answer."""

    question: str
    answer: str


@dataclass(frozen=True)
class Conversation:
    """A picture's path (None for a conversation about no picture) and its turns, in order."""

    name: str
    image: Path | None
    turns: tuple[Turn, ...]

    def sample(self, keys: Keys) -> tuple[Turn, ...]:
        """The first turn and up to four others drawn by `keys` (one row), in their order."""
        if len(self.turns) <= MOST_TURNS:
            return self.turns
        order = np.argsort(keys.uniform(len(self.turns) - 1)[0], kind="stable")
        later = np.sort(order[: MOST_TURNS - 1]) + 1
        return (self.turns[0], *(self.turns[int(i)] for i in later))


class LlavaSet:
    """The conversations of one file. `images`: the folder that picture paths are relative to (default: the file's).

    Opening checks every record and that every picture is there, and refuses with the first offender and their
    number; pictures themselves are decoded on request.
    """

    def __init__(self, path: Path | str, images: Path | str | None = None):
        self.path = Path(path)
        root = Path(images) if images is not None else self.path.parent
        records = self._records()
        if not isinstance(records, list) or not records:
            raise BadData(f"{self.path} holds no list of conversations", "a non-empty JSON list", "check the file")
        self.conversations = [self._conversation(i, record, root) for i, record in enumerate(records)]
        seen = {c.image for c in self.conversations if c.image is not None}
        if missing := sorted(str(p) for p in seen if not p.is_file()):
            raise BadData(
                f"{self.path}: {len(missing)} of {len(seen)} pictures are not there, first {missing[0]}",
                f"every picture under {root}",
                "give the folder the paths are relative to, or remove those records; they are never skipped in silence",
            )

    def _records(self) -> Any:
        if self.path.suffix != ".jsonl":
            return read_json(self.path, "conversations")
        lines = self.path.read_text(encoding="utf-8").splitlines()
        try:
            return [json.loads(line) for line in lines if line.strip()]
        except json.JSONDecodeError as error:
            raise BadData(f"{self.path} has a line that is not JSON ({error})", "JSON lines", "rewrite it") from error

    def _conversation(self, number: int, record: Any, root: Path) -> Conversation:
        what = f"{self.path}, record {number}"
        if not isinstance(record, Mapping) or not isinstance(record.get("conversations"), list):
            raise BadData(f"{what} has no list 'conversations'", "a LLaVA record", "see the form in data/llava.py")
        said, image = record["conversations"], record.get("image")
        if image is not None and not isinstance(image, str):
            raise BadData(f"{what}: image is {image!r}", "one path", "split records with several pictures")
        turns = []
        for i in range(0, len(said), 2):
            pair = said[i : i + 2]
            speakers = [p.get("from") if isinstance(p, Mapping) else None for p in pair]
            words = [p["value"] for p in pair if isinstance(p, Mapping) and isinstance(p.get("value"), str)]
            if len(pair) < 2 or speakers[0] not in HUMAN or speakers[1] not in MODEL:
                raise BadData(f"{what}: lines {i}.. are from {speakers}", "human, then gpt", "repair the record")
            if len(words) < 2:
                raise BadData(f"{what}: line {i} or {i + 1} has no text", "a string 'value'", "repair the record")
            if image is None and MARK in words[0]:
                raise BadData(f"{what} says {MARK} and names no picture", "an 'image'", "restore it or drop the mark")
            question, answer = words[0].replace(MARK, "").strip(), words[1].strip()
            if not question or not answer:
                raise BadData(f"{what}: turn {i // 2} is empty", "a question and an answer", "repair the record")
            turns.append(Turn(question, answer))
        if not turns:
            raise BadData(f"{what} has no turn", "at least one", "remove the record")
        return Conversation(str(record.get("id", number)), None if image is None else root / image, tuple(turns))

    def __len__(self) -> int:
        return len(self.conversations)

    def picture(self, index: int, height: int, width: int) -> np.ndarray | None:
        """uint8 (height, width, 3), or None where there is none. Squeezed to that shape, as ChatVLA-2 forces all
        pictures to one size: by area where both sides shrink, bilinear otherwise."""
        conversation = self.conversations[index]
        if conversation.image is None:
            return None
        picture = decode(conversation.image, f"{self.path}: picture of '{conversation.name}'")
        return squeeze(picture, height, width)

    def turns(self, index: int, keys: Keys) -> tuple[Turn, ...]:
        """At most five turns of sample `index`, drawn by `keys` (one row)."""
        return self.conversations[index].sample(keys)
