"""Centroids and assignments against plain float64 NumPy."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tfgreen.transforms import kmeans
from tfgreen.transforms.kmeans import Initialization, distinct, index_dtype, initial_centroids, nearest

FINITE = st.floats(-1e3, 1e3, width=32, allow_subnormal=False)


def squared_error(values: np.ndarray, centroids: np.ndarray) -> float:
    values = values.astype("float64").ravel()
    return float((np.abs(values[:, None] - centroids.astype("float64")).min(axis=1) ** 2).sum())


def best_error(values: np.ndarray, count: int) -> float:
    """The least squared error of any clustering of values on a line, by dynamic programming."""
    values = np.sort(values.astype("float64").ravel())
    sums, squares = (np.concatenate([[0.0], np.cumsum(v)]) for v in (values, values**2))
    ends = np.arange(1, len(values) + 1)
    best = squares[ends] - sums[ends] ** 2 / ends
    for _ in range(count - 1):
        new = best.copy()
        for end in range(2, len(values) + 1):
            start = np.arange(1, end)
            run = squares[end] - squares[start] - (sums[end] - sums[start]) ** 2 / (end - start)
            new[end - 1] = min(best[end - 1], (best[start - 1] + run).min())
        best = new
    return float(best[-1])


@pytest.mark.parametrize("count", [2, 5, 16])
@pytest.mark.parametrize("law", ["normal", "laplace", "uniform"])
def test_kmeans_is_a_fixed_point_of_lloyd_and_close_to_the_best_clustering(count, law):
    values = getattr(np.random.default_rng(0), law)(size=300).astype("float32")
    centroids = initial_centroids(values, count)
    assigned = np.abs(values.astype("float64")[:, None] - centroids.astype("float64")).argmin(axis=1)
    means = [values[assigned == i].mean(dtype="float64") for i in range(count)]
    np.testing.assert_allclose(centroids, means, atol=1e-6)
    assert squared_error(values, centroids) <= 1.15 * best_error(values, count)


def test_many_values_are_counted_in_bins_and_give_the_same_centroids(monkeypatch):
    values = np.random.default_rng(0).standard_normal(200_000, dtype=np.float32)
    exact = initial_centroids(values, 8)
    monkeypatch.setattr(kmeans, "_BINS", 1 << 16)
    binned = initial_centroids(values, 8)
    assert squared_error(values[:20_000], binned) == pytest.approx(squared_error(values[:20_000], exact), rel=1e-2)
    assigned = nearest(values, binned)
    means = [values[assigned == i].mean(dtype="float64") for i in range(8)]
    np.testing.assert_allclose(binned, means, atol=1e-4)


def test_one_far_value_does_not_spoil_the_bins(monkeypatch):
    monkeypatch.setattr(kmeans, "_BINS", 1 << 16)
    values = np.random.default_rng(0).standard_normal(100_000, dtype=np.float32)
    values[0] = 300.0
    centroids = initial_centroids(values, 8)
    assert centroids[-1] == 300.0
    bulk = initial_centroids(values[1:], 7)
    assert squared_error(values[1:20_000], centroids[:-1]) < 1.02 * squared_error(values[1:20_000], bulk)


@given(hnp.arrays(np.float32, hnp.array_shapes(max_dims=3, max_side=12), elements=FINITE), st.integers(1, 12))
@pytest.mark.parametrize("method", get_args(Initialization))
def test_centroids_are_ascending_within_the_range_and_at_most_as_many_as_asked(method, values, count):
    centroids = initial_centroids(values, count, method)
    assert centroids.dtype == values.dtype and len(centroids) == min(count, len(np.unique(values)))
    assert (np.diff(centroids) >= 0).all()
    assert centroids[0] >= values.min() and centroids[-1] <= values.max()


@given(hnp.arrays(np.float32, 40, elements=FINITE), st.integers(2, 12))
@pytest.mark.parametrize("method", get_args(Initialization))
def test_zero_is_one_of_them_when_it_has_to_be_and_each_sign_keeps_one(method, values, count):
    values[:5] = 0.0
    centroids = initial_centroids(values, count, method, zero=True)
    assert np.count_nonzero(centroids == 0) == 1 and len(centroids) <= count and (np.diff(centroids) >= 0).all()
    if count >= 3:
        assert (values < 0).any() == (centroids < 0).any() and (values > 0).any() == (centroids > 0).any()


@given(
    hnp.arrays(np.float32, hnp.array_shapes(max_dims=3, max_side=9), elements=FINITE),
    hnp.arrays(np.float32, st.integers(1, 80), elements=FINITE),
)
def test_nearest_is_the_argmin_of_the_distances(values, centroids):
    found = nearest(values, centroids)
    assert found.shape == values.shape and found.dtype == np.uint8
    distance = np.abs(values.astype("float64")[..., None] - centroids.astype("float64"))
    chosen = np.take_along_axis(distance, found[..., None].astype(int), axis=-1)[..., 0]
    np.testing.assert_allclose(chosen, distance.min(axis=-1), atol=1e-3 * np.finfo("float16").eps)


def test_ties_go_to_the_smaller_centroid_as_with_tfmot():
    assert nearest(np.array([0.5]), np.array([1.0, 0.0])).tolist() == [1]


@pytest.mark.parametrize("count", [7, 100, 300])
def test_nearest_of_a_long_array_in_chunks_and_per_channel(count):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(50_000, 4)).astype("float32")
    centroids = rng.normal(size=(count, 4)).astype("float32")
    found = nearest(values, centroids)
    assert found.dtype == index_dtype(count) == (np.uint8 if count <= 256 else np.uint16)
    for channel in range(4):
        np.testing.assert_array_equal(found[:, channel], nearest(values[:, channel].copy(), centroids[:, channel]))
        distance = np.abs(values[:500, channel, None].astype("float64") - centroids[:, channel].astype("float64"))
        np.testing.assert_array_equal(found[:500, channel], distance.argmin(axis=1))


def test_methods_do_what_their_names_say():
    values = np.random.default_rng(0).exponential(size=5000).astype("float32")
    np.testing.assert_allclose(initial_centroids(values, 5, "linear"), np.linspace(values.min(), values.max(), 5))
    density = initial_centroids(values, 5, "density_based")
    np.testing.assert_allclose(density, np.quantile(values, [0.1, 0.3, 0.5, 0.7, 0.9]), atol=2e-3)
    first, again, other = (initial_centroids(values, 5, "random", seed) for seed in (1, 1, 2))
    assert (first == again).all() and (first != other).any()
    starts = [initial_centroids(values, 5, seed=seed) for seed in (3, 3)]
    np.testing.assert_array_equal(*starts)


def test_few_values_are_kept_as_they_are():
    values = np.float32([0.1, 0.3, -0.7] * 50)
    for method in get_args(Initialization):
        np.testing.assert_array_equal(initial_centroids(values, 8, method), np.float32([-0.7, 0.1, 0.3]))
    assert distinct(values, 8) == 3 and distinct(values, 2) > 2
    constant_start = np.concatenate([np.zeros(100), np.arange(50)])
    assert distinct(constant_start, 5) > 5


def test_a_mean_of_tiny_values_beside_large_ones_stays_in_the_range():
    values = np.array([-4.980099e-30, -2.0, -3.0], "float32")
    assert initial_centroids(values, 2).tolist() == [-2.5, values[0]]
