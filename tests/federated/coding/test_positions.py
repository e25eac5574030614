"""Places and small numbers as bytes: what was packed is unpacked, in about as few bytes as can be."""

from __future__ import annotations

import math
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfgreen.federated.coding import positions


@given(st.integers(0, 3000), st.sampled_from((0, 0.001, 0.01, 0.1, 0.5, 1)), st.booleans(), st.integers(0, 99))
def test_places_come_back(size, share, deflated, seed):
    places = np.flatnonzero(np.random.default_rng(seed).random(size) < share)
    kind, data = positions.encode_positions(places, size, deflated)
    found = positions.decode_positions(kind, data, places.size, size, "w")
    np.testing.assert_array_equal(found, places)


@pytest.mark.parametrize("share, more", [(0.001, 1.7), (0.01, 1.15), (0.1, 1.05), (0.3, 1.1)])
def test_places_take_little_more_than_their_entropy(share, more):
    size = 200_000
    places = np.flatnonzero(np.random.default_rng(0).random(size) < share)
    _, data = positions.encode_positions(places, size, True)
    entropy = -size * (share * math.log2(share) + (1 - share) * math.log2(1 - share)) / 8
    deflate = zlib.compressobj(1, zlib.DEFLATED, -15, 9, zlib.Z_RLE)  # as the codec does
    assert len(deflate.compress(data) + deflate.flush()) < more * entropy


def test_the_smaller_form_is_taken():
    sparse, half = np.arange(0, 8000, 100), np.arange(0, 8000, 2)
    assert positions.encode_positions(sparse, 8000, False)[0] == positions.GAPS
    assert positions.encode_positions(half, 8000, False)[0] == positions.BITMAP


@pytest.mark.parametrize(
    "kind, data, count",
    [(0, b"\xff", 8), (0, b"\xff\xff", 7), (1, b"\x00\xff", 1), (1, b"\x00\x0a", 2), (1, b"\x00", 2), (2, b"", 0)],
)
def test_bytes_that_are_no_places_are_refused(kind, data, count):
    with pytest.raises(ValueError, match="w: expected an update"):
        positions.decode_positions(kind, data, count, 10, "w")


@given(st.lists(st.integers(0, 255)), st.sampled_from((1, 4, 8)))
def test_numbers_come_back(numbers, width):
    numbers = np.array(numbers, np.uint8) & np.uint8((1 << width) - 1)
    data = positions.pack(numbers, width)
    assert len(data) == positions.packed_bytes(numbers.size, width)
    np.testing.assert_array_equal(positions.unpack(data, width, numbers.size), numbers)


def test_a_width_holds_what_is_counted():
    assert [positions.code_width(count) for count in (1, 2, 3, 16, 17, 256)] == [1, 1, 4, 4, 8, 8]
