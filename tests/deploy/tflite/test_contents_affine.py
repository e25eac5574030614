from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tfgreen.deploy.tflite.contents import dequantize_array, quantize_array
from tfgreen.errors import InvalidValueError

dtypes = st.sampled_from(["int8", "uint8", "int16"])
scales = st.floats(1e-6, 1e3)


@given(hnp.arrays(np.float32, st.integers(1, 20), elements=st.floats(-1e6, 1e6, width=32)), scales, dtypes, st.data())
def test_quantize_is_the_nearest_integer_within_the_range(values, scale, dtype, data):
    limits = np.iinfo(dtype)
    zero_point = data.draw(st.integers(int(limits.min), int(limits.max)))
    stored = quantize_array(values, scale, zero_point, dtype)
    assert stored.dtype == dtype
    exact = values.astype(np.float64) / scale + zero_point
    inside = (exact >= limits.min) & (exact <= limits.max)
    assert np.all(np.abs(stored[inside] - exact[inside]) <= 0.5 + 1e-9)
    assert np.all(stored[exact > limits.max] == limits.max) and np.all(stored[exact < limits.min] == limits.min)


@given(scales, dtypes, st.data())
def test_every_stored_integer_comes_back(scale, dtype, data):
    limits = np.iinfo(dtype)
    zero_point = data.draw(st.integers(int(limits.min), int(limits.max)))
    stored = np.arange(limits.min, limits.max + 1, max(1, (limits.max - limits.min) // 300)).astype(dtype)
    real = dequantize_array(stored, scale, zero_point)
    assert real.dtype == np.float32
    np.testing.assert_array_equal(quantize_array(real, scale, zero_point, dtype), stored)
    expected = (stored.astype(np.float64) - zero_point) * scale
    np.testing.assert_allclose(real, expected, rtol=1e-6)


def test_infinities_saturate_and_ties_go_to_the_even_integer():
    values = np.array([-np.inf, np.inf, 0.5, 1.5, -0.5])
    assert quantize_array(values, 1.0, 0, "int8").tolist() == [-128, 127, 0, 2, 0]


def test_nan_is_refused_by_name():
    with pytest.raises(InvalidValueError, match="input 'x': expected numbers, received 2 NaN"):
        quantize_array(np.array([np.nan, 0.0, np.nan]), 1.0, 0, "int8", "input 'x'")
