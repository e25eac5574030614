from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfgreen.quantization.histogram import Calibration, Histogram


def of(*batches: np.ndarray) -> Histogram:
    histogram = Histogram()
    for batch in batches:
        histogram.add(batch)
    return histogram


@given(st.lists(st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=20), min_size=1, max_size=5))
def test_extremes_are_exact_whatever_the_batches_and_all_methods_lie_within_them(batches):
    histogram = of(*(np.array(batch, np.float32) for batch in batches))
    values = np.concatenate([np.array(batch, np.float32) for batch in batches])
    assert histogram.range("minmax") == (min(values.min(), 0), max(values.max(), 0))
    for method in get_args(Calibration):
        lower, upper = histogram.range(method)
        assert min(values.min(), 0) <= lower <= 0 <= upper <= max(values.max(), 0)


@given(st.integers(0, 2**31), st.floats(0.01, 100))
def test_no_value_is_lost_when_the_span_grows(seed, scale):
    rng = np.random.default_rng(seed)
    batches = [rng.normal(size=50).astype("float32") * scale * 4**power for power in range(4)]
    assert of(*batches).counts.sum() == 200


def test_the_percentile_is_that_of_the_values_up_to_a_bin():
    values = np.random.default_rng(0).normal(size=200_000).astype("float32")
    lower, upper = of(*np.split(values, 10)).range("percentile")
    np.testing.assert_allclose([lower, upper], np.quantile(values, [0.0001, 0.9999]), atol=0.05)


def test_an_outlier_is_cut_off_by_percentile_and_mse_but_not_by_minmax():
    values = np.random.default_rng(0).normal(size=100_000).astype("float32")
    values[0] = 8.0
    found = {method: of(values).range(method)[1] for method in get_args(Calibration)}
    assert found["minmax"] == 8.0 and found["percentile"] < 5 and found["mse"] < 8


@pytest.mark.parametrize("bits", [4, 8])
def test_mse_is_no_worse_than_a_search_on_the_values_themselves(bits):
    values = np.random.default_rng(1).laplace(size=50_000).astype("float32")

    def error(lower, upper):
        step = (upper - lower) / (2**bits - 1)
        clipped = np.clip(values.astype("float64"), lower, upper)
        return ((np.round(clipped / step) * step - values) ** 2).mean()

    low, high = float(values.min()), float(values.max())
    shares = np.linspace(1.0, 0.2, 17)
    best = min(error(low * a, high * b) for a in shares for b in shares)
    assert error(*of(values).range("mse", bits)) <= 1.05 * best


def test_nothing_and_zeros_and_what_is_not_finite():
    assert of(np.zeros((0, 3))).range("mse") == (0.0, 0.0)
    assert of(np.zeros((4, 3))).range("percentile") == (0.0, 0.0)
    assert of(np.ones(3)).finite
    for bad in (np.nan, np.inf):
        assert not of(np.ones(3), np.array([1.0, bad])).finite


@pytest.mark.parametrize("values", [range(10), range(-3, 4), [0, 255], [2, 5, 7]])
def test_whole_numbers_of_data_are_among_the_values_that_remain(values):
    histogram = Histogram()
    histogram.add(np.array(values, np.float32))
    lower, upper = histogram.range("minmax", is_data=True)
    scale = np.float32((upper - lower) / 255)
    rounded = np.round((np.array(values, np.float32) - lower) / scale) * scale + np.float32(lower)
    np.testing.assert_array_equal(rounded, values)
    assert lower <= 0 <= min(*values) or lower == min(values)
    assert histogram.range("minmax") == (min(*values, 0), max(*values, 0))
