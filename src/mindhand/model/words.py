"""Words: a tokenizer in the `tokenizers` format, with the few special words that a VLA needs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor

from mindhand.core.batch import Text
from mindhand.core.errors import BadData

PAD, END, ASK, SAY, ACT = "<pad>", "<end>", "<ask>", "<say>", "<act>"
SHOWN = 80  # characters of a text that is refused
SPECIAL = (PAD, END, ASK, SAY, ACT)  # padding; end of turn; cues: a question, an answer, the next action


class Words:
    """Text to ids and back. Digits are single tokens, always: sums are learned digit by digit."""

    def __init__(self, tokenizer: Tokenizer):
        self.tokenizer = tokenizer
        self._has: dict[str, bool] = {}  # by character, whether there is a token for it
        missing = [w for w in SPECIAL if tokenizer.token_to_id(w) is None]
        if missing:
            raise BadData(f"the tokenizer lacks {missing}", f"the special words {SPECIAL}", "add_words them first")
        self.pad, self.end, self.ask, self.say, self.act = (tokenizer.token_to_id(w) for w in SPECIAL)

    @staticmethod
    def train(texts: Iterable[str], size: int, extra: Sequence[str] = ()) -> Words:
        """Learn a vocabulary of at most `size` tokens (byte-pair merges inside words, never across or in numbers)."""
        tokenizer = Tokenizer(models.BPE(unk_token=None))
        pieces = Regex(r" ?[A-Za-z]+|[0-9]|[^A-Za-z0-9]")
        tokenizer.pre_tokenizer = pre_tokenizers.Split(pieces, behavior="isolated")
        tokenizer.decoder = decoders.Fuse()
        alphabet = [chr(c) for c in range(32, 127)]
        trainer = trainers.BpeTrainer(
            vocab_size=size, special_tokens=[*SPECIAL, *extra], initial_alphabet=alphabet, show_progress=False
        )
        tokenizer.train_from_iterator(texts, trainer)
        return Words(tokenizer)

    @staticmethod
    def from_bytes(data: bytes) -> Words:
        """From a tokenizer.json's bytes."""
        return Words(Tokenizer.from_str(data.decode()))

    def to_bytes(self) -> bytes:
        """The tokenizer.json."""
        return self.tokenizer.to_str().encode()

    def __len__(self) -> int:
        return self.tokenizer.get_vocab_size(with_added_tokens=True)

    def encode(self, text: str) -> list[int]:
        """Ids; special words written in the text become their one id. Characters without a token are dropped: ask
        `unknown`, or `require` that there are none, before whatever somebody else wrote."""
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text, special words included as written."""
        return self.tokenizer.decode([int(i) for i in ids], skip_special_tokens=False)

    def id(self, word: str) -> int:
        """The id of one word; refuses a word that is not one token."""
        found = self.tokenizer.token_to_id(word)
        if found is None:
            raise BadData(f"'{word}' is not a word of the tokenizer", "a single token", "add it with `add_words`")
        return found

    def pack(self, rows: Sequence[Sequence[int]], supervised: Sequence[Sequence[bool]] | None = None) -> Text:
        """Right-padded rows of ids as a `Text`; `supervised` likewise (default: nothing is)."""
        width = max((len(r) for r in rows), default=0)
        ids = torch.full((len(rows), width), self.pad, dtype=torch.int64)
        valid = torch.zeros(len(rows), width, dtype=torch.bool)
        target = torch.zeros(len(rows), width, dtype=torch.bool)
        for b, row in enumerate(rows):
            ids[b, : len(row)] = torch.tensor(row, dtype=torch.int64)
            valid[b, : len(row)] = True
            if supervised is not None:
                target[b, : len(row)] = torch.tensor(supervised[b], dtype=torch.bool)
        return Text(ids, valid, target)

    def unknown(self, text: str) -> list[str]:
        """The characters of a text that the tokenizer has no token for, each once: it would drop them in silence."""
        for c in set(text) - self._has.keys():
            # A lone surrogate is a byte that was no text; the tokenizer cannot even be asked about it.
            self._has[c] = not "\ud800" <= c <= "\udfff" and bool(self.encode(c))
        return [c for c in dict.fromkeys(text) if not self._has[c]]

    def require(self, texts: Iterable[str], what: str) -> None:
        """BadData, with the first of the texts that has any, for characters that have no token; what: what the texts
        are."""
        for text in texts:
            if lost := self.unknown(text):
                raise BadData(
                    f"the characters {lost} in {what}: {text[:SHOWN]!r}{'...' * (len(text) > SHOWN)}",
                    "characters of the model's tokenizer (nano's has printable ASCII)",
                    "write it without them",
                )

    def questions(self, texts: Sequence[str]) -> Text:
        """The user's turns: cue, text, end; nothing supervised. BadData for characters that have no token."""
        self.require(texts, "a question or an instruction")
        return self.pack([[self.ask, *self.encode(t), self.end] for t in texts])

    def answers(self, texts: Sequence[str], cue: str = SAY, given: Sequence[str] = ()) -> Text:
        """The model's turns: cue (given), text and end (supervised). given: of each text the end that is given too.
        BadData for characters that have no token."""
        self.require(texts, "an answer")
        rows = [[self.id(cue), *self.encode(t), self.end] for t in texts]
        known = [len(self.encode(g)) for g in given or [""] * len(rows)]
        said = zip(rows, known, strict=True)
        return self.pack(rows, [[False] + [True] * (len(r) - 2 - n) + [False] * n + [True] for r, n in said])


def text_of(words: Words, ids: Tensor, valid: Tensor) -> list[str]:
    """What rows of ids say, without the cue and from the end mark on. ids, valid (B,n)."""
    texts = []
    for row, mask in zip(ids.tolist(), valid.tolist()):
        said = [i for i, m in zip(row, mask) if m][1:]
        texts.append(words.decode(said[: said.index(words.end)] if words.end in said else said))
    return texts
