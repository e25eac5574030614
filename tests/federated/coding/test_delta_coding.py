"""The largest places: as many as were asked for, ties included, and none of zero; long codes in halves."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tfgreen as tg
from tfgreen.federated.coding.delta_coding import largest_places


@given(st.lists(st.sampled_from((0.0, 0.5, 1.0, 2.0)), min_size=1, max_size=40), st.integers(1, 50))
def test_the_largest_are_taken_and_of_equal_ones_the_first(values, count):
    magnitude = np.array(values, "float32")
    expected = [i for i in sorted(range(len(values)), key=lambda i: (-values[i], i))[:count] if values[i]]
    assert largest_places(magnitude, count).tolist() == sorted(expected)


@pytest.mark.parametrize("kind", ["spread", "equal", "zeros", "sorted", "first"])
@pytest.mark.parametrize("count", [1, 5_000, 99_999])
def test_of_many_they_are_those_that_sorting_finds(kind, count):
    rng = np.random.default_rng(0)
    magnitude = np.abs(rng.normal(size=100_000)).astype("float32")
    if kind == "equal":
        magnitude = np.ceil(magnitude * 4) / 4
    elif kind == "zeros":
        magnitude *= rng.random(magnitude.size) < 0.05
    elif kind == "sorted":
        magnitude.sort()
    elif kind == "first":  # the sample sees one place in twelve
        magnitude[::12] *= 100
    order = np.argsort(-magnitude, kind="stable")[:count]
    np.testing.assert_array_equal(largest_places(magnitude, count), np.sort(order[magnitude[order] > 0]))


@pytest.mark.parametrize("options", [{}, {"top_k": 0.9}], ids=str)
@pytest.mark.parametrize("count", [40_000, 40_001])
def test_codes_in_halves_decode_to_the_same_and_are_hardly_larger(options, count):
    rng = np.random.default_rng(count)
    before = [rng.normal(size=count).astype("float32") * (rng.random(count) < 0.9)]
    after = [np.where(before[0] == 0, 0, before[0] + rng.normal(size=count)).astype("float32")]
    plain, state = tg.UpdateCodec(entropy=None, **options).encode(before, after)
    codec = tg.UpdateCodec(**options)
    update, other = codec.encode(before, after)
    np.testing.assert_array_equal(codec.decode(plain, before)[0], codec.decode(update, before)[0])
    np.testing.assert_array_equal(state[0], other[0])
    assert zlib.decompressobj(-15).decompress(update[18:]) and len(update) < 1.05 * huffman(plain[18:])


def test_codes_that_are_mostly_small_or_zero_stay_whole():
    """Peaked changes lose too much in halves; of mostly zeros the runs count."""
    rng = np.random.default_rng(0)
    for change in (rng.standard_t(2, size=50_000), rng.normal(size=50_000) * (rng.random(50_000) < 0.02)):
        before = [np.ones(50_000, "float32")]
        after = [before[0] + change.astype("float32")]
        update, plain = (tg.UpdateCodec(entropy=each).encode(before, after)[0] for each in ("deflate", None))
        assert len(update) <= 1.01 * huffman(plain[18:])
    assert len(update) < 50_000 / 8  # fewer than one bit for each


def huffman(body: bytes) -> int:
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zlib.Z_HUFFMAN_ONLY)
    return len(deflate.compress(body) + deflate.flush())
