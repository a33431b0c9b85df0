"""Keys: frozen values, independence, and that nothing but the key decides a draw."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mindhand.core.keys import Key, Keys

KEYS = Keys.of([Key("p", "t", 0, 0), Key("p", "t", 1, 0)])


def test_the_stream_never_changes():
    """Published numbers rest on these. A change here needs a new name for every protocol."""
    assert [r.hex() for r in KEYS.rows] == ["cf52cecded25e629dc1058763ba78047", "19b6310d510c399df6aad4d57d5e4449"]
    np.testing.assert_array_equal(
        KEYS.uniform(2),
        [[0.18254644851531476, 0.5933763919263078], [0.7235909160972618, 0.3026997386321273]],
    )
    normal = [[0.4629440903663635, -1.1871297359466553], [0.8933426141738892, -0.020085733383893967]]
    np.testing.assert_allclose(KEYS.normal(2), normal, rtol=1e-6)
    np.testing.assert_array_equal(KEYS.integers(10, 4), [[1, 5, 8, 5], [7, 3, 1, 7]])
    np.testing.assert_array_equal(KEYS.fold("a", 1).uniform(1), [[0.30575214527448513], [0.5575638389024326]])
    np.testing.assert_array_equal(Keys.seeded(2, "x", 3).uniform(1), [[0.1299707484995577], [0.16685010499122377]])
    assert KEYS.repeat(2).uniform(1)[:2, 0].tolist() == [0.3740740818853793, 0.2664543310301539]
    assert KEYS.generators()[0].random() == 0.18254644851531476


def test_a_row_is_the_same_in_any_batch():
    many = Keys.of([Key("p", "t", i, 0) for i in range(7)])
    whole = many.normal(3, 2)
    np.testing.assert_array_equal(many[[5, 1, 5]].normal(3, 2), whole[[5, 1, 5]])
    np.testing.assert_array_equal(many[2:4].normal(3, 2), whole[2:4])
    np.testing.assert_array_equal(many.fold("q", 2)[[3]].uniform(4), many[[3]].fold("q", 2).uniform(4))


def test_a_draw_leaves_its_keys_as_they_were():
    first = KEYS.uniform(5)
    KEYS.normal(100)
    KEYS.generators()[0].random(9)
    np.testing.assert_array_equal(KEYS.uniform(5), first)
    # a longer draw begins with the shorter one
    np.testing.assert_array_equal(KEYS.uniform(50)[:, :5], first)


def test_every_field_of_a_key_counts():
    base = Key("p", "t", 1, 2)
    others = [Key("q", "t", 1, 2), Key("p", "u", 1, 2), Key("p", "t", 2, 2), Key("p", "t", 1, 3), Key("p", "t", 12, 2)]
    assert len(set(Keys.of([base, *others]).rows)) == 6
    assert str(base) == "p/t/1/2"


@given(st.lists(st.one_of(st.text(max_size=4), st.integers(-5, 5)), min_size=1, max_size=3))
def test_words_make_new_keys(words):
    folded = KEYS.fold(*words)
    assert not set(folded.rows) & set(KEYS.rows)
    assert folded.rows == KEYS.fold(words[0]).fold(*words[1:]).rows
    assert folded.rows != KEYS.fold(*words, 0).rows
    assert Keys.seeded(3, *words).rows != Keys.seeded(3, *words, 0).rows


def test_each_row_may_have_a_word_of_its_own():
    assert KEYS.fold_each([4, "x"]).rows == (KEYS.fold(4).rows[0], KEYS.fold("x").rows[1])
    with pytest.raises(ValueError, match="3 words for 2 keys"):
        KEYS.fold_each([1, 2, 3])


def test_a_number_and_its_text_are_two_words():
    assert KEYS.fold(1).rows != KEYS.fold("1").rows
    assert KEYS.fold("a", "b").rows != KEYS.fold("ab").rows
    assert KEYS.fold("a", "b").rows != KEYS.fold("b", "a").rows
    assert KEYS.fold(np.int64(3)).rows == KEYS.fold(3).rows


def test_repeat_is_row_major_like_fork():
    wide = KEYS.repeat(3)
    assert len(wide) == 6
    assert wide.rows[:3] == KEYS[[0]].repeat(3).rows
    assert wide.rows[3:] == KEYS[[1]].repeat(3).rows
    assert wide.rows[:2] == KEYS[[0]].repeat(2).rows  # more samples leave the first ones
    assert len(set(wide.rows)) == 6


def within(x: float, expected: float, deviation: float) -> bool:
    return abs(x - expected) < 4.5 * deviation


def test_uniform_statistics():
    u = Keys.seeded(400, "statistics").uniform(250)
    n = u.size
    assert u.min() >= 0
    assert u.max() < 1
    assert within(u.mean(), 0.5, math.sqrt(1 / 12 / n))
    assert within(u.var(), 1 / 12, math.sqrt(1 / 180 / n))
    counts = np.histogram(u, 100, (0, 1))[0]
    chi = ((counts - n / 100) ** 2 / (n / 100)).sum()
    assert within(chi, 99, math.sqrt(2 * 99))


def test_normal_statistics():
    z = Keys.seeded(400, "statistics").normal(250).astype(np.float64)
    n = z.size
    assert within(z.mean(), 0, 1 / math.sqrt(n))
    assert within((z**2).mean(), 1, math.sqrt(2 / n))
    assert within((z**3).mean(), 0, math.sqrt(15 / n))
    assert within((z**4).mean(), 3, math.sqrt(96 / n))
    assert within((np.abs(z) > 1.959964).mean(), 0.05, math.sqrt(0.05 * 0.95 / n))
    assert KEYS.normal(2).dtype == np.float32


def test_rows_draws_and_folds_are_independent():
    keys = Keys.seeded(300, "independence")
    a, b = keys.normal(300).astype(np.float64), keys.fold("other").normal(300).astype(np.float64)
    n = a.size
    for x, y in ((a, b), (a[1:], a[:-1]), (a[:, 1:], a[:, :-1]), (a, a.T), (np.abs(a), np.abs(b))):
        x, y = x - x.mean(), y - y.mean()
        assert within((x * y).mean() / (x.std() * y.std()), 0, 1 / math.sqrt(n))
    first = keys.fold("query", 0).uniform(1)[:, 0], keys.fold("query", 1).uniform(1)[:, 0]
    assert abs(np.corrcoef(*first)[0, 1]) < 0.25


def test_integers_are_fair():
    x = Keys.seeded(100, "dice").integers(6, 600)
    counts = np.bincount(x.ravel(), minlength=6)
    assert len(counts) == 6
    assert within(((counts - 10_000) ** 2 / 10_000).sum(), 5, math.sqrt(10))
    assert Keys.seeded(3, "one").integers(1, 4).tolist() == [[0] * 4] * 3
    assert x.dtype == np.int64


def test_shapes():
    assert KEYS.uniform().shape == (2,)
    assert KEYS.uniform(0).shape == (2, 0)
    assert KEYS.normal(2, 3, 4).shape == (2, 2, 3, 4)
    assert len(KEYS) == 2
