"""The streams of an update: read in the order of writing, and never beyond their end."""

from __future__ import annotations

import numpy as np
import pytest

from tfgreen.federated.coding.positions import encode_positions
from tfgreen.federated.coding.update_bytes import Reader, Writer


def written() -> bytes:
    writer = Writer()
    writer.weight(1, 2, 3, (4, 5))
    writer.positions(encode_positions(np.array([1, 7]), 9, False), 2)
    writer.numbers += b"abc"
    return writer.joined()


def test_parts_are_read_as_they_were_written():
    reader = Reader(written())
    assert reader.head("BBBB2Q", "w") == (1, 2, 3, 2, 4, 5)
    assert reader.positions(9, "w").tolist() == [1, 7]
    assert bytes(reader.numbers.take(3, "w")) == b"abc"
    reader.check_end()


def test_what_is_missing_or_left_over_is_refused():
    for length in range(16):
        with pytest.raises(ValueError, match="update: expected"):
            Reader(written()[:length])
    reader = Reader(written())
    with pytest.raises(ValueError, match="update: expected.*more than its weights take"):
        reader.check_end()
    with pytest.raises(ValueError, match="w: expected.*3 bytes where 4 are announced"):
        reader.numbers.take(4, "w")
