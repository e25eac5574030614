"""Which weights to keep: functions from an array of scores to a bool array, True where a weight is kept.

All count as TFMOT does: of ``n`` candidates ``max(round(n * (1 - sparsity)), 1)`` are kept, computed in float32 and
rounded half to even. Unlike there, ties are broken by position (the first is kept), so that the sparsity is reached
exactly even where scores are equal. Time and memory are linear in the number of weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from tfgreen.errors import invalid_value

Pooling = Literal["AVG", "MAX"]

_SAMPLE = 1 << 12  # elements drawn to bracket the threshold of a large array


def nonzero_count(size: int, sparsity: float) -> int:
    """How many of ``size`` candidates a sparsity leaves: at least one.

    Example:
        >>> nonzero_count(10, 0.25), nonzero_count(5, 0.5), nonzero_count(100, 0.9999)
        (8, 2, 1)
    """
    return max(int(np.round(np.float32(size) * (np.float32(1) - np.float32(sparsity)))), 1)


def kth_largest(values: np.ndarray, k: int) -> float:
    """The ``k``-th largest of a flat array, exactly; ``k`` counts from 1.

    A random sample brackets the answer; only what lies inside the bracket is then selected from (R. W. Floyd and
    R. L. Rivest, "Expected time bounds for selection", 1975). Linear, and about three passes over the array.
    """
    while values.size > 4 * _SAMPLE:
        # A stride would meet the structure of a kernel; the generator's seed is fixed so that runs repeat.
        sample = np.sort(values[np.random.default_rng(0).integers(0, values.size, _SAMPLE)])
        place, margin = int(_SAMPLE * (1 - k / values.size)), int(2 * math.sqrt(_SAMPLE))
        low, high = sample[max(place - margin, 0)], sample[min(place + margin, _SAMPLE - 1)]
        above, from_high = int(np.count_nonzero(values > high)), int(np.count_nonzero(values >= high))
        if k <= above:
            values = values[values > high]
            continue
        if k <= from_high:
            return high
        # Strictly inside: a value that fills much of the array (the zeros of a pruned weight) would be an end of the
        # bracket, and NumPy's selection is slow on equal values.
        inside = values[(values > low) & (values < high)]
        if k <= from_high + inside.size:
            values, k = inside, k - from_high
            break
        from_low = int(np.count_nonzero(values >= low))
        if k <= from_low:
            return low
        values, k = values[values < low], k - from_low
    return np.partition(values, values.size - k)[values.size - k]


def keep_largest(score: np.ndarray, sparsity: float) -> np.ndarray:
    """Keep the largest scores of an array of any shape; ``sparsity``, in [0, 1), is the share of those dropped.

    Example:
        >>> keep_largest(np.array([0.1, 0.9, 0.3, 0.2]), 0.5)
        array([False,  True,  True, False])
    """
    check_finite(score)
    return _keep(score.ravel(), nonzero_count(score.size, sparsity)).reshape(score.shape)


def keep_largest_of_each(score: np.ndarray, sparsity: float, axes: Sequence[int]) -> np.ndarray:
    """Keep the largest scores of each index along some axes: as many of each as of an array of its size.

    Example:
        >>> keep_largest_of_each(np.array([[1.0, 9.0], [2.0, 7.0], [3.0, 8.0], [4.0, 6.0]]), 0.5, (-1,)).T
        array([[False, False,  True,  True],
               [ True, False,  True, False]])
    """
    check_finite(score)
    moved = np.moveaxis(score, axes, range(len(axes)))
    rows = moved.reshape(math.prod(moved.shape[: len(axes)]), -1)
    order = np.argsort(-rows, axis=1, kind="stable")
    mask = np.zeros(rows.shape, bool)
    np.put_along_axis(mask, order[:, : nonzero_count(rows.shape[1], sparsity)], True, axis=1)
    return np.moveaxis(mask.reshape(moved.shape), range(len(axes)), axes)


def keep_largest_of_all(scores: Sequence[np.ndarray], sparsity: float) -> list[np.ndarray]:
    """Keep the largest scores over several arrays together, as many as of one array, but of each at least one.

    Example:
        >>> [mask.tolist() for mask in keep_largest_of_all([np.array([1.0, 2.0]), np.array([3.0, 4.0])], 0.5)]
        [[False, True], [False, True]]
    """
    flat = np.concatenate([score.ravel() for score in scores])
    check_finite(flat)
    ends = np.cumsum([score.size for score in scores])
    starts = ends - [score.size for score in scores]
    # A layer without a single weight would cut the network in two: its best one is seeded first.
    best = [start + int(np.argmax(flat[start:end])) for start, end in zip(starts, ends)]
    flat[best] = np.inf
    mask = _keep(flat, max(nonzero_count(flat.size, sparsity), len(best)))
    return [mask[start:end].reshape(score.shape) for start, end, score in zip(starts, ends, scores)]


def keep_blocks(matrix: np.ndarray, sparsity: float, block: tuple[int, int], pooling: Pooling) -> np.ndarray:
    """Keep whole blocks of (rows, columns) of a matrix, ranked by the average or maximum of their scores.

    A block at the edge is averaged over the elements it has, and counts as any other for the sparsity.

    Example:
        >>> keep_blocks(np.array([[1.0, 1.0, 9.0, 0.0]]), 0.5, (1, 2), "MAX")
        array([[False, False,  True,  True]])
    """
    check_finite(matrix)
    row_edges, column_edges = (np.arange(0, size, step) for size, step in zip(matrix.shape, block))
    combine = np.maximum if pooling == "MAX" else np.add
    pooled = combine.reduceat(combine.reduceat(matrix, row_edges, axis=0), column_edges, axis=1)
    heights = np.diff([*row_edges, matrix.shape[0]])
    widths = np.diff([*column_edges, matrix.shape[1]])
    if pooling == "AVG":
        pooled = pooled / np.outer(heights, widths).astype(pooled.dtype)
    return np.repeat(np.repeat(keep_largest(pooled, sparsity), heights, axis=0), widths, axis=1)


def keep_m_by_n(score: np.ndarray, zeros: int, group: int, axis: int) -> np.ndarray:
    """Drop the ``zeros`` smallest of every ``group`` consecutive scores along one axis.

    A last group that is cut short keeps as many as the others, so it has fewer zeros.

    Example:
        >>> keep_m_by_n(np.array([[1.0], [4.0], [2.0], [3.0], [5.0]]), 2, 4, axis=0).ravel()
        array([False,  True, False,  True,  True])
    """
    check_finite(score)
    moved = np.moveaxis(score, axis, -1)
    length = moved.shape[-1]
    padding = [(0, 0)] * (moved.ndim - 1) + [(0, -length % group)]
    groups = np.pad(moved, padding, constant_values=-np.inf).reshape(-1, group)
    order = np.argsort(-groups, axis=1, kind="stable")
    mask = np.zeros(groups.shape, bool)
    np.put_along_axis(mask, order[:, : group - zeros], True, axis=1)
    mask = mask.reshape(*moved.shape[:-1], -1)[..., :length]
    return np.moveaxis(mask, -1, axis)


def erdos_renyi_kernel(shapes: Sequence[tuple[int, ...]], sparsity: float) -> list[float]:
    """Share a sparsity, in [0, 1), out over weights of these shapes so that small ones keep more.

    The density of a weight is proportional to ``sum(shape) / prod(shape)``, scaled so that all weights together have
    the sparsity; where that would exceed 1 a weight stays dense and the others make up for it.

    Reference: U. Evci et al., "Rigging the Lottery: Making All Tickets Winners", 2020, arXiv:1911.11134.

    Example:
        >>> [round(s, 2) for s in erdos_renyi_kernel([(10, 10), (100, 100)], 0.8)]
        [0.0, 0.81]
    """
    sizes = np.array([math.prod(shape) for shape in shapes], float)
    raw = np.array([sum(shape) / math.prod(shape) for shape in shapes])
    budget = (1 - sparsity) * sizes.sum()
    dense = np.zeros(len(shapes), bool)
    while True:
        free = ~dense
        if not free.any():
            return [0.0] * len(shapes)
        scale = (budget - sizes[dense].sum()) / (raw[free] * sizes[free]).sum()
        over = free & (raw * scale > 1)
        if not over.any():
            return [0.0 if d else float(1 - max(scale, 0.0) * r) for d, r in zip(dense, raw)]
        dense |= over


def check_finite(score: np.ndarray, subject: str = "weight", fix: str = "") -> None:
    """Raise a ValueError where a score is NaN or infinite, and so has no rank."""
    # One NaN or infinity makes the sum not finite, and so does overflow, which the second look then clears.
    with np.errstate(over="ignore", invalid="ignore"):
        suspicious = not np.isfinite(score.sum())
    if suspicious and not np.isfinite(score).all():
        bad = int((~np.isfinite(score)).sum())
        raise invalid_value(subject, expected="finite values", received=f"{bad} NaN or infinite ones", fix=fix)


def _keep(flat: np.ndarray, count: int) -> np.ndarray:
    """Mark the ``count`` largest, of equal ones the first."""
    if count >= flat.size:
        return np.ones(flat.shape, bool)
    threshold = kth_largest(flat, count)
    mask = flat >= threshold
    surplus = int(np.count_nonzero(mask)) - count
    if surplus:
        ties = np.flatnonzero(flat == threshold)
        mask[ties[len(ties) - surplus :]] = False
    return mask
