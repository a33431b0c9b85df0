"""Words: a tokenizer in the `tokenizers` format, and how turns are framed in it: by five special words of ours, or as
a chat model of others was taught."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor

from mindhand.core.batch import Text
from mindhand.core.errors import BadData

PAD, END, ASK, SAY, ACT = "<pad>", "<end>", "<ask>", "<say>", "<act>"
SHOWN = 80  # characters of a text that is refused
SPECIAL = (PAD, END, ASK, SAY, ACT)  # padding; end of turn; cues: a question, an answer, the next action
LOST = "\ufffd"  # what bytes that are no text decode to


@dataclass(frozen=True)
class Form:
    """How turns are framed. marks: special words, by all of which a tokenizer is known to be of this form; pad and end
    (of the model's turn): one token each; ask, asked: what stands before and behind a question; say, act: cues of an
    answer and of an action, never empty."""

    of: str
    marks: tuple[str, ...]
    pad: str
    end: str
    ask: str
    asked: str
    say: str
    act: str


CHATML, GEMMA = "<|im_start|>", "<start_of_turn>"
FORMS = (  # the first that fits; PaliGemma's tokenizer is Gemma's and more
    Form("ours", SPECIAL, PAD, END, ASK, END, SAY, ACT),
    Form(
        "Qwen", ("<|endoftext|>", "<|im_end|>", CHATML), "<|endoftext|>", "<|im_end|>", f"{CHATML}user\n",
        "<|im_end|>\n", f"{CHATML}assistant\n", f"{CHATML}action\n",
    ),
    Form("PaliGemma", ("<pad>", "<eos>", "<bos>", "<image>"), "<pad>", "<eos>", "<bos>", "", "\n", "\n"),
    Form(
        "Gemma", ("<pad>", "<end_of_turn>", GEMMA, "<bos>"), "<pad>", "<end_of_turn>", f"<bos>{GEMMA}user\n",
        "<end_of_turn>\n", f"{GEMMA}model\n", f"{GEMMA}action\n",
    ),
)  # fmt: skip


class Words:
    """Text to ids and back. Of what is trained here, digits are single tokens, always: sums are learned digit by digit.

    `marks` are the special words that turns are made of, and `pad` and `end` two ids. BadData for a tokenizer of none
    of the known `FORMS`."""

    def __init__(self, tokenizer: Tokenizer):
        self.tokenizer = tokenizer
        self._has: dict[str, bool] = {}  # by character, whether there is a token for it
        form = next((f for f in FORMS if all(tokenizer.token_to_id(w) is not None for w in f.marks)), None)
        if form is None:
            missing = [w for w in SPECIAL if tokenizer.token_to_id(w) is None]
            known = ", or ".join(f"those of {f.of}: {f.marks}" for f in FORMS)
            raise BadData(f"the tokenizer lacks {missing}", f"special words: {known}", "add them to the tokenizer")
        self.marks, self.pad, self.end = form.marks, tokenizer.token_to_id(form.pad), tokenizer.token_to_id(form.end)
        self._cues = {word: self.encode(text) for word, text in ((ASK, form.ask), (SAY, form.say), (ACT, form.act))}
        self._asked = self.encode(form.asked)

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
        """The id of one word; PAD and END are what the tokenizer has for them. Refuses a word that is not one token."""
        found = {PAD: self.pad, END: self.end}.get(word)
        found = self.tokenizer.token_to_id(word) if found is None else found
        if found is None:
            raise BadData(f"'{word}' is not a word of the tokenizer", "a single token", "add it with `add_words`")
        return found

    def cue(self, word: str) -> list[int]:
        """The ids that begin a turn: of ASK, SAY and ACT one or several, of another word its one."""
        return self._cues[word] if word in self._cues else [self.id(word)]

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
            self._has[c] = not "\ud800" <= c <= "\udfff" and self._writes(c)
        return [c for c in dict.fromkeys(text) if not self._has[c]]

    def _writes(self, c: str) -> bool:
        ids = self.encode(c)
        unk = getattr(self.tokenizer.model, "unk_token", None)
        # Of several bytes some may lack a token: what is left of the character is no text.
        return bool(ids) and (unk is None or self.id(unk) not in ids) and (c == LOST or LOST not in self.decode(ids))

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

    def question(self, text: str) -> list[int]:
        """One turn of the user's: cue, text, end."""
        return [*self.cue(ASK), *self.encode(text), *self._asked]

    def questions(self, texts: Sequence[str]) -> Text:
        """The user's turns (`question`); nothing supervised. BadData for characters that have no token."""
        self.require(texts, "a question or an instruction")
        return self.pack([self.question(t) for t in texts])

    def answers(self, texts: Sequence[str], cue: str = SAY, given: Sequence[str] = ()) -> Text:
        """The model's turns: cue (given), text and end (supervised). given: of each text the end that is given too.
        BadData for characters that have no token."""
        self.require(texts, "an answer")
        begin = self.cue(cue)
        rows, first = [[*begin, *self.encode(t), self.end] for t in texts], [False] * len(begin)
        known = [len(self.encode(g)) for g in given or [""] * len(rows)]
        said = zip(rows, known, strict=True)
        return self.pack(rows, [[*first, *[True] * (len(r) - len(first) - 1 - n), *[False] * n, True] for r, n in said])


def text_of(words: Words, ids: Tensor, valid: Tensor) -> list[str]:
    """What rows of ids say, without the cue and from the end mark on. ids, valid (B,n)."""
    texts, cues = [], [words.cue(w) for w in (ASK, SAY, ACT)]
    for row, mask in zip(ids.tolist(), valid.tolist()):
        said = [i for i, m in zip(row, mask) if m]
        said = said[next((len(c) for c in cues if said[: len(c)] == c), 1) :]
        texts.append(words.decode(said[: said.index(words.end)] if words.end in said else said))
    return texts
