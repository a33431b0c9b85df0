"""FAST: a chunk of actions as few tokens, by a cosine transform, rounding and byte-pair encoding (2501.09747).

Seam: codec. Neighbouring steps of a chunk are nearly the same, so a token a step says nearly nothing; the transform's
low frequencies say most of it. Before it actions are relative and scaled, here as in the heart (`ChunkCodec`), then
even between two percentiles. Differs from the heart: a chunk is read word by word. The paper: some 30 tokens an arm
and second whatever the control rate; trains where bins fail at 20 to 50 Hz; slower to draw than flow.
Use: VLA(codec=FAST(spec), expert=TokenExpert(TokenConfig(codec.codes, ..., end=codec.end)), ...)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, models, trainers
from torch import Tensor, nn

from mindhand.core.batch import Batch
from mindhand.core.card import Claim, MethodCard
from mindhand.core.errors import BadCheckpoint, BadData
from mindhand.core.parts import Entry, replaces_only
from mindhand.core.seams import Code, Decoded
from mindhand.core.spec import Spec
from mindhand.model import fits
from mindhand.model.bins import BinCodec
from mindhand.model.codec import ChunkCodec
from mindhand.model.token_expert import TokenExpert

LEAST = 1e-3  # half a dimension's range, below which it never moves
ALPHABET = 0xE000  # the private use area: no normaliser or splitter has an opinion on it


@dataclass(frozen=True)
class Config:
    """The paper's values, but for the horizon, which it gives in seconds (1)."""

    horizon: int = 16  # H, the same when it is fitted and when it acts
    scale: float = 10.0  # gamma, by which coefficients are multiplied before they are rounded
    vocabulary: int = 1024  # of the byte-pair encoding; the alphabet counts toward it
    tail: float = 0.01  # share of a number's values beyond -1, and beyond 1
    merges: bool = True  # byte-pair encoding; False: a token an integer, the ablation (True)
    clip: bool = False  # bound actions to [-1, 1] before the transform (papers' code varies; it loses idempotence)


def cosines(n: int) -> np.ndarray:
    """Orthonormal DCT-II as a matrix (frequency, time): C @ x transforms, C.T @ c goes back."""
    k, t = np.meshgrid(np.arange(n), np.arange(n), indexing="ij")
    c = np.sqrt(2 / n) * np.cos(np.pi * (t + 0.5) * k / n)
    c[0] /= np.sqrt(2)
    return c


class FAST(nn.Module):
    """Codec: actions (B,H,A) <-> ids (B,n), rows of different length, each ended by `end` and padded."""

    part_name = "fast"

    def __init__(self, spec: Spec, config: Config = Config()):
        super().__init__()
        self.config, self.plain, self.matrix = config, ChunkCodec(spec), cosines(config.horizon)
        self.low = self.high = np.zeros(0)
        self.bottom = self.top = 0
        self.words: Tokenizer | None = None
        self.outside = 0  # integers that encoding had to clip to the alphabet

    @property
    def end(self) -> int:
        """The id behind a chunk's last."""
        return self.config.vocabulary

    @property
    def codes(self) -> int:
        """How many ids there are."""
        return self.config.vocabulary + 1

    @property
    def provides(self) -> frozenset[str]:
        """So many ids, one of which ends a chunk."""
        return frozenset({fits.ids(self.codes, self.end)})

    @property
    def longest(self) -> int:
        """The most ids of a chunk that spells one: an integer each, and the end."""
        return self.config.horizon * self.plain.size + 1

    # ---- the integers --------------------------------------------------------------------------------

    def _range(self) -> tuple[np.ndarray, np.ndarray]:
        if not self.low.size:
            raise BadCheckpoint("the codec has no statistics", "fit(batches) or a checkpoint's", "fit it first")
        return (self.high + self.low) / 2, (self.high - self.low) / 2

    def normalise(self, x: np.ndarray) -> np.ndarray:
        """The percentiles -> [-1, 1]; a dimension that never moves is 0."""
        middle, half = self._range()
        y = np.where(half > LEAST, (x - middle) / np.where(half > LEAST, half, 1), 0)
        return y.clip(-1, 1) if self.config.clip else y

    def integers(self, x: np.ndarray) -> np.ndarray:
        """Normalised (B,H,A) -> rounded coefficients (B,H,A), lowest frequency first."""
        return np.rint(self.config.scale * np.einsum("kt,bta->bka", self.matrix, x)).astype(np.int64)

    def signal(self, z: np.ndarray) -> np.ndarray:
        """The inverse, without the rounding."""
        return np.einsum("kt,bka->bta", self.matrix, z / self.config.scale)

    def spell(self, z: np.ndarray) -> list[str]:
        """Integers (B,H,A) as characters, row-major: all dimensions of the lowest frequency first."""
        flat = z.reshape(len(z), -1)
        inside = flat.clip(self.bottom, self.top)
        self.outside += int((inside != flat).sum())
        return ["".join(chr(ALPHABET + int(i) - self.bottom) for i in row) for row in inside]

    # ---- the seam ------------------------------------------------------------------------------------

    def fit(self, batches: Iterator[Batch]) -> None:
        """Percentiles over all steps, then the alphabet and the merges over all whole chunks."""
        kept = [b for b in batches if b.actions is not None and b.action_valid is not None]
        whole = [b for b in kept if bool(b.action_valid.all(1).any())]
        if not whole:
            raise BadData("no whole chunk to fit on", "robot samples in the batches", "check the source")
        self.plain.fit(iter(kept))
        coded = [self.plain.encode(b.actions, b.action_valid, b.state) for b in whole]
        chunks = torch.cat([c.values[c.valid.all(1)] for c in coded]).double().numpy()
        tails = (self.config.tail, 1 - self.config.tail)
        self.low, self.high = np.quantile(chunks.reshape(-1, chunks.shape[-1]), tails, axis=0)
        z = self.integers(self.normalise(chunks))
        self.bottom, self.top = int(z.min()), int(z.max())
        size = self.top - self.bottom + 1
        if size >= self.config.vocabulary:
            raise BadData(f"an alphabet of {size}", f"fewer than {self.config.vocabulary}", "lower the scale")
        self.words = Tokenizer(models.BPE())
        alphabet = [chr(ALPHABET + i) for i in range(size)]
        most = self.config.vocabulary if self.config.merges else size
        trainer = trainers.BpeTrainer(vocab_size=most, initial_alphabet=alphabet, show_progress=False, min_frequency=2)
        self.words.train_from_iterator(self.spell(z), trainer)

    def encode(self, actions: Tensor, valid: Tensor, state: Tensor | None) -> Code:
        """Behind an episode's end a chunk holds its last action; a row without any has no token."""
        self._range()
        assert self.words is not None
        on = valid.any(1)
        last = valid.shape[1] - 1 - valid.flip(1).int().argmax(1)
        held = torch.where(valid.unsqueeze(-1), actions, actions[torch.arange(len(actions)), last].unsqueeze(1))
        plain = self.plain.encode(held, on.unsqueeze(1).expand_as(valid), state).values
        rows = on.nonzero()[:, 0].tolist()
        z = self.integers(self.normalise(plain[on].double().cpu().numpy().reshape(-1, *plain.shape[1:])))
        found = [[*e.ids, self.end] for e in self.words.encode_batch(self.spell(z))] if rows else []
        width = max((len(ids) for ids in found), default=0)
        ids = torch.full((len(actions), width), self.end, dtype=torch.int64)
        mask = torch.zeros(len(actions), width, dtype=torch.bool)
        for row, one in zip(rows, found):
            ids[row, : len(one)], mask[row, : len(one)] = torch.tensor(one), True
        return Code(ids.to(actions.device), mask.to(actions.device))

    def decode(self, code: Code, state: Tensor | None) -> Decoded:
        """Ids that spell no chunk, one integer a step and dimension and then the end, hold the measured state and
        count."""
        assert self.words is not None
        c, size = self.config, self.plain.size
        z = np.full((len(code.values), c.horizon * size), np.nan)
        for row, (ids, mask) in enumerate(zip(code.values.tolist(), code.valid.tolist())):
            said = [i for i, m in zip(ids, mask) if m]
            ended = said[-1:] == [self.end]
            pieces = [self.words.id_to_token(i) for i in said[:-1]]
            text = "" if None in pieces or not ended else "".join(pieces)
            if len(text) == z.shape[1]:
                z[row] = [ord(s) - ALPHABET + self.bottom for s in text]
        middle, half = self._range()
        x = self.signal(z.reshape(-1, c.horizon, size)) * half + middle
        values = torch.from_numpy(x).float().to(code.values.device)
        valid = torch.ones(values.shape[:2], dtype=torch.bool, device=values.device)
        return self.plain.restore(Code(values, valid), state)  # bounds would change what it would be coded as again

    def statistics(self) -> dict[str, Any]:
        """What a checkpoint stores."""
        assert self.words is not None
        return {
            "codec": "fast-1", "low": self.low.tolist(), "high": self.high.tolist(), "bottom": self.bottom,
            "top": self.top, "words": self.words.to_str(), "of": self.plain.statistics(),
        }  # fmt: skip

    def load_statistics(self, stored: Mapping[str, Any]) -> None:
        """The inverse; refuses another codec's."""
        if stored.get("codec") != "fast-1":
            raise BadCheckpoint(f"action statistics '{stored.get('codec')}'", "'fast-1'", "load a checkpoint of FAST")
        self.plain.load_statistics(stored["of"])
        self.low, self.high = np.array(stored["low"]), np.array(stored["high"])
        self.bottom, self.top = int(stored["bottom"]), int(stored["top"])
        self.words = Tokenizer.from_str(stored["words"])


PART = Entry("fast", Config, lambda config, *, spec, **_: FAST(spec, config))
CARD = MethodCard(
    name="fast",
    title="FAST",
    arxiv="2501.09747",
    area="act",
    seams=("codec",),
    claim=Claim("a hand of tokens succeeds more often with FAST than with bins, in fewer tokens", "effect"),
    base="tokens",
)


def plug(parts: Mapping[str, Any], spec: Spec, config: Config | None = None) -> dict[str, Any]:
    """Instead of the bins of a hand of tokens, which gets as many words as FAST has."""
    replaces_only(parts, "FAST", codec=BinCodec, expert=TokenExpert)
    hand: TokenExpert = parts["expert"]
    horizon = hand.config.length // spec.action_size
    codec = FAST(spec, config or Config(horizon))
    told = {"codes": codec.codes, "length": codec.longest, "end": codec.end}
    return {**parts, "codec": codec, "expert": TokenExpert(type(hand.config)(**{**vars(hand.config), **told}))}


def probe(on: Any, off: Any) -> bool:
    """Smooth chunks take less than half the tokens, and come back as near as rounding allows."""
    size, horizon = on.spec.action_size, on.codec.config.horizon if on.codec is not off.codec else 0
    if not horizon:
        return False
    t = torch.linspace(0, 1, horizon).view(1, -1, 1)
    low, high = on.codec.plain.low, on.codec.plain.high
    phase = torch.arange(8 * size).view(8, 1, size) * 0.7
    x = (low + high) / 2 + (high - low) / 3 * torch.sin(2 * t + phase)
    state = torch.zeros(8, 1, on.spec.state_size)
    valid = torch.ones(8, horizon, dtype=torch.bool)
    few, many = (int(v.codec.encode(x, valid, state).valid.sum()) for v in (on, off))
    return few < many / 2
