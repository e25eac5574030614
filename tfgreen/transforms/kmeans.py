"""Few values that stand for many: centroids of the values of an array, and the nearest centroid of each.

In ascending order a cluster is a run between two midpoints, so a Lloyd iteration finds its ends by bisection and its
mean from prefix sums. More than 2^18 values are first counted in 2^18 bins of equal width, each of which then stands
for its mean: the means of the clusters stay exact, their ends are off by at most a bin.

References: S. Lloyd, "Least squares quantization in PCM", 1982; D. Arthur and S. Vassilvitskii, "k-means++: The
Advantages of Careful Seeding", 2007; S. Han et al., "Deep Compression", 2016, arXiv:1510.00149 (linear, random and
density-based initialisation).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

import numpy as np

from tfgreen.errors import invalid_value

Initialization = Literal["kmeans_plus_plus", "linear", "random", "density_based"]
# One of these, or a function of the user's: (values of shape (n,), count) -> at most so many centroids.
Initializer: TypeAlias = "Initialization | Callable[[np.ndarray, int], np.ndarray]"

_BINS = 1 << 18
_RESTARTS = 8
_ITERATIONS = 1000
_SLICE = 1 << 20  # values put into bins at a time
_CHUNK = 1 << 16  # values compared at a time, so that they stay in the processor's cache


def initial_centroids(
    values: np.ndarray, count: int, method: Initializer = "kmeans_plus_plus", seed: int = 0, zero: bool = False
) -> np.ndarray:
    """Choose ``count`` centroids of an array of finite floats, in ascending order, or its distinct values if no more.

    ``method`` is ``"kmeans_plus_plus"``: k-means++ seeds, then Lloyd iterations until nothing moves, the best of eight
    starts; ``"linear"``: evenly spaced over the range; ``"random"``: drawn evenly from it; ``"density_based"``:
    quantiles, so that all clusters have about as many values; or a function ``(values, count) -> centroids``, of which
    there may be fewer. With ``zero`` one centroid is 0; the others are shared
    out between negative and positive values by how many there are, and chosen for those alone.

    Example:
        >>> initial_centroids(np.array([0.0, 0.1, 0.9, 1.0]), 2).tolist()
        [0.05, 0.95]
        >>> initial_centroids(np.array([-1.0, 0.0, 0.2, 3.0]), 3, zero=True).tolist()
        [-1.0, 0.0, 1.6]
    """
    flat = values.reshape(-1)
    if not zero:
        return _of_values(flat, count, method, seed)
    negative, positive = flat[flat < 0], flat[flat > 0]
    below, above = _share(count - 1, negative, positive)
    parts = [np.zeros(1, values.dtype)]
    if below:  # a mean may round to 0, which lies outside of the values that it stands for
        parts.insert(0, np.minimum(_of_values(negative, below, method, seed), negative.max()))
    if above:
        parts.append(np.maximum(_of_values(positive, above, method, seed + 1), positive.min()))
    return np.concatenate(parts)


def nearest(values: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """The index of the nearest centroid of each value, in :func:`index_dtype`; of two equally near ones the smaller's.

    ``centroids`` have the shape (count,), or (count, channels) for values of shape (..., channels), in any order.

    Example:
        >>> nearest(np.array([0.1, 0.6, 2.0]), np.array([1.0, 0.0]))
        array([1, 0, 0], dtype=uint8)
    """
    order, midpoints = runs(centroids.astype(values.dtype, copy=False))
    rows = values.reshape(-1) if centroids.ndim == 1 else values.reshape(-1, centroids.shape[1])
    result = np.empty(rows.shape, order.dtype)
    step = max(_CHUNK // (rows.size // max(len(rows), 1) or 1), 1)
    sorted_already = bool((np.diff(order.astype(np.int64), axis=0) > 0).all())
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        rank = _ranks(part, midpoints, order.dtype)
        if not sorted_already:
            rank = order[rank] if order.ndim == 1 else np.take_along_axis(order, rank.astype(np.int64), axis=0)
        result[start : start + step] = rank
    return result.reshape(values.shape)


def runs(centroids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The indices of centroids in ascending order, and the midpoints between neighbours, where their values meet."""
    order = np.argsort(centroids, axis=0, kind="stable").astype(index_dtype(len(centroids)))
    ascending = np.take_along_axis(centroids, order.astype(np.int64), axis=0)
    return order, ascending[:-1] + (ascending[1:] - ascending[:-1]) / 2


def index_dtype(count: int) -> np.dtype:
    """The smallest unsigned integer dtype that numbers ``count`` things from 0."""
    return np.min_scalar_type(max(count - 1, 0))


def distinct(values: np.ndarray, limit: int) -> int:
    """How many different values an array has; above ``limit`` only that it has more."""
    # The values of a trained weight nearly all differ: a few of them tell.
    few = len(np.unique(values.reshape(-1)[: 4 * limit]))
    return few if few > limit else len(np.unique(values))


def _ranks(part: np.ndarray, midpoints: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """How many midpoints are below each value."""
    if midpoints.ndim == 1 and len(midpoints) > 64:
        return np.searchsorted(midpoints, part, "left").astype(dtype)
    # One comparison per midpoint on values in the cache beats a bisection per value.
    rank = np.zeros(part.shape, dtype)
    for midpoint in midpoints:
        rank += part > midpoint
    return rank


def _share(count: int, negative: np.ndarray, positive: np.ndarray) -> tuple[int, int]:
    """Split ``count`` centroids between two signs by their number of values, no more to either than it can use."""
    most = distinct(negative, count), distinct(positive, count)
    if count >= sum(most):
        return most
    below = round(count * negative.size / (negative.size + positive.size))
    below = min(max(below, min(most[0], 1), count - most[1]), most[0], count - min(most[1], 1))
    return below, count - below


def _of_values(flat: np.ndarray, count: int, method: Initializer, seed: int) -> np.ndarray:
    if distinct(flat, count) <= count:
        return np.unique(flat)
    if callable(method):
        found = np.asarray(method(flat, count))
        numbers = found.dtype.kind in "fiu" and bool(np.isfinite(found).all())
        if not numbers or found.ndim != 1 or not 1 <= len(found) <= count:
            expected = f"1 to {count} finite centroids, as an array of shape (n,)"
            received = f"an array of shape {found.shape} and dtype {found.dtype}"
            raise invalid_value("centroids_init, its result", expected=expected, received=received)
        return np.sort(found.astype(flat.dtype))
    if method == "linear":
        centroids = np.linspace(flat.min(), flat.max(), count)
    elif method == "random":
        centroids = np.sort(np.random.default_rng(seed).uniform(flat.min(), flat.max(), count))
    else:
        points, weights = _condense(flat)
        if method == "density_based":
            ranks = (np.arange(count) + 0.5) / count * flat.size
            centroids = points[np.searchsorted(np.cumsum(weights), ranks)]
        else:
            centroids = _kmeans(points, weights, count, seed)
    # A mean is the difference of two sums, which may put one of tiny values beyond them.
    return centroids.astype(flat.dtype).clip(flat.min(), flat.max())


def _condense(flat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ascending points and how many values each stands for."""
    if flat.size <= _BINS:
        points, counts = np.unique(flat, return_counts=True)
        return points.astype(np.float64), counts.astype(np.float64)
    low, high = float(flat.min()), float(flat.max())
    weights, sums = np.zeros(_BINS + 1), np.zeros(_BINS + 1)
    for start in range(0, flat.size, _SLICE):
        part = flat[start : start + _SLICE]
        bins = ((part - low) * (_BINS / (high - low))).astype(np.int64)
        weights += np.bincount(bins, minlength=_BINS + 1)
        sums += np.bincount(bins, part, _BINS + 1)
    used = weights > 0
    return sums[used] / weights[used], weights[used]


def _kmeans(points: np.ndarray, weights: np.ndarray, count: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    prefix = np.concatenate([[0.0], np.cumsum(weights)]), np.concatenate([[0.0], np.cumsum(weights * points)])
    starts = [_lloyd(points, prefix, _seeds(points, weights, count, rng)) for _ in range(_RESTARTS)]
    # The squared error is the sum of squares of the values, which all starts share, less this explained part.
    return max(starts, key=lambda start: start[1])[0]


def _seeds(points: np.ndarray, weights: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """k-means++: each seed is drawn with a chance that grows with the squared distance to the seeds before it."""
    distance = np.ones(len(points))
    seeds: list[float] = []
    for index in range(count):
        chance = np.cumsum(weights * distance)
        seeds.append(points[min(np.searchsorted(chance, rng.random() * chance[-1], "right"), len(points) - 1)])
        moved = (points - seeds[-1]) ** 2
        distance = np.minimum(distance, moved) if index else moved
    return np.sort(seeds)


def _lloyd(
    points: np.ndarray, prefix: tuple[np.ndarray, np.ndarray], centroids: np.ndarray
) -> tuple[np.ndarray, float]:
    """Move each centroid to the mean of its cluster until nothing moves; also returns the explained sum of squares."""
    for _ in range(_ITERATIONS):
        inner = np.searchsorted(points, (centroids[:-1] + centroids[1:]) / 2, "right")
        edges = np.concatenate([[0], inner, [len(points)]])
        sizes, sums = (np.diff(p[edges]) for p in prefix)
        means = sums / np.maximum(sizes, 1)
        empty = np.flatnonzero(sizes == 0)
        if empty.size:
            # An empty cluster starts anew at the value that is farthest from its centroid: an end of some cluster.
            used = sizes > 0
            ends = np.concatenate([points[edges[:-1][used]], points[edges[1:][used] - 1]])
            farthest = np.argmax(np.abs(ends - np.tile(means[used], 2)))
            means = np.sort(np.concatenate([means[used], ends[[farthest]], centroids[empty[1:]]]))
        elif np.array_equal(means, centroids):
            break
        centroids = means
    return centroids, float((sizes * means**2).sum())
