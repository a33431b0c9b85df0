"""TFRecords and their messages, written here byte by byte: checksums, every form of a value, and what is no message."""

from __future__ import annotations

import struct
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mindhand.core.errors import BadData
from mindhand.data.tfrecord import BLOCK, RUN, TABLE, crc32c, masked, parse_example, read_record, record_length


def varint(n: int) -> bytes:
    n &= (1 << 64) - 1
    out = bytearray()
    while n > 0x7F:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    return bytes([*out, n])


def field(number: int, data: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(data)) + data


def feature(values, packed: bool = True) -> bytes:
    """A tf.train.Feature of bytes, floats or integers; packed as TensorFlow writes it, or one by one."""
    if isinstance(values, np.ndarray) and values.dtype.kind == "f":
        raw = [struct.pack("<f", v) for v in values.tolist()]
        return field(2, field(1, b"".join(raw)) if packed else b"".join(varint(1 << 3 | 5) + x for x in raw))
    if isinstance(values, np.ndarray):
        raw = [varint(v) for v in values.tolist()]
        return field(3, field(1, b"".join(raw)) if packed else b"".join(varint(1 << 3) + x for x in raw))
    return field(1, b"".join(field(1, x) for x in values))


def entry(name: str, value: bytes) -> bytes:
    return field(1, field(1, name.encode()) + field(2, value))


def example(features: dict, packed: bool = True) -> bytes:
    return field(1, b"".join(entry(name, feature(v, packed)) for name, v in features.items()))


def sequence(context: dict, lists: dict) -> bytes:
    """A tf.train.SequenceExample: lists {name: values of each step}."""
    steps = {n: b"".join(field(1, feature(v)) for v in values) for n, values in lists.items()}
    return example(context) + field(2, b"".join(entry(n, data) for n, data in steps.items()))


def record(data: bytes) -> bytes:
    head = struct.pack("<Q", len(data))
    return head + struct.pack("<I", masked(head)) + data + struct.pack("<I", masked(data))


def slow(data: bytes) -> int:
    """The definition, a byte at a time."""
    table, crc = TABLE.tolist(), 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 255] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def test_the_checksum_is_castagnolis():
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720, B.4
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(b"") == 0


@pytest.mark.parametrize("size", [1, 3, 2 * RUN - 1, 2 * RUN, 2 * RUN + 1, 5 * RUN + 7, 64 * RUN])
def test_lanes_give_what_bytes_give(size):
    data = np.random.Generator(np.random.Philox(size)).bytes(size)
    assert crc32c(data) == slow(data)


def test_blocks_go_on_where_the_last_ended():
    data = bytes(range(256)) * (BLOCK // 256) + b"the end"
    assert crc32c(data) == slow(data)


NAMES = st.text("ab/é", max_size=5)
VALUES = st.one_of(
    st.lists(st.binary(max_size=9), max_size=5),
    st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=6).map(lambda x: np.array(x, np.float32)),
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=6).map(lambda x: np.array(x, np.int64)),
)


def same(found, want) -> bool:
    if isinstance(want, np.ndarray):
        return found.dtype == want.dtype and found.tobytes() == want.tobytes()
    return [bytes(x) for x in found] == want


@settings(max_examples=30, deadline=None)
@given(st.dictionaries(NAMES, VALUES, max_size=4), st.booleans())
def test_round_trip(features, packed):
    found = parse_example(example(features, packed), "it")
    assert set(found) == set(features)
    assert all(same(found[n], v) for n, v in features.items())
    some = set(list(features)[:2])
    assert set(parse_example(example(features), "it", some)) == some


@settings(max_examples=30, deadline=None)
@given(st.dictionaries(NAMES, VALUES, min_size=1, max_size=2), st.data())
def test_a_message_that_is_not_whole_is_refused_or_shorter(features, data):
    """Never another error, and never other values."""
    whole = example(features)
    damaged = whole[: data.draw(st.integers(1, len(whole) - 1))]
    with pytest.raises(BadData, match="Example"):
        parse_example(damaged, "it")


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=60))
def test_noise_is_read_or_refused(noise):
    with suppress(BadData):
        parse_example(noise, "it")


def test_lists_of_a_sequence_are_joined():
    data = sequence(
        {"name": [b"x"]},
        {"a": [np.array([1, 2], np.float32), np.array([3, 4], np.float32)], "t": [[b"one"], [b"two"]], "none": []},
    )
    found = parse_example(data, "it")
    assert found["a"].tolist() == [1, 2, 3, 4]
    assert [bytes(x) for x in found["t"]] == [b"one", b"two"]
    assert list(found["none"]) == [] and bytes(found["name"][0]) == b"x"
    mixed = sequence({}, {"a": [np.array([1], np.float32), [b"two"]]})
    with pytest.raises(BadData, match="bytes and of numbers"):
        parse_example(mixed, "it")


def test_records_one_after_the_other(tmp_path):
    parts = [b"first", b"", bytes(1000)]
    path = tmp_path / "x.tfrecord"
    path.write_bytes(b"".join(map(record, parts)))
    offset = 0
    for part in parts:
        assert record_length(path, offset) == len(part)
        assert read_record(path, offset) == part
        offset += len(part) + 16
    assert offset == path.stat().st_size


def flipped(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 4
    path.write_bytes(data)


DAMAGE = {
    "length": (lambda p: flipped(p, 2), "length of the record at byte 0 has a wrong checksum"),
    "sum of the length": (lambda p: flipped(p, 9), "length of the record at byte 0 has a wrong checksum"),
    "data": (lambda p: flipped(p, 14), "record at byte 0 has a wrong checksum"),
    "sum of the data": (lambda p: flipped(p, -1), "record at byte 0 has a wrong checksum"),
    "head cut": (lambda p: p.write_bytes(p.read_bytes()[:7]), "ends inside the record at byte 0"),
    "data cut": (lambda p: p.write_bytes(p.read_bytes()[:-9]), "ends inside the record at byte 0"),
    "compressed": (lambda p: p.write_bytes(b"\x1f\x8b" + p.read_bytes()), "is compressed"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_records_are_refused(tmp_path, name):
    damage, message = DAMAGE[name]
    path = tmp_path / "x.tfrecord"
    path.write_bytes(record(b"some bytes of a record"))
    damage(path)
    with pytest.raises(BadData, match=message):
        read_record(path, 0)
