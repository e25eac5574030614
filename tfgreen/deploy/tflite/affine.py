"""The affine code of quantized tensors: ``real = scale * (stored - zero_point)``, both ways."""

from __future__ import annotations

import numpy as np

from tfgreen.errors import invalid_value


def quantize_array(
    values: np.ndarray, scale: float, zero_point: int, dtype: np.dtype | type | str, subject: str = "values"
) -> np.ndarray:
    """Round real values to the nearest stored integer, saturating at the ends of ``dtype``.

    Ties go to the even integer, as in XNNPACK. Computed in float64: in float32 a large zero point would cost a bit.

    Args:
        values: Real values of any shape; infinities saturate.
        scale: Real units per integer, above 0.
        zero_point: The stored integer that means 0.
        dtype: The stored integer type.
        subject: What the values belong to, for the error.

    Raises:
        ValueError: A value is NaN, which no integer can hold.

    Example:
        >>> quantize_array(np.array([-1.0, 0.0, 0.26, 99.0]), 0.5, 3, "int8").tolist()
        [1, 3, 4, 127]
    """
    real = np.asarray(values, dtype=np.float64)
    if np.isnan(real).any():
        raise invalid_value(subject, expected="numbers", received=f"{int(np.isnan(real).sum())} NaN")
    limits = np.iinfo(dtype)
    return np.clip(np.rint(real / scale) + zero_point, limits.min, limits.max).astype(dtype)


def dequantize_array(stored: np.ndarray, scale: float, zero_point: int) -> np.ndarray:
    """Return the float32 values that stored integers stand for.

    Example:
        >>> dequantize_array(np.array([1, 3, 4], "int8"), 0.5, 3).tolist()
        [-1.0, 0.0, 0.5]
    """
    return ((np.asarray(stored).astype(np.float64) - zero_point) * scale).astype(np.float32)
