"""FAST's unit checks, numbered as in its specification, and what a codec owes its seam."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mindhand.core.batch import Batch
from mindhand.core.errors import BadCheckpoint, BadData
from mindhand.core.seams import Code, Codec
from mindhand.methods.act.fast import ALPHABET, FAST, Config, cosines

from ..seams.build import spec

STILL = torch.zeros(1, 1, 5)  # a state, from which joints are counted

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
        yield Batch((), {}, {}, {}, torch.ones(len(x), dtype=torch.int64), state(x), x, v)


def fitted(actions: Tensor | None = None, **changes: Any) -> FAST:
    codec = FAST(spec(), Config(H, **changes))
    codec.fit(batches(chunks(400) if actions is None else actions))
    return codec


def whole(x: Tensor) -> Tensor:
    return FULL.expand(len(x), -1)


def state(x: Tensor) -> Tensor:
    return STILL.expand(len(x), -1, -1)


def coded(codec: FAST, x: Tensor | np.ndarray) -> np.ndarray:
    """As FAST has them, before it is even between percentiles."""
    x = torch.as_tensor(x)
    return codec.plain.encode(x, whole(x), state(x)).values.double().numpy()


def test_is_a_codec():
    assert isinstance(FAST(spec(), Config(H)), Codec)


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
        z = codec.integers(codec.normalise(coded(codec, fresh)))
        error = codec.signal(z) - codec.normalise(coded(codec, fresh))
        seen.append(float(np.sqrt((error**2).mean())))
        assert seen[-1] <= 0.5 / scale
        assert np.sqrt((error**2).mean((1, 2))).max() <= 0.5 / scale  # of every chunk
    assert all(b < 0.6 * a for a, b in pairwise(seen))
    through = fitted(scale=10.0)
    back = through.decode(through.encode(fresh, whole(fresh), state(fresh)), state(fresh))
    rms = float(
        np.sqrt(
            np.mean((through.normalise(coded(through, back.actions)) - through.normalise(coded(through, fresh))) ** 2)
        )
    )
    assert rms <= 0.05 and not back.errors.any()


def test_2_byte_pairs_lose_nothing():
    """(2) Byte pairs lose nothing of ten thousand random sequences in the alphabet, which no merge was learned on."""
    codec = fitted()
    rng = np.random.default_rng(2)
    z = rng.integers(codec.bottom, codec.top + 1, (10_000, H, A))
    z[0], z[1] = codec.bottom, codec.top
    found = codec.words.encode_batch(codec.spell(z))
    said = ["".join(codec.words.id_to_token(i) for i in e.ids) for e in found]
    back = np.array([[ord(c) - ALPHABET + codec.bottom for c in s] for s in said]).reshape(z.shape)
    assert (back == z).all() and codec.outside == 0
    assert max(i for e in found for i in e.ids) < codec.config.vocabulary
    x = chunks(100, seed=3)
    assert int(codec.encode(x, whole(x), state(x)).valid.sum()) < 0.5 * x.numel()  # and on chunks they save tokens


@given(st.integers(1, H), st.integers(0, 99))
def test_3_lowest_frequencies_come_first(first, seed):
    """(3) Zeroing all integers of frequencies >= f, a suffix of the sequence, is the truncated transform."""
    codec = FAST(spec(), Config(H))
    x = chunks(3, seed=seed).double().numpy()
    z = codec.integers(x).reshape(3, -1)
    z[:, first * A :] = 0
    wave = np.einsum("kt,bta->bka", codec.matrix, x)
    wave[:, first:] = 0
    want = np.einsum("kt,bka->bta", codec.matrix, np.rint(10 * wave) / 10)
    assert np.abs(codec.signal(z.reshape(3, H, A)) - want).max() < 1e-12


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.floats(0, 0.5))
def test_4_encoding_what_was_decoded_changes_nothing(seed, rough):
    """(4) encode(decode(encode(x))) == encode(x), also for chunks that were never seen and are not smooth."""
    codec = CODEC
    x = chunks(8, seed=seed, rough=rough) * 1.2
    once = codec.encode(x, whole(x), state(x))
    twice = codec.encode(torch.from_numpy(codec.decode(once, state(x)).actions), whole(x), state(x))
    assert torch.equal(once.values, twice.values) and torch.equal(once.valid, twice.valid)


CODEC = fitted()


@pytest.mark.parametrize("clip", [False, True])
def test_4_why_nothing_may_be_clipped_before_the_transform(clip):
    """(4) A reconstruction rings beyond [-1, 1]. Bounding it again gives other coefficients, so that idempotence needs
    unbounded values: the alphabet bounds the integers, and nothing else may bound the signal."""
    codec = fitted(clip=clip)
    x = chunks(300, seed=9)
    once = codec.encode(x, whole(x), state(x))
    back = codec.decode(once, state(x))
    assert (
        np.abs((coded(codec, back.actions) - (codec.low + codec.high) / 2) / ((codec.high - codec.low) / 2)).max()
        > 1.05
    )
    twice = codec.encode(torch.from_numpy(back.actions), whole(x), state(torch.from_numpy(back.actions)))
    same = once.values.shape == twice.values.shape and torch.equal(once.values, twice.values)
    assert same != clip


def test_4_holds_for_a_dimension_that_never_moves():
    """(4) Also for a dimension that never moves: divided by a tiny range, float32 rounding would become integers."""
    x = chunks(100)
    x[..., 0] = 0.3
    codec = fitted(x)
    once = codec.encode(x, whole(x), state(x))
    back = codec.decode(once, state(x))
    assert np.allclose(back.actions[..., 0], 0.3)
    assert torch.equal(
        once.values,
        codec.encode(torch.from_numpy(back.actions), whole(x), state(torch.from_numpy(back.actions))).values,
    )


def test_ids_that_spell_no_chunk_are_counted():
    """Too short, too long, unknown, empty: none passes for a chunk; neighbours are untouched."""
    codec = fitted()
    x = chunks(5, seed=4)
    code = codec.encode(x, whole(x), state(x))
    ids, valid = code.values.clone(), code.valid.clone()
    valid[1, int(valid[1].sum()) - 1] = False
    ids = torch.cat([ids, ids[:, :1]], 1)
    valid = torch.cat([valid, torch.zeros(5, 1, dtype=torch.bool)], 1)
    valid[2, -1] = True
    ids[3, 0] = codec.config.vocabulary + 5
    valid[4] = False
    back = codec.decode(Code(ids, valid), state(x))
    assert back.errors.tolist() == [0, 1, 1, 1, 1]
    assert np.isfinite(back.actions).all() and not back.actions[1:, :, :2].any()  # joints hold where they are, at 0
    assert np.array_equal(back.actions[0], codec.decode(code, state(x)).actions[0])


def test_integers_outside_the_alphabet_are_counted():
    codec = fitted()
    wild = chunks(2) * 50
    before = codec.outside
    back = codec.decode(codec.encode(wild, whole(wild), state(wild)), state(wild))
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
    a, b = codec.encode(x, valid, state(x)), codec.encode(junk, valid, state(junk))
    assert torch.equal(a.values, b.values) and torch.equal(a.valid, b.valid) and not a.valid[2].any()
    held = codec.decode(a, state(x)).actions[1, 12:]
    assert (np.abs(held - x[1, 11].numpy()) / (x.amax((0, 1)) - x.amin((0, 1))).numpy()).max() < 0.2  # rings, but holds


def test_statistics_make_another_codec_the_same():
    codec, other = fitted(), FAST(spec(), Config(H))
    with pytest.raises(BadCheckpoint, match="no statistics"):
        other.normalise(chunks(1).numpy())
    other.load_statistics(codec.statistics())
    x = chunks(20, seed=6)
    assert torch.equal(codec.encode(x, whole(x), state(x)).values, other.encode(x, whole(x), state(x)).values)


def test_refusals():
    with pytest.raises(BadData, match="whole chunk"):
        FAST(spec(), Config(H)).fit(batches(chunks(4), torch.zeros(4, H, dtype=torch.bool)))
    with pytest.raises(BadData, match="alphabet"):
        fitted(scale=1000.0)


def test_without_merges_each_integer_is_a_token():
    """The ablation: as many ids as integers, all of the alphabet, and the same chunk back."""
    x = chunks(200)
    plain, merged = (FAST(spec(), Config(H, merges=on)) for on in (False, True))
    for codec in (plain, merged):
        codec.fit(batches(x))
    valid = torch.ones(len(x), H, dtype=torch.bool)
    one, few = (codec.encode(x, valid, state(x)) for codec in (plain, merged))
    assert bool((one.valid.sum(1) == H * A + 1).all()) and few.valid.sum() < one.valid.sum() / 2
    assert int(one.values[one.valid & (one.values != plain.end)].max()) <= plain.top - plain.bottom
    assert np.array_equal(plain.decode(one, state(x)).actions, merged.decode(few, state(x)).actions)
