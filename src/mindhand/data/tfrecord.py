"""TFRecord files and the tf.train.Example messages in them, without TensorFlow.

A record is its length (uint64), the masked CRC-32C of that, its bytes, and the masked CRC-32C of those, all little
endian; both sums are checked. A message is protocol buffers' wire format, of which these messages use four kinds.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np

from mindhand.core.errors import BadData

HEAD, TAIL = 12, 4  # bytes before and after a record's data
RUN = 256  # bytes that a lane sums one after the other
BLOCK = 1 << 18  # bytes summed at once
REPAIR = "the file is damaged or truncated: copy it again"

Values = list[memoryview] | np.ndarray  # of bytes, or float32 or int64 (n,)


def _table() -> np.ndarray:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, np.uint32(0x82F63B78), np.uint32(0)) ^ (table >> 1)
    return table


TABLE = _table()
BITS = np.uint32(1) << np.arange(32, dtype=np.uint32)


def _apply(images: np.ndarray, x: np.ndarray) -> np.ndarray:
    """A linear map over bits, given by the images of the 32 bits, of x uint32 (n,)."""
    out = np.zeros_like(x)
    for bit, image in enumerate(images):
        out ^= np.where(x >> np.uint32(bit) & 1, image, np.uint32(0))
    return out


@lru_cache(maxsize=32)
def _zeros(level: int) -> np.ndarray:
    """What RUN * 2^level bytes of zero behind a sum do to each of its bits."""
    if level:
        half = _zeros(level - 1)
        return _apply(half, half)
    images = BITS.copy()
    for _ in range(RUN):
        images = TABLE[images & 0xFF] ^ (images >> 8)
    return images


def _sum(start: int, data: np.ndarray) -> int:
    """The register after uint8 (n,), at most BLOCK of them. A sum is linear, so many runs are summed side by side and
    then put together by pairs; zeros before a message change nothing."""
    if len(data) < 2 * RUN:
        for byte in data.tolist():
            start = int(TABLE[(start ^ byte) & 0xFF]) ^ (start >> 8)
        return start
    lanes = -(-len(data) // RUN)
    padded = np.zeros(lanes * RUN, np.uint8)
    padded[-len(data) :] = data
    begin = len(padded) - len(data)
    padded[begin : begin + 4] ^= np.frombuffer(struct.pack("<I", start), np.uint8)
    sums = np.zeros(lanes, np.uint32)
    for column in np.ascontiguousarray(padded.reshape(lanes, RUN).T):
        sums = TABLE[(sums ^ column) & 0xFF] ^ (sums >> 8)
    level = 0
    while len(sums) > 1:
        if len(sums) % 2:
            sums = np.concatenate([np.zeros(1, np.uint32), sums])
        sums = _apply(_zeros(level), sums[0::2]) ^ sums[1::2]
        level += 1
    return int(sums[0])


def crc32c(data: bytes | memoryview) -> int:
    """The CRC-32C (Castagnoli) of bytes."""
    array, register = np.frombuffer(data, np.uint8), 0xFFFFFFFF
    for begin in range(0, len(array), BLOCK):
        register = _sum(register, array[begin : begin + BLOCK])
    return register ^ 0xFFFFFFFF


def masked(data: bytes | memoryview) -> int:
    """The CRC-32C as TFRecord stores it."""
    crc = crc32c(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def record_length(path: Path, offset: int) -> int:
    """How many bytes the record at `offset` holds; BadData where the file ends before it does."""
    with open(path, "rb") as file:
        file.seek(offset)
        head = file.read(HEAD)
        size = file.seek(0, 2)
    if head[:2] == b"\x1f\x8b" and offset == 0:
        raise BadData(f"{path} is compressed", "a TFRecord as TFDS writes it", "unpack it: gunzip")
    if len(head) < HEAD:
        raise BadData(f"{path} ends inside the record at byte {offset}", "whole records", REPAIR)
    if struct.unpack("<I", head[8:])[0] != masked(head[:8]):
        raise BadData(f"{path}: the length of the record at byte {offset} has a wrong checksum", "a TFRecord", REPAIR)
    length = struct.unpack("<Q", head[:8])[0]
    if offset + HEAD + length + TAIL > size:
        raise BadData(
            f"{path} ends inside the record at byte {offset}", f"{length} bytes of it, the file has {size}", REPAIR
        )
    return length


def read_record(path: Path, offset: int) -> bytes:
    """The data of the record at `offset`; BadData where its checksum is wrong."""
    length = record_length(path, offset)
    with open(path, "rb") as file:
        file.seek(offset + HEAD)
        data, crc = file.read(length), file.read(TAIL)
    if len(crc) < TAIL or struct.unpack("<I", crc)[0] != masked(data):
        raise BadData(
            f"{path}: the record at byte {offset} has a wrong checksum", "the bytes that were written", REPAIR
        )
    return data


class _Damaged(Exception):
    """A message that ends early, or is none."""


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """A number, and where the next byte is."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise _Damaged("it ends inside a number")
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
    raise _Damaged("a number of more than ten bytes")


def _fields(data: memoryview) -> Iterator[tuple[int, int, memoryview]]:
    """(number, wire type, bytes) of each field of a message."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        wire, begin = tag & 7, at
        if wire == 0:
            _, end = _varint(data, at)
        elif wire == 2:
            size, begin = _varint(data, at)
            end = begin + size
        elif wire in (1, 5):
            end = at + (8 if wire == 1 else 4)
        else:
            raise _Damaged(f"a field of wire type {wire}")
        if end > len(data):
            raise _Damaged("it ends inside a field")
        yield tag >> 3, wire, data[begin:end]
        at = end


def _varints(data: memoryview) -> np.ndarray:
    """int64 (n,) of varints one after the other."""
    x = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(x < 0x80)
    if len(x) and (not len(ends) or ends[-1] != len(x) - 1):
        raise _Damaged("it ends inside a number")
    begins = np.concatenate([[0], ends[:-1] + 1]) if len(ends) else ends
    sizes = ends - begins + 1
    if len(sizes) and sizes.max() > 10:
        raise _Damaged("a number of more than ten bytes")
    out = np.zeros(len(ends), np.uint64)
    for k in range(int(sizes.max(initial=0))):
        more = sizes > k
        out[more] |= (x[begins[more] + k] & 0x7F).astype(np.uint64) << np.uint64(7 * k)
    return out.view(np.int64)


def _feature(data: memoryview) -> Values:
    """A tf.train.Feature: bytes, floats or integers; no values at all are an empty list."""
    values: Values = []
    for number, _, inner in _fields(data):
        if number == 1:
            values = [x for n, _, x in _fields(inner) if n == 1]
        elif number == 2:  # packed or one by one: the same bytes
            parts = [np.frombuffer(x, "<f4") if not len(x) % 4 else None for n, _, x in _fields(inner) if n == 1]
            if any(p is None for p in parts):
                raise _Damaged("it ends inside a float")
            values = np.concatenate([np.empty(0, np.float32), *(p for p in parts if p is not None)]).astype(np.float32)
        elif number == 3:
            values = np.concatenate([np.empty(0, np.int64), *(_varints(x) for n, _, x in _fields(inner) if n == 1)])
    return values


def _feature_list(data: memoryview) -> Values:
    """A tf.train.FeatureList: the values of its features, one after the other."""
    found = [v for n, _, x in _fields(data) if n == 1 and len(v := _feature(x))]
    if all(isinstance(v, np.ndarray) for v in found):
        return np.concatenate(found) if found else []
    if any(isinstance(v, np.ndarray) for v in found):
        raise _Damaged("a list of bytes and of numbers")
    return [x for v in found for x in v]


def parse_example(data: bytes | memoryview, what: str, names: Collection[str] | None = None) -> dict[str, Values]:
    """The features of a tf.train.Example, or of a SequenceExample with its lists joined: {name: values}; numbers are
    copies, bytes are views of `data`. names: those to read, by default all. BadData naming `what` for anything else."""
    out: dict[str, Values] = {}
    try:
        for kind, _, group in _fields(memoryview(data)):
            for number, _, entry in _fields(group):
                if kind not in (1, 2) or number != 1:
                    raise _Damaged(f"an unknown field {kind}.{number}")
                parts = {n: x for n, _, x in _fields(entry)}
                name = bytes(parts.get(1, b"")).decode()
                if names is None or name in names:
                    out[name] = (_feature if kind == 1 else _feature_list)(parts.get(2, memoryview(b"")))
    except (_Damaged, UnicodeDecodeError) as error:
        raise BadData(f"{what} is no tf.train.Example ({error})", "records as TFDS writes them", REPAIR) from error
    return out
