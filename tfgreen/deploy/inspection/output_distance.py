"""How far an output of a file is from the model's: numbers by their error, classes by how many are equal."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

_FAR_SCALES, _FAR_DB, _LEAST_SCALES = 4.0, 10.0, 2.0
_JUMP, _MANY_JUMPS = 0.1, 0.05  # of the range; of the numbers
_LAST_BITS = 16 * float(np.finfo(np.float32).eps)  # of the largest value: all that differs in a constant
_FEW = 4  # integers that differ, which may be chance


@dataclasses.dataclass(frozen=True)
class OutputDistance:
    """How far an output of a file is from the model's on the median sample, which an outlier in the data does not move.

    Attributes:
        scales: Mean error, in scales of the output.
        sqnr_db: Ratio of signal to noise; NaN if the file returns what is not finite.
        signal_scales: The deviation of the model's output from its median over the samples, in scales.
        constant: Whether the file returns one number for outputs that differ.
        level_scales: The median magnitude of the model's output, in scales.
        jumps: The share of numbers that are off by a tenth of the output's range or more, as ranks and signs are where
            two numbers tie within a scale; 0 for a softmax or sigmoid, which has its own steep places.
    """

    scales: float
    sqnr_db: float
    signal_scales: float
    constant: bool
    level_scales: float
    jumps: float = 0.0

    @property
    def is_far(self) -> bool:
        """Whether the output is of no use: the noise is a tenth of the signal's power, because the file computes
        something else or because its range is so wide that rounding leaves little; or many of its numbers jump."""
        return self.constant or math.isnan(self.sqnr_db) or self._is_lost or self.jumps > _MANY_JUMPS

    @property
    def _is_lost(self) -> bool:
        return self.sqnr_db < _FAR_DB and (self.scales > _FAR_SCALES or self.is_wide)

    @property
    def is_wide(self) -> bool:
        """Whether rounding to its range leaves little of the output."""
        return self.signal_scales < _LEAST_SCALES

    def __str__(self) -> str:
        if self.constant:
            return "it is constant"
        if self.jumps > _MANY_JUMPS and not self._is_lost:
            return f"{self.jumps:.0%} of its numbers are off by a tenth of its range or more"
        return f"it is {self.scales:.1f} scales off on average, signal over noise {self.sqnr_db:.1f} dB"


def scale_of(values: np.ndarray) -> float:
    """The step of 255 over the range of values; over the magnitude of a constant, whose last bits may differ.

    Example:
        >>> [round(scale_of(np.array(values)), 4) for values in ([3.0, 8.1], [2.55, 2.5500001], [0.0, 0.0])]
        [0.02, 0.01, 0.0039]
    """
    span, largest = float(np.ptp(values)), float(np.abs(values).max(initial=0.0))
    return ((span if span > _LAST_BITS * largest else largest) or 1.0) / 255


@np.errstate(invalid="ignore")  # of infinite numbers
def distance(expected: np.ndarray, got: np.ndarray, scale: float | None) -> OutputDistance:
    """Compare an output of the model with that of its file, of shape (samples, ...); without a scale, 1/255 of the
    range is one, or of a constant.

    Example:
        >>> expected = np.linspace(-1.0, 1.0, 9)
        >>> str(distance(expected, np.clip(expected, -0.25, 0.25), 0.01))
        'it is 25.0 scales off on average, signal over noise 6.0 dB'
    """
    flat = scale == 1 / 256 and _is_flat(expected, scale)
    expected, got = (x.astype(np.float64).reshape(len(x), -1) for x in (expected, got))
    scale = scale or scale_of(expected)
    error, deviation = expected - got, expected - np.median(expected, axis=0)
    if len(expected) == 1:
        deviation = expected - expected.mean()
    signal, noise = (float(np.median((x**2).mean(axis=1))) for x in (deviation, error))
    sqnr = math.inf if noise == 0 else 10 * math.log10(signal / noise) if signal > 0 < 1 / noise else -math.inf
    constant = got.size > 1 and float(np.ptp(got)) == 0 and math.sqrt(signal) > _FAR_SCALES * scale
    scales = float(np.median(np.abs(error).mean(axis=1))) / scale
    signal_scales = math.inf if (scale == 1 / 256 and not flat) or signal == 0 else math.sqrt(signal) / scale
    level = float(np.median(np.abs(expected))) / scale
    much = max(_JUMP * float(np.ptp(expected)), _FAR_SCALES * scale)
    jumps = 0.0 if scale == 1 / 256 else float((np.abs(error) >= much).mean())
    return OutputDistance(scales, sqnr if np.isfinite(error).all() else math.nan, signal_scales, constant, level, jumps)


def _is_flat(expected: np.ndarray, scale: float) -> bool:
    """Whether an output is a softmax of which not even the likeliest class is many scales from 0, or most often less
    than half a scale from the next."""
    if expected.ndim < 2 or expected.shape[-1] < 2:
        return False
    rows = expected.reshape(-1, expected.shape[-1]).astype(np.float64)
    second, first = np.sort(rows, axis=1)[:, -2:].T
    is_softmax = np.allclose(rows.sum(axis=1), 1.0, atol=1e-3)
    return bool(is_softmax and (np.median(first) < _FAR_SCALES * scale or np.median(first - second) < scale / 2))


@dataclasses.dataclass(frozen=True)
class IntegerDistance:
    """How far an output of integers (classes, counts, booleans) of a file is from the model's.

    Attributes:
        equal: The share of positions at which both return the same.
        is_far: Whether that is less than :func:`tfgreen.verify` allows, or the file misses most of what is rare: the
            positions at which the model does not return its most frequent number.
    """

    equal: float
    is_far: bool

    def __str__(self) -> str:
        return f"{self.equal:.0%} of its integers are equal"


def integer_distance(expected: np.ndarray, got: np.ndarray, least: float) -> IntegerDistance:
    """Compare integers of the model with those of its file, of the same shape, of which a share has to be equal.

    Example:
        >>> print(integer_distance(np.array([3, 1, 2, 2]), np.array([3, 1, 2, 0]), 0.9))
        75% of its integers are equal
    """
    differ = int((expected != got).sum())
    _, counts = np.unique(expected, return_counts=True)
    rare = expected.size - int(counts.max(initial=0))
    equal = 1 - differ / max(expected.size, 1)
    return IntegerDistance(equal, equal < least or (differ >= _FEW and differ > rare / 2))
