"""FAST (2501.09747): a chunk as few tokens. Quantile norm, cosine transform, rounding, byte-pair encoding.

Seam: Codec. Ids are the codec's own, 0 .. vocabulary - 1; which words of the mind they become is the hand's matter.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, trainers
from torch import Tensor

from mindhand.core.batch import Batch
from mindhand.core.errors import BadCheckpoint, BadData
from mindhand.core.seams import Code, Codec, Decoded

ALPHABET = 0xE000  # the private use area: no normaliser or splitter has an opinion on it


@dataclass(frozen=True)
class FASTConfig:
    """The paper's values."""

    horizon: int
    action: int
    scale: float = 10.0  # gamma
    vocabulary: int = 1024  # the alphabet counts toward it
    clip: bool = False  # bound normalised actions to [-1, 1] before the transform


def cosines(n: int) -> np.ndarray:
    """Orthonormal DCT-II as a matrix (frequency, time): C @ x transforms, C.T @ c goes back."""
    k, t = np.meshgrid(np.arange(n), np.arange(n), indexing="ij")
    c = np.sqrt(2 / n) * np.cos(np.pi * (t + 0.5) * k / n)
    c[0] /= np.sqrt(2)
    return c


class FAST:
    """Codec: actions (B,H,A) <-> ids (B,n), rows of different length, padded."""

    def __init__(self, c: FASTConfig):
        self.config, self.matrix = c, cosines(c.horizon)
        self.low = self.high = np.zeros(0)
        self.bottom = self.top = 0
        self.words: Tokenizer | None = None
        self.outside = 0  # integers that encoding had to clip to the alphabet

    # ---- the integers --------------------------------------------------------------------------------

    def _range(self) -> tuple[np.ndarray, np.ndarray]:
        if not self.low.size:
            raise BadCheckpoint("the codec has no statistics", "fit(batches) or a checkpoint's", "fit it first")
        half = (self.high - self.low) / 2
        return (self.high + self.low) / 2, half

    def normalise(self, x: np.ndarray) -> np.ndarray:
        """1st..99th percentile -> [-1, 1]; a dimension that never moves is 0."""
        middle, half = self._range()
        y = np.where(half > 0, (x - middle) / np.where(half > 0, half, 1), 0)
        return y.clip(-1, 1) if self.config.clip else y

    def integers(self, x: np.ndarray) -> np.ndarray:
        """Normalised (B,H,A) -> rounded coefficients (B,H,A), lowest frequency first."""
        return np.rint(self.config.scale * np.einsum("kt,bta->bka", self.matrix, x)).astype(np.int64)

    def signal(self, z: np.ndarray) -> np.ndarray:
        """The inverse, without the rounding."""
        return np.einsum("kt,bka->bta", self.matrix, z / self.config.scale)

    def _spell(self, z: np.ndarray) -> list[str]:
        flat = z.reshape(len(z), -1)  # row-major on (H,A): all dimensions of the lowest frequency first
        inside = flat.clip(self.bottom, self.top)
        self.outside += int((inside != flat).sum())
        return ["".join(chr(ALPHABET + int(i) - self.bottom) for i in row) for row in inside]

    # ---- the seam ------------------------------------------------------------------------------------

    def fit(self, batches: Iterator[Batch]) -> None:
        """Quantiles over all steps, then the alphabet and the merges over all whole chunks."""
        found = [b.actions[b.action_valid.all(1)] for b in batches if b.actions is not None]
        chunks = torch.cat(found).double().numpy() if found else np.zeros((0, 0, 0))
        if not len(chunks):
            raise BadData("no whole chunk to fit on", "robot samples in the batches", "check the source")
        self.low, self.high = np.quantile(chunks.reshape(-1, chunks.shape[-1]), (0.01, 0.99), axis=0)
        z = self.integers(self.normalise(chunks))
        self.bottom, self.top = int(z.min()), int(z.max())
        size = self.top - self.bottom + 1
        if size >= self.config.vocabulary:
            raise BadData(f"an alphabet of {size}", f"fewer than {self.config.vocabulary}", "lower the scale")
        tokenizer = Tokenizer(models.BPE())
        alphabet = [chr(ALPHABET + i) for i in range(size)]
        tokenizer.train_from_iterator(
            self._spell(z),
            trainers.BpeTrainer(
                vocab_size=self.config.vocabulary, initial_alphabet=alphabet, show_progress=False, min_frequency=2
            ),
        )
        self.words = tokenizer

    def encode(self, actions: Tensor, valid: Tensor, state: Tensor | None) -> Code:
        """Behind an episode's end a chunk holds its last action; a row without any has no token."""
        assert self.words is not None
        rows = np.flatnonzero(valid.any(1).numpy())
        last = valid.shape[1] - 1 - valid.flip(1).int().argmax(1)
        held = torch.where(valid.unsqueeze(-1), actions, actions[torch.arange(len(actions)), last].unsqueeze(1))
        z = self.integers(self.normalise(held[rows].double().numpy()))
        found = [e.ids for e in self.words.encode_batch(self._spell(z))]
        width = max((len(ids) for ids in found), default=0)
        ids, mask = torch.zeros(len(actions), width).long(), torch.zeros(len(actions), width).bool()
        for row, one in zip(rows, found):
            ids[row, : len(one)], mask[row, : len(one)] = torch.tensor(one), True
        return Code(ids, mask)

    def decode(self, code: Code, state: Tensor | None) -> Decoded:
        """Ids that spell no chunk, one integer a step and dimension, stand for nothing and are counted."""
        assert self.words is not None
        c, count = self.config, len(code.values)
        z, bad = np.zeros((count, c.horizon * c.action)), np.zeros(count, np.int64)
        for row, (ids, mask) in enumerate(zip(code.values.tolist(), code.valid.tolist())):
            pieces = [self.words.id_to_token(i) for i, m in zip(ids, mask) if m]
            said = "" if None in pieces else "".join(pieces)
            if len(said) == z.shape[1]:
                z[row] = [ord(s) - ALPHABET + self.bottom for s in said]
            else:
                bad[row] = 1
        middle, half = self._range()
        actions = self.signal(z.reshape(count, c.horizon, c.action)) * half + middle
        return Decoded(actions.astype(np.float32), np.repeat(bad == 0, c.horizon).reshape(count, -1), bad)

    def statistics(self) -> dict[str, Any]:
        """What a checkpoint stores."""
        assert self.words is not None
        return {
            "low": self.low.tolist(), "high": self.high.tolist(), "bottom": self.bottom, "top": self.top,
            "words": self.words.to_str(),
        }  # fmt: skip

    def load_statistics(self, stored: dict[str, Any]) -> None:
        """The inverse."""
        self.low, self.high = np.array(stored["low"]), np.array(stored["high"])
        self.bottom, self.top = stored["bottom"], stored["top"]
        self.words = Tokenizer.from_str(stored["words"])


H, A = 20, 3
FULL = torch.ones(1, H, dtype=torch.bool)


def chunks(count: int, seed: int = 0, horizon: int = H, rough: float = 0.0) -> Tensor:
    """Smooth chunks: sums of three sines a dimension, of unlike ranges, the last dimension a binary gripper."""
    rng = np.random.default_rng(seed)
    t = np.arange(horizon)[None, :, None] / H
    wave = sum(rng.normal(size=(count, 1, A)) / (k + 1) * np.sin(2 * k * t + 6 * rng.random((count, 1, A)))
               for k in range(3))  # fmt: skip
    wave = (wave + rough * rng.normal(size=wave.shape)) * np.array([0.02, 3.0, 1.0]) + np.array([0.4, 0.0, 0.0])
    wave[..., 2] = wave[..., 2] > 0
    return torch.from_numpy(wave.astype(np.float32))


def batches(actions: Tensor, valid: Tensor | None = None) -> Iterator[Batch]:
    """As a Source yields them."""
    for part in range(0, len(actions), 50):
        x = actions[part : part + 50]
        v = torch.ones(x.shape[:2], dtype=torch.bool) if valid is None else valid[part : part + 50]
        yield Batch((), {}, {}, {}, torch.ones(len(x), dtype=torch.int64), actions=x, action_valid=v)


def fitted(actions: Tensor | None = None, **changes: Any) -> FAST:
    codec = FAST(FASTConfig(H, A, **changes))
    codec.fit(batches(chunks(400) if actions is None else actions))
    return codec


def whole(x: Tensor) -> Tensor:
    return FULL.expand(len(x), -1)


def test_is_a_codec():
    assert isinstance(FAST(FASTConfig(H, A)), Codec)


def test_the_transform_is_orthonormal_and_the_cosine_one():
    for n in (1, 2, 7, H):
        c = cosines(n)
        assert np.abs(c @ c.T - np.eye(n)).max() < 1e-12
    x = np.random.default_rng(0).normal(size=H)  # against a Fourier transform of the mirrored signal
    k = np.arange(H)
    mirrored = np.fft.fft(np.concatenate([x, x[::-1]]))[:H]
    want = (mirrored * np.exp(-1j * np.pi * k / (2 * H))).real / 2 * np.sqrt(2 / H)
    want[0] /= np.sqrt(2)
    assert np.abs(cosines(H) @ x - want).max() < 1e-12


def test_1_reconstruction_falls_with_the_scale():
    """(1) RMS <= 0.5 / gamma in normalised units, falling as gamma rises."""
    seen, fresh = [], chunks(200, seed=1)
    for scale in (5.0, 10.0, 20.0, 40.0):
        codec = fitted(scale=scale)
        codec.bottom, codec.top = codec.bottom - 99, codec.top + 99  # the bound is the rounding's, not the alphabet's
        z = codec.integers(codec.normalise(fresh.double().numpy()))
        error = codec.signal(z) - codec.normalise(fresh.double().numpy())
        seen.append(float(np.sqrt((error**2).mean())))
        assert seen[-1] <= 0.5 / scale
        assert np.sqrt((error**2).mean((1, 2))).max() <= 0.5 / scale  # of every chunk
    assert all(b < 0.6 * a for a, b in pairwise(seen))
    through = fitted(scale=10.0)
    back = through.decode(through.encode(fresh, whole(fresh), None), None)
    rms = float(np.sqrt(np.mean((through.normalise(back.actions) - through.normalise(fresh.numpy())) ** 2)))
    assert rms <= 0.05 and not back.errors.any()


def test_2_byte_pairs_lose_nothing():
    """(2) Ten thousand random sequences inside the alphabet, which the merges were not learned on."""
    codec = fitted()
    rng = np.random.default_rng(2)
    z = rng.integers(codec.bottom, codec.top + 1, (10_000, H, A))
    z[0], z[1] = codec.bottom, codec.top
    found = codec.words.encode_batch(codec._spell(z))
    said = ["".join(codec.words.id_to_token(i) for i in e.ids) for e in found]
    back = np.array([[ord(c) - ALPHABET + codec.bottom for c in s] for s in said]).reshape(z.shape)
    assert (back == z).all() and codec.outside == 0
    assert max(i for e in found for i in e.ids) < codec.config.vocabulary
    x = chunks(100, seed=3)
    assert int(codec.encode(x, whole(x), None).valid.sum()) < 0.5 * x.numel()  # and on chunks they save tokens


@given(st.integers(1, H), st.integers(0, 99))
def test_3_lowest_frequencies_come_first(first, seed):
    """(3) Zeroing all integers of frequencies >= f, a suffix of the sequence, is the truncated transform."""
    codec = FAST(FASTConfig(H, A))
    x = chunks(3, seed=seed).double().numpy()
    z = codec.integers(x).reshape(3, -1)
    z[:, first * A :] = 0
    wave = np.einsum("kt,bta->bka", codec.matrix, x)
    wave[:, first:] = 0
    want = np.einsum("kt,bka->bta", codec.matrix, np.rint(10 * wave) / 10)
    assert np.abs(codec.signal(z.reshape(3, H, A)) - want).max() < 1e-12


@given(st.integers(0, 10_000), st.floats(0, 0.5))
def test_4_encoding_what_was_decoded_changes_nothing(seed, rough):
    """(4) encode(decode(encode(x))) == encode(x), also for chunks that were never seen and are not smooth."""
    codec = CODEC
    x = chunks(8, seed=seed, rough=rough) * 1.2
    once = codec.encode(x, whole(x), None)
    twice = codec.encode(torch.from_numpy(codec.decode(once, None).actions), whole(x), None)
    assert torch.equal(once.values, twice.values) and torch.equal(once.valid, twice.valid)


CODEC = fitted()


@pytest.mark.parametrize("clip", [False, True])
def test_4_why_nothing_may_be_clipped_before_the_transform(clip):
    """A reconstruction rings beyond [-1, 1]. Bounding it again gives other coefficients, so that idempotence needs
    unbounded values: the alphabet bounds the integers, and nothing else may bound the signal."""
    codec = fitted(clip=clip)
    x = chunks(300, seed=9)
    once = codec.encode(x, whole(x), None)
    back = codec.decode(once, None)
    assert np.abs((back.actions - (codec.low + codec.high) / 2) / ((codec.high - codec.low) / 2)).max() > 1.05
    twice = codec.encode(torch.from_numpy(back.actions), whole(x), None)
    same = once.values.shape == twice.values.shape and torch.equal(once.values, twice.values)
    assert same != clip


def test_4_holds_for_a_dimension_that_never_moves():
    """Divided by a tiny range, float32 rounding of the constant would become whole integers."""
    x = chunks(100)
    x[..., 0] = 0.3
    codec = fitted(x)
    once = codec.encode(x, whole(x), None)
    back = codec.decode(once, None)
    assert np.allclose(back.actions[..., 0], 0.3)
    assert torch.equal(once.values, codec.encode(torch.from_numpy(back.actions), whole(x), None).values)


def test_ids_that_spell_no_chunk_are_counted():
    """Too short, too long, unknown, empty: none passes for a chunk; neighbours are untouched."""
    codec = fitted()
    x = chunks(5, seed=4)
    code = codec.encode(x, whole(x), None)
    ids, valid = code.values.clone(), code.valid.clone()
    valid[1, int(valid[1].sum()) - 1] = False
    ids = torch.cat([ids, ids[:, :1]], 1)
    valid = torch.cat([valid, torch.zeros(5, 1, dtype=torch.bool)], 1)
    valid[2, -1] = True
    ids[3, 0] = codec.config.vocabulary + 5
    valid[4] = False
    back = codec.decode(Code(ids, valid), None)
    assert back.errors.tolist() == [0, 1, 1, 1, 1]
    assert back.valid.all(1).tolist() == [True, False, False, False, False] and np.isfinite(back.actions).all()
    assert np.array_equal(back.actions[0], codec.decode(code, None).actions[0])


def test_integers_outside_the_alphabet_are_counted():
    codec = fitted()
    wild = chunks(2) * 50
    before = codec.outside
    back = codec.decode(codec.encode(wild, whole(wild), None), None)
    assert codec.outside > before and not back.errors.any() and np.isfinite(back.actions).all()


def test_padding_and_rows_without_actions():
    """What lies behind an episode's end changes no token; an image-text row has none."""
    codec = fitted()
    x = chunks(3, seed=5)
    valid = whole(x).clone()
    valid[1, 12:] = False
    valid[2] = False
    junk = x.clone()
    junk[1, 12:], junk[2] = 1e6, -1e6
    a, b = codec.encode(x, valid, None), codec.encode(junk, valid, None)
    assert torch.equal(a.values, b.values) and torch.equal(a.valid, b.valid) and not a.valid[2].any()
    held = codec.decode(a, None).actions[1, 12:]
    scale = (codec.high - codec.low) / 2
    assert (np.abs(held - x[1, 11].numpy()) / scale).max() < 0.35  # rings, but holds


def test_statistics_make_another_codec_the_same():
    codec, other = fitted(), FAST(FASTConfig(H, A))
    with pytest.raises(BadCheckpoint, match="no statistics"):
        other.normalise(chunks(1).numpy())
    other.load_statistics(codec.statistics())
    x = chunks(20, seed=6)
    assert torch.equal(codec.encode(x, whole(x), None).values, other.encode(x, whole(x), None).values)


def test_refusals():
    with pytest.raises(BadData, match="whole chunk"):
        FAST(FASTConfig(H, A)).fit(batches(chunks(4), torch.zeros(4, H, dtype=torch.bool)))
    with pytest.raises(BadData, match="alphabet"):
        fitted(scale=1000.0)
