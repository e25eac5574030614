from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tfgreen.deploy.compressed.coding import Coded, decode, encode, index_bits, pack, unpack


@given(st.integers(0, 20), st.data())
def test_packed_integers_come_back_and_take_their_bits(width, data):
    indices = data.draw(hnp.arrays(np.uint32, st.integers(0, 50), elements=st.integers(0, 2**width - 1)))
    packed = pack(indices, width)
    assert len(packed) == math.ceil(len(indices) * width / 8)
    np.testing.assert_array_equal(unpack(packed, width, len(indices)), indices)


def test_long_rows_of_integers_are_packed_in_chunks():
    indices = np.random.default_rng(0).integers(0, 32, (1 << 20) + 37).astype(np.uint32)
    np.testing.assert_array_equal(unpack(pack(indices, 5), 5, indices.size), indices)


@given(
    hnp.arrays(
        st.sampled_from(["float32", "float16", "float64", "int64", "uint8", "bool"]),
        hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=20),
    )
)
def test_any_array_comes_back_bit_by_bit(array):
    back = decode(encode(array), array.shape, array.dtype)
    assert back.dtype == array.dtype and back.shape == array.shape
    assert back.tobytes() == array.tobytes()


@pytest.mark.parametrize("clusters", [2, 3, 16, 17, 256])
@pytest.mark.parametrize("zeros, form", [(0.0, "codebook"), (0.7, "bitmap"), (0.99, "gaps")])
def test_clustered_and_sparse_arrays_take_what_the_count_says(clusters, zeros, form):
    rng = np.random.default_rng(0)
    values = (np.arange(clusters) - 0.5).astype("float32")
    array = rng.choice(values, (200, 300))
    array[rng.random(array.shape) < zeros] = 0.0
    coded = encode(array)
    np.testing.assert_array_equal(decode(coded, array.shape, array.dtype), array)
    table, nonzeros = 4 * clusters, int(np.count_nonzero(array))
    sizes = {
        "codebook": math.ceil(array.size * index_bits(clusters + (zeros > 0)) / 8),
        "bitmap": array.size // 8 + math.ceil(nonzeros * index_bits(clusters) / 8),
    }
    if clusters > 3 or form != "bitmap":
        assert coded.form == form
    assert len(coded.data) <= min(sizes.values()) + table + 4


def test_negative_zero_and_nan_are_kept():
    array = np.float32([0.0, -0.0, np.nan, 1.0] * 100)
    back = decode(encode(array), array.shape, array.dtype)
    assert back.tobytes() == array.tobytes()


def test_random_weights_are_stored_as_they_are():
    array = np.random.default_rng(0).normal(size=(30, 40)).astype("float32")
    assert encode(array) == Coded("raw", 0, 1200, 0, array.tobytes())


GOOD = encode(np.repeat(np.float32([1, 2, 3]), 100))


@pytest.mark.parametrize(
    "bad",
    [
        Coded("raw", 0, 300, 0, b"\0" * 7),
        Coded("zip", 3, 300, 0, GOOD.data),
        Coded("codebook", 3, 300, 0, GOOD.data[:-1]),
        Coded("codebook", 3, 299, 0, GOOD.data),
        Coded("codebook", 3, 300, 0, GOOD.data[:-75] + b"\xff" * 75),
        Coded("bitmap", 1, 5, 0, b"\xff" * 38 + b"\0" * 4),
        Coded("gaps", 1, 2, 16, b"\xff" * 4 + b"\0" * 4),
        Coded("gaps", 1, 400, 0, b"\0" * 4),
    ],
)
def test_bytes_that_cannot_be_are_refused(bad):
    with pytest.raises(ValueError, match="coded array"):
        decode(bad, (300,), "float32")
