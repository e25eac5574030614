"""TFRecord files and the ``tf.train.Example`` of each record, read without TensorFlow, which then need not start.

The format: https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

from tfgreen.errors import FileError
from tfgreen.files import reading
from tfgreen.typing import FilePath

_BYTES, _FLOATS, _INTEGERS = 1, 2, 3  # fields of tf.train.Feature
KINDS = {_BYTES: "bytes", _FLOATS: "floats", _INTEGERS: "integers"}


class Feature(NamedTuple):
    """A feature of a record: its kind, how many values, the first integer, the first bytes and how many these are."""

    kind: str
    values: int
    number: int | None = None
    start: bytes = b""
    size: int = 0


def read_records(path: FilePath) -> Iterator[bytes]:
    """The records of a file, one by one; a FileError where it ends within one. Checksums are left to TensorFlow."""
    with reading(path), open(path, "rb") as file:
        left, number = os.fstat(file.fileno()).st_size, 0
        if not left:
            raise FileError(f"{path}: expected a TFRecord file, received an empty file.")
        while left:
            header, number = file.read(12), number + 1
            if header.startswith(b"\x1f\x8b") and number == 1:
                raise FileError(f"{path}: expected a TFRecord file, received a compressed one. Unpack it with gunzip.")
            length = int.from_bytes(header[:8], "little")
            left -= 16 + length
            if left < 0:
                what = "received something else" if number == 1 else f"but it ends within record {number}"
                raise FileError(f"{path}: expected a TFRecord file, {what}.")
            yield file.read(length)
            file.read(4)


def read_features(record: bytes) -> dict[str, Feature]:
    """The features of a ``tf.train.Example`` by name; a ValueError if the record is something else.

    Example:
        >>> read_features(b"\\n\\x0c\\n\\n\\n\\x01y\\x12\\x05\\x1a\\x03\\n\\x01\\x07")
        {'y': Feature(kind='integers', values=1, number=7, start=b'', size=0)}
    """
    found = {}
    for _, features in _fields(memoryview(record), 1):
        for _, entry in _fields(features, 1):
            parts = dict(_fields(entry))
            for kind, values in _fields(parts.get(2, entry[:0])):
                found[bytes(parts[1]).decode()] = _feature(kind, values)
    return found


def _feature(kind: int, values: memoryview) -> Feature:
    if kind not in KINDS:
        raise ValueError(f"field {kind}")
    items = [item for _, item in _fields(values, 1)]
    if kind == _BYTES:
        first = items[0] if items else values[:0]
        return Feature(KINDS[kind], len(items), start=bytes(first[:8]), size=len(first))
    joined = b"".join(items)  # packed, or one by one
    if kind == _FLOATS:
        return Feature(KINDS[kind], len(joined) // 4)
    value = _varint(memoryview(joined), 0)[0] if joined else 0
    return Feature(KINDS[kind], sum(byte < 128 for byte in joined), value - (value >> 63 << 64))


def _fields(message: memoryview, only: int | None = None) -> Iterator[tuple[int, memoryview]]:
    """Number and content of the fields of a message; the content of a number is its bytes."""
    place = 0
    while place < len(message):
        tag, place = _varint(message, place)
        number, wire = tag >> 3, tag & 7
        if wire == 2:
            length, place = _varint(message, place)
            end = place + length
        elif wire == 0:
            end = _varint(message, place)[1]
        elif wire in (1, 5):
            end = place + (8 if wire == 1 else 4)
        else:
            raise ValueError(f"wire type {wire}")
        if end > len(message):
            raise ValueError("cut off")
        if only in (None, number):
            yield number, message[place:end]
        place = end


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    """An integer of variable length, and where it ends."""
    value = shift = 0
    while True:
        if place >= len(message) or shift > 63:
            raise ValueError("cut off")
        byte = message[place]
        value |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return value, place
