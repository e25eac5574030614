"""Histogram: what a tensor held over the calibration data, and the range to keep of it."""

from __future__ import annotations

from typing import Literal

import numpy as np

Calibration = Literal["minmax", "percentile", "mse"]
_BINS = 2048
_LARGEST = 1e37  # beyond, the width of a range is infinite in float32
_SMALLEST = 1e-30  # the width of a bin has to be a number, too


class Histogram:
    """Counts of values in equal bins whose span doubles as larger values come in, and their exact extremes.

    Example:
        >>> histogram = Histogram()
        >>> histogram.add(np.arange(-100, 1001, dtype=np.float32))
        >>> histogram.range("minmax")
        (-100.0, 1000.0)
    """

    def __init__(self) -> None:
        self.lower, self.upper = np.inf, -np.inf
        self.counts = np.zeros(_BINS, np.int64)
        self.finite = True
        self.whole = True  # whether all values are whole numbers: labels, lengths, pixels
        self._limit = 0.0  # the bins span [-limit, limit]

    def add(self, values: np.ndarray) -> None:
        """Count an array of any shape; one with NaN or infinity only makes :attr:`finite` False."""
        values = np.asarray(values, np.float32).ravel()
        if not values.size:
            return
        low, high = float(values.min()), float(values.max())
        if not max(-low, high) < _LARGEST:  # or NaN
            self.finite = False
            return
        self.lower, self.upper = min(self.lower, low), max(self.upper, high)
        self.whole = self.whole and bool((values == np.round(values)).all())
        top = max(-low, high)
        if self._limit == 0.0 and top > _SMALLEST:
            self._limit = top
        while top > self._limit > 0.0:
            merged = self.counts.reshape(-1, 2).sum(1)
            self.counts = np.pad(merged, _BINS // 4)
            self._limit *= 2
        if self._limit > 0.0:
            self.counts += np.histogram(values, _BINS, (-self._limit, self._limit))[0]

    def range(self, calibration: Calibration, bits: int = 8, is_data: bool = False) -> tuple[float, float]:
        """The range to quantize to.

        Args:
            calibration: ``"minmax"``: all. ``"percentile"``: without the outermost 0.01 % at either end. ``"mse"``:
                that of the least squared error with ``2^bits`` values, by moving both ends inwards.
            bits: Width of the integers.
            is_data: Whether the tensor is an input of the model. Where all its values are whole numbers, the range is
                wider, so that they are among the values that remain: a label of 3 must not become 2.98.

        Returns:
            ``(lower, upper)``, otherwise within the extremes.
        """
        lower, upper = min(self.lower, 0.0), max(self.upper, 0.0)
        levels = 2**bits - 1
        if is_data and self.whole and 0 < upper - lower <= levels:
            return lower, lower + levels / 2.0 ** int(np.log2(levels / (upper - lower)))
        if calibration == "minmax" or not self.counts.any():
            return lower, upper
        edges = np.linspace(-self._limit, self._limit, _BINS + 1)
        if calibration == "percentile":
            share = np.cumsum(self.counts) / self.counts.sum()
            first, last = np.searchsorted(share, [0.0001, 0.9999])
            return float(np.clip(edges[first], lower, 0.0)), float(np.clip(edges[last + 1], 0.0, upper))
        centers = (edges[:-1] + edges[1:]) / 2
        best, least = (lower, upper), np.inf
        for low_share in np.linspace(1.0, 0.2, 17) if lower < 0 else [1.0]:
            for high_share in np.linspace(1.0, 0.2, 33) if upper > 0 else [1.0]:
                low, high = lower * low_share, upper * high_share
                scale = (high - low) / levels
                error = np.clip(centers, low, high) - centers
                # Rounding to evenly spaced values adds scale^2 / 12 to every value that is not clipped.
                total = float((self.counts * np.where(error == 0, scale**2 / 12, error**2)).sum())
                if total < least:
                    best, least = (low, high), total
        return best
