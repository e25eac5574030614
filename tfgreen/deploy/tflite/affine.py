"""The affine code of quantized tensors: ``real = scale * (stored - zero_point)``, both ways."""

from __future__ import annotations

import numpy as np

from tfgreen.errors import invalid_value


def quantize_array(
    values: np.ndarray, scale: float, zero_point: int, dtype: np.dtype | type | str, subject: str = "values"
) -> np.ndarray:
    """Round real values to the nearest stored integer, saturating; ties go to the even integer, as in XNNPACK.

    Raises:
        ValueError: A value of ``subject`` is NaN, which no integer can hold.
    """
    real = np.asarray(values, dtype=np.float64)  # in float32 a large zero point would cost a bit
    if np.isnan(real).any():
        raise invalid_value(subject, expected="numbers", received=f"{int(np.isnan(real).sum())} NaN")
    limits = np.iinfo(dtype)
    return np.clip(np.rint(real / scale) + zero_point, limits.min, limits.max).astype(dtype)


def dequantize_array(stored: np.ndarray, scale: float | np.ndarray, zero_point: int | np.ndarray) -> np.ndarray:
    """Return the float32 values that stored integers stand for; scales and zero points broadcast."""
    return ((stored.astype(np.float64) - zero_point) * scale).astype(np.float32)
